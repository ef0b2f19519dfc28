# SPDX-License-Identifier: Apache-2.0
"""The quickstart with disks of the user's: results in --out, clear errors, and never anything left running or lying about."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from fleet import ROOT, wait_for
from observe import MIB, convert, make_raw, same_content

SCRIPT = ROOT / "deploy/quickstart.sh"


@pytest.fixture(scope="module")
def raw(work):
    return make_raw(work / "quick, start.raw", 96, 40, seed=31)


@pytest.fixture
def scratch(tmp_path):
    """What quickstart uses for temporary files; empty again in the end, and named by no process."""
    path = tmp_path / "scratch"
    path.mkdir()
    yield path
    assert list(path.iterdir()) == []
    assert processes_naming(path) == []


def processes_naming(path):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(path) in line:
                found.append(line.replace(b"\0", b" ").decode(errors="replace"))
    return found


def environment(scratch):
    return {**os.environ, "TMPDIR": str(scratch)}


def quickstart(scratch, *arguments):
    return subprocess.run([SCRIPT, *map(str, arguments)], env=environment(scratch), stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300)


def test_own_images_land_in_out(scratch, raw, tmp_path):
    second = convert(raw, tmp_path / "web02.qcow2", "qcow2")
    out = tmp_path / "out"
    done = quickstart(scratch, "--image", raw, "--image", second, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(p.name for p in out.iterdir()) == ["quick, start.raw", "web02.raw"]
    for result in out.iterdir():
        assert result.stat().st_size == 96 * MIB and same_content(raw, result) is None


def test_a_bad_image(scratch, raw, tmp_path):
    whole = convert(raw, tmp_path / "whole.vmdk", "stream").read_bytes()
    cut = tmp_path / "cut.vmdk"
    cut.write_bytes(whole[:len(whole) // 2])
    done = quickstart(scratch, "--image", cut)
    assert done.returncode == 1
    assert "DRV-SOURCE-TRUNCATED" in done.stderr and str(cut) in done.stderr, done.stdout + done.stderr


def test_arguments_that_cannot_work(scratch, raw, tmp_path):
    empty = tmp_path / "empty.raw"
    empty.touch()
    for arguments, part in ((["--image", tmp_path / "none.raw"], "no such file"), (["--image", tmp_path], "not a readable file"),
                            (["--image", empty], "empty"), (["--image"], "needs a FILE"), (["--frobnicate"], "--frobnicate"),
                            (["--out", "/proc/none"], "cannot be written"), (["--nbd-port", "x"], "not a port"),
                            (["--image", raw, "--image", raw, "--out", tmp_path], "two images")):
        done = quickstart(scratch, *arguments)
        assert done.returncode == 1 and part in done.stderr, (arguments, done.stderr)


def test_a_taken_port(scratch, raw):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = quickstart(scratch, "--image", raw, "--nbd-port", port)
    assert done.returncode == 1 and f"Port {port}" in done.stderr and "taken" in done.stderr, done.stderr


def test_a_full_disk(raw, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64M", "none", small], stderr=subprocess.DEVNULL).returncode != 0:
        pytest.skip("may not mount a small file system") if not os.environ.get("CI") else pytest.fail("may not mount")
    try:
        done = quickstart(small, "--image", raw)
        assert done.returncode == 1 and "MiB free" in done.stderr and str(small) in done.stderr, done.stderr
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop(scratch, raw, sig):
    def hear():
        signal.signal(sig, signal.SIG_DFL)  # background jobs ignore SIGINT, and a shell cannot take that back

    run = subprocess.Popen([SCRIPT, "--image", raw], env=environment(scratch), stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=hear)
    for line in run.stdout:
        if "preflight" in line:
            break
    run.send_signal(sig)
    began = time.monotonic()
    rest = run.communicate(timeout=60)[0]
    assert run.returncode == 128 + sig, rest
    assert time.monotonic() - began < 20


def test_a_killed_quickstart_takes_its_fleet_with_it(tmp_path, raw):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    run = subprocess.Popen([SCRIPT, "--image", raw], env=environment(scratch), stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = []
    for line in run.stdout:
        said.append(line)
        if "preflight" in line:
            break
    assert len(processes_naming(scratch)) >= 8, "".join(said)
    run.kill()
    run.wait()
    run.stdout.close()
    wait_for(lambda: not processes_naming(scratch), 40, f"The end of {processes_naming(scratch)}")


def test_a_killed_supervisor_takes_its_fleet_with_it(tmp_path):
    directory = tmp_path / "fleet"
    fleet = subprocess.Popen(["/usr/bin/python3", ROOT / "deploy/fleet.py", "run", directory], stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for((directory / "ready").exists, 90, "A fleet")
    fleet.kill()
    fleet.wait()
    wait_for(lambda: not processes_naming(directory), 20, f"The end of {processes_naming(directory)}")
