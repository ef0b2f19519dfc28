# SPDX-License-Identifier: Apache-2.0
"""The volume agent alone: real Kafka, the real agent with its nbdkit, the CloudStack double. The test plays the leader."""

import os
import signal
import time
import uuid
from pathlib import Path

import nbd
import pytest

import lib_digest
import messages as pb
from lib_agent import AGENT, GIB, children, cloud, leader, state_name

MIB = 1 << 20
CELL = lib_digest.CELL


def connect(leader, result, generation=None, token=None):
    h = nbd.NBD()
    h.set_export_name(f"{result.export_name}@{generation or result.generation}.{token or result.token}")
    h.connect_tcp(result.nbd_host, str(result.nbd_port))
    return h


def digest(data, cell):
    return lib_digest.root(lambda offset, length: data[offset:offset + length],
                           [(cell * CELL, min(CELL, len(data) - cell * CELL))])


def test_a_volume_from_its_creation_to_its_end(leader, cloud):
    agent = leader.agent()
    volume = leader.volume(GIB)
    seen = leader.site.look(volume)
    assert seen["virtualmachineid"] == leader.site.appliance and seen["size"] == GIB

    opened = leader.do("open_export", volume_id=volume, generation=1, minimum_size_bytes=GIB)
    assert opened.export_name == f"migration-vol-{volume}" and len(opened.token) == 32
    assert opened.device_serial == volume.replace("-", "")[:20]
    leader.heartbeat(agent, lambda h: [(e.volume_id, e.generation, e.writable) for e in h.agent.exports] == [(volume, 1, True)])

    data = bytes(range(256)) * (40 * MIB // 256)
    h = connect(leader, opened)
    for offset in range(0, len(data), 8 * MIB):
        h.pwrite(data[offset:offset + 8 * MIB], offset)
    h.flush()

    cells = {0: digest(data, 0), 1: digest(data, 1)}
    leader.verify(volume, 1, cells, len(data), sequence=1)
    answer = leader.verified(1)
    assert list(answer.verified_cells) == [0, 1] and not answer.mismatched_cells and not answer.HasField("error")
    h.pwrite(b"\0", 5 * MIB + 1)
    h.flush()
    leader.verify(volume, 1, cells, len(data), sequence=2)
    answer = leader.verified(2)
    assert list(answer.verified_cells) == [1] and list(answer.mismatched_cells) == [0]
    leader.verify(volume, 2, cells, len(data), sequence=3)  # not the open generation
    answer = leader.verified(3)
    assert answer.HasField("error") and not answer.verified_cells and not answer.mismatched_cells

    leader.do("close_export", volume_id=volume, generation=1)
    with pytest.raises(nbd.Error):
        h.pwrite(b"x", 0)
    leader.verify(volume, 1, cells, len(data), sequence=4)  # the device is still there
    assert list(leader.verified(4).verified_cells) == [1]
    leader.do("detach_volume", volume_id=volume)
    assert "virtualmachineid" not in leader.site.look(volume) and volume not in leader.exports()
    leader.do("delete_volume", volume_id=volume)
    assert "volume" not in cloud.call("listVolumes", listall="true", name="job-1-disk0")

    assert [c[:2] for c in leader.changes()] == [(c, volume) for c in ("createVolume", "attachVolume", "detachVolume",
                                                                       "deleteVolume")]
    assert not [e for e in cloud.state()["events"] if e["kind"].startswith("open-at")], "a device was taken away while in use"
    assert agent.stop() == 0
    assert leader.heartbeat(agent, lambda h: h.stopped)
    log = agent.log.read_text()
    assert opened.token not in log and cloud.secret not in log and cloud.key not in log


def test_a_restart_opens_the_same_exports_at_the_devices_of_today(leader, cloud):
    agent = leader.agent()
    first, second = leader.volume(disk="disk0"), leader.volume(disk="disk1")
    opened = [leader.do("open_export", volume_id=v, generation=3, disk=d) for v, d in ((first, "disk0"), (second, "disk1"))]
    agent.kill()
    # As after a boot of the appliance: the letters are swapped.
    base = Path(cloud.appliances[AGENT]["dev_root"]).parent
    names = [Path(o.device_path).name for o in opened]
    for kind in ("dev", "sys/block"):
        (base / kind / names[0]).rename(base / kind / "swap")
        (base / kind / names[1]).rename(base / kind / names[0])
        (base / kind / "swap").rename(base / kind / names[1])
    agent = leader.agent()
    leader.heartbeat(agent, lambda h: len(h.agent.exports) == 2)
    for number, result in enumerate(opened):
        h = connect(leader, result)
        h.pwrite(bytes([65 + number]) * 4096, 0)
        h.flush()
    assert [leader.bytes_of(v).read_bytes()[:1] for v in (first, second)] == [b"A", b"B"]
    agent.kill()
    for kind in ("dev", "sys/block"):  # the second one is gone
        (base / kind / names[0]).rename(base / f"gone-{kind.replace('/', '-')}")
    agent = leader.agent()
    leader.heartbeat(agent, lambda h: len(h.agent.exports) == 2)
    with pytest.raises(nbd.Error):
        connect(leader, opened[1])
    leader.verify(second, 3, {0: b"\0" * 16}, GIB, sequence=9)
    assert leader.verified(9).error.code == "DRV-DEVICE-MISSING"
    connect(leader, opened[0]).pwrite(b"C", 0)


# ---- whole VMs ---------------------------------------------------------------------------------------------------


def deploy(leader, job="job-1"):
    vm = str(uuid.uuid4())
    leader.do("deploy_vm", job=job, disk="", name=f"vm-{vm[:8]}", custom_id=vm)
    return vm


def disks(leader, vm):
    found = leader.cloud.call("listVolumes", virtualmachineid=vm, listall="true").get("volume", [])
    return {v["deviceid"]: (v["id"], v["type"]) for v in found}


def test_a_vm_starts_from_the_volumes_that_were_handed_over(leader, cloud):
    leader.agent()
    root, data = leader.volume(disk="disk0"), leader.volume(2 * GIB, disk="disk1")
    opened = leader.do("open_export", volume_id=root, generation=1, minimum_size_bytes=GIB)
    connect(leader, opened).pwrite(b"bootable", 0)  # left open: the agent cuts it off
    vm = deploy(leader)
    assert cloud.call("listVirtualMachines", id=vm)["virtualmachine"][0]["state"] == "Stopped"
    old_root = disks(leader, vm)[0][0]
    for volume, disk in ((root, "disk0"), (data, "disk1")):
        leader.do("detach_volume", disk=disk, volume_id=volume)
    assert leader.do("swap_root", vm_id=vm, volume_id=root).old_root_volume_id == old_root
    leader.do("attach_to_vm", disk="disk1", vm_id=vm, volume_id=data, device_id=1)
    assert leader.do("start_vm", vm_id=vm).vm_state == "Running"
    assert disks(leader, vm) == {0: (root, "ROOT"), 1: (data, "DATADISK")}
    assert not cloud.call("listVolumes", id=old_root, listall="true").get("volume")
    assert leader.bytes_of(root).read_bytes()[:8] == b"bootable"
    # Everything once more: found done, nothing asked for.
    before = len(leader.changes())
    assert leader.do("swap_root", vm_id=vm, volume_id=root).already_done
    leader.do("attach_to_vm", disk="disk1", vm_id=vm, volume_id=data, device_id=1)
    assert leader.do("start_vm", vm_id=vm).already_done
    assert len(leader.changes()) == before
    error = leader.failed(leader.operation("swap_root", vm_id=vm, volume_id=data))
    assert error.code == "DRV-VM-RUNNING" and error.error_class == 2

    # Undone, the VM is gone and the volumes are not.
    leader.do("destroy_vm", undo=True, vm_id=vm)
    assert {v["id"] for v in cloud.call("listVolumes", listall="true")["volume"]} >= {root, data}
    assert not [e for e in cloud.state()["events"] if e["kind"].startswith("open-at")]


def test_undoing_what_is_gone_is_success(leader, cloud):
    leader.agent()
    gone = str(uuid.uuid4())
    for kind, field in (("close_export", "volume_id"), ("detach_volume", "volume_id"), ("delete_volume", "volume_id"),
                        ("stop_vm", "vm_id"), ("destroy_vm", "vm_id")):
        leader.do(kind, undo=True, **{field: gone})
    assert leader.changes() == []
    for kind, field, code in (("detach_volume", "volume_id", "DRV-VOLUME-MISSING"), ("stop_vm", "vm_id", "DRV-VM-MISSING"),
                              ("attach_volume", "volume_id", "DRV-VOLUME-MISSING")):
        assert leader.failed(leader.operation(kind, **{field: gone})).code == code


def test_a_foreign_root_is_never_deleted(leader, cloud):
    leader.agent()
    first, second = leader.volume(disk="disk0", attach=False), leader.volume(disk="disk1", attach=False)
    vm = deploy(leader)
    leader.do("swap_root", vm_id=vm, volume_id=first)
    error = leader.failed(leader.operation("swap_root", vm_id=vm, volume_id=second))
    assert error.code == "DRV-ROOT-FOREIGN"
    assert disks(leader, vm) == {0: (first, "ROOT")}


# ---- intake ------------------------------------------------------------------------------------------------------


def test_poison_duplicates_and_order(leader, cloud):
    agent = leader.agent()
    leader.send_raw(b"\xff\xff no protobuf")
    leader.send_raw(pb.task.Task(task_id="x", job_id="job-1").SerializeToString())
    volume = str(uuid.uuid4())
    for _ in range(3):
        leader.operation("create_volume", operation_id="job-1/create", name="v", size_bytes=GIB, custom_id=volume)
    # Sent without waiting, of two jobs: in order for the volume, whoever asks.
    leader.operation("attach_volume", operation_id="a", volume_id=volume)
    leader.operation("detach_volume", operation_id="b", job="job-2", volume_id=volume)
    leader.operation("attach_volume", operation_id="c", job="job-3", volume_id=volume)
    leader.operation("detach_volume", operation_id="d", volume_id=volume)
    leader.operation("delete_volume", operation_id="e", job="job-2", volume_id=volume)
    leader.done("e")
    assert [c[0] for c in leader.changes()] == ["createVolume", "attachVolume", "detachVolume", "attachVolume",
                                                "detachVolume", "deleteVolume"]
    assert all(state_name(leader.journal(o)[-1]) == "DONE" for o in "abcd")
    leader.wait("drover.dlq", lambda rs: len(rs) == 2, 20, "two dead letters")
    agent.kill()
    leader.agent()
    leader.operation("create_volume", operation_id="job-1/create", name="v", size_bytes=GIB, custom_id=volume)
    leader.do("create_volume", name="w", size_bytes=GIB, custom_id=str(uuid.uuid4()))
    assert len(leader.changes("createVolume")) == 2
    assert len(leader.records["drover.dlq"]) == 2


def test_unrelated_operations_run_side_by_side(leader, cloud):
    leader.agent()
    cloud.fault("createVolume", "job-delay", seconds=3, match={"name": "slow"})
    slow = leader.operation("create_volume", job="slow", name="slow", size_bytes=GIB, custom_id=str(uuid.uuid4()))
    leader.reached(slow, "WAITING")
    leader.do("create_volume", job="quick", timeout=2.5, name="quick", size_bytes=GIB, custom_id=str(uuid.uuid4()))
    assert state_name(leader.journal(slow)[-1]) == "WAITING"
    leader.done(slow)


def test_read_back_for_a_stopped_job_is_dropped(leader, cloud):
    agent = leader.agent(verify_delay="1500ms")
    volume = leader.volume()
    leader.do("open_export", volume_id=volume, generation=1)
    zero = {0: digest(bytes(CELL), 0)}
    began = time.monotonic()
    leader.verify(volume, 1, zero, GIB, sequence=1, job="stopped")
    leader.verify(volume, 1, zero, GIB, sequence=2)
    leader.stop_job("stopped")
    assert list(leader.verified(2).verified_cells) == [0] and time.monotonic() - began >= 1.5
    assert not [r for _, r in leader.records[f"drover.events.{AGENT}"] if r.verified.sequence == 1]
    assert agent.stop() == 0


def test_a_second_instance_fences_the_first(leader, cloud):
    first = leader.agent()
    leader.ready(first)
    first.process.send_signal(signal.SIGSTOP)
    for child in children(first.pid):  # nbdkit gets no word of its parent's death while that is stopped
        os.kill(child, signal.SIGKILL)
    second = leader.agent()
    leader.ready(second)
    ident = leader.operation("create_volume", name="v", size_bytes=GIB, custom_id=str(uuid.uuid4()))
    first.process.send_signal(signal.SIGCONT)
    leader.done(ident)
    assert first.process.wait(60) == 3
    assert len(leader.changes()) == 1 and second.running()
