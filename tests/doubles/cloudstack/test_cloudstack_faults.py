# SPDX-License-Identifier: Apache-2.0
"""Misbehaviour, restarts, the guest's devices and the request log of the double."""
import http.client
import os
import socket
import sys
import time

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cloudstack_harness import GIB, Double, Refused, Site, refused  # noqa: E402

DROPPED = (http.client.RemoteDisconnected, ConnectionResetError)


@pytest.fixture(scope="module", name="shared")
def _shared(tmp_path_factory):
    with Double(tmp_path_factory.mktemp("cloud"), "--seed", "7", speed=20) as cloud:
        yield Site(cloud)


@pytest.fixture(name="site")
def _site(shared):
    shared.cloud.control("reset", {"all": True})
    return shared


@pytest.fixture(name="slow")
def _slow(tmp_path):
    with Double(tmp_path / "cloud", "--seed", "3", speed=1) as cloud:
        yield Site(cloud)


def attach(site, ident):
    return site.cloud.call("attachVolume", id=ident, virtualmachineid=site.appliance)


# -- faults ----------------------------------------------------------------------------------------------------


def test_an_error_on_order(site):
    site.cloud.fault("listVolumes", "error", code=530, text="out of sorts", count=2)
    for _ in range(2):
        refused(530, "^out of sorts$", site.cloud.call, "listVolumes")
    assert "count" in site.cloud.call("listVolumes")


def test_connections_that_break_before_and_after(site):
    ident = site.volume()
    site.cloud.fault("attachVolume", "drop-before", match={"id": ident})
    with pytest.raises(DROPPED):
        attach(site, ident)
    assert "virtualmachineid" not in site.look(ident) and site.cloud.call("listAsyncJobs", listall="true") == {}
    site.cloud.fault("attachVolume", "drop-after", match={"id": ident})
    with pytest.raises(DROPPED):
        attach(site, ident)
    site.device(ident)
    # the caller finds its job by what it works on
    job = site.cloud.call("queryAsyncJobResult", resourcetype="Volume", resourceid=ident)
    assert job["jobstatus"] == 1 and site.look(ident)["virtualmachineid"] == site.appliance


def test_a_fault_matches_only_what_it_names(site):
    one, other = site.volume(), site.volume()
    site.cloud.fault("attachVolume", "error", match={"id": one})
    site.cloud.wait(attach(site, other))
    refused(530, "", attach, site, one)
    with pytest.raises(ValueError, match="unknown action"):
        site.cloud.fault("attachVolume", "explode")


def test_the_host_refuses(site):  # [369-377]
    ident = site.attached()
    site.cloud.do("detachVolume", id=ident)
    site.cloud.fault("attachVolume", "job-fail")
    job = site.cloud.wait(attach(site, ident))
    assert (job["jobstatus"], job["jobresultcode"]) == (2, 530)
    assert job["jobresult"]["errortext"] == \
        "Failed to attach volume data to VM appliance; internal error: unable to find disk on host"
    assert site.look(ident)["state"] == "Ready" and "virtualmachineid" not in site.look(ident)
    site.cloud.wait(attach(site, ident))
    site.cloud.fault("detachVolume", "job-fail")
    refused(530, "^Failed to detach volume data from VM appliance; device is busy$", site.cloud.do, "detachVolume", id=ident)
    assert site.look(ident)["virtualmachineid"] == site.appliance
    assert site.cloud.do("detachVolume", id=ident)["state"] == "Ready"


def test_the_first_attach_fails_at_the_storage(site):  # [353]
    ident = site.volume()
    site.cloud.fault("attachVolume", "job-fail")
    refused(530, rf'^Failed to create volume \[{{"name":"data","uuid":"{ident}"}}\] due to',
            site.cloud.do, "attachVolume", id=ident, virtualmachineid=site.appliance)
    assert site.look(ident)["state"] == "Allocated"


def test_failed_deploy_and_start(site):  # [364, 365]
    params = site.deploy_params()
    site.cloud.fault("deployVirtualMachine", "job-fail", text="no luck")
    refused(530, "^no luck$", site.cloud.do, "deployVirtualMachine", params)
    assert site.cloud.call("listVirtualMachines", name=params["name"])["virtualmachine"][0]["state"] == "Error"
    vm = site.vm()
    site.cloud.fault("startVirtualMachine", "job-fail")
    refused(530, "^Unable to orchestrate the start of VM instance", site.cloud.do, "startVirtualMachine", id=vm)
    assert site.cloud.call("listVirtualMachines", id=vm)["virtualmachine"][0]["state"] == "Stopped"


def test_jobs_that_lie_or_vanish(site):
    cloud, ident = site.cloud, site.volume()
    cloud.fault("attachVolume", "job-fail-after", text="Resource is unreachable")
    refused(530, "^Resource is unreachable$", cloud.do, "attachVolume", id=ident,
            virtualmachineid=site.appliance)
    assert site.look(ident)["virtualmachineid"] == site.appliance
    cloud.fault("detachVolume", "job-vanish")
    job = cloud.call("detachVolume", id=ident)["jobid"]
    with pytest.raises(Refused, match="Invalid parameter jobid"):
        cloud.wait(job)
    assert "virtualmachineid" not in site.look(ident)
    cloud.fault("attachVolume", "job-lost")
    answer = cloud.wait(attach(site, ident))
    assert (answer["jobstatus"], answer["jobresultcode"], "jobresult" in answer) == (2, 530, False)
    assert "virtualmachineid" not in site.look(ident)


def test_a_proxy_and_a_throttle(site):
    site.cloud.fault("listZones", "http", status=503)
    answer = site.cloud.send(site.cloud.signed("listZones"))
    assert answer.status == 503 and answer.body is None
    site.cloud.fault("listZones", "throttle")
    refused(429, r"^The given user has reached his/her account api limit, please retry after \[\d+\] ms.$",
            site.cloud.call, "listZones")


def test_throttling(tmp_path):  # [441]
    with Double(tmp_path, "--throttle", "3/1") as cloud:
        codes = [cloud.user.send(cloud.user.signed("listZones")).status for _ in range(5)]
        assert codes == [200, 200, 200, 429, 429]
        assert {cloud.send(cloud.signed("listZones")).status for _ in range(5)} == {200}
        time.sleep(1.1)
        assert cloud.user.send(cloud.user.signed("listZones")).status == 200


def test_slow_and_hanging_answers(site):
    site.cloud.fault("listZones", "delay", seconds=0.3)
    begun = time.monotonic()
    site.cloud.call("listZones")
    assert time.monotonic() - begun >= 0.3
    site.cloud.fault("createVolume", "hang", seconds=1)
    with pytest.raises(DROPPED + (socket.timeout,)):
        site.volume(name="hung")
    assert site.cloud.call("listVolumes", name="hung")["count"] == 1


# -- devices ---------------------------------------------------------------------------------------------------


def test_devices_come_and_go(site):
    cloud, ident = site.cloud, site.attached(gb=2)
    name, sectors = site.device(ident)
    vm = os.path.join(cloud.dir, "vms", site.appliance)
    assert cloud.appliances["appliance"] == {"id": site.appliance, "dev_root": vm + "/dev", "sysfs_root": vm + "/sys"}
    block = os.path.join(vm, "sys", "block", name)
    assert sectors == 2 * GIB // 512 and os.listdir(os.path.join(block, "holders")) == []
    with open(os.path.join(block, "ro"), encoding="ascii") as file:
        assert file.read() == "0\n"
    with open(os.path.join(vm, "dev", name), "r+b") as device:
        device.write(b"through the device")
    with open(os.path.join(cloud.dir, "volumes", ident + ".raw"), "rb") as file:
        assert file.read(18) == b"through the device"
    cloud.do("detachVolume", id=ident)
    assert not os.path.lexists(os.path.join(vm, "dev", name)) and not os.path.exists(block)
    assert os.path.lexists(os.path.join(vm, "dev", "vda"))  # the appliance's own root stays


def test_letters_do_not_follow_device_ids(site):
    first = site.attached()
    assert (site.look(first)["deviceid"], site.device(first)[0]) == (1, "vdb")
    site.cloud.do("detachVolume", id=first)
    second = site.attached()
    assert (site.look(second)["deviceid"], site.device(second)[0]) == (1, "vdc")
    third = site.attached()
    assert (site.look(third)["deviceid"], site.device(third)[0]) == (2, "vdb")


def test_devices_that_are_late_wrong_or_missing(site):
    cloud = site.cloud
    cloud.fault("attachVolume", "hotplug-late", seconds=0.4)
    late = site.attached()
    with pytest.raises(TimeoutError):
        site.device(late, timeout=0.2)
    site.device(late)
    cloud.fault("attachVolume", "hotplug-never")
    never = site.attached()
    with pytest.raises(TimeoutError):
        site.device(never, timeout=0.3)
    assert site.look(never)["virtualmachineid"] == site.appliance
    cloud.do("detachVolume", id=never)
    cloud.fault("attachVolume", "hotplug-wrong-size")
    assert site.device(site.attached())[1] == GIB // 512 - 8


def test_a_volume_still_open_is_noted(site):
    ident = site.attached()
    site.device(ident)
    with open(os.path.join(site.cloud.dir, "volumes", ident + ".raw"), "rb"):
        site.cloud.do("detachVolume", id=ident)
    events = [e for e in site.cloud.state()["events"] if e["kind"] == "open-at-detach"]
    assert [(e["volume"], os.getpid() in e["pids"]) for e in events] == [(ident, True)]


def test_a_stopped_vm_has_no_devices(site):
    cloud, vm, ident = site.cloud, site.vm(), site.volume()
    cloud.do("attachVolume", id=ident, virtualmachineid=vm)
    cloud.do("startVirtualMachine", id=vm)
    assert sorted(n for n, _ in cloud.devices(vm).values()) == ["vda", "vdb"]
    cloud.do("stopVirtualMachine", id=vm)
    assert cloud.devices(vm) == {}


# -- restarts and the log --------------------------------------------------------------------------------------


def test_kill_in_the_middle(slow):  # [434, 442]
    cloud = slow.cloud
    kept, ready, allocated = slow.attached(), slow.attached(), slow.volume()
    cloud.do("detachVolume", id=ready)
    slow.device(kept)
    cloud.fault("attachVolume", "job-delay", seconds=30, count=2)
    running = attach(slow, ready)["jobid"]
    end = time.monotonic() + 5
    while slow.look(ready)["state"] != "Attaching" and time.monotonic() < end:
        time.sleep(0.02)
    queued = attach(slow, allocated)["jobid"]
    before = len(cloud.requests())
    cloud.restart()
    for job in (running, queued):
        answer = cloud.wait(job)
        assert (answer["jobstatus"], answer["jobresultcode"], "jobresult" in answer) == (2, 530, False)
        assert "completed" in answer and answer["managementserverid"]
    assert (slow.look(ready)["state"], slow.look(allocated)["state"]) == ("Ready", "Allocated")
    assert "virtualmachineid" not in slow.look(ready)
    assert kept.replace("-", "")[:20] in cloud.devices(slow.appliance)
    assert cloud.requests()[before]["n"] == before + 1  # the numbers go on
    cloud.control("reset", {})
    for ident in (ready, allocated):
        cloud.wait(attach(slow, ident))
        slow.device(ident)


def test_kill_between_attach_and_hotplug(tmp_path):
    with Double(tmp_path, speed=1) as cloud:
        site = Site(cloud)
        cloud.fault("attachVolume", "hotplug-late", seconds=60)
        ident = site.attached()
        cloud.restart()
        site.device(ident)  # the guest got it meanwhile


def test_kill_while_starting(slow):
    vm = slow.vm()
    slow.cloud.call("startVirtualMachine", id=vm)
    end = time.monotonic() + 5
    while slow.cloud.state()["vms"][vm]["state"] != "Starting" and time.monotonic() < end:
        time.sleep(0.01)
    slow.cloud.restart()
    assert slow.cloud.call("listVirtualMachines", id=vm)["virtualmachine"][0]["state"] == "Stopped"
    assert slow.cloud.do("startVirtualMachine", id=vm)["state"] == "Running"


def test_many_kills_lose_nothing(tmp_path):
    """Whatever was answered is there after each kill -9."""
    with Double(tmp_path, speed=50) as cloud:
        site, made = Site(cloud), []
        for _ in range(5):
            made += [site.attached(name="kept") for _ in range(3)]
            cloud.call("detachVolume", id=made[-1])
            cloud.restart()
            assert {v["id"] for v in cloud.call("listVolumes", name="kept")["volume"]} == set(made)
            for ident in made:
                row = site.look(ident)
                assert row["state"] == "Ready"
                shown = ident.replace("-", "")[:20] in cloud.devices(site.appliance)
                assert shown == ("virtualmachineid" in row)


def test_the_log_proves_what_was_asked(site):
    before = len(site.cloud.requests("attachVolume"))
    ident = site.attached()
    asked = site.cloud.requests("attachVolume")[before:]
    assert [row["params"]["id"] for row in asked] == [ident]
    assert asked[0]["params"]["signature"] == "<redacted>"
    numbers = [row["n"] for row in site.cloud.requests()]
    assert numbers == list(range(1, len(numbers) + 1))
