# SPDX-License-Identifier: Apache-2.0
"""Rounds after the first: changed areas of an NBD source, comparison of digests where none are known, replication."""

import random

import pytest

from fleet import wait_for
from lib_tracked import TrackedDisk, scattered
from observe import CELL, MIB, job_hash, job_log, make_raw, same_content, view, volume_path, wait_job


def rounds_of(fleet, job):
    """[(round, moved bytes)] of the finished rounds."""
    text = job_hash(fleet, job).get("rounds", "")
    return [(int(part.split(":")[0]), int(part.split(":")[2])) for part in text.split(",") if part]


def wait_round(fleet, job, number, seconds=90):
    def done():
        fields = job_hash(fleet, job)
        assert fields.get("status") not in ("failed", "cancelled"), f"{fields}\n{job_log(fleet, job)}"
        return any(n == number for n, _ in rounds_of(fleet, job)) and fields["status"]
    wait_for(done, seconds, f"The end of round {number} of {job}")
    return dict(rounds_of(fleet, job))[number]


def sync(fleet, job, number, *flags):
    fleet.drover("sync", job, *flags)
    moved = wait_round(fleet, job, number)
    return wait_job(fleet, job), moved


@pytest.fixture
def tracked(work, tmp_path):
    disks = []

    def make(granularity, size_mib=160, data_mib=20):
        path = make_raw(tmp_path / "tracked.raw", size_mib, data_mib, seed=11)
        disks.append(TrackedDisk(tmp_path, path, granularity))
        return disks[-1]

    yield make
    for disk in disks:
        disk.stop()


@pytest.mark.parametrize("grain", [512, 65536])
def test_rounds_by_dirty_bitmap(fleet, tracked, grain):
    disk = tracked(grain)
    job = f"bitmap-{grain}"
    fleet.drover("migrate", "--source", disk.uri + ",frozen=yes,bitmap=drover-{round}", "--name", "web01", "--job-id", job)
    wait_job(fleet, job)
    size = disk.path.stat().st_size
    patterns = [[(5 * MIB + 512, random.Random(1).randbytes(512))],
                scattered(size, 5000, 512, seed=2),
                [(3 * CELL - MIB, random.Random(3).randbytes(2 * MIB)), (CELL, bytes(3 * MIB)), (size - 512, b"e" * 512)]]
    for number, pieces in enumerate(patterns, 1):
        disk.write(pieces)
        disk.freeze()
        areas = disk.areas()
        assert areas >= len(pieces) * 512
        _, moved = sync(fleet, job, number)
        assert same_content(disk.path, volume_path(fleet, job)) is None
        assert moved <= areas * 1.001, (moved, areas, job_log(fleet, job))
        assert "incremental" in job_log(fleet, job)
    fields = view(fleet).hgetall(f"drover:disk:{job}:disk0")
    assert fields["disk_change_id"] == "drover-3" and fields["previous_change_id"] == "drover-2"
    # A bitmap that is gone costs a comparison, not a blind copy.
    disk.write([(70 * MIB, b"x" * 4096)])
    disk.freeze(forget=True)
    _, moved = sync(fleet, job, 4)
    assert same_content(disk.path, volume_path(fleet, job)) is None
    assert moved <= CELL and "DRV-SOURCE-CHANGE-ID" in job_log(fleet, job)


def test_an_image_file_is_compared(fleet, tmp_path):
    image = make_raw(tmp_path / "plain.raw", 200, 30, seed=5)
    fleet.drover("migrate", "--source", f"file:{image}", "--name", "web01", "--job-id", "plain")
    wait_job(fleet, "plain")
    with open(image, "r+b") as f:
        f.seek(100 * MIB)
        f.write(b"changed")
    _, moved = sync(fleet, "plain", 1)
    assert same_content(image, volume_path(fleet, "plain")) is None
    assert 0 < moved <= CELL, job_log(fleet, "plain")
    _, moved = sync(fleet, "plain", 2, "--deep-verify")
    assert moved == 0 and same_content(image, volume_path(fleet, "plain")) is None
    # Growth within the volume is followed, with all of the disk compared; shrinking is refused and keeps the volume.
    with open(image, "r+b") as f:
        f.truncate(232 * MIB)
        f.seek(230 * MIB)
        f.write(b"grown")
    _, moved = sync(fleet, "plain", 3)
    assert same_content(image, volume_path(fleet, "plain")) is None and moved <= 2 * CELL
    with open(image, "r+b") as f:
        f.truncate(100 * MIB)
    fleet.drover("sync", "plain")
    wait_for(lambda: job_hash(fleet, "plain").get("status") == "failed", 60, "The refusal")
    final = wait_job(fleet, "plain", "failed")
    assert final["error_code"] == "DRV-SOURCE-SHRUNK"
    assert volume_path(fleet, "plain").exists()


def test_replication_until_cutover(fleet, tracked):
    disk = tracked(65536, size_mib=96, data_mib=8)
    job = "replicated"
    fleet.drover("migrate", "--source", disk.uri + ",frozen=yes,bitmap=drover-{round}", "--name", "web01", "--job-id", job)
    wait_job(fleet, job)
    disk.write([(40 * MIB, b"one" * 1000)])
    disk.freeze()
    fleet.drover("sync", job, "--interval", "1h")
    wait_round(fleet, job, 1)
    fields = job_hash(fleet, job)
    assert fields["status"] not in ("completed", "failed") and fields["replicated_until"]
    shown = fleet.drover("show", job).stdout
    assert "recovery point" in shown and "rounds every" in shown
    disk.write([(41 * MIB, b"two" * 1000)])
    disk.freeze()
    fleet.drover("failover", "live", job)
    wait_round(fleet, job, 2)
    wait_job(fleet, job)
    assert [number for number, _ in rounds_of(fleet, job)] == [0, 1, 2], job_log(fleet, job)
    assert same_content(disk.path, volume_path(fleet, job)) is None
    assert view(fleet).hget(f"drover:failover:{job}", "status") == "completed"
    # What the VM has written since must not be overwritten.
    fleet.drover("sync", job)
    wait_for(lambda: "DRV-SYNC-DIVERGED" in job_log(fleet, job), 20, "The refusal")
