# SPDX-License-Identifier: Apache-2.0
"""The command line against real Kafka and Redis: what it publishes, what it shows, how it ends. And the examples."""

import json
import os
import pty
import re
import subprocess
import threading
import time

import confluent_kafka
import fleet as fleet_module
import messages
from test_aggregator import Feed, ROOT, Task, make, pb, run_job  # noqa: F401 (fixtures)


def commands(fleet, pb, count):
    """The first COUNT commands on drover.jobs."""
    consumer = confluent_kafka.Consumer({"bootstrap.servers": fleet.kafka, "group.id": "test", "auto.offset.reset": "earliest"})
    consumer.assign([confluent_kafka.TopicPartition(f"{fleet.topic_prefix}.jobs", 0, confluent_kafka.OFFSET_BEGINNING)])
    found = []
    deadline = time.monotonic() + 20
    while len(found) < count and time.monotonic() < deadline:
        message = consumer.poll(1)
        if message and not message.error():
            command = pb.job.JobCommand.FromString(message.value())
            assert message.key().decode() == command.job_id
            found.append(command)
    consumer.close()
    return found


def test_what_is_published(make, pb, work):  # noqa: F811
    fleet = make()
    raw = work / "disk.raw"
    raw.write_bytes(b"\0" * 1536)
    qcow2 = work / "root.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", qcow2, "1M"], check=True)
    done = fleet.drover("migrate", "--source", f"file:{qcow2},target-size=2G", "--disk", f"file:{raw},id=data", "--failover",
                        "--name", "web01", "--bandwidth-limit", "10M", "--label", "a=b", "--digest=sha256", "--network", "n1")
    job_id = done.stdout.strip()
    assert re.fullmatch(r"mig-[0-9a-f]{16}", job_id) and f"drover watch {job_id}" in done.stderr
    assert fleet.drover("submit", str(ROOT / "docs/examples/job.yaml")).stdout == "mig-web01\n"
    fleet.drover("pause", job_id)
    fleet.drover("resume", job_id)
    fleet.drover("cancel", job_id, "--reason", "changed my mind")
    fleet.drover("failover", "live", job_id, "--service-offering", "Large")
    fleet.drover("cleanup", job_id, "--keep-volumes")
    env = {**os.environ, "PYTHONPATH": messages.directory, "DROVER_KAFKA_TOPIC_PREFIX": fleet.topic_prefix}
    subprocess.run([ROOT / "docs/examples/submit_job.py", fleet.kafka, "mig-example", "ex", raw], check=True, env=env)

    found = commands(fleet, pb, 8)
    assert [c.WhichOneof("command") for c in found] == ["submit", "submit", "pause", "resume", "cancel", "failover",
                                                        "cleanup", "submit"]
    assert len({c.command_id for c in found[:7]}) == 7 and all(c.submitted_at_ms and c.submitter for c in found)
    spec = found[0].submit
    assert (spec.name, spec.failover, spec.bandwidth_limit_bytes_per_second) == ("web01", True, 10 << 20)
    assert spec.digest == pb.common.DIGEST_ALGORITHM_SHA256 and dict(spec.labels) == {"a": "b"}
    assert list(spec.target.network_ids) == ["n1"]
    root, data = spec.disks
    assert (root.source.file.path, root.source.file.format, root.target_size_bytes) == (str(qcow2), "qcow2", 2 << 30)
    assert root.source.file.WhichOneof("expected_size") is None
    assert (data.disk_id, data.source.file.format, data.source.file.expected_size_bytes) == ("data", "", 1536)
    example = found[1].submit
    assert example.target.service_offering == "Medium Instance" and len(example.disks) == 2
    assert example.target.details["rootDiskController"] == "virtio" and example.priority == 10
    assert found[4].cancel.reason == "changed my mind" and found[6].cleanup.keep_volumes
    assert found[5].failover.kind == pb.job.FAILOVER_KIND_LIVE and found[5].failover.target.service_offering == "Large"
    assert found[7].submit.disks[0].source.file.expected_size_bytes == 1536


def test_how_it_ends(make, work):  # noqa: F811
    fleet = make()
    bad = work / "bad.yaml"
    bad.write_text("name: web01\ndisks:\n  - sorce: /x\n")

    def ends(code, text, *args, **kwargs):
        done = fleet.drover(*args, check=False, **kwargs)
        assert done.returncode == code, done
        assert text in done.stderr, done.stderr

    ends(2, "no command 'fly'", "fly")
    ends(2, "Unknown option '--colour'", "jobs", "--colour", "red")
    ends(2, "JOB is missing", "show")
    ends(2, "line 3, disks[0].sorce: unknown key", "submit", str(bad))
    ends(2, "No such file", "submit", str(work / "none.yaml"))
    ends(2, "none of raw, qcow2", "migrate", "--source", "file:/x,format=vdi")
    ends(2, "--source is missing", "migrate", "--name", "x")
    ends(2, "neither apply nor check", "topics", "drop")
    ends(2, "is no job id", "cancel", "a/b")
    ends(4, "no job 'mig-none'", "show", "mig-none")
    ends(4, "no log of a job", "log", "mig-none")
    ends(3, "[redis] address", "jobs", "--redis-address", "127.0.0.1:1")
    ends(3, "Nothing was accepted", "cancel", "mig-1", "--kafka-brokers", "127.0.0.1:1")
    topics = ("topics", "check", "--file", str(ROOT / "deploy/topics.yaml"))
    ends(3, "127.0.0.1:1", *topics, "--kafka-brokers", "127.0.0.1:1")
    ends(5, "drover topics apply", *topics, "--kafka-topic-prefix", "nobody")
    ends(3, "drover topics apply", "cancel", "mig-1", "--kafka-topic-prefix", "nobody")
    for command in ("migrate", "submit", "jobs", "show", "watch", "log", "failover", "pause", "resume", "cancel", "cleanup",
                    "fleet", "agent", "dlq", "topics", "discover", "cbt-status", "preflight", "assess"):
        assert f"Usage: drover {command}" in fleet.drover(command, "--help").stdout
    assert fleet.drover("dlq").stdout == "No dead letters.\n"


def test_watch(make, pb, work):  # noqa: F811
    """On a terminal bars move; in a pipe lines come; both end by the outcome. The Redis example sees the same."""
    fleet = make()
    terminal, end = pty.openpty()
    command = [str(fleet.bin / "drover"), "watch", "mig-w", "--config", str(fleet.conf)]
    drawn = subprocess.Popen(command, stdin=end, stdout=end, stderr=end, env={**os.environ, "LC_ALL": "C.UTF-8"})
    os.close(end)
    screen = []

    def read():
        try:
            while chunk := os.read(terminal, 65536):
                screen.append(chunk.decode(errors="replace"))
        except OSError:
            pass

    reader = threading.Thread(target=read)
    reader.start()
    piped = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    example = subprocess.Popen([ROOT / "docs/examples/watch_progress.py", f"127.0.0.1:{fleet.redis_port}", "mig-w"],
                               stdout=subprocess.PIPE, text=True)
    run_job(fleet, pb, "mig-w", pause=0.03)
    assert drawn.wait(10) == 0 and piped.wait(10) == 0 and example.wait(10) == 0
    reader.join(10)
    os.close(terminal)
    shown = "".join(screen)
    assert "disk1" in shown and "█" in shown and "\033[" in shown and "completed" in shown.splitlines()[-1]
    lines = piped.stdout.read().splitlines()
    assert any(" copying " in line for line in lines) and "mig-w (web01) completed" in lines[-1]
    assert "\033" not in "".join(lines)
    assert "completed Completed 100.00 %" in example.stdout.read()


def test_estimates_and_failures_are_told(make, pb):  # noqa: F811
    fleet = make()
    feed, view = Feed(fleet, pb), fleet.view()
    feed.job("mig-e", "COPYING", ["disk0"])
    state = pb.state.DiskState(job_id="mig-e", disk_id="disk0", version=2, sync_status="copying", format="vhdx",
                               extents_available=False, allocated_bytes=1 << 30, capacity_bytes=1 << 30)
    feed.send("state", "job/mig-e/disk/disk0", pb.state.StateRecord(disk=state))
    task = Task("mig-e", "disk0", 0, 32)
    task.planned = task.length
    feed.version = 2
    feed.task(task, "CLAIMED")
    task.sequence, task.data, task.zero = 1, 256 << 20, 256 << 20
    feed.send("progress.site-1", "mig-e", feed.progress(task))
    feed.flush()
    fleet_module.wait_for(lambda: view.hget("drover:job:mig-e", "total_bytes") == str(768 << 20), 20, "The lower total")
    assert "at most 805 MB" in fleet.drover("show", "mig-e").stdout
    piped = subprocess.Popen([fleet.bin / "drover", "watch", "mig-e", "--config", fleet.conf], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
    assert "at most" in piped.stdout.readline()
    feed.version = 10
    feed.job("mig-e", "FAILED", ["disk0"], error=pb.common.Error(code="DRV-X", message="DRV-X: the disk is gone"))
    feed.flush()
    out, err = piped.communicate(timeout=20)
    assert piped.returncode == 1 and "DRV-X: the disk is gone" in err
    assert json.loads(fleet.drover("jobs", "--status", "failed", "--json").stdout)[0]["error_code"] == "DRV-X"
