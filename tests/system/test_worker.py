# SPDX-License-Identifier: Apache-2.0
"""The worker alone: real broker, real NBD servers, and a test that plays the leader."""
import filecmp
import itertools
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

import lib_digest
import messages as pb
from lib_leader import CELL, ROOT, TOKEN, Leader, Worker, cmdline, now_ms

MIB = 1 << 20
DISK = 4 * CELL + 24 * MIB  # the last cell is short
_numbers = itertools.count(1)


def a_leader(kafka, work):
    directory = work / f"worker-{next(_numbers)}"
    leader = Leader(kafka, directory)
    yield leader
    leader.close()
    for worker in leader.workers:
        assert TOKEN not in worker.log.read_text(errors="replace"), "the token stands in a log"
        assert "AddressSanitizer" not in worker.log.read_text(errors="replace"), worker.log.read_text(errors="replace")
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def shared_worker(kafka, work):
    for leader in a_leader(kafka, work):
        worker = Worker(leader)
        leader.ready(worker)
        yield worker


@pytest.fixture
def leader(shared_worker):
    """The leader of the shared worker, with a job and a directory for this test."""
    leader = shared_worker.leader
    number = next(_numbers)
    leader.job, leader.dir = f"job-{number}", leader.dir / f"test-{number}"
    leader.dir.mkdir()
    yield leader
    leader.close_servers()
    shutil.rmtree(leader.dir, ignore_errors=True)
    leader.dir = leader.dir.parent


@pytest.fixture
def worker(shared_worker, leader):
    """A worker that the test leaves as it found it."""
    return shared_worker


@pytest.fixture
def own_leader(kafka, work):
    yield from a_leader(kafka, work)


@pytest.fixture
def own_worker(own_leader):
    """A worker that the test may kill."""
    worker = Worker(own_leader)
    own_leader.ready(worker)
    return worker


@pytest.fixture
def leader_of_own_broker(work):
    """(leader, broker("kill" or "start")): a broker that the test may kill."""
    directory = work / f"worker-{next(_numbers)}"
    script = ROOT / "deploy/kafka/kafka.sh"

    def broker(what):
        if what == "kill":
            os.kill(int((directory / "kafka/kafka.pid").read_text()), signal.SIGKILL)
        else:
            subprocess.run([script, what, directory / "kafka"], check=True, stdin=subprocess.DEVNULL, timeout=120)

    directory.mkdir()
    broker("start")
    leader = Leader((directory / "kafka/kafka.address").read_text().strip(), directory / "leader")
    yield leader, broker
    leader.close()
    broker("stop")
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def raw(work):
    """25 MiB of data, holes and explicit zeroes; little in the first cell, so that it is done soon; nothing in the third."""
    path = work / "worker-source.raw"
    data = random.Random(5).randbytes(6 * MIB)
    with open(path, "wb") as out:
        out.truncate(DISK)
        for offset, length in ((0, 1), (CELL + 3 * MIB, 6), (3 * CELL + 7 * MIB, 6), (3 * CELL + 20 * MIB, 6), (DISK - 6 * MIB, 6)):
            out.seek(offset)
            out.write(data[:length * MIB])
        out.seek(CELL + 20 * MIB)
        out.write(bytes(2 * MIB))
    return path


def convert(raw, path, fmt, *options):
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", fmt, *options, raw, path], check=True)
    return path


FORMATS = {
    "raw": None,
    "qcow2": ("qcow2",),
    "qcow2-compressed": ("qcow2", "-c"),
    "vmdk": ("vmdk", "-o", "subformat=monolithicSparse"),
    "vmdk-stream": ("vmdk", "-o", "subformat=streamOptimized"),
    "vhdx": ("vhdx",),
    "vpc": ("vpc", "-o", "force_size=on"),
}


def copy_of(path, to):
    """Holes stay holes, which shutil.copyfile does not promise."""
    subprocess.run(["cp", "--sparse=always", path, to], check=True)
    return to


def source_of(kind, raw, directory):
    if kind == "raw":
        return copy_of(raw, directory / "s.raw")
    fmt, *options = FORMATS[kind]
    return convert(raw, directory / f"s.{fmt}", fmt, *options)


def same_content(target, raw):
    return filecmp.cmp(target, raw, shallow=False)


def cells_of(leader, task):
    cells = {}
    for checkpoint in leader.all("checkpoints"):
        if checkpoint.task_id == task.task_id and checkpoint.attempt == task.attempt:
            for cell in checkpoint.cells:
                assert cell.cell not in cells, f"cell {cell.cell} twice in one attempt"
                cells[cell.cell] = cell
    return cells


@pytest.mark.parametrize("kind", FORMATS)
def test_inspect_and_copy(leader, worker, raw, kind):
    source = source_of(kind, raw, leader.dir)
    inspect, seen = leader.inspected(source, worker)
    assert leader.event(inspect, "claimed").claimed.partition == leader.partition(worker, "source")
    assert seen.format == kind.split("-")[0] and seen.frozen
    assert seen.capacity_bytes == DISK
    assert seen.bucket_bytes % CELL == 0 and sum(seen.bucket_allocated_bytes) == seen.allocated_bytes
    assert seen.extents_available == (kind not in ("vhdx", "vpc"))
    if seen.extents_available:
        assert 24 * MIB <= seen.allocated_bytes <= 40 * MIB
    else:
        assert seen.allocated_bytes == DISK

    target, port = leader.target(DISK)
    task = leader.hand_out(leader.copy_task(inspect, seen, port, target_is_zero=True), worker)
    finished = leader.event(task, "finished").finished
    counts = finished.counts
    assert counts.data_bytes + counts.zero_found_bytes + counts.skipped_bytes == DISK
    assert 24 * MIB <= counts.data_bytes <= 28 * MIB and counts.resent_bytes == 0
    assert finished.extents_available == seen.extents_available
    cells = leader.wait("checkpoints", lambda c: len(cells_of(leader, task)) == 5) and cells_of(leader, task)
    with open(raw, "rb") as file:
        read = lib_digest.file_reader(file)
        for number, cell in cells.items():
            length = min(CELL, DISK - number * CELL)
            assert cell.digest == lib_digest.root(read, [(number * CELL, length)]), f"digest of cell {number}"
            assert cell.data_bytes + cell.zero_found_bytes + cell.skipped_bytes == length
    last = leader.wait("progress", lambda p: p.task_id == task.task_id and p.counts.data_bytes == counts.data_bytes)
    assert last.counts.skipped_bytes == counts.skipped_bytes
    assert same_content(target, raw)
    leader.heartbeat(lambda h: h.at_ms > now_ms() - 5000 and not h.worker.running)
    assert worker.children() == [], "the source's child is gone with the task"


def test_ranges_and_done_cells(leader, worker, raw):
    """Two tasks for one disk; the second has done cells of an earlier attempt, which are not copied again."""
    inspect, seen = leader.inspected(raw, worker, format="raw", expected_size_bytes=DISK)
    target, port = leader.target(DISK)
    first = leader.hand_out(leader.copy_task(inspect, seen, port, length=2 * CELL), worker)
    done = pb.common.ByteCounts(data_bytes=12 * MIB, skipped_bytes=CELL - 12 * MIB)
    second = leader.hand_out(leader.copy_task(inspect, seen, port, offset=2 * CELL, attempt=2, done=[3], done_counts=done),
                             worker)
    assert leader.event(first, "finished").finished.counts.data_bytes >= 7 * MIB
    counts = leader.event(second, "finished").finished.counts
    assert counts.data_bytes + counts.zero_found_bytes + counts.skipped_bytes == DISK - 2 * CELL
    leader.wait("checkpoints", lambda c: len(cells_of(leader, second)) == 2)
    assert sorted(cells_of(leader, second)) == [2, 4]
    with open(target, "rb") as out:
        out.seek(3 * CELL)
        assert out.read(CELL) == bytes(CELL), "a done cell was written"


def cut(path, directory, keep):
    out = copy_of(path, directory / f"cut-{path.name}")
    os.truncate(out, keep(path.stat().st_size))
    return out


@pytest.mark.parametrize("kind", ["qcow2", "qcow2-compressed", "vmdk", "vmdk-stream", "vhdx", "vpc", "raw"])
def test_truncated(leader, worker, raw, kind):
    source = source_of(kind, raw, leader.dir)
    for keep in (lambda n: n - 1, lambda n: n - (64 << 10), lambda n: n // 2, lambda n: 70000):
        path = cut(source, leader.dir, keep)
        task = leader.hand_out(leader.inspect_task(path, format=kind.split("-")[0], **(
            {"expected_size_bytes": DISK} if kind == "raw" else {})), worker)
        error = leader.event(task, "failed").failed.error
        assert error.error_class == pb.common.ERROR_CLASS_PERMANENT, error
        assert error.code == "DRV-SOURCE-TRUNCATED", error
        assert str(path) in error.message
    assert worker.children() == []


def test_refused_sources(leader, worker, raw):
    (leader.dir / "dir").mkdir()
    os.mkfifo(leader.dir / "fifo")
    (leader.dir / "empty").touch()
    small = leader.dir / "small.raw"
    small.write_bytes(bytes(4096))
    overlay = leader.dir / "overlay.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", raw, "-F", "raw", overlay], check=True)
    cases = [
        (leader.dir / "nothing", {}, "DRV-SOURCE-MISSING"),
        ("relative.raw", {}, "DRV-SOURCE-MISSING"),
        (leader.dir / "dir", {}, "DRV-SOURCE-KIND"),
        (leader.dir / "fifo", {}, "DRV-SOURCE-KIND"),
        (leader.dir / "empty", {}, "DRV-SOURCE-TRUNCATED"),
        (small, {"format": "qcow2"}, "DRV-SOURCE-FORMAT"),
        (small, {"expected_size_bytes": 2048}, "DRV-SOURCE-SIZE"),
        (small, {"expected_sha256": "0" * 64}, "DRV-SOURCE-DIGEST"),
        (overlay, {}, "DRV-SOURCE-EXTERNAL"),
    ]
    for path, fields, code in cases:
        task = leader.hand_out(leader.inspect_task(path, **fields), worker)
        error = leader.event(task, "failed").failed.error
        assert (error.code, error.error_class) == (code, pb.common.ERROR_CLASS_PERMANENT), error
    task = leader.hand_out(leader.inspect_task(
        small, expected_sha256="ad7facb2586fc6e966c004d7d1d16b024f5805ff7cb47c7a85dabd8b48892ca7"), worker)
    leader.event(task, "inspected")


def test_file_roots(own_leader, raw):
    """Only files below the allowed directories, wherever a link leads from there."""
    leader = own_leader
    allowed = leader.dir / "allowed"
    allowed.mkdir()
    worker = Worker(leader, file_roots=allowed)
    leader.ready(worker)
    copy_of(raw, allowed / "in.raw")
    (allowed / "out.raw").symlink_to(raw)
    leader.inspected(allowed / "in.raw", worker)
    for path in (raw, allowed / "out.raw", f"{allowed}/../allowed-not/x"):
        task = leader.hand_out(leader.inspect_task(path), worker)
        assert leader.event(task, "failed").failed.error.code in ("DRV-SOURCE-PERMISSION", "DRV-SOURCE-MISSING")


def test_busy_source(leader, worker, raw):
    """A QEMU program that may write holds the image; when it ends, the same source is accepted."""
    image = convert(raw, leader.dir / "busy.qcow2", "qcow2")
    socket_path = leader.dir / "busy.sock"
    holder = subprocess.Popen(["qemu-nbd", "-t", "-f", "qcow2", "-k", socket_path, image])
    leader.servers.append(holder)
    while not socket_path.exists():
        time.sleep(0.02)
    task = leader.hand_out(leader.inspect_task(image), worker)
    error = leader.event(task, "failed").failed.error
    assert (error.code, error.error_class) == ("DRV-SOURCE-BUSY", pb.common.ERROR_CLASS_RETRYABLE), error
    holder.kill()
    holder.wait()
    leader.inspected(image, worker)


def test_poison(leader, worker, raw):
    """Garbage goes to the dead letters and stops nothing; a task of an unknown kind fails for its job as well."""
    for kind in ("source", "copy"):
        leader.send(f"drover.tasks.site-1.{kind}", b"\xff\x00garbage", partition=leader.partition(worker, kind))
        leader.wait("drover.dlq", lambda d: d.topic == f"drover.tasks.site-1.{kind}" and d.payload == b"\xff\x00garbage")
    leader.send("drover.control", b"\xff\x00garbage")
    leader.wait("drover.dlq", lambda d: d.topic == "drover.control")
    strange = pb.task.Task(task_id="strange", job_id=leader.job, attempt=1)
    leader.send("drover.tasks.site-1.copy", strange.SerializeToString(), partition=leader.partition(worker, "copy"))
    assert leader.event(strange, "failed").failed.error.code == "DRV-TASK-INVALID"
    leader.inspected(raw, worker)


@pytest.fixture
def slow(raw):
    """start(worker) -> (inspect task, result, task, target, port): a copy that takes some seconds, because its rate is
    limited, and has its first checkpoint."""
    def start(worker, rate=4 * MIB, **fields):
        leader = worker.leader
        inspect, seen = leader.inspected(raw, worker, format="raw")
        target, port = leader.target(DISK)
        task = leader.hand_out(leader.copy_task(inspect, seen, port, rate_bytes_per_second=rate, **fields), worker)
        leader.event(task, "claimed")
        leader.wait("checkpoints", lambda c: c.task_id == task.task_id, what="first checkpoint")
        return inspect, seen, task, target, port
    return start


def ends_of(leader, task):
    return [e for e in leader.all("events") if e.task_id == task.task_id and e.attempt == task.attempt and
            e.WhichOneof("body") in ("finished", "failed", "released")]


def idle(leader, worker, since_ms):
    leader.heartbeat(lambda h: h.pid == worker.pid and h.at_ms >= since_ms and not h.worker.running)


def test_duplicate_and_no_slot(own_leader, raw):
    leader = own_leader
    worker = Worker(leader, copy_slots=1)
    leader.ready(worker)
    inspect, seen = leader.inspected(raw, worker, format="raw")
    _, port = leader.target(DISK)
    task = leader.hand_out(leader.copy_task(inspect, seen, port, rate_bytes_per_second=6 * MIB), worker)
    leader.event(task, "claimed")
    leader.hand_out(task, worker)
    other = leader.hand_out(leader.copy_task(inspect, seen, port, offset=CELL), worker)
    assert "slots" in leader.event(other, "released").released.reason
    leader.event(task, "finished")
    assert len([e for e in leader.all("events") if e.task_id == task.task_id and e.WhichOneof("body") == "claimed"]) == 1


@pytest.mark.parametrize("how", ["missing", "attempt", "owner", "stop", "tombstone"])
def test_revoked(leader, worker, raw, slow, how):
    *_, task, target, _ = slow(worker)
    leader.control(task)
    if how == "missing":
        leader.control()
    elif how == "attempt":
        leader.control(task, attempt=2)
    elif how == "owner":
        leader.control(task, owner_instance="somebody-else")
    elif how == "stop":
        leader.control(task, desired="STOP")
    else:
        leader.send("drover.control", None)
    since = now_ms()
    idle(leader, worker, since)
    assert leader.event(task, "released").released.reason == "stopped: the task was revoked"
    assert len(ends_of(leader, task)) == 1, "it says only that: its bandwidth is free"
    assert worker.children() == []
    assert not same_content(target, raw)


def test_older_snapshot_does_not_revoke(leader, worker, raw, slow):
    """A snapshot from before the hand-out, read after it, means nothing."""
    *_, task, target, _ = slow(worker, rate=12 * MIB)
    leader.control(at_ms=task.created_at_ms - 1)
    leader.control(task, attempt=0)
    leader.event(task, "finished")
    assert same_content(target, raw)


def test_left_over(leader, worker, raw):
    """A task from long ago, of a job that control does not know any more, is not executed."""
    old = leader.inspect_task(raw, format="raw")
    old.created_at_ms -= 120_000
    leader.hand_out(old, worker)
    leader.inspected(raw, worker, format="raw", disk="disk1")
    assert [e for e in leader.all("events") if e.task_id == old.task_id] == []


def test_broker_away(leader_of_own_broker, raw):
    """The broker is killed in the middle of a copy. The copy goes on; when the broker is back, all is reported."""
    leader, broker = leader_of_own_broker
    worker = Worker(leader, checkpoint_wait="1s")
    leader.ready(worker)
    inspect, seen = leader.inspected(raw, worker, format="raw")
    target, port = leader.target(DISK)
    task = leader.hand_out(leader.copy_task(inspect, seen, port, rate_bytes_per_second=6 * MIB), worker)
    leader.wait("checkpoints", lambda c: c.task_id == task.task_id)
    broker("kill")
    deadline = time.monotonic() + 30
    while not same_content(target, raw):
        assert time.monotonic() < deadline, "the copy waits for the broker"
        time.sleep(0.1)
    broker("start")
    counts = leader.event(task, "finished", timeout=60).finished.counts
    assert counts.data_bytes + counts.zero_found_bytes + counts.skipped_bytes == DISK
    assert sorted(cells_of(leader, task)) == [0, 1, 2, 3, 4]
    leader.inspected(raw, worker, format="raw", disk="disk1")


def test_grant(leader, worker, slow):
    """A task that started slowly speeds up by a grant, and falls back to the floor when it expires."""
    *_, task, _, _ = slow(worker, rate=2 * MIB)
    leader.control(task, rate_bytes_per_second=0)
    leader.event(task, "finished", timeout=5)


def test_pause_and_go_on(leader, worker, raw, slow):
    inspect, seen, task, target, port = slow(worker)
    leader.control(task, desired="PAUSE")
    leader.event(task, "released")
    idle(leader, worker, now_ms())
    done = cells_of(leader, task)
    assert 0 < len(done) < 5
    counts = pb.common.ByteCounts()
    for cell in done.values():
        for field in ("data_bytes", "zero_found_bytes", "skipped_bytes"):
            setattr(counts, field, getattr(counts, field) + getattr(cell, field))
    again = leader.copy_task(inspect, seen, port, attempt=2, done=sorted(done), done_counts=counts)
    leader.control(again)
    leader.hand_out(again, worker)
    total = leader.event(again, "finished").finished.counts
    assert total.data_bytes + total.zero_found_bytes + total.skipped_bytes == DISK
    assert sorted(list(done) + list(cells_of(leader, again))) == [0, 1, 2, 3, 4]
    assert same_content(target, raw)
    sequences = [(p.attempt, p.sequence, p.counts.data_bytes) for p in leader.all("progress") if p.task_id == task.task_id]
    assert [c for *_, c in sorted(sequences)] == sorted(c for *_, c in sequences), "progress never falls"


def test_drain(own_leader, own_worker, slow):
    leader, worker = own_leader, own_worker
    *_, task, _, _ = slow(worker)
    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < 12
    leader.event(task, "released")
    leader.heartbeat(lambda h: h.pid == worker.pid and h.draining and not h.stopped)
    leader.heartbeat(lambda h: h.pid == worker.pid and h.stopped)
    assert list((leader.dir / "run" / worker.name).glob("*.sock")) == []


def gone(pids, timeout=5):
    deadline = time.monotonic() + timeout
    while any("qemu-nbd" in cmdline(pid) for pid in pids):
        assert time.monotonic() < deadline, [cmdline(pid) for pid in pids]
        time.sleep(0.02)


def test_kill_leaves_nothing(own_leader, own_worker, slow):
    leader, worker = own_leader, own_worker
    *_, task, _, _ = slow(worker)
    children = worker.children()
    assert [c for c in children if "qemu-nbd" in cmdline(c)], children
    assert all(TOKEN not in cmdline(pid) for pid in children + [worker.pid])
    worker.kill()
    gone(children)
    successor = Worker(leader, worker.name)
    leader.ready(successor)
    assert list((leader.dir / "run" / worker.name).glob("*.sock")) == []
    beats = {h.instance_id for h in leader.all("drover.fleet") if h.process_id == worker.name}
    assert len(beats) == 2


def test_same_name_twice(own_leader, own_worker):
    leader, worker = own_leader, own_worker
    second = Worker(leader, worker.name)
    assert second.process.wait(10) == 1
    assert "another worker named" in second.log.read_text()


def test_source_changes(leader, worker, raw):
    """One byte written while the copy runs: no cell that was read afterwards is checkpointed, the task fails for good."""
    source = copy_of(raw, leader.dir / "mine.raw")
    inspect, seen = leader.inspected(source, worker, format="raw")
    _, port = leader.target(DISK)
    task = leader.hand_out(leader.copy_task(inspect, seen, port, rate_bytes_per_second=4 * MIB), worker)
    leader.wait("checkpoints", lambda c: c.task_id == task.task_id)
    with open(source, "r+b") as out:
        out.seek(DISK - 1)
        out.write(b"!")
    error = leader.event(task, "failed").failed.error
    assert (error.code, error.error_class) == ("DRV-SOURCE-CHANGED", pb.common.ERROR_CLASS_PERMANENT), error
    # And neither does a later attempt begin.
    again = leader.hand_out(leader.copy_task(inspect, seen, port, attempt=2), worker)
    assert leader.event(again, "failed").failed.error.code == "DRV-SOURCE-CHANGED"


def test_child_dies(leader, worker, slow):
    """The source's qemu-nbd is killed: retryable at once, not after the time for reconnecting."""
    *_, task, _, _ = slow(worker)
    for pid in worker.children():
        if "qemu-nbd" in cmdline(pid):
            os.kill(pid, signal.SIGKILL)
    error = leader.event(task, "failed", timeout=10).failed.error
    assert (error.code, error.error_class) == ("DRV-SOURCE-CHILD", pb.common.ERROR_CLASS_RETRYABLE), error


def test_unreachable_target(own_leader, raw):
    leader = own_leader
    worker = Worker(leader, connect_timeout="1s")
    leader.ready(worker)
    inspect, seen = leader.inspected(raw, worker, format="raw")
    task = leader.hand_out(leader.copy_task(inspect, seen, port=1), worker)
    error = leader.event(task, "failed").failed.error
    assert error.error_class == pb.common.ERROR_CLASS_RETRYABLE, error
    assert TOKEN not in error.message


def test_target_wants_tls(leader, worker, raw):
    """A worker without certificates neither guesses an authority nor falls back to plain text."""
    inspect, seen = leader.inspected(raw, worker, format="raw")
    target, port = leader.target(DISK)
    task = leader.copy_task(inspect, seen, port)
    task.copy.target.tls = True
    error = leader.event(leader.hand_out(task, worker), "failed").failed.error
    assert (error.code, error.error_class) == ("DRV-TLS-WORKER", pb.common.ERROR_CLASS_PERMANENT), error
    assert target.stat().st_blocks == 0, "nothing was written"


def test_target_too_small(leader, worker, raw):
    inspect, seen = leader.inspected(raw, worker, format="raw")
    target, port = leader.target(DISK - MIB)
    task = leader.hand_out(leader.copy_task(inspect, seen, port), worker)
    error = leader.event(task, "failed").failed.error
    assert (error.code, error.error_class) == ("DRV-TARGET-TOO-SMALL", pb.common.ERROR_CLASS_PERMANENT), error
    assert target.stat().st_blocks == 0, "nothing was written"


def test_nbd_source(leader, worker, raw):
    socket_path = leader.dir / "foreign.sock"
    server = subprocess.Popen(["qemu-nbd", "-t", "-r", "-e", "8", "-f", "raw", "-x", "disk", "-k", socket_path, raw])
    leader.servers.append(server)
    while not socket_path.exists():
        time.sleep(0.02)
    uri = f"nbd+unix:///disk?socket={socket_path}"

    def task_for(frozen, uri=uri):
        task = leader.inspect_task("")
        task.inspect.source.nbd.uri, task.inspect.source.nbd.frozen = uri, frozen
        return leader.hand_out(task, worker)

    assert leader.event(task_for(False), "failed").failed.error.code == "DRV-SOURCE-NOT-FROZEN"
    assert leader.event(task_for(True, "nbd://me:secret@127.0.0.1/x"), "failed").failed.error.code == "DRV-SOURCE-KIND"
    inspect = task_for(True)
    seen = leader.event(inspect, "inspected").inspected
    target, port = leader.target(DISK)
    copy = leader.copy_task(inspect, seen, port)
    copy.copy.source.CopyFrom(inspect.inspect.source)
    leader.hand_out(copy, worker)
    leader.event(copy, "finished")
    assert same_content(target, raw)


def test_partitions_move_and_tasks_stay(own_leader, own_worker, raw, slow):
    """A second worker joins: the first loses partitions, reports it at once, and its task runs on."""
    leader, worker = own_leader, own_worker
    before = leader.ready(worker, copy=4)
    assert list(before.worker.copy_partitions) == [0, 1, 2, 3]
    *_, task, target, _ = slow(worker, rate=8 * MIB)
    second = Worker(leader, "worker-2")
    leader.ready(second, copy=2)
    leader.heartbeat(lambda h: h.pid == worker.pid and len(h.worker.copy_partitions) == 2)
    leader.event(task, "finished")
    assert same_content(target, raw)
