# SPDX-License-Identifier: Apache-2.0
"""The volume agent is killed while it does what REST clients asked for; the next one ends it, and repeats nothing."""

import random
import signal
import time

import pytest

import fleet as fleet_module
from lib_agent import AGENT, GIB, AgentLeader, Double
from lib_rest import serve

ENDS = {"detachVolume", "destroyVirtualMachine", "attachVolume", "stopVirtualMachine"}


@pytest.fixture
def bench(kafka, tmp_path):
    with Double(tmp_path / "cloud", appliance=AGENT, speed=4) as cloud:
        leader = AgentLeader(kafka, cloud, tmp_path / "agent")
        yield leader, tmp_path
        leader.close()


@pytest.mark.parametrize("seed", range(6))
def test_cleanup_of_a_test_failover_outlives_kills(bench, seed):
    leader, directory = bench
    cloud, site = leader.cloud, leader.site
    options = {"call_expiry": "3s"}
    agent, rest = serve(leader, directory, **options)
    volumes = [rest.done("POST", "/volumes", {"name": f"v{n}", "size_bytes": GIB})["result"]["volume_id"] for n in range(3)]
    vm = site.vm()
    rest.done("POST", f"/volumes/{volumes[0]}/attach-root", {"vm_id": vm})
    for slot, volume in enumerate(volumes[1:], 1):
        rest.done("POST", f"/volumes/{volume}/attach", {"vm_id": vm, "device_id": slot})
    cloud.do("startVirtualMachine", id=vm)
    before = len(leader.changes())

    pick = random.Random(seed)
    assert rest.post("/cleanup/test-failover", {"vm_id": vm}, operation_id="clean").status in (200, 202)
    for _ in range(1 + seed % 3):
        # At a call of its own, or at any moment between them.
        calls = before + pick.randrange(1, 8)
        deadline = time.monotonic() + pick.uniform(0.1, 3)
        while len(leader.changes()) < calls and time.monotonic() < deadline:
            time.sleep(0.005)
        agent.kill()
        agent, rest = serve(leader, directory, port=rest.port, **options)
    record = rest.get("/operations/clean", wait="2m", timeout=150).json
    assert record["state"] == "done", f"{record}\n{leader.tail()}"
    assert sorted(record["result"]["volume_ids"]) == sorted(volumes)

    assert not cloud.call("listVirtualMachines", id=vm, listall="true").get("virtualmachine")
    for volume in volumes:
        assert rest.get(f"/volumes/{volume}").json["attached_to_appliance"]
        assert rest.get(f"/volumes/{volume}/device").status == 200
    # Each thing was asked for once: what a kill may have cut off is looked for before it is asked for again.
    made = [(command, subject) for command, subject, _ in leader.changes()[before:] if command in ENDS]
    for volume in volumes:
        assert made.count(("detachVolume", volume)) == 1 and made.count(("attachVolume", volume)) == 1, made
    assert made.count(("destroyVirtualMachine", vm)) == 1, made
    assert not [e for e in cloud.state()["events"] if e["kind"].startswith("open-at")]
    assert rest.post("/cleanup/test-failover", {"vm_id": vm}, operation_id="clean").json["state"] == "done"
    assert agent.stop() == 0


@pytest.fixture
def broker(work):
    """A broker of its own, which may be paused; (address, its process)."""
    own = fleet_module.Fleet(work / "rest-broker")
    for name in ("log", "tmp"):
        (work / "rest-broker" / name).mkdir(parents=True)
    try:
        own._start_kafka()
        yield own.kafka, own.processes["kafka"]
    finally:
        own.processes["kafka"].kill(signal.SIGCONT)
        own.stop()


def test_a_log_that_does_not_answer_takes_nothing_for_sure(broker, tmp_path):
    """503 with the operation's id; asked again with it, the request is one operation, whether the first one had arrived or not."""
    address, process = broker
    with Double(tmp_path / "cloud", appliance=AGENT, speed=4) as cloud:
        leader = AgentLeader(address, cloud, tmp_path / "agent")
        try:
            agent, rest = serve(leader, tmp_path)
            body = {"name": "unsure", "size_bytes": GIB}
            process.kill(signal.SIGSTOP)
            answer = rest.post("/volumes", body, operation_id="unsure")
            assert answer.status == 503 and answer.json["code"] == "DRV-REST-LOG", answer
            assert answer.json["details"]["operation_id"] == "unsure" and answer.headers["Retry-After"]
            assert rest.get("/health", token=None).status == 200  # all that needs no log is answered
            process.kill(signal.SIGCONT)
            deadline = time.monotonic() + 60
            while (answer := rest.post("/volumes", body, operation_id="unsure", wait="30s")).status == 503:
                assert time.monotonic() < deadline, answer
            assert answer.json["state"] == "done", answer
            assert len(leader.changes("createVolume")) == 1
            assert rest.get("/operations").json["operations"][0]["id"] == "unsure"
            assert agent.stop() == 0
        finally:
            process.kill(signal.SIGCONT)
            leader.close()
