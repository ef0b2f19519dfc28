# SPDX-License-Identifier: Apache-2.0
"""An appliance that is emptied: what its agent remembers and says, and how VMs move to another appliance."""

import json

from fleet import wait_for
from lib_agent import GIB, cloud, leader  # noqa: F401
from lib_appliances import NEW, OLD, agents, change, copying, home, host_of, migrate, rounds, two_appliances
from lib_rest import serve
from observe import CELL, job_hash, make_raw, same_content, volume_path, wait_job


def test_the_agent_remembers_and_tells(leader, tmp_path):  # noqa: F811
    agent = leader.agent()
    volume = leader.volume(GIB)
    leader.heartbeat(agent, lambda h: not h.agent.draining and not h.agent.drained)
    assert not leader.do("drain_appliance", job="admin", disk="", on=True).already_done
    leader.heartbeat(agent, lambda h: h.agent.draining and not h.agent.drained and not h.draining)
    agent.kill()
    agent, rest = serve(leader, tmp_path)
    first = leader.ready(agent)
    assert rest.get("/health").json["appliance"] == "draining"
    assert first.agent.draining and not first.agent.drained  # from its first heartbeat on
    assert leader.do("drain_appliance", job="admin", disk="", on=True).already_done
    # It goes on working for what is still there, and is drained when that is gone.
    leader.do("open_export", volume_id=volume, generation=1, minimum_size_bytes=GIB)
    leader.do("detach_volume", volume_id=volume)
    leader.heartbeat(agent, lambda h: h.agent.draining and h.agent.drained)
    assert rest.get("/health").json["appliance"] == "drained"
    assert b"\ndrover_agent_appliance_drained 1\n" in rest.ask("GET", "/metrics").body
    leader.do("attach_volume", volume_id=volume, minimum_size_bytes=GIB)
    leader.wait("drover.fleet", lambda rs: rs[-1][1].agent.draining and not rs[-1][1].agent.drained, 20, "not drained any more")
    leader.do("detach_volume", volume_id=volume)
    leader.do("drain_appliance", job="admin", disk="", on=False)
    leader.wait("drover.fleet", lambda rs: not rs[-1][1].agent.draining and not rs[-1][1].agent.drained, 20, "in service")
    agent.kill()
    agent = leader.agent()
    assert not leader.ready(agent).agent.draining


def test_what_has_left_is_not_missed(leader):  # noqa: F811
    """Another agent does with it what its jobs want."""
    leader.ready(leader.agent(reconcile_interval=0))

    def differences():
        report = json.loads(leader.do("force_sync", job="compare", disk="", repair=False).report)
        return {(d["kind"], d["volume_id"]) for d in report["differences"]}

    deleted, moved, kept = (leader.volume(job=f"job-{n}") for n in range(3))
    leader.do("drain_appliance", job="admin", disk="", on=True)
    for n, volume in enumerate((deleted, moved)):
        leader.do("detach_volume", job=f"job-{n}", volume_id=volume)
    leader.cloud.call("deleteVolume", id=deleted)
    leader.cloud.do("attachVolume", id=moved, virtualmachineid=leader.site.vm())
    leader.cloud.do("detachVolume", id=kept)
    assert differences() == {("volume-detached", kept)}
    leader.do("drain_appliance", job="admin", disk="", on=False)
    assert differences() == {("volume-detached", kept)}
    # It comes back, and counts again.
    leader.cloud.do("detachVolume", id=moved)
    leader.do("attach_volume", job="job-1", volume_id=moved)
    leader.cloud.do("detachVolume", id=moved)
    assert differences() == {("volume-detached", kept), ("volume-detached", moved)}


def test_vms_move_to_another_appliance(make_fleet, tmp_path):
    fleet = two_appliances(make_fleet)
    images = {job: make_raw(tmp_path / f"{job}.raw", 128, 40, seed=i)
              for i, job in enumerate(("parked", "replicated", "paused", "busy", "late"))}
    migrate(fleet, images["parked"], "parked")
    migrate(fleet, images["replicated"], "replicated")
    wait_job(fleet, "parked")
    wait_job(fleet, "replicated")
    fleet.drover("sync", "replicated", "--interval", "1h")
    wait_for(lambda: rounds(fleet, "replicated") == 2, 60, "The first round after the copy")
    migrate(fleet, images["paused"], "paused", "--bandwidth-limit", "4M")
    wait_for(lambda: copying(fleet, "paused"), 60, "Some of the copy")
    fleet.drover("pause", "paused")
    wait_for(lambda: job_hash(fleet, "paused").get("status") == "paused", 30, "The pause")
    migrate(fleet, images["busy"], "busy", "--bandwidth-limit", "6M")
    wait_for(lambda: copying(fleet, "busy"), 60, "Some of the copy")
    assert host_of(fleet, "replicated") == host_of(fleet, "paused") == host_of(fleet, "busy") == OLD

    fleet.drover("agent", "drain", OLD)
    wait_for(lambda: home(fleet, "replicated") == home(fleet, "paused") == home(fleet, "parked") == NEW, 60, "The moves")
    assert job_hash(fleet, "busy")["status"] == "running" and host_of(fleet, "busy") == OLD  # its round ends first
    assert host_of(fleet, "replicated") != OLD and host_of(fleet, "paused") != OLD
    assert agents(fleet)[OLD]["state"] == "draining" and agents(fleet)[NEW]["state"] == "in-service"
    # A new VM that asks for the old one waits, and is told why.
    migrate(fleet, images["late"], "late")
    wait_for(lambda: "being drained" in fleet.drover("show", "late", check=False).stdout, 30, "The reason")

    fleet.drover("agent", "drain", OLD, "--wait", "120s")
    wait_job(fleet, "busy")
    assert same_content(images["busy"], volume_path(fleet, "busy")) is None
    wait_for(lambda: home(fleet, "busy") == NEW and agents(fleet)[OLD]["state"] == "drained", 30, "The last one")
    assert agents(fleet)[OLD]["open_exports"] == 0

    # Everything goes on at the new one: the copy where it stood, the parked and the replicated one with another round.
    fleet.drover("resume", "paused")
    wait_job(fleet, "paused")
    assert same_content(images["paused"], volume_path(fleet, "paused")) is None
    for job in ("parked", "replicated"):
        change(images[job], CELL + 4096, seed=job)
    before = rounds(fleet, "replicated")
    fleet.drover("sync", "parked")
    fleet.drover("sync", "replicated")
    wait_for(lambda: rounds(fleet, "parked") == 2 and rounds(fleet, "replicated") == before + 1, 60, "The rounds")
    wait_job(fleet, "parked")
    for job in ("parked", "replicated"):
        assert same_content(images[job], volume_path(fleet, job)) is None
    assert host_of(fleet, "replicated") == NEW and agents(fleet)[OLD]["state"] == "drained"
    fleet.drover("agent", "undrain", OLD)
    wait_job(fleet, "late")  # it got its home at last
    assert home(fleet, "late") == OLD and agents(fleet)[OLD]["state"] == "in-service"
