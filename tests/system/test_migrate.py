# SPDX-License-Identifier: Apache-2.0
"""Whole migrations of image files: formats, several disks, several workers, who may submit, what stays behind."""

import json
import subprocess
import threading
import time

import confluent_kafka
import pytest
import redis

import messages
from fleet import ROOT, wait_for
from observe import (CELL, MIB, Checkpoints, Sampler, cloud, convert, exports, job_hash, make_raw, nothing_left,
                     same_content, view, volume_path, wait_job)


@pytest.fixture(scope="module")
def pb():
    return messages


@pytest.fixture(scope="module")
def raw(work):
    return make_raw(work / "migrate.raw", 512, 96, seed=3)


def test_two_disks_of_different_formats(fleet, work, raw, tmp_path):
    second = make_raw(work / "second.raw", 100, 40, seed=4)
    convert(raw, tmp_path / "root.qcow2", "qcow2")
    convert(second, tmp_path / "data.vmdk", "stream")
    job_file = tmp_path / "job.yaml"
    job_file.write_text(f"""
job_id: two-disks
name: web01
disks:
  - id: root
    source: file:{tmp_path}/root.qcow2
  - id: data
    source: file:{tmp_path}/data.vmdk
    name: web01-data
""")
    assert fleet.drover("submit", str(job_file)).stdout.split()[-1] == "two-disks"
    final = wait_job(fleet, "two-disks")
    assert same_content(raw, volume_path(fleet, "two-disks", "root")) is None
    assert same_content(second, volume_path(fleet, "two-disks", "data")) is None
    assert final["current_operation"] == "Completed"
    assert final["replication_type"] == "initial" and final["vma_sync_type"] == "full"
    # Totals are data that had to move, not capacity: both disks are mostly holes.
    assert final["bytes_transferred"] == final["total_bytes"]
    assert 130 * MIB <= int(final["total_bytes"]) <= 150 * MIB
    disk = view(fleet).hgetall("drover:disk:two-disks:data")
    assert disk["sync_status"] == "completed" and len(disk["receipt"]) == 64
    # Parked: detached from the appliance, nothing exported.
    assert exports(fleet) == []
    attached = [v for v in cloud(fleet)["volumes"].values() if v.get("vm_id") == fleet.appliance["id"]
                and str(v.get("type")).upper() == "DATADISK"]
    assert not attached, attached


@pytest.mark.parametrize("kind", ["vmdk", "vhdx"])
def test_other_formats(fleet, raw, tmp_path, kind):
    image = convert(raw, tmp_path / f"disk.{kind}", kind)
    fleet.drover("migrate", "--source", f"file:{image}", "--name", "web01", "--job-id", kind)
    final = wait_job(fleet, kind)
    assert same_content(raw, volume_path(fleet, kind)) is None
    assert final["bytes_transferred"] == final["total_bytes"]
    assert int(final["total_bytes"]) <= 100 * MIB  # vhdx has no extents: zeroes found while reading lower the total
    assert view(fleet).hget(f"drover:disk:{kind}:disk0", "extents_available") == ("0" if kind == "vhdx" else "1")


def test_one_job_for_one_id(fleet, raw):
    for _ in range(2):
        done = fleet.drover("migrate", "--source", f"file:{raw},size={512 * MIB}", "--name", "web01", "--job-id", "twice")
        assert done.stdout.strip() == "twice"
    wait_job(fleet, "twice")
    fleet.drover("migrate", "--source", f"file:{raw},size={512 * MIB}", "--name", "other", "--job-id", "twice")
    log = lambda: fleet.drover("log", "twice").stdout
    wait_for(lambda: log().count("job.duplicate") >= 2 or log().lower().count("again") >= 2, 20, "Both repetitions in the log")
    requests = [json.loads(line) for line in (fleet.dir / "cloudstack/requests.log").read_text().splitlines()]
    assert sum(r.get("command") == "createVolume" for r in requests) == 1
    assert view(fleet).hget("drover:job:twice", "name") == "web01"


def test_the_examples_of_the_documentation(fleet, pb, work, raw):
    """A job of an external producer, followed by an external reader of Redis."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": messages.directory,
                   "DROVER_KAFKA_TOPIC_PREFIX": fleet.topic_prefix}

    def run(script, *arguments):
        done = subprocess.run([ROOT / "docs/examples" / script, *arguments], text=True, capture_output=True, timeout=90,
                              env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert run("submit_job.py", fleet.kafka, "external", "web01", raw) == "external\n"
    assert "completed Completed 100.00 %" in run("watch_progress.py", f"127.0.0.1:{fleet.redis_port}", "external")
    assert same_content(raw, volume_path(fleet, "external")) is None


def test_several_workers_share_one_disk(make_fleet, pb, work):
    raw = make_raw(work / "shared.raw", 1024, 512, seed=5)
    fleet = make_fleet(settings={"worker": {"copy-slots": 1}})
    with Checkpoints(fleet, pb) as checkpoints, Sampler(fleet, "shared") as sampler:
        fleet.drover("migrate", "--source", f"file:{raw},size={1024 * MIB}", "--name", "web01", "--job-id", "shared",
                     "--range-size", "256M", "--bandwidth-limit", "200M")
        wait_job(fleet, "shared")
    assert same_content(raw, volume_path(fleet, "shared")) is None
    sampler.check(checkpoints)
    spans = {}
    for t, c in checkpoints.of("shared"):
        first, last = spans.get(c.process_id, (t, t))
        spans[c.process_id] = (min(first, t), max(last, t))
    assert len(spans) == 2, spans
    (a, b), (c, d) = spans.values()
    assert max(a, c) < min(b, d), f"the workers took turns: {spans}"
    cells = {}
    for _, checkpoint in checkpoints.of("shared"):
        for cell in checkpoint.cells:
            cells.setdefault(cell.cell, set()).add(checkpoint.task_id)
    assert len(cells) == 1024 * MIB // CELL and all(len(tasks) == 1 for tasks in cells.values())


def test_a_byte_changed_behind_our_back_is_found_and_repaired(make_fleet, pb, raw):
    fleet = make_fleet(settings={"agent": {"verify-delay": "4s"}})
    with Checkpoints(fleet, pb) as checkpoints:
        fleet.drover("migrate", "--source", f"file:{raw},size={512 * MIB}", "--name", "web01", "--job-id", "flip")
        wait_for(lambda: checkpoints.of("flip"), 60, "A checkpoint", poll=0.01)
        _, checkpoint = checkpoints.of("flip")[0]
        cell = max(checkpoint.cells, key=lambda c: c.data_bytes).cell
        path = volume_path(fleet, "flip")
        with open(path, "r+b") as volume:
            volume.seek(cell * CELL + 12345)
            byte = volume.read(1)
            volume.seek(-1, 1)
            volume.write(bytes([byte[0] ^ 0x40]))
        final = wait_job(fleet, "flip")
    assert same_content(raw, path) is None
    disk = view(fleet).hgetall("drover:disk:flip:disk0")
    assert disk["repaired_cells"] == "1", disk
    assert final["bytes_transferred"] == final["total_bytes"]  # repairs are not progress
    repairs = [c for _, c in checkpoints.of("flip") if "repair" in c.task_id]
    assert [x.cell for c in repairs for x in c.cells] == [cell]


def test_redis_forgets_everything(make_fleet, pb, raw):
    fleet = make_fleet()
    fleet.drover("migrate", "--source", f"file:{raw},size={512 * MIB}", "--name", "old", "--job-id", "before")
    wait_job(fleet, "before")
    old = job_hash(fleet, "before")
    fleet.drover("migrate", "--source", f"file:{raw},size={512 * MIB}", "--name", "new", "--job-id", "during",
                 "--bandwidth-limit", "20M")
    wait_for(lambda: int(job_hash(fleet, "during").get("bytes_transferred", 0)) > 0, 60, "Some progress")
    view(fleet).flushall()
    final = wait_job(fleet, "during")
    assert final["bytes_transferred"] == final["total_bytes"]
    now = wait_for(lambda: job_hash(fleet, "before") or None, 30, "The finished job in the view")
    for field in ("status", "bytes_transferred", "total_bytes", "current_operation", "created_at", "name"):
        assert now.get(field) == old.get(field), field
    assert view(fleet).xlen("drover:log:before") > 3
    assert set(view(fleet).zrange("drover:jobs", 0, -1)) == {"before", "during"}


def test_poison_goes_to_the_dead_letter_topic(fleet, pb, raw):
    producer = confluent_kafka.Producer({"bootstrap.servers": fleet.kafka})
    prefix = fleet.topic_prefix
    garbage = b"\xff\xff\xff\xffthis is no protobuf"
    for topic in ("jobs", f"tasks.{fleet.site}.copy", f"tasks.{fleet.site}.source", f"tasks.{fleet.agent}",
                  f"events.{fleet.site}"):
        producer.produce(f"{prefix}.{topic}", key="poison", value=garbage)
    nobody = pb.job.JobCommand(job_id="../evil")
    nobody.submit.name = "x"
    producer.produce(f"{prefix}.jobs", key="evil", value=nobody.SerializeToString())
    assert producer.flush(20) == 0
    fleet.drover("migrate", "--source", f"file:{raw},size={512 * MIB}", "--name", "web01", "--job-id", "healthy")
    wait_job(fleet, "healthy")
    consumer = confluent_kafka.Consumer({"bootstrap.servers": fleet.kafka, "group.id": f"{prefix}.dlq-test",
                                         "enable.auto.commit": False})
    consumer.assign([confluent_kafka.TopicPartition(f"{prefix}.dlq", 0, confluent_kafka.OFFSET_BEGINNING)])
    letters = {}

    def read():
        message = consumer.poll(0.2)
        if message is not None and not message.error():
            letter = pb.job.DeadLetter.FromString(message.value())
            letters.setdefault(letter.topic, []).append(letter)
        return sum(len({bytes(x.payload) for x in some}) for some in letters.values()) >= 6

    wait_for(read, 30, f"Six dead letters (so far {({k: len(v) for k, v in letters.items()})})", poll=0)
    consumer.close()
    assert all(letter.reason for some in letters.values() for letter in some)
    assert all(p.running() and p.restarts == 0 for p in fleet.processes.values())


def test_cancel_in_the_middle_leaves_nothing(fleet, pb, raw):
    with Checkpoints(fleet, pb) as checkpoints:
        fleet.drover("migrate", "--source", f"file:{raw},size={512 * MIB}", "--name", "web01", "--job-id", "cancelled",
                     "--bandwidth-limit", "20M")
        wait_for(lambda: checkpoints.of("cancelled"), 60, "A checkpoint")
        fleet.drover("cancel", "cancelled")
        final = wait_job(fleet, "cancelled", "cancelled", 60)
    assert final["current_operation"] == "Failed" or final["status"] == "cancelled"
    nothing_left(fleet)


def test_secrets_stay_secret(fleet, pb, raw):
    """The export token stands in copy tasks and the agent's journal; the API keys nowhere."""
    tokens, seen_arguments = set(), set()
    stop = threading.Event()

    def follow_commands():
        from pathlib import Path
        while not stop.is_set():
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit():
                    try:
                        seen_arguments.add((entry / "cmdline").read_bytes())
                    except OSError:
                        pass
            time.sleep(0.05)

    thread = threading.Thread(target=follow_commands)
    thread.start()
    fleet.drover("migrate", "--source", f"file:{raw},size={512 * MIB}", "--name", "web01", "--job-id", "secret",
                 "--bandwidth-limit", "50M")
    wait_job(fleet, "secret")
    stop.set()
    thread.join()
    consumer = confluent_kafka.Consumer({"bootstrap.servers": fleet.kafka, "group.id": f"{fleet.topic_prefix}.secret",
                                         "enable.auto.commit": False, "enable.partition.eof": True})
    partitions = [confluent_kafka.TopicPartition(topic, partition, confluent_kafka.OFFSET_BEGINNING)
                  for topic, described in consumer.list_topics(timeout=20).topics.items()
                  if topic.startswith(fleet.topic_prefix + ".") for partition in described.partitions]
    consumer.assign(partitions)
    records, ends = {}, set()
    while len(ends) < len(partitions):
        message = consumer.poll(20)
        assert message is not None
        if message.error():
            ends.add((message.topic(), message.partition()))
        else:
            records.setdefault(message.topic(), []).append(message.value() or b"")
    consumer.close()
    for value in records[f"{fleet.topic_prefix}.tasks.{fleet.site}.copy"]:
        task = pb.task.Task.FromString(value)
        if task.copy.target.token:
            tokens.add(task.copy.target.token.encode())
    assert tokens
    key, secret = (fleet.dir / "cloudstack/admin.key").read_bytes().split()
    allowed = {f"{fleet.topic_prefix}.tasks.{fleet.site}.copy", f"{fleet.topic_prefix}.journal.{fleet.agent}"}
    for word in tokens | {key, secret}:
        for topic, values in records.items():
            if word in tokens and topic in allowed:
                continue
            assert not any(word in v for v in values), f"a secret stands in {topic}"
        assert not any(word in arguments for arguments in seen_arguments)
        for log in (fleet.dir / "log").iterdir():
            assert word not in log.read_bytes(), log
        binary = redis.Redis(port=fleet.redis_port)  # some values are no text
        for redis_key in binary.scan_iter("*"):
            assert word.decode() not in repr(dump(binary, redis_key)), redis_key


def dump(client, key):
    kind = client.type(key).decode()
    return {"hash": client.hgetall, "string": client.get, "stream": lambda k: client.xrange(k),
            "zset": lambda k: client.zrange(k, 0, -1), "set": lambda k: list(client.smembers(k)),
            "list": lambda k: client.lrange(k, 0, -1)}[kind](key)
