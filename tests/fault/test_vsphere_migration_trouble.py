# SPDX-License-Identifier: Apache-2.0
"""What people and vCenters do to a VM while it is being migrated: change tracking begins anew, disks come, go and grow, snapshots
of others, sessions that end, calls that fail."""

import random
import threading

import pytest

from fleet import wait_for
from lib_vcsim import disk, vm
from lib_vsphere_migration import difference, disk_id, make_lab  # noqa: F401
from observe import CELL, MIB, cloud, job_hash, job_log, view, volume_path, wait_job

SIZE = 2 * CELL + 8 * MIB
NAMES = ["reset", "others", "grown", "outgrown", "added", "removed", "refused"]


@pytest.fixture
def labs(make_lab):  # noqa: F811
    """VMs by name, for one fleet."""
    more = {"others": {"snapshots": ["before upgrade"], "tracking": True}, "refused": {"snapshots": ["before upgrade"]},
            "removed": {"disks": [disk(SIZE), disk(8 * MIB)]}}
    lab = make_lab(vms=[vm(name, **{"disks": [disk(SIZE)], **more.get(name, {})}) for name in NAMES])
    return {name: lab.of(name) for name in NAMES}


def failed(lab, job, code):
    wait_for(lambda: job_hash(lab.fleet, job).get("status") == "failed", 90, f"The failure of {job}")
    final = wait_job(lab.fleet, job, "failed")
    assert final["error_code"] == code, f"{final}\n{job_log(lab.fleet, job)}"
    lab.check_nothing_left()


def test_changes_behind_our_back(labs, tmp_path):
    """Each VM is copied, something happens to it, the next round copes, or says why not."""
    fleet = labs["reset"].fleet
    for name, lab in labs.items():
        lab.guest_writes({2000: [(0, 12 * MIB), (CELL + MIB, 8 * MIB)]}, seed=1)
        lab.submit(name, tmp_path, target_sizes={2000: "128M"} if name == "grown" else {})
    failed(labs["refused"], "refused", "DRV-SOURCE-CBT-SNAPSHOTS")  # nothing was made for it
    assert len(labs["refused"].vcsim.snapshots("refused")) == 1
    for name, lab in labs.items():
        if name != "refused":
            wait_job(fleet, name)
            lab.check_round(name, 0)
    volumes = [v for v in cloud(fleet)["volumes"].values() if v.get("type") == "DATADISK" and v["state"] == "Ready"]
    assert len(volumes) == len(NAMES), volumes  # one VM has two disks, one none

    for name, lab in labs.items():
        lab.guest_writes({2000: [(20 * MIB + 512, 512)]}, seed=2)
    vcsim = labs["reset"].vcsim
    vcsim.reset_cbt("reset")
    for name in ("grown", "outgrown"):  # the volume has room for that, or grows, too
        vcsim.grow(name, 3 * CELL)
        vcsim.write(name, 2000, 3 * CELL - MIB, MIB)
    vcsim.add_disk("added", capacity="8M")
    vcsim.remove_disk("removed", 2001)
    for name in NAMES[:-1]:
        fleet.drover("sync", name)
    for name, most in (("reset", CELL), ("grown", 2 * CELL), ("outgrown", 2 * CELL)):
        kind, moved = labs[name].wait_round(name, 1)
        assert kind == "deep-verify" and 0 < moved <= most, (name, kind, moved, job_log(fleet, name))
    assert "DRV-SOURCE-CHANGE-ID" in job_log(fleet, "reset")
    assert labs["others"].wait_round("others", 1)[0] == "incremental"
    failed(labs["added"], "added", "DRV-SOURCE-DISK-ADDED")
    failed(labs["removed"], "removed", "DRV-SOURCE-MISSING")
    for name in ("reset", "grown", "outgrown", "others"):
        wait_job(fleet, name)
        labs[name].check_round(name, 1)
    assert [s["name"] for s in vcsim.snapshots("others")] == ["before upgrade"]

    # Afterwards all goes on by change tracking; a failed round is followed by a comparison.
    vcsim.remove_disk("added", 2001)
    for name, kind in (("reset", "incremental"), ("grown", "incremental"), ("outgrown", "incremental"), ("added", "deep-verify")):
        labs[name].guest_writes({2000: [(30 * MIB, 1024)]}, seed=3)
        fleet.drover("sync", name)
        number = 2
        found, _ = labs[name].wait_round(name, number)
        assert found == kind, job_log(fleet, name)
        wait_job(fleet, name)
        labs[name].check_round(name, number)


def test_sessions_end_and_calls_fail_all_along(make_lab, tmp_path):  # noqa: F811
    """Every few calls one fails, hangs, or is answered with rubbish, and all sessions end. The migration goes through."""
    lab = make_lab(disks=[SIZE, 8 * MIB], fleet={"settings": {
        "scheduler": {"max-failures": 100, "backoff-first": "100ms", "backoff-max": "500ms"}}}, shutdown_ms=1000)
    vcsim, fleet, job, rng = lab.vcsim, lab.fleet, "trouble", random.Random("trouble")
    over, hits = threading.Event(), []
    kinds = [{"act": "drop"}, {"act": "truncate"}, {"act": "garbage"}, {"act": "status-503"}, {"delay_ms": 1500},
             {"act": "drop", "where": "after"}, {"act": "truncate", "where": "after"}]

    def trouble():
        while not over.is_set():
            rule = vcsim.rule("*", skip=rng.randrange(6, 25), **rng.choice(kinds))
            while not vcsim.hits(rule) and not over.wait(0.1):
                pass
            vcsim.expire()
            hits.append(rule)

    lab.guest_writes({2000: [(0, 12 * MIB), (CELL + MIB, 8 * MIB)], 2001: [(0, MIB)]}, seed=1)
    path = lab.job_file(job, tmp_path / "trouble.yaml")
    thread = threading.Thread(target=trouble)
    thread.start()
    try:
        fleet.drover("submit", str(path))
        wait_job(fleet, job, seconds=240)
        lab.check_round(job, 0)
        changes = {2000: [(n * 65536 * 4, 512) for n in range(200)], 2001: [(4 * MIB, 512)]}
        lab.guest_writes(changes, seed=2)
        lab.sync(job, 1, seconds=240)
        lab.check_round(job, 1, changes)
        fleet.drover("failover", "live", job)
        wait_for(lambda: view(fleet).hget(f"drover:failover:{job}", "status") == "completed", 240, "The cutover")
        wait_job(fleet, job)
    finally:
        over.set()
        thread.join()
        vcsim.clear()
    assert len(hits) > 10, "calls failed, and sessions ended"
    for index, key in enumerate(lab.keys()):
        assert difference(vcsim.image("web", key), volume_path(fleet, job, disk_id(index))) is None
    lab.check_nothing_left()
    lab.target_vm(job)
    rounds = lab.rounds(job)
    assert [kind for kind, _ in rounds.values()] == ["full", "incremental", "incremental"], rounds


def test_a_permanent_fault_ends_the_round_and_not_the_volumes(make_lab, tmp_path):  # noqa: F811
    lab = make_lab(disks=[SIZE])
    lab.guest_writes({2000: [(0, 12 * MIB)]}, seed=1)
    lab.submit("denied", tmp_path)
    wait_job(lab.fleet, "denied")
    lab.vcsim.deny("VirtualMachine.State.CreateSnapshot")
    lab.guest_writes({2000: [(MIB, 512)]}, seed=2)
    lab.fleet.drover("sync", "denied")
    failed(lab, "denied", "DRV-VCENTER-RIGHTS")
    lab.vcsim.deny()
    kind, moved = lab.sync("denied", 2)
    assert kind == "deep-verify" and moved <= CELL
    lab.check_round("denied", 2)
