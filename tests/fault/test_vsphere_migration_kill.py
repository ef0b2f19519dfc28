# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the worker, and of the leading scheduler, after each step of a VM's migration. No snapshot is left, no full copy
begins again, no byte is wrong, and each round has taken one snapshot."""

import json
import random

import pytest

import messages
from fleet import wait_for
from lib_vsphere_migration import difference, disk_id, make_lab  # noqa: F401
from observe import MIB, Checkpoints, Written, view, volume_path, wait_job
from test_kill import kill_scheduler

SIZE_MIB, DATA_MIB, CHANGED_MIB, LIMIT_MIB = 768, 384, 96, 48
SETTINGS = {"worker": {"copy-slots": 1, "heartbeat-interval": "500ms"},
            "scheduler": {"leader-session-timeout": "3s", "lease": "15s", "claim-timeout": "3s"},
            "kafka": {"session-timeout": "6s"}}


def kill_worker(fleet, _written, _rng):
    """The one that claimed a task last; the job has one at a time."""
    claims = [(line["time"], name) for name in ("worker-1", "worker-2")
              for line in map(json.loads, fleet[name].log.read_text().splitlines()) if line["event"] == "task.claimed"]
    fleet[max(claims)[1]].kill()


VICTIMS = {"worker": kill_worker, "scheduler": kill_scheduler}


@pytest.mark.parametrize("victim", VICTIMS)
def test_killed_after_each_step(make_lab, tmp_path, victim):  # noqa: F811
    lab = make_lab(disks=[f"{SIZE_MIB}M"], fleet={"settings": SETTINGS}, shutdown_ms=1000)
    vcsim, fleet, job, rng = lab.vcsim, lab.fleet, f"step-{victim}", random.Random(victim)
    killed = []

    def kill(step):
        VICTIMS[victim](fleet, None, rng)
        killed.append(step)

    def kill_when(step, happened):
        wait_for(happened, 120, step, poll=0.02)
        kill(step)

    def kill_in(step, rule):
        """Once a call, or task, that the rule holds up is there."""
        kill_when(step, lambda: vcsim.hits(rule))
        vcsim.clear(rule)

    def data(pieces):
        return [(place * MIB, MIB) for place in rng.sample(range(SIZE_MIB), pieces)]

    lab.guest_writes({2000: data(DATA_MIB)}, seed=1)
    written = Written(fleet)
    with Checkpoints(fleet, messages) as checkpoints:
        removal = vcsim.rule("RemoveSnapshot_Task", where="task", run_ms=2000, skip=1)  # the first one initialises tracking
        lab.submit(job, tmp_path, bandwidth_limit=f"{LIMIT_MIB}M")
        kill_when("snapshot made", lambda: [s for s in vcsim.snapshots("web") if s["name"] == f"drover-{job}-r0"])
        kill_when("mid-copy", lambda: flushed_in(checkpoints, job, 0) >= 0.3 * DATA_MIB * MIB)
        kill_in("after the copy", removal)
        wait_job(fleet, job, seconds=120)
        lab.check_round(job, 0)

        changes = data(CHANGED_MIB)
        lab.guest_writes({2000: changes}, seed=2)
        query = vcsim.rule("QueryChangedDiskAreas", delay_ms=1500, args={"changeId": lab.snapshot_of(job, 0)["change_ids"][2000]})
        removal = vcsim.rule("RemoveSnapshot_Task", where="task", run_ms=2000)
        fleet.drover("sync", job)
        kill_in("area query", query)
        kill_when("mid-copy of changes", lambda: flushed_in(checkpoints, job, 1) >= 0.2 * CHANGED_MIB * MIB)
        kill_in("after the copy of changes", removal)
        lab.wait_round(job, 1)
        wait_job(fleet, job)
        lab.check_round(job, 1, {2000: changes})

        last = [(3 * MIB, MIB)]
        lab.guest_writes({2000: last}, seed=3)
        guard = vcsim.rule("ReconfigVM_Task", where="task", run_ms=2000)
        frozen = vcsim.rule("CreateSnapshot_Task", where="task", run_ms=2000)
        fleet.drover("failover", "live", job)
        kill_when("shutdown", lambda: vcsim.calls("ShutdownGuest"))
        kill_in("guard", guard)
        kill_in("final snapshot", frozen)
        wait_for(lambda: view(fleet).hget(f"drover:failover:{job}", "status") == "completed", 180, "The cutover")
        wait_job(fleet, job)
        lab.check_round(job, 2, {2000: last})
    assert len(killed) == 9, killed
    lab.target_vm(job)
    assert difference(vcsim.image("web"), volume_path(fleet, job, disk_id(0))) is None
    rounds = lab.rounds(job)
    assert [kind for kind, _ in rounds.values()] == ["full", "incremental", "incremental"], rounds
    # Killed in mid-copy twice, two slots with at most 64 MiB each that were not checkpointed.
    again = written.total() - sum(moved for _, moved in rounds.values())
    assert 0 <= again <= 2 * 2 * 64 * MIB + MIB < DATA_MIB * MIB, f"{again / MIB:.1f} MiB were sent again"
    assert vcsim.vm("web")["power"] == "poweredOff" and vcsim.calls("PowerOffVM_Task") == []
    names = [s["name"] for s in vcsim.history()["snapshots"]]
    assert sorted(n for n in names if not n.endswith("-init")) == [f"drover-{job}-r{n}" for n in range(3)], names


def flushed_in(checkpoints, job, number):
    return sum({cell.cell: cell.data_bytes for _, c in checkpoints.of(job) if c.round == number for cell in c.cells}.values())
