# SPDX-License-Identifier: Apache-2.0
"""The nbdkit plugin alone: who gets in, who is cut off, what is flushed. The test plays the volume agent."""

import errno
import os
import resource
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import nbd
import pytest

from fleet import wait_for
from lib_exports import MIB, OTHER, TOKEN, Server, name


@pytest.fixture
def server(tmp_path):
    s = Server(tmp_path)
    yield s
    assert s.child.poll() is None, (tmp_path / "nbdkit.log").read_text()
    s.stop()


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk.raw"
    with open(path, "wb") as f:
        f.truncate(64 * MIB)
    return path


def test_only_the_right_name_gets_in(server, disk, tmp_path):
    assert server.open("v1", 3, TOKEN, disk) == "ok"
    for wrong in ("", "v1", "migration-vol-v1", "migration-vol-v1@3", "migration-vol-v1@3.", name("v1", 3, OTHER),
                  name("v1", 2), name("v1", 4), name("v2", 3), name("v1", 3) + "0", name("v1", 3)[:-1],
                  "migration-vol-v1@03." + TOKEN, "x" + name("v1", 3)):
        with pytest.raises(nbd.Error):
            server.connect(wrong)
    h = server.connect(name("v1", 3))
    assert h.get_size() == 64 * MIB
    assert h.can_multi_conn() and h.can_fast_zero() and h.can_fua() and not h.is_read_only()
    h.shutdown()
    assert TOKEN not in (tmp_path / "nbdkit.log").read_text()


def test_nothing_is_listed(server, disk):
    assert server.open("v1", 1, TOKEN, disk) == "ok"
    h = nbd.NBD()
    h.set_opt_mode(True)
    h.connect_tcp("127.0.0.1", str(server.port))
    seen = []
    assert h.opt_list(lambda n, d: seen.append(n)) == 0
    assert seen == []
    h.opt_abort()


def test_data_zeroes_and_holes(server, disk):
    assert server.open("v1", 1, TOKEN, disk) == "ok"
    h = server.connect(name("v1", 1))
    data = os.urandom(MIB)
    h.pwrite(data, 5 * MIB)
    h.zero(MIB, 20 * MIB)
    h.zero(MIB, 30 * MIB, nbd.CMD_FLAG_FAST_ZERO)
    h.pwrite(b"x" * MIB, 40 * MIB)
    h.zero(MIB, 40 * MIB, nbd.CMD_FLAG_NO_HOLE)
    h.flush()
    assert h.pread(MIB, 5 * MIB) == bytearray(data)
    assert h.pread(MIB, 40 * MIB) == bytearray(MIB)
    extents = []
    h.block_status(64 * MIB, 0, lambda context, offset, entries, error: extents.extend(entries))
    lengths, kinds = extents[0::2], extents[1::2]
    assert sum(lengths) == 64 * MIB
    assert kinds[0] == 3 and lengths[0] == 5 * MIB and kinds[1] == 0
    h.shutdown()
    assert disk.read_bytes()[5 * MIB:6 * MIB] == data


def test_a_newer_generation_cuts_off_open_connections(server, disk):
    assert server.open("v1", 1, TOKEN, disk) == "ok"
    old = server.connect(name("v1", 1))
    old.pwrite(b"old" + bytes(509), 0)
    assert server.open("v1", 2, OTHER, disk) == "ok"
    for request in (lambda: old.pwrite(b"zombie" + bytes(506), 0), lambda: old.flush(), lambda: old.zero(512, 0),
                    lambda: old.pread(512, 0), lambda: old.trim(512, 0)):
        with pytest.raises(nbd.Error) as e:
            request()
        assert e.value.errnum == errno.ESHUTDOWN
    new = server.connect(name("v1", 2, OTHER))
    new.pwrite(b"new" + bytes(509), 0)
    new.flush()
    assert disk.read_bytes()[:3] == b"new"
    # The old generation never comes back, also not with the right token.
    assert server.open("v1", 1, TOKEN, disk).startswith(f"error {errno.ESTALE}")
    # The same one again is no change; with another token it is an error.
    assert server.open("v1", 2, OTHER, disk) == "ok"
    assert server.open("v1", 2, TOKEN, disk).startswith(f"error {errno.EEXIST}")
    new.pwrite(b"n" * 512, 512)


def test_closing_ends_writing_and_frees_the_device(server, disk):
    assert server.open("v1", 7, TOKEN, disk) == "ok"
    h = server.connect(name("v1", 7))
    h.pwrite(bytes(512), 0)
    assert server.ask("close v1 6")[0] == "ok"  # older: nothing to do
    h.pwrite(bytes(512), 0)
    assert server.ask("close v1 7")[0] == "ok"
    with pytest.raises(nbd.Error):
        h.pwrite(bytes(512), 0)
    fds = [os.readlink(f) for f in Path(f"/proc/{server.child.pid}/fd").iterdir() if os.path.islink(f)]
    assert str(disk) not in fds
    assert server.open("v1", 7, TOKEN, disk).startswith(f"error {errno.ESTALE}")
    assert server.open("v1", 8, OTHER, disk) == "ok"


def test_closing_waits_for_writes_in_flight(server, disk):
    """Writers hammer from several connections; after the close has returned, the bytes never change again."""
    assert server.open("v1", 1, TOKEN, disk) == "ok"
    stop = threading.Event()

    def hammer(i):
        h = server.connect(name("v1", 1))
        n = 0
        try:
            while not stop.is_set():
                n += 1
                h.pwrite(bytes([n % 251 + 1]) * MIB, i * MIB)
        except nbd.Error as e:
            assert e.errnum in (errno.ESHUTDOWN, 0), e

    threads = [threading.Thread(target=hammer, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    wait_for(lambda: "v1" in "".join(server.ask("stat")[1]) and int(server.ask("stat")[1][0].split()[3]) > 40 * MIB, 20,
             "Writing")
    assert server.ask("close v1 1")[0] == "ok"
    before = disk.read_bytes()
    for t in threads:
        t.join(20)
        assert not t.is_alive()
    assert disk.read_bytes() == before
    for i in range(4):  # each write was whole
        assert len(set(before[i * MIB:(i + 1) * MIB])) == 1


def test_devices_that_do_not_fit_are_refused(server, disk, tmp_path):
    assert server.open("v1", 1, TOKEN, disk, minimum=65 * MIB).startswith(f"error {errno.ENOSPC}")
    assert server.open("v1", 1, TOKEN, tmp_path / "nowhere").startswith(f"error {errno.ENOENT}")
    assert server.open("v1", 1, TOKEN, tmp_path).startswith("error")
    assert server.open("v1", 1, TOKEN, disk) == "ok"  # a failed opening does not use the generation up
    for line in ("open v1", "open v1 x y z p", "open ../x 1 t 0 /p", "nonsense", "close v1"):
        assert server.ask(line)[0].startswith(f"error {errno.EINVAL}")


def test_dying_clients_do_not_hurt(server, disk):
    """Debian 12's nbdkit aborts when a reading client dies, unless requests of a connection are served in turn."""
    assert server.open("v1", 1, TOKEN, disk) == "ok"
    other = server.connect(name("v1", 1))
    program = f"""
import nbd
h = nbd.NBD(); h.set_export_name({name("v1", 1)!r}); h.connect_tcp("127.0.0.1", {str(server.port)!r})
print("up", flush=True)
buffers = []
while True:
    for i in range(32):
        b = nbd.Buffer(1 << 20); buffers.append(b)
        h.aio_pread(b, (i % 60) << 20)
    for i in range(32):
        h.poll(1)
    buffers.clear()
"""
    for _ in range(24):
        client = subprocess.Popen(["/usr/bin/python3", "-c", program], stdout=subprocess.PIPE)
        assert client.stdout.readline() == b"up\n"
        time.sleep(0.02)  # into the middle of its reads, wherever that is
        client.send_signal(signal.SIGKILL)
        client.wait()
        client.stdout.close()
    other.pwrite(b"alive" + bytes(507), 0)
    assert server.child.poll() is None


def test_the_agent_gets_through_again_after_a_crowd_of_clients(server, disk):
    """Clients that take all of nbdkit's descriptors must not end the control socket's service for good."""
    resource.prlimit(server.child.pid, resource.RLIMIT_NOFILE, (32, 32))
    crowd = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(48)]
    waiting = []

    def unanswered():
        agent = socket.socket(socket.AF_UNIX)
        agent.settimeout(0.3)
        agent.connect(str(server.control_path))
        waiting.append(agent)
        try:
            agent.sendall(b"ping\n")
            agent.recv(16)
        except TimeoutError:
            return agent
        except ConnectionError:
            pass
        return None

    late = wait_for(unanswered, 10, "nbdkit to run out of descriptors")
    late.settimeout(10)
    for client in crowd:
        client.close()
    assert late.recv(16) == b"ok\n"
    for agent in waiting:
        agent.close()
    assert server.open("v1", 1, TOKEN, disk) == "ok"
    server.connect(name("v1", 1)).pwrite(b"alive" + bytes(507), 0)


def test_statistics(server, disk):
    assert server.open("v1", 4, TOKEN, disk) == "ok"
    h = server.connect(name("v1", 4))
    h.pwrite(bytes(4096), 0)
    h.zero(8192, 4096)
    h.pread(512, 0)
    h.flush()
    volume, generation, poisoned, written, zeroed, read, requests, flushes, connections = server.ask("stat")[1][0].split()
    assert (volume, generation, poisoned) == ("v1", "4", "0")
    assert (written, zeroed, read, flushes, connections) == ("4096", "8192", "512", "1", "1")
    assert int(requests) == 4
