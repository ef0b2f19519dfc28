# SPDX-License-Identifier: Apache-2.0
"""Plays workers and a volume agent against real schedulers on a real broker, and remembers what it was asked to do."""

import ctypes
import hashlib
import signal
import subprocess
import threading
import time
import uuid
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition, OFFSET_BEGINNING

from messages import (control as control_pb2, event as event_pb2, fleet as fleet_pb2, job as job_pb2, operation as operation_pb2,
                      state as state_pb2, task as task_pb2)

ROOT = Path(__file__).resolve().parent.parent.parent
CELL = 32 << 20
MIB = 1 << 20
SITE, AGENT = "site-1", "appliance-1"
libc = ctypes.CDLL(None, use_errno=True)


def now_ms():
    return int(time.time() * 1000)


def wait_for(condition, seconds=30, what="it"):
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.02)


class Bench:
    """A topic prefix of its own on a broker, schedulers, and the topics' contents as they grow."""

    def __init__(self, directory, kafka, bin_dir, settings=None):
        self.dir, self.kafka, self.bin = Path(directory), kafka, Path(bin_dir)
        self.dir.mkdir(parents=True)
        self.prefix = f"s{uuid.uuid4().hex[:8]}"
        values = {"lease": "5s", "claim-timeout": "5s", "heartbeat-interval": "500ms", "backoff-first": "100ms",
                  "backoff-max": "500ms", "verify-wait": "100ms", "leader-session-timeout": "6s", **(settings or {})}
        self.conf = self.dir / "drover.conf"
        self.conf.write_text(f"[kafka]\nbrokers={kafka}\ntopic-prefix={self.prefix}\n[fleet]\nsites={SITE}\nagents={AGENT}\n"
                             "[scheduler]\n" + "".join(f"{k}={v}\n" for k, v in values.items()))
        self.children, self.actors, self.may_exit = {}, [], {}
        self.producer = Producer({"bootstrap.servers": kafka, "linger.ms": 1})
        subprocess.run([self.bin / "drover", "topics", "apply", "--file", ROOT / "deploy/topics.yaml", "--config", self.conf],
                       check=True, stdout=subprocess.DEVNULL, timeout=60)
        self.view = View(self)

    def topic(self, name):
        return name.replace("drover", self.prefix, 1)

    def scheduler(self, name="scheduler-1"):
        log = open(self.dir / f"{name}.log", "ab")
        child = subprocess.Popen([self.bin / "drover-scheduler", "--config", self.conf, f"--scheduler-name={name}",
                                  "--log-format=json", "--log-level=info"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                 preexec_fn=lambda: libc.prctl(1, signal.SIGKILL))
        self.children[name] = child
        return child

    def log(self, name="scheduler-1"):
        return (self.dir / f"{name}.log").read_text()

    def leader(self):
        """Name of the scheduler whose heartbeat says that it leads."""
        for name in self.children:
            beat = self.view.fleet.get(name)
            if beat and beat.scheduler.leader and self.children[name].poll() is None:
                return name
        return None

    def send(self, topic, key, message, partition=None):
        value = message if message is None or isinstance(message, bytes) else message.SerializeToString()
        kwargs = {} if partition is None else {"partition": partition}
        self.producer.produce(self.topic(topic), key=key, value=value, **kwargs)
        self.producer.poll(0)

    def submit(self, job_id, disks, **fields):
        """DISKS: {path: target size or None}"""
        command = job_pb2.JobCommand(job_id=job_id, submitter="test")
        spec = command.submit
        spec.name = fields.pop("name", "web01")
        target = fields.pop("target", None)
        if target:
            spec.target.CopyFrom(target)
        for path, size in disks.items():
            disk = spec.disks.add()
            disk.source.file.path = path
            if size is not None:
                disk.target_size_bytes = size
        for field, value in fields.items():
            setattr(spec, field, value)
        self.command(command)
        return job_id

    def command(self, command):
        self.send("drover.jobs", command.job_id, command)
        self.producer.flush(10)

    def job(self, job_id):
        return self.view.jobs.get(job_id)

    def phase(self, job_id):
        job = self.job(job_id)
        return state_pb2.JobPhase.Name(job.phase).removeprefix("JOB_PHASE_") if job else None

    def wait_phase(self, job_id, *phases, seconds=40):
        def reached():
            return self.phase(job_id) in phases
        try:
            wait_for(reached, seconds)
        except AssertionError:
            raise AssertionError(f"{job_id} is {self.phase(job_id)}, not {phases}:\n{self.job(job_id)}\n"
                                 + "".join(self.log(n)[-3000:] for n in self.children)) from None
        return self.job(job_id)

    def disks(self, job_id):
        return [d for (j, _), d in sorted(self.view.disks.items()) if j == job_id]

    def tasks(self, job_id, kind=state_pb2.TASK_KIND_COPY):
        return [t for t in self.view.tasks.values() if t.job_id == job_id and t.kind == kind]

    def audit(self, job_id):
        return [(a.event, a.message) for a in self.view.audit if a.job_id == job_id]

    def close(self):
        for actor in self.actors:
            actor.stop()
        for child in self.children.values():
            if child.poll() is None:
                child.terminate()
        for child in self.children.values():
            try:
                child.wait(15)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self.view.stop()
        self.producer.flush(5)


class Reader(threading.Thread):
    """Reads all partitions of some topics, committed records only, from their beginning."""

    def __init__(self, bench, topics, partitions=None):
        super().__init__(daemon=True)
        self.bench, self.stopped, self.failure = bench, threading.Event(), None
        self.consumer = Consumer({"bootstrap.servers": bench.kafka, "group.id": f"x{uuid.uuid4().hex}",
                                  "enable.auto.commit": False, "isolation.level": "read_committed",
                                  "fetch.wait.max.ms": 20, "auto.offset.reset": "earliest"})
        names = [bench.topic(t) for t in topics]
        metadata = wait_for(lambda: self.metadata(names), 10, "metadata of all topics")
        self.consumer.assign([TopicPartition(n, p, OFFSET_BEGINNING) for n in names for p in metadata[n].partitions
                              if partitions is None or p in partitions.get(n.replace(bench.prefix, "drover", 1), ())])

    def metadata(self, names):
        known = self.consumer.list_topics(timeout=10).topics
        return known if all(n in known and known[n].partitions for n in names) else None

    def run(self):
        try:
            while not self.stopped.is_set():
                message = self.consumer.poll(0.02)
                if message is not None and message.error() is None:
                    self.take(message.topic().replace(self.bench.prefix, "drover", 1), message)
                self.idle()
        except Exception as e:  # shown by the test that waits in vain
            self.failure = e
            raise
        finally:
            self.consumer.close()

    def idle(self):
        pass

    def stop(self):
        self.stopped.set()
        if self.is_alive():
            self.join(5)


class View(Reader):
    """What everybody can see: state, control, audit, letters, heartbeats. Keeps every state record for checks."""

    def __init__(self, bench):
        self.jobs, self.disks, self.tasks, self.control, self.fleet = {}, {}, {}, {}, {}
        self.audit, self.letters, self.history, self.raw_state, self.offsets = [], [], [], [], None
        self.grants, self.checkpoints = [], {}
        super().__init__(bench, ["drover.state", "drover.control", "drover.audit", "drover.dlq", "drover.fleet",
                                 f"drover.checkpoints.{SITE}"])
        self.start()

    def take(self, topic, message):
        key, value = (message.key() or b"").decode(), message.value()
        if topic == "drover.state":
            self.take_state(key, value)
        elif topic == "drover.control" and value is not None:
            record = control_pb2.ControlRecord.FromString(value)
            known = self.control.get(key)
            assert known is None or record.version > known.version, "control version does not rise"
            self.control[key] = record
            self.grants.append(record)
        elif topic == "drover.audit":
            self.audit.append(job_pb2.AuditRecord.FromString(value))
        elif topic == "drover.dlq":
            self.letters.append(job_pb2.DeadLetter.FromString(value))
        elif topic == "drover.fleet" and value is not None:
            beat = fleet_pb2.Heartbeat.FromString(value)
            self.fleet[beat.process_id] = beat
        elif topic.startswith("drover.checkpoints."):
            self.checkpoints[key] = value

    def take_state(self, key, value):
        if value is None:
            for table in (self.jobs, self.disks, self.tasks):
                for k in [k for k, r in table.items() if self.key_of(r) == key]:
                    del table[k]
            return
        self.raw_state.append(value)
        record = state_pb2.StateRecord.FromString(value)
        kind = record.WhichOneof("record")
        body = getattr(record, kind)
        if kind == "offsets":
            self.offsets = body
            return
        assert self.key_of(body) == key
        table, name = {"job": (self.jobs, body.job_id),
                       "disk": (self.disks, (body.job_id, getattr(body, "disk_id", ""))),
                       "task": (self.tasks, getattr(body, "task_id", ""))}[kind]
        assert name not in table or body.version > table[name].version, f"version of {key} does not rise"
        table[name] = body
        self.history.append((kind, body))

    @staticmethod
    def key_of(body):
        if isinstance(body, state_pb2.JobState):
            return f"job/{body.job_id}"
        if isinstance(body, state_pb2.DiskState):
            return f"job/{body.job_id}/disk/{body.disk_id}"
        return f"job/{body.job_id}/disk/{body.disk_id}/task/{body.task_id}"


class Sources:
    """Disks that do not exist: size, allocation, and a digest for each cell."""

    def __init__(self):
        self.shapes = {}

    def add(self, path, capacity, allocated=None, error=None):
        self.shapes[path] = (capacity, capacity if allocated is None else allocated, error)
        return path

    @staticmethod
    def digest(path, cell):
        return hashlib.sha256(f"{path} {cell}".encode()).digest()[:16]


class Worker(Reader):
    """A worker process: owns partitions by number, claims, copies cells at a pace, checkpoints, obeys drover.control."""

    def __init__(self, bench, sources, target, name="worker-1", copy=(0, 1), source=(0,), slots=2, cell_seconds=0.0,
                 claims=True):
        self.sources, self.target, self.name_, self.slots = sources, target, name, slots
        self.instance = f"{name}-{uuid.uuid4().hex[:6]}"
        self.cell_seconds, self.claims, self.frozen, self.draining = cell_seconds, claims, False, False
        self.copy_partitions, self.source_partitions = copy, source
        self.running, self.lock, self.seen_tasks, self.next_beat, self.sequence = {}, threading.Lock(), [], 0, 0
        self.started = now_ms()
        self.fail_next = []  # errors to answer the next copy tasks with
        self.fail_now = None  # error for the first running copy task that sees it
        self.rates = []
        super().__init__(bench, [f"drover.tasks.{SITE}.copy", f"drover.tasks.{SITE}.source"],
                         {f"drover.tasks.{SITE}.copy": copy, f"drover.tasks.{SITE}.source": source})
        # A group member would go on after the committed offset: old tasks are not ours.
        positions = []
        for p in self.consumer.assignment():
            p.offset = self.consumer.get_watermark_offsets(p, timeout=10)[1]
            positions.append(p)
        self.consumer.assign(positions)
        bench.actors.append(self)
        self.start()

    def idle(self):
        if not self.frozen and time.monotonic() >= self.next_beat:
            self.next_beat = time.monotonic() + 0.3
            self.beat()

    def beat(self, stopped=False):
        self.sequence += 1
        beat = fleet_pb2.Heartbeat(process_id=self.name_, instance_id=self.instance, role=fleet_pb2.ROLE_WORKER, site=SITE,
                                   started_at_ms=self.started, at_ms=now_ms(), interval_ms=300, sequence=self.sequence,
                                   draining=self.draining, stopped=stopped)
        beat.worker.copy_slots, beat.worker.source_slots = self.slots, 1
        beat.worker.copy_partitions.extend(self.copy_partitions)
        beat.worker.source_partitions.extend(self.source_partitions)
        with self.lock:
            for task_id, attempt in self.running.items():
                beat.worker.running.add(task_id=task_id, attempt=attempt)
        self.bench.send("drover.fleet", self.name_, beat)

    def take(self, topic, message):
        task = task_pb2.Task.FromString(message.value())
        self.seen_tasks.append(task)
        if self.frozen or not self.claims:
            return
        with self.lock:
            assert len(self.running) < self.slots + 1, "more tasks than slots"
            self.running[task.task_id] = task.attempt
        threading.Thread(target=self.execute, args=(task, message.partition()), daemon=True).start()

    def event(self, task, **body):
        if self.frozen:
            return
        event = event_pb2.Event(job_id=task.job_id, disk_id=task.disk_id, task_id=task.task_id, attempt=task.attempt,
                                round=task.round, process_id=self.name_, instance_id=self.instance, at_ms=now_ms(), **body)
        self.bench.send(f"drover.events.{SITE}", task.job_id, event)

    def execute(self, task, partition):
        self.event(task, claimed=event_pb2.TaskClaimed(partition=partition))
        try:
            if task.WhichOneof("body") == "inspect":
                self.inspect(task)
            else:
                self.copy(task)
        finally:
            with self.lock:
                self.running.pop(task.task_id, None)

    def inspect(self, task):
        path = task.inspect.source.file.path
        capacity, allocated, error = self.sources.shapes[path]
        if error:
            self.event(task, failed=event_pb2.TaskFailed(error=error))
            return
        result = event_pb2.InspectResult(format="raw", capacity_bytes=capacity, allocated_bytes=allocated,
                                         extents_available=True, bucket_bytes=CELL, frozen=True)
        cells = (capacity + CELL - 1) // CELL
        left = allocated
        for _ in range(cells):
            result.bucket_allocated_bytes.append(min(left, CELL))
            left -= min(left, CELL)
        result.identity.kind, result.identity.file_size_bytes = "file", capacity
        self.event(task, inspected=result)

    def revoked(self, task):
        record = self.bench.view.control.get(task.job_id)
        if record is None or self.frozen:
            return "frozen" if self.frozen else None
        for live in record.job.tasks:
            if live.task_id == task.task_id:
                if live.attempt > task.attempt:
                    return "fenced"
                if live.owner_instance == self.instance:
                    return "paused" if record.job.desired == control_pb2.DESIRED_STATE_PAUSE else None
        return "stopped" if record.job.desired == control_pb2.DESIRED_STATE_STOP else None

    def copy(self, task):
        copy = task.copy
        path = copy.source.file.path
        assert copy.target.token == self.target.tokens[(copy.target.volume_id, copy.target.generation)]
        self.rates.append(copy.rate_bytes_per_second)
        if self.fail_next:
            self.event(task, failed=event_pb2.TaskFailed(error=self.fail_next.pop(0)))
            return
        first = copy.range.offset // CELL
        count = (copy.range.length + CELL - 1) // CELL
        counts = event_pb2.TaskFinished().counts
        counts.CopyFrom(copy.done_counts)
        capacity, allocated, _ = self.sources.shapes[path]
        for sequence in range(count):
            done = copy.done_cells
            if sequence // 8 < len(done) and done[sequence // 8] >> sequence % 8 & 1:
                continue
            time.sleep(self.cell_seconds)
            error, self.fail_now = self.fail_now, None
            if error:
                self.event(task, failed=event_pb2.TaskFailed(error=error))
                return
            why = self.revoked(task)
            if why == "paused":
                self.event(task, released=event_pb2.TaskReleased(reason="paused"))
            if why:
                return
            cell = first + sequence
            length = min(CELL, capacity - cell * CELL)
            data = max(0, min(length, allocated - cell * CELL))
            if not self.target.write(copy.target, cell, self.sources.digest(path, cell), copy.repair):
                return  # fenced by the server
            checkpoint = event_pb2.Checkpoint(job_id=task.job_id, disk_id=task.disk_id, task_id=task.task_id,
                                              attempt=task.attempt, sequence=sequence, volume_id=copy.target.volume_id,
                                              generation=copy.target.generation, process_id=self.name_, at_ms=now_ms())
            checkpoint.cells.add(cell=cell, digest=self.sources.digest(path, cell), data_bytes=data,
                                 skipped_bytes=length - data)
            self.bench.send(f"drover.checkpoints.{SITE}", f"{task.task_id}/{task.attempt}/{sequence}", checkpoint)
            counts.data_bytes += data
            counts.skipped_bytes += length - data
            counts.read_bytes += data
        self.event(task, finished=event_pb2.TaskFinished(counts=counts, extents_available=True))

    def crash(self):
        """Silence from now on: kill -9."""
        self.frozen = True
        self.stop()


class Agent(Reader):
    """A volume agent with its CloudStack: journals results, refuses what the real one refuses."""

    def __init__(self, bench, device_slots=8, delay=0.0):
        self.volumes, self.attached, self.exports, self.tokens, self.vms = {}, {}, {}, {}, {}
        self.content, self.writes, self.repairs = {}, [], 0
        self.operations, self.problems, self.fail, self.corrupt, self.delay = [], [], {}, set(), delay
        self.device_slots, self.sequence, self.next_beat, self.silent = device_slots, 0, 0, False
        self.instance, self.started, self.verified = f"agent-{uuid.uuid4().hex[:6]}", now_ms(), 0
        self.lock, self.deaf_to_verify, self.unanswered = threading.Lock(), False, 0
        super().__init__(bench, [f"drover.tasks.{AGENT}"])
        bench.actors.append(self)
        self.start()

    def idle(self):
        if time.monotonic() < self.next_beat or self.silent:
            return
        self.next_beat = time.monotonic() + 0.3
        self.sequence += 1
        beat = fleet_pb2.Heartbeat(process_id=AGENT, instance_id=self.instance, role=fleet_pb2.ROLE_VOLUME_AGENT, site=AGENT,
                                   started_at_ms=self.started, at_ms=now_ms(), interval_ms=300, sequence=self.sequence)
        beat.agent.agent, beat.agent.device_slots = AGENT, self.device_slots
        beat.agent.free_device_slots = self.device_slots - len(self.attached)
        self.bench.send("drover.fleet", AGENT, beat)

    def write(self, target, cell, digest, repair):
        with self.lock:
            if self.exports.get(target.volume_id) != target.generation:
                return False
            if not repair and (target.volume_id in self.corrupt or cell in self.corrupt):
                digest = b"x" * 16
            self.content[(target.volume_id, cell)] = digest
            self.writes.append((target.volume_id, cell, repair))
            return True

    def take(self, topic, message):
        task = task_pb2.Task.FromString(message.value())
        if task.WhichOneof("body") == "verify":
            if self.deaf_to_verify:
                self.unanswered += 1
            else:
                self.verify(task)
            return
        time.sleep(self.delay)
        operation = task.operation
        kind = operation.WhichOneof("operation")
        self.operations.append((kind, operation))
        record = operation_pb2.JournalRecord()
        entry = record.operation
        entry.agent, entry.instance_id = AGENT, self.instance
        entry.operation.CopyFrom(operation)
        failure = self.fail.get(kind, [])
        if failure:
            entry.state = operation_pb2.OPERATION_STATE_FAILED
            entry.error.CopyFrom(failure.pop(0))
        else:
            try:
                getattr(self, kind)(operation, getattr(operation, kind), entry.result)
                entry.state = operation_pb2.OPERATION_STATE_DONE
            except ValueError as e:
                self.problems.append(f"{kind}: {e}")
                entry.state = operation_pb2.OPERATION_STATE_FAILED
                entry.error.error_class, entry.error.message = 2, str(e)
        self.bench.send(f"drover.journal.{AGENT}", f"op/{operation.operation_id}", record)

    def preflight_target(self, operation, body, result):
        assert body.name and all(d.size_bytes > 0 for d in body.disks)

    def create_volume(self, operation, body, result):
        assert body.custom_id and body.name
        result.volume_id = body.custom_id
        self.volumes[body.custom_id] = body.size_bytes

    def attach_volume(self, operation, body, result):
        if body.volume_id not in self.volumes or body.volume_id in self.attached:
            raise ValueError("no such volume, or attached")
        self.attached[body.volume_id] = AGENT
        result.device_path, result.device_size_bytes = f"/dev/{body.volume_id[:8]}", self.volumes[body.volume_id]

    def detach_volume(self, operation, body, result):
        if body.volume_id in self.exports:
            raise ValueError("export is open")
        holder = self.attached.pop(body.volume_id, None)
        if holder is None and not operation.undo:
            raise ValueError("not attached")
        if holder in self.vms:
            vm = self.vms[holder]
            if vm["state"] != "Stopped":
                raise ValueError("the VM runs")
            vm["devices"] = {d: v for d, v in vm["devices"].items() if v != body.volume_id}

    def delete_volume(self, operation, body, result):
        if body.volume_id in self.attached:
            raise ValueError("attached")
        if self.volumes.pop(body.volume_id, None) is None and not operation.undo:
            raise ValueError("no such volume")

    def open_export(self, operation, body, result):
        if self.attached.get(body.volume_id) != AGENT:
            raise ValueError("not attached here")
        token = uuid.uuid4().hex
        with self.lock:
            self.exports[body.volume_id] = body.generation
            self.tokens[(body.volume_id, body.generation)] = token
        result.volume_id, result.generation, result.token = body.volume_id, body.generation, token
        result.export_name, result.nbd_host, result.nbd_port = f"migration-vol-{body.volume_id}", "127.0.0.1", 10809

    def close_export(self, operation, body, result):
        with self.lock:
            self.exports.pop(body.volume_id, None)

    def deploy_vm(self, operation, body, result):
        assert body.custom_id and body.name
        result.vm_id, result.vm_state = body.custom_id, "Stopped"
        self.vms[body.custom_id] = {"state": "Stopped", "devices": {0: "template-root"}, "target": body.target}

    def swap_root(self, operation, body, result):
        if self.attached.get(body.volume_id):
            raise ValueError("attached")
        self.vms[body.vm_id]["devices"][0] = body.volume_id
        self.attached[body.volume_id] = body.vm_id

    def attach_to_vm(self, operation, body, result):
        if self.attached.get(body.volume_id) or body.device_id == 3 or body.device_id in self.vms[body.vm_id]["devices"]:
            raise ValueError("attached, or bad device id")
        self.vms[body.vm_id]["devices"][body.device_id] = body.volume_id
        self.attached[body.volume_id] = body.vm_id

    def start_vm(self, operation, body, result):
        self.vms[body.vm_id]["state"] = result.vm_state = "Running"

    def stop_vm(self, operation, body, result):
        self.vms[body.vm_id]["state"] = result.vm_state = "Stopped"

    def destroy_vm(self, operation, body, result):
        vm = self.vms.pop(body.vm_id, None)
        for device, volume in (vm or {"devices": {}})["devices"].items():
            self.attached.pop(volume, None)
            if device == 0:
                self.volumes.pop(volume, None)

    def verify(self, task):
        verify = task.verify
        result = event_pb2.VerifyResult(volume_id=verify.volume_id, generation=verify.generation, sequence=verify.sequence)
        with self.lock:
            if self.exports.get(verify.volume_id) != verify.generation:
                result.error.error_class, result.error.message = 1, "another generation is open"
            else:
                for cell in verify.cells:
                    same = self.content.get((verify.volume_id, cell.cell)) == cell.digest
                    (result.verified_cells if same else result.mismatched_cells).append(cell.cell)
                    self.verified += 1
        event = event_pb2.Event(job_id=task.job_id, disk_id=task.disk_id, task_id=task.task_id, attempt=1, process_id=AGENT,
                                instance_id=self.instance, at_ms=now_ms(), verified=result)
        self.bench.send(f"drover.events.{AGENT}", task.job_id, event)

    def restart(self):
        self.instance, self.started, self.sequence = f"agent-{uuid.uuid4().hex[:6]}", now_ms(), 0
        self.deaf_to_verify, self.next_beat = False, 0

    def kinds(self):
        return [kind for kind, _ in self.operations]

    def is_clean(self):
        return not self.volumes and not self.attached and not self.exports and not self.vms
