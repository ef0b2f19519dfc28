# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the leader: hands tasks to real workers over a real broker, and collects what they report."""
import json
import os
import signal
import socket
import subprocess
import threading
import time
import uuid
from pathlib import Path

import confluent_kafka
from confluent_kafka.admin import AdminClient, NewTopic

import messages as pb

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("DROVER_BIN") or ROOT / "build/release/bin")
SITE = "site-1"
CELL = 32 << 20
TOKEN = "00112233445566778899aabbccddeeff"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def now_ms():
    return int(time.time() * 1000)


def children(pid):
    """Process ids whose parent is PID."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                found.append(int(entry.name))
    return found


def cmdline(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


class Worker:
    """One drover-worker process. Its name is in the test's hands, its log is a file."""

    def __init__(self, leader, name="worker-1", **options):
        self.leader, self.name = leader, name
        self.log = leader.dir / f"{name}.{uuid.uuid4().hex[:6]}.log"
        conf = leader.dir / f"{name}.conf"
        values = {"name": name, "site": SITE, "run-dir": leader.dir / "run", "heartbeat-interval": "500ms",
                  "drain-timeout": "10s", "reconnect-timeout": "20s", **{k.replace("_", "-"): v for k, v in options.items()}}
        vcenters = values.pop("vcenters", None)
        conf.write_text(f"[kafka]\nbrokers={leader.broker}\ntopic-prefix={leader.prefix}\nsession-timeout=6s\n"
                        f"[fleet]\nsites={SITE}\n[worker]\n" + "".join(f"{k}={v}\n" for k, v in values.items())
                        + (f"[vsphere]\nvcenters={vcenters}\n" if vcenters else ""))
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen([BIN / "drover-worker", "--config", conf, "--log-level=debug"],
                                            stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.pid = self.process.pid
        leader.workers.append(self)

    def children(self):
        return children(self.pid)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, timeout=30):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def log_lines(self):
        return [json.loads(line) for line in self.log.read_text(errors="replace").splitlines() if line.startswith("{")]


class Leader:
    TOPICS = {f"drover.tasks.{SITE}.source": 4, f"drover.tasks.{SITE}.copy": 4, "drover.control": 1,
              f"drover.events.{SITE}": 2, f"drover.progress.{SITE}": 2, f"drover.checkpoints.{SITE}": 2,
              "drover.fleet": 1, "drover.dlq": 1}
    READ = {f"drover.events.{SITE}": pb.event.Event, f"drover.progress.{SITE}": pb.event.Progress,
            f"drover.checkpoints.{SITE}": pb.event.Checkpoint, "drover.fleet": pb.fleet.Heartbeat,
            "drover.dlq": pb.job.DeadLetter}

    def __init__(self, broker, directory):
        self.broker, self.dir = broker, Path(directory)
        self.dir.mkdir(parents=True)
        self.prefix = f"w{uuid.uuid4().hex[:8]}"
        self.workers, self.servers = [], []
        self.version = 0
        self.job = "job-1"  # what tasks belong to unless told otherwise
        conf = {"bootstrap.servers": broker}
        topics = [NewTopic(self.wire(t), n, 1) for t, n in self.TOPICS.items()]
        admin = AdminClient(conf)
        for future in admin.create_topics(topics).values():
            future.result(20)
        self.producer = confluent_kafka.Producer({**conf, "linger.ms": 0})
        self.records = {topic: [] for topic in self.READ}
        self.lock = threading.Condition(threading.RLock())
        self.running = True
        self.consumer = confluent_kafka.Consumer({**conf, "group.id": f"{self.prefix}-test", "enable.auto.commit": False})
        self.consumer.assign([confluent_kafka.TopicPartition(self.wire(t), p, confluent_kafka.OFFSET_BEGINNING)
                              for t in self.READ for p in range(self.TOPICS[t])])
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def wire(self, topic):
        return self.prefix + topic[len("drover"):]

    def _read(self):
        while self.running:
            message = self.consumer.poll(0.1)
            if message is None or message.error():
                continue
            topic = "drover" + message.topic()[len(self.prefix):]
            record = self.READ[topic].FromString(message.value())
            with self.lock:
                self.records[topic].append((message.key().decode(), record))
                self.lock.notify_all()

    def wait(self, topic, predicate, timeout=30, what=None):
        """The first record (message) on TOPIC that PREDICATE likes."""
        topic = {"events": f"drover.events.{SITE}", "progress": f"drover.progress.{SITE}",
                 "checkpoints": f"drover.checkpoints.{SITE}"}.get(topic, topic)
        deadline = time.monotonic() + timeout
        with self.lock:
            while True:
                for _, record in self.records[topic]:
                    if predicate(record):
                        return record
                left = deadline - time.monotonic()
                assert left > 0, f"no such record on {topic} within {timeout} s{': ' + what if what else ''}\n{self.tail()}"
                self.lock.wait(left)

    def tail(self):
        lines = [str(r[1]).replace("\n", " ") for r in self.records[f"drover.events.{SITE}"][-5:]]
        for worker in self.workers:
            lines += worker.log.read_text(errors="replace").splitlines()[-15:]
        return "\n".join(lines)

    def all(self, topic):
        topic = {"events": f"drover.events.{SITE}", "progress": f"drover.progress.{SITE}",
                 "checkpoints": f"drover.checkpoints.{SITE}"}.get(topic, topic)
        with self.lock:
            return [r for _, r in self.records[topic]]

    def event(self, task, body, timeout=30):
        """The event about TASK whose body is BODY ("claimed", "finished", ...); another end of it fails the test."""
        ends = ("finished", "failed", "released", "inspected", "source_vm")
        found = self.wait("events", lambda e: e.task_id == task.task_id and e.attempt == task.attempt and
                          (e.WhichOneof("body") == body or (body in ends and e.WhichOneof("body") in ends)),
                          timeout, f"{body} of {task.task_id}")
        assert found.WhichOneof("body") == body, f"expected {body}: {found}"
        # The leader believes the owner of an attempt only, so a claim must have come before.
        about = [e.WhichOneof("body") for e in self.all("events") if (e.task_id, e.attempt, e.instance_id) ==
                 (found.task_id, found.attempt, found.instance_id)]
        assert about[0] == "claimed" or body == "claimed", about
        return found

    def heartbeat(self, predicate, timeout=30):
        return self.wait("drover.fleet", predicate, timeout, "heartbeat")

    def ready(self, worker, copy=1, source=1):
        """Waits until WORKER owns partitions; returns its heartbeat."""
        return self.heartbeat(lambda h: h.pid == worker.pid and len(h.worker.copy_partitions) >= copy and
                              len(h.worker.source_partitions) >= source)

    def partition(self, worker, kind):
        """One that WORKER owns by its newest heartbeat; waits while it owns none."""
        def newest(_):
            beats = [h for h in self.all("drover.fleet") if h.pid == worker.pid]
            return beats and getattr(beats[-1].worker, f"{kind}_partitions")
        self.heartbeat(newest)
        return newest(None)[0]

    def send(self, topic, value, key=None, partition=0):
        failures = []
        self.producer.produce(self.wire(topic), value, key=key or self.job, partition=partition,
                              on_delivery=lambda error, _: error and failures.append(error))
        self.producer.flush(20)
        assert not failures, failures

    def hand_out(self, task, worker):
        kind = "copy" if task.HasField("copy") else "source"
        self.send(f"drover.tasks.{SITE}.{kind}", task.SerializeToString(), task.job_id, self.partition(worker, kind))
        return task

    def control(self, *tasks, desired="RUN", at_ms=None, **live):
        """A snapshot that lists TASKS; keyword arguments set fields of each LiveTask."""
        self.version += 1
        record = pb.control.ControlRecord(version=self.version, at_ms=now_ms() if at_ms is None else at_ms, leader="test")
        record.job.job_id = self.job
        record.job.desired = getattr(pb.control, f"DESIRED_STATE_{desired}")
        for task in tasks:
            record.job.tasks.add(**{"task_id": task.task_id, "attempt": task.attempt, **live})
        self.send("drover.control", record.SerializeToString())

    # ---- things to copy

    def target(self, size, *filters, **parameters):
        """A plain NBD server over an empty file of SIZE bytes; it takes any export name."""
        path = self.dir / f"target-{len(self.servers)}.raw"
        with open(path, "wb") as out:
            out.truncate(size)
        port = free_port()
        argv = ["nbdkit", "-f", "-i", "127.0.0.1", "-p", str(port)] + [f"--filter={f}" for f in filters]
        argv += ["file", str(path)] + [f"{k}={v}" for k, v in parameters.items()]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=open(self.dir / "nbdkit.log", "ab"))
        self.servers.append(process)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", port)) == 0:
                    return path, port
            assert process.poll() is None, "nbdkit ended"
            time.sleep(0.05)
        raise AssertionError("nbdkit does not listen")

    def inspect_task(self, path, attempt=1, disk="disk0", **file):
        task = pb.task.Task(task_id=f"{self.job}/{disk}/r0/inspect/{uuid.uuid4().hex[:6]}", job_id=self.job, disk_id=disk,
                            attempt=attempt, created_at_ms=now_ms())
        task.inspect.source.file.path = str(path)
        for key, value in file.items():
            setattr(task.inspect.source.file, key, value)
        return task

    def copy_task(self, source_task, inspected, port, offset=0, length=None, attempt=1, done=(), done_counts=None, **fields):
        task = pb.task.Task(task_id=f"{source_task.job_id}/{source_task.disk_id}/r0/copy/{offset}",
                            job_id=source_task.job_id, disk_id=source_task.disk_id, attempt=attempt, created_at_ms=now_ms())
        copy = task.copy
        copy.source.CopyFrom(source_task.inspect.source)
        if copy.source.HasField("file"):
            copy.source.file.format = inspected.format
        copy.identity.CopyFrom(inspected.identity)
        copy.capacity_bytes = inspected.capacity_bytes
        copy.sync_type = pb.common.SYNC_TYPE_FULL
        copy.range.offset, copy.range.length = offset, inspected.capacity_bytes - offset if length is None else length
        copy.digest = pb.common.DIGEST_ALGORITHM_XXH3
        bits = bytearray((max(done) - offset // CELL) // 8 + 1 if done else 0)
        for cell in done:
            bits[(cell - offset // CELL) // 8] |= 1 << (cell - offset // CELL) % 8
        copy.done_cells = bytes(bits)
        if done_counts is not None:
            copy.done_counts.CopyFrom(done_counts)
        target = copy.target
        target.agent, target.volume_id, target.host, target.port = "appliance-1", "vol-1", "127.0.0.1", port
        target.export_name, target.generation, target.token = "migration-vol-vol-1", 1, TOKEN
        for key, value in fields.items():
            setattr(copy, key, value)
        return task

    def inspected(self, path, worker, disk="disk0", **file):
        task = self.hand_out(self.inspect_task(path, disk=disk, **file), worker)
        return task, self.event(task, "inspected").inspected

    def close_servers(self):
        for server in self.servers:
            server.kill()
            server.wait()
        self.servers.clear()

    def close(self):
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill()
        self.close_servers()
        self.running = False
        self.thread.join()
        self.consumer.close()
