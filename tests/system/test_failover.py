# SPDX-License-Identifier: Apache-2.0
"""Handing the migrated volumes over to a target VM: at the end of a migration, later by command, and undone again."""

import json

import pytest

from fleet import wait_for
from observe import (MIB, cloud, job_hash, job_log, make_raw, nothing_left, same_content, view, wait_job)


@pytest.fixture(scope="module")
def disks(work):
    return [make_raw(work / f"failover-{i}.raw", 96 + 32 * i, 24, seed=20 + i) for i in range(3)]


def submit(fleet, disks, job, *options):
    words = ["--source", f"file:{disks[0]},size={disks[0].stat().st_size}"]
    for disk in disks[1:]:
        words += ["--disk", f"file:{disk},size={disk.stat().st_size}"]
    fleet.drover("migrate", *words, "--name", f"vm-{job}", "--job-id", job, *options)


def check_running(fleet, disks, job):
    """The target VM runs on our volumes: ROOT first, data disks in their order, with the right bytes."""
    failover = view(fleet).hgetall(f"drover:failover:{job}")
    assert failover["status"] == "completed", failover
    state = cloud(fleet)
    vm = state["vms"][failover["destination_vm_id"]]
    assert vm["state"] == "Running" and vm["name"] == f"vm-{job}"
    boot = json.loads((fleet.dir / "cloudstack/vms" / failover["destination_vm_id"] / "boot.json").read_text())
    ours = [view(fleet).hget(f"drover:disk:{job}:disk{i}", "volume_id") for i in range(len(disks))]
    booted = [v["id"] for v in boot["volumes"]]
    assert booted == ours, (booted, ours)
    assert state["volumes"][ours[0]]["type"].upper() == "ROOT"
    for disk, volume in zip(disks, ours):
        assert same_content(disk, fleet.dir / "cloudstack/volumes" / f"{volume}.raw") is None
    # The root disk that the template brought is gone, nobody had a volume open while it was handed over.
    left = [v for v in state["volumes"].values() if v.get("state") not in ("Expunged", "Destroy")
            and v["id"] not in ours and v.get("vm_id") != fleet.appliance["id"]]
    assert not left, left
    assert not [e for e in state.get("events", []) if str(e.get("kind", e)).startswith("open-at")], state["events"]


def test_migration_with_failover(fleet, disks):
    submit(fleet, disks, "failover", "--failover")
    final = wait_job(fleet, "failover")
    assert final["current_operation"] == "Completed"
    check_running(fleet, disks, "failover")


def test_failover_later(fleet, disks):
    submit(fleet, disks[:2], "later")
    wait_job(fleet, "later")
    assert not view(fleet).hgetall("drover:failover:later").get("destination_vm_id")
    fleet.drover("failover", "live", "later")
    wait_for(lambda: view(fleet).hget("drover:failover:later", "status") == "completed", 60, "The failover")
    wait_job(fleet, "later")
    check_running(fleet, disks[:2], "later")


def test_a_failover_that_does_not_fit_is_called_off(fleet, disks):
    """Before anything is touched; the copy stays, and the failover may be asked for again."""
    submit(fleet, disks[:1], "misfit")
    wait_job(fleet, "misfit")
    fleet.drover("failover", "live", "misfit", "--service-offering", "no-such-offering", "--boot-mode", "SECURE")
    wait_for(lambda: "job.failover-stopped" in job_log(fleet, "misfit"), 60, "The refusal")
    assert "DRV-TARGET-" in job_log(fleet, "misfit")
    final = wait_job(fleet, "misfit")
    assert final["status"] == "completed" and view(fleet).hget("drover:failover:misfit", "status") == "failed"
    assert not [v for v in cloud(fleet)["vms"].values() if v["name"] == "vm-misfit"]
    fleet.drover("failover", "live", "misfit", "--service-offering", "Small Instance", "--boot-mode", "LEGACY", "--wait")
    wait_job(fleet, "misfit")
    check_running(fleet, disks[:1], "misfit")


def test_failover_survives_the_agent(fleet, disks):
    """kill -9 of the agent in every step of a hand-over; nothing is done twice, nothing forgotten."""
    submit(fleet, disks, "tough", "--failover")

    def seen():
        path = fleet.dir / "cloudstack/requests.log"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [r["command"] for r in lines if "command" in r]

    for command in ("attachVolume", "detachVolume", "startVirtualMachine"):
        wait_for(lambda: command in seen(), 90, f"{command} in the request log", poll=0.005)
        fleet["volume-agent"].kill()
    wait_job(fleet, "tough", seconds=180)
    check_running(fleet, disks, "tough")
    assert seen().count("createVolume") == len(disks)
    assert seen().count("deployVirtualMachine") == 1


def test_cleanup_takes_all_of_it_away(fleet, disks):
    submit(fleet, disks, "cleaned", "--failover")
    wait_job(fleet, "cleaned")
    vm = view(fleet).hget("drover:failover:cleaned", "destination_vm_id")
    fleet.drover("cleanup", "cleaned")
    wait_for(lambda: job_hash(fleet, "cleaned").get("ledger_entries") == "0", 60, "An empty ledger")
    nothing_left(fleet)
    assert cloud(fleet)["vms"].get(vm, {}).get("state") in (None, "Expunging")  # how CloudStack keeps an expunged VM
