# SPDX-License-Identifier: Apache-2.0
"""A VM of a vCenter, from discovery to the running target VM: all its disks, rounds by changed block tracking, cutover."""

import threading

import pytest

from fleet import wait_for
from lib_vsphere_migration import difference, disk_id, make_lab, one_sector, scattered  # noqa: F401
from observe import CELL, MIB, job_hash, job_log, view, volume_path, wait_job

GRAINS = [512, 65536]


def writes_while_it_shuts_down(lab, seen):
    """The guest goes on writing until it is down, as guests do."""
    wait_for(lambda: lab.vcsim.calls("ShutdownGuest"), 120, "The request to shut down")
    lab.vcsim.writes("web", 2000, [(9 * MIB, 3 * 512)], seed=77)
    seen.append(lab.vcsim.vm("web")["power"])


@pytest.mark.parametrize("grain", GRAINS)
def test_migration(make_lab, tmp_path, grain):  # noqa: F811
    """Discover, preflight, full round, three rounds of changes, deep verification, cutover."""
    big, small = 5120 * 2 * 65536, 3 * CELL + 4 * MIB
    lab = make_lab(disks=[small, big], grain=grain, shutdown_ms=1500)
    vcsim, job = lab.vcsim, f"vm-{grain}"
    vcsim.writes("web", 2000, [(0, 6 * MIB), (CELL - MIB, 2 * MIB), (small - 512, 512)], seed=1)
    vcsim.writes("web", 2001, [(n * CELL + 3 * MIB, MIB) for n in range(big // CELL)], seed=2)
    lab.submit(job, tmp_path)
    wait_job(lab.fleet, job)
    lab.check_round(job, 0)
    kind, moved = lab.rounds(job)[0]
    assert kind == "full" and moved <= 60 * MIB, "holes are not read"

    grown = [(6 * MIB, 5 * MIB), (CELL + MIB, 2 * MIB)]  # behind what was there
    patterns = [{2000: one_sector()}, {2000: [(0, 512)], 2001: scattered(big)}, {2000: grown, 2001: [(big - 512, 512)]}]
    for number, writes in enumerate(patterns, 1):
        lab.guest_writes(writes, seed=number)
        lab.sync(job, number)
        lab.check_round(job, number, writes)
    assert len(lab.areas(lab.snapshot_of(job, 2))[2001]) == 5000

    vcsim.write("web", 2001, 40 * MIB, 512, untracked=True)  # change tracking can be wrong
    kind, moved = lab.sync(job, 4, "--deep-verify")
    assert kind == "deep-verify" and 0 < moved <= CELL
    lab.check_round(job, 4)

    vcsim.writes("web", 2001, [(50 * MIB, MIB)], seed=9)
    seen = []
    guest = threading.Thread(target=writes_while_it_shuts_down, args=(lab, seen))
    guest.start()
    lab.fleet.drover("failover", "live", job)
    guest.join()
    assert seen == ["poweredOn"]
    wait_for(lambda: view(lab.fleet).hget(f"drover:failover:{job}", "status") == "completed", 120, "The cutover")
    wait_job(lab.fleet, job)
    lab.check_round(job, 5, {2000: [(9 * MIB, 3 * 512)], 2001: [(50 * MIB, MIB)]})
    lab.target_vm(job)
    for index, key in enumerate(lab.keys()):
        assert difference(vcsim.image("web", key), volume_path(lab.fleet, job, disk_id(index))) is None
    source = vcsim.vm("web")
    assert source["power"] == "poweredOff" and job in source["annotation"] and not source["consolidation_needed"]
    assert len(vcsim.calls("ShutdownGuest")) == 1 and vcsim.calls("PowerOffVM_Task") == []
    assert job_hash(lab.fleet, job)["status"] == "completed" and "snapshot" in job_log(lab.fleet, job)
