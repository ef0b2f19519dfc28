# SPDX-License-Identifier: Apache-2.0
"""The volume agent alone: real Kafka, the real agent with its nbdkit, the CloudStack double. The test plays the leader."""

from pathlib import Path

import nbd
import pytest

import lib_digest
from lib_agent import AGENT, GIB, AgentLeader, Double

MIB = 1 << 20
CELL = lib_digest.CELL


@pytest.fixture
def cloud(tmp_path):
    with Double(tmp_path / "cloud", appliance=AGENT, speed=5) as double:
        yield double


@pytest.fixture
def leader(kafka, cloud, tmp_path):
    leader = AgentLeader(kafka, cloud, tmp_path / "agent")
    yield leader
    leader.close()


def connect(leader, result, generation=None, token=None):
    h = nbd.NBD()
    h.set_export_name(f"{result.export_name}@{generation or result.generation}.{token or result.token}")
    h.connect_tcp(result.nbd_host, str(result.nbd_port))
    return h


def digest(data, cell):
    return lib_digest.root(lambda offset, length: data[offset:offset + length],
                           [(cell * CELL, min(CELL, len(data) - cell * CELL))])


def test_a_volume_from_its_creation_to_its_end(leader, cloud):
    agent = leader.agent()
    volume = leader.volume(GIB)
    seen = leader.site.look(volume)
    assert seen["virtualmachineid"] == leader.site.appliance and seen["size"] == GIB

    opened = leader.do("open_export", volume_id=volume, generation=1, minimum_size_bytes=GIB)
    assert opened.export_name == f"migration-vol-{volume}" and len(opened.token) == 32
    assert opened.device_serial == volume.replace("-", "")[:20]
    leader.heartbeat(agent, lambda h: [(e.volume_id, e.generation, e.writable) for e in h.agent.exports] == [(volume, 1, True)])

    data = bytes(range(256)) * (40 * MIB // 256)
    h = connect(leader, opened)
    for offset in range(0, len(data), 8 * MIB):
        h.pwrite(data[offset:offset + 8 * MIB], offset)
    h.flush()

    cells = {0: digest(data, 0), 1: digest(data, 1)}
    leader.verify(volume, 1, cells, len(data), sequence=1)
    answer = leader.verified(1)
    assert list(answer.verified_cells) == [0, 1] and not answer.mismatched_cells and not answer.HasField("error")
    h.pwrite(b"\0", 5 * MIB + 1)
    h.flush()
    leader.verify(volume, 1, cells, len(data), sequence=2)
    answer = leader.verified(2)
    assert list(answer.verified_cells) == [1] and list(answer.mismatched_cells) == [0]
    leader.verify(volume, 2, cells, len(data), sequence=3)  # not the open generation
    answer = leader.verified(3)
    assert answer.HasField("error") and not answer.verified_cells and not answer.mismatched_cells

    leader.do("close_export", volume_id=volume, generation=1)
    with pytest.raises(nbd.Error):
        h.pwrite(b"x", 0)
    leader.verify(volume, 1, cells, len(data), sequence=4)  # the device is still there
    assert list(leader.verified(4).verified_cells) == [1]
    leader.do("detach_volume", volume_id=volume)
    assert "virtualmachineid" not in leader.site.look(volume) and volume not in leader.exports()
    leader.do("delete_volume", volume_id=volume)
    assert "volume" not in cloud.call("listVolumes", listall="true", name="job-1-disk0")

    assert [c[:2] for c in leader.changes()] == [(c, volume) for c in ("createVolume", "attachVolume", "detachVolume",
                                                                       "deleteVolume")]
    assert not [e for e in cloud.state()["events"] if e["kind"].startswith("open-at")], "a device was taken away while in use"
    assert agent.stop() == 0
    assert leader.heartbeat(agent, lambda h: h.stopped)
    log = agent.log.read_text()
    assert opened.token not in log and cloud.secret not in log and cloud.key not in log


def test_a_restart_opens_the_same_exports_at_the_devices_of_today(leader, cloud):
    agent = leader.agent()
    first, second = leader.volume(disk="disk0"), leader.volume(disk="disk1")
    opened = [leader.do("open_export", volume_id=v, generation=3, disk=d) for v, d in ((first, "disk0"), (second, "disk1"))]
    agent.kill()
    # As after a boot of the appliance: the letters are swapped.
    base = Path(cloud.appliances[AGENT]["dev_root"]).parent
    names = [Path(o.device_path).name for o in opened]
    for kind in ("dev", "sys/block"):
        (base / kind / names[0]).rename(base / kind / "swap")
        (base / kind / names[1]).rename(base / kind / names[0])
        (base / kind / "swap").rename(base / kind / names[1])
    agent = leader.agent()
    leader.heartbeat(agent, lambda h: len(h.agent.exports) == 2)
    for number, result in enumerate(opened):
        h = connect(leader, result)
        h.pwrite(bytes([65 + number]) * 4096, 0)
        h.flush()
    assert [leader.bytes_of(v).read_bytes()[:1] for v in (first, second)] == [b"A", b"B"]
    agent.kill()
    for kind in ("dev", "sys/block"):  # the second one is gone
        (base / kind / names[0]).rename(base / f"gone-{kind.replace('/', '-')}")
    agent = leader.agent()
    leader.heartbeat(agent, lambda h: len(h.agent.exports) == 2)
    with pytest.raises(nbd.Error):
        connect(leader, opened[1])
    leader.verify(second, 3, {0: b"\0" * 16}, GIB, sequence=9)
    assert leader.verified(9).error.code == "DRV-DEVICE-MISSING"
    connect(leader, opened[0]).pwrite(b"C", 0)
