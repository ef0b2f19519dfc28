# SPDX-License-Identifier: Apache-2.0
"""The vSphere client against a vCenter stand-in: each call, and what goes wrong in it."""

import http.server
import subprocess
import threading

import pytest
from fleet import wait_for
from lib_vcsim import disk, vm
from lib_vsphere_probe import CallFailed, Probe

KEY = 2000


@pytest.fixture
def vcsim(make_vcsim):
    return make_vcsim(vms=[vm("web", disks=[disk("8M"), disk("4M", thin=True)], firmware="efi", guest_id="debian12_64Guest",
                              nics=[{}]),
                           vm("db", disks=[disk("4M")])])


@pytest.fixture
def probe(vcsim):
    with Probe(vcsim.vcenters) as opened:
        yield opened


def moref(vcsim, name="web"):
    return vcsim.vm(name)["moref"]


def failure(probe, *call):
    with pytest.raises(CallFailed) as caught:
        probe.call(*call)
    return caught.value


def done(vcsim, method):
    """Calls of METHOD that were executed."""
    return [c for c in vcsim.calls(method) if c["done"] and not c["fault"]]


def ranges_of(areas):
    return [tuple(a) for a in areas]


def start_tracking(probe, web):
    """Tracking begins with the first snapshot after it was enabled."""
    probe.call("set_change_tracking", web, True)
    probe.call("remove_snapshot", probe.call("create_snapshot", web, "begin", "", False))


# ---- each call, when all goes well

def test_vsphere_inventory(vcsim, probe):
    vms = probe.call("vms", "")
    assert [v["name"] for v in vms] == ["db", "web"], "by inventory path"
    web = vms[1]
    assert web["inventory_path"].endswith("/vm/web")
    assert (web["firmware"], web["guest_id"]) == ("efi", "debian12_64Guest")
    assert [(d["key"], d["capacity_bytes"], d["thin"]) for d in web["disks"]][0][:2] == (KEY, 8 << 20)
    assert len(web["disks"]) == 2 and web["disks"][1]["thin"] and web["disks"][1]["capacity_bytes"] == 4 << 20
    assert web["disks"][0]["backing_path"].startswith("[") and web["disks"][0]["controller"]
    assert web["host_address"] and web["nics"][0]["mac"] and web["nics"][0]["network"]
    assert [d["moref"] for d in web["datastores"]] == [web["disks"][0]["datastore"]]
    assert web["datastores"][0]["free_bytes"] > 0
    assert probe.call("vm", web["moref"], web["instance_uuid"]) == web
    for name in (web["instance_uuid"], web["moref"], "w?b", "*/vm/web"):
        assert [v["name"] for v in probe.call("vms", name)] == ["web"]
    assert probe.call("vms", "nobody") == []


def test_vsphere_inventory_of_several_pages(make_vcsim):
    names = [f"vm-{n:03}" for n in range(230)]
    vcsim = make_vcsim(vms=[vm(name, disks=[disk("64K")]) for name in names])
    with Probe(vcsim.vcenters) as probe:
        assert [v["name"] for v in probe.call("vms", "")] == names
        assert len(done(vcsim, "ContinueRetrievePropertiesEx")) >= 1
        rule = vcsim.rule("ContinueRetrievePropertiesEx", act="expire")
        assert [v["name"] for v in probe.call("vms", "")] == names, "none twice, although the first page came twice"
        assert vcsim.hits(rule) == 1


def test_vsphere_vm_that_is_gone_or_another(vcsim, probe):
    for call in (("vm", "vm-99999", ""), ("vm", moref(vcsim), "50000000-0000-0000-0000-000000000000"),
                 ("snapshot_disks", "snapshot-99999")):
        caught = failure(probe, *call)
        assert (caught.code, caught.error_class) == ("DRV-VCENTER-GONE", "permanent"), caught


def test_vsphere_missing_privileges(vcsim, probe):
    assert probe.call("missing_privileges", moref(vcsim)) == []
    vcsim.deny("VirtualMachine.State.CreateSnapshot")
    assert probe.call("missing_privileges", moref(vcsim)) == ["VirtualMachine.State.CreateSnapshot"]
    caught = failure(probe, "create_snapshot", moref(vcsim), "a", "", False)
    assert caught.code == "DRV-VCENTER-RIGHTS" and "VirtualMachine.State.CreateSnapshot" in str(caught)


def test_vsphere_change_tracking(vcsim, probe):
    """From an untracked VM to the areas that changed between two snapshots, more of them than one call returns."""
    web = moref(vcsim)
    assert probe.call("vm", web, "")["disks"][0]["change_id"] == ""
    start_tracking(probe, web)
    first = probe.call("create_snapshot", web, "drover-1", "Drover: job <1> & co", False)
    assert vcsim.snapshots("web")[0]["moref"] == first
    assert probe.call("vm", web, "")["snapshots"][0]["description"] == "Drover: job <1> & co"
    before = probe.call("snapshot_disks", first)
    assert [d["change_id"] for d in before] == [vcsim.snapshots("web")[0]["change_ids"][d["key"]] for d in before]
    probe.call("remove_snapshot", first)
    assert vcsim.snapshots("web") == []
    probe.call("remove_snapshot", first)  # gone already

    grain, capacity = 65536, 8 << 20
    wanted = [(n * grain, grain) for n in range(0, capacity // grain, 2)]
    vcsim.writes("web", KEY, [(offset + 512, 512) for offset, _ in wanted])
    vcsim.ctl("POST", "/ctl/settings", {"max_areas": 3})
    second = probe.call("create_snapshot", web, "drover-2", "", False)
    areas = probe.call("changed_areas", web, second, KEY, before[0]["change_id"], capacity)
    assert ranges_of(areas) == wanted
    assert len(done(vcsim, "QueryChangedDiskAreas")) >= len(wanted) // 3
    assert probe.call("changed_areas", web, second, 2001, before[1]["change_id"], 4 << 20) == []
    allocated = probe.call("changed_areas", web, second, KEY, "*", capacity)
    assert all(offset + length <= capacity for offset, length in allocated)
    assert {offset for offset, _ in wanted} <= {n for offset, length in allocated for n in range(offset, offset + length, grain)}
    probe.call("consolidate", web)


def test_vsphere_more_than_2000_areas(make_vcsim):
    vcsim = make_vcsim(vms=[vm("web", disks=[disk("8M")])], grain=512)
    with Probe(vcsim.vcenters) as probe:
        web, capacity = moref(vcsim), 8 << 20
        start_tracking(probe, web)
        first = probe.call("create_snapshot", web, "a", "", False)
        before = probe.call("snapshot_disks", first)[0]["change_id"]
        wanted = [(offset, 512) for offset in range(0, capacity, 2048)]
        vcsim.writes("web", KEY, wanted)
        probe.call("remove_snapshot", first)
        second = probe.call("create_snapshot", web, "b", "", False)
        assert ranges_of(probe.call("changed_areas", web, second, KEY, before, capacity)) == wanted
        assert len(wanted) == 4096 and len(done(vcsim, "QueryChangedDiskAreas")) == 3


def test_vsphere_change_ids_that_are_not_known(vcsim, probe):
    web = moref(vcsim)
    snapshot = probe.call("create_snapshot", web, "untracked", "", False)
    caught = failure(probe, "changed_areas", web, snapshot, KEY, "*", 8 << 20)
    assert (caught.code, caught.error_class) == ("DRV-SOURCE-NO-CHANGE-TRACKING", "permanent"), caught
    probe.call("remove_snapshot", snapshot)
    start_tracking(probe, web)
    snapshot = probe.call("create_snapshot", web, "a", "", False)
    known = probe.call("snapshot_disks", snapshot)[0]["change_id"]
    probe.call("changed_areas", web, snapshot, KEY, known, 8 << 20)
    vcsim.reset_cbt("web")
    probe.call("remove_snapshot", snapshot)
    snapshot = probe.call("create_snapshot", web, "b", "", False)
    asked = len(vcsim.calls("QueryChangedDiskAreas"))
    assert failure(probe, "changed_areas", web, snapshot, KEY, "nonsense", 8 << 20).code == "DRV-SOURCE-CHANGE-ID"
    assert len(vcsim.calls("QueryChangedDiskAreas")) == asked, "what is no change id is not asked for"
    for change_id in (known, "52 3c ec 11 9e 2c 4c 3d-87 4a c3 4e 85 f2 ea 95/1"):
        caught = failure(probe, "changed_areas", web, snapshot, KEY, change_id, 8 << 20)
        assert (caught.code, caught.error_class) == ("DRV-SOURCE-CHANGE-ID", "permanent"), caught


def test_vsphere_power_and_guard(vcsim, probe):
    web = moref(vcsim)
    probe.call("guard", web, False, "migrated <away>")
    now = probe.call("vm", web, "")
    assert [n["connected"] for n in now["nics"]] == [False] * len(now["nics"])
    assert now["annotation"] == "migrated <away>" and now["nics"][0]["mac"] and now["nics"][0]["network"]
    calls = len(vcsim.calls("ReconfigVM_Task"))
    probe.call("guard", web, False, "migrated <away>")
    assert len(vcsim.calls("ReconfigVM_Task")) == calls, "nothing to change, nothing asked"
    probe.call("power_off", web)
    assert probe.call("vm", web, "")["power_state"] == "poweredOff"
    assert failure(probe, "power_off", web).code == "DRV-VCENTER-STATE"
    probe.call("guard", web, True, None)
    probe.call("power_on", web)
    now = probe.call("vm", web, "")
    assert now["power_state"] == "poweredOn" and now["annotation"] == "migrated <away>"
    probe.call("shutdown_guest", web)
    wait_for(lambda: probe.call("vm", web, "")["power_state"] == "poweredOff", 60, "The guest's shutdown")


# ---- sessions

def test_vsphere_session_ends_with_its_client(vcsim):
    with Probe(vcsim.vcenters):
        assert len(vcsim.sessions()) == 1
    assert vcsim.sessions() == []


def test_vsphere_session_is_kept_alive(make_vcsim):
    vcsim = make_vcsim(idle="4s")
    with Probe(vcsim.vcenters) as probe:
        probe.call("keep_alive", 200)
        wait_for(lambda: len(vcsim.calls("CurrentTime")) >= 25, 120, "25 signs of life")
        probe.call("vms", "")
    assert len(vcsim.calls("Login")) == 1


def test_vsphere_session_is_shared_by_turns(vcsim, probe):
    """While one thread waits for a task, others read on the same session."""
    rule = vcsim.rule("CreateSnapshot_Task", where="task", run_ms=600000)
    before = len(done(vcsim, "RetrievePropertiesEx"))
    probe.start("crowd", moref(vcsim), "busy", "", False)
    wait_for(lambda: len(done(vcsim, "RetrievePropertiesEx")) >= before + 20, 120, "Twenty reads beside a running task")
    assert vcsim.snapshots("web") == [] and vcsim.hits(rule) == 1
    vcsim.clear(rule)
    assert probe.finish() == 0


def operations(vcsim, probe):
    """Name -> (call, what undoes it): all that the client does."""
    web = moref(vcsim)
    start_tracking(probe, web)
    kept = probe.call("create_snapshot", web, "kept", "", False)
    change_id = probe.call("snapshot_disks", kept)[0]["change_id"]
    made = []

    def create():
        made.append(probe.call("create_snapshot", web, f"n{len(made)}", "", False))

    def remove():
        probe.call("remove_snapshot", made.pop())

    return [
        (lambda: probe.call("vms", ""), None),
        (lambda: probe.call("vm", web, ""), None),
        (lambda: probe.call("missing_privileges", web), None),
        (lambda: probe.call("snapshot_disks", kept), None),
        (lambda: probe.call("changed_areas", web, kept, KEY, change_id, 8 << 20), None),
        (lambda: probe.call("wait_idle", web), None),
        (lambda: probe.call("consolidate", web), None),
        (create, remove),
        (lambda: probe.call("guard", web, False, "x"), lambda: probe.call("guard", web, True, "y")),
        (lambda: probe.call("power_off", web), lambda: probe.call("power_on", web)),
    ]


CHANGING = ("ReconfigVM_Task", "CreateSnapshot_Task", "RemoveSnapshot_Task", "PowerOffVM_Task", "PowerOnVM_Task",
            "ConsolidateVMDisks_Task")


def test_vsphere_session_expires_in_each_call(vcsim, probe):
    """Before the first, second, … exchange of every operation; nothing that changes something is done twice."""
    expired = 0
    for operation, undo in operations(vcsim, probe):
        for step in (s for s in (operation, undo) if s):
            for i in range(20):
                if i > 0 and undo:  # the same state again
                    (undo if step is operation else operation)()
                changes = sum(len(done(vcsim, m)) for m in CHANGING)
                rule = vcsim.rule("*", act="expire", skip=i)
                step()
                hit = vcsim.hits(rule)
                vcsim.clear(rule)
                assert sum(len(done(vcsim, m)) for m in CHANGING) <= changes + 1
                if not hit:
                    break
                expired += 1
            assert 0 < i < 19
    assert expired >= 40


def test_vsphere_login_is_not_repeated_for_ever(vcsim, probe):
    vcsim.rule("*", act="expire", count=0)
    before = len(vcsim.calls("Login"))
    caught = failure(probe, "vm", moref(vcsim), "")
    assert caught.error_class == "retryable", caught
    assert len(vcsim.calls("Login")) - before <= 2
    vcsim.clear()
    assert probe.call("vm", moref(vcsim), "")["name"] == "web"


def test_vsphere_wrong_password_is_tried_once(vcsim):
    wrong = vcsim.dir / "wrong"
    wrong.write_text("not it\n")
    wrong.chmod(0o600)
    with Probe(vcsim.write_vcenters(password_file=wrong), opened=False) as probe:
        caught = failure(probe, "open")
        assert (caught.code, caught.error_class) == ("DRV-VCENTER-LOGIN", "permanent"), caught
        assert "not it" not in str(caught)
    assert len(vcsim.calls("Login")) == 1


# ---- who the server is

def other_authority(directory):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                    directory / "other.key", "-out", directory / "other.crt", "-days", "2", "-subj", "/CN=127.0.0.1"],
                   check=True, capture_output=True)
    return directory / "other.crt"


def test_vsphere_impostors_get_no_password(vcsim):
    cases = [dict(thumbprint="AA:" * 19 + "AA"), dict(thumbprint="AA:" * 31 + "AA"), dict(thumbprint=None),
             dict(thumbprint=None, ca_file=other_authority(vcsim.dir)), dict(thumbprint=None, ca_file="/nowhere.pem")]
    for case in cases:
        with Probe(vcsim.write_vcenters(**case), opened=False) as probe:
            caught = failure(probe, "open")
            assert (caught.code, caught.error_class) == ("DRV-VCENTER-TLS", "permanent"), (case, caught)
            if case.get("ca_file") != "/nowhere.pem":
                assert vcsim.sha256 in str(caught), "the message names the certificate that was shown"
    assert vcsim.calls() == [], "not a byte of SOAP was sent"


def test_vsphere_ways_to_trust(vcsim):
    for case in (dict(), dict(thumbprint=vcsim.sha256.replace(":", "").lower()), dict(thumbprint=None, ca_file=vcsim.cert)):
        with Probe(vcsim.write_vcenters(**case)) as probe:
            assert len(probe.call("vms", "web")) == 1


def test_vsphere_server_that_is_not_there(vcsim):
    with Probe(vcsim.write_vcenters(url="https://127.0.0.1:1/sdk"), opened=False) as probe:
        caught = failure(probe, "open")
        assert (caught.code, caught.error_class) == ("DRV-VCENTER-UNREACHABLE", "retryable"), caught
    with Probe(vcsim.write_vcenters(url=f"https://127.0.0.1:{vcsim.port}/ui"), opened=False) as probe:
        caught = failure(probe, "open")
        assert (caught.code, caught.error_class) == ("DRV-VCENTER-ANSWER", "permanent"), caught


# ---- faults

@pytest.mark.parametrize("where", ["call", "task"])
def test_vsphere_faults_keep_their_meaning(vcsim, probe, where):
    cases = [("NoPermission", "RIGHTS", "permanent"), ("ManagedObjectNotFound", "GONE", "permanent"),
             ("TaskInProgress", "BUSY", "retryable"), ("ConcurrentAccess", "BUSY", "retryable"),
             ("NoDiskSpace", "SPACE", "permanent"), ("InvalidState", "STATE", "permanent"),
             ("InvalidPowerState", "STATE", "permanent"), ("InvalidArgument", "ARGUMENT", "permanent"),
             ("ApplicationQuiesceFault", "QUIESCE", "permanent"), ("Timedout", "TIMEOUT", "retryable"),
             ("SystemError", "FAULT", "retryable"), ("HostNotConnected", "UNREACHABLE", "retryable")]
    for fault, code, error_class in cases:
        vcsim.fault("CreateSnapshot_Task", fault, where=where, message=f"words about {fault}")
        caught = failure(probe, "create_snapshot", moref(vcsim), "a", "", True)
        assert (caught.code, caught.error_class) == (f"DRV-VCENTER-{code}", error_class), caught
        assert f"words about {fault}" in str(caught) and fault in str(caught)
        vcsim.clear()
    vcsim.fault("CreateSnapshot_Task", "NoDiskSpace", where=where, message="")
    assert failure(probe, "create_snapshot", moref(vcsim), "a", "", True).code == "DRV-VCENTER-SPACE"
    assert vcsim.snapshots("web") == []


def test_vsphere_answers_that_do_not_come_whole(vcsim, probe):
    for act in ("truncate", "garbage", "drop", "status-503"):
        rule = vcsim.rule("RetrievePropertiesEx", act=act, where="after", count=0)
        caught = failure(probe, "vm", moref(vcsim), "")
        assert (caught.code, caught.error_class) == ("DRV-VCENTER-UNREACHABLE", "retryable"), (act, caught)
        vcsim.clear(rule)
        assert probe.call("vm", moref(vcsim), "")["name"] == "web"


class Endless(http.server.BaseHTTPRequestHandler):
    """Answers every call with XML that never ends."""

    def do_POST(self):
        self.send_response(200)
        self.end_headers()
        try:
            self.wfile.write(b'<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body>')
            while True:
                self.wfile.write(b"<a>aaaaaaaaaaaa</a>" * 50000)
        except OSError:
            self.server.hung_up = True

    def log_message(self, *_):
        pass


def test_vsphere_answers_are_bounded(vcsim):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/sdk"
        with Probe(vcsim.write_vcenters(url=url), opened=False) as probe:
            caught = failure(probe, "open")
            assert (caught.code, caught.error_class) == ("DRV-VCENTER-ANSWER", "permanent"), caught
            assert "256 MiB" in str(caught)
        wait_for(lambda: getattr(server, "hung_up", False), 60, "The end of the connection")
        server.shutdown()


def test_vsphere_changes_are_sent_once(vcsim, probe):
    """When the answer is lost it is not known whether the snapshot was made: the caller looks, nobody makes another."""
    for act in ("drop", "truncate", "status-503"):
        vcsim.rule("CreateSnapshot_Task", act=act, where="after")
        before = len(vcsim.calls("CreateSnapshot_Task"))
        caught = failure(probe, "create_snapshot", moref(vcsim), act, "", False)
        assert caught.error_class == "retryable", caught
        assert len(vcsim.calls("CreateSnapshot_Task")) == before + 1
        vcsim.clear()
        probe.call("wait_idle", moref(vcsim))
    assert len(probe.call("vm", moref(vcsim), "")["snapshots"]) == 3


def test_vsphere_slow_answers_have_a_deadline(vcsim):
    with Probe(vcsim.write_vcenters(call_timeout="1s")) as probe:
        vcsim.rule("RetrievePropertiesEx", delay_ms=60000)
        caught = failure(probe, "vm", moref(vcsim), "")
        assert (caught.code, caught.error_class) == ("DRV-VCENTER-TIMEOUT", "retryable"), caught
        vcsim.clear()


def test_vsphere_lease_is_asked_before_each_change(vcsim, probe):
    web = moref(vcsim)
    before = len(vcsim.calls())
    for call in (("set_change_tracking", web, True), ("create_snapshot", web, "a", "", False), ("remove_snapshot", "snapshot-1"),
                 ("consolidate", web), ("power_on", web), ("power_off", web), ("shutdown_guest", web), ("guard", web, False, "x")):
        caught = failure(probe, *call, {"may_go_on": False})
        assert (caught.code, caught.error_class) == ("DRV-FENCED", "fenced"), (call, caught)
    assert {c["method"] for c in vcsim.calls(since=before)} <= {"RetrievePropertiesEx", "ContinueRetrievePropertiesEx"}


# ---- waiting for tasks

def test_vsphere_tasks_take_as_long_as_they_do(vcsim):
    """Longer than the deadline of a call, through the end of the session, a dropped connection and a proxy's 503."""
    with Probe(vcsim.write_vcenters(call_timeout="1s")) as probe:
        rule = vcsim.rule("CreateSnapshot_Task", where="task", queued_ms=1500, run_ms=600000)
        probe.start("create_snapshot", moref(vcsim), "slow", "", False)
        for act in ("expire", "drop", "status-503", "truncate"):
            trouble = vcsim.rule("WaitForUpdatesEx", act=act)
            wait_for(lambda: vcsim.hits(trouble), 60, f"{act} of a wait")
            vcsim.clear(trouble)
        known = len(vcsim.calls("WaitForUpdatesEx"))
        wait_for(lambda: len(vcsim.calls("WaitForUpdatesEx")) > known + 1, 60, "The wait after all that")
        vcsim.clear(rule)
        assert probe.finish() == vcsim.snapshots("web")[0]["moref"]
        assert {"queued", "running"} <= {state for _, state, _ in probe.told}, probe.told
        assert any(reason for _, state, reason in probe.told if state == "queued")
        assert all(-1 <= percent <= 100 for percent, _, _ in probe.told)
    assert len(vcsim.calls("CreateSnapshot_Task")) == 1


def test_vsphere_tasks_may_be_forgotten(vcsim, probe):
    """As after a restart of vCenter: whether it was done must be looked up, so the error is none that ends a migration."""
    vcsim.fault("CreateFilter", "ManagedObjectNotFound")
    caught = failure(probe, "create_snapshot", moref(vcsim), "a", "", False)
    assert (caught.code, caught.error_class) == ("DRV-VCENTER-FAULT", "retryable"), caught
    probe.call("wait_idle", moref(vcsim))
    assert [s["name"] for s in vcsim.snapshots("web")] == ["a"]


def test_vsphere_waits_are_cancelled_at_once(vcsim, probe):
    vcsim.rule("CreateSnapshot_Task", where="task", run_ms=600000)
    caught = failure(probe, "create_snapshot", moref(vcsim), "slow", "", False, {"cancel_after_ms": 500})
    assert caught.error_class == "g-io-error-quark" and "cancelled" in str(caught)
    vcsim.rule("RetrievePropertiesEx", delay_ms=600000)
    caught = failure(probe, "vm", moref(vcsim), "", {"cancel_after_ms": 200})
    assert caught.error_class == "g-io-error-quark"
    vcsim.clear()
    wait_for(lambda: len(vcsim.snapshots("web")) == 1, 60, "The snapshot that nobody waits for")
    assert probe.call("vm", moref(vcsim), "")["snapshots"][0]["name"] == "slow"


def test_vsphere_waits_for_the_tasks_of_others(vcsim, probe):
    rule = vcsim.rule("CreateSnapshot_Task", where="task", run_ms=600000)
    with Probe(vcsim.vcenters) as other:
        other.start("create_snapshot", moref(vcsim), "theirs", "", False)
        wait_for(lambda: vcsim.calls("CreateSnapshot_Task"), 60, "The other's task")
        wait_for(lambda: vcsim.hits(rule), 60, "The other's task to run")
        looks = len(vcsim.calls("WaitForUpdatesEx"))
        probe.start("wait_idle", moref(vcsim))
        wait_for(lambda: len(vcsim.calls("WaitForUpdatesEx")) > looks + 1, 60, "Our wait")
        vcsim.clear(rule)
        other.finish()
        assert probe.finish() is True
    probe.call("create_snapshot", moref(vcsim), "ours", "", False)
    assert [s["name"] for s in vcsim.snapshots("web")] == ["theirs", "ours"]
