# SPDX-License-Identifier: Apache-2.0
"""Whole migrations of VMs of a vCenter stand-in through a real fleet: what the guest writes between rounds, and what each
round must have done: the target as the snapshot froze it, the guest's writes among the areas, no byte more than the areas."""

import bisect
import errno
import os
import random
import re
import subprocess

import pytest

from fleet import clean_environment, wait_for
from lib_vcsim import disk, vddk_plugin, vm
from observe import MIB, cloud, job_hash, job_log, view, volume_path, wait_job

BLOCK = 65536
OURS = ("drover-",)


@pytest.fixture
def make_lab(make_fleet, make_vcsim):
    """make_lab(disks=["64M", ...], grain=512, fleet={...}, vms=[...], **of_the_vm) -> a Lab: a VM "web" (or VMS, and the Lab of
    the first one), and a fleet that reads from it."""
    labs = []

    def make(disks=("256M", "96M"), grain=65536, fleet=None, vcenter=None, vms=None, **of_the_vm):
        vms = vms or [vm("web", disks=[disk(d) for d in disks], **of_the_vm)]
        vcsim = make_vcsim(vms, grain=grain, keep="true")
        vcsim.write_vcenters(**(vcenter or {}))
        options = dict(fleet or {})
        settings = {section: dict(values) for section, values in options.pop("settings", {}).items()}
        settings["vsphere"] = {"vcenters": vcsim.vcenters}
        settings["worker"] = {"nfc-port": 0, "vddk-plugin": vddk_plugin(), **settings.get("worker", {})}
        labs.append(Lab(make_fleet(settings=settings, **options), vcsim, vms[0]["name"]))
        return labs[-1]

    yield make
    for lab in labs:
        lab.fleet.stop()  # leaks are told at the end
        for name, process in lab.fleet.processes.items():
            text = process.log.read_text(errors="replace")
            assert lab.vcsim.password not in text, f"vCenter's password stands in the log of {name}"
            for trouble in ("Sanitizer", "runtime error:", "record.poison"):
                assert trouble not in text, f"{name}: {text[-4000:]}"


# ---- what guests write: lists of (offset, length)

def one_sector():
    return [(5 * MIB + 512, 512)]


def scattered(capacity, count=5000, seed=2):
    """COUNT sectors, no two in the same or in neighbouring blocks of 64 KiB: as many areas, whatever the grain."""
    rng = random.Random(seed)
    return [(place * 2 * BLOCK + 512 * rng.randrange(128), 512) for place in sorted(rng.sample(range(capacity // (2 * BLOCK)), count))]


def uncovered(writes, areas):
    """The first of WRITES that does not lie within AREAS (both lists of offset, length); None: all do."""
    merged = []
    for offset, length in sorted(areas):
        if merged and offset <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], offset + length)
        else:
            merged.append([offset, offset + length])
    for offset, length in writes:
        at = bisect.bisect_right(merged, [offset, 1 << 63]) - 1
        if at < 0 or offset + length > merged[at][1]:
            return offset, length
    return None


def data_extents(fd, size):
    at = 0
    while at < size:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as e:
            if e.errno != errno.ENXIO:
                raise
            return
        at = os.lseek(fd, begin, os.SEEK_HOLE)
        yield begin, at


def difference(frozen, volume):
    """None when VOLUME begins with all of FROZEN and is zero behind it, else where they differ. Reads what is no hole."""
    with open(frozen, "rb") as a, open(volume, "rb") as b:
        sizes = [os.fstat(f.fileno()).st_size for f in (a, b)]
        if sizes[1] < sizes[0]:
            return f"{sizes[1]} bytes instead of {sizes[0]}"
        places = sorted([*data_extents(a.fileno(), sizes[0]), *data_extents(b.fileno(), sizes[1])])
        done = 0
        for begin, end in places:
            for at in range(max(begin, done), end, MIB):
                length = min(MIB, end - at)
                x, y = os.pread(a.fileno(), length, at), os.pread(b.fileno(), length, at)
                if x.ljust(length, b"\0") != y.ljust(length, b"\0"):
                    return f"differs between bytes {at} and {at + length}"
            done = max(done, end)
    return None


class Lab:
    """A VM and the fleet that moves it."""

    def __init__(self, fleet, vcsim, name):
        self.fleet, self.vcsim, self.name = fleet, vcsim, name

    def of(self, name):
        """The same for another VM."""
        return Lab(self.fleet, self.vcsim, name)

    def keys(self):
        return [d["key"] for d in self.vcsim.vm(self.name)["disks"]]

    def guest_writes(self, writes, **more):
        """WRITES: key -> list."""
        for key, list_ in writes.items():
            self.vcsim.writes(self.name, key, list_, **more)

    # ---- the job

    def job_file(self, job, path, target_sizes=None, policy=None, keys=None, **more):
        """What `drover discover --job-template` writes, with a job id, target sizes by key, more lines of source_policy and
        of the job itself."""
        done = subprocess.run([str(self.fleet.bin / "drover"), "discover", "--vcenter", "dc1", "--job-template", self.name,
                               "--vcenters", str(self.vcsim.vcenters)], text=True, capture_output=True, timeout=120, env=clean_environment())
        assert done.returncode == 0, done.stderr
        lines = [f"job_id: {job}"]
        for line in done.stdout.splitlines():
            key = line.split()[2] if line.startswith("  - key:") else None
            if key and keys is not None and int(key) not in keys:
                continue
            if line.startswith("  power:") and policy and "power" in policy:
                continue
            lines.append(line)
            if key and int(key) in (target_sizes or {}):
                lines.append(f"    target_size: {target_sizes[int(key)]}")
            if line.startswith("source_policy:"):
                lines += [f"  {name}: {value}" for name, value in (policy or {}).items()]
        path.write_text("\n".join(lines + [f"{name}: {value}" for name, value in more.items()]) + "\n")
        return path

    def submit(self, job, tmp_path, **options):
        path = self.job_file(job, tmp_path / f"{job}.yaml", **options)
        assert self.fleet.drover("submit", "--check", str(path)).stdout == f"{path}: good\n"
        assert self.fleet.drover("submit", str(path)).stdout.strip() == job

    def rounds(self, job):
        """Finished rounds: number -> (kind, moved bytes)."""
        text = "\n".join(re.findall(r"(?m)^.*job\.round-done.*$", job_log(self.fleet, job)))
        found = re.findall(r"Round (\d+) \((\S+)\) is final: (\d+) bytes moved", text)
        return {int(number): (kind, int(moved)) for number, kind, moved in found}

    def wait_round(self, job, number, seconds=120):
        def done():
            fields = job_hash(self.fleet, job)
            assert fields.get("status") not in ("failed", "cancelled"), f"{fields}\n{job_log(self.fleet, job)}"
            return f",{number}:" in "," + fields.get("rounds", "") and number in self.rounds(job)
        wait_for(done, seconds, f"The end of round {number} of {job}")
        return self.rounds(job)[number]

    def sync(self, job, number, *flags, seconds=120):
        """Another round, to its end: (kind, moved bytes)."""
        self.fleet.drover("sync", job, *flags)
        found = self.wait_round(job, number, seconds)
        wait_job(self.fleet, job)
        return found

    # ---- what a round has done

    def snapshot_of(self, job, number):
        """The round's snapshot, which is gone by now."""
        found = [s for s in self.vcsim.history()["snapshots"] if s["name"] == f"drover-{job}-r{number}"]
        assert len(found) == 1, f"round {number} took {len(found)} snapshots: {self.vcsim.history()['snapshots']}"
        return found[0]

    def areas(self, snapshot):
        """What vCenter reported as changed for this snapshot: key -> set of (offset, length)."""
        found = {}
        for answer in self.vcsim.history()["answers"]:
            if answer["snapshot"] == snapshot["moref"] and answer["since"] != "*":
                found.setdefault(answer["key"], set()).update((a["offset"], a["length"]) for a in answer["areas"])
        return found

    def check_same(self, job, snapshot):
        """Every volume is what SNAPSHOT froze."""
        for index, (key, frozen) in enumerate(sorted(snapshot["frozen"].items())):
            said = difference(frozen, volume_path(self.fleet, job, disk_id(index)))
            assert said is None, f"disk {key}: {said}\n{job_log(self.fleet, job)}"

    def check_round(self, job, number, writes=None, most=1.001):
        """The target is what the round's snapshot froze; WRITES (key -> list) lie within what was reported, and no more moved
        than that; change ids are kept, nothing of ours is left at the VM."""
        snapshot = self.snapshot_of(job, number)
        self.check_same(job, snapshot)
        self.check_nothing_left()
        for index, (key, change_id) in enumerate(sorted(snapshot["change_ids"].items())):
            fields = view(self.fleet).hgetall(f"drover:disk:{job}:{disk_id(index)}")
            assert fields["disk_change_id"] == change_id, (key, change_id, fields)
        if writes is not None:
            areas = self.areas(snapshot)
            for key, list_ in writes.items():
                assert uncovered(list_, areas.get(key, ())) is None, (key, uncovered(list_, areas.get(key, ())))
            kind, moved = self.rounds(job)[number]
            reported = sum(length for some in areas.values() for _, length in some)
            assert kind == "incremental", job_log(self.fleet, job)
            assert moved <= most * reported, f"{moved} bytes moved, {reported} were reported\n{job_log(self.fleet, job)}"
        return snapshot

    def check_nothing_left(self):
        left = [s["name"] for s in self.vcsim.snapshots(self.name) if s["name"].startswith(OURS)]
        assert left == [], left

    def target_vm(self, job):
        """The VM that the job's volumes belong to now, running."""
        failover = view(self.fleet).hgetall(f"drover:failover:{job}")
        assert failover.get("status") == "completed", f"{failover}\n{job_log(self.fleet, job)}"
        found = cloud(self.fleet)["vms"][failover["destination_vm_id"]]
        assert found["state"] == "Running", found
        return found


def disk_id(index):
    """Of the disk at INDEX of a job that gives its disks no ids."""
    return f"disk{index}"
