# SPDX-License-Identifier: Apache-2.0
"""Snapshots of CloudStack: taken, listed, gone back to, deleted; volumes made of them; and a test failover that leaves no trace."""
import uuid

import pytest

import messages as pb
from lib_agent import GIB, cloud, leader  # noqa: F401
from lib_cloud_objects import content, detached, snapshots, write
from lib_rest import problem, serve


def test_taken_gone_back_to_and_deleted(leader, tmp_path):
    _, rest = serve(leader, tmp_path)
    volume = detached(leader)
    write(leader, volume, b"original")
    record = rest.done("POST", "/snapshots/create", {"volume_id": volume, "name": "before the patch"}, operation_id="take-1")
    snapshot = record["result"]["snapshot_id"]
    assert record["kind"] == "create-snapshot" and snapshots(leader, volume) == [snapshot]
    tracked = rest.get(f"/snapshots/{snapshot}").json
    assert (tracked["volume_id"], tracked["name"], tracked["status"]) == (volume, "before the patch", "created")
    stranger = leader.cloud.do("createSnapshot", volumeid=volume)["id"]
    listed = {s["snapshot_id"]: s for s in rest.get(f"/volumes/{volume}/snapshots").json["snapshots"]}
    assert (listed[snapshot]["tracked"], listed[stranger]["tracked"]) == (True, False)
    assert listed[snapshot]["name"] == "before the patch-take-1" and listed[snapshot]["state"] == "BackedUp"

    write(leader, volume, b"changed!")
    leader.do("attach_volume", volume_id=volume)  # on a VM that runs it may have no effect
    record = rest.post(f"/snapshots/{snapshot}/revert", wait="60s").json
    assert record["error"]["code"] == "DRV-VM-RUNNING" and not leader.changes("revertSnapshot")
    leader.do("open_export", volume_id=volume, generation=1)
    record = rest.post("/snapshots/create", {"volume_id": volume}, wait="60s").json
    assert record["error"]["code"] == "DRV-SNAPSHOT-WRITTEN"
    leader.do("detach_volume", volume_id=volume)
    assert rest.done("POST", f"/snapshots/{snapshot}/revert")["result"]["volume_id"] == volume
    assert content(leader, volume) == b"original" and rest.get(f"/snapshots/{snapshot}").json["status"] == "reverted"

    # A new volume of it, larger than it.
    made = rest.done("POST", "/volumes", {"name": "copy", "size_bytes": 2 * GIB, "snapshot_id": snapshot})["result"]
    assert made["device_size_bytes"] == 2 * GIB and content(leader, made["volume_id"]) == b"original"
    problem(rest.post("/volumes", {"name": "x", "size_bytes": GIB, "snapshot_id": snapshot, "zone": "zone1"}), 400)

    # What is not tracked is nobody's to change.
    for what in ("revert", "delete"):
        problem(rest.post(f"/snapshots/{stranger}/{what}"), 404, "DRV-SNAPSHOT-MISSING")
    rest.done("POST", f"/snapshots/{snapshot}/delete")
    problem(rest.get(f"/snapshots/{snapshot}"), 404, "DRV-SNAPSHOT-MISSING")
    assert snapshots(leader, volume) == [stranger]
    record = rest.post("/volumes", {"name": "late", "size_bytes": GIB, "snapshot_id": snapshot}, wait="60s").json
    assert record["error"]["code"] == "DRV-SNAPSHOT-MISSING"
    never = rest.done("POST", "/volumes", {"name": "never attached", "size_bytes": GIB})["result"]["volume_id"]
    record = rest.post("/snapshots/create", {"volume_id": never}, wait="60s").json
    assert record["state"] == "failed" and "is not in Ready state" in record["error"]["message"]
    events = leader.cloud.state()["events"]
    assert not [e for e in events if e["kind"] in ("overlap", "open-at-revert")]


@pytest.mark.parametrize("who", ["admin", "tenant"])
def test_a_test_failover_is_rolled_back(leader, tmp_path, who):
    """The test VM writes; afterwards the volumes are the appliance's again and hold what was copied."""
    _, rest = serve(leader, tmp_path)
    site = leader.site
    volumes = [detached(leader, f"disk{n}") for n in range(2)]
    target = pb.job.TargetSpec() if who == "admin" else pb.job.TargetSpec(account=who, network_ids=["tenant-net"])
    vm = str(uuid.uuid4())
    leader.do("deploy_vm", disk="", name="test-failover", custom_id=vm, target=target)
    leader.do("swap_root", vm_id=vm, volume_id=volumes[0])
    leader.do("attach_to_vm", disk="disk1", vm_id=vm, volume_id=volumes[1], device_id=1)
    for number, volume in enumerate(volumes):
        write(leader, volume, b"copied %d" % number)
    problem(rest.post("/cleanup/test-failover", {"vm_id": vm, "revert": "yes"}), 400)
    record = rest.post("/cleanup/test-failover", {"vm_id": vm, "revert": True}, wait="60s").json
    assert record["error"]["code"] == "DRV-SNAPSHOT-MISSING" and site.root(vm)["id"] == volumes[0], "nothing was taken away"
    for volume in volumes:
        rest.done("POST", "/snapshots/create", {"volume_id": volume, "vm_id": vm})
    leader.do("start_vm", vm_id=vm)
    for volume in volumes:
        write(leader, volume, b"by test!")
    assert len(rest.get("/snapshots", vm_id=vm).json["snapshots"]) == 2
    record = rest.done("POST", "/cleanup/test-failover", {"vm_id": vm, "revert": True})
    assert sorted(record["result"]["volume_ids"]) == sorted(volumes)
    for number, volume in enumerate(volumes):
        row = site.look(volume)
        assert (row["account"], row["virtualmachineid"]) == ("admin", site.appliance)
        assert content(leader, volume) == b"copied %d" % number and not snapshots(leader, volume)
    assert rest.get("/snapshots", vm_id=vm).json["snapshots"] == []
    assert not leader.cloud.call("listVirtualMachines", listall="true", name="test-failover").get("virtualmachine")
    assert not [e for e in leader.cloud.state()["events"] if e["kind"] in ("overlap", "open-at-revert", "open-at-stop")]
