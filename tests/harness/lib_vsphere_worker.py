# SPDX-License-Identifier: Apache-2.0
"""Tasks about VMs of a vCenter stand-in, handed to workers by a test that plays the leader."""
import itertools
import shutil
import time
import uuid

import pytest

import messages as pb
from lib_leader import CELL, Leader, Worker, now_ms
from lib_vcsim import vddk_plugin

MIB = 1 << 20
SIZE = 2 * CELL + 8 * MIB  # the last cell is short
_numbers = itertools.count(1)


@pytest.fixture(name="leader")
def vsphere_leader(kafka, work):
    directory = work / f"vsphere-{next(_numbers)}"
    leader = Leader(kafka, directory)
    yield leader
    leader.close()
    for worker in leader.workers:
        assert "AddressSanitizer" not in worker.log.read_text(errors="replace"), worker.log.read_text(errors="replace")
        if hasattr(worker, "secret"):
            assert worker.secret not in worker.log.read_text(errors="replace"), "the password stands in a log"
    shutil.rmtree(directory, ignore_errors=True)


def a_worker(leader, vcsim, name="worker-1", **options):
    worker = Worker(leader, name, **{"vcenters": vcsim.vcenters, "vddk_plugin": vddk_plugin(), "nfc_port": 0, **options})
    worker.secret = vcsim.password
    leader.ready(worker)
    return worker


def vm_task(leader, vcsim, action, attempt=1, round=0, of=None, name="web", **fields):
    """A task about the VM; OF: the task whose next attempt it is."""
    seen = vcsim.vm(name)
    task = pb.task.Task(task_id=of.task_id if of else f"{leader.job}/{name}/r{round}/{action}/{uuid.uuid4().hex[:6]}",
                        job_id=leader.job, attempt=attempt, round=round, created_at_ms=now_ms())
    order = task.source_vm
    order.vcenter, order.vm_moref, order.vm_uuid = vcsim.name, seen["moref"], seen.get("uuid", "")
    order.disk_keys.extend(d["key"] for d in seen["disks"])
    order.action = getattr(pb.task, f"SOURCE_VM_ACTION_{action}")
    order.snapshot_name, order.snapshot_description = f"drover-{leader.job}-r{round}", "made by a test"
    for key, value in fields.items():
        setattr(order, key, value)
    return task


def confirm(leader, task):
    claimed = leader.event(task, "claimed")
    leader.control(task, owner_instance=claimed.instance_id)


def done(leader, worker, task, end="source_vm", timeout=60):
    """TASK handed out, confirmed, and its end."""
    leader.hand_out(task, worker)
    confirm(leader, task)
    return getattr(leader.event(task, end, timeout), end)


def take(leader, worker, vcsim, round=0, **fields):
    return done(leader, worker, vm_task(leader, vcsim, "SNAPSHOT", round=round, **fields))


def inspect_task(leader, vcsim, snapshot, round=0, since=None, key=2000, name="web"):
    seen = vcsim.vm(name)
    task = pb.task.Task(task_id=f"{leader.job}/d{key}/r{round}/inspect/{uuid.uuid4().hex[:6]}", job_id=leader.job,
                        disk_id=f"d{key}", round=round, attempt=1, created_at_ms=now_ms())
    source = task.inspect.source.vsphere
    source.vcenter, source.vm_moref, source.vm_uuid = vcsim.name, seen["moref"], seen.get("uuid", "")
    source.disk_key, source.snapshot_moref = key, snapshot
    if since is not None:
        task.inspect.changed_areas, task.inspect.since_change_id = True, since
    return task


def areas_of(inspected):
    at, found = 0, []
    deltas = list(inspected.area_deltas)
    for gap, length in zip(deltas[::2], deltas[1::2]):
        found.append((at + gap, length))
        at += gap + length
    return found


def notices(leader, event):
    return [e.notice.message for e in leader.all("events") if e.WhichOneof("body") == "notice" and e.notice.event == event]


def no_children(worker):
    deadline = time.monotonic() + 20
    while worker.children() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert worker.children() == []
