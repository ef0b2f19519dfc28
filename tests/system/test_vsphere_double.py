# SPDX-License-Identifier: Apache-2.0
"""The vCenter of the tests (tests/doubles/vcsim) and its readers (tests/doubles/vddk) hold to what is known of the real ones."""

import http.client
import subprocess
import threading
import time
import xml.etree.ElementTree as tree
from pathlib import Path

import nbd
import pytest

from fleet import wait_for
from lib_soap import Fault, Soap
from lib_vcsim import Vcsim, disk, vddk_plugin, vm

GRAIN = 65536


@pytest.fixture
def lab(make_vcsim):
    vcsim = make_vcsim([vm("web", disks=[disk("8M"), disk("4M")], nics=[{"mac": "00:50:56:01:02:03", "addresses": ["10.0.0.5"]}]),
                        vm("old", disks=[disk("1M")], version="vmx-04"),
                        vm("kept", disks=[disk("1M")], snapshots=["by hand"])], max_areas=3)
    soap = Soap(vcsim)
    soap.login()
    return vcsim, soap


def begin_tracking(soap, moref):
    """Change tracking enabled, and the snapshot taken and removed that makes it begin."""
    soap.task("ReconfigVM_Task", moref, "<spec><changeTrackingEnabled>true</changeTrackingEnabled></spec>")
    soap.remove(soap.snapshot(moref, "begin"))


def covers(areas, offset, length):
    return any(start <= offset and offset + length <= start + size for start, size in areas)


def test_sessions_end_and_calls_are_logged(lab):
    vcsim, soap = lab
    moref = vcsim.vm("web")["moref"]
    assert len(vcsim.sessions()) == 1
    vcsim.expire()
    assert not vcsim.sessions()
    with pytest.raises(Fault, match="NotAuthenticated"):
        soap.snapshot(moref, "x")
    with pytest.raises(Fault, match="InvalidLogin"):
        soap.login(password="wrong")
    soap.login()
    rule = vcsim.rule("CreateSnapshot_Task", act="expire")
    with pytest.raises(Fault, match="NotAuthenticated"):
        soap.snapshot(moref, "x")
    assert vcsim.hits(rule) == 1
    logged = vcsim.calls("Login")
    assert [c["fault"] for c in logged] == ["", "InvalidLogin", ""]
    assert vcsim.password not in str(vcsim.calls())


@pytest.mark.parametrize("name", ["NotAuthenticated", "TaskInProgress", "NoPermission", "ManagedObjectNotFound", "FileFault",
                                  "InvalidState", "ConcurrentAccess", "NoDiskSpace", "ApplicationQuiesceFault"])
def test_every_fault_can_be_had(shared_lab, name):
    vcsim, soap = shared_lab
    vcsim.clear()
    moref = vcsim.vm("web")["moref"]
    vcsim.fault("CreateSnapshot_Task", name, message="because")
    with pytest.raises(Fault, match=f"{name}.*because"):
        soap.snapshot(moref, "x")
    vcsim.fault("CreateSnapshot_Task", name, where="task", message="because")
    with pytest.raises(Fault, match=f"{name}.*because"):
        soap.snapshot(moref, "x")
    assert not vcsim.snapshots("web")


@pytest.fixture(scope="module")
def shared_lab(tmp_path_factory):
    vcsim = Vcsim(tmp_path_factory.mktemp("vcsim"), [vm("web", disks=[disk("1M")])]).start()
    soap = Soap(vcsim)
    soap.login()
    yield vcsim, soap
    vcsim.stop()


def test_requests_must_be_right(shared_lab):
    vcsim, soap = shared_lab
    vcsim.clear()
    moref = vcsim.vm("web")["moref"]
    for inside, words in (("<description>d</description><name>n</name><memory>false</memory><quiesce>false</quiesce>", "out of order"),
                          ("<name>n</name><memory>false</memory>", "quiesce is missing"),
                          ("<name>n</name><memory>false</memory><quiesce>false</quiesce><colour>red</colour>", "unknown")):
        with pytest.raises(Fault, match=f"InvalidRequest.*{words}"):
            soap.call("CreateSnapshot_Task", "VirtualMachine", moref, inside)
    with pytest.raises(Fault, match="InvalidRequest.*SOAPAction"):
        soap.call("CreateSnapshot_Task", "VirtualMachine", moref, "", action="")
    with pytest.raises(Fault, match="InvalidProperty"):
        soap.properties("VirtualMachine", moref, "config.flavour")
    with pytest.raises(Fault, match="ManagedObjectNotFound"):
        soap.call("PowerOffVM_Task", "VirtualMachine", "vm-4711", "")
    assert vcsim.vm("web")["power"] == "poweredOn"


def test_tracking_begins_after_a_snapshot_came_and_went(lab):
    vcsim, soap = lab
    moref = vcsim.vm("web")["moref"]
    soap.task("ReconfigVM_Task", moref, "<spec><changeTrackingEnabled>true</changeTrackingEnabled></spec>")
    first = soap.snapshot(moref, "begin")
    assert vcsim.snapshots("web")[0]["change_ids"] == {2000: "", 2001: ""}
    with pytest.raises(Fault, match="FileFault"):
        soap.areas(moref, first, 2000, "*", 8 << 20)
    soap.remove(first)
    soap.snapshot(moref, "second")
    ids = vcsim.snapshots("web")[0]["change_ids"]
    assert all(ids.values()) and ids[2000].split("/")[0] != ids[2001].split("/")[0]
    with pytest.raises(Fault, match="NotSupported"):
        soap.task("ReconfigVM_Task", vcsim.vm("old")["moref"], "<spec><changeTrackingEnabled>true</changeTrackingEnabled></spec>")
    with pytest.raises(Fault, match="InvalidState"):
        soap.task("ReconfigVM_Task", vcsim.vm("kept")["moref"], "<spec><changeTrackingEnabled>true</changeTrackingEnabled></spec>")


def test_areas_cover_what_was_written_between_snapshots_that_are_gone(lab):
    vcsim, soap = lab
    moref = vcsim.vm("web")["moref"]
    begin_tracking(soap, moref)
    first = soap.snapshot(moref, "one")
    since = vcsim.snapshots("web")[0]["change_ids"][2000]
    files = list(vcsim.snapshots("web")[0]["frozen"].values())
    soap.remove(first)
    writes = [(n * 512 * 1024 + 512, 1024) for n in range(9)]
    vcsim.writes("web", 2000, writes)
    vcsim.write("web", 2000, 7 << 20, 4096, kind="same")
    with open(vcsim.image("web"), "r+b") as image:  # behind the double's back
        image.seek(3 << 19 | 1 << 17)
        image.write(b"x")
    second = soap.snapshot(moref, "two")
    areas, calls = soap.areas(moref, second, 2000, since, 8 << 20)
    assert calls == 4, "three areas a call"
    assert all(start % GRAIN == 0 and size % GRAIN == 0 for start, size in areas)
    assert all(covers(areas, w["offset"], w["length"]) for w in vcsim.journal("web"))
    assert covers(areas, 3 << 19 | 1 << 17, 1)
    assert sum(size for _, size in areas) == 11 * GRAIN
    assert vcsim.frozen("web", "two").read_bytes() == vcsim.image("web").read_bytes()
    assert not any(Path(f).exists() for f in files), "frozen disks go with their snapshot"
    with pytest.raises(Fault, match="InvalidArgument"):
        soap.areas(moref, second, 2000, "52 00/1", 8 << 20)
    soap.remove(second)
    vcsim.reset_cbt("web")
    third = soap.snapshot(moref, "three")
    with pytest.raises(Fault, match="InvalidArgument"):
        soap.areas(moref, third, 2000, since, 8 << 20)


def test_grown_disks_and_lost_writes(make_vcsim):
    vcsim = make_vcsim([vm("web", disks=[disk("1M")], tracking=True)], grain=512)
    soap = Soap(vcsim)
    soap.login()
    moref = vcsim.vm("web")["moref"]
    first = soap.snapshot(moref, "one")
    since = vcsim.snapshots("web")[0]["change_ids"][2000]
    with pytest.raises(ValueError, match="without snapshots"):
        vcsim.grow("web", "2M")
    soap.remove(first)
    vcsim.grow("web", "2M")
    vcsim.write("web", 2000, (2 << 20) - 512, 512)
    vcsim.write("web", 2000, 4096, 512, untracked=True)
    second = soap.snapshot(moref, "two")
    assert soap.areas(moref, second, 2000, since, 2 << 20)[0] == [((2 << 20) - 512, 512)]


def test_the_past_is_remembered(make_vcsim):
    vcsim = make_vcsim([vm("web", disks=[disk("1M")], tracking=True)], grain=512, keep="true")
    soap = Soap(vcsim)
    soap.login()
    moref = vcsim.vm("web")["moref"]
    first = soap.snapshot(moref, "one")
    since = vcsim.snapshots("web")[0]["change_ids"][2000]
    soap.remove(first)
    vcsim.write("web", 2000, 4096, 512)
    second = soap.snapshot(moref, "two")
    soap.areas(moref, second, 2000, since, 1 << 20)
    past = vcsim.history()
    assert [(s["moref"], s["name"], s["vm"], s["removed"]) for s in past["snapshots"]] == [
        (first, "one", "web", True), (second, "two", "web", False)]
    assert past["snapshots"][0]["change_ids"] == {2000: since}
    assert not any(Path(past["snapshots"][0]["frozen"][2000]).read_bytes())
    assert any(Path(past["snapshots"][1]["frozen"][2000]).read_bytes()[4096:4608])
    assert past["answers"] == [{"vm": "web", "key": 2000, "snapshot": second, "since": since, "start": 0,
                                "areas": [{"offset": 4096, "length": 512}]}]


def test_disks_come_and_go(lab):
    vcsim, soap = lab
    moref = vcsim.vm("web")["moref"]
    begin_tracking(soap, moref)
    vcsim.add_disk("web", capacity="1M")
    vcsim.add_disk("web", capacity="1M", mode="independent_persistent")
    vcsim.remove_disk("web", 2001)
    vcsim.move("web", "[datastore1] elsewhere/web.vmdk")
    soap.snapshot(moref, "one")
    taken = vcsim.snapshots("web")[0]
    assert {key: bool(i) for key, i in taken["change_ids"].items()} == {2000: True, 2002: True, 2003: False}
    assert taken["files"][2000] == "[datastore1] elsewhere/web.vmdk"
    vcsim.move("web", "[datastore1] again/web.vmdk")
    assert vcsim.snapshots("web")[0]["files"][2000] == "[datastore1] again/web.vmdk"
    assert vcsim.vm("web")["disks"][0]["file"] == "[datastore1] again/web-000002.vmdk"


def test_tasks_take_time_and_refuse_a_second_one(lab):
    vcsim, soap = lab
    moref = vcsim.vm("web")["moref"]

    def state_of(task, wanted):
        return wait_for(lambda: (s := soap.task_state(task)) and s[0] == wanted and s, 60, f"The task {wanted}")

    rule = vcsim.rule("CreateSnapshot_Task", where="task", queued_ms=600000, reason="others first")
    task = soap.start("CreateSnapshot_Task", moref, soap.SNAPSHOT.format("queued", "false"))
    state_of(task, "queued")
    description = soap.properties("Task", task, "info.description")["info.description"]
    assert "others first" in "".join(description.itertext())
    with pytest.raises(Fault, match="TaskInProgress"):
        soap.snapshot(moref, "other")
    recent = soap.properties("VirtualMachine", moref, "recentTask")["recentTask"]
    assert task in "".join(recent.itertext())
    vcsim.clear(rule)
    soap.finish(task)

    rule = vcsim.rule("CreateSnapshot_Task", where="task", run_ms=20000)
    task = soap.start("CreateSnapshot_Task", moref, soap.SNAPSHOT.format("running", "false"))
    wait_for(lambda: int(state_of(task, "running")[1] or 0) > 0, 60, "Progress of the task")
    vcsim.clear(rule)
    soap.finish(task)
    assert [s["name"] for s in vcsim.snapshots("web")] == ["queued", "running"]


def test_snapshots_quiesce_consolidate_and_form_trees(lab):
    vcsim, soap = lab
    moref = vcsim.vm("web")["moref"]
    vcsim.fault("CreateSnapshot_Task", "ApplicationQuiesceFault", where="task", args={"quiesce": True})
    with pytest.raises(Fault, match="ApplicationQuiesceFault"):
        soap.snapshot(moref, "x", quiesce=True)
    a = soap.snapshot(moref, "a")
    b = soap.snapshot(moref, "b")
    assert [(s["name"], s["parent"], s["files"][2000]) for s in vcsim.snapshots("web")] == [
        ("a", "", "[datastore1] web/web.vmdk"), ("b", a, "[datastore1] web/web-000001.vmdk")]
    assert vcsim.vm("web")["disks"][0]["file"] == "[datastore1] web/web-000002.vmdk"
    vcsim.set_vm("web", leave_deltas=True)
    soap.remove(a)
    assert vcsim.vm("web")["consolidation_needed"]
    assert [(s["moref"], s["parent"]) for s in vcsim.snapshots("web")] == [(b, "")]
    soap.task("ConsolidateVMDisks_Task", moref, "")
    assert not vcsim.vm("web")["consolidation_needed"]
    soap.remove(b)
    with pytest.raises(Fault, match="ManagedObjectNotFound"):
        soap.remove(b)


def test_guests_shut_down_when_they_can(lab):
    vcsim, soap = lab
    moref = vcsim.vm("web")["moref"]
    vcsim.set_vm("web", tools="guestToolsNotRunning")
    with pytest.raises(Fault, match="ToolsUnavailable"):
        soap.call("ShutdownGuest", "VirtualMachine", moref, "")
    vcsim.set_vm("web", tools="guestToolsRunning", shutdown_ms=1)
    soap.call("ShutdownGuest", "VirtualMachine", moref, "")
    deadline = time.monotonic() + 30
    while vcsim.vm("web")["power"] != "poweredOff" and time.monotonic() < deadline:
        time.sleep(0.02)
    with pytest.raises(Fault, match="InvalidPowerState"):
        soap.task("PowerOffVM_Task", moref, "")
    soap.task("PowerOnVM_Task", moref, "")
    assert vcsim.vm("web")["power"] == "poweredOn"


def test_rights_are_taken_away(lab):
    vcsim, soap = lab
    moref = vcsim.vm("web")["moref"]
    vcsim.deny("VirtualMachine.State.CreateSnapshot", vm="web")
    with pytest.raises(Fault, match="NoPermission"):
        soap.snapshot(moref, "x")
    soap.remove(soap.snapshot(vcsim.vm("kept")["moref"], "allowed"))
    answer = soap.call("HasPrivilegeOnEntities", "AuthorizationManager", "AuthorizationManager",
                       f'<entity type="VirtualMachine">{moref}</entity><sessionId>{soap.session}</sessionId>'
                       "<privId>VirtualMachine.State.CreateSnapshot</privId><privId>VirtualMachine.State.RemoveSnapshot</privId>")
    assert [e.text for e in answer.iter() if e.tag.endswith("isGranted")] == ["false", "true"]


def test_readers_are_strict(lab):
    vcsim, soap = lab
    moref = vcsim.vm("web")["moref"]
    vcsim.write("web", 2000, 1 << 20, 512)
    soap.snapshot(moref, "one")
    frozen = vcsim.frozen("web", "one").read_bytes()
    vcsim.write("web", 2000, 2 << 20, 512)

    def refused(name="web", **wrong):
        done = subprocess.run(["nbdkit", "-U", "-", "-r", vddk_plugin(), *vcsim.nbdkit_options(name, "one", **wrong), "--run",
                               "nbdinfo $uri"], capture_output=True, text=True)
        assert done.returncode != 0, wrong
        return done.stderr

    for wrong, words in (({"thumbprint": "00:" * 19 + "00"}, "thumbprint"), ({"thumbprint": vcsim.sha256}, "SHA-1"),
                         ({"password": "no"}, "Insufficient permissions"), ({"user": None}, "missing parameter: user"),
                         ({"libdir": "/tmp"}, "libvixDiskLib"), ({"transports": "smoke"}, "unknown transport"),
                         ({"colour": "red"}, "unknown parameter"), ({"file": vcsim.vm("web")["disks"][0]["file"]}, "not found"),
                         ({"vm": f"moref={vcsim.vm('old')['moref']}"}, "snapshot cannot be found"),
                         ({"snapshot": vcsim.snapshots("kept")[0]["moref"]}, "snapshot cannot be found")):
        assert words in refused(**wrong), wrong

    def connect(**options):
        h = nbd.NBD()
        h.add_meta_context("base:allocation")
        h.connect_command(["nbdkit", "-s", "--exit-with-parent", "-r", str(vddk_plugin()),
                           *map(str, vcsim.nbdkit_options("web", "one", **options))])
        return h

    h = connect(transports="nbdssl:nbd", single_link="true", compression="none")
    extents = []
    h.block_status(8 << 20, 0, lambda context, offset, entries, error: extents.extend(entries))
    # Holes of a single link are not known to be zero; data comes in chunks of 64 KiB.
    assert extents == [1 << 20, 1, GRAIN, 0, (7 << 20) - GRAIN, 1]
    assert h.pread(8 << 20 >> 2, 0) + h.pread(6 << 20, 2 << 20) == frozen
    reader = next(r for r in vcsim.readers() if r["open"])
    assert (reader["vm"], reader["key"], reader["bytes"]) == ("web", 2000, 8 << 20)
    vcsim.command_readers("fail", vm="web")
    with pytest.raises(nbd.Error):
        h.pread(512, 0)
    vcsim.command_readers("stall")
    waker = threading.Timer(0.2, lambda: vcsim.command_readers("run"))
    waker.start()
    assert h.pread(512, 1 << 20) == frozen[1 << 20:(1 << 20) + 512]
    waker.join()
    vcsim.command_readers("die")
    with pytest.raises(nbd.Error):
        h.pread(512, 0)
    wait_for(lambda: not any(r["open"] for r in vcsim.readers()), 30, "The end of the reader")
    vcsim.command_readers("fail", after=512, next=True)
    h = connect()
    h.pread(512, 0)
    with pytest.raises(nbd.Error):
        h.pread(512, 0)
    assert vcsim.readers()[-1]["bytes"] == 512
    vcsim.fault("vddk-open", "FileFault", message="locked", count=0)
    assert "locked" in refused()


def test_hosts_bear_so_many_readers_only(make_vcsim):
    vcsim = make_vcsim([vm("web", disks=[disk("1M"), disk("1M", mode="independent_persistent")], snapshots=["one"],
                           nics=[{"network": "production"}])], nfc_limit=1)
    h = nbd.NBD()
    h.connect_command(["nbdkit", "-s", "--exit-with-parent", "-r", str(vddk_plugin()), *map(str, vcsim.nbdkit_options("web", "one"))])
    with pytest.raises(nbd.Error):
        nbd.NBD().connect_command(["nbdkit", "-s", "--exit-with-parent", "-r", str(vddk_plugin()),
                                   *map(str, vcsim.nbdkit_options("web", "one"))])
    assert list(vcsim.snapshots("web")[0]["frozen"]) == [2000], "independent disks have no part in snapshots"
    h.shutdown()


def test_answers_get_lost_or_spoiled(lab):
    vcsim, soap = lab
    moref = vcsim.vm("web")["moref"]
    for act, trouble in (("drop", http.client.RemoteDisconnected), ("truncate", tree.ParseError), ("status-503", tree.ParseError)):
        vcsim.rule("CreateSnapshot_Task", where="after", act=act)
        with pytest.raises(trouble):
            soap.snapshot(moref, act)
        wait_for(lambda: act in [s["name"] for s in vcsim.snapshots("web")], 30, "The call was executed all the same")
    vcsim.rule("CreateSnapshot_Task", act="drop")
    with pytest.raises(http.client.RemoteDisconnected):
        soap.snapshot(moref, "never")
    vcsim.clear()
    soap.remove(vcsim.snapshots("web")[-1]["moref"])
    assert [s["name"] for s in vcsim.snapshots("web")] == ["drop", "truncate"]
