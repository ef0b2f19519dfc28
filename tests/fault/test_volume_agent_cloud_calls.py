# SPDX-License-Identifier: Apache-2.0
"""Calls that hand volumes over, grow them, and take, go back to and delete snapshots: without an answer, and with the agent killed."""
import uuid

import pytest

from lib_agent import GIB, cloud, leader, state_name  # noqa: F401
from lib_cloud_objects import EXPIRY, assigned, content, deploy, detached, owner, snapshots, write


@pytest.mark.parametrize("action", ["drop-before", "drop-after", "hang", "error"])
def test_a_call_without_an_answer_is_asked_about(leader, action):
    leader.agent(**EXPIRY)
    volume = leader.volume(attach=False)
    vm = deploy(leader, "tenant")
    leader.cloud.fault("assignVolume", action, **({"code": 530, "text": "try later"} if action == "error" else {}))
    leader.do("attach_to_vm", vm_id=vm, volume_id=volume, device_id=1)
    done = [row for row in leader.changes("assignVolume") if not row[2]["fault"] or action in ("drop-after", "hang")]
    assert len(done) == 1 and owner(leader.site.look(volume)) == "tenant"


@pytest.mark.parametrize("action", ["delay", "hang"])
def test_killed_between_the_intent_and_the_answer(leader, action):
    """`delay`: the call is under way when the agent dies, and takes effect later; `hang`: it took effect, nobody heard of it."""
    agent = leader.agent(**EXPIRY)
    volume = leader.volume(attach=False)
    vm = deploy(leader, "tenant")
    leader.cloud.fault("assignVolume", action, **({"seconds": 1} if action == "delay" else {}))
    ident = leader.operation("attach_to_vm", vm_id=vm, volume_id=volume, device_id=1)
    leader.wait("drover.journal.appliance", lambda _: any(r.command == "assignVolume" and state_name(r) == "INTENT" and r.wanted
                                                          for r in leader.journal(ident)), 40, "the intent to hand it over")
    agent.kill()
    leader.agent(**EXPIRY)
    leader.done(ident)
    assert len(assigned(leader)) <= 2 and owner(leader.site.look(volume)) == "tenant"
    answers = leader.answers()
    effects = [row for _, _, row in leader.changes("assignVolume") if answers.get(row["n"], {}).get("status") == 200]
    assert len(effects) == 1 and leader.site.look(volume)["virtualmachineid"] == vm
    leader.do("destroy_vm", undo=True, vm_id=vm)
    assert owner(leader.site.look(volume)) == "admin"


def test_killed_while_it_is_handed_back(leader):
    """The volume is off the VM and belongs to the tenant still: whoever follows knows of it, although the VM shows nothing."""
    agent = leader.agent(**EXPIRY)
    volume = leader.volume(attach=False)
    vm = deploy(leader, "tenant")
    leader.do("attach_to_vm", vm_id=vm, volume_id=volume, device_id=1)
    leader.cloud.fault("assignVolume", "drop-before")
    ident = leader.operation("destroy_vm", undo=True, vm_id=vm)
    leader.wait("drover.journal.appliance", lambda _: any(r.command == "assignVolume" for r in leader.journal(ident)), 40,
                "the intent to hand it back")
    agent.kill()
    assert owner(leader.site.look(volume)) == "tenant"
    leader.agent(**EXPIRY)
    leader.done(ident)
    assert owner(leader.site.look(volume)) == "admin"


@pytest.mark.parametrize("action", ["drop-after", "job-fail", "job-vanish", "killed"])
def test_it_grows_once_whatever_happens(leader, action):
    agent = leader.agent(**EXPIRY)
    volume = leader.volume()
    if action == "killed":
        leader.cloud.fault("resizeVolume", "job-delay", seconds=2)
    else:
        leader.cloud.fault("resizeVolume", action, **({"code": 530, "text": "Failed to resize"} if action == "job-fail" else {}))
    ident = leader.operation("resize_volume", volume_id=volume, size_bytes=2 * GIB)
    if action == "killed":
        leader.reached(ident, "WAITING")
        agent.kill()
        leader.agent(**EXPIRY)
    assert leader.done(ident).device_size_bytes == 2 * GIB
    assert len(leader.changes("resizeVolume")) == (2 if action == "job-fail" else 1)
    assert leader.site.device(volume)[1] == 2 * GIB // 512


@pytest.mark.parametrize("command,action", [("createSnapshot", "drop-after"), ("createSnapshot", "job-fail"), ("createSnapshot", "job-vanish"),
                                            ("revertSnapshot", "job-vanish"), ("deleteSnapshot", "drop-after")])
def test_each_is_done_once_whatever_happens(leader, command, action):
    leader.agent(**EXPIRY)
    volume = detached(leader)
    write(leader, volume, b"original")
    leader.cloud.fault(command, action, **({"code": 530, "text": "the host is busy"} if action == "job-fail" else {}))
    snapshot = leader.do("create_snapshot", volume_id=volume).snapshot_id
    assert snapshots(leader, volume)[-1:] == [snapshot]
    write(leader, volume, b"changed!")
    leader.do("revert_snapshot", snapshot_id=snapshot)
    assert content(leader, volume) == b"original"
    leader.do("delete_snapshot", snapshot_id=snapshot)
    done = [c[0] for c in leader.changes() if "Snapshot" in c[0]]
    expected = ["createSnapshot", "revertSnapshot", "deleteSnapshot"]
    if action == "job-fail" or command == "revertSnapshot":  # a failed one is repeated, and going back has no effect that can be seen
        expected.insert(expected.index(command), command)
    assert done == expected
    left = leader.cloud.state()["snapshots"].values()
    assert not [s for s in left if s["state"] not in ("Destroyed", "Error")]


def test_killed_in_the_middle_of_a_roll_back(leader):
    agent = leader.agent(**EXPIRY)
    volume = detached(leader)
    vm = str(uuid.uuid4())
    leader.do("deploy_vm", disk="", name="test-failover", custom_id=vm)
    leader.do("swap_root", vm_id=vm, volume_id=volume)
    write(leader, volume, b"original")
    leader.do("create_snapshot", volume_id=volume, vm_id=vm)
    leader.do("start_vm", vm_id=vm)
    write(leader, volume, b"changed!")
    ident = leader.operation("cleanup_test_failover", disk="", vm_id=vm, revert=True)
    for command in ("revertSnapshot", "deleteSnapshot", "destroyVirtualMachine"):
        leader.wait("drover.journal.appliance", lambda _, c=command: any(r.command == c for r in leader.journal(ident)), 60, command)
        agent.kill()
        agent = leader.agent(**EXPIRY)
    leader.done(ident, 60)
    assert content(leader, volume) == b"original" and not snapshots(leader, volume)
    assert leader.site.look(volume)["virtualmachineid"] == leader.site.appliance
    assert not leader.cloud.call("listVirtualMachines", id=vm, listall="true").get("virtualmachine")
