# SPDX-License-Identifier: Apache-2.0
"""The worker is killed inside each step that changes a source VM; the next attempt ends the task, and nothing is left behind.
Sessions end and calls fail at every place."""
import signal
import time

import pytest

from lib_vcsim import disk, vm
from lib_vsphere_worker import (MIB, SIZE, a_worker, areas_of, confirm, done, inspect_task, take, vm_task,
                                vsphere_leader)  # noqa: F401


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


def until_done(leader, worker, task, results=("source_vm", "inspected", "finished")):
    """TASK until it succeeds, as the leader would: (what it reports, how many attempts it took)."""
    for attempt in range(1, 6):
        task.attempt = attempt
        leader.hand_out(task, worker)
        confirm(leader, task)
        end = leader.wait("events", lambda e: (e.task_id, e.attempt) == (task.task_id, attempt) and
                          e.WhichOneof("body") in (*results, "failed"), 60)
        if end.WhichOneof("body") in results:
            return getattr(end, end.WhichOneof("body")), attempt
        assert end.failed.error.error_class == 1, end  # retryable
    raise AssertionError("no attempt succeeds")


def attempts(leader, worker, vcsim, action, round, **fields):
    """How many attempts ACTION took."""
    return until_done(leader, worker, vm_task(leader, vcsim, action, round=round, **fields))[1]


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


# What happens in the method; the methods that it is tried in, beside those that a round is seen to call; attempts it may cost.
FAULTS = [("HostCommunication", "call", 1), ("SystemError", "call", 1), ("TaskInProgress", "call", 1), ("NotAuthenticated", "call", 0),
          ("SystemError", "task", 1)]


@pytest.mark.parametrize("fault, where, costs", FAULTS, ids=lambda x: str(x))
def test_faults_in_every_method(leader, vcsim, fault, where, costs):
    """One fault in each method that rounds call: a repetition at most, and the round's result is the same."""
    worker = a_worker(leader, vcsim)

    def round_(number, since):
        """A round without its copy: (change id, most attempts of its tasks)."""
        taken, a = until_done(leader, worker, vm_task(leader, vcsim, "SNAPSHOT", round=number))
        inspect = inspect_task(leader, vcsim, taken.snapshot_moref, number, since)
        seen, b = until_done(leader, worker, inspect)
        assert seen.areas_known and areas_of(seen) == ([(MIB, 65536)] if number else []), (number, seen)
        _, c = until_done(leader, worker, vm_task(leader, vcsim, "REMOVE_SNAPSHOT", round=number))
        assert vcsim.snapshots("web") == []
        return taken.disks[0].change_id, max(a, b, c)

    taken = take(leader, worker, vcsim)
    since = taken.disks[0].change_id
    done(leader, worker, vm_task(leader, vcsim, "REMOVE_SNAPSHOT"))
    before = len(vcsim.calls())
    vcsim.write("web", 2000, MIB, 512)
    since, most = round_(1, since)
    assert most == 1
    methods = sorted({c["method"] for c in vcsim.calls(since=before)} - {"Login", "Logout"})
    assert len(methods) >= 6, methods
    if where == "task":
        methods = [m for m in methods if m.endswith("_Task")]
    for number, method in enumerate(methods, 2):
        rule = vcsim.fault(method, fault, where=where)
        vcsim.write("web", 2000, MIB, 512)
        since, most = round_(number, since)
        assert vcsim.hits(rule) == 1, method
        assert most <= 1 + costs, (method, most)
