# SPDX-License-Identifier: Apache-2.0
"""Migrations of VMs that are cancelled at bad moments, whose guests do not shut down, or that are replicated until cutover."""

import random
import threading

import pytest

from fleet import wait_for
from lib_vcsim import disk, vm
from lib_vsphere_migration import difference, disk_id, make_lab  # noqa: F401
from observe import CELL, MIB, cloud, exports, job_hash, job_log, view, volume_path, wait_job

SIZE = CELL + 8 * MIB


@pytest.fixture
def bench(make_lab):  # noqa: F811
    """bench(name={...of the vm}, ...) -> labs by name, of one fleet; each guest has written some."""
    def make(**vms):
        first = make_lab(vms=[vm(name, **{"disks": [disk(SIZE)], "shutdown_ms": 500, **more}) for name, more in vms.items()])
        labs = {name: first.of(name) for name in vms}
        for lab in labs.values():
            lab.guest_writes({2000: [(MIB, 20 * MIB), (CELL, MIB)]}, seed=1)
        return labs
    return make


def failover_status(lab, job):
    return view(lab.fleet).hget(f"drover:failover:{job}", "status")


def as_it_was(lab):
    """Nothing of ours is at the source VM, which runs."""
    lab.check_nothing_left()
    found = lab.vcsim.vm(lab.name)
    assert found["power"] == "poweredOn" and "drover" not in found["annotation"], found


def test_cancelled_at_bad_moments(bench, tmp_path):
    labs = bench(freezing={}, copying={"disks": [disk(4 * CELL)]}, releasing={}, off={})
    labs["copying"].guest_writes({2000: [(n * CELL, 16 * MIB) for n in range(4)]}, seed=2)
    fleet, vcsim = labs["off"].fleet, labs["off"].vcsim
    labs["off"].submit("off", tmp_path)
    wait_job(fleet, "off")

    rules = {"freezing": vcsim.rule("CreateSnapshot_Task", where="task", run_ms=3000, object="freezing", skip=1),
             "releasing": vcsim.rule("RemoveSnapshot_Task", where="task", run_ms=3000, object="releasing", skip=1),
             "off": vcsim.rule("CreateSnapshot_Task", where="task", run_ms=3000, object="off")}
    labs["freezing"].submit("freezing", tmp_path)
    labs["copying"].submit("copying", tmp_path, bandwidth_limit="5M")
    labs["releasing"].submit("releasing", tmp_path)
    fleet.drover("failover", "live", "off")
    happened = {name: (lambda rule=rule: vcsim.hits(rule)) for name, rule in rules.items()}
    happened["copying"] = lambda: int(job_hash(fleet, "copying").get("bytes_transferred", 0)) > 0
    while happened:
        name = wait_for(lambda: next((n for n, f in happened.items() if f()), None), 90, f"One of {sorted(happened)}")
        assert vcsim.vm(name)["power"] == ("poweredOff" if name == "off" else "poweredOn")
        fleet.drover("cancel", name)
        del happened[name]
    for name, lab in labs.items():
        wait_job(fleet, name, "cancelled")
        as_it_was(lab)
    assert exports(fleet) == []
    state = cloud(fleet)
    left = [v for v in state["volumes"].values() if v.get("state") not in ("Expunged", "Destroy") and v.get("type") == "DATADISK"]
    assert not left, left
    assert not [v for v in state["vms"].values() if v["name"] in labs and v["state"] not in ("Expunging", "Destroyed", "Expunged")]
    assert len(vcsim.calls("PowerOnVM_Task")) == 1


def test_guests_that_do_not_shut_down(bench, tmp_path):
    """Asked in vain: the failover is called off, the source runs on; switched off by policy; or waited for."""
    policies = {"ask": {}, "forced": {"power": "force"}, "manual": {"power": "manual"}, "mute": {"power": "force"}}
    labs = bench(**{name: {"shutdown_ms": -1} for name in policies} | {"mute": {"tools": "guestToolsNotRunning"}})
    fleet, vcsim = labs["ask"].fleet, labs["ask"].vcsim
    for name, policy in policies.items():
        labs[name].submit(name, tmp_path, policy={"shutdown_timeout": "2s", **policy})
    for name in policies:
        wait_job(fleet, name)
        labs[name].guest_writes({2000: [(3 * MIB, 4096)]}, seed=2)
        fleet.drover("failover", "live", name)
    wait_for(lambda: "vm.wait-off" in job_log(fleet, "manual"), 90, "The notice that somebody must switch it off")
    vcsim.set_vm("manual", power="off")
    for name in ("forced", "manual", "mute"):
        wait_for(lambda: failover_status(labs[name], name) == "completed", 120, f"The cutover of {name}")
        wait_job(fleet, name)
        labs[name].target_vm(name)
        labs[name].check_nothing_left()
        assert difference(vcsim.image(name), volume_path(fleet, name, disk_id(0))) is None
        assert vcsim.vm(name)["power"] == "poweredOff" and name in vcsim.vm(name)["annotation"]
    assert sorted(c["name"] for c in vcsim.calls("PowerOffVM_Task")) == ["forced", "mute"]
    assert sorted(c["name"] for c in vcsim.calls("ShutdownGuest")) == ["ask", "forced"]

    wait_for(lambda: failover_status(labs["ask"], "ask") == "failed", 60, "The end of the failover")
    assert "DRV-SOURCE-POWER-WAIT" in job_log(fleet, "ask")
    wait_job(fleet, "ask")
    as_it_was(labs["ask"])
    vcsim.set_vm("ask", shutdown_ms=500)  # somebody has helped the guest
    fleet.drover("failover", "live", "ask")
    wait_for(lambda: failover_status(labs["ask"], "ask") == "completed", 90, "The second attempt")
    wait_job(fleet, "ask")
    assert difference(vcsim.image("ask"), volume_path(fleet, "ask", disk_id(0))) is None


def test_replicated_until_cutover(bench, tmp_path):
    lab = bench(replica={})["replica"]
    lab.submit("replica", tmp_path, round_interval="4s", deep_verify_before_cutover="true")
    lab.wait_round("replica", 0)
    for number in (1, 2):
        writes = {2000: [(number * 5 * MIB, 1024)]}
        lab.guest_writes(writes, seed=number)
        known = max(lab.rounds("replica"))
        lab.wait_round("replica", known + 2)  # the next one may have frozen the VM before that
    assert "recovery point" in lab.fleet.drover("show", "replica").stdout
    lab.fleet.drover("pause", "replica")
    lab.guest_writes({2000: [(30 * MIB, 1024)]}, seed=9)
    lab.fleet.drover("resume", "replica")
    lab.fleet.drover("failover", "live", "replica")
    wait_for(lambda: failover_status(lab, "replica") == "completed", 120, "The cutover")
    wait_job(lab.fleet, "replica")
    assert difference(lab.vcsim.image("replica"), volume_path(lab.fleet, "replica", disk_id(0))) is None
    lab.check_nothing_left()
    rounds = lab.rounds("replica")
    assert list(rounds) == list(range(len(rounds))), rounds
    # All is compared while the source still runs; the downtime is that of a small round.
    kinds = [kind for kind, _ in rounds.values()]
    assert kinds == ["full", *["incremental"] * (len(kinds) - 3), "deep-verify", "incremental"], rounds
    assert sum(moved for number, (kind, moved) in rounds.items() if kind == "incremental") < 4 * MIB, rounds


def test_snapshots_that_become_too_old(make_lab, tmp_path):  # noqa: F811
    """The round is cut short again and again while the guest writes all over the disk; nothing is copied twice but what changed."""
    cells = 5
    lab = make_lab(disks=[cells * CELL, 4 * MIB], grain=512)
    vcsim, rng, over = lab.vcsim, random.Random(17), threading.Event()
    lab.guest_writes({2000: [(n * CELL + MIB, 20 * MIB) for n in range(cells)], 2001: [(0, MIB)]}, seed=1)
    written = []

    def guest():
        while not over.wait(0.3):
            pieces = [(rng.randrange(cells * CELL // 512 - 64) * 512, 512 * rng.randrange(1, 64)) for _ in range(6)]
            vcsim.writes("web", 2000, pieces, kind=rng.choice(["random", "zero", "same"]), seed=rng.randrange(1 << 30))
            vcsim.writes("web", 2001, [(rng.randrange(8000) * 512, 512)], seed=rng.randrange(1 << 30))
            written.extend(pieces)

    lab.submit("old", tmp_path, policy={"snapshot_max_age": "2s"}, bandwidth_limit="20M")
    thread = threading.Thread(target=guest)
    thread.start()
    try:
        wait_for(lambda: job_hash(lab.fleet, "old").get("status") == "completed", 180, "The end of the copy")
    finally:
        over.set()
        thread.join()
    rounds = lab.rounds("old")
    last = max(int(r.split(":")[0]) for r in job_hash(lab.fleet, "old")["rounds"].split(","))
    assert last >= 2 and "job.rebase" in job_log(lab.fleet, "old"), job_log(lab.fleet, "old")
    lab.check_round("old", last)
    again = {2000: [(5 * MIB, 512)]}
    lab.guest_writes(again, seed=5)
    lab.sync("old", last + 1)
    lab.check_round("old", last + 1)
    kind, moved = lab.sync("old", last + 2, "--deep-verify")
    assert (kind, moved) == ("deep-verify", 0), job_log(lab.fleet, "old")
    lab.check_round("old", last + 2)
    assert len(written) > 20 and rounds


def test_a_datastore_that_fills(make_lab, tmp_path):  # noqa: F811
    """The snapshot goes at once, what was read back stays, and none is taken until there is room; a full datastore stops all its VMs."""
    cells = 4
    lab = make_lab(disks=[cells * CELL], fleet={"settings": {"scheduler": {"source-look-interval": "500ms"}}})
    vcsim, fleet = lab.vcsim, lab.fleet
    lab.guest_writes({2000: [(n * CELL + MIB, 20 * MIB) for n in range(cells)]}, seed=1)
    lab.submit("full", tmp_path, bandwidth_limit="12M")
    wait_for(lambda: int(job_hash(fleet, "full").get("bytes_transferred", 0)) > 0, 120, "The first cell")
    vcsim.set_free("datastore1", "100M")  # a snapshot may need as much as the disk holds
    wait_for(lambda: "job.rebase" in job_log(fleet, "full"), 60, "The end of the round")
    wait_for(lambda: vcsim.vm("web")["snapshots"] == [], 60, "The end of its snapshot")
    wait_for(lambda: "datastore1" in job_hash(fleet, "full").get("stall_reason", ""), 60, "The reason of the stall")
    assert "no room to grow" in job_log(fleet, "full"), job_log(fleet, "full")
    lab.guest_writes({2000: [(7 * MIB, 3 * MIB)]}, seed=2)
    taken, looks = len(vcsim.history()["snapshots"]), len(vcsim.calls("RetrievePropertiesEx"))
    wait_for(lambda: len(vcsim.calls("RetrievePropertiesEx")) > looks + 2, 30, "Some more looks")
    assert len(vcsim.history()["snapshots"]) == taken and job_hash(fleet, "full")["status"] != "completed"
    vcsim.set_free("datastore1", "100G")
    wait_job(fleet, "full", seconds=120)
    lab.check_round("full", 1)
    assert "have room again" in job_log(fleet, "full") and vcsim.vm("web")["snapshots"] == []
    moved = sum(moved for _, moved in lab.rounds("full").values())
    assert moved <= (cells * 20 + 3) * MIB + 2 * CELL, moved  # nothing twice but what was under way and not read back
