# SPDX-License-Identifier: Apache-2.0
"""An appliance that is emptied: what its agent remembers and says, and how VMs move to another appliance."""

from lib_agent import GIB, cloud, leader  # noqa: F401


def test_the_agent_remembers_and_tells(leader):  # noqa: F811
    agent = leader.agent()
    volume = leader.volume(GIB)
    leader.heartbeat(agent, lambda h: not h.agent.draining and not h.agent.drained)
    assert not leader.do("drain_appliance", job="admin", disk="", on=True).already_done
    leader.heartbeat(agent, lambda h: h.agent.draining and not h.agent.drained and not h.draining)
    agent.kill()
    agent = leader.agent()
    first = leader.ready(agent)
    assert first.agent.draining and not first.agent.drained  # from its first heartbeat on
    assert leader.do("drain_appliance", job="admin", disk="", on=True).already_done
    # It goes on working for what is still there, and is drained when that is gone.
    leader.do("open_export", volume_id=volume, generation=1, minimum_size_bytes=GIB)
    leader.do("detach_volume", volume_id=volume)
    leader.heartbeat(agent, lambda h: h.agent.draining and h.agent.drained)
    leader.do("attach_volume", volume_id=volume, minimum_size_bytes=GIB)
    leader.wait("drover.fleet", lambda rs: rs[-1][1].agent.draining and not rs[-1][1].agent.drained, 20, "not drained any more")
    leader.do("detach_volume", volume_id=volume)
    leader.do("drain_appliance", job="admin", disk="", on=False)
    leader.wait("drover.fleet", lambda rs: not rs[-1][1].agent.draining and not rs[-1][1].agent.drained, 20, "in service")
    agent.kill()
    agent = leader.agent()
    assert not leader.ready(agent).agent.draining
