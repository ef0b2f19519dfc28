# SPDX-License-Identifier: Apache-2.0
"""The aggregator alone, on real Kafka and Redis, fed with the messages of a made-up job: duplicated, reordered, while it
is killed and while Redis forgets. A sampler watches the view all along."""

import json
import random
import shutil
import signal
import subprocess
import threading
import time

import confluent_kafka
import pytest
import redis

import fleet as fleet_module
import messages
from fleet import ROOT  # noqa: F401

MIB = 1 << 20
CELL = 32 * MIB


class AggregatorOnly(fleet_module.Fleet):
    """Redis and aggregators, nothing else of a fleet; the broker is given."""

    def _start_double(self):
        self.cloudstack_port, self.appliance = 0, {"id": "", "sysfs_root": "", "dev_root": ""}

    def _start_drover(self):
        for i in range(1, self.counts["progress-aggregator"] + 1):
            name = f"progress-aggregator-{i}"
            self._run(name, [self.bin / "drover-progress-aggregator", "--config", self.conf, f"--aggregator-name={name}"])

    def view(self):
        return redis.Redis(port=self.redis_port, decode_responses=True, socket_timeout=5)


@pytest.fixture(scope="session")
def pb():
    return messages


@pytest.fixture
def make(request, work, kafka):
    made = []

    def start(aggregators=1, **settings):
        name = f"agg{random.randrange(10**9)}"
        fleet = AggregatorOnly(work / name, kafka=kafka, topic_prefix=name, aggregators=aggregators,
                               settings={"kafka": {"session-timeout": "6s"}, **settings})
        request.node.fleets = made
        made.append(fleet)
        return fleet.start()

    yield start
    for fleet in made:
        fleet.stop()
        shutil.rmtree(fleet.dir, ignore_errors=True)
    assert not [c for fleet in made for c in fleet.complaints]
    # A crash, and what a sanitizer found on the way out, show here; -9 is what tests do.
    codes = [p.exit_codes for fleet in made for n, p in fleet.processes.items() if "aggregator" in n]
    assert all(c[-1] == 0 and set(c) <= {0, -9} for c in codes), codes


class Feed:
    """Publishes what scheduler, workers and agent would; knows how many bytes are flushed at any time."""

    def __init__(self, fleet, pb, seed=1):
        self.fleet, self.pb, self.rng = fleet, pb, random.Random(seed)
        self.producer = confluent_kafka.Producer({"bootstrap.servers": fleet.kafka, "enable.idempotence": True})
        self.version = 0
        self.now_ms = int(time.time() * 1000)

    def send(self, topic, key, message):
        value = message if isinstance(message, (bytes, type(None))) else message.SerializeToString()
        self.producer.produce(f"{self.fleet.topic_prefix}.{topic}", key=key, value=value)
        self.producer.poll(0)

    def flush(self):
        assert self.producer.flush(30) == 0

    def job(self, job_id, phase, disks, **fields):
        self.version += 1
        s, j = self.pb.state, self.pb.job
        phase = getattr(s, f"JOB_PHASE_{phase}")
        state = s.JobState(job_id=job_id, version=self.version, phase=phase, disk_ids=disks, round=0,
                           sync_type=self.pb.common.SYNC_TYPE_FULL, agent="appliance-1",
                           spec=j.JobSpec(name="web01", disks=[j.DiskSpec(disk_id=d) for d in disks]),
                           created_at_ms=self.now_ms, updated_at_ms=int(time.time() * 1000), **fields)
        if phase >= s.JOB_PHASE_COPYING:
            state.phase_started_at_ms["copying"] = self.now_ms
        self.send("state", f"job/{job_id}", s.StateRecord(job=state))

    def disk(self, job_id, disk_id, status, allocated, capacity, final=None):
        self.version += 1
        s, c = self.pb.state, self.pb.common
        state = s.DiskState(job_id=job_id, disk_id=disk_id, version=self.version, sync_status=status, format="qcow2",
                            extents_available=True, allocated_bytes=allocated, capacity_bytes=capacity,
                            volume_id=f"vol-{disk_id}", export_name=f"migration-vol-vol-{disk_id}",
                            receipt="ab" * 16 if final is not None else "")
        if final is not None:
            state.final_counts.CopyFrom(c.ByteCounts(data_bytes=final))
        self.send("state", f"job/{job_id}/disk/{disk_id}", s.StateRecord(disk=state))

    def task(self, t, status, counts=None):
        self.version += 1
        s, c = self.pb.state, self.pb.common
        state = s.TaskState(task_id=t.id, job_id=t.job_id, disk_id=t.disk_id, version=self.version,
                            kind=s.TASK_KIND_REPAIR if t.repair else s.TASK_KIND_COPY,
                            status=getattr(s, f"TASK_STATUS_{status}"), round=0, attempt=t.attempt,
                            range=c.Range(offset=t.offset, length=t.length), planned_bytes=t.planned,
                            updated_at_ms=int(time.time() * 1000))
        if counts:
            state.counts.CopyFrom(counts)
        self.send("state", f"job/{t.job_id}/disk/{t.disk_id}/task/{t.id}", s.StateRecord(task=state))

    def progress(self, t, attempt=None, sequence=None, data=None, zero=None):
        e, c = self.pb.event, self.pb.common
        return e.Progress(job_id=t.job_id, disk_id=t.disk_id, task_id=t.id, round=0, attempt=attempt or t.attempt,
                          sequence=sequence if sequence is not None else t.sequence, process_id="worker-1",
                          at_ms=int(time.time() * 1000), repair=t.repair,
                          counts=c.ByteCounts(data_bytes=t.data if data is None else data,
                                              zero_found_bytes=t.zero if zero is None else zero))


class Task:
    """A range task that copies cell by cell. A tenth of what was planned turns out to be zeroes."""

    def __init__(self, job_id, disk_id, index, cells, repair=False):
        self.job_id, self.disk_id, self.repair = job_id, disk_id, repair
        self.id = f"{job_id}/{disk_id}/r0/{'repair' if repair else 'copy'}/{index}"
        self.offset, self.length = index * cells * CELL, cells * CELL
        self.planned = self.length // 2
        self.attempt, self.sequence, self.done_cells, self.cells = 1, 0, 0, cells
        self.data = self.zero = 0

    def step(self):
        self.done_cells += 1
        self.sequence += 1
        self.zero += self.planned // self.cells // 10 // 65536 * 65536
        self.data += self.planned // self.cells - self.planned // self.cells // 10 // 65536 * 65536


class Sampler(threading.Thread):
    """Reads the job's bytes all the time; remembers every fall and every value that was never flushed."""

    def __init__(self, fleet, job_id):
        super().__init__(daemon=True)
        self.fleet, self.job_id = fleet, job_id
        self.flushed = 0  # raised by the feed before it publishes
        self.last, self.samples, self.wrong, self.forgiven = 0, 0, [], 0
        self.ended = threading.Event()
        self.start()

    def forgive(self):
        """Redis forgets now: the view may begin anew, once."""
        self.forgiven += 1
        self.last = 0

    def run(self):
        view, seen = self.fleet.view(), 0
        while not self.ended.wait(0.002):
            forgiven = self.forgiven
            try:
                job = view.hmget(f"drover:job:{self.job_id}", "bytes_transferred", "total_bytes", "progress_percent")
            except redis.RedisError:
                continue
            if forgiven != seen:  # Redis may be another one now
                view, seen = self.fleet.view(), forgiven
                continue
            bytes_, total, percent = int(job[0] or 0), int(job[1] or 0), float(job[2] or 0)
            if forgiven != self.forgiven:
                continue
            self.samples += 1
            if bytes_ < self.last:
                self.wrong.append(f"fell from {self.last} to {bytes_}")
            if bytes_ > self.flushed:
                self.wrong.append(f"{bytes_} shown, {self.flushed} flushed")
            if bytes_ > total:
                self.wrong.append(f"{bytes_} of {total}")
            if percent > 100:
                self.wrong.append(f"{percent} %")
            self.last = bytes_

    def stop(self):
        self.ended.set()
        self.join(10)
        assert not self.wrong, self.wrong[:5]
        assert self.samples > 20


def run_job(fleet, pb, job_id, disturb=lambda step, sampler: None, tasks_per_disk=6, cells=8, pause=0.02):
    """One job of two disks from submission to completion. DISTURB(step) is called at every step of the copy."""
    feed = Feed(fleet, pb, seed=len(job_id))
    sampler = Sampler(fleet, job_id)
    disks = ["disk0", "disk1"]
    feed.job(job_id, "PREPARE", disks)
    tasks = [Task(job_id, d, i, cells) for d in disks for i in range(tasks_per_disk)]
    for d in disks:
        mine = [t for t in tasks if t.disk_id == d]
        feed.disk(job_id, d, "copying", sum(t.planned for t in mine), sum(t.length for t in mine))
    feed.job(job_id, "COPYING", disks)
    for t in tasks:
        feed.task(t, "READY")
    repair = Task(job_id, "disk0", 99, 1, repair=True)
    feed.task(repair, "READY")
    held_back, step = [], 0
    while any(t.done_cells < t.cells for t in tasks):
        step += 1
        disturb(step, sampler)
        t = feed.rng.choice([t for t in tasks if t.done_cells < t.cells])
        old = (t.attempt, t.sequence, t.data, t.zero)
        if feed.rng.random() < 0.1:
            t.attempt, t.sequence = t.attempt + 1, 0  # its worker died; the next one counts on
        t.step()
        sampler.flushed = sum(x.data for x in tasks)
        feed.send("checkpoints.site-1", f"{t.id}/{t.attempt}/{t.sequence}", pb.event.Checkpoint(
            job_id=job_id, disk_id=t.disk_id, task_id=t.id, attempt=t.attempt, sequence=t.sequence,
            at_ms=int(time.time() * 1000), cells=[pb.event.CellDone(
                cell=t.offset // CELL + t.done_cells - 1, digest=b"x" * 16, data_bytes=t.data - (old[2]),
                zero_found_bytes=t.zero - old[3])]))
        outgoing = [feed.progress(t)]
        if feed.rng.random() < 0.3:
            outgoing.append(feed.progress(t))  # twice
        if feed.rng.random() < 0.2:
            held_back.append(outgoing.pop(0))  # late
        if feed.rng.random() < 0.2:
            outgoing.append(feed.progress(t, *old))  # of before
        if held_back and feed.rng.random() < 0.2:
            outgoing.append(held_back.pop(0))
        repair.step()
        outgoing.append(feed.progress(repair))
        for message in outgoing:
            feed.send("progress.site-1", job_id, message)
        feed.producer.poll(0)
        time.sleep(pause)
    feed.send("progress.site-1", job_id, feed.progress(tasks[0], attempt=1, sequence=1, data=1, zero=0))
    for t in tasks:
        counts = pb.common.ByteCounts(data_bytes=t.data, zero_found_bytes=t.zero, skipped_bytes=t.length - t.planned)
        feed.send("events.site-1", job_id, pb.event.Event(
            job_id=job_id, disk_id=t.disk_id, task_id=t.id, attempt=t.attempt, at_ms=int(time.time() * 1000),
            finished=pb.event.TaskFinished(counts=counts)))
        feed.task(t, "DONE", counts)
    for d in disks:
        mine = [t for t in tasks if t.disk_id == d]
        feed.disk(job_id, d, "completed", sum(t.planned for t in mine), sum(t.length for t in mine),
                  final=sum(t.data for t in mine))
    feed.send("audit", job_id, pb.job.AuditRecord(job_id=job_id, at_ms=feed.now_ms, level="info", event="job.state",
                                                  message="copied", fields={"round": "0"}))
    feed.job(job_id, "COMPLETED", disks, started_at_ms=feed.now_ms, completed_at_ms=int(time.time() * 1000))
    feed.flush()
    expected = sum(t.data for t in tasks)
    view = fleet.view()
    try:
        fleet_module.wait_for(lambda: complete(view, job_id, expected), 60, f"A complete view of {job_id}")
    except (fleet_module.FleetError, redis.RedisError) as e:
        pytest.fail(f"{e}: {view.hgetall(f'drover:job:{job_id}')} instead of {expected} {view.hgetall('drover:offsets')}")
    sampler.stop()
    return expected


def complete(view, job_id, expected):
    try:
        job = view.hgetall(f"drover:job:{job_id}")
    except redis.RedisError:
        return False
    return (job.get("status") == "completed" and job.get("bytes_transferred") == job.get("total_bytes") == str(expected)
            and view.xlen(f"drover:log:{job_id}") >= 1)


def test_view_of_a_job(make, pb):
    fleet = make()
    heard = []
    subscriber = fleet.view().pubsub()
    subscriber.subscribe("drover:progress")

    def once_it_follows(step, sampler):
        """An aggregator that comes late folds the whole job at once, and then there is nothing to estimate."""
        if step == 1:
            fleet_module.wait_for(lambda: fleet.view().exists("drover:job:mig-1"), 60, "A view of the job")

    expected = run_job(fleet, pb, "mig-1", once_it_follows)
    view = fleet.view()
    job = view.hgetall("drover:job:mig-1")
    assert job["current_operation"] == "Completed" and job["vma_current_phase"] == "Complete"
    assert job["vma_sync_type"] == "full" and job["replication_type"] == "initial"
    assert job["progress_percent"] == "100.00" and job["vma_eta_seconds"] == "0" and job["transfer_speed_bps"] == "0"
    disks = [view.hgetall(f"drover:disk:mig-1:{d}") for d in ("disk0", "disk1")]
    assert sum(int(d["bytes_synced"]) for d in disks) == sum(int(d["total_bytes"]) for d in disks) == expected
    assert [d["sync_status"] for d in disks] == ["completed"] * 2 and disks[0]["volume_id"] == "vol-disk0"
    assert view.zrange("drover:jobs", 0, -1) == view.zrange("drover:jobs:completed", 0, -1) == ["mig-1"]
    assert not view.exists("drover:jobs:running")
    assert [e["success"] for _, e in view.xrange("drover:cbt_history:mig-1:disk0")] == ["1"]
    assert view.xrange("drover:log:mig-1")[-1][1]["round"] == "0"
    while not heard or heard[-1]["status"] != "completed":
        message = subscriber.get_message(timeout=10)
        assert message, heard[-1:]
        if message["type"] == "message":
            heard.append(json.loads(message["data"]))
    assert any(h["vma_eta_seconds"] for h in heard)
    shown = json.loads(fleet.drover("show", "mig-1", "--json").stdout)
    assert shown["bytes_transferred"] == expected and len(shown["disks"]) == 2
    assert "100.0%" in fleet.drover("jobs").stdout
    assert "copied" in fleet.drover("log", "mig-1").stdout
    fleet_module.wait_for(lambda: "progress-aggregator-1" in fleet.drover("fleet").stdout, 10, "The heartbeat")
    assert fleet.drover("watch", "mig-1").returncode == 0
    assert fleet.drover("show", "mig-none", check=False).returncode == 4


def test_killed_again_and_again(make, pb):
    fleet = make(aggregators=2)

    def disturb(step, sampler):
        if step in (15, 40, 65):
            fleet[f"progress-aggregator-{1 + step % 2}"].kill(signal.SIGKILL)

    run_job(fleet, pb, "mig-kill", disturb)


def test_redis_forgets(make, pb):
    """FLUSHALL, and a Redis that is killed and comes back empty: the view is complete again each time."""
    fleet = make()

    def disturb(step, sampler):
        if step == 25:
            sampler.forgive()
            fleet.view().flushall()
            sampler.forgive()
        if step == 60:
            sampler.forgive()
            fleet["redis"].kill(signal.SIGKILL)
            time.sleep(0.1)
            sampler.forgive()

    expected = run_job(fleet, pb, "mig-flush", disturb)
    view = fleet.view()
    before = view.hgetall("drover:job:mig-flush")
    view.flushall()
    shown = set()

    def rebuilt():
        shown.add(tuple(view.hmget("drover:job:mig-flush", "status", "bytes_transferred", "total_bytes")))
        return complete(view, "mig-flush", expected)

    fleet_module.wait_for(rebuilt, 30, "The rebuilt view", poll=0.001)
    # The finished job does not run once more before the reader's eyes.
    assert shown <= {(None, None, None), ("completed", str(expected), str(expected))}, shown
    after = view.hgetall("drover:job:mig-flush")
    assert {k: v for k, v in after.items() if k != "updated_at"} == {k: v for k, v in before.items() if k != "updated_at"}


def test_redis_goes_back(make, pb):
    """A failover to a replica that lagged: data and offsets go back together, what is missing is folded again."""
    fleet = make()
    feed_dir = fleet.dir

    def disturb(step, sampler):
        if step == 20:
            fleet.view().save()
            shutil.copy(feed_dir / "dump.rdb", feed_dir / "lagging.rdb")
        if step == 60:
            sampler.forgive()
            shutil.copy(feed_dir / "lagging.rdb", feed_dir / "dump.rdb")
            fleet["redis"].kill(signal.SIGKILL)
            time.sleep(0.3)
            sampler.forgive()

    run_job(fleet, pb, "mig-back", disturb)


def test_redis_away_for_long(make, pb):
    fleet = make()

    def disturb(step, sampler):
        if step == 30:
            fleet["redis"].kill(signal.SIGSTOP)
            threading.Timer(8, lambda: fleet["redis"].kill(signal.SIGCONT)).start()

    run_job(fleet, pb, "mig-away", disturb)


def test_sentinel_failover(make, pb, work):
    """The master of a Sentinel changes in the middle of a copy; the replica may lag."""
    ports = [fleet_module.free_port() for _ in range(3)]
    directory = work / f"sentinel-{ports[0]}"
    directory.mkdir()
    (directory / "sentinel.conf").write_text(
        f"port {ports[2]}\nbind 127.0.0.1\ndir {directory}\nsentinel monitor drover 127.0.0.1 {ports[0]} 1\n"
        "sentinel down-after-milliseconds drover 1000\nsentinel failover-timeout drover 3000\n")
    common = ["--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
    children = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in (
        ["redis-server", "--port", str(ports[0]), *common],
        ["redis-server", "--port", str(ports[1]), *common, "--replicaof", "127.0.0.1", str(ports[0])],
        ["redis-server", str(directory / "sentinel.conf"), "--sentinel"])]
    try:
        sentinel = redis.Redis(port=ports[2], decode_responses=True)
        fleet_module.wait_for(lambda: replicas_known(sentinel), 30, "The Sentinel's knowledge of the replica")
        fleet = make(redis={"sentinels": f"127.0.0.1:{ports[2]}", "master-name": "drover"})
        fleet.view = lambda: redis.Redis(port=sentinel.sentinel_master("drover")["port"], decode_responses=True,
                                         socket_timeout=5)

        def disturb(step, sampler):
            if step == 50:
                sampler.forgive()
                sentinel.execute_command("SENTINEL", "FAILOVER", "drover")
                fleet_module.wait_for(lambda: sentinel.sentinel_master("drover")["port"] == ports[1], 20, "The failover")
                sampler.forgive()

        run_job(fleet, pb, "mig-sentinel", disturb)
        assert fleet.drover("show", "mig-sentinel").returncode == 0
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait(10)


def replicas_known(sentinel):
    try:
        return sentinel.sentinel_master("drover")["num-slaves"] == 1
    except redis.RedisError:
        return False


def test_poison(make, pb):
    fleet = make()
    feed = Feed(fleet, pb)
    for topic in ("state", "progress.site-1", "events.site-1", "checkpoints.site-1", "audit", "fleet"):
        feed.send(topic, "poison", b"\xff\xff\xff not protobuf")
    feed.send("progress.site-1", "x", pb.event.Progress(job_id="../etc", disk_id="a b", task_id="t", attempt=1))
    feed.send("progress.site-1", "x", pb.event.Progress(job_id="j", disk_id="d", task_id="t", attempt=1, sequence=1,
                                                        counts=pb.common.ByteCounts(data_bytes=1 << 63)))
    feed.flush()
    # A key of the wrong type makes a script fail: that record is put aside, too, and those behind it are not.
    fleet.view().set("drover:log:broken", "no stream")
    feed.send("audit", "broken", pb.job.AuditRecord(job_id="broken", message="cannot be stored"))
    run_job(fleet, pb, "mig-poison", pause=0.005)
    letters = [json.loads(line) for line in fleet.drover("dlq", "--json").stdout.splitlines()]
    assert len(letters) == 9, letters
    assert sum("/etc" in x["reason"] for x in letters) == 1 and sum("8 PiB" in x["reason"] for x in letters) == 1
    assert fleet.view().keys("*etc*") == []


def test_newer_state_wins_and_a_deleted_job_goes(make, pb):
    fleet = make()
    feed, view = Feed(fleet, pb), fleet.view()
    feed.version = 10
    feed.job("mig-old", "FAILED", ["disk0"], error=pb.common.Error(code="DRV-SOURCE-MISSING", message="no such disk"))
    feed.flush()
    fleet_module.wait_for(lambda: view.exists("drover:job:mig-old"), 20, "The job")
    feed.version = 5
    feed.job("mig-old", "COPYING", ["disk0"])
    feed.job("mig-next", "SUBMITTED", ["disk0"])
    feed.flush()
    fleet_module.wait_for(lambda: view.hget("drover:job:mig-next", "status") == "queued", 20, "The next job")
    job = view.hgetall("drover:job:mig-old")
    assert (job["status"], job["current_operation"]) == ("failed", "Failed")
    assert job["error_message"] == "DRV-SOURCE-MISSING: no such disk" and job["vma_eta_seconds"] == ""
    done = subprocess.run([fleet.bin / "drover", "watch", "mig-old", "--config", fleet.conf], capture_output=True, text=True)
    assert done.returncode == 1 and "no such disk" in done.stderr
    feed.send("state", "job/mig-old", None)
    feed.flush()
    fleet_module.wait_for(lambda: not view.exists("drover:job:mig-old"), 20, "The end of the job's view")
    assert view.zrange("drover:jobs", 0, -1) == ["mig-next"]
