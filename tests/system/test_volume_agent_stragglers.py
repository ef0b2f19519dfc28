# SPDX-License-Identifier: Apache-2.0
"""CloudStack #14214: an older call takes effect after a newer one has ended. Whatever was undone so is found and done again; the
late attach that nobody asked for is in test_volume_agent_reconcile.py."""
import json
import uuid

import pytest

from lib_agent import GIB, cloud, leader  # noqa: F401


def where(leader, volume):
    return leader.site.look(volume).get("virtualmachineid")


def test_an_attach_lands_right_after_a_detach(leader):
    leader.agent()
    volume = leader.volume()
    leader.cloud.fault("detachVolume", "job-undone")
    leader.do("detach_volume", volume_id=volume)
    assert where(leader, volume) is None and len(leader.changes("detachVolume")) == 2


def test_a_detach_lands_right_after_an_attach_to_the_appliance(leader):
    leader.agent(device_timeout="2s")
    volume = leader.volume(attach=False)
    leader.cloud.fault("attachVolume", "job-undone")
    result = leader.do("attach_volume", volume_id=volume, minimum_size_bytes=GIB)
    assert where(leader, volume) == leader.site.appliance and result.device_serial == volume.replace("-", "")[:20]
    assert len(leader.changes("attachVolume")) == 2


@pytest.mark.parametrize("kind", ["swap_root", "attach_to_vm"])
def test_a_detach_lands_right_after_an_attach_to_a_vm(leader, kind):
    leader.agent()
    volume, vm = leader.volume(attach=False), str(uuid.uuid4())
    leader.do("deploy_vm", disk="", name="target", custom_id=vm)
    leader.cloud.fault("attachVolume", "job-undone")
    leader.do(kind, vm_id=vm, volume_id=volume, **({"device_id": 2} if kind == "attach_to_vm" else {}))
    row = leader.site.look(volume)
    assert (row["virtualmachineid"], row["deviceid"]) == (vm, 2 if kind == "attach_to_vm" else 0)
    assert len(leader.changes("attachVolume")) == 2


def test_a_vm_is_not_started_without_its_disks(leader):
    """The detach comes when the attach is long done, before the VM is started."""
    leader.agent()
    root, data, vm = leader.volume(disk="disk0", attach=False), leader.volume(disk="disk1", attach=False), str(uuid.uuid4())
    leader.do("deploy_vm", disk="", name="target", custom_id=vm)
    leader.do("swap_root", vm_id=vm, volume_id=root)
    leader.do("attach_to_vm", disk="disk1", vm_id=vm, volume_id=data, device_id=2)
    for volume in (root, data):
        leader.cloud.do("detachVolume", id=volume)
    assert leader.do("start_vm", vm_id=vm).vm_state == "Running"
    assert [(leader.site.look(v)["virtualmachineid"], leader.site.look(v)["deviceid"]) for v in (root, data)] == [(vm, 0), (vm, 2)]
    found = leader.wait("drover.audit", lambda rs: [r for _, r in rs if r.fields.get("kind") == "volume-detached-late"][1:], 20,
                        "two audit records")
    assert found[0].fields["repaired"] == "yes" and found[0].fields["vm_id"] == vm
    # One that is gone for good: then it is not started at all.
    leader.do("stop_vm", vm_id=vm, forced=True)
    leader.cloud.do("detachVolume", id=data)
    leader.cloud.call("deleteVolume", id=data)
    assert leader.failed(leader.operation("start_vm", vm_id=vm)).code == "DRV-VOLUME-MISSING"


def test_a_detach_comes_while_the_export_is_open(leader):
    """Found by the comparison: nobody can write any more, and the job that attaches it again goes on where it was."""
    leader.agent(reconcile_interval=0)
    volume = leader.volume()
    leader.do("open_export", volume_id=volume, generation=1)
    leader.cloud.do("detachVolume", id=volume)
    report = json.loads(leader.do("force_sync", job="compare", disk="", repair=True).report)
    assert {(d["kind"], d["repaired"]) for d in report["differences"]} == {("volume-detached", False), ("export-volume-elsewhere", True)}
    assert volume not in leader.exports()
    leader.do("attach_volume", volume_id=volume, minimum_size_bytes=GIB)
    assert leader.do("open_export", volume_id=volume, generation=2).generation == 2
    report = json.loads(leader.do("force_sync", job="compare", disk="", repair=True).report)
    assert report["differences"] == []
