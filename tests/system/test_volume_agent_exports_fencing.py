# SPDX-License-Identifier: Apache-2.0
"""The fence of the exports under fire: old writers that never stop, a storage that loses writes, crowds that come and go."""

import errno
import json
import os
import random
import select
import signal
import statistics
import subprocess
import sys
import threading
import time

import nbd
import pytest

from fleet import wait_for
from lib_agent import AGENT, AgentLeader, Double, children
from lib_exports import BIN, MIB, OTHER, TOKEN, Server, name

# Writes its own mark everywhere, from several connections at once, and comes back whatever happens.
OLD_WORKER = """
import nbd, sys, time
export, port, mark = sys.argv[1], sys.argv[2], bytes([int(sys.argv[3])])
refused = 0
while True:
    h = nbd.NBD()
    h.set_export_name(export)
    try:
        h.connect_tcp("127.0.0.1", port)
        while True:
            buffers = [nbd.Buffer.from_bytearray(bytearray(mark * 65536)) for _ in range(16)]
            cookies = [h.aio_pwrite(b, n * 16 * 65536) for n, b in enumerate(buffers)]
            while cookies := [c for c in cookies if not h.aio_command_completed(c)]:
                h.poll(100)
    except nbd.Error:
        refused += 1
        print(refused, flush=True)
        time.sleep(0.005)
"""


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk.raw"
    with open(path, "wb") as f:
        f.truncate(64 * MIB)
    return path


@pytest.fixture
def make_server(tmp_path):
    servers = []

    def make(env=None):
        servers.append(Server(tmp_path, env))
        return servers[-1]

    yield make
    for s in servers:
        assert s.child.poll() is None, (tmp_path / "nbdkit.log").read_text()
        s.stop()


@pytest.fixture
def start():
    """start(program, *args) -> a process that is killed at the end."""
    children = []

    def run(program, *args):
        children.append(subprocess.Popen([sys.executable, "-c", program, *map(str, args)], stdout=subprocess.PIPE,
                                         stderr=subprocess.DEVNULL))
        return children[-1]

    yield run
    for child in children:
        child.kill()
        child.wait()
        child.stdout.close()


def refusals(worker):
    """Waits for two refusals of an old worker from now on: a connection that was cut off, one that was not let in."""
    fd, seen = worker.stdout.fileno(), None
    while seen is None or seen < 2:
        ready, _, _ = select.select([fd], [], [], 0 if seen is None else 40)
        assert ready or seen is None, "an old worker is not refused"
        if ready:
            lines = os.read(fd, 1 << 16)
            assert lines, "an old worker ended"
        if seen is not None:
            seen += lines.count(b"\n")
        elif not ready:
            seen = 0  # what came before has been read


def test_not_one_byte_of_an_old_generation_arrives(make_server, disk, start):
    server = make_server()
    workers = []
    for generation in range(1, 7):
        assert server.open("v1", generation, TOKEN, disk) == "ok"
        # The grant has returned: whatever older generations wrote is there by now, and nothing comes after.
        granted = disk.read_bytes()
        for worker in workers:
            refusals(worker)
        assert disk.read_bytes() == granted, f"generation {generation - 1} wrote after {generation} was granted"
        workers += [start(OLD_WORKER, name("v1", generation), server.port, generation) for _ in range(2)]
        wait_for(lambda: server.stat()["v1"]["written"] > 24 * MIB, 30, f"Writing of generation {generation}")
        assert generation in disk.read_bytes()[:16 * MIB]
    assert server.ask("close v1 6")[0] == "ok"
    closed = disk.read_bytes()
    for worker in workers:
        refusals(worker)
    assert disk.read_bytes() == closed
    # Also when the server starts again with the newest generation only, as the agent opens it.
    server.kill()
    server.start()
    assert server.open("v1", 7, OTHER, disk) == "ok"
    for worker in workers:
        refusals(worker)
    assert disk.read_bytes() == closed


@pytest.fixture
def leader(kafka, tmp_path):
    with Double(tmp_path / "cloud", appliance=AGENT, speed=5) as cloud:
        leader = AgentLeader(kafka, cloud, tmp_path / "agent")
        yield leader
        leader.close()


def test_the_agent_fences_an_old_worker(leader, start):
    """The same through the volume agent: once it has said that the new generation is open; also when its nbdkit dies and is
    started again, and when the agent itself does."""
    agent = leader.agent()
    volume = leader.volume()
    opened = leader.do("open_export", volume_id=volume, generation=1, minimum_size_bytes=MIB)
    disk = leader.bytes_of(volume)
    worker = start(OLD_WORKER, f"{opened.export_name}@1.{opened.token}", opened.nbd_port, 1)
    wait_for(lambda: disk.stat().st_blocks * 512 >= 1 * MIB, 30, "The old worker to write")

    def written():
        with open(disk, "rb") as f:
            return f.read(16 * MIB)

    leader.do("open_export", volume_id=volume, generation=2, minimum_size_bytes=MIB)
    granted = written()
    assert 1 in granted
    refusals(worker)
    assert written() == granted
    [nbdkit] = children(agent.pid)
    os.kill(nbdkit, signal.SIGKILL)
    wait_for(lambda: any(line["event"] == "nbdkit.ready" and line["pid"] != nbdkit for line in agent.lines()), 30,
             "The next nbdkit")
    refusals(worker)
    agent.kill()
    again = leader.agent()
    leader.heartbeat(again, lambda h: [(e.volume_id, e.generation, e.writable) for e in h.agent.exports] == [(volume, 2, True)])
    refusals(worker)
    assert written() == granted


LOSE_A_FLUSH = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
/* As Linux does it: the error is told once, to whoever flushes first after it. */
int fdatasync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    const char *trigger = getenv("LOSE_A_FLUSH");
    if (trigger && unlink(trigger) == 0) {
        errno = EIO;
        return -1;
    }
    return real(fd);
}
"""


@pytest.fixture
def lossy(make_server, tmp_path):
    """A server whose storage loses writes when the file TRIGGER appears: (server, trigger)."""
    source, library, trigger = tmp_path / "lose.c", tmp_path / "lose.so", tmp_path / "lose-a-flush"
    source.write_text(LOSE_A_FLUSH)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return make_server({"LD_PRELOAD": str(library), "LOSE_A_FLUSH": str(trigger)}), trigger


def test_a_lost_write_is_told_to_every_connection(lossy, disk):
    server, trigger = lossy
    assert server.open("v1", 1, TOKEN, disk) == "ok"
    a, b = (server.connect(name("v1", 1)) for _ in range(2))
    for h in (a, b):
        h.pwrite(bytes(4096), 0)
        h.flush()
    trigger.touch()
    late = []

    def told(request):
        with pytest.raises(nbd.Error) as e:
            request()
        assert e.value.errnum == errno.EIO

    told(a.flush)
    assert not trigger.exists()  # the kernel has told it, and tells nobody else
    late.append(server.connect(name("v1", 1)))
    for h in (b, a, *late):
        told(h.flush)
        told(lambda: h.pwrite(bytes(512), 0, nbd.CMD_FLAG_FUA))
        told(lambda: h.zero(512, 0, nbd.CMD_FLAG_FUA))
        h.pread(512, 0)  # what is there can still be compared
    assert server.stat()["v1"]["poisoned"] == 1
    assert server.open("v1", 2, OTHER, disk) == "ok"
    clean = server.connect(name("v1", 2, OTHER))
    clean.pwrite(bytes(512), 0)
    clean.flush()
    assert server.stat()["v1"]["poisoned"] == 0


def copy(server, source, token_file, *args, volume="v1"):
    return [BIN / "drover-copy", "--log-format=text", f"--token-file={token_file}", *args, source,
            f"nbd://127.0.0.1:{server.port}/migration-vol-{volume}"]


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.write_text(f"1.{TOKEN}")
    path.chmod(0o600)
    return path


def is_complete(report):
    return report.exists() and json.loads(report.read_text())["complete"]


def test_a_lost_write_fails_the_copies_of_all_workers(lossy, token_file, tmp_path, work):
    """Two workers copy two halves of one disk; the storage loses writes and tells one of them."""
    server, trigger = lossy
    size = 256 * MIB
    source, target = work / "lossy-source.raw", work / "lossy-target.raw"
    with open(source, "wb") as f:
        for _ in range(size // MIB):
            f.write(random.randbytes(MIB))
    with open(target, "wb") as f:
        f.truncate(size)
    assert server.open("v1", 1, TOKEN, target) == "ok"
    workers = []
    for i in range(2):
        (tmp_path / f"ranges-{i}").write_text(f"{i * size // 2} {size // 2}\n")
        workers.append(subprocess.Popen(copy(server, source, token_file, f"--ranges={tmp_path / f'ranges-{i}'}", "--rate=48M",
                                             "--digest=xxh3", f"--report={tmp_path / f'report-{i}'}"),
                                        stderr=open(tmp_path / f"copy-{i}.log", "wb")))
    logs = lambda: "".join((tmp_path / f"copy-{i}.log").read_text() for i in range(2))  # noqa: E731
    wait_for(lambda: any(w.poll() is not None for w in workers) or 
             server.stat()["v1"]["written"] > 64 * MIB, 60, "Both to copy")
    assert [w.poll() for w in workers] == [None, None], logs()
    trigger.touch()
    for i, worker in enumerate(workers):
        assert worker.wait(120) != 0, logs()
        assert not is_complete(tmp_path / f"report-{i}")
    assert not trigger.exists() and server.stat()["v1"]["poisoned"] == 1
    source.unlink()
    target.unlink()


def test_fifty_exports_come_and_go_beside_a_copy(make_server, token_file, tmp_path, work, record_property):
    """50 exports of 10 VMs, each opened, written by a client, moved on to its next generation and closed, again and again,
    while another export is copied to. Its rate is compared between the time with them and the time without, in turn."""
    server = make_server()
    size = 768 * MIB
    source, target = work / "fifty-source.raw", work / "fifty-target.raw"
    block = random.randbytes(MIB)
    with open(source, "wb") as f:
        for i in range(size // MIB):
            f.write(i.to_bytes(8, "big") + block[8:])
    with open(target, "wb") as f:
        f.truncate(size)
    disks = []
    for vm in range(10):
        for disk in range(5):
            path = tmp_path / f"vm{vm}-{disk}.raw"
            with open(path, "wb") as f:
                f.truncate(4 * MIB)
            disks.append((f"vm{vm}-disk{disk}", path))
    assert server.open("v1", 1, TOKEN, target) == "ok"
    done = subprocess.Popen(copy(server, source, token_file, "--rate=128M"), stderr=open(tmp_path / "copy.log", "wb"))
    wait_for(lambda: server.stat()["v1"]["written"] > 32 * MIB, 60, "The copy to begin")

    busy, stop, rounds, failures = threading.Event(), threading.Event(), [0], []

    def come_and_go():
        other = Server.__new__(Server)  # a second conversation with the same server
        other.__dict__.update(server.__dict__)
        assert other._connected()
        generation = 0
        try:
            while not stop.is_set():
                if not busy.wait(0.05):
                    continue
                generation += 2
                for volume, path in disks:
                    assert other.open(volume, generation - 1, OTHER, path) == "ok"
                for volume, path in disks:
                    h = other.connect(name(volume, generation - 1, OTHER))
                    h.pwrite(generation.to_bytes(4, "big") * 1024, 0)
                    assert other.open(volume, generation, TOKEN, path) == "ok"
                for volume, path in disks:
                    assert other.ask(f"close {volume} {generation}")[0] == "ok"
                rounds[0] += 1
        except Exception as e:
            failures.append(e)
        finally:
            other.reader.close()
            other.control.close()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    rates = {False: [], True: []}
    try:
        while done.poll() is None and len(rates[True]) < 3:
            for with_others in (False, True):
                (busy.set if with_others else busy.clear)()
                began, before = time.monotonic(), server.stat()["v1"]["written"]
                time.sleep(0.8)
                rates[with_others].append((server.stat()["v1"]["written"] - before) / (time.monotonic() - began))
    finally:
        stop.set()
        thread.join(60)
    assert not failures, failures
    assert done.wait(120) == 0, (tmp_path / "copy.log").read_text()
    assert "econnect" not in (tmp_path / "copy.log").read_text()  # nobody was cut off
    ratio = statistics.median(rates[True]) / statistics.median(rates[False])
    record_property("ratio", round(ratio, 3))
    print(f"rate with 50 others coming and going / without: {ratio:.2f}; rounds: {rounds[0]}; MB/s: "
          f"{[[round(r / 1e6) for r in rates[k]] for k in (False, True)]}")
    assert rounds[0] > 0 and ratio > 0.5
    assert list(server.stat()) == ["v1"]
    subprocess.run(["cmp", source, target], check=True)
    source.unlink()
    target.unlink()
