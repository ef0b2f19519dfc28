# SPDX-License-Identifier: Apache-2.0
"""kill -9 in the middle of an incremental round: it goes on where it was, and stays a round over changed areas."""

import random

import pytest

import messages
from fleet import wait_for
from lib_tracked import TrackedDisk
from observe import (MIB, Checkpoints, Written, exports_of, job_hash, job_log, make_raw, same_content, view, volume_path,
                     wait_job)
from test_kill import kill_agent, kill_scheduler, kill_worker

SIZE_MIB, DATA_MIB, CHANGED_MIB, LIMIT_MIB = 1024, 400, 160, 32
VICTIMS = {"worker": kill_worker, "scheduler": kill_scheduler, "agent": kill_agent}


@pytest.fixture
def disk(work, tmp_path):
    disk = TrackedDisk(tmp_path, make_raw(work / "rounds-kill.raw", SIZE_MIB, DATA_MIB, seed=17), 65536)
    yield disk
    disk.stop()
    disk.path.unlink()


@pytest.mark.parametrize("victim", VICTIMS)
def test_kill_in_an_incremental_round(make_fleet, disk, victim):
    fleet = make_fleet(settings={"worker": {"copy-slots": 1, "heartbeat-interval": "500ms"},
                                 "scheduler": {"leader-session-timeout": "3s", "lease": "5s", "claim-timeout": "3s"},
                                 "agent": {"call-expiry": "5s", "heartbeat-interval": "1s"},
                                 "kafka": {"session-timeout": "6s"}})
    job, rng = f"round-{victim}", random.Random(victim)
    with Checkpoints(fleet, messages) as checkpoints:
        fleet.drover("migrate", "--source", disk.uri + ",frozen=yes,bitmap=drover-{round}", "--name", job, "--job-id", job,
                     "--bandwidth-limit", f"{LIMIT_MIB}M")
        wait_job(fleet, job)
        disk.write([(place * MIB, rng.randbytes(MIB)) for place in rng.sample(range(SIZE_MIB), CHANGED_MIB)])
        disk.freeze()
        areas = disk.areas()
        fleet.drover("sync", job)
        wait_for(lambda: job_hash(fleet, job)["round"] == "1" and exports_of(fleet), 60, "An export for round 1")
        written = Written(fleet)
        wait_for(lambda: checkpoints.flushed(job, round=1) >= 0.3 * areas, 60, "A third of the round")
        VICTIMS[victim](fleet, written, rng)
        assert ",1:" not in job_hash(fleet, job).get("rounds", ""), "killed after the round"
        wait_for(lambda: "1:incremental:" in job_hash(fleet, job).get("rounds", ""), 120, "The end of round 1")
        wait_job(fleet, job)
    assert same_content(disk.path, volume_path(fleet, job)) is None
    moved = int(job_hash(fleet, job)["rounds"].split(",")[1].split(":")[2])
    assert 0.999 * areas <= moved <= 1.001 * areas, (moved, areas)
    # Two slots with at most 64 MiB each that were not checkpointed; the disk holds more than twice that besides.
    assert written.total() - moved <= 2 * 64 * MIB + MIB // 2
    assert "deep-verify" not in job_log(fleet, job)
    assert view(fleet).hget(f"drover:disk:{job}:disk0", "disk_change_id") == "drover-1"
