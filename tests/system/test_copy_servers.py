# SPDX-License-Identifier: Apache-2.0
"""drover-copy against every kind of NBD server: what they cannot do, what they refuse, how they fail, how slow they are."""

import os
import random
import signal
import socket
import subprocess
import threading
import time

import pytest

import lib_copy
from fleet import wait_for
from lib_copy import KIB, MIB, Servers, first_difference, write_disk

SIZE = 12 * MIB


@pytest.fixture
def servers(tmp_path):
    with Servers(tmp_path) as all_of_them:
        yield all_of_them


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    return write_disk(tmp_path_factory.mktemp("disk") / "source", SIZE, random.Random(11))


@pytest.fixture
def target(tmp_path):
    """A file full of something else."""
    path = tmp_path / "target"
    path.write_bytes(b"\xa5" * SIZE)
    return path


class NbdServer:
    """The oldest server that is still in use: no structured replies, no extents, no block sizes. Always a daemon, since in the
    foreground it serves one client and ends."""

    def __init__(self, directory, path, *options):
        config, socket_path, self.pid = directory / "nbd-server.conf", directory / "nbd-server.sock", directory / "nbd-server.pid"
        config.write_text("\n".join(["[generic]", f"unixsock = {socket_path}", "[disk]", f"exportname = {path}", "flush = true",
                                     f"filesize = {path.stat().st_size}", *options]) + "\n")
        subprocess.run(["nbd-server", "-C", config, "-p", self.pid], check=True, capture_output=True)
        wait_for(lambda: socket_path.exists() and self.pid.exists() and self.pid.read_text().strip(), 30, "nbd-server")
        self.uri = f"nbd+unix:///disk?socket={socket_path}"

    def end(self):
        os.kill(int(self.pid.read_text()), signal.SIGTERM)


def nbd_server(servers, path, *options):
    server = NbdServer(servers.dir, path, *options)
    servers.all.append(server)
    return server.uri


SOURCES = {
    "error": ["--filter=error", "file", "%DISK", "error-pread-rate=3%", "error-extents-rate=3%"],
    "delay": ["--filter=delay", "file", "%DISK", "rdelay=20ms", "delay-extents=20ms"],
    "rate": ["--filter=rate", "file", "%DISK", "rate=200M"],
    "blocksize": ["--filter=blocksize-policy", "file", "%DISK", "blocksize-minimum=4K", "blocksize-preferred=8K",
                  "blocksize-maximum=64K", "blocksize-error-policy=error"],
    "one connection": ["--filter=multi-conn", "file", "%DISK", "multi-conn-mode=disable"],
    "no extents": ["--filter=noextents", "file", "%DISK"],
    "longer": ["--filter=truncate", "file", "%DISK", f"truncate={SIZE}"],
    "one request": ["--filter=noparallel", "file", "%DISK", "serialize=requests"],
}
TARGETS = {
    "error": ["--filter=error", "file", "%DISK", "error-pwrite-rate=3%", "error-zero-rate=3%"],
    "delay": ["--filter=delay", "file", "%DISK", "wdelay=20ms"],
    "rate": ["--filter=rate", "file", "%DISK", "rate=200M"],
    "blocksize": ["--filter=blocksize-policy", "file", "%DISK", "blocksize-minimum=4K", "blocksize-preferred=8K",
                  "blocksize-maximum=64K", "blocksize-error-policy=error"],
    "one connection": ["--filter=multi-conn", "file", "%DISK", "multi-conn-mode=disable"],
    "cannot zero": ["--filter=nozero", "file", "%DISK"],
    "zeroes by writing": ["--filter=nozero", "file", "%DISK", "zeromode=emulate"],
    "zeroes without holes": ["--filter=nozero", "file", "%DISK", "zeromode=notrim"],
    "fua": ["--filter=fua", "file", "%DISK", "fuamode=force"],
    "no fua": ["--filter=fua", "file", "%DISK", "fuamode=discard"],
    "longer": ["--filter=truncate", "file", "%DISK", "round-up=16M"],
}


def on(arguments, path):
    return [str(path) if a == "%DISK" else a for a in arguments]


@pytest.mark.parametrize("kind", [*SOURCES, "qemu-nbd", "qcow2", "nbd-server"])
def test_sources(servers, disk, target, tmp_path, kind):
    if kind == "qemu-nbd":
        uri = servers.qemu_nbd("-r", "-f", "raw", disk).uri
    elif kind == "qcow2":
        image = tmp_path / "source.qcow2"
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk, image], check=True)
        uri = servers.qemu_nbd("-r", "-f", "qcow2", image).uri
    elif kind == "nbd-server":
        uri = nbd_server(servers, disk, "readonly = true")
    else:
        uri = servers.nbdkit("-r", *on(SOURCES[kind], disk)).uri
    code, said, report = lib_copy.run("--verify", uri, servers.nbdkit("file", target).uri)
    assert code == 0, said
    assert first_difference(disk, target) is None
    assert said.count("extents") == (kind == "nbd-server"), said  # one line says that everything is read
    if kind in ("no extents", "nbd-server"):
        assert report["bytes"]["skipped"] == 0, report
    elif kind not in ("error", "delay"):
        assert report["bytes"]["skipped"] > 0, report


def test_what_is_skipped_is_logged(servers, tmp_path):
    """At debug, with its size: 64 KiB of data every 256 KiB, then nothing."""
    source, target = tmp_path / "source", tmp_path / "target"
    with open(source, "wb") as file:
        file.truncate(80 * MIB)
        for at in range(0, MIB, 256 * KIB):
            file.seek(at)
            file.write(b"\x5a" * (64 * KIB))
    code, said, report = lib_copy.run("--log-level=debug", servers.nbdkit("-r", "file", source).uri, target)
    assert code == 0, said
    small, large = 3 * 192 * KIB, 80 * MIB - MIB + 192 * KIB
    assert report["bytes"]["skipped"] == small + large, report
    assert f"copy.hole: {large} bytes at {80 * MIB - large} are a hole" in said, said
    assert f"copy.holes: {small} bytes in [0, {80 * MIB}) are 3 small holes" in said, said


@pytest.mark.parametrize("kind", [*TARGETS, "qemu-nbd", "qcow2", "nbd-server"])
def test_targets(servers, disk, target, tmp_path, kind):
    if kind == "qemu-nbd":
        uri = servers.qemu_nbd("-f", "raw", "--discard=unmap", target).uri
    elif kind == "qcow2":
        image = tmp_path / "target.qcow2"
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", target, image], check=True)
        uri = servers.qemu_nbd("-f", "qcow2", image).uri
    elif kind == "nbd-server":
        uri = nbd_server(servers, target)
    else:
        uri = servers.nbdkit(*on(TARGETS[kind], target)).uri
    code, said, _ = lib_copy.run("--verify", servers.nbdkit("-r", "file", disk).uri, uri)
    assert code == 0, said
    if kind == "qcow2":
        servers.all[0].end()
        subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, target], check=True)
    assert first_difference(disk, target, 0, SIZE) is None


def test_zeroes_punch_holes_unless_space_is_wanted(servers, disk, target, tmp_path):
    def allocated(path):
        return path.stat().st_blocks * 512

    for options, new in (([], False), (["--allocated"], False), (["--allocated"], True)):
        target.write_bytes(b"\xa5" * SIZE)
        where = tmp_path / "new" if new else servers.nbdkit("file", target).uri
        code, said, _ = lib_copy.run("--verify", *options, servers.nbdkit("-r", "file", disk).uri, where)
        assert code == 0, said
        path = tmp_path / "new" if new else target
        assert first_difference(disk, path, 0, SIZE) is None
        assert (allocated(path) >= SIZE) == bool(options), (options, new, allocated(path))


def test_nothing_but_the_source_is_written(servers, disk):
    """The checkwrite filter refuses every write and every zero that differs from what is there."""
    target = servers.nbdkit("--filter=checkwrite", "file", disk)
    code, said, _ = lib_copy.run(servers.nbdkit("-r", "file", disk).uri, target.uri)
    assert code == 0, said
    changed = write_disk(servers.dir / "other", SIZE, random.Random(12))
    code, said, _ = lib_copy.run(servers.nbdkit("-r", "file", changed).uri, target.uri)
    assert code == 2 and "DRV-TARGET-WRITE" in said, said


@pytest.mark.parametrize("extents", [True, False])
def test_one_sector_planted_anywhere_is_copied(servers, tmp_path, extents):
    rng = random.Random(f"planted {extents}")
    for n in range(4):
        size = 64 * MIB
        source, target = tmp_path / f"source{n}", tmp_path / f"target{n}"
        with open(source, "wb") as file:
            file.truncate(size)
            sector = rng.choice((0, size // 512 - 1, rng.randrange(size // 512)))
            file.seek(sector * 512 + rng.randrange(512))
            file.write(b"\x01")  # a single bit of it
        target.write_bytes(b"\xa5" * size)
        code, said, report = lib_copy.run(*([] if extents else ["--no-extents"]), servers.nbdkit("-r", "file", source).uri,
                                          servers.nbdkit("file", target).uri)
        assert code == 0, said
        assert first_difference(source, target) is None, sector
        assert 0 < report["bytes"]["data"] <= 64 * KIB, report


BAD_REGION = ("if [ $4 -le 5242880 ] && [ $(( $4 + $3 )) -gt 5242880 ]; then echo 'EIO bad sector' >&2; exit 1; fi; "
              "dd if=/dev/urandom bs=$3 count=1 2>/dev/null")


@pytest.mark.parametrize("case,code,part", [
    ("no space", 2, "DRV-TARGET-NO-SPACE"), ("bad region", 2, "DRV-SOURCE-READ"), ("short", 2, "DRV-TARGET-TOO-SMALL"),
    ("half a block", 2, "DRV-TARGET-BLOCK"), ("read-only", 2, "DRV-TARGET-READ-ONLY"), ("nobody", 3, "DRV-COPY-CONNECT"), ("flush", 3, "DRV-TARGET-FLUSH")])
def test_failures_are_told_apart(servers, disk, target, case, code, part):
    source = servers.nbdkit("-r", "file", disk).uri
    arguments = ["--connect-timeout=1s"]
    if case == "bad region":
        source = servers.nbdkit("eval", f"get_size=echo {SIZE}", f"pread={BAD_REGION}", "thread_model=echo parallel").uri
    if case == "half a block":  # a source that ends on a sector, and not on a block of its larger target
        source = servers.nbdkit("-r", "--filter=truncate", "file", disk, f"truncate={SIZE - 512}").uri
    uri = {
        "no space": lambda: servers.nbdkit("--filter=error", "file", target, "error-pwrite=ENOSPC", "error-pwrite-rate=100%").uri,
        "bad region": lambda: servers.nbdkit("file", target).uri,
        "short": lambda: servers.nbdkit("--filter=truncate", "file", target, f"truncate={SIZE - 512}").uri,
        "half a block": lambda: servers.nbdkit("--filter=blocksize-policy", "file", target, "blocksize-minimum=4K",
                                               "blocksize-preferred=4K", "blocksize-error-policy=error").uri,
        "read-only": lambda: servers.nbdkit("-r", "file", target).uri,
        "nobody": lambda: f"nbd+unix:///?socket={servers.dir}/nobody",
        "flush": lambda: servers.nbdkit("eval", f"get_size=echo {SIZE}", "can_write=exit 0", "can_flush=exit 0",
                                        "pwrite=cat >/dev/null", "flush=echo 'EIO lost' >&2; exit 1").uri,
    }[case]()
    got, said, report = lib_copy.run(*arguments, source, uri)
    assert got == code and part in said, said
    if case in ("short", "half a block", "read-only"):
        assert target.read_bytes() == b"\xa5" * SIZE  # refused before the first byte
    if case == "bad region":
        failed = report["failed_range"]
        assert failed["offset"] <= 5 * MIB < failed["offset"] + failed["length"], report


def test_memory_is_bounded(servers, disk, tmp_path):
    """--memory and a fixed overhead, with a slow source and with a target that stands still."""
    big = write_disk(tmp_path / "big", 96 * MIB, random.Random(5), holes=0)
    target = tmp_path / "target"
    target.touch()
    with open(target, "r+b") as file:
        file.truncate(96 * MIB)
    largest = {}
    for budget in (4, 32):
        source = servers.nbdkit("-r", "--filter=delay", "file", big, "rdelay=100ms")
        sink = servers.nbdkit("file", target)
        child = lib_copy.start(f"--memory={budget}M", "--progress=none", source.uri, sink.uri)
        stalled = threading.Timer(0.5, sink.stall)
        woken = threading.Timer(2.0, sink.go_on)
        stalled.start()
        woken.start()
        largest[budget] = lib_copy.peak_memory(child.pid, lambda c=child: c.poll() is not None)
        assert child.returncode == 0, child.communicate()
        child.communicate()
        assert first_difference(big, target) is None
        assert largest[budget] <= (budget + 24) * MIB, largest
    assert largest[32] - largest[4] <= 30 * MIB, largest


def test_a_server_that_pauses(servers, disk, target, tmp_path):
    """Longer than --stall-timeout: the connections are given up, and opened again until it goes on."""
    control = tmp_path / "control"
    server = servers.nbdkit("--filter=pause", "--filter=delay", "file", target, f"pause-control={control}", "wdelay=20ms")
    child = lib_copy.start("--stall-timeout=1s", "--report=-", servers.nbdkit("-r", "file", disk).uri, server.uri)
    time.sleep(0.1)
    with socket.socket(socket.AF_UNIX) as pause:
        pause.connect(str(control))
        pause.sendall(b"p")
        assert pause.recv(1) == b"P"
        time.sleep(3)
        pause.sendall(b"r")
        assert pause.recv(1) == b"R"
    out, said = child.communicate(timeout=120)
    assert child.returncode == 0, said
    assert first_difference(disk, target) is None


def test_the_rate_is_kept(servers, disk, target):
    """16 MiB a second for 7 MiB of data, and the whole connection budget does not help."""
    began = time.monotonic()
    code, said, report = lib_copy.run("--rate=4M", servers.nbdkit("-r", "file", disk).uri, servers.nbdkit("file", target).uri)
    took = time.monotonic() - began
    assert code == 0, said
    assert took >= 0.8 * report["bytes"]["data"] / (4 * MIB), (took, report["bytes"])


def test_a_server_killed_at_random_moments(servers, tmp_path):
    big = write_disk(tmp_path / "big", 128 * MIB, random.Random(9), holes=0.2)
    target = tmp_path / "target"
    target.write_bytes(b"\xa5" * (128 * MIB))
    source, sink = servers.nbdkit("-r", "--filter=delay", "file", big, "rdelay=20ms"), servers.nbdkit("file", target)
    child = lib_copy.start("--report=-", "--verify", source.uri, sink.uri)
    rng = random.Random()
    for _ in range(6):
        time.sleep(rng.uniform(0.05, 0.5))
        if child.poll() is not None:
            break
        victim = rng.choice((source, sink))
        victim.kill()
        victim.start()

    def ended():  # Debian's nbdkit may end by itself when connections break under it
        for server in (source, sink):
            if server.child.poll() is not None:
                server.start()
        return child.poll() is not None

    wait_for(ended, 120, "The end of the copy")
    assert child.returncode == 0, child.communicate()
    child.communicate()
    assert first_difference(big, target) is None
