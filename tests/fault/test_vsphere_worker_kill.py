# SPDX-License-Identifier: Apache-2.0
"""The worker is killed inside each step that changes a source VM; the next attempt ends the task, and nothing is left behind.
Sessions end and calls fail at every place."""
import signal
import time

import pytest

from lib_vcsim import disk, vm
from lib_vsphere_worker import SIZE, a_worker, confirm, done, take, vm_task, vsphere_leader  # noqa: F401


@pytest.fixture
def vcsim(make_vcsim):
    return make_vcsim([vm("web", disks=[disk(SIZE)])])


def before(leader, worker, vcsim, action):
    """What must have happened before ACTION."""
    if action == "REMOVE_SNAPSHOT":
        take(leader, worker, vcsim)
        vcsim.set_vm("web", leave_deltas=True)
    if action == "POWER_ON":
        done(leader, worker, vm_task(leader, vcsim, "POWER_OFF", shutdown_timeout_ms=60000))


def judge(leader, vcsim, action, result):
    snapshots = vcsim.snapshots("web")
    names = [s["name"] for s in snapshots]
    if action == "SNAPSHOT":
        assert names == [f"drover-{leader.job}-r0"], names
        assert result.snapshot_moref == snapshots[0]["moref"] and result.disks[0].change_id
    else:
        assert names == []
        assert result.power_state == ("poweredOff" if action == "POWER_OFF" else "poweredOn")


# The action, the call that is held up when the worker dies, how many of its kind come before.
KILLED_IN = [("SNAPSHOT", "ReconfigVM_Task", 0), ("SNAPSHOT", "CreateSnapshot_Task", 0), ("SNAPSHOT", "RemoveSnapshot_Task", 0),
             ("SNAPSHOT", "CreateSnapshot_Task", 1), ("REMOVE_SNAPSHOT", "RemoveSnapshot_Task", 0),
             ("REMOVE_SNAPSHOT", "ConsolidateVMDisks_Task", 0), ("POWER_OFF", "ReconfigVM_Task", 0),
             ("POWER_ON", "ReconfigVM_Task", 0), ("POWER_ON", "PowerOnVM_Task", 0)]


@pytest.mark.parametrize("action, method, skip", KILLED_IN)
def test_killed_in(leader, vcsim, action, method, skip):
    worker = a_worker(leader, vcsim)
    before(leader, worker, vcsim, action)
    rule = vcsim.rule(method, where="task", run_ms=3000, skip=skip)
    task = leader.hand_out(vm_task(leader, vcsim, action, shutdown_timeout_ms=60000), worker)
    confirm(leader, task)
    deadline = time.monotonic() + 60
    while vcsim.hits(rule) == 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert vcsim.hits(rule) == 1
    worker.kill()
    again = a_worker(leader, vcsim, "worker-2")
    result = done(leader, again, vm_task(leader, vcsim, action, attempt=2, of=task, shutdown_timeout_ms=60000), timeout=120)
    judge(leader, vcsim, action, result)
    done(leader, again, vm_task(leader, vcsim, "REMOVE_SNAPSHOT"))
    assert vcsim.snapshots("web") == []


def test_stood_still(leader, vcsim):
    """A worker stands still in the middle, its task goes to another one: it does nothing more when it wakes up."""
    worker = a_worker(leader, vcsim)
    rule = vcsim.rule("ReconfigVM_Task", where="task", run_ms=500)
    task = leader.hand_out(vm_task(leader, vcsim, "SNAPSHOT"), worker)
    confirm(leader, task)
    deadline = time.monotonic() + 60
    while vcsim.hits(rule) == 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert vcsim.hits(rule) == 1
    worker.process.send_signal(signal.SIGSTOP)
    time.sleep(5)
    leader.control(task, owner_instance="somebody-else")
    worker.process.send_signal(signal.SIGCONT)
    deadline = time.monotonic() + 60
    while not any(line.get("event") == "task.dropped" for line in worker.log_lines()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert any(line.get("event") == "task.dropped" for line in worker.log_lines())
    assert vcsim.calls("CreateSnapshot_Task") == []


def attempts(leader, worker, vcsim, action, round, **fields):
    """ACTION until it succeeds, as the leader would; how many attempts it took."""
    task = vm_task(leader, vcsim, action, round=round, **fields)
    for attempt in range(1, 6):
        this = vm_task(leader, vcsim, action, attempt, round, of=task, **fields)
        leader.hand_out(this, worker)
        confirm(leader, this)
        end = leader.wait("events", lambda e: (e.task_id, e.attempt) == (this.task_id, attempt) and
                          e.WhichOneof("body") in ("source_vm", "failed"), 60)
        if end.WhichOneof("body") == "source_vm":
            return attempt
        assert end.failed.error.error_class == 1, end  # retryable
    raise AssertionError("no attempt succeeds")


@pytest.mark.parametrize("what", [{"act": "expire"}, {"act": "drop"}, {"act": "truncate"}, {"act": "status-503"}, {"delay_ms": 700}],
                         ids=lambda what: "-".join(map(str, what.values())))
def test_trouble_in_every_call(leader, vcsim, what):
    """The Nth call goes wrong, for each N of a round: nothing is left, and expired sessions cost no attempt."""
    worker = a_worker(leader, vcsim)
    round, skip, hit = 0, 0, True
    while hit:
        rule = vcsim.rule("*", skip=skip, **what)
        tries = attempts(leader, worker, vcsim, "SNAPSHOT", round)
        assert [s["name"] for s in vcsim.snapshots("web")] == [f"drover-{leader.job}-r{round}"]
        tries += attempts(leader, worker, vcsim, "REMOVE_SNAPSHOT", round)
        assert vcsim.snapshots("web") == []
        hit = vcsim.hits(rule) > 0
        vcsim.clear()
        if "expire" in what.values() or "delay_ms" in what:
            assert tries == 2
        round, skip = round + 1, skip + 1
    assert skip > 8, "a round makes more calls than that"
