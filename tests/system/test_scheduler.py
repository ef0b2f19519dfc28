# SPDX-License-Identifier: Apache-2.0
"""The scheduler on a real broker, with workers and a volume agent played by the test."""

import os
import signal
import subprocess
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
            assert child.returncode in (0, -signal.SIGKILL, bench.may_exit.get(name)), bench.log(name)[-3000:]


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
    assert agent.kinds() == ["preflight_target", "create_volume", "attach_volume", "open_export", "close_export", "detach_volume"]
    assert not agent.problems
    assert [(e.kind, bool(e.object_id)) for e in job.ledger] == [(state_pb2.LEDGER_KIND_VOLUME, True)]
    assert job.setup_progress_percent == 100 and job.agent == AGENT and not job.operations
    assert job.completed_at_ms >= job.started_at_ms >= job.created_at_ms > 0
    assert {"submitted", "preflight", "prepare", "copying", "parking", "completed"} <= set(job.phase_started_at_ms)
    disk = bench.disks("job-1")[0]
    assert agent.volumes == {disk.volume_id: 2 << 30}
    assert_round_is_final(bench, "job-1", agent)
    assert_no_token(bench, agent)
    wait_for(lambda: ("job.state", "Job is completed") in bench.audit("job-1"), 30, "the audit record of the end")
    control = bench.view.control["job-1"]
    assert not control.job.tasks


def test_failover(bench, sources):
    """Five disks end at the VM in order, without device 3, and the VM runs."""
    agent = Agent(bench)
    Worker(bench, sources, agent)
    paths = {sources.add(f"/images/disk{i}.raw", (i + 1) * 64 * MIB): None for i in range(5)}
    bench.submit("job-1", paths, failover=True)
    job = bench.wait_phase("job-1", "COMPLETED")
    assert job.failover.status == "completed" and job.failover.vm_state == "Running"
    vm = agent.vms[job.failover.vm_id]
    assert vm["state"] == "Running"
    volumes = [d.volume_id for d in bench.disks("job-1")]
    assert vm["devices"] == {0: volumes[0], 1: volumes[1], 2: volumes[2], 4: volumes[3], 5: volumes[4]}
    assert not agent.problems
    kinds = agent.kinds()
    assert kinds.index("deploy_vm") < kinds.index("close_export"), "the VM is deployed before the downtime"
    assert kinds[-1] == "start_vm"
    assert_round_is_final(bench, "job-1", agent)
    # A clean-up takes everything away again.
    bench.command(job_pb2.JobCommand(job_id="job-1", cleanup=job_pb2.CleanupJob()))
    wait_for(lambda: not bench.job("job-1").ledger and bench.phase("job-1") == "COMPLETED", 20, "clean-up")
    assert agent.is_clean() and not agent.problems


def test_failover_of_a_parked_job(bench, sources):
    agent = Agent(bench)
    Worker(bench, sources, agent)
    bench.submit("job-1", {sources.add("/a.raw", 64 * MIB): None, sources.add("/b.raw", 64 * MIB): 3 << 30})
    bench.wait_phase("job-1", "COMPLETED")
    target = job_pb2.TargetSpec(service_offering="large", network_ids=["n1"])
    bench.command(job_pb2.JobCommand(job_id="job-1", failover=job_pb2.FailoverJob(kind=1, target=target)))
    wait_for(lambda: bench.job("job-1").failover.status == "completed", 20, "failover")
    job = bench.wait_phase("job-1", "COMPLETED")
    vm = agent.vms[job.failover.vm_id]
    assert vm["state"] == "Running" and vm["target"].service_offering == "large" and list(vm["target"].network_ids) == ["n1"]
    assert [agent.volumes[d.volume_id] for d in bench.disks("job-1")] == [1 << 30, 3 << 30]
    assert not agent.problems


def test_the_leader_is_killed(bench, sources):
    """A standby goes on from the state: no operation is made twice, claimed tasks stay where they are."""
    agent = Agent(bench)
    workers = [Worker(bench, sources, agent, f"worker-{i}", copy=(i,), source=(i,), cell_seconds=0.3) for i in range(2)]
    wait_for(bench.leader, 20, "a leader")
    bench.scheduler("scheduler-2")
    bench.submit("job-1", {sources.add("/a.raw", 1024 * MIB): None}, range_bytes=256 * MIB)
    wait_for(lambda: len(agent.writes) >= 8, 30, "a quarter of the copy")
    began = time.monotonic()
    bench.children["scheduler-1"].kill()
    wait_for(lambda: bench.leader() == "scheduler-2", 20, "a new leader")
    assert time.monotonic() - began < 10
    bench.wait_phase("job-1", "COMPLETED", seconds=60)
    assert_round_is_final(bench, "job-1", agent)
    ids = [operation.operation_id for _, operation in agent.operations]
    assert len(ids) == len(set(ids)) == 6
    assert len(agent.writes) == 32, "every cell is written once"
    assert all(t.attempt == 1 for t in bench.tasks("job-1"))
    assert all(len(w.seen_tasks) > 0 for w in workers)
    assert_no_token(bench, agent)


def test_a_leader_that_slept(bench, sources):
    """It wakes up after another one was elected: nothing that it writes counts, and it does not go on as if it did."""
    agent = Agent(bench)
    Worker(bench, sources, agent, cell_seconds=0.3)
    wait_for(bench.leader, 20, "a leader")
    bench.scheduler("scheduler-2")
    bench.submit("job-1", {sources.add("/a.raw", 1024 * MIB): None})
    wait_for(lambda: len(agent.writes) >= 4, 30, "some cells")
    sleeper = bench.children["scheduler-1"]
    sleeper.send_signal(signal.SIGSTOP)
    wait_for(lambda: bench.view.fleet["scheduler-2"].scheduler.leader, 20, "a new leader")
    sleeper.send_signal(signal.SIGCONT)
    bench.may_exit["scheduler-1"] = 1
    bench.wait_phase("job-1", "COMPLETED", seconds=60)
    assert_round_is_final(bench, "job-1", agent)
    assert len(agent.writes) == 32
    assert not agent.problems
    wait_for(lambda: sleeper.poll() == 1 or '"leader.stopped"' in bench.log("scheduler-1"), 20, "the end of its leadership")


def test_the_agent_restarts(bench, sources):
    """Read-back requests that went to its former life are made again."""
    agent = Agent(bench)
    Worker(bench, sources, agent, cell_seconds=0.05)
    agent.deaf_to_verify = True
    bench.submit("job-1", {sources.add("/a.raw", 512 * MIB): None})
    wait_for(lambda: agent.unanswered >= 1, 30, "a read-back request")
    agent.restart()
    bench.wait_phase("job-1", "COMPLETED", seconds=60)
    assert_round_is_final(bench, "job-1", agent)


def test_a_flush_fails(bench, sources):
    """Everything that was not read back is written again, in a new generation."""
    agent = Agent(bench)
    worker = Worker(bench, sources, agent, cell_seconds=0.05)
    agent.deaf_to_verify = True
    flush = event_pb2.TaskFailed().error
    flush.error_class, flush.code, flush.message = 1, "DRV-TARGET-FLUSH", "DRV-TARGET-FLUSH: I/O error"
    bench.submit("job-1", {sources.add("/a.raw", 512 * MIB): None}, range_bytes=256 * MIB)
    wait_for(lambda: len(agent.writes) >= 8, 30, "half of the cells")
    worker.fail_now = flush
    agent.deaf_to_verify = False
    bench.wait_phase("job-1", "COMPLETED", seconds=60)
    disk = bench.disks("job-1")[0]
    assert disk.generation >= 2 and agent.kinds().count("open_export") == disk.generation
    assert_round_is_final(bench, "job-1", agent)
    assert not agent.problems


def test_a_worker_drains(bench, sources):
    """What it hands back goes to another one at once and is not counted."""
    agent = Agent(bench)
    leaving = Worker(bench, sources, agent, "worker-1", copy=(0,), source=(0,), cell_seconds=0.1)
    bench.submit("job-1", {sources.add("/a.raw", 512 * MIB): None}, range_bytes=256 * MIB)
    wait_for(lambda: len(agent.writes) >= 4, 30, "some cells")
    leaving.draining = True
    Worker(bench, sources, agent, "worker-2", copy=(1,), source=(1,))
    bench.wait_phase("job-1", "COMPLETED")
    assert all(t.failures == 0 for t in bench.tasks("job-1"))
    assert len(agent.writes) == 16
    assert_round_is_final(bench, "job-1", agent)


def test_nobody_is_there(bench, sources):
    """The job waits and says for what."""
    bench.submit("job-1", {sources.add("/a.raw", 64 * MIB): None})
    wait_for(lambda: bench.job("job-1") and "no worker of site site-1" in bench.job("job-1").stall_reason, 30, "a reason")
    agent = Agent(bench, device_slots=0)
    Worker(bench, sources, agent)
    wait_for(lambda: "1 free device slots" in bench.job("job-1").stall_reason, 30, "another reason")
    agent.device_slots = 8
    job = bench.wait_phase("job-1", "COMPLETED")
    assert job.stall_reason == ""


def test_cancel_in_mid_copy(bench, sources):
    agent = Agent(bench)
    Worker(bench, sources, agent, cell_seconds=0.1)
    bench.submit("job-1", {sources.add("/a.raw", 1024 * MIB): None}, failover=True)
    wait_for(lambda: len(agent.writes) >= 3, 30, "some cells")
    bench.command(job_pb2.JobCommand(job_id="job-1", cancel=job_pb2.CancelJob(reason="changed my mind")))
    job = bench.wait_phase("job-1", "CANCELLED")
    assert not job.ledger and not job.operations
    assert agent.is_clean() and not agent.problems
    assert all(t.status == state_pb2.TASK_STATUS_CANCELLED for t in bench.tasks("job-1"))
    control = bench.view.control["job-1"].job
    assert control.desired == 3 and not control.tasks
    wait_for(lambda: all(v is None for v in bench.view.checkpoints.values()), 10, "tombstones for all checkpoints")


def failed(bench, job_id, code):
    job = bench.wait_phase(job_id, "FAILED")
    assert job.error.code == code and job.error.message.startswith(code), job.error
    assert job.error.error_class == 2
    assert not job.ledger
    return job


def test_submissions(bench, sources):
    """What cannot be a job fails with its code, or lies in drover.dlq; nothing stops."""
    agent = Agent(bench)
    worker = Worker(bench, sources, agent)
    good = sources.add("/good.raw", 64 * MIB)
    bench.send("drover.jobs", "k", b"\xff\xff not a message")
    bench.send("drover.jobs", "k", job_pb2.JobCommand(job_id="../etc", submit=job_pb2.JobSpec()))
    bench.send("drover.jobs", "k", job_pb2.JobCommand(job_id="job-x"))
    bench.send("drover.jobs", "k", job_pb2.JobCommand(job_id="job-x", cancel=job_pb2.CancelJob()))
    bench.send("drover.jobs", "k", None)
    bench.submit("no-disks", {})
    bench.submit("bad-name", {good: None}, name="-web")
    bench.submit("bad-site", {good: None}, source_site="elsewhere")
    bench.submit("bad-agent", {good: None}, target=job_pb2.TargetSpec(agent="nobody"))
    bench.submit("bad-digest", {good: None}, digest=77)
    bench.submit("relative", {"images/x.raw": None})
    twice = job_pb2.JobCommand(job_id="twice")
    twice.submit.name = "web"
    for _ in range(2):
        twice.submit.disks.add().source.file.path = good
    bench.command(twice)
    bench.submit("too-small", {sources.add("/large.raw", 128 * MIB): 64 * MIB})
    missing = event_pb2.TaskFailed().error
    missing.error_class, missing.code, missing.message = 2, "DRV-SOURCE-MISSING", "DRV-SOURCE-MISSING: /gone.raw does not exist"
    bench.submit("missing", {good: None, sources.add("/gone.raw", 0, error=missing): None})
    bench.submit("good", {good: None})
    bench.submit("good", {sources.add("/other.raw", 1024 * MIB): None})
    failed(bench, "no-disks", "DRV-SPEC-DISK")
    failed(bench, "bad-name", "DRV-SPEC-NAME")
    failed(bench, "bad-site", "DRV-SPEC-SITE")
    failed(bench, "bad-agent", "DRV-SPEC-AGENT")
    failed(bench, "bad-digest", "DRV-SPEC-DIGEST")
    failed(bench, "relative", "DRV-SPEC-SOURCE")
    failed(bench, "twice", "DRV-SPEC-DUPLICATE")
    failed(bench, "too-small", "DRV-TARGET-TOO-SMALL")
    failed(bench, "missing", "DRV-SOURCE-MISSING")
    bench.wait_phase("good", "COMPLETED")
    assert len(bench.disks("good")) == 1 and bench.disks("good")[0].capacity_bytes == 64 * MIB
    assert {op.job_id for _, op in agent.operations} == {"good"}, "a job that fails in preflight makes nothing"
    wait_for(lambda: len(bench.view.letters) == 5, 10, "five letters")
    assert {letter.topic.split(".", 1)[1] for letter in bench.view.letters} == {"jobs"}
    assert not worker.failure


def test_read_back_differs(bench, sources):
    """Cells that differ are written again by a repair, which does not count; a target that keeps lying ends the job."""
    agent = Agent(bench)
    Worker(bench, sources, agent, cell_seconds=0.02)
    agent.corrupt = {3, 4, 9}
    bench.submit("job-1", {sources.add("/a.raw", 512 * MIB): None})
    bench.wait_phase("job-1", "COMPLETED")
    assert bench.disks("job-1")[0].repaired_cells == 3
    assert sorted(cell for _, cell, repair in agent.writes if repair) == [3, 4, 9]
    assert sorted(t.range.length // CELL for t in bench.tasks("job-1", state_pb2.TASK_KIND_REPAIR)) in ([1, 2], [1, 1, 1])
    assert_round_is_final(bench, "job-1", agent)
    assert any(event == "disk.repair" for event, _ in bench.audit("job-1"))


def test_a_worker_dies(bench, sources):
    """Its tasks go to another one after the lease, with what is checkpointed; that counts as a failure."""
    agent = Agent(bench)
    dying = Worker(bench, sources, agent, "worker-1", copy=(0,), source=(0,), cell_seconds=0.1)
    bench.submit("job-1", {sources.add("/a.raw", 512 * MIB): None}, range_bytes=256 * MIB)
    wait_for(lambda: len(agent.writes) >= 6, 30, "some cells")
    dying.crash()
    other = Worker(bench, sources, agent, "worker-2", copy=(0, 1), source=(0,))
    bench.wait_phase("job-1", "COMPLETED")
    assert_round_is_final(bench, "job-1", agent)
    again = [t for t in bench.tasks("job-1") if t.attempt > 1]
    assert again and all(t.failures == 1 for t in again)
    assert any(t.copy.done_counts.data_bytes > 0 for t in other.seen_tasks if t.WhichOneof("body") == "copy")
    assert len(agent.writes) <= 16 + 2


def test_a_task_is_not_claimed(make_bench, sources):
    """Another attempt, which does not count as a failure."""
    bench = make_bench(**{"claim-timeout": "1s"})
    bench.scheduler()
    agent = Agent(bench)
    deaf = Worker(bench, sources, agent, "worker-1", claims=False)
    bench.submit("job-1", {sources.add("/a.raw", 64 * MIB): None})
    wait_for(lambda: [t.attempt for t in deaf.seen_tasks] == [1, 2], 20, "a second attempt")
    deaf.claims = True
    bench.wait_phase("job-1", "COMPLETED")
    task = bench.tasks("job-1", state_pb2.TASK_KIND_INSPECT)[0]
    assert task.attempt >= 3 and task.failures == 0


def test_failures_of_tasks(bench, sources):
    """Retryable ones are repeated, a bounded number of times; a permanent one ends the job with its own error."""
    agent = Agent(bench)
    worker = Worker(bench, sources, agent)
    flaky = event_pb2.TaskFailed().error
    flaky.error_class, flaky.message = 1, "connection reset"
    full = event_pb2.TaskFailed().error
    full.error_class, full.code, full.message = 2, "DRV-TARGET-NO-SPACE", "DRV-TARGET-NO-SPACE: no space on the volume"
    worker.fail_next = [flaky, flaky]
    bench.submit("job-1", {sources.add("/a.raw", 64 * MIB): None})
    bench.wait_phase("job-1", "COMPLETED")
    assert bench.tasks("job-1")[0].failures == 2
    worker.fail_next = [flaky] * 5
    bench.submit("job-2", {sources.add("/b.raw", 64 * MIB): None})
    job = bench.wait_phase("job-2", "FAILED")
    assert "connection reset" in job.error.message and not job.ledger
    worker.fail_next = [flaky, full]
    bench.submit("job-3", {sources.add("/c.raw", 64 * MIB): None})
    failed(bench, "job-3", "DRV-TARGET-NO-SPACE")
    assert not agent.problems


def test_operations_fail(bench, sources):
    """A retryable failure is repeated under the same custom id; a permanent one undoes what was made."""
    agent = Agent(bench)
    Worker(bench, sources, agent)
    busy, broken = event_pb2.TaskFailed().error, event_pb2.TaskFailed().error
    busy.error_class, busy.message = 1, "CloudStack is busy"
    broken.error_class, broken.code, broken.message = 2, "DRV-CLOUD-OFFERING", "DRV-CLOUD-OFFERING: no such offering"
    agent.fail = {"create_volume": [busy], "detach_volume": [busy]}
    bench.submit("job-1", {sources.add("/a.raw", 64 * MIB): None})
    bench.wait_phase("job-1", "COMPLETED")
    creates = [op.create_volume.custom_id for kind, op in agent.operations if kind == "create_volume"]
    assert len(creates) == 2 and len(set(creates)) == 1
    bench.command(job_pb2.JobCommand(job_id="job-1", cleanup=job_pb2.CleanupJob()))
    wait_for(agent.is_clean, 20, "clean-up")
    agent.fail = {"deploy_vm": [broken], "delete_volume": [busy, broken]}
    bench.submit("job-2", {sources.add("/b.raw", 64 * MIB): None}, failover=True)
    failed(bench, "job-2", "DRV-CLOUD-OFFERING")
    assert agent.is_clean() and not agent.problems


def test_a_failed_hand_over_keeps_the_copy(bench, sources):
    agent = Agent(bench)
    Worker(bench, sources, agent)
    broken = event_pb2.TaskFailed().error
    broken.error_class, broken.code, broken.message = 2, "DRV-CLOUD-START", "DRV-CLOUD-START: the host refuses"
    agent.fail = {"start_vm": [broken]}
    bench.submit("job-1", {sources.add("/a.raw", 64 * MIB): None, sources.add("/b.raw", 64 * MIB): None}, failover=True)
    job = bench.wait_phase("job-1", "FAILED")
    assert job.error.code == "DRV-CLOUD-START"
    assert len(agent.volumes) == 2 and not agent.vms and not agent.attached
    assert [e.kind for e in job.ledger] == [state_pb2.LEDGER_KIND_VOLUME] * 2
    bench.command(job_pb2.JobCommand(job_id="job-1", failover=job_pb2.FailoverJob(kind=1)))
    job = bench.wait_phase("job-1", "COMPLETED")
    assert job.failover.vm_state == "Running" and agent.kinds().count("open_export") == 2
    assert not agent.problems


def test_pause(bench, sources):
    agent = Agent(bench)
    Worker(bench, sources, agent, cell_seconds=0.2)
    bench.submit("job-1", {sources.add("/a.raw", 2048 * MIB): None})
    wait_for(lambda: len(agent.writes) >= 4, 30, "some cells")
    bench.command(job_pb2.JobCommand(job_id="job-1", pause=job_pb2.PauseJob()))
    live = (state_pb2.TASK_STATUS_ASSIGNED, state_pb2.TASK_STATUS_CLAIMED)
    wait_for(lambda: bench.job("job-1").paused and not any(t.status in live for t in bench.tasks("job-1")), 30, "no running task")
    written = len(agent.writes)
    assert written < 64
    bench.submit("job-2", {sources.add("/b.raw", 64 * MIB): None})
    bench.wait_phase("job-2", "COMPLETED")
    assert len([w for w in agent.writes if w[0] == bench.disks("job-1")[0].volume_id]) == written
    bench.command(job_pb2.JobCommand(job_id="job-1", resume=job_pb2.ResumeJob()))
    bench.wait_phase("job-1", "COMPLETED")
    assert all(t.failures == 0 for t in bench.tasks("job-1"))
    assert_round_is_final(bench, "job-1", agent)


def test_bandwidth(make_bench, sources):
    """The unexpired grants never add up to more than the limit; each running task has one."""
    bench = make_bench(**{"grant-ttl": "1s"})
    bench.scheduler()
    agent, limit = Agent(bench), 100 * MIB
    Worker(bench, sources, agent, slots=4, cell_seconds=0.1)
    bench.submit("job-1", {sources.add("/a.raw", 2048 * MIB): None}, range_bytes=256 * MIB, bandwidth_limit_bytes_per_second=limit)
    bench.wait_phase("job-1", "COMPLETED", seconds=60)
    held, most = [], 0  # (task, rate, until): nobody knows which of its unexpired grants a running task has read
    for record in bench.view.grants:
        running = {t.task_id: t for t in record.job.tasks if "/copy/" in t.task_id}
        for task in running.values():
            assert task.rate_bytes_per_second >= task.rate_floor_bytes_per_second > 0
            assert task.rate_ttl_ms == 1000
            held.append((task.task_id, task.rate_bytes_per_second, record.at_ms + 1400))
        held = [h for h in held if h[2] > record.at_ms and h[0] in running]
        total = sum(max(rate for t, rate, _ in held if t == task) for task in {h[0] for h in held})
        most = max(most, total)
        assert total <= limit
    assert most > limit // 2


def test_the_broker_is_killed(work, sources):
    """A transaction that cannot be committed is replayed or taken over; no operation is made twice."""
    script, directory = ROOT / "deploy/kafka/kafka.sh", work / "own-kafka"
    subprocess.run([script, "start", directory], check=True, stdin=subprocess.DEVNULL, timeout=120)
    bench = None
    try:
        bench = Bench(work / "own-kafka-bench", (directory / "kafka.address").read_text().strip(),
                      os.environ.get("DROVER_BIN") or ROOT / "build/release/bin", {})
        bench.scheduler()
        agent = Agent(bench)
        Worker(bench, sources, agent, cell_seconds=0.2)
        bench.submit("job-1", {sources.add("/a.raw", 1024 * MIB): None}, range_bytes=256 * MIB)
        wait_for(lambda: len(agent.writes) >= 6, 30, "some cells")
        os.kill(int((directory / "kafka.pid").read_text()), signal.SIGKILL)
        time.sleep(1)
        subprocess.run([script, "start", directory], check=True, stdin=subprocess.DEVNULL, timeout=120)
        deadline = time.monotonic() + 90
        while bench.phase("job-1") != "COMPLETED":
            assert time.monotonic() < deadline, bench.log()[-3000:]
            if bench.children["scheduler-1"].poll() is not None:
                bench.scheduler()  # what a supervisor does
            time.sleep(0.5)
        ids = [operation.operation_id for _, operation in agent.operations]
        assert len(ids) == len(set(ids)) == 6
        assert_round_is_final(bench, "job-1", agent)
    finally:
        if bench:
            bench.close()
        subprocess.run([script, "stop", directory], stdin=subprocess.DEVNULL, timeout=60)
