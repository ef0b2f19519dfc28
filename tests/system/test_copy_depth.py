# SPDX-License-Identifier: Apache-2.0
"""How much is in flight follows the path: up with its latency, down again when that goes, never beyond the budget."""

import json
import random
import signal
import socket
import threading

import pytest

import lib_copy
from fleet import wait_for

KIB, MIB = lib_copy.KIB, lib_copy.MIB
FLOOR = 4 * MIB
OVERHEAD = 24 * MIB


@pytest.fixture
def servers(tmp_path):
    with lib_copy.Servers(tmp_path) as all_of_them:
        yield all_of_them


class Run:
    """A copy whose progress is looked at while it runs."""

    def __init__(self, *arguments):
        self.child = lib_copy.start("--progress=json", "--report=-", *arguments)
        self.progress, self.said = {}, ""
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        for line in self.child.stderr:
            if line.startswith("{"):
                self.progress = json.loads(line)
            else:
                self.said += line

    def window(self):
        assert self.child.poll() is None, self.said
        return self.progress.get("read_window_bytes", 0)

    def end(self):
        out = self.child.stdout.read()
        self.child.wait(60)
        self.reader.join(10)
        return json.loads(out)


def test_depth_grows_with_the_latency_and_shrinks_with_it(servers):
    """A source that takes 100 ms for each read comes in place of one that takes none, and goes again, in one copy."""
    source = servers.nbdkit("pattern", "64G")
    fast = source.command
    slow = [fast[0], "--filter=delay", *fast[1:], "rdelay=100ms"]
    sink = servers.nbdkit("null", "64G")
    copy = Run("--rate=150M", source.uri, sink.uri)  # twice that times 100 ms: 30 MiB
    try:
        for command, reached in ((fast, lambda: 0 < copy.window() <= 1.5 * FLOOR), (slow, lambda: copy.window() >= 4 * FLOOR),
                                 (fast, lambda: 0 < copy.window() <= 1.5 * FLOOR)):
            if command is not source.command:
                source.kill()
                source.command = command
                source.start()
            wait_for(reached, 60, "another window")
        copy.child.send_signal(signal.SIGTERM)
        report = copy.end()
    finally:
        copy.child.kill()
        copy.reader.join(10)
    assert copy.child.returncode == 5, copy.said
    assert report["reconnects"] >= 2
    assert 4 * FLOOR <= report["read_window_bytes"]["largest"] <= 64 * MIB
    assert report["write_window_bytes"]["largest"] <= report["read_window_bytes"]["largest"]


@pytest.mark.parametrize("budget", [8, 32])
def test_the_budget_is_used_on_a_long_path(servers, budget):
    """What is in flight on average (Little's law: requests x latency / time) is a good part of what the budget allows."""
    source = servers.nbdkit("--filter=delay", "pattern", f"{48 * budget}M", "rdelay=100ms")
    code, said, report = lib_copy.run(f"--memory={budget}M", source.uri, servers.nbdkit("null", f"{48 * budget}M").uri)
    assert code == 0, said
    assert report["read_window_bytes"]["largest"] == budget * MIB
    assert report["requests"]["read"] == 48 * budget * 2
    in_flight = report["requests"]["read"] * 512 * KIB * report["read_latency_us"]["p50"] / report["duration_us"]
    assert budget * MIB / 3 <= in_flight <= 1.2 * budget * MIB, report


def test_small_areas_get_connections_on_a_long_path(servers, tmp_path):
    """Their bytes are few, their requests many: 16 at a time a connection would be a hundred round trips one after the other."""
    (tmp_path / "areas").write_text("".join(f"{n * MIB} 512\n" for n in range(2000)))
    source = servers.nbdkit("--filter=delay", "pattern", "2G", "rdelay=100ms")
    code, said, report = lib_copy.run(f"--ranges={tmp_path / 'areas'}", source.uri, servers.nbdkit("null", "2G").uri)
    assert code == 0, said
    assert report["bytes"]["data"] == report["bytes"]["read"] == 2000 * 512
    assert report["connections"]["source"] >= 6, report


def ask_pause(control, letter):
    with socket.socket(socket.AF_UNIX) as pause:
        pause.connect(str(control))
        pause.sendall(letter)
        assert pause.recv(1) == letter.upper()


def test_memory_is_bounded_while_the_target_pauses(servers, tmp_path):
    """100 ms a read, and a target that answers nothing for a while: --memory and a fixed overhead hold both."""
    size = 160 * MIB
    big = lib_copy.write_disk(tmp_path / "big", size, random.Random(6), holes=0, zeroes=0)
    target = tmp_path / "target"
    target.touch()
    with open(target, "r+b") as file:
        file.truncate(size)
    budget = 16
    source = servers.nbdkit("-r", "--filter=delay", "file", big, "rdelay=100ms")
    sink = servers.nbdkit("--filter=pause", "file", target, f"pause-control={tmp_path / 'control'}")
    copy = Run(f"--memory={budget}M", source.uri, sink.uri)
    try:
        peak = {}
        watcher = threading.Thread(target=lambda: peak.update(bytes=lib_copy.peak_memory(copy.child.pid, lambda: copy.child.poll() is not None)))
        watcher.start()
        wait_for(lambda: copy.window() and copy.progress["in_flight_bytes"] > 0, 60, "the first data")
        ask_pause(tmp_path / "control", b"p")
        wait_for(lambda: copy.progress["stall"] == "target", 60, "the stall to be seen")
        moved = copy.progress["in_flight_bytes"] + copy.progress["done_bytes"]
        seen = copy.progress
        wait_for(lambda: copy.progress is not seen, 60, "more progress")
        assert copy.progress["in_flight_bytes"] + copy.progress["done_bytes"] == moved < size
        ask_pause(tmp_path / "control", b"r")
        report = copy.end()
        watcher.join(60)
    finally:
        copy.child.kill()
        copy.reader.join(10)
    assert copy.child.returncode == 0, copy.said
    assert lib_copy.first_difference(big, target) is None
    assert report["bytes"]["resent"] == 0 and report["reconnects"] == 0
    assert report["read_window_bytes"]["largest"] <= budget * MIB
    assert peak["bytes"] <= budget * MIB + OVERHEAD, peak


def test_requests_are_smaller_on_a_slow_path(servers):
    """None takes longer than a tenth of a second once the path is known; on a fast path they have 512 KiB."""
    sink = servers.nbdkit("null", "64M")
    for options, least, most in (((), 500 * KIB, 512 * KIB), (("--filter=rate", "rate=8M", "burstiness=0.2"), 64 * KIB, 256 * KIB)):
        size = 10 * MIB if options else 64 * MIB
        source = servers.nbdkit(*options[:1], "pattern", str(size), *options[1:])
        code, said, report = lib_copy.run("--digest=none", source.uri, sink.uri)
        assert code == 0, said
        assert report["bytes"]["data"] + report["bytes"]["zero"] == size, report["bytes"]
        mean = size / report["requests"]["read"]
        assert least <= mean <= most, (mean, report["requests"])
