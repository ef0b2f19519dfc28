# SPDX-License-Identifier: Apache-2.0
"""kill -9 of every kind of process, at five seeded points of a throttled copy each. The job goes on; the target is equal;
little is sent again; the progress in Redis stays true all along."""

import os
import random
import signal
import time

import pytest

import messages
from observe import (MIB, Checkpoints, Sampler, Written, job_hash, make_raw, same_content, view, volume_path, wait_job)
from fleet import wait_for

SIZE_MIB, DATA_MIB = 1536, 640
LIMIT_MIB = 110  # per second: the copy takes about six seconds
SLOTS = 2        # two workers with one copy slot each


@pytest.fixture(scope="module")
def pb():
    return messages


@pytest.fixture(scope="module")
def raw(work):
    return make_raw(work / "kill.raw", SIZE_MIB, DATA_MIB, seed=7)


def leader(fleet):
    """Name of the scheduler that leads."""
    import json

    def find():
        for name, text in view(fleet).hgetall("drover:fleet").items():
            beat = json.loads(text)
            if name.startswith("scheduler") and (beat.get("leader") or beat.get("scheduler", {}).get("leader")):
                return name
        return None

    return wait_for(find, 30, "A leader in drover:fleet")


def kill_worker(fleet, written, rng):
    fleet[f"worker-{rng.randint(1, 2)}"].kill()


def kill_scheduler(fleet, written, rng):
    fleet[leader(fleet)].kill()


def kill_aggregator(fleet, written, rng):
    fleet["progress-aggregator-1"].kill()


def kill_agent(fleet, written, rng):
    nbdkit = written.before_kill()
    fleet["volume-agent"].kill()
    try:
        os.kill(nbdkit, signal.SIGKILL)  # it is to die with its agent; stopped as it is, it cannot
    except ProcessLookupError:
        pass


def kill_nbdkit(fleet, written, rng):
    os.kill(written.before_kill(), signal.SIGKILL)


# Who is killed, and how many copy slots that can make send again.
VICTIMS = {"worker": (kill_worker, 1), "scheduler": (kill_scheduler, SLOTS), "aggregator": (kill_aggregator, 0),
           "agent": (kill_agent, SLOTS), "nbdkit": (kill_nbdkit, SLOTS)}


@pytest.mark.parametrize("victim", VICTIMS)
def test_kill_in_the_middle(make_fleet, pb, raw, victim):
    kill, slots = VICTIMS[victim]
    fleet = make_fleet(settings={"worker": {"copy-slots": 1, "heartbeat-interval": "500ms"},
                                 "scheduler": {"leader-session-timeout": "3s", "lease": "5s", "claim-timeout": "3s"},
                                 "agent": {"call-expiry": "5s", "heartbeat-interval": "1s"},
                                 "kafka": {"session-timeout": "6s"}})
    rng = random.Random(f"drover {victim}")
    with Checkpoints(fleet, pb) as checkpoints:
        for point in range(5):
            job = f"kill-{victim}-{point}"
            fraction = rng.uniform(0.15, 0.8)
            wait_for(lambda: fleet["volume-agent"].running(), 20, "The agent")
            written = Written(fleet)
            with Sampler(fleet, job) as sampler:
                fleet.drover("migrate", "--source", f"file:{raw},size={SIZE_MIB * MIB}", "--name", job, "--job-id", job,
                             "--bandwidth-limit", f"{LIMIT_MIB}M", "--range-size", "128M")
                wait_for(lambda: checkpoints.flushed(job) >= fraction * DATA_MIB * MIB, 60, f"{fraction:.0%} of the copy")
                killed_at = time.time() * 1000
                kill(fleet, written, rng)
                wait_job(fleet, job, seconds=90)
            at_kill = checkpoints.flushed(job, killed_at) / (DATA_MIB * MIB)
            assert 0.1 <= at_kill <= 0.9, f"killed at {at_kill:.0%} of the copy"
            assert same_content(raw, volume_path(fleet, job)) is None
            moved = int(job_hash(fleet, job)["bytes_transferred"])
            again = written.total() - moved
            # What nbdkit writes besides (its log, its socket's answers) is far below a megabyte.
            assert 0 <= again <= slots * 64 * MIB + MIB // 2, f"{again / MIB:.1f} MiB were sent again"
            sampler.check(checkpoints)
            fleet.drover("cleanup", job)
            wait_for(lambda: not volume_path(fleet, job).exists(), 60, "The clean-up")
