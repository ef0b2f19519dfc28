# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the leader towards a volume agent: sends operations over a real broker to a real agent that works at the
CloudStack double, reads its journal, events and heartbeats, and looks at what it asked CloudStack for."""
import collections
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

import messages as pb
from fleet import clean_environment, free_port
from lib_leader import children  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/doubles/cloudstack"))
from cloudstack_harness import Double, Refused, Site  # noqa: E402,F401

BIN = Path(os.environ.get("DROVER_BIN") or ROOT / "build/release/bin")
AGENT = "appliance"
GIB = 1 << 30
CHANGING = {"createVolume", "attachVolume", "detachVolume", "deleteVolume", "deployVirtualMachine", "startVirtualMachine",
            "stopVirtualMachine", "destroyVirtualMachine", "assignVolume", "resizeVolume", "createSnapshot", "revertSnapshot",
            "deleteSnapshot", "updateVirtualMachine"}
ENDED = (pb.operation.OPERATION_STATE_DONE, pb.operation.OPERATION_STATE_FAILED)


def state_name(record):
    return pb.operation.OperationState.Name(record.state).removeprefix("OPERATION_STATE_")


class Agent:
    """One drover-volume-agent process."""

    def __init__(self, leader, **options):
        values = {"name": AGENT, "run-dir": leader.run_dir,
                  "cloudstack-url": f"http://127.0.0.1:{leader.cloud.port}/client/api",
                  "cloudstack-key-file": Path(leader.cloud.dir) / "admin.key",
                  "appliance-vm-id": leader.site.appliance, "sysfs-root": leader.cloud.appliances[AGENT]["sysfs_root"],
                  "dev-root": leader.cloud.appliances[AGENT]["dev_root"], "nbd-port": leader.nbd_port,
                  "heartbeat-interval": "1s", "device-timeout": "5s",
                  **{k.replace("_", "-"): v for k, v in options.items()}}
        conf = leader.dir / "agent.conf"
        conf.write_text(f"[kafka]\nbrokers={leader.broker}\ntopic-prefix={leader.prefix}\n[fleet]\nagents={AGENT}\n"
                        "[agent]\n" + "".join(f"{k}={v}\n" for k, v in values.items()))
        self.log = leader.dir / f"agent-{len(leader.agents)}.log"
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen([BIN / "drover-volume-agent", "--config", conf, "--log-level=debug"],
                                            stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=clean_environment())
        self.pid = self.process.pid
        leader.agents.append(self)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, timeout=30):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def running(self):
        return self.process.poll() is None

    def lines(self):
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found


class AgentLeader:
    TOPICS = {f"drover.tasks.{AGENT}": 1, f"drover.journal.{AGENT}": 1, f"drover.events.{AGENT}": 2, "drover.control": 1,
              "drover.fleet": 1, "drover.dlq": 1, "drover.audit": 1}
    READ = {f"drover.journal.{AGENT}": pb.operation.JournalRecord, f"drover.events.{AGENT}": pb.event.Event,
            "drover.fleet": pb.fleet.Heartbeat, "drover.dlq": pb.job.DeadLetter, "drover.audit": pb.job.AuditRecord}

    def __init__(self, broker, cloud, directory):
        self.broker, self.cloud, self.site, self.dir = broker, cloud, Site(cloud), Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.prefix = f"a{uuid.uuid4().hex[:8]}"
        self.run_dir = Path("/tmp") / self.prefix
        self.nbd_port = free_port()
        self.agents, self.numbers, self.version = [], collections.Counter(), 0
        conf = {"bootstrap.servers": broker}
        admin = AdminClient(conf)
        for future in admin.create_topics([NewTopic(self.wire(t), n, 1) for t, n in self.TOPICS.items()]).values():
            future.result(20)
        deadline = time.monotonic() + 20
        while not set(map(self.wire, self.TOPICS)) <= set(admin.list_topics(timeout=10).topics):  # the broker learns of them later
            assert time.monotonic() < deadline, "the topics do not appear"
            time.sleep(0.05)
        self.producer = confluent_kafka.Producer({**conf, "linger.ms": 0})
        self.records = {topic: [] for topic in self.READ}  # (key, message or None)
        self.lock = threading.Condition(threading.RLock())
        self.reading = True
        self.consumer = confluent_kafka.Consumer({**conf, "group.id": f"{self.prefix}-test", "enable.auto.commit": False,
                                                  "isolation.level": "read_committed"})
        self.consumer.assign([confluent_kafka.TopicPartition(self.wire(t), p, confluent_kafka.OFFSET_BEGINNING)
                              for t in self.READ for p in range(self.TOPICS[t])])
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def wire(self, topic):
        return self.prefix + topic[len("drover"):]

    def _read(self):
        while self.reading:
            message = self.consumer.poll(0.1)
            if message is None or message.error():
                continue
            topic = "drover" + message.topic()[len(self.prefix):]
            value = message.value() and self.READ[topic].FromString(message.value())
            with self.lock:
                self.records[topic].append((message.key().decode(), value))
                self.lock.notify_all()

    # ---- sending

    def agent(self, **options):
        return Agent(self, **options)

    def send_raw(self, value, key="job-1", topic=f"drover.tasks.{AGENT}"):
        failures = []
        self.producer.produce(self.wire(topic), value, key=key, on_delivery=lambda e, _: e and failures.append(e))
        self.producer.flush(20)
        assert not failures, failures

    def operation(self, kind, job="job-1", disk="disk0", undo=False, operation_id=None, **fields):
        """Sends one operation; its id."""
        self.numbers[job, disk, kind] += 1
        ident = operation_id or f"{job}/{disk}/{kind}/{self.numbers[job, disk, kind]}"
        task = pb.task.Task(task_id=ident, job_id=job, disk_id=disk, attempt=1, created_at_ms=int(time.time() * 1000))
        task.operation.operation_id, task.operation.job_id, task.operation.disk_id = ident, job, disk
        task.operation.undo = undo
        getattr(task.operation, kind).SetInParent()
        for name, value in fields.items():
            target = getattr(task.operation, kind)
            if hasattr(value, "SerializeToString"):
                getattr(target, name).CopyFrom(value)
            elif isinstance(value, list):
                getattr(target, name).extend(value)
            else:
                setattr(target, name, value)
        self.send_raw(task.SerializeToString(), job)
        return ident

    def verify(self, volume, generation, cells, capacity, sequence, job="job-1", algorithm="XXH3"):
        """CELLS: index -> digest."""
        task = pb.task.Task(task_id=f"verify/{volume}/{sequence}", job_id=job, disk_id="disk0", attempt=1)
        task.verify.volume_id, task.verify.generation, task.verify.sequence = volume, generation, sequence
        task.verify.capacity_bytes = capacity
        task.verify.digest = getattr(pb.common, f"DIGEST_ALGORITHM_{algorithm}")
        for cell, digest in cells.items():
            task.verify.cells.add(cell=cell, digest=digest)
        self.send_raw(task.SerializeToString(), job)

    def stop_job(self, job):
        self.version += 1
        record = pb.control.ControlRecord(version=self.version, at_ms=int(time.time() * 1000), leader="test")
        record.job.job_id, record.job.desired = job, pb.control.DESIRED_STATE_STOP
        self.send_raw(record.SerializeToString(), job, "drover.control")

    # ---- what came back

    def wait(self, topic, find, timeout, what):
        """The first true value of FIND(records of TOPIC)."""
        deadline = time.monotonic() + timeout
        with self.lock:
            while True:
                found = find(self.records[topic])
                if found:
                    return found
                left = deadline - time.monotonic()
                assert left > 0, f"not within {timeout} s: {what}\n{self.tail()}"
                self.lock.wait(left)

    def tail(self):
        lines = []
        for agent in self.agents[-2:]:
            lines += agent.log.read_text(errors="replace").splitlines()[-25:]
        return "\n".join(lines)

    def journal(self, operation_id):
        """All journal records of one operation, oldest first."""
        with self.lock:
            return [r.operation for k, r in self.records[f"drover.journal.{AGENT}"] if k == f"op/{operation_id}"]

    def exports(self):
        """The journalled exports, as compaction would leave them: volume id -> JournalExport."""
        found = {}
        with self.lock:
            for key, record in self.records[f"drover.journal.{AGENT}"]:
                if key.startswith("export/"):
                    found.pop(key[7:], None)
                    if record is not None:
                        found[key[7:]] = record.export
        return found

    def ended(self, operation_id, timeout=40):
        """The last journal record of an operation, once it has ended."""
        def find(_):
            records = self.journal(operation_id)
            return records[-1] if records and records[-1].state in ENDED else None
        return self.wait(f"drover.journal.{AGENT}", find, timeout, f"the end of {operation_id}")

    def done(self, operation_id, timeout=40):
        record = self.ended(operation_id, timeout)
        assert state_name(record) == "DONE", f"{operation_id}: {record.error.code} {record.error.message}\n{self.tail()}"
        return record.result

    def failed(self, operation_id, timeout=40):
        record = self.ended(operation_id, timeout)
        assert state_name(record) == "FAILED", operation_id
        return record.error

    def do(self, kind, timeout=40, **fields):
        return self.done(self.operation(kind, **fields), timeout)

    def reached(self, operation_id, state, timeout=40):
        self.wait(f"drover.journal.{AGENT}", lambda _: any(state_name(r) == state for r in self.journal(operation_id)),
                  timeout, f"{operation_id} in state {state}")

    def verified(self, sequence, timeout=30):
        return self.wait(f"drover.events.{AGENT}",
                         lambda rs: next((r.verified for _, r in rs if r.HasField("verified") and
                                          r.verified.sequence == sequence), None), timeout, f"verify answer {sequence}")

    def heartbeat(self, agent, predicate, timeout=20):
        return self.wait("drover.fleet", lambda rs: next((r for _, r in rs if r.pid == agent.pid and predicate(r)), None),
                         timeout, "such a heartbeat")

    def ready(self, agent):
        return self.heartbeat(agent, lambda h: True)

    # ---- things to work on

    def volume(self, size=GIB, job="job-1", disk="disk0", attach=True):
        """Creates one through the agent; its id."""
        ident = str(uuid.uuid4())
        self.do("create_volume", job=job, disk=disk, name=f"{job}-{disk}", size_bytes=size, custom_id=ident)
        if attach:
            self.do("attach_volume", job=job, disk=disk, volume_id=ident, minimum_size_bytes=size)
        return ident

    def bytes_of(self, volume):
        return Path(self.cloud.dir) / "volumes" / f"{volume}.raw"

    def _log(self):
        rows = []
        with open(Path(self.cloud.dir) / "requests.log", encoding="utf-8") as file:
            for line in file:
                try:
                    rows.append(json.loads(line))
                except ValueError:
                    continue  # cut off, as the last line of a double that was killed
        return rows

    def answers(self):
        """Number of a request -> the log's row about its answer."""
        return {row["answer"]: row for row in self._log() if "answer" in row}

    def changes(self, command=None):
        """Changing requests at the double that were not refused at once, as (command, object, row)."""
        answers, found = self.answers(), []
        for row in self._log():
            if row.get("command") in CHANGING and command in (None, row["command"]):
                subject = next((row["params"][k] for k in ("customid", "id", "volumeid") if k in row["params"]), None)
                if answers.get(row["n"], {}).get("status", 200) == 200:
                    found.append((row["command"], subject, row))
        return found

    def close(self):
        for agent in self.agents:
            if agent.running():
                agent.kill()
        self.reading = False
        self.thread.join()
        self.consumer.close()
        for left in self.run_dir.glob("*"):
            left.unlink()
        if self.run_dir.exists():
            self.run_dir.rmdir()


# ---- fixtures, for the tests that import them


@pytest.fixture
def cloud(tmp_path):
    with Double(tmp_path / "cloud", appliance=AGENT, speed=5) as double:
        yield double


@pytest.fixture
def leader(kafka, cloud, tmp_path):
    leader = AgentLeader(kafka, cloud, tmp_path / "agent")
    yield leader
    leader.close()
