# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the volume agent at any instant, and answers of CloudStack that never come: the log of the double's requests
shows that nothing was done twice and nothing was forgotten."""
import collections
import random
import time
import uuid

import nbd
import pytest

from lib_agent import AGENT, GIB, Double, leader, state_name

EXPIRY_S = 4


@pytest.fixture
def cloud(tmp_path):
    with Double(tmp_path / "cloud", appliance=AGENT, speed=3) as double:
        yield double


def start(leader):
    return leader.agent(call_expiry=f"{EXPIRY_S}s")


def took_effect(leader):
    """(command, object) -> how many calls had an effect: those answered, or sent without an answer, whose job did not fail."""
    jobs = leader.cloud.state()["jobs"]
    answers = leader.answers()
    counts = collections.Counter()
    for command, subject, row in leader.changes():
        job = jobs.get(answers.get(row["n"], {}).get("jobid") or "")
        if not job or job["status"] == 1:  # a vanished one did its work
            counts[command, subject] += 1
    return counts


def whole_migration(leader, job, number):
    """Sends everything that one VM with two disks needs, at once, as a leader that plans ahead. Returns ids, and the
    calls to CloudStack that this takes."""
    root, data, vm = (str(uuid.UUID(int=number << 96 | i << 64 | 7)) for i in (1, 2, 3))
    send = lambda kind, disk, **fields: leader.operation(kind, job=job, disk=disk, operation_id=f"{job}/{disk}/{kind}", **fields)
    sent = []
    for volume, disk in ((root, "disk0"), (data, "disk1")):
        sent.append(send("create_volume", disk, name=f"{job}-{disk}", size_bytes=GIB, custom_id=volume))
        sent.append(send("attach_volume", disk, volume_id=volume, minimum_size_bytes=GIB))
        sent.append(send("open_export", disk, volume_id=volume, generation=1))
    sent.append(send("deploy_vm", "-", name=f"vm{number}", custom_id=vm))
    for volume, disk in ((root, "disk0"), (data, "disk1")):
        sent.append(send("close_export", disk, volume_id=volume, generation=1))
        sent.append(send("detach_volume", disk, volume_id=volume))
    sent.append(send("swap_root", "disk0", vm_id=vm, volume_id=root))
    sent.append(send("attach_to_vm", "disk1", vm_id=vm, volume_id=data, device_id=1))
    sent.append(send("start_vm", "-", vm_id=vm))
    expected = {("createVolume", root): 1, ("createVolume", data): 1, ("deployVirtualMachine", vm): 1,
                ("attachVolume", root): 2, ("attachVolume", data): 2, ("detachVolume", root): 1, ("detachVolume", data): 1,
                ("startVirtualMachine", vm): 1}
    return (root, data, vm), sent, expected


def check(leader, ids, expected):
    """The VM runs from its disks, and every change was made as often as it takes."""
    root, data, vm = ids
    found = leader.cloud.call("listVolumes", virtualmachineid=vm, listall="true")["volume"]
    assert {v["deviceid"]: (v["id"], v["type"]) for v in found} == {0: (root, "ROOT"), 1: (data, "DATADISK")}
    assert leader.cloud.call("listVirtualMachines", id=vm)["virtualmachine"][0]["state"] == "Running"
    counts = took_effect(leader)
    assert {key: n for key, n in counts.items() if key[1] in ids} == expected


@pytest.mark.parametrize("seed", range(3))
def test_kill_at_any_instant(leader, cloud, seed):
    rng = random.Random(f"agent {seed}")
    agent = start(leader)
    leader.ready(agent)
    jobs = [whole_migration(leader, f"job-{n}", n) for n in (1, 2)]
    kills = 0
    last = jobs[0][1][-1], jobs[1][1][-1]
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not all(r and state_name(r[-1]) == "DONE" for r in map(leader.journal, last)):
        seen = len(cloud.requests())
        # An instant after some request, or after none for a while (waiting, journalling, restarting).
        until, wanted = time.monotonic() + rng.uniform(0.2, 3), seen + rng.randint(1, 25)
        while time.monotonic() < until and len(cloud.requests()) < wanted:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.06))
        if kills < 12:
            agent.kill()
            kills += 1
            agent = start(leader)
            leader.ready(agent)
    for ids, sent, expected in jobs:
        for ident in sent:
            leader.done(ident)
    for ids, _, expected in jobs:
        check(leader, ids, expected)
    # Of what is not ours only the two old root disks were touched: detached once, deleted once.
    ours = {ident for ids, _, _ in jobs for ident in ids}
    old = {leader.journal("job-%d/disk0/swap_root" % n)[-1].result.old_root_volume_id for n in (1, 2)}
    assert {key: n for key, n in took_effect(leader).items() if key[1] not in ours} == \
        {(command, volume): 1 for command in ("detachVolume", "deleteVolume") for volume in old}
    assert kills >= 5, "too few kills to mean anything"
    assert not leader.exports(), "an export stayed in the journal"


# ---- single calls, killed where it hurts ---------------------------------------------------------------------------------


def cut(command):
    """What to send, and what must be true after, for one changing COMMAND."""
    return {"createVolume": "create_volume", "attachVolume": "attach_volume", "detachVolume": "detach_volume",
            "deleteVolume": "delete_volume", "deployVirtualMachine": "deploy_vm", "startVirtualMachine": "start_vm",
            "stopVirtualMachine": "stop_vm", "destroyVirtualMachine": "destroy_vm"}[command]


def prepare(leader, command):
    """Brings things to where COMMAND is next; fields of its operation."""
    ident = str(uuid.uuid4())
    if command in ("createVolume", "deployVirtualMachine"):
        return ident, {"name": f"n{ident[:8]}", "custom_id": ident, **({"size_bytes": GIB} if command == "createVolume" else {})}
    if command.endswith("Volume"):
        ident = leader.volume(attach=command == "detachVolume")
        return ident, {"volume_id": ident}
    leader.do("deploy_vm", disk="", name=f"n{ident[:8]}", custom_id=ident)
    if command == "stopVirtualMachine":
        leader.do("start_vm", disk="", vm_id=ident)
    return ident, {"vm_id": ident}


COMMANDS = ["createVolume", "attachVolume", "detachVolume", "deleteVolume", "deployVirtualMachine", "startVirtualMachine",
            "stopVirtualMachine", "destroyVirtualMachine"]


@pytest.mark.parametrize("action", ["drop-before", "drop-after", "job-vanish", "job-lost", "http"])
def test_answers_that_never_come(leader, cloud, action):
    """Each changing call once without a usable answer: done when it was done, repeated only when it was not."""
    start(leader)
    for command in COMMANDS:
        if command == "deleteVolume" and action.startswith("job"):
            continue  # it is synchronous
        if command == "deployVirtualMachine" and action == "job-lost":
            continue  # leaves the VM in Error: see below
        ident, fields = prepare(leader, command)
        before = took_effect(leader)
        cloud.fault(command, action)
        leader.do(cut(command), timeout=60, **fields)
        effects = took_effect(leader) - before
        if action == "drop-before":  # the dropped one is in the log, too
            assert effects == {(command, ident): 2}, (command, effects)
        elif action == "job-lost" and command == "createVolume":
            assert not effects  # the volume was there before the job was lost
        else:
            assert effects == {(command, ident): 1}, (command, effects)


@pytest.mark.parametrize("command", ["createVolume", "attachVolume", "detachVolume", "deployVirtualMachine"])
def test_a_successor_need_not_wait_for_what_it_can_see(leader, cloud, command):
    """Killed between the call and its answer: the effect is seen, so the life of the signature is not waited out."""
    agent = leader.agent(call_expiry="60s")
    ident, fields = prepare(leader, command)
    cloud.fault(command, "hang")
    operation = leader.operation(cut(command), **fields)
    leader.reached(operation, "INTENT")
    deadline = time.monotonic() + 20
    while not leader.changes(command) and time.monotonic() < deadline:
        time.sleep(0.02)
    agent.kill()
    began = time.monotonic()
    leader.agent(call_expiry="60s")
    leader.done(operation, 25)
    assert time.monotonic() - began < 25
    assert took_effect(leader)[command, ident] == 1


def test_a_late_call_cannot_follow_an_undo(leader, cloud):
    """The last attempt breaks off: while the call might still arrive nothing is reported as failed, so nothing is undone."""
    leader.agent(call_expiry=f"{EXPIRY_S}s", max_attempts=1)
    ident = str(uuid.uuid4())
    cloud.fault("createVolume", "drop-before")
    began = time.monotonic()
    create = leader.operation("create_volume", name="late", size_bytes=GIB, custom_id=ident)
    leader.operation("delete_volume", undo=True, volume_id=ident)
    leader.ended(create)
    assert time.monotonic() - began >= EXPIRY_S - 0.5
    leader.done("job-1/disk0/delete_volume/1")
    assert not cloud.call("listVolumes", listall="true", name="late").get("volume")


def test_a_restart_of_cloudstack_fails_nothing(leader, cloud):
    agent = leader.agent(call_expiry=f"{EXPIRY_S}s", max_attempts=2)
    volume = leader.volume()
    cloud.fault("detachVolume", "job-delay", seconds=2)
    running = leader.operation("detach_volume", volume_id=volume)
    leader.reached(running, "WAITING")
    cloud.kill()
    agent_sees = leader.heartbeat(agent, lambda h: not h.agent.cloudstack_reachable)
    waiting = leader.operation("create_volume", job="job-2", name="w", size_bytes=GIB, custom_id=str(uuid.uuid4()))
    leader.reached(waiting, "ACCEPTED")
    time.sleep(5)  # longer than two attempts take
    cloud.start()
    leader.done(running, 60)
    leader.done(waiting, 60)
    assert "virtualmachineid" not in leader.site.look(volume)
    leader.heartbeat(agent, lambda h: h.agent.cloudstack_reachable and h.sequence > agent_sees.sequence)


def test_a_restart_of_cloudstack_during_a_deployment(leader, cloud):
    start(leader)
    vm = str(uuid.uuid4())
    cloud.fault("deployVirtualMachine", "job-delay", seconds=30)
    deploy = leader.operation("deploy_vm", disk="", name="interrupted", custom_id=vm)
    leader.reached(deploy, "WAITING")
    cloud.restart()
    assert leader.done(deploy, 60).vm_state == "Stopped"
    assert len(leader.changes("deployVirtualMachine")) == 1


def test_a_failed_deployment_is_cleaned_up(leader, cloud):
    start(leader)
    vm = str(uuid.uuid4())
    cloud.fault("deployVirtualMachine", "job-fail", code=533, text="Unable to create a deployment: no capacity")
    error = leader.failed(leader.operation("deploy_vm", disk="", name="nowhere", custom_id=vm))
    assert "no capacity" in error.message and error.error_class == 2
    assert cloud.call("listVirtualMachines", id=vm)["virtualmachine"][0]["state"] == "Error"
    leader.do("destroy_vm", undo=True, disk="", vm_id=vm)
    assert not cloud.call("listVirtualMachines", listall="true", name="nowhere").get("virtualmachine")
    assert not cloud.call("listVolumes", listall="true", type="ROOT", virtualmachineid=vm).get("volume")


def test_a_poor_host_and_a_late_device(leader, cloud):
    """The host refuses once, then the device never shows: taken off and plugged in anew."""
    leader.agent(device_timeout="2s")
    volume = leader.volume(attach=False)
    cloud.fault("attachVolume", "job-fail")
    cloud.fault("attachVolume", "hotplug-never")
    result = leader.do("attach_volume", volume_id=volume, minimum_size_bytes=GIB)
    assert result.device_serial == volume.replace("-", "")[:20] and result.device_size_bytes == GIB
    assert leader.site.look(volume)["virtualmachineid"] == leader.site.appliance


def test_refusals_fail_at_once_with_the_words_of_cloudstack(leader, cloud):
    leader.agent()
    cloud.fault("createVolume", "error", code=533, text="Maximum amount of storage has been reached")
    error = leader.failed(leader.operation("create_volume", name="v", size_bytes=GIB, custom_id=str(uuid.uuid4())))
    assert error.error_class == 2 and "Maximum amount of storage has been reached (533)" in error.message
    error = leader.failed(leader.operation("create_volume", name="v", size_bytes=GIB, custom_id=str(uuid.uuid4()),
                                           disk_offering="no such"))
    assert error.code == "DRV-TARGET-DISK-OFFERING" and "no such" in error.message
    error = leader.failed(leader.operation("create_volume", name="v", size_bytes=6 * GIB, custom_id=str(uuid.uuid4()),
                                           disk_offering="Small 5GB"))
    assert error.code == "DRV-TARGET-TOO-SMALL"


def test_sigterm_leaves_the_rest_to_the_next_life(leader, cloud):
    agent = start(leader)
    volume = leader.volume(attach=False)
    cloud.fault("attachVolume", "job-delay", seconds=3)
    attach = leader.operation("attach_volume", volume_id=volume, minimum_size_bytes=GIB)
    leader.reached(attach, "WAITING")
    began = time.monotonic()
    assert agent.stop() == 0 and time.monotonic() - began < 3
    assert state_name(leader.journal(attach)[-1]) == "WAITING"
    start(leader)
    leader.done(attach)
    assert len(leader.changes("attachVolume")) == 1


def test_exports_survive_a_kill_with_generation_and_token(leader, cloud):
    agent = start(leader)
    volume = leader.volume()
    opened = leader.do("open_export", volume_id=volume, generation=4)

    def write(data, offset, generation=4, token=None):
        h = nbd.NBD()
        h.set_export_name(f"{opened.export_name}@{generation}.{token or opened.token}")
        h.connect_tcp(opened.nbd_host, str(opened.nbd_port))
        h.pwrite(data, offset)
        h.flush()

    write(b"before", 0)
    agent.kill()
    with pytest.raises(nbd.Error):
        for _ in range(40):  # nbdkit follows its agent
            write(b"orphan", 4096)
            time.sleep(0.05)
    agent = start(leader)
    leader.heartbeat(agent, lambda h: len(h.agent.exports) == 1)
    write(b"after!", 8192)
    with pytest.raises(nbd.Error):
        write(b"wrong", 0, token="0" * 32)
    newer = leader.do("open_export", volume_id=volume, generation=5)
    assert newer.token != opened.token
    for token in (opened.token, newer.token):
        with pytest.raises(nbd.Error):
            write(b"stale", 0, token=token)
    error = leader.failed(leader.operation("open_export", volume_id=volume, generation=4))
    assert error.error_class == 3
    content = leader.bytes_of(volume).read_bytes()
    assert content[:6] == b"before" and content[8192:8198] == b"after!"
