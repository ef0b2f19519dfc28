# SPDX-License-Identifier: Apache-2.0
"""A fleet with two appliances, and what tests of moving VMs between them ask."""

import json
import random

from observe import MIB, job_hash, job_log, view
from observe import cloud as state_of_cloud

OLD, NEW = "appliance-1", "appliance-2"


def two_appliances(make_fleet, **agent):
    return make_fleet(agents=2, schedulers=1, settings={
        "agent": {"call-expiry": "5s", "heartbeat-interval": "500ms", **agent},
        "scheduler": {"lease": "5s", "claim-timeout": "5s"}, "worker": {"heartbeat-interval": "500ms"}})


def agents(fleet):
    return {row["agent"]: row for row in json.loads(fleet.drover("agent", "list", "--json").stdout)}


def migrate(fleet, source, job, *flags):
    fleet.drover("migrate", "--source", f"file:{source}", "--name", job, "--job-id", job, "--agent", OLD, *flags)


def home(fleet, job):
    return job_hash(fleet, job).get("agent")


def host_of(fleet, job):
    """Name of the appliance that the job's volume is attached to, or None."""
    volume = view(fleet).hget(f"drover:disk:{job}:disk0", "volume_id")
    vm = state_of_cloud(fleet)["volumes"][volume]["vm_id"]
    return next((name for name, appliance in fleet.appliances.items() if appliance["id"] == vm), vm)


def copying(fleet, job):
    fields = job_hash(fleet, job)
    assert fields.get("status") not in ("failed", "cancelled", "completed"), job_log(fleet, job)
    return int(fields.get("bytes_transferred") or 0) > 0


def rounds(fleet, job):
    return len([part for part in job_hash(fleet, job).get("rounds", "").split(",") if part])


def change(image, offset, seed):
    with open(image, "r+b") as f:
        f.seek(offset)
        f.write(random.Random(seed).randbytes(MIB))
