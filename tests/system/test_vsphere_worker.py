# SPDX-License-Identifier: Apache-2.0
"""The worker alone against a vCenter stand-in: snapshots, change tracking, power, and disks read through nbdkit's vddk plugin."""
import filecmp
import shutil
import time

import pytest

import messages as pb
from lib_leader import CELL, cmdline, now_ms
from lib_vcsim import disk, vm
from lib_vsphere_worker import (MIB, SIZE, a_worker, areas_of, confirm, done, inspect_task, no_children, notices, take, vm_task,
                                vsphere_leader)  # noqa: F401


@pytest.fixture
def vcsim(make_vcsim):
    return make_vcsim([vm("web", disks=[disk(SIZE)])])


def test_rounds(leader, vcsim):
    """Change tracking is switched on and begun, a full round, the guest writes, an incremental round; nothing is left."""
    worker = a_worker(leader, vcsim)
    vcsim.writes("web", 2000, [(0, 3 * MIB), (CELL + 5 * MIB, MIB)], seed=1)
    first = take(leader, worker, vcsim)
    names = [s["name"] for s in vcsim.snapshots("web")]
    assert names == [f"drover-{leader.job}-r0"], names
    assert [c["method"] for c in vcsim.calls() if c["method"] in ("ReconfigVM_Task", "CreateSnapshot_Task", "RemoveSnapshot_Task")] == [
        "ReconfigVM_Task", "CreateSnapshot_Task", "RemoveSnapshot_Task", "CreateSnapshot_Task"]
    assert first.quiesced and first.host and first.snapshot_at_ms > now_ms() - 3600_000
    assert [(d.disk_key, d.capacity_bytes) for d in first.disks] == [(2000, SIZE)]
    assert first.disks[0].change_id and first.disks[0].backing_path.startswith("[")

    inspect = leader.hand_out(inspect_task(leader, vcsim, first.snapshot_moref), worker)
    seen = leader.event(inspect, "inspected", 60).inspected
    assert seen.identity.kind == "vsphere" and seen.identity.change_id == first.disks[0].change_id
    assert seen.capacity_bytes == SIZE and seen.frozen and 4 * MIB <= seen.allocated_bytes <= 8 * MIB
    target, port = leader.target(SIZE)
    copy = leader.hand_out(leader.copy_task(inspect, seen, port, target_is_zero=True), worker)
    leader.event(copy, "finished", 60)
    assert filecmp.cmp(target, vcsim.frozen("web", first.snapshot_moref), shallow=False)
    vcsim.writes("web", 2000, [(512, 512), (CELL - 4096, 8192)], seed=2)
    done(leader, worker, vm_task(leader, vcsim, "REMOVE_SNAPSHOT", snapshot_moref=first.snapshot_moref))
    assert vcsim.snapshots("web") == []

    second = take(leader, worker, vcsim, round=1)
    inspect = leader.hand_out(inspect_task(leader, vcsim, second.snapshot_moref, 1, first.disks[0].change_id), worker)
    seen = leader.event(inspect, "inspected", 60).inspected
    assert seen.areas_known, seen.areas_unknown_because
    areas = areas_of(seen)
    assert sum(n for _, n in areas) < MIB and any(o <= 512 < o + n for o, n in areas)
    copy = leader.copy_task(inspect, seen, port, sync_type=pb.common.SYNC_TYPE_INCREMENTAL)
    copy.round, copy.task_id = 1, f"{leader.job}/d2000/r1/copy/0"
    copy.copy.areas.extend(pb.common.Range(offset=o, length=n) for o, n in areas)
    leader.event(leader.hand_out(copy, worker), "finished", 60)
    assert filecmp.cmp(target, vcsim.frozen("web", second.snapshot_moref), shallow=False)
    for _ in range(2):  # gone already is success
        done(leader, worker, vm_task(leader, vcsim, "REMOVE_SNAPSHOT", round=1, snapshot_moref=second.snapshot_moref))
    assert vcsim.snapshots("web") == []
    no_children(worker)
    assert not list((leader.dir / "run").rglob("*.sock"))
    assert worker.stop() == 0, worker.log.read_text(errors="replace")[-4000:]
    assert vcsim.sessions() == [], "it logs out"


def test_two_disks(leader, make_vcsim):
    """Both disks from one snapshot, over one session; their files move between looking and copying (Storage vMotion)."""
    vcsim = make_vcsim([vm("web", disks=[disk(CELL), disk(CELL + MIB)])])
    vcsim.write_vcenters(sessions=1)
    worker = a_worker(leader, vcsim)
    keys = [d["key"] for d in vcsim.vm("web")["disks"]]
    for key in keys:
        vcsim.writes("web", key, [(MIB, MIB), (CELL - 512, 512)], seed=key)
    snapshot = take(leader, worker, vcsim)
    assert sorted(d.disk_key for d in snapshot.disks) == sorted(keys)
    inspects = [leader.hand_out(inspect_task(leader, vcsim, snapshot.snapshot_moref, key=key), worker) for key in keys]
    seen = [leader.event(task, "inspected", 60).inspected for task in inspects]
    for found, key in zip(seen, keys):
        path = next(d.backing_path for d in snapshot.disks if d.disk_key == key)
        vcsim.move("web", path.replace("web", "moved"), key=key)
    targets = [leader.target(found.capacity_bytes) for found in seen]
    copies = [leader.hand_out(leader.copy_task(task, found, port), worker)
              for task, found, (_, port) in zip(inspects, seen, targets)]
    for copy, (target, _), key in zip(copies, targets, keys):
        leader.event(copy, "finished", 60)
        assert filecmp.cmp(target, vcsim.frozen("web", snapshot.snapshot_moref, key), shallow=False)
    assert len(vcsim.sessions()) == 1


@pytest.mark.parametrize("grain", [512, 65536])
def test_more_areas_than_one_answer_holds(leader, make_vcsim, grain):
    """2,500 sectors in 64 KiB blocks of their own, two apart: as many areas, in two answers; exactly these bytes are copied."""
    count, capacity = 2500, 5000 * 65536
    vcsim = make_vcsim([vm("web", disks=[disk(capacity)])], grain=grain)
    worker = a_worker(leader, vcsim)
    vcsim.writes("web", 2000, [(MIB, 2 * MIB)], seed=5)
    first = take(leader, worker, vcsim)
    inspect = leader.hand_out(inspect_task(leader, vcsim, first.snapshot_moref), worker)
    seen = leader.event(inspect, "inspected", 60).inspected
    target, port = leader.target(capacity)
    leader.event(leader.hand_out(leader.copy_task(inspect, seen, port, target_is_zero=True), worker), "finished", 60)
    done(leader, worker, vm_task(leader, vcsim, "REMOVE_SNAPSHOT", snapshot_moref=first.snapshot_moref))
    writes = [(2 * 65536 * i + 512 * (i % 128), 512) for i in range(count)]
    vcsim.writes("web", 2000, writes, seed=6)
    second = take(leader, worker, vcsim, round=1)
    inspect = leader.hand_out(inspect_task(leader, vcsim, second.snapshot_moref, 1, first.disks[0].change_id), worker)
    seen = leader.event(inspect, "inspected", 60).inspected
    assert seen.areas_known, seen.areas_unknown_because
    assert areas_of(seen) == [(o // grain * grain, grain) for o, _ in writes]
    assert len([c for c in vcsim.calls("QueryChangedDiskAreas") if c["args"]["changeId"] != "*"]) == 2
    copy = leader.copy_task(inspect, seen, port, sync_type=pb.common.SYNC_TYPE_INCREMENTAL)
    copy.round, copy.task_id = 1, f"{leader.job}/d2000/r1/copy/0"
    copy.copy.areas.extend(pb.common.Range(offset=o, length=n) for o, n in areas_of(seen))
    counts = leader.event(leader.hand_out(copy, worker), "finished", 120).finished.counts
    assert counts.data_bytes + counts.zero_found_bytes == count * grain, counts
    assert filecmp.cmp(target, vcsim.frozen("web", second.snapshot_moref), shallow=False)


def test_a_disk_that_grew(leader, vcsim):
    """The next snapshot and the inspection tell its new size; what the guest wrote there is among the areas."""
    worker = a_worker(leader, vcsim)
    first = take(leader, worker, vcsim)
    done(leader, worker, vm_task(leader, vcsim, "REMOVE_SNAPSHOT", snapshot_moref=first.snapshot_moref))
    vcsim.grow("web", SIZE + CELL)
    vcsim.writes("web", 2000, [(MIB, 512), (SIZE + MIB, 2 * MIB), (SIZE + CELL - 512, 512)], seed=7)
    second = take(leader, worker, vcsim, round=1)
    assert second.disks[0].capacity_bytes == SIZE + CELL
    inspect = leader.hand_out(inspect_task(leader, vcsim, second.snapshot_moref, 1, first.disks[0].change_id), worker)
    seen = leader.event(inspect, "inspected", 60).inspected
    assert seen.capacity_bytes == SIZE + CELL and seen.areas_known
    areas = areas_of(seen)
    for offset, length in [(MIB, 512), (SIZE + MIB, 2 * MIB), (SIZE + CELL - 512, 512)]:
        assert any(o <= offset and offset + length <= o + n for o, n in areas), (offset, areas)
    target, port = leader.target(SIZE + CELL)
    copy = leader.hand_out(leader.copy_task(inspect, seen, port, target_is_zero=True), worker)
    leader.event(copy, "finished", 60)
    assert filecmp.cmp(target, vcsim.frozen("web", second.snapshot_moref), shallow=False)


def test_changes_unknown(leader, vcsim):
    """A reset of change tracking, an id from elsewhere: the inspection says so instead of failing."""
    worker = a_worker(leader, vcsim)
    first = take(leader, worker, vcsim)
    done(leader, worker, vm_task(leader, vcsim, "REMOVE_SNAPSHOT", snapshot_moref=first.snapshot_moref))
    vcsim.reset_cbt("web")
    second = take(leader, worker, vcsim, round=1)
    for since, code in ((first.disks[0].change_id, "DRV-SOURCE-CHANGE-ID"), ("nonsense", "DRV-SOURCE-CHANGE-ID"),
                        ("", "DRV-SOURCE-NO-CHANGE-TRACKING")):
        task = leader.hand_out(inspect_task(leader, vcsim, second.snapshot_moref, 1, since), worker)
        seen = leader.event(task, "inspected", 60).inspected
        assert not seen.areas_known and seen.areas_unknown_because.startswith(code), seen.areas_unknown_because


def test_vddk_missing(leader, vcsim):
    worker = a_worker(leader, vcsim, vddk_plugin=leader.dir / "nbdkit-vddk-plugin.so")
    snapshot = take(leader, worker, vcsim)
    task = leader.hand_out(inspect_task(leader, vcsim, snapshot.snapshot_moref), worker)
    error = leader.event(task, "failed", 60).failed.error
    assert (error.code, error.error_class) == ("DRV-SOURCE-VDDK", pb.common.ERROR_CLASS_PERMANENT), error
    shutil.rmtree(vcsim.libdir)
    task = leader.hand_out(inspect_task(leader, vcsim, snapshot.snapshot_moref), worker)
    error = leader.event(task, "failed", 60).failed.error
    assert error.code == "DRV-SOURCE-VDDK" and str(vcsim.libdir) in error.message, error
    no_children(worker)


def test_thumbprint_by_authority(leader, vcsim):
    """VDDK wants a SHA-1 thumbprint: with a CA, or SHA-256, it is found out; the password is in no argument."""
    worker = a_worker(leader, vcsim)
    snapshot = take(leader, worker, vcsim)
    for settings in ({"thumbprint": None, "ca-file": vcsim.cert}, {"thumbprint": vcsim.sha256}):
        vcsim.write_vcenters(**settings)
        vcsim.command_readers("run")
        task = leader.hand_out(inspect_task(leader, vcsim, snapshot.snapshot_moref), worker)
        leader.event(task, "inspected", 60)
    vcsim.writes("web", 2000, [(0, 24 * MIB)], seed=3)
    again = take(leader, worker, vcsim, round=1)
    inspect = leader.hand_out(inspect_task(leader, vcsim, again.snapshot_moref, 1), worker)
    seen = leader.event(inspect, "inspected", 60).inspected
    target, port = leader.target(SIZE)
    copy = leader.hand_out(leader.copy_task(inspect, seen, port, rate_bytes_per_second=4 * MIB), worker)
    deadline = time.monotonic() + 60
    while not any("nbdkit" in cmdline(p) for p in worker.children()) and time.monotonic() < deadline:
        time.sleep(0.05)
    lines = [cmdline(p) for p in worker.children()]
    assert any(f"thumbprint={vcsim.thumbprint}" in line for line in lines), lines
    assert not any(vcsim.password in line for line in lines)
    leader.control(copy, desired="STOP")
    no_children(worker)


def test_child_death(leader, vcsim):
    """nbdkit dies in the middle of a copy: seen at once, retryable, no zombie, and the next attempt goes on."""
    worker = a_worker(leader, vcsim)
    vcsim.writes("web", 2000, [(0, 40 * MIB)], seed=4)
    snapshot = take(leader, worker, vcsim)
    inspect = leader.hand_out(inspect_task(leader, vcsim, snapshot.snapshot_moref), worker)
    seen = leader.event(inspect, "inspected", 60).inspected
    target, port = leader.target(SIZE)
    copy = leader.hand_out(leader.copy_task(inspect, seen, port, rate_bytes_per_second=4 * MIB), worker)
    leader.event(copy, "claimed")
    deadline = time.monotonic() + 60
    while not any(r["open"] and r["reads"] for r in vcsim.readers()) and time.monotonic() < deadline:
        time.sleep(0.05)
    vcsim.command_readers("die")
    error = leader.event(copy, "failed", 60).failed.error
    assert (error.code, error.error_class) == ("DRV-SOURCE-CHILD", pb.common.ERROR_CLASS_RETRYABLE), error
    no_children(worker)
    vcsim.command_readers("run")
    copy = leader.hand_out(leader.copy_task(inspect, seen, port, attempt=2), worker)
    leader.event(copy, "finished", 60)
    assert filecmp.cmp(target, vcsim.frozen("web", snapshot.snapshot_moref), shallow=False)


def test_nothing_before_confirmation(leader, vcsim):
    worker = a_worker(leader, vcsim)
    task = leader.hand_out(vm_task(leader, vcsim, "SNAPSHOT"), worker)
    claimed = leader.event(task, "claimed")
    leader.control(task, owner_instance="somebody-else")
    leader.heartbeat(lambda h: h.at_ms > claimed.at_ms and h.pid == worker.pid and not h.worker.running)
    assert vcsim.calls("ReconfigVM_Task") == [] and vcsim.snapshots("web") == []
    task = leader.hand_out(vm_task(leader, vcsim, "SNAPSHOT", attempt=2, of=task), worker)
    confirm(leader, task)
    leader.event(task, "source_vm", 60)


def test_not_quiesced(leader, vcsim):
    worker = a_worker(leader, vcsim)
    vcsim.fault("CreateSnapshot_Task", "ApplicationQuiesceFault", where="task", skip=1)
    result = take(leader, worker, vcsim)
    assert not result.quiesced and len(vcsim.snapshots("web")) == 1
    assert any("not be quiesced" in m for m in notices(leader, "vm.not-quiesced"))
    done(leader, worker, vm_task(leader, vcsim, "REMOVE_SNAPSHOT"))
    assert not take(leader, worker, vcsim, round=1, crash_consistent=True).quiesced


def test_snapshots_of_others(leader, make_vcsim):
    vcsim = make_vcsim([vm("web", disks=[disk(SIZE)], snapshots=["before the update"])])
    worker = a_worker(leader, vcsim)
    failed = done(leader, worker, vm_task(leader, vcsim, "SNAPSHOT"), "failed")
    assert (failed.error.code, failed.error.error_class) == ("DRV-SOURCE-CBT-SNAPSHOTS", pb.common.ERROR_CLASS_PERMANENT)
    assert len(vcsim.snapshots("web")) == 1
    findings = done(leader, worker, vm_task(leader, vcsim, "PREFLIGHT")).findings
    assert "DRV-SOURCE-CBT-SNAPSHOTS" in [f.code for f in findings if f.severity == "error"]


def test_consolidation(leader, vcsim):
    """The removal leaves files behind: consolidation is asked for, and a long queue is told."""
    worker = a_worker(leader, vcsim)
    snapshot = take(leader, worker, vcsim)
    vcsim.set_vm("web", leave_deltas=True)
    vcsim.rule("ConsolidateVMDisks_Task", where="task", queued_ms=1500, run_ms=500)
    result = done(leader, worker, vm_task(leader, vcsim, "REMOVE_SNAPSHOT", snapshot_moref=snapshot.snapshot_moref))
    assert result.power_state == "poweredOn" and len(vcsim.calls("ConsolidateVMDisks_Task")) == 1
    assert notices(leader, "vm.consolidate") and vcsim.snapshots("web") == []


def test_preflight(leader, vcsim):
    worker = a_worker(leader, vcsim, nfc_port=1)
    vcsim.deny("VirtualMachine.State.CreateSnapshot")
    task = leader.hand_out(vm_task(leader, vcsim, "PREFLIGHT"), worker)  # changes nothing: no confirmation
    result = leader.event(task, "source_vm", 60).source_vm
    assert "DRV-SOURCE-NFC" not in {f.code for f in result.findings}
    task = vm_task(leader, vcsim, "PREFLIGHT", transfers_per_host=8)
    task.source_vm.full_hosts.extend(["host-of-others", result.host])
    result = leader.event(leader.hand_out(task, worker), "source_vm", 60).source_vm
    assert [f.severity for f in result.findings if f.code == "DRV-SOURCE-NFC"] == ["warning"], result
    errors = {f.code for f in result.findings if f.severity == "error"}
    assert {"DRV-SOURCE-RIGHTS", "DRV-SOURCE-PORT-902"} <= errors, result
    assert result.power_state == "poweredOn" and [d.disk_key for d in result.disks] == [2000]
    assert not [c for c in vcsim.calls() if c["method"].endswith("_Task")]


def power(leader, worker, vcsim, action, end="source_vm", **fields):
    return done(leader, worker, vm_task(leader, vcsim, action, **fields), end)


def test_power(leader, vcsim):
    worker = a_worker(leader, vcsim)
    vcsim.set_vm("web", shutdown_ms=1000)
    assert power(leader, worker, vcsim, "POWER_OFF", shutdown_timeout_ms=60000).power_state == "poweredOff"
    assert len(vcsim.calls("ShutdownGuest")) == 1 and vcsim.calls("PowerOffVM_Task") == []
    guards = len(vcsim.calls("ReconfigVM_Task"))
    assert guards == 1
    power(leader, worker, vcsim, "POWER_OFF", shutdown_timeout_ms=60000)  # again: nothing to do
    assert len(vcsim.calls("ReconfigVM_Task")) == guards
    assert power(leader, worker, vcsim, "POWER_ON").power_state == "poweredOn"
    assert len(vcsim.calls("PowerOnVM_Task")) == 1 and len(vcsim.calls("ReconfigVM_Task")) == guards + 1

    vcsim.set_vm("web", shutdown_ms=-1)
    failed = power(leader, worker, vcsim, "POWER_OFF", "failed", shutdown_timeout_ms=1000)
    assert (failed.error.code, failed.error.error_class) == ("DRV-SOURCE-POWER-WAIT", pb.common.ERROR_CLASS_PERMANENT)
    result = power(leader, worker, vcsim, "POWER_OFF", shutdown_timeout_ms=1000, power_policy=pb.common.POWER_POLICY_FORCE)
    assert result.power_state == "poweredOff" and len(vcsim.calls("PowerOffVM_Task")) == 1


def test_power_manual(leader, vcsim):
    worker = a_worker(leader, vcsim)
    task = leader.hand_out(vm_task(leader, vcsim, "POWER_OFF", power_policy=pb.common.POWER_POLICY_MANUAL), worker)
    confirm(leader, task)
    leader.wait("events", lambda e: e.task_id == task.task_id and e.notice.event == "vm.wait-off")
    vcsim.set_vm("web", power="off")
    assert leader.event(task, "source_vm", 60).source_vm.power_state == "poweredOff"
    assert vcsim.calls("ShutdownGuest") == [] and vcsim.calls("PowerOffVM_Task") == []
