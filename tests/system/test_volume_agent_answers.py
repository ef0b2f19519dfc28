# SPDX-License-Identifier: Apache-2.0
"""What becomes of an operation when CloudStack answers with an error: which are tried again, which end it, and what people read."""
import uuid

import pytest

from lib_agent import GIB, cloud, leader  # noqa: F401

EXPIRY = {"call_expiry": "3s", "cloudstack_timeout": "3s"}
RETRYABLE, PERMANENT = 1, 2
ENDS = [  # code, CloudStack's text, ours, what else the message says
    (401, "unable to verify user credentials", "DRV-CLOUDSTACK-KEY", "check the key file, the clocks of both machines"),
    (430, "malformed", "DRV-CLOUDSTACK-REFUSED", ""),
    (431, "Unable to find a valid parameter", "DRV-CLOUDSTACK-REFUSED", ""),
    (432, "The user is not allowed to request the API command", "DRV-CLOUDSTACK-ROLE", ""),
    (531, "Acct does not have permission to operate", "DRV-CLOUDSTACK-OWNER", ""),
    (533, "No suitable storage pool", "DRV-CLOUDSTACK-CAPACITY", ""),
    (535, "Maximum amount of resources", "DRV-CLOUDSTACK-CAPACITY", ""),
]


def create(leader):
    return leader.operation("create_volume", name="v", size_bytes=GIB, custom_id=str(uuid.uuid4()))


def test_errors_that_end_an_operation(leader):
    """By the answer to a call that changes something, and by that to a question; once, and in CloudStack's own words."""
    leader.agent()
    for number, (code, text, ours, more) in enumerate(ENDS):
        command = "createVolume" if number % 2 else "listDiskOfferings"
        before = len(leader.cloud.requests("createVolume"))
        leader.cloud.fault(command, "error", code=code, text=text)
        error = leader.failed(create(leader))
        assert (error.error_class, error.code) == (PERMANENT, ours)
        assert f"CloudStack {command}: {text} ({code})" in error.message and more in error.message
        assert "attempt" not in error.message and len(leader.cloud.requests("createVolume")) == before + number % 2
    assert not leader.changes()
    log = leader.agents[0].log.read_text()
    assert leader.cloud.secret not in log and leader.cloud.key not in log


@pytest.mark.parametrize("command,action,more", [
    ("createVolume", "error", {"code": 530, "text": "Internal error executing command"}), ("createVolume", "throttle", {}),
    ("listVolumes", "throttle", {}), ("listVolumes", "error", {"code": 530, "text": "Internal error"}),
    ("queryAsyncJobResult", "throttle", {})])
def test_errors_that_pass(leader, command, action, more):
    """Tried again until it works, with pauses, and done once."""
    leader.agent(**EXPIRY)
    leader.cloud.fault(command, action, count=2, **more)
    leader.done(create(leader))
    assert [f["hits"] for f in leader.cloud.state()["faults"]] == [2]
    made = [v for v in leader.cloud.call("listVolumes", listall="true", name="v").get("volume", []) if v["state"] != "Destroy"]
    assert len(made) == 1 and leader.changes("createVolume")


@pytest.mark.parametrize("action,more,ours,text", [
    ("error", {"code": 530, "text": "Internal error executing command"}, "DRV-CLOUDSTACK-FAILED", "Internal error executing command (530)"),
    ("throttle", {}, "DRV-CLOUDSTACK-BUSY", "(429)")])
def test_errors_that_do_not_pass(leader, action, more, ours, text):
    """After so many attempts it is said what was wrong, and that it might work another time."""
    leader.agent(max_attempts=3, **EXPIRY)
    leader.cloud.fault("createVolume", action, count=50, **more)
    error = leader.failed(create(leader), 60)
    assert (error.error_class, error.code) == (RETRYABLE, ours) and text in error.message
    assert len(leader.cloud.requests("createVolume")) == 3
    leader.cloud.control("reset", {})
    leader.do("create_volume", name="v", size_bytes=GIB, custom_id=str(uuid.uuid4()))


def test_an_answer_of_something_in_between(leader):
    """A proxy's page is no word of CloudStack's: nothing is concluded from it, whatever its status."""
    leader.agent(**EXPIRY)
    for status in (401, 431, 502):
        leader.cloud.fault("createVolume", "http", status=status, text="<html>gateway</html>")
        leader.done(create(leader))
    assert len(leader.changes("createVolume")) >= 3


def test_an_answer_that_comes_too_late(leader):
    """The call was refused in the end, since its signature had died: that is no wrong key, and it is signed anew."""
    leader.agent(**EXPIRY)
    leader.cloud.fault("createVolume", "delay", seconds=4)  # the answer is given up before it comes
    leader.done(create(leader))
    assert len(leader.changes("createVolume")) >= 1
