# SPDX-License-Identifier: Apache-2.0
"""The agent of an appliance that is being emptied dies on the way."""

from fleet import wait_for
from lib_appliances import NEW, OLD, change, home, host_of, migrate, rounds, two_appliances
from observe import make_raw, same_content, volume_path, wait_job


def test_an_agent_that_dies_while_its_vms_move(make_fleet, tmp_path):
    fleet = two_appliances(make_fleet)
    jobs = [f"job-{i}" for i in range(4)]
    images = {job: make_raw(tmp_path / f"{job}.raw", 64, 8, seed=i) for i, job in enumerate(jobs)}
    for job in jobs:
        migrate(fleet, images[job], job)
    for job in jobs:
        wait_job(fleet, job)
        fleet.drover("sync", job, "--interval", "1h")
    wait_for(lambda: all(rounds(fleet, job) == 2 for job in jobs), 90, "The rounds")
    fleet.drover("agent", "drain", OLD)
    for _ in range(2):
        wait_for(lambda: any("operation.sent" in line and "detach" in line for line in fleet["scheduler-1"].log.read_text().splitlines()),
                 30, "The first detachment")
        fleet["volume-agent"].kill()
        wait_for(lambda: fleet["volume-agent"].running(), 20, "The next one")
    fleet.drover("agent", "drain", OLD, "--wait", "120s", timeout=150)
    for job in jobs:
        wait_for(lambda: home(fleet, job) == NEW, 30, "The move")
        assert host_of(fleet, job) != OLD
        change(images[job], 1024, seed=job)
        fleet.drover("sync", job)
    for job in jobs:
        wait_for(lambda: rounds(fleet, job) == 3, 90, "The round at the new appliance")
        assert same_content(images[job], volume_path(fleet, job)) is None and host_of(fleet, job) == NEW
