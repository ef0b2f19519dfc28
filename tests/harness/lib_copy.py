# SPDX-License-Identifier: Apache-2.0
"""Disks, NBD servers that misbehave, and runs of drover-copy, for the tests of the copy engine."""

import json
import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

from fleet import ROOT, wait_for

DROVER_COPY = Path(os.environ.get("DROVER_BIN") or ROOT / "build/release/bin") / "drover-copy"
KIB, MIB = 1 << 10, 1 << 20


def write_disk(path, size, rng, grain=(512, MIB), holes=0.4, zeroes=0.1):
    """Segments of random lengths: data, zeroes that are written out, holes. Any size, any alignment."""
    with open(path, "wb") as file:
        file.truncate(size)
        at = 0
        while at < size:
            length = min(size - at, max(1, int(grain[0] * (grain[1] / grain[0]) ** rng.random()) & ~(rng.choice((1, 512, 4096)) - 1)))
            kind = rng.random()
            if kind >= holes:
                file.seek(at)
                file.write(bytes(length) if kind < holes + zeroes else rng.randbytes(length))
            at += length
    return path


def first_difference(a, b, begin=0, end=None):
    """Offset of the first byte in [begin, end) that differs between two files, or None."""
    end = min(os.path.getsize(a), os.path.getsize(b)) if end is None else end
    with open(a, "rb") as x, open(b, "rb") as y:
        x.seek(begin)
        y.seek(begin)
        while begin < end:
            p, q = x.read(min(MIB, end - begin)), y.read(min(MIB, end - begin))
            if p != q:
                return begin + next((i for i, (c, d) in enumerate(zip(p, q)) if c != d), min(len(p), len(q)))
            if not p:
                return begin  # a file ends early
            begin += len(p)
    return None


class Server:
    """An NBD server on a Unix socket that can be killed and started again."""

    def __init__(self, socket, command):
        self.socket, self.command, self.child = Path(socket), [str(c).replace("%SOCKET", str(socket)) for c in command], None
        self.lock, self.ended = threading.Lock(), False
        self.start()

    @classmethod
    def nbdkit(cls, socket, *arguments):
        return cls(socket, ["nbdkit", "-f", "-U", "%SOCKET", *arguments])

    @classmethod
    def qemu_nbd(cls, socket, *arguments):
        return cls(socket, ["qemu-nbd", "-t", "-k", "%SOCKET", "-e", 16, *arguments])

    @property
    def uri(self):
        return f"nbd+unix:///?socket={self.socket}"

    def start(self):
        with self.lock:
            if self.ended:
                return
            self.socket.unlink(missing_ok=True)
            with open(f"{self.socket}.log", "ab") as log:
                self.child = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(lambda: self.socket.exists() or self.child.poll() is not None, 30, "The NBD server's socket")
        assert self.child.poll() is None or self.ended, Path(f"{self.socket}.log").read_text()

    def kill(self):
        with self.lock:
            self.child.kill()
            self.child.wait()

    def stall(self):
        os.kill(self.child.pid, signal.SIGSTOP)

    def go_on(self):
        os.kill(self.child.pid, signal.SIGCONT)

    def end(self):
        self.ended = True
        self.kill()


class Servers:
    """Servers of one test; `with` ends them."""

    def __init__(self, directory):
        self.dir, self.all = Path(directory), []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in self.all:
            server.end()

    def _add(self, server):
        self.all.append(server)
        return server

    def nbdkit(self, *arguments):
        return self._add(Server.nbdkit(self.dir / f"{len(self.all)}.sock", *arguments))

    def qemu_nbd(self, *arguments):
        return self._add(Server.qemu_nbd(self.dir / f"{len(self.all)}.sock", *arguments))


def start(*arguments, **options):
    return subprocess.Popen([DROVER_COPY, "--log-format=text", *map(str, arguments)], text=True, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def run(*arguments, seconds=300):
    """(exit code, what it said on standard error, report) of a whole run."""
    child = start("--report=-", *arguments)
    try:
        out, err = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        out, err = child.communicate()
        raise AssertionError(f"drover-copy {' '.join(map(str, arguments))} hangs: {err[-2000:]}") from None
    return child.returncode, err, json.loads(out) if out.strip() else None


def peak_memory(pid, ended):
    """Largest resident size in bytes of a process and its children until ENDED() is true; it is sampled."""
    largest = 0
    while not ended():
        total = 0
        for process in [pid, *children(pid)]:
            try:
                status = Path(f"/proc/{process}/status").read_text()
                total += int(status.split("VmRSS:")[1].split()[0]) * KIB
            except (OSError, IndexError):
                pass
        largest = max(largest, total)
        time.sleep(0.02)
    return largest


def children(pid):
    return [int(p) for p in subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()]


def seeds(default):
    """DROVER_SEEDS=FROM-TO, or as many as DEFAULT from a random place; a failure names its seed."""
    wanted = os.environ.get("DROVER_SEEDS")
    if wanted:
        first, _, last = wanted.partition("-")
        return range(int(first), int(last or first) + 1)
    first = random.SystemRandom().randrange(1_000_000)
    return range(first, first + default)
