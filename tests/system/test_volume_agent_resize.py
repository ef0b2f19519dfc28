# SPDX-License-Identifier: Apache-2.0
"""Volumes that grow: because their source did, or because a client asked."""

from lib_agent import GIB, cloud, leader  # noqa: F401
from lib_rest import problem, serve


def sectors(leader, volume):
    return leader.site.device(volume)[1]


def test_a_volume_grows_wherever_it_is(leader, tmp_path):
    _, rest = serve(leader, tmp_path)
    site = leader.site
    volume = leader.volume(attach=False)
    record = rest.done("POST", f"/volumes/{volume}/resize", {"size_bytes": GIB + 1})
    assert (record["kind"], record["result"]["device_size_bytes"]) == ("resize-volume", 2 * GIB)
    assert site.look(volume)["size"] == 2 * GIB and "virtualmachineid" not in site.look(volume)
    leader.do("attach_volume", volume_id=volume, minimum_size_bytes=2 * GIB)
    rest.done("POST", f"/volumes/{volume}/resize", {"size_bytes": 3 * GIB})  # while the appliance runs
    assert sectors(leader, volume) == 3 * GIB // 512
    assert rest.done("POST", f"/volumes/{volume}/resize", {"size_bytes": GIB})["result"]["already_done"], "it never shrinks"
    assert len(leader.changes("resizeVolume")) == 2 and site.look(volume)["size"] == 3 * GIB
    problem(rest.post("/volumes/00000000-0000-0000-0000-000000000000/resize", {"size_bytes": GIB}), 404, "DRV-VOLUME-MISSING")
    problem(rest.post(f"/volumes/{volume}/resize"), 400, field="size_bytes")
    for wanted, text in ((2000 * GIB, "out of allowed range"),):
        record = rest.post(f"/volumes/{volume}/resize", {"size_bytes": wanted}, wait="60s").json
        assert record["error"]["code"] == "DRV-VOLUME-RESIZE" and text in record["error"]["message"]
    fixed = site.volume(gb="", diskofferingid=site.disk["Small 5GB"])
    record = rest.post(f"/volumes/{fixed}/resize", {"size_bytes": 6 * GIB}, wait="60s").json
    assert record["error"]["code"] == "DRV-VOLUME-RESIZE" and "customizable" in record["error"]["message"]


def test_a_volume_grows_with_its_source(leader):
    """The leader says how large the device must be: of a volume that waits detached, and of one that stayed attached."""
    leader.agent()
    parked, stayed = leader.volume(disk="disk0"), leader.volume(disk="disk1")
    leader.do("detach_volume", disk="disk0", volume_id=parked)
    result = leader.do("attach_volume", disk="disk0", volume_id=parked, minimum_size_bytes=3 * GIB)
    assert result.device_size_bytes == 3 * GIB
    opened = leader.do("open_export", disk="disk1", volume_id=stayed, generation=1, minimum_size_bytes=GIB)
    assert opened.device_size_bytes == GIB
    opened = leader.do("open_export", disk="disk1", volume_id=stayed, generation=2, minimum_size_bytes=2 * GIB)
    assert opened.device_size_bytes == 2 * GIB
    assert [c[1] for c in leader.changes("resizeVolume")] == [parked, stayed]
    # Not a volume that somebody else's VM has.
    vm = leader.site.vm()
    leader.do("detach_volume", disk="disk0", volume_id=parked)
    leader.cloud.do("attachVolume", id=parked, virtualmachineid=vm)
    error = leader.failed(leader.operation("attach_volume", volume_id=parked, minimum_size_bytes=9 * GIB))
    assert error.code == "DRV-VOLUME-ELSEWHERE" and len(leader.changes("resizeVolume")) == 2
    assert not [e for e in leader.cloud.state()["events"] if e["kind"] == "overlap"]
