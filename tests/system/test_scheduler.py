# SPDX-License-Identifier: Apache-2.0
"""The scheduler on a real broker, with workers and a volume agent played by the test."""

import os
import signal
import time
from pathlib import Path

import pytest

from lib_scheduler import (AGENT, CELL, MIB, Agent, Bench, Sources, Worker, event_pb2, job_pb2, state_pb2, task_pb2, wait_for)

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def make_bench(request, work, kafka):
    benches = []

    def make(**settings):
        bench = Bench(work / f"scheduler-{len(os.listdir(work))}-{request.node.name}", kafka,
                      os.environ.get("DROVER_BIN") or ROOT / "build/release/bin", settings)
        benches.append(bench)
        return bench

    yield make
    for bench in benches:
        bench.close()
        for actor in [*bench.actors, bench.view]:
            assert actor.failure is None
        for name, child in bench.children.items():
            assert child.returncode in (0, -signal.SIGKILL), bench.log(name)[-3000:]


@pytest.fixture
def bench(make_bench):
    bench = make_bench()
    bench.scheduler()
    return bench


@pytest.fixture
def sources():
    return Sources()


def assert_round_is_final(bench, job_id, agent):
    for disk in bench.disks(job_id):
        assert len(disk.receipt) == 64 and len(disk.round_digest) == 64
        assert disk.sync_status == "completed"
        assert disk.verified_bytes == disk.capacity_bytes
        assert not disk.export_open
        counts = disk.final_counts
        assert counts.data_bytes == disk.allocated_bytes
        assert counts.data_bytes + counts.skipped_bytes + counts.zero_found_bytes == disk.capacity_bytes
    tasks = bench.tasks(job_id)
    assert tasks and all(t.status == state_pb2.TASK_STATUS_DONE for t in tasks)
    assert all(len(t.cell_roots) == 16 * ((t.range.length + CELL - 1) // CELL) for t in tasks)
    wait_for(lambda: all(v is None for v in bench.view.checkpoints.values()), 10, "tombstones for all checkpoints")


def assert_no_token(bench, agent):
    for token in agent.tokens.values():
        assert not any(token.encode() in record for record in bench.view.raw_state)
        assert all(token not in bench.log(name) for name in bench.children)


def test_parked(bench, sources):
    """One disk without failover: verified, detached, parked; everything else is gone."""
    agent = Agent(bench)
    Worker(bench, sources, agent)
    path = sources.add("/images/web.raw", 5 * 256 * MIB + 4096, 700 * MIB)
    bench.submit("job-1", {path: None})
    job = bench.wait_phase("job-1", "COMPLETED")
    assert agent.kinds() == ["create_volume", "attach_volume", "open_export", "close_export", "detach_volume"]
    assert not agent.problems
    assert [(e.kind, bool(e.object_id)) for e in job.ledger] == [(state_pb2.LEDGER_KIND_VOLUME, True)]
    assert job.setup_progress_percent == 100 and job.agent == AGENT and not job.operations
    assert job.completed_at_ms >= job.started_at_ms >= job.created_at_ms > 0
    assert {"submitted", "preflight", "prepare", "copying", "parking", "completed"} <= set(job.phase_started_at_ms)
    disk = bench.disks("job-1")[0]
    assert agent.volumes == {disk.volume_id: 2 << 30}
    assert_round_is_final(bench, "job-1", agent)
    assert_no_token(bench, agent)
    assert ("job.state", "Job is completed") in bench.audit("job-1")
    control = bench.view.control["job-1"]
    assert not control.job.tasks
