# SPDX-License-Identifier: Apache-2.0
"""State rules, races and devices of the double; [numbers] name the transcript of the real one."""
import json
import os
import sys
import time
import uuid

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cloudstack_harness import GIB, Double, Refused, Site, in_parallel, refused  # noqa: E402

NOT_ATTACHED = "^Please specify a volume that is not attached to any VM.$"


@pytest.fixture(scope="module", name="shared")
def _shared(tmp_path_factory):
    with Double(tmp_path_factory.mktemp("cloud"), "--seed", "7", appliance="appliance,other@C1", speed=20) as cloud:
        yield Site(cloud)


@pytest.fixture(name="site")
def _site(shared):
    shared.cloud.control("reset", {"all": True})
    return shared


@pytest.fixture(name="slow")
def _slow(tmp_path):
    """Slow enough for two jobs to meet."""
    with Double(tmp_path / "cloud", "--seed", "3", speed=2) as cloud:
        yield Site(cloud)


def names(site, vm):
    return [(v["type"], v["deviceid"], v["id"]) for v in site.cloud.call("listVolumes", virtualmachineid=vm)["volume"]]


# -- volumes ---------------------------------------------------------------------------------------------------


def test_life_of_a_volume(site):  # [057-082, 219, 220]
    cloud, ident = site.cloud, site.volume(gb=3)
    file = os.path.join(cloud.dir, "volumes", ident + ".raw")
    assert site.look(ident)["state"] == "Allocated" and not os.path.exists(file)
    assert cloud.do("attachVolume", id=ident, virtualmachineid=site.appliance)["deviceid"] == 1
    assert os.path.getsize(file) == 3 * GIB and os.stat(file).st_blocks == 0
    refused(431, NOT_ATTACHED, cloud.do, "attachVolume", id=ident, virtualmachineid=site.appliance)
    refused(431, NOT_ATTACHED, cloud.call, "deleteVolume", id=ident)
    cloud.do("detachVolume", id=ident)
    refused(431, "^The specified volume is not attached to a VM.$", cloud.do, "detachVolume", id=ident)
    assert cloud.call("deleteVolume", id=ident) == {"success": True}
    assert cloud.call("listVolumes", id=ident) == {} and not os.path.exists(file)
    refused(431, r"^Unable to find volume with ID: \d+$", cloud.call, "deleteVolume", id=ident)
    refused(431, "^Please specify a volume that is not destroyed.$", cloud.do, "attachVolume", id=ident,
            virtualmachineid=site.appliance)  # [277]


def test_customid_is_an_idempotency_key(site):  # [486, 487]
    ident = str(uuid.uuid4())
    assert site.volume(customid=ident) == ident
    refused(431, f"^UUID: {ident} already exists so can't create/update with custom id$", site.volume, customid=ident)
    refused(431, "doesn't follow the UUID format", site.volume, customid=ident.upper())
    vm = str(uuid.uuid4())
    assert site.vm(customid=vm) == vm
    refused(431, "already exists", site.vm, customid=vm)
    site.cloud.call("deleteVolume", id=ident)
    refused(530, "Duplicate entry", site.volume, customid=ident)  # an id is never used twice


def test_storageid_makes_it_ready(site):  # [480-482]
    pool = site.pools["PS2"]
    row = site.look(site.volume(storageid=pool["id"]))
    assert (row["state"], row["storageid"], row["clustername"]) == ("Ready", pool["id"], "C1")
    refused(530, "^Failed to create volume: Volume ", site.volume, name="tagged", storageid=pool["id"],
            diskofferingid=site.disk["Custom SSD"])
    assert site.cloud.call("listVolumes", name="tagged")["volume"][0]["state"] == "Destroy"


def test_device_ids(site):  # [084-088]
    cloud, idents = site.cloud, [site.volume() for _ in range(5)]

    def attach(index, **more):
        return cloud.do("attachVolume", id=idents[index], virtualmachineid=site.appliance, **more)["deviceid"]
    assert attach(0, deviceid=4) == 4
    refused(530, "^deviceId should be 0,1,2,4-33$", attach, 1, deviceid=3)
    refused(530, "^deviceId 4 is used by vm", attach, 1, deviceid=4)
    refused(431, "^Root volume detach can happen only when vm is in states", attach, 1, deviceid=0)  # [090]
    assert [attach(n) for n in (1, 2, 3)] == [1, 2, 5]
    refused(530, 'Cannot invoke "java.lang.Long', cloud.do, "detachVolume", virtualmachineid=site.appliance, deviceid=4)
    assert site.look(idents[1])["state"] == "Ready"


def test_too_many_disks(tmp_path):  # [240]
    with Double(tmp_path, "--max-data-disks", "2", speed=50) as cloud:
        site = Site(cloud)
        site.attached(), site.attached()
        refused(431, r"^The specified VM already has the maximum number of data disks \(2\) attached.", site.attached)


def test_resize(site):  # [074-077, 579-590]
    cloud, ident = site.cloud, site.attached(gb=2)
    name, sectors = site.device(ident)
    assert sectors == 2 * GIB // 512
    assert cloud.do("resizeVolume", id=ident, size=3)["size"] == 3 * GIB
    assert site.device(ident) == (name, 3 * GIB // 512)
    refused(432, "^Going from existing size of 3221225472 to size of 1073741824 would shrink the volume.Need", cloud.do,
            "resizeVolume", id=ident, size=1)
    refused(530, "due to - Failed to resize$", cloud.do, "resizeVolume", id=ident, size=1, shrinkok="true")
    refused(432, "5000 GB is out of allowed range", cloud.do, "resizeVolume", id=ident, size=5000)


def test_an_attach_elsewhere_moves_the_data(site):  # [433]
    cloud, ident = site.cloud, site.attached()
    before = site.look(ident)
    cloud.do("detachVolume", id=ident)
    cloud.do("attachVolume", id=ident, virtualmachineid=cloud.appliances["other"]["id"])
    after = site.look(ident)
    assert (before["clustername"], after["clustername"]) == ("C0", "C1")
    assert before["path"] != after["path"] and before["storageid"] != after["storageid"]


def test_snapshots(site):  # [151-166]
    cloud, ident = site.cloud, site.volume()
    refused(431, "is not in Ready state but Allocated. Cannot take snapshot", cloud.call, "createSnapshot", volumeid=ident)
    cloud.do("attachVolume", id=ident, virtualmachineid=site.appliance)
    with open(os.path.join(cloud.dir, "volumes", ident + ".raw"), "r+b") as file:
        file.write(b"before")
    snapshot = cloud.do("createSnapshot", volumeid=ident)["id"]
    copy = cloud.do("createVolume", snapshotid=snapshot, size=9, name="copy")
    assert (copy["state"], copy["size"]) == ("Ready", GIB)  # the size is ignored [160]
    with open(os.path.join(cloud.dir, "volumes", copy["id"] + ".raw"), "rb") as file:
        assert file.read(6) == b"before"
    cloud.do("detachVolume", id=ident)
    refused(531, "has snapshots. Remove", cloud.call, "assignVolume", volumeid=ident,
            accountid=cloud.call("listAccounts", name="tenant")["account"][0]["id"])
    assert cloud.wait(cloud.call("deleteSnapshot", id=snapshot))["jobresult"] == {"success": True}
    refused(431, "is already destroyed$", cloud.do, "deleteSnapshot", id=snapshot)
    vm_snapshot = cloud.do("createVMSnapshot", virtualmachineid=site.appliance)["id"]
    refused(431, "specify an Instance that does not have Instance Snapshots", cloud.do, "attachVolume", id=ident,
            virtualmachineid=site.appliance)  # [174]
    cloud.wait(cloud.call("deleteVMSnapshot", vmsnapshotid=vm_snapshot))
    cloud.do("attachVolume", id=ident, virtualmachineid=site.appliance)


def test_owner(site):
    cloud, ident = site.cloud, site.attached()
    tenant = cloud.call("listAccounts", name="tenant")["account"][0]["id"]
    refused(531, "is attached to .* so it cannot be moved", cloud.call, "assignVolume", volumeid=ident, accountid=tenant)
    cloud.do("detachVolume", id=ident)
    assert cloud.call("assignVolume", volumeid=ident, accountid=tenant)["volume"]["account"] == "tenant"
    refused(530, "belong to different accounts", cloud.do, "attachVolume", id=ident, virtualmachineid=site.appliance)
    vm = site.vm(account="tenant", domainid=cloud.state()["domain_id"], networkids=site.nets["tenant-net"])
    cloud.do("attachVolume", id=ident, virtualmachineid=vm)


# -- virtual machines ------------------------------------------------------------------------------------------


def test_root_swap(site):  # [100-117, 130-138, 316]
    cloud, vm = site.cloud, site.vm()
    old, ours, data = site.root(vm)["id"], site.attached(gb=2), site.attached()
    assert cloud.do("detachVolume", id=old)["type"] == "DATADISK"
    refused(530, f"^Unable to create deployment, no usable volumes found for the VM: {vm}$", cloud.do,
            "startVirtualMachine", id=vm)
    for ident in (ours, data):
        cloud.do("detachVolume", id=ident)
    assert cloud.do("attachVolume", id=ours, virtualmachineid=vm, deviceid=0)["type"] == "ROOT"
    refused(431, "^Vm already has root volume attached to it$", cloud.do, "attachVolume", id=old, virtualmachineid=vm,
            deviceid=0)
    cloud.do("attachVolume", id=data, virtualmachineid=vm)
    started = cloud.do("startVirtualMachine", id=vm)
    assert started["state"] == "Running" and started["hostname"]
    assert names(site, vm) == [("ROOT", 0, ours), ("DATADISK", 1, data)]
    with open(os.path.join(cloud.dir, "vms", vm, "boot.json"), encoding="utf-8") as file:
        assert [v["id"] for v in json.load(file)["volumes"]] == [ours, data]
    refused(431, r"is already running$", cloud.do, "startVirtualMachine", id=vm)
    refused(431, "^Root volume detach can happen only when", cloud.do, "detachVolume", id=ours)
    cloud.do("destroyVirtualMachine", id=vm, expunge="true")
    assert cloud.call("listVolumes", id=ours) == {} and not os.path.exists(os.path.join(cloud.dir, "vms", vm))
    assert site.look(data)["state"] == "Ready" and "virtualmachineid" not in site.look(data)
    assert site.look(old)["state"] == "Allocated"


def test_destroy_takes_named_volumes_along(site):  # [555-558, 323-325]
    cloud, vm, kept, gone = site.cloud, site.vm(), site.volume(), site.volume()
    for ident in (kept, gone):
        cloud.do("attachVolume", id=ident, virtualmachineid=vm)
    assert cloud.do("destroyVirtualMachine", id=vm, volumeids=gone)["state"] == "Destroyed"
    refused(431, "^Please specify a VM that is on of the following states", cloud.do, "attachVolume", id=site.volume(),
            virtualmachineid=vm)  # [565]
    assert cloud.wait(cloud.call("expungeVirtualMachine", id=vm))["jobresult"] == {"success": True}
    assert cloud.call("listVolumes", id=gone) == {} and site.look(kept)["state"] == "Ready"


def test_no_capacity_leaves_a_vm_in_error(site):  # [469-473]
    params = site.deploy_params(serviceofferingid=site.service["Huge"], startvm=None)
    refused(533, "^No destination found for a deployment for VM instance", site.cloud.do, "deployVirtualMachine", params)
    left = site.cloud.call("listVirtualMachines", name=params["name"])["virtualmachine"][0]
    assert left["state"] == "Error" and site.root(left["id"])
    assert site.vm(serviceofferingid=site.service["Huge"])
    refused(533, "No destination", site.cloud.do, "startVirtualMachine", id=site.vm(
        serviceofferingid=site.service["Huge"]))


def test_names_and_addresses(site):  # [185-187, 496-498]
    net = site.nets["migration-net"]
    nic = {"iptonetworklist[0].networkid": net, "iptonetworklist[0].ip": "10.1.1.77",
           "iptonetworklist[0].mac": "02:00:11:22:33:44", "networkids": None}
    vm = site.cloud.do("deployVirtualMachine", site.deploy_params(**nic))
    assert (vm["nic"][0]["ipaddress"], vm["nic"][0]["macaddress"]) == ("10.1.1.77", "02:00:11:22:33:44")
    refused(431, "^The requested Mac address is already taken! 02:00:11:22:33:44$", site.vm, **nic)
    refused(533, "Unable to acquire Guest IP", site.vm, networkids=net, ipaddress="10.1.1.77")
    refused(431, "already exists in the network domain: cs2cloud.internal; network=migration-net", site.vm, name=vm["name"])
    refused(431, "Invalid value provided for API arg: name", site.vm, name="bad_name!")
    refused(530, "template ID, volume ID or snapshot ID", site.vm, templateid=None)
    assert len({n["macaddress"] for _ in range(3) for n in
                site.cloud.call("listVirtualMachines", id=site.vm())["virtualmachine"][0]["nic"]}) == 3


def test_details_replace_the_whole_map(site):  # [126-129, 499-501, 520]
    vm, call = site.vm(boottype="UEFI", bootmode="SECURE", **{"details[0].rootDiskController": "scsi"}), site.cloud.call
    row = call("listVirtualMachines", id=vm)["virtualmachine"][0]
    assert row["details"] == {"deployvm": "true", "UEFI": "SECURE", "rootDiskController": "scsi"}
    assert (row["boottype"], row["bootmode"]) == ("Uefi", "secure")
    row = call("updateVirtualMachine", {"id": vm, "details[0].nicAdapter": "virtio"})["virtualmachine"]
    assert row["details"] == {"nicAdapter": "virtio"} and "boottype" not in row
    os_type = call("listOsTypes", description="Debian GNU/Linux 12 (64-bit)")["ostype"][0]["id"]
    row = call("updateVirtualMachine", id=vm, ostypeid=os_type, cleanupdetails="true")["virtualmachine"]
    assert row["details"] == {} and row["ostypeid"] == os_type


def test_start_elsewhere(site):  # [602]
    cloud, vm = site.cloud, site.vm()
    cloud.do("startVirtualMachine", id=vm)
    cloud.do("stopVirtualMachine", id=vm)
    host = next(h["id"] for h in cloud.call("listHosts", type="Routing")["host"] if h["clustername"] == "C1")
    refused(534, "Root volume is ready in different cluster", cloud.do, "startVirtualMachine", id=vm, hostid=host)


# -- races -----------------------------------------------------------------------------------------------------


def test_jobs_of_a_vm_take_turns_in_any_order(slow):  # [237-239]
    idents = [slow.volume() for _ in range(6)]
    slow.cloud.kill()  # without lots: last in, first out shows it at once
    slow.cloud.options += ["--order", "lifo"]
    slow.cloud.start()
    jobs = [slow.cloud.call("attachVolume", id=i, virtualmachineid=slow.appliance)["jobid"] for i in idents]
    rows = [slow.cloud.wait(job) and slow.cloud.state()["jobs"][job] for job in jobs]
    finished = [row["finished_at"] for row in rows]
    assert finished != sorted(finished)
    gaps = [b - a for a, b in zip(sorted(finished), sorted(finished)[1:])]
    assert min(gaps) > 0.1, "two ran at once"


def test_different_vms_run_in_parallel(slow):  # [275]
    vms, idents = [slow.vm() for _ in range(4)], [slow.volume() for _ in range(4)]
    begun = time.monotonic()
    in_parallel(*(lambda v=v, i=i: slow.cloud.do("attachVolume", id=i, virtualmachineid=v) for v, i in zip(vms, idents)))
    assert time.monotonic() - begun < 3 * 0.15 + 0.2


def test_one_volume_two_vms(slow):  # [272]
    ident, vms = slow.attached(), [slow.vm(), slow.vm()]
    slow.cloud.do("detachVolume", id=ident)
    results = in_parallel(*(lambda vm=vm: slow.cloud.do("attachVolume", id=ident, virtualmachineid=vm) for vm in vms))
    assert sorted(isinstance(r, Refused) for r in results) == [False, True]
    loser = next(r for r in results if isinstance(r, Refused))
    assert (loser.code, loser.text.endswith("is in Attaching. It should be in Ready or Allocated state")) == (530, True) \
        or loser.text == "Volume state must be in Allocated, Ready or in Uploaded state"


def test_the_same_attach_twice(slow):  # [274]
    ident = slow.volume()
    results = in_parallel(*[lambda: slow.cloud.do("attachVolume", id=ident, virtualmachineid=slow.appliance)] * 2)
    loser = next(r for r in results if isinstance(r, Refused))
    assert (loser.code, loser.text) in [(530, "This volume is already attached to a VM."),
                                        (431, "Volume state must be in Allocated, Ready or in Uploaded state")]
    assert slow.look(ident)["virtualmachineid"] == slow.appliance


def test_two_detaches_both_succeed(slow):  # [242]
    ident = slow.attached()
    results = in_parallel(*[lambda: slow.cloud.do("detachVolume", id=ident)] * 2)
    assert [r["state"] for r in results] == ["Ready", "Ready"]


def test_two_starts_both_succeed(slow):  # [247]
    vm = slow.vm()
    results = in_parallel(*[lambda: slow.cloud.do("startVirtualMachine", id=vm)] * 2)
    assert [r["state"] for r in results] == ["Running", "Running"]
    assert slow.cloud.state()["vms"][vm]["boots"] == 1


def test_while_it_is_attaching(slow):  # [334]
    ident = slow.attached()
    slow.cloud.do("detachVolume", id=ident)
    slow.cloud.fault("attachVolume", "job-delay", seconds=1)
    job = slow.cloud.call("attachVolume", id=ident, virtualmachineid=slow.appliance)
    end = time.monotonic() + 5
    while slow.look(ident)["state"] != "Attaching" and time.monotonic() < end:
        time.sleep(0.01)
    refused(530, r"to \[DestroyRequested\] due to \[Unable to transition to a new state from Attaching", slow.cloud.call,
            "deleteVolume", id=ident)
    refused(431, "^Volume state must be in Allocated", slow.cloud.do, "attachVolume", id=ident, virtualmachineid=slow.vm())
    refused(431, "^The specified volume is not attached", slow.cloud.do, "detachVolume", id=ident)
    refused(431, "is not in Ready state but Attaching", slow.cloud.call, "createSnapshot", volumeid=ident)
    assert slow.cloud.wait(job)["jobstatus"] == 1


def test_changes_that_overlap_are_noted(slow):
    cloud, vm = slow.cloud, slow.vm()
    first, second, third = (slow.volume() for _ in range(3))
    cloud.do("attachVolume", id=first, virtualmachineid=vm)
    cloud.do("detachVolume", id=first)
    assert not [e for e in cloud.state()["events"] if e["kind"] == "overlap"]
    jobs = [cloud.call("attachVolume", id=first, virtualmachineid=vm), cloud.call("attachVolume", id=second, virtualmachineid=vm)]
    for job in jobs:
        cloud.wait(job)
    jobs = [cloud.call("detachVolume", id=first), cloud.call("startVirtualMachine", id=vm),
            cloud.call("attachVolume", id=third, virtualmachineid=slow.appliance)]
    for job in jobs:
        cloud.wait(job)
    assert [(e["subject"], e["running"], e["command"]) for e in cloud.state()["events"] if e["kind"] == "overlap"] == \
        [(vm, "attachVolume", "attachVolume"), (vm, "detachVolume", "startVirtualMachine")]
