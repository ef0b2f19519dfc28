# SPDX-License-Identifier: Apache-2.0
"""Eyes for tests of whole migrations: images to migrate, what the workers checkpoint, what Redis shows, what the NBD
server writes, and what lies at the target in the end."""

import json
import os
import random
import socket
import subprocess
import threading
import time
from pathlib import Path

import confluent_kafka
import redis

from fleet import ROOT, wait_for

MIB = 1 << 20
CELL = 32 * MIB


# ---- images

def make_raw(path, size_mib, data_mib, seed=1):
    """A raw disk: DATA_MIB of random bytes in pieces all over it, a zeroed (but allocated) piece, the rest holes."""
    rng = random.Random(seed)
    with open(path, "wb") as f:
        f.truncate(size_mib * MIB)
        spots = rng.sample(range(size_mib), data_mib)
        for spot in sorted(spots):
            f.seek(spot * MIB)
            f.write(rng.randbytes(MIB))
        empty = next(i for i in range(size_mib) if i not in set(spots))
        f.seek(empty * MIB)
        f.write(bytes(MIB))
        f.seek(size_mib * MIB - 512)
        f.write(rng.randbytes(512))
    return path


FORMATS = {"qcow2": ("qcow2", []), "vmdk": ("vmdk", ["-o", "subformat=monolithicSparse"]),
           "stream": ("vmdk", ["-o", "subformat=streamOptimized"]), "vhdx": ("vhdx", [])}


def convert(raw, path, kind):
    """RAW as qcow2, vmdk (monolithicSparse), stream (streamOptimized vmdk) or vhdx."""
    fmt, options = FORMATS[kind]
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", fmt, *options, str(raw), str(path)], check=True)
    return path


def same_content(reference, volume):
    """None when VOLUME begins with all of the raw file REFERENCE and reads as zero behind it, else what differs."""
    with open(reference, "rb") as a, open(volume, "rb") as b:
        offset = 0
        while True:
            x = a.read(MIB)
            y = b.read(len(x)) if x else b.read(MIB)
            if not x and not y:
                return None
            expected = x if x else bytes(len(y))
            if expected != y:
                where = next((i for i, (p, q) in enumerate(zip(expected, y)) if p != q), min(len(expected), len(y)))
                return f"differs at byte {offset + where}"
            offset += len(y)


# ---- the fleet

def volume_path(fleet, job, disk="disk0"):
    volume = view(fleet).hget(f"drover:disk:{job}:{disk}", "volume_id")
    return fleet.dir / "cloudstack/volumes" / f"{volume}.raw"


def view(fleet):
    return redis.Redis(port=fleet.redis_port, decode_responses=True, socket_timeout=5)


def job_hash(fleet, job):
    try:
        return view(fleet).hgetall(f"drover:job:{job}")
    except redis.RedisError:
        return {}


ENDED = {"completed", "failed", "cancelled", "rolled-back"}


def wait_job(fleet, job, status="completed", seconds=120):
    """Waits until JOB has ended, with STATUS; returns its hash."""
    last = {}

    def ended():
        last.update(job_hash(fleet, job))
        return last.get("status") in ENDED

    try:
        wait_for(ended, seconds, f"The end of job {job}")
    except Exception as e:
        raise AssertionError(f"{e}; last seen: {last}\n{job_log(fleet, job)}") from None
    assert last["status"] == status, f"{last}\n{job_log(fleet, job)}"
    return last


def job_log(fleet, job):
    return fleet.drover("log", job, check=False).stdout


def cloud(fleet):
    """The whole state of the CloudStack stand-in."""
    import urllib.request
    with urllib.request.urlopen(f"http://127.0.0.1:{fleet.cloudstack_port}/ctl/state", timeout=10) as answer:
        return json.load(answer)


def nothing_left(fleet):
    """No volume of ours, no open export, no child of a worker."""
    state = cloud(fleet)
    volumes = [v for v in state["volumes"].values() if str(v.get("type", "")).upper() == "DATADISK"
               and v.get("state") not in ("Expunged", "Destroy")]
    assert not volumes, volumes
    assert exports(fleet) == []
    children = [line for line in fleet.left_running() if "qemu-nbd" in line]
    assert not children, children


def exports(fleet):
    """Lines of the NBD server about its open exports."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(str(next(fleet.run_dir.rglob("*.nbdkit.sock"))))
        s.sendall(b"stat\n")
        answer = b""
        while not answer.endswith(b"ok\n"):
            part = s.recv(65536)
            assert part, "nbdkit ended"
            answer += part
    return answer.decode().splitlines()[:-1]


def exports_of(fleet):
    """The same; none while the NBD server is not there."""
    try:
        return exports(fleet)
    except (OSError, AssertionError, StopIteration):
        return []


def nbdkit_pid(fleet):
    try:
        return int(next(fleet.run_dir.rglob("*.nbdkit.pid")).read_text())
    except (StopIteration, ValueError, OSError):
        return None


def written_by(pid):
    """Bytes that a process has written to files so far (sockets do not count: nbdkit sends, it does not write)."""
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("wchar:"):
            return int(line.split()[1])
    raise AssertionError("no wchar")


# ---- watching

class Checkpoints(threading.Thread):
    """Follows drover.checkpoints of the fleet's site: (record time in ms, Checkpoint) in the order of arrival."""

    def __init__(self, fleet, pb):
        super().__init__(daemon=True)
        self.fleet, self.pb = fleet, pb
        self.seen = []
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.ready = threading.Event()

    def run(self):
        topic = f"{self.fleet.topic_prefix}.checkpoints.{self.fleet.site}"
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.fleet.kafka, "group.id": f"{topic}.test",
                                             "enable.auto.commit": False, "auto.offset.reset": "earliest"})
        partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
        consumer.assign([confluent_kafka.TopicPartition(topic, p, confluent_kafka.OFFSET_BEGINNING) for p in partitions])
        self.ready.set()
        while not self.ended.is_set():
            message = consumer.poll(0.1)
            if message is None or message.error() or message.value() is None:
                continue
            checkpoint = self.pb.event.Checkpoint.FromString(message.value())
            with self.lock:
                self.seen.append((message.timestamp()[1], checkpoint))
        consumer.close()

    def __enter__(self):
        self.start()
        assert self.ready.wait(30)
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join(10)

    def of(self, job):
        with self.lock:
            return [(t, c) for t, c in self.seen if c.job_id == job]

    def flushed(self, job, until_ms=None, round=None):
        """Data bytes of distinct cells that were flushed by a time, in a round."""
        cells = {}
        for t, c in self.of(job):
            if (until_ms is None or t <= until_ms) and round in (None, c.round):
                for cell in c.cells:
                    cells[(c.disk_id, cell.cell)] = cell.data_bytes
        return sum(cells.values())


class Sampler(threading.Thread):
    """Reads bytes_transferred and total_bytes of one job from Redis, again and again."""

    def __init__(self, fleet, job):
        super().__init__(daemon=True)
        self.fleet, self.job = fleet, job
        self.samples = []  # (unix ms after the reading, bytes, total)
        self.ended = threading.Event()

    def run(self):
        client = view(self.fleet)
        while not self.ended.is_set():
            try:
                done, total = client.hmget(f"drover:job:{self.job}", "bytes_transferred", "total_bytes")
            except redis.RedisError:
                continue
            if done is not None:
                self.samples.append((time.time() * 1000, int(done), int(total or 0)))
            time.sleep(0.02)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join(10)

    def check(self, checkpoints):
        """Never falls, never more than what was flushed at that moment, ends equal to the total."""
        assert self.samples, "nothing was seen in Redis"
        highest = 0
        records = sorted((t, c.disk_id, cell.cell, cell.data_bytes) for t, c in checkpoints.of(self.job) for cell in c.cells)
        flushed, position, cells = 0, 0, set()
        for at, done, _ in self.samples:
            assert done >= highest, f"bytes_transferred fell from {highest} to {done}"
            highest = done
            while position < len(records) and records[position][0] <= at + 1:
                _, disk, cell, data = records[position]
                if (disk, cell) not in cells:
                    cells.add((disk, cell))
                    flushed += data
                position += 1
            assert done <= flushed, f"bytes_transferred {done} when {flushed} were flushed"
        final = job_hash(self.fleet, self.job)
        assert final["bytes_transferred"] == final["total_bytes"], final


class Written:
    """Counts what nbdkit writes to volumes over all its lives, from before the first write on: call before_kill() when it is
    about to die."""

    def __init__(self, fleet):
        self.fleet = fleet
        self.ended_lives = 0
        self.pid = wait_for(lambda: nbdkit_pid(fleet), 30, "The NBD server")
        self.base = written_by(self.pid)

    def before_kill(self):
        """Stops nbdkit in its tracks and takes its count; the caller kills it."""
        import signal
        os.kill(self.pid, signal.SIGSTOP)
        wait_for(lambda: f"/proc/{self.pid}" and Path(f"/proc/{self.pid}/stat").read_text().split()[2] == "T", 5, "SIGSTOP")
        self.ended_lives += written_by(self.pid) - self.base
        pid, self.pid, self.base = self.pid, None, 0
        return pid

    def total(self):
        if self.pid is None:
            self.pid = wait_for(lambda: nbdkit_pid(self.fleet), 30, "A new nbdkit")
        return self.ended_lives + written_by(self.pid) - self.base
