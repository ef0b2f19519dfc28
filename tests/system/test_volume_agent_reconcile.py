# SPDX-License-Identifier: Apache-2.0
"""Each kind of difference between journal, CloudStack and machine is planted, and found: repaired where that is safe, else reported;
and what is not the agent's own is never touched."""
import json
import os
import signal
import socket
import time
import uuid
from pathlib import Path

import nbd
import pytest

from lib_agent import AGENT, GIB, AgentLeader, Double, state_name
from lib_rest import serve


@pytest.fixture
def world(kafka, tmp_path):
    with Double(tmp_path / "cloud", appliance=AGENT, speed=10) as cloud:
        leader = AgentLeader(kafka, cloud, tmp_path / "agent")
        yield leader
        leader.close()


def start(leader, **options):
    agent = leader.agent(**{"call_expiry": "4s", "device_timeout": "3s", "reconcile_interval": 0, **options})
    leader.ready(agent)
    return agent


def compare(leader, repair=False):
    """{(kind, volume or VM, repaired)}"""
    report = json.loads(leader.do("force_sync", job="compare", disk="", repair=repair).report)
    return {(d["kind"], d["volume_id"] or d["vm_id"], d["repaired"]) for d in report["differences"]}


def audited(leader, kind, timeout=30):
    return leader.wait("drover.audit", lambda rs: [r for _, r in rs if r.event == "agent.difference" and r.fields["kind"] == kind],
                       timeout, f"an audit record of {kind}")


def plant(leader, table, ident, **fields):
    """Changes the double's state behind everybody's back, as a failure does that no API call of ours can cause."""
    cloud = leader.cloud
    cloud.kill()
    path = f"{cloud.dir}/state.json"
    with open(path, encoding="utf-8") as file:
        state = json.load(file)
    state[table][ident].update(fields)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(state, file)
    cloud.start()


def test_nothing_differs(world):
    start(world)
    for n in range(3):
        world.volume(job=f"job-{n}")
    world.do("deploy_vm", disk="", name="vm", custom_id=str(uuid.uuid4()))
    assert compare(world) == set() and compare(world, True) == set()


def test_volumes(world):
    start(world)
    cloud, site = world.cloud, world.site
    missing, detached, late, destroyed, elsewhere = (world.volume(job=f"job-{n}") for n in range(5))
    stranger, other_vm = site.volume(), site.vm()
    for volume in (late, destroyed):
        world.do("detach_volume", volume_id=volume)
    world.do("open_export", volume_id=detached, generation=1)
    for volume in (missing, detached, elsewhere):
        cloud.do("detachVolume", id=volume)
    cloud.call("deleteVolume", id=missing)
    cloud.do("attachVolume", id=elsewhere, virtualmachineid=other_vm)
    cloud.do("attachVolume", id=late, virtualmachineid=site.appliance)
    cloud.do("attachVolume", id=stranger, virtualmachineid=site.appliance)
    plant(world, "volumes", destroyed, state="Destroy")
    for volume in (late, stranger):
        site.device(volume)

    reported = {("volume-missing", missing), ("volume-detached", detached), ("volume-elsewhere", elsewhere), ("volume-unknown", stranger)}
    repaired = {("volume-attached-late", late), ("volume-in-destroy", destroyed), ("export-volume-elsewhere", detached)}
    before = len(world.changes())
    assert compare(world) == {(*d, False) for d in reported | repaired}
    assert len(world.changes()) == before and detached in world.exports(), "it was only to look"
    assert compare(world, True) == {(*d, False) for d in reported} | {(*d, True) for d in repaired}
    assert compare(world, True) == {(*d, False) for d in reported}
    assert "virtualmachineid" not in site.look(late) and detached not in world.exports()
    assert not cloud.call("listVolumes", listall="true", name="job-3-disk0").get("volume")
    # Not ours, or not ours to decide: untouched.
    assert site.look(stranger)["virtualmachineid"] == site.appliance and site.look(elsewhere)["virtualmachineid"] == other_vm
    assert "virtualmachineid" not in site.look(detached)
    # Its job decides; then nothing differs any more.
    world.do("attach_volume", job="job-1", volume_id=detached)
    world.do("delete_volume", job="job-0", undo=True, volume_id=missing)
    world.do("detach_volume", job="job-4", volume_id=elsewhere)
    assert compare(world, True) == {("volume-unknown", stranger, False)}


def control(leader, line):
    """One request to the agent's nbdkit, as the agent itself makes them."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(leader.run_dir / f"{AGENT}.nbdkit.sock"))
        s.sendall(line.encode() + b"\n")
        return s.makefile().readline()


def client_of(opened, volume, generation=3, token=None):
    h = nbd.NBD()
    h.set_export_name(f"migration-vol-{volume}@{generation}.{token or opened.token}")
    h.connect_tcp(opened.nbd_host, str(opened.nbd_port))
    return h


def lose_at_restart(world, volume):
    """nbdkit dies, and the next one cannot have the device of VOLUME for a moment."""
    node = Path(world.cloud.appliances[AGENT]["dev_root"]) / world.site.device(volume)[0]
    pid_file = world.run_dir / f"{AGENT}.nbdkit.pid"
    before = pid_file.read_text()
    node.rename(node.with_name("away"))
    os.kill(int(before), signal.SIGKILL)
    world.wait("drover.fleet", lambda _: any(line.get("event") == "export.reopen_failed" for line in world.agents[-1].lines()),
               30, "the loss")
    node.with_name("away").rename(node)


def test_what_the_nbd_server_serves(world):
    start(world)
    lost, stray, over, fine = (world.volume(job=f"job-{n}") for n in range(4))
    opened = {v: world.do("open_export", job=f"job-{n}", volume_id=v, generation=3)
              for n, v in ((0, lost), (2, over), (3, fine))}
    lose_at_restart(world, lost)
    client = client_of(opened[fine], fine)
    assert control(world, f"close {over} 3").startswith("ok")
    token = "00112233445566778899aabbccddeeff"
    path = f"{world.cloud.appliances[AGENT]['dev_root']}/{world.site.device(stray)[0]}"
    assert control(world, f"open {stray} 7 {token} 0 {path}").startswith("ok")
    stranger = client_of(opened[fine], stray, 7, token)
    stranger.pwrite(b"x" * 512, 0)

    repaired, reported = {("export-not-served", lost), ("export-served-unknown", stray)}, {("export-not-served", over)}
    assert compare(world) == {(*d, False) for d in repaired | reported}
    stranger.pwrite(b"x" * 512, 0)  # it was only to look
    assert compare(world, True) == {(*d, True) for d in repaired} | {(*d, False) for d in reported}
    with pytest.raises(nbd.Error):
        stranger.pwrite(b"x" * 512, 0)
    again = client_of(opened[lost], lost)  # same generation, same token
    again.pwrite(b"y" * 512, 512)
    again.flush()
    client.pwrite(b"z" * 512, 0)  # nobody else has noticed
    with open(world.bytes_of(lost), "rb") as file:
        assert file.read(1024) == bytes(512) + b"y" * 512
    # The server keeps a generation that it ended out for good: its job's next one is served.
    world.do("open_export", job="job-2", volume_id=over, generation=4)
    assert compare(world, True) == set()


def test_vms_and_old_root_disks(world):
    start(world, max_attempts=1)
    cloud, site = world.cloud, world.site
    keeps, lacks, broken = (str(uuid.uuid4()) for _ in range(3))
    for vm in (keeps, lacks):
        world.do("deploy_vm", job=vm, disk="", name=f"vm-{vm[:8]}", custom_id=vm)
    cloud.fault("deployVirtualMachine", "job-fail", code=533)
    world.failed(world.operation("deploy_vm", job=broken, disk="", name="broken", custom_id=broken))
    # A swap that was given up half way: the old root disk is off, the new one not on.
    roots = {vm: site.root(vm)["id"] for vm in (keeps, lacks)}
    volumes = {vm: world.volume(job=vm, attach=False) for vm in (keeps, lacks)}
    for vm in (keeps, lacks):
        cloud.fault("attachVolume", "job-fail", code=530, match={"id": volumes[vm]})
        world.failed(world.operation("swap_root", job=vm, vm_id=vm, volume_id=volumes[vm]))
        assert "virtualmachineid" not in site.look(roots[vm])
    cloud.do("attachVolume", id=volumes[keeps], virtualmachineid=keeps, deviceid=0)
    left = {("old-root-left", roots[keeps]), ("old-root-left", roots[lacks])}
    assert compare(world) == {(*d, False) for d in left} | {("vm-in-error", broken, False)}
    assert compare(world, True) == {(*d, True) for d in left} | {("vm-in-error", broken, False)}
    assert site.root(lacks)["id"] == roots[lacks], "put back where there is none"
    assert not cloud.state()["volumes"][roots[keeps]]["removed"] is None, "and deleted where there is another one"
    assert site.root(keeps)["id"] == volumes[keeps]
    world.do("destroy_vm", job=broken, undo=True, disk="", vm_id=broken)
    assert compare(world, True) == set()


def test_a_straggler_is_undone_by_the_periodic_comparison(world, tmp_path):
    """CloudStack #14214: the effect of an attach comes after everybody has gone on. Nobody asks for the comparison."""
    agent, rest = serve(world, tmp_path, call_expiry="4s", reconcile_interval="1s")
    late = world.volume()
    world.do("detach_volume", volume_id=late)
    world.cloud.do("attachVolume", id=late, virtualmachineid=world.site.appliance)
    deadline = time.monotonic() + 60
    while "virtualmachineid" in world.site.look(late):
        assert time.monotonic() < deadline, world.tail()
        time.sleep(0.1)
    record = audited(world, "volume-attached-late")[0]
    assert record.fields["volume_id"] == late and record.fields["repaired"] == "yes" and record.process_id == AGENT
    metrics = rest.ask("GET", "/metrics").body.decode()
    assert 'drover_agent_differences_total{kind="volume-attached-late",repaired="yes"} 1' in metrics
    assert any(o["kind"] == "force-sync" and o["requested_by"] == "agent" for o in rest.get("/operations").json["operations"])


def test_a_periodic_comparison_may_be_told_to_look_only(world):
    start(world, reconcile_interval="1s", reconcile_repair="false")
    late = world.volume()
    world.do("detach_volume", volume_id=late)
    world.cloud.do("attachVolume", id=late, virtualmachineid=world.site.appliance)
    assert audited(world, "volume-attached-late")[0].fields["repaired"] == "no"
    assert world.site.look(late)["virtualmachineid"] == world.site.appliance


def test_a_job_that_vanished_is_told(world):
    start(world)
    volume = world.volume(attach=False)
    world.cloud.fault("attachVolume", "job-vanish")
    world.do("attach_volume", volume_id=volume, minimum_size_bytes=GIB)
    assert audited(world, "job-vanished")[0].fields["volume_id"] == volume


def test_operations_that_ended_long_ago_are_forgotten(world, tmp_path):
    options = {"call_expiry": "4s", "reconcile_interval": "1s", "keep_operations": "2s"}
    agent, rest = serve(world, tmp_path, **options)
    kept, gone = world.volume(job="kept"), world.volume(job="gone")
    world.do("open_export", job="kept", volume_id=kept, generation=7)
    old = world.operation("open_export", job="kept", volume_id=kept, generation=8)
    world.done(old)
    world.do("open_export", job="kept", volume_id=kept, generation=9)
    world.do("delete_volume", job="gone", volume_id=gone)

    def left():
        """Operations of the journal, as compaction leaves them."""
        last = {}
        with world.lock:
            for key, record in world.records[f"drover.journal.{AGENT}"]:
                last[key] = record
        return {k[3:] for k, r in last.items() if k.startswith("op/") and r is not None and r.operation.operation.job_id != "reconcile"}

    # Of what still exists the last operation of each kind stays.
    stays = {"kept/disk0/create_volume/1", "kept/disk0/attach_volume/1", "kept/disk0/open_export/3"}
    deadline = time.monotonic() + 60
    while left() != stays:
        assert time.monotonic() < deadline, left()
        time.sleep(0.1)
    assert rest.get("/operations/" + old.replace("/", "%2F")).status == 404
    agent.kill()
    agent, rest = serve(world, tmp_path, port=rest.port, **options)
    assert kept in world.exports() and state_name(world.journal("kept/disk0/attach_volume/1")[-1]) == "DONE"
    assert rest.get("/operations/" + "kept/disk0/open_export/3".replace("/", "%2F")).json["result"]["generation"] == 9
    assert agent.stop() == 0


def test_who_asked_for_what_is_on_record(world, tmp_path):
    agent, rest = serve(world, tmp_path, reconcile_interval=0)
    answer = rest.ask("POST", "/volumes", {"name": "asked", "size_bytes": GIB, "job_id": "of-this"}, operation_id="first", wait="30s")
    volume = answer.json["result"]["volume_id"]
    rest.ask("POST", "/volumes", {"name": "asked", "size_bytes": GIB, "job_id": "of-this"}, operation_id="first")  # is no change
    assert rest.ask("POST", "/volumes", {"name": "refused"}).status == 400
    rest.done("POST", f"/volumes/{volume}/attach")
    rest.done("POST", "/exports", {"volume_id": volume, "job_id": "of-this"})
    token = world.exports()[volume].token

    def records(event):
        return [r for _, r in world.records["drover.audit"] if r.event == event]
    world.wait("drover.audit", lambda _: len(records("rest.change")) >= 3, 30, "the audit records")
    first = records("rest.change")[0]
    assert [r.fields["kind"] for r in records("rest.change")] == ["create-volume", "attach-volume", "open-export"]
    assert first.job_id == "of-this" and first.fields["operation_id"] == "first" and first.fields["requested_by"] == "rest/chief"
    assert first.fields["request_id"] == answer.headers["X-Request-Id"] and first.fields["remote"].startswith("127.0.0.1")
    assert token and not any(token in str(r) for _, r in world.records["drover.audit"])
    assert agent.stop() == 0
