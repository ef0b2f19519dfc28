# SPDX-License-Identifier: Apache-2.0
"""Volumes go to the owner of the VM that they are attached to, and back: the appliance's account makes them, the job's account or
project gets them. CloudStack wants them detached and without snapshots for that, and attaches nothing across owners."""
import json
import uuid

import pytest

import messages as pb
from lib_agent import GIB, cloud, leader  # noqa: F401
from lib_cloud_objects import EXPIRY, assigned, deploy, owner
from lib_rest import serve


@pytest.mark.parametrize("who", ["tenant", "team"])
def test_volumes_get_the_owner_of_the_job_and_come_back(leader, who):
    leader.agent()
    site = leader.site
    root, data = leader.volume(disk="disk0"), leader.volume(disk="disk1")
    assert owner(site.look(root)) == "admin"
    vm = deploy(leader, who)
    for volume, disk in ((root, "disk0"), (data, "disk1")):
        leader.do("detach_volume", disk=disk, volume_id=volume)
    assert assigned(leader) == [], "before it is needed"
    leader.do("swap_root", vm_id=vm, volume_id=root)
    leader.do("attach_to_vm", disk="disk1", vm_id=vm, volume_id=data, device_id=1)
    leader.do("start_vm", vm_id=vm)
    assert assigned(leader) == [(root, who), (data, who)]
    report = json.loads(leader.do("force_sync", disk="", repair=False).report)
    assert report["differences"] == [], "what is a project's is seen, too"
    row = leader.cloud.call("listVirtualMachines", id=vm)["virtualmachine"][0]
    assert owner(row) == who and row["state"] == "Running"
    assert [owner(site.look(v)) for v in (root, data)] == [who, who]
    # The end of a test failover: the VM is gone, the volumes are the appliance's again and attached to it.
    leader.do("cleanup_test_failover", vm_id=vm)
    assert assigned(leader)[2:] and {v for v, to in assigned(leader)[2:] if to == "admin"} == {root, data}
    for volume in (root, data):
        assert owner(site.look(volume)) == "admin" and site.look(volume)["virtualmachineid"] == site.appliance
    assert len(assigned(leader)) == 4
    report = json.loads(leader.do("force_sync", disk="", repair=False).report)
    assert report["differences"] == []
    # Once more, and undone as a failed failover is.
    again = deploy(leader, who)
    leader.do("detach_volume", disk="disk1", volume_id=data)
    leader.do("attach_to_vm", disk="disk1", vm_id=again, volume_id=data, device_id=1)
    leader.do("destroy_vm", undo=True, vm_id=again)
    assert owner(site.look(data)) == "admin" and "virtualmachineid" not in site.look(data)
    assert not [e for e in leader.cloud.state()["events"] if e["kind"] == "overlap"]


def test_what_cloudstack_refuses(leader):
    """Snapshots forbid it, and so may a quota: the failover fails before the VM loses its root disk; what is undone goes on."""
    leader.agent()
    cloud, site = leader.cloud, leader.site
    volume = leader.volume()
    leader.do("detach_volume", volume_id=volume)
    vm = deploy(leader, "tenant")
    root = site.root(vm)["id"]
    snapshot = cloud.do("createSnapshot", volumeid=volume)["id"]
    error = leader.failed(leader.operation("swap_root", vm_id=vm, volume_id=volume))
    assert error.code == "DRV-VOLUME-OWNER" and "has snapshots" in error.message and error.error_class == 2
    assert site.root(vm)["id"] == root
    cloud.do("deleteSnapshot", id=snapshot)
    cloud.fault("assignVolume", "error", code=535, text="Maximum amount of resources of Type = 'volume' has been exceeded.")
    assert leader.failed(leader.operation("attach_to_vm", vm_id=vm, volume_id=volume, device_id=1)).code == "DRV-VOLUME-OWNER"
    leader.do("attach_to_vm", vm_id=vm, volume_id=volume, device_id=1)
    cloud.do("createSnapshot", volumeid=volume)
    leader.do("destroy_vm", undo=True, vm_id=vm)  # it stays the tenant's, and the log says so
    assert owner(site.look(volume)) == "tenant"
    assert [line for line in leader.agents[0].lines() if line.get("event") == "volume.not_handed_back"]


def test_targets_that_are_nobodys(leader):
    leader.agent()
    for wrong, text in ((pb.job.TargetSpec(account="nobody"), "no account 'nobody'"),
                        (pb.job.TargetSpec(domain_id=str(uuid.uuid4())), "no account in it"),
                        (pb.job.TargetSpec(account="tenant", domain_id=str(uuid.uuid4())), "no account 'tenant' in domain"),
                        (pb.job.TargetSpec(account="tenant", project_id=str(uuid.uuid4())), "one owner")):
        error = leader.failed(leader.operation("deploy_vm", disk="", name="vm", custom_id=str(uuid.uuid4()), target=wrong))
        assert error.code == "DRV-TARGET-ACCOUNT" and text in error.message
    assert not leader.changes()


def test_a_client_cannot_take_a_tenants_volume(leader, tmp_path):
    """The agent's key may move any volume to any account. What was not made here, and is not the appliance's, stays where it is."""
    _, rest = serve(leader, tmp_path)
    state = leader.cloud.state()
    theirs = leader.site.volume(account="tenant", domainid=state["domain_id"])
    record = rest.post(f"/volumes/{theirs}/attach", wait="60s").json
    assert record["state"] == "failed" and record["error"]["code"] == "DRV-VOLUME-OWNER"
    assert owner(leader.site.look(theirs)) == "tenant" and assigned(leader) == []
    # One that was made here may go and come.
    made = rest.done("POST", "/volumes", {"name": "made", "size_bytes": GIB})["result"]["volume_id"]
    vm = deploy(leader, "tenant")
    rest.done("POST", f"/volumes/{made}/attach", {"vm_id": vm, "device_id": 1})
    rest.done("POST", f"/volumes/{made}/detach")
    rest.done("POST", f"/volumes/{made}/attach")
    assert assigned(leader) == [(made, "tenant"), (made, "admin")]


@pytest.mark.parametrize("action", ["", "drop-after"])
def test_a_vm_gets_its_os_type(leader, action):
    """CloudStack takes the template's at the deployment, and chooses the adapters by it."""
    leader.agent(**EXPIRY)
    types = {t["description"]: t["id"] for t in leader.cloud.call("listOsTypes")["ostype"]}
    if action:
        leader.cloud.fault("updateVirtualMachine", action)
    for wanted in ("Windows Server 2022 (64-bit)", types["Rocky Linux 9"]):
        vm = str(uuid.uuid4())
        leader.do("deploy_vm", disk="", name=f"vm-{vm[:8]}", custom_id=vm, target=pb.job.TargetSpec(os_type=wanted))
        row = leader.cloud.call("listVirtualMachines", id=vm)["virtualmachine"][0]
        assert row["ostypeid"] == types.get(wanted, wanted)
    assert len(leader.changes("updateVirtualMachine")) == 2
    error = leader.failed(leader.operation("deploy_vm", disk="", name="vm", custom_id=str(uuid.uuid4()),
                                           target=pb.job.TargetSpec(os_type="No Such System")))
    assert error.code == "DRV-TARGET-OS-TYPE" and len(leader.changes("deployVirtualMachine")) == 2
