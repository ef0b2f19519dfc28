# SPDX-License-Identifier: Apache-2.0
"""What tests of owners and snapshots look at, at the double of CloudStack."""
import uuid

import messages as pb

# Signatures that die soon, so that what became of a call is known soon.
EXPIRY = {"call_expiry": "4s", "cloudstack_timeout": "3s"}


def owner(row):
    return row.get("project") or row["account"]


def target(leader, who):
    """A job's target for an account or a project of the double."""
    state = leader.cloud.state()
    if who == "team":
        return pb.job.TargetSpec(project_id=next(iter(state["projects"])), network_ids=["team-net"])
    return pb.job.TargetSpec(account=who, network_ids=["tenant-net"])


def deploy(leader, who, job="job-1"):
    vm = str(uuid.uuid4())
    leader.do("deploy_vm", job=job, disk="", name=f"vm-{vm[:8]}", custom_id=vm, target=target(leader, who))
    return vm


def assigned(leader):
    """(volume, owner) of each assignVolume that was not refused."""
    state = leader.cloud.state()
    names = {a["id"]: a["name"] for a in state["accounts"].values()} | {p["id"]: p["name"] for p in state["projects"].values()}
    return [(row["params"]["volumeid"], names[row["params"].get("accountid") or row["params"]["projectid"]])
            for _, _, row in leader.changes("assignVolume")]


def write(leader, volume, text, at=0):
    with open(leader.bytes_of(volume), "r+b") as file:
        file.seek(at)
        file.write(text)


def content(leader, volume, n=8):
    with open(leader.bytes_of(volume), "rb") as file:
        return file.read(n)


def snapshots(leader, volume):
    return [s["id"] for s in leader.cloud.call("listSnapshots", volumeid=volume, listall="true").get("snapshot", [])]


def detached(leader, disk="disk0"):
    """One that has been attached, so that it is somewhere."""
    volume = leader.volume(disk=disk)
    leader.do("detach_volume", disk=disk, volume_id=volume)
    return volume
