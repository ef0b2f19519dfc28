#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""drover-copy against nbdcopy and qemu-img, the two commands in turn, medians and ratios; every target is compared.

  tests/bench/copy.py [--runs N] [--size GIB] [--case NAME]... [--markdown]

Starts its own nbdkit servers on Unix sockets. Ratios above 1 mean that drover-copy is faster. Figures of a machine that
does other things at the same time say little: look at the spread.
"""

import argparse
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BIN = Path(os.environ.get("DROVER_BIN") or ROOT / "build/release/bin")
MIB = 1 << 20


class Server:
    """One nbdkit on a private socket."""

    def __init__(self, directory, name, *arguments):
        self.socket = directory / f"{name}.sock"
        self.child = subprocess.Popen(["nbdkit", "-f", "-U", str(self.socket), *map(str, arguments)],
                                      stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not self.socket.exists():
            if self.child.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"nbdkit {' '.join(map(str, arguments))} does not start")
            time.sleep(0.01)
        self.uri = f"nbd+unix:///?socket={self.socket}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()
        self.socket.unlink(missing_ok=True)


def make_source(path, size, share, seed=1):
    """SHARE of SIZE in random pieces of 1 MiB, the rest holes."""
    rng = random.Random(seed)
    with open(path, "wb") as f:
        f.truncate(size)
        for spot in sorted(rng.sample(range(size // MIB), int(size // MIB * share))):
            f.seek(spot * MIB)
            f.write(rng.randbytes(MIB))


def timed(command):
    """(seconds, CPU seconds, peak KiB) of one run."""
    began = time.monotonic()
    child = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE)
    errors = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        sys.exit(f"{' '.join(map(str, command))}: {errors.decode()}")
    return time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss


def same(a, b):
    return subprocess.run(["cmp", "-s", str(a), str(b)]).returncode == 0


class Bench:
    def __init__(self, args):
        self.args = args
        self.dir = Path(tempfile.mkdtemp(prefix="drover-bench-", dir=os.environ.get("TMPDIR", "/var/tmp")))
        self.rows = []

    def pair(self, case, goal, ours, theirs, source=(), target=None, check=None):
        """OURS and THEIRS (functions of two URIs giving a command) in turn, each on fresh servers and a fresh target."""
        figures = {"ours": [], "theirs": []}
        for run in range(self.args.runs + 1):  # the first warms up
            for name, make in (("ours", ours), ("theirs", theirs)):
                out = self.dir / "target.raw"
                out.unlink(missing_ok=True)
                with open(out, "wb") as f:
                    f.truncate(self.size)
                with Server(self.dir, "source", *source) as s, Server(self.dir, "target", *(target or ("file", out))) as t:
                    figure = timed(make(s.uri, t.uri))
                if check is not None and not same(check, out):
                    sys.exit(f"{case}: the target of {name} differs from the source")
                if run > 0:
                    figures[name].append(figure)
        median = {name: [statistics.median(f[i] for f in some) for i in range(3)] for name, some in figures.items()}
        spread = {name: (min(f[0] for f in some), max(f[0] for f in some)) for name, some in figures.items()}
        ratio = statistics.median(t[0] / o[0] for o, t in zip(figures["ours"], figures["theirs"]))
        self.rows.append((case, goal, median, spread, ratio))
        print(f"{case}: ours {median['ours'][0]:.2f} s, theirs {median['theirs'][0]:.2f} s, ratio {ratio:.2f} (goal {goal})",
              file=sys.stderr)

    def run(self):
        self.size = int(self.args.size * 1024) * MIB
        source = self.dir / "source.raw"
        make_source(source, self.size, 0.6)
        copy = lambda *more: (lambda s, t: [BIN / "drover-copy", *more, s, t])
        nbdcopy = lambda s, t: ["nbdcopy", "--flush", s, t]
        qemu = lambda s, t: ["qemu-img", "convert", "-n", "-W", "-m", "16", "-f", "raw", "-O", "raw", s, t]
        file_source = ("-r", "file", source)
        cases = {
            "plain": lambda: self.pair("60 % allocated, digests off, against nbdcopy", "1.0", copy(), nbdcopy, file_source, check=source),
            "xxh3": lambda: self.pair("60 % allocated, XXH3 on, against nbdcopy", "0.8", copy("--digest=xxh3"), nbdcopy, file_source, check=source),
            "qemu-img": lambda: self.pair("60 % allocated, against qemu-img convert -W -m 16", "1.0", copy(), qemu, file_source, check=source),
            "read-latency": lambda: self.pair("100 ms a read, 2 GiB, against nbdcopy", "3", copy(), nbdcopy,
                                              ("-r", "--filter=delay", "pattern", "2G", "rdelay=100ms"), ("null", "2G")),
            "extents-latency": lambda: self.pair("200 ms a request for extents, 8 GiB, against nbdcopy", "3", copy(), nbdcopy,
                                                 ("-r", "--filter=delay", "sparse-random", "8G", "delay-extents=200ms"), ("null", "8G")),
            "sparse": lambda: self.sparse(),
        }
        for name, case in cases.items():
            if not self.args.case or name in self.args.case:
                case()
        shutil.rmtree(self.dir)
        self.print()

    def sparse(self):
        whole = 100 * 1024 * MIB
        source = self.dir / "sparse.raw"
        make_source(source, whole, 0.01)
        self.size = 0
        self.pair("1 % of 100 GiB allocated, against reading all of it (--no-extents)", "100",
                  lambda s, t: [BIN / "drover-copy", s, t], lambda s, t: [BIN / "drover-copy", "--no-extents", s, t],
                  ("-r", "file", source), ("null", "100G"))

    def print(self):
        model = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "?")
        print(f"\n{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores ({model}), Linux {platform.release()}, medians of {self.args.runs}\n")
        print("| case | goal | ratio | ours s (min..max) | theirs s (min..max) | CPU s ours / theirs | MiB ours / theirs |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for case, goal, median, spread, ratio in self.rows:
            o, t = median["ours"], median["theirs"]
            print(f"| {case} | ≥ {goal} | **{ratio:.2f}** | {o[0]:.2f} ({spread['ours'][0]:.2f}..{spread['ours'][1]:.2f}) | "
                  f"{t[0]:.2f} ({spread['theirs'][0]:.2f}..{spread['theirs'][1]:.2f}) | {o[1]:.2f} / {t[1]:.2f} | {o[2] // 1024} / {t[2] // 1024} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--size", type=float, default=2, metavar="GIB")
    parser.add_argument("--case", action="append", help="plain, xxh3, qemu-img, read-latency, extents-latency, sparse; repeatable")
    Bench(parser.parse_args()).run()


if __name__ == "__main__":
    main()
