# SPDX-License-Identifier: Apache-2.0
"""drover-copy as a user runs it: files and servers, resume after SIGKILL, read-back, exit codes, secrets."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

import lib_digest
from fleet import ROOT, free_port, wait_for

DROVER_COPY = Path(os.environ.get("DROVER_BIN") or ROOT / "build/release/bin") / "drover-copy"
MIB = 1 << 20
CELL = 32 * MIB


def make_disk(path, size, seed=1, percent=60):
    rng = random.Random(seed)
    with open(path, "wb") as file:
        file.truncate(size)
        for at in range(0, size, MIB):
            if rng.random() * 100 < percent:
                file.seek(at)
                file.write(rng.randbytes(min(MIB, size - at)))
    return path


def same(a, b, size=None):
    size = size or os.path.getsize(a)
    with open(a, "rb") as x, open(b, "rb") as y:
        return all(x.read(min(MIB, size - at)) == y.read(min(MIB, size - at)) for at in range(0, size, MIB))


def run(*args, **options):
    return subprocess.run([DROVER_COPY, "--log-format=text", *map(str, args)], text=True, capture_output=True, timeout=120, **options)


@pytest.fixture
def dir(tmp_path_factory):
    return tmp_path_factory.mktemp("copy")


@pytest.fixture
def serve(dir):
    """serve(name, *nbdkit arguments) -> NBD URI. Killed at the end."""
    children = {}

    def start(name, *args):
        path = dir / f"{name}.sock"
        children[name] = subprocess.Popen(["nbdkit", "-f", "-U", str(path), *map(str, args)], stderr=subprocess.DEVNULL)
        wait_for(path.exists, 10, "nbdkit's socket")
        return f"nbd+unix:///?socket={path}"

    start.children = children
    yield start
    for child in children.values():
        child.kill()
        child.wait()


def children_of(pid):
    return subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()


def test_file_to_new_file(dir):
    source = make_disk(dir / "s.raw", 3 * CELL + 5 * MIB)
    done = run("--verify", "--digest=sha256", f"--report={dir / 'report'}", source, dir / "t.raw")
    assert done.returncode == 0, done.stderr
    assert same(source, dir / "t.raw")
    assert os.stat(dir / "t.raw").st_blocks <= os.stat(source).st_blocks + 1024, "holes became data"
    report = json.loads((dir / "report").read_text())
    assert report["complete"] and report["verified"] and report["different"] == []
    assert report["bytes"]["data"] + report["bytes"]["zero"] + report["bytes"]["skipped"] == os.path.getsize(source)
    assert report["bytes"]["resent"] == 0
    roots = b"".join(lib_digest.cell_roots(source, algorithm="sha256"))
    assert report["digest"] == lib_digest.sha256(roots).hex()


@pytest.mark.parametrize("format", ["qcow2", "vmdk"])
def test_image_formats(dir, format):
    source = make_disk(dir / "s.raw", 40 * MIB)
    options = ["-o", "subformat=streamOptimized"] if format == "vmdk" else []
    subprocess.run(["qemu-img", "convert", "-O", format, *options, source, dir / "image"], check=True)
    done = run("--verify", f"--source-format={format}", dir / "image", dir / "t.raw")
    assert done.returncode == 0, done.stderr
    assert same(source, dir / "t.raw")
    if format == "qcow2":
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", dir / "t.qcow2", str(40 * MIB)], check=True)
        done = run("--verify", "--target-format=qcow2", source, dir / "t.qcow2")
        assert done.returncode == 0, done.stderr
        subprocess.run(["qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", source, dir / "t.qcow2"], check=True)


def test_resume_after_sigkill(dir, serve):
    """Killed three times; what was sent again is counted at the target."""
    size = 8 * CELL
    source = make_disk(dir / "s.raw", size, percent=100)
    (dir / "t.raw").touch()
    os.truncate(dir / "t.raw", size)
    uri = serve("target", "--filter=log", "file", dir / "t.raw", f"logfile={dir / 'log'}")
    args = [DROVER_COPY, f"--resume={dir / 'cells'}", f"--rate={100 * MIB}", f"--report={dir / 'report'}", source, uri]
    for kills in (1, 2, 3):
        child = subprocess.Popen(args, stderr=subprocess.DEVNULL)

        def cells():
            assert child.poll() is None, "the copy ended by itself"
            return (dir / "cells").read_text().count("\ncell ") if (dir / "cells").exists() else 0
        wait_for(lambda: cells() >= 2 * kills, 60, "checkpoints")
        servers = children_of(child.pid)
        child.kill()
        child.wait()
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in servers), 10, "the end of its children")
    done = subprocess.run([*args, "--digest=xxh3"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    report = json.loads((dir / "report").read_text())
    assert report["cells"]["before"] >= 6
    assert report["cells"]["before"] + report["cells"]["done"] == 8
    assert same(source, dir / "t.raw")
    written = sum(int(line.split("count=")[1].split()[0], 16) for line in (dir / "log").read_text().splitlines()
                  if " Write " in line and "count=" in line)
    assert size <= written <= size + 3 * 64 * MIB


def test_resume_refuses_another_copy(dir):
    source = make_disk(dir / "s.raw", 33 * MIB)
    assert run(f"--resume={dir / 'cells'}", source, dir / "t.raw").returncode == 0
    assert run(f"--resume={dir / 'cells'}", source, dir / "t.raw").returncode == 0
    assert run(f"--resume={dir / 'cells'}", source, dir / "other.raw").returncode == 2
    os.utime(source)
    refused = run(f"--resume={dir / 'cells'}", source, dir / "t.raw")
    assert refused.returncode == 2 and "DRV-COPY-RESUME" in refused.stderr
    for foreign in ("something else\n", "something else", "\n", "\n\n", "drover-copy 1 ", "drover-copy 2 x"):
        (dir / "cells").write_text(foreign)
        begun = run(f"--resume={dir / 'cells'}", source, dir / "t.raw")
        if foreign == "drover-copy 1 ":  # a header cut short is ours
            assert begun.returncode == 0, begun.stderr
        else:
            assert begun.returncode == 2 and (dir / "cells").read_text() == foreign, (foreign, begun.stderr)


def test_one_copy_at_a_time_goes_on_from_a_file(dir):
    source = make_disk(dir / "s.raw", CELL, percent=100)
    args = [f"--resume={dir / 'cells'}", source, dir / "t.raw"]
    first = subprocess.Popen([DROVER_COPY, "--rate=1M", *args], stderr=subprocess.DEVNULL)
    wait_for(lambda: (dir / "cells").exists() and (dir / "cells").read_text(), 60, "the file")
    second = run(*args)
    assert second.returncode == 3 and "DRV-COPY-RESUME" in second.stderr, second.stderr
    first.kill()
    first.wait()
    assert run(*args).returncode == 0
    assert same(source, dir / "t.raw")


def test_resume_sees_that_a_server_has_another_disk(dir, serve):
    """Same URI, same size: an empty target, a target somebody wrote to, a new source. A deleted target file, too."""
    size = 3 * CELL
    source, other = make_disk(dir / "s.raw", size, percent=100), make_disk(dir / "o.raw", size, seed=2, percent=100)
    for path in (dir / "t.raw", dir / "empty.raw"):
        path.touch()
        os.truncate(path, size)
    for name in ("s.raw", "t.raw"):
        os.link(dir / name, dir / f"served-{name}")
    from_uri = serve("source", "-r", "eval", f"get_size=echo {size}", "thread_model=echo parallel",
                     f"pread=dd if={dir}/served-s.raw bs=1M iflag=skip_bytes,count_bytes skip=$4 count=$3 2>/dev/null")
    to_uri = serve("target", "eval", f"get_size=echo {size}", "thread_model=echo parallel", "can_write=exit 0", "can_flush=exit 0",
                   f"pread=dd if={dir}/served-t.raw bs=1M iflag=skip_bytes,count_bytes skip=$4 count=$3 2>/dev/null",
                   f"pwrite=dd of={dir}/served-t.raw bs=1M oflag=seek_bytes conv=notrunc seek=$4 2>/dev/null", "flush=exit 0")
    args = [f"--resume={dir / 'cells'}", from_uri, to_uri]
    assert run(*args).returncode == 0
    assert run(*args).returncode == 0
    for served, instead in (("t.raw", "empty.raw"), ("s.raw", "o.raw")):
        os.replace(dir / f"served-{served}", dir / "aside")
        os.link(dir / instead, dir / f"served-{served}")
        refused = run(*args)
        assert refused.returncode == 2 and "DRV-COPY-RESUME" in refused.stderr, refused.stderr
        os.replace(dir / "aside", dir / f"served-{served}")
    assert run(*args).returncode == 0
    assert run(f"--resume={dir / 'files'}", source, dir / "new.raw").returncode == 0
    (dir / "new.raw").unlink()
    refused = run(f"--resume={dir / 'files'}", source, dir / "new.raw")
    assert refused.returncode == 2 and "DRV-COPY-RESUME" in refused.stderr, refused.stderr


def test_ranges(dir):
    """Only the areas are written; unaligned ones, and many."""
    size = 2 * CELL + 12345
    rng = random.Random(4)
    source, target = make_disk(dir / "s.raw", size, percent=80), make_disk(dir / "t.raw", size, seed=2, percent=100)
    areas = [(rng.randrange(size), rng.randrange(1, 9000)) for _ in range(2000)]
    areas = [(at, min(length, size - at)) for at, length in areas]
    (dir / "areas").write_text("# changed since\n" + "".join(f"{at} {length}\n" for at, length in areas))
    expected = bytearray(target.read_bytes())
    original = source.read_bytes()
    for at, length in areas:
        expected[at:at + length] = original[at:at + length]
    done = run(f"--ranges={dir / 'areas'}", "--verify", source, target)
    assert done.returncode == 0, done.stderr
    assert target.read_bytes() == bytes(expected)
    (dir / "areas").write_text("12 x\n")
    assert run(f"--ranges={dir / 'areas'}", source, target).returncode == 2


def test_read_back_finds_what_did_not_arrive(dir, serve):
    source = make_disk(dir / "s.raw", 40 * MIB, percent=100)
    done = run("--verify", f"--report={dir / 'report'}", source, serve("null", "null", str(40 * MIB)))
    assert done.returncode == 4
    report = json.loads((dir / "report").read_text())
    assert [r["offset"] for r in report["different"]] == [0, CELL]


def test_failures_have_codes(dir, serve):
    source = make_disk(dir / "s.raw", 4 * MIB)
    small = serve("small", "memory", str(MIB))
    cases = [
        (1, "", [source]),
        (1, "digest", ["--digest=md5", source, dir / "t"]),
        (2, "DRV-SOURCE-MISSING", [dir / "nothing", dir / "t"]),
        (2, "DRV-TARGET-TOO-SMALL", [source, small]),
        (2, "DRV-TARGET-READ-ONLY", [source, serve("read-only", "-r", "memory", str(8 * MIB))]),
        (2, "one file", [source, source]),
        (1, "neither end has TLS", ["--tls-ca=/x", source, "nbd://127.0.0.1/x"]),
        (3, "DRV-COPY-CONNECT", ["--connect-timeout=200ms", source, f"nbd://127.0.0.1:{free_port()}/x"]),
    ]
    for code, text, args in cases:
        done = run(*args)
        assert done.returncode == code and text in done.stderr, (args, done)


def test_a_signal_stops_orderly(dir):
    source = make_disk(dir / "s.raw", 6 * CELL, percent=100)
    child = subprocess.Popen([DROVER_COPY, f"--resume={dir / 'cells'}", f"--rate={60 * MIB}", source, dir / "t.raw"],
                             stderr=subprocess.DEVNULL)
    wait_for(lambda: (dir / "cells").exists() and "\ncell " in (dir / "cells").read_text(), 60, "a checkpoint")
    servers = children_of(child.pid)
    child.send_signal(signal.SIGTERM)
    assert child.wait(20) == 5
    assert servers and not any(Path(f"/proc/{pid}").exists() for pid in servers)
    assert run(f"--resume={dir / 'cells'}", source, dir / "t.raw").returncode == 0
    assert same(source, dir / "t.raw")


def test_the_token_is_never_shown(dir, serve):
    token = "5ec2e75ec2e75ec2e75ec2e75ec2e75e"
    name = f"migration-vol-7@3.{token}"
    (dir / "token").write_text(f"3.{token}\n")
    source = make_disk(dir / "s.raw", 4 * MIB)
    uri = serve("strict", "--filter=exportname", "memory", str(4 * MIB), f"exportname={name}", "exportname-strict=true")
    good = uri.replace(":///", ":///migration-vol-7")
    done = run(f"--token-file={dir / 'token'}", f"--report={dir / 'report'}", "--log-level=debug", source, good)
    assert done.returncode == 0, done.stderr
    wrong = uri.replace(":///", ":///migration-vol-8")
    slow = subprocess.Popen([DROVER_COPY, f"--token-file={dir / 'token'}", "--connect-timeout=1s", f"--report={dir / 'report2'}",
                             "--log-level=debug", source, wrong], stderr=subprocess.PIPE, text=True)
    time.sleep(0.3)
    cmdlines = Path(f"/proc/{slow.pid}/cmdline").read_text() + "".join(
        Path(f"/proc/{pid}/cmdline").read_text() for pid in children_of(slow.pid))
    _, stderr = slow.communicate(timeout=20)
    assert slow.returncode == 3
    assert "migration-vol-8" in stderr
    for text in (done.stderr, stderr, cmdlines, (dir / "report").read_text(), (dir / "report2").read_text()):
        assert token not in text


def test_a_signal_ends_the_read_back(dir, serve):
    """Also there a server that stays away is not waited for when somebody wants to stop, nor longer than was asked."""
    source = make_disk(dir / "a", 24 * MIB)
    target = dir / "b"
    target.touch()
    os.truncate(target, 24 * MIB)
    slow = ("--filter=delay", "file", target, "rdelay=300ms")
    for stop in (True, False):
        uri = serve("b", *slow)
        child = subprocess.Popen([DROVER_COPY, "--log-format=text", "--verify", "--no-extents", "--reconnect-timeout=1s",
                                  "--progress=none", source, uri], stderr=subprocess.PIPE, text=True)
        wait_for(lambda: same(source, target), 60, "The copy")
        server = serve.children["b"]
        server.kill()
        server.wait()
        if stop:
            time.sleep(0.3)
            child.send_signal(signal.SIGTERM)
        said = child.communicate(timeout=60)[1]
        assert child.returncode == (5 if stop else 3), said
        (dir / "b.sock").unlink()
        with open(target, "r+b") as file:
            file.write(bytes(24 * MIB))


def test_what_a_killed_copy_leaves_the_next_one_removes(dir):
    """Private sockets of file ends; those of a copy that runs at the same time stay."""
    source = make_disk(dir / "a", 8 * MIB)
    (dir / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(dir / "tmp")}
    copies = [subprocess.Popen([DROVER_COPY, "--progress=none", "--rate=1M", source, dir / f"b{n}"], env=environment)
              for n in range(2)]
    wait_for(lambda: len(list((dir / "tmp").glob("drover-copy-*/nbd"))) == 4, 30, "The sockets of both")
    copies[0].kill()
    copies[0].wait()
    assert run(source, dir / "c", env=environment).returncode == 0
    assert len(list((dir / "tmp").iterdir())) == 2
    copies[1].send_signal(signal.SIGTERM)
    assert copies[1].wait(30) == 5
    assert not list((dir / "tmp").iterdir())
