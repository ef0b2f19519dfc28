#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""drover-copy against the programs it is compared with, in turn, on fresh servers and a fresh target each time.

Every target is compared with its source. The programs are $DROVER_BIN's or build/release/bin's; files lie in memory
(/dev/shm) unless --dir says otherwise, so that no disk is measured. Ratios are medians of the pairs' ratios; above 1
means that drover-copy is faster. What other processes took of the processors meanwhile is measured and shown.
"""

import sys

sys.path.append(sys.path.pop(0))  # first on the path, this file would stand in for Python's own module copy

import argparse
import contextlib
import os
import platform
import random
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from servers import ROOT, Certificates, Door, Nbdkit, SshForward

BIN = Path(os.environ.get("DROVER_BIN") or ROOT / "build/release/bin")
DOC = ROOT / "docs/performance.md"
MIB = 1 << 20
GIB = 1 << 30
BEGIN, END = "<!-- written by tests/bench/copy.py --write-doc -->", "<!-- end -->"


# ---- files ----

def pieces(path):
    """(offset, end) of what is allocated in PATH."""
    with open(path, "rb") as f:
        at, size = 0, os.fstat(f.fileno()).st_size
        while at < size:
            try:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(f.fileno(), at, os.SEEK_HOLE)
            yield at, end
            at = end


def make_source(path, size, share, seed=1):
    """SHARE of SIZE in random pieces of 1 MiB, the rest holes."""
    rng = random.Random(seed)
    with open(path, "wb") as f:
        f.truncate(size)
        for spot in sorted(rng.sample(range(size // MIB), int(size // MIB * share))):
            f.seek(spot * MIB)
            f.write(rng.randbytes(MIB))
    return path


def same(a, b):
    """Every byte that is allocated in one of the two is equal in both."""
    if os.path.getsize(a) != os.path.getsize(b):
        return False
    with open(a, "rb") as x, open(b, "rb") as y:
        for path in (a, b):
            for at, end in pieces(path):
                while at < end:
                    step = min(4 * MIB, end - at)
                    if os.pread(x.fileno(), step, at) != os.pread(y.fileno(), step, at):
                        return False
                    at += step
    return True


# ---- one run ----

def busy_seconds():
    """CPU seconds that the machine spent on anything since it started."""
    ticks = [int(n) for n in open("/proc/stat").readline().split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


@dataclass
class Run:
    seconds: float = 0
    client_cpu: float = 0  # the copying program and, where there is one, the tunnel's client
    all_cpu: float = 0     # with the servers
    peak_kib: int = 0      # of the client side
    others: float = 0      # processors that were busy with something else


@dataclass
class Side:
    """How one of the two works: SOURCE and TARGET give (URI, servers) into a stack; COMMAND makes of the URIs what is run."""

    source: object
    target: object
    command: object
    copies: int = 1
    check: tuple = field(default_factory=tuple)  # (source, target) files


def copy_once(side):
    """One copy, or several side by side."""
    before, run = busy_seconds(), Run()
    with contextlib.ExitStack() as stack:
        ends = [(side.source(stack, i), side.target(stack, i)) for i in range(side.copies)]
        idle, began = busy_seconds() - before, time.monotonic()
        children = [subprocess.Popen([str(c) for c in side.command(s[0], t[0])], stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for s, t in ends]
        for child in children:
            errors = child.stderr.read().decode(errors="replace")
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = status
            if status != 0:
                sys.exit(f"{child.args[0]}: {errors}")
            run.client_cpu += usage.ru_utime + usage.ru_stime
            run.peak_kib += usage.ru_maxrss
        run.seconds = time.monotonic() - began
        machine = busy_seconds() - before - idle
        servers = [server for s, t in ends for server in (*s[1], *t[1])]
        for server in reversed(servers):
            server.stop()
    run.all_cpu = run.client_cpu
    for server in servers:
        run.all_cpu += server.cpu_seconds
        if isinstance(server, SshForward):
            run.client_cpu += server.client.cpu_seconds
            run.all_cpu += server.client.cpu_seconds
            run.peak_kib += server.client.peak_kib
    run.others = max(machine - run.all_cpu, 0) / run.seconds
    for source, target in side.check:
        if not same(source, target):
            sys.exit(f"{target} differs from {source}")
    return run


class Bench:
    def __init__(self, args):
        self.args = args
        self.dir = Path(tempfile.mkdtemp(prefix="drover-bench-", dir=args.dir))
        self.size = (256 * MIB if args.quick else int(args.size * 1024) * MIB) // MIB * MIB
        self.runs = 1 if args.quick else args.runs
        self.rows = {}
        self._certificates = None

    @property
    def certificates(self):
        self._certificates = self._certificates or Certificates(self.dir)
        return self._certificates

    # -- ends of a copy: functions of (stack, which copy) that give (URI, servers)

    def serve(self, *arguments, name="source", **options):
        def start(stack, i):
            server = stack.enter_context(Nbdkit(self.dir, f"{name}{i}", *arguments, **options))
            return server.uri, [server]
        return start

    def fresh(self, i=0, size=None):
        path = self.dir / f"target{i}.raw"
        path.unlink(missing_ok=True)
        with open(path, "wb") as f:
            f.truncate(size or self.size)
        return path

    def target(self, size=None, through=None, **options):
        """A fresh file; THROUGH puts something in front of its server's TCP port."""
        def start(stack, i):
            path = self.fresh(i, size)
            options.setdefault("tcp", through is not None)
            server = stack.enter_context(Nbdkit(self.dir, f"target{i}", "file", path, **options))
            if through is None:
                return server.uri, [server]
            front = stack.enter_context(through(server.port))
            return front.uri, [server, front]
        return start

    # -- rows

    def alternate(self, key, case, against, goal, ours, theirs, copied, ratio=None, warm_up=True):
        """COPIED: bytes that one copy moves; RATIO: of two runs, when it is not simply that of the times."""
        ratio = ratio or (lambda o, t: t.seconds / o.seconds)
        figures = {"ours": [], "theirs": []}
        warm_up = warm_up and not self.args.quick
        for number in range(self.runs + warm_up):
            for name, side in (("ours", ours), ("theirs", theirs)):
                run = copy_once(side)
                if number > 0 or not warm_up:
                    figures[name].append(run)
        def both(text):
            return " / ".join(text(figures[name], side) for name, side in (("ours", ours), ("theirs", theirs)))
        def median(runs, what):
            return statistics.median(getattr(r, what) for r in runs)
        def per_gib(what):
            return both(lambda runs, side: f"{median(runs, what) * GIB / copied / side.copies:.2f}")
        def times(runs, _):
            return f"{median(runs, 'seconds'):.2f} ({min(r.seconds for r in runs):.2f}..{max(r.seconds for r in runs):.2f})"
        if self.runs < 5 and not self.args.quick:
            case += f" (only {self.runs} runs)"
        reached = statistics.median(map(ratio, figures["ours"], figures["theirs"]))
        self.add(key, case, against, goal, f"{reached:.2f} ×", both(times), per_gib("client_cpu"), per_gib("all_cpu"),
                 both(lambda runs, _: f"{median(runs, 'peak_kib') / 1024:.0f}"),
                 f"{statistics.median(r.others for some in figures.values() for r in some):.1f}")

    def add(self, key, *cells):
        self.rows[key] = f"| `{key}` | " + " | ".join(cells) + " |"
        print(self.rows[key], file=sys.stderr, flush=True)

    # -- cases

    def standard(self, share=0.6, size=None, name="source.raw"):
        path = self.dir / name
        if not path.exists():
            make_source(path, size or self.size, share)
        return path

    def over(self, key, goal, ours, theirs, case, against, source_options=(), target=None, other_target=None, our_target=None):
        """The standard file from one nbdkit to another."""
        source = self.standard()
        end = self.serve("-r", *source_options[:1], "file", source, *source_options[1:])
        check = ((source, self.dir / "target0.raw"),)
        self.alternate(key, f"{self.size / GIB:g} GiB, {case}", against, goal, Side(end, our_target or target or self.target(), ours, check=check),
                       Side(end, other_target or target or self.target(), theirs, check=check), self.size * 0.6)

    @staticmethod
    def ours(*more):
        return lambda s, t: [BIN / "drover-copy", *more, s, t]

    @staticmethod
    def nbdcopy(*more):
        return lambda s, t: ["nbdcopy", "--flush", *more, s, t]

    def plain(self):
        self.over("plain", "≥ 1.0 ×", self.ours(), self.nbdcopy(), "60 % allocated, digests off", "nbdcopy")

    def xxh3(self):
        self.over("xxh3", "≥ 0.8 ×", self.ours("--digest=xxh3"), self.nbdcopy(), "60 % allocated, XXH3 on", "nbdcopy")

    def qemu_img(self):
        self.over("qemu-img", "≥ 1.0 ×", self.ours(),
                  lambda s, t: ["qemu-img", "convert", "-n", "-W", "-m", "16", "-f", "raw", "-O", "raw", s, t],
                  "60 % allocated, digests off", "qemu-img convert -W -m 16")

    def door(self):
        return self.target(through=lambda port: Door(self.dir, self.certificates, port))

    def tls(self):
        self.over("tls", "≥ 0.9 ×", self.ours(*self.certificates.options), self.nbdcopy(),
                  "target over TLS through the front door", "nbdcopy, nbdkit's own TLS, no front door",
                  our_target=self.door(), other_target=self.target(tcp=True, certificates=self.certificates.gnutls))

    def tls_ssh(self):
        self.over("tls-ssh", "≥ 1.8 ×", self.ours(*self.certificates.options), self.nbdcopy(),
                  "target over TLS through the front door", "nbdcopy through an OpenSSH forward",
                  our_target=self.door(), other_target=self.target(through=lambda port: SshForward(self.dir, port)))

    def tls_plain(self):
        self.over("tls-plain", "≥ 0.5 ×", self.ours(*self.certificates.options), self.ours(),
                  "target over TLS through the front door", "our own copy to plain TCP",
                  our_target=self.door(), other_target=self.target(tcp=True))

    def read_latency(self):
        self.over("read-latency", "≥ 3 ×", self.ours(), self.nbdcopy(), "100 ms a read", "nbdcopy",
                  source_options=("--filter=delay", "rdelay=100ms"))

    def read_latency_deep(self):
        """A server that works on 64 requests of a connection at a time, as a long line without limits would."""
        self.deep("read-latency-deep", self.ours(), "100 ms a read, 64 at a time a connection")

    def read_latency_memory(self):
        self.deep("read-latency-memory", self.ours("--memory=256M"), "the same with --memory=256M")

    def deep(self, key, ours, case):
        source = self.standard()
        end = self.serve("-t", "64", "-r", "--filter=delay", "file", source, "rdelay=100ms")
        check = ((source, self.dir / "target0.raw"),)
        self.alternate(key, f"{self.size / GIB:g} GiB, {case}", "nbdcopy", "", Side(end, self.target(), ours, check=check),
                       Side(end, self.target(), self.nbdcopy(), check=check), self.size * 0.6)

    def extents_latency(self):
        size = GIB if self.args.quick else 8 * GIB
        source = self.standard(0.1, size, "tenth.raw")
        end, check = self.serve("-r", "--filter=delay", "file", source, "delay-extents=200ms"), ((source, self.dir / "target0.raw"),)
        self.alternate("extents-latency", f"200 ms a question for extents, {size // GIB} GiB, 10 % allocated", "nbdcopy", "≥ 3 ×",
                       Side(end, self.target(size), self.ours(), check=check),
                       Side(end, self.target(size), self.nbdcopy(), check=check), size * 0.1)
        source.unlink()

    def sparse(self):
        size = 4 * GIB if self.args.quick else 100 * GIB
        source = self.standard(0.01, size, "hundredth.raw")
        end, check = self.serve("-r", "file", source), ((source, self.dir / "target0.raw"),)
        self.alternate("sparse", f"1 % of {size // GIB} GiB allocated", "reading all of it (--no-extents)", "≥ 100 ×",
                       Side(end, self.target(size), self.ours("--target-is-zero"), check=check),
                       Side(end, self.target(size), self.ours("--target-is-zero", "--no-extents"), check=check), size * 0.01,
                       warm_up=False)
        source.unlink()

    def eight_workers(self):
        size = 128 * MIB if self.args.quick else 384 * MIB
        source = self.standard(1, size, "full.raw")
        end = self.serve("-r", "--filter=rate", "file", source, f"rate={50 * 8}M")
        one = Side(end, self.target(size), self.ours(), check=((source, self.dir / "target0.raw"),))
        eight = Side(end, self.target(size), self.ours(), copies=8,
                     check=tuple((source, self.dir / f"target{i}.raw") for i in range(8)))
        self.alternate("eight-workers", "8 copies at a time, each source limited to 50 MB/s", "1 copy", "≥ 7.6 ×", eight, one, size,
                       ratio=lambda o, t: 8 * t.seconds / o.seconds)
        for i in range(8):
            (self.dir / f"target{i}.raw").unlink()
        source.unlink()

    def logged(self, log, kind):
        """Bytes of KIND (Read, Write) requests in a log of nbdkit's log filter."""
        return sum(int(m, 16) for m in re.findall(rf" {kind} id=\d+ offset=0x[0-9a-f]+ count=0x([0-9a-f]+)", log.read_text()))

    def incremental(self):
        """10,000 areas of 512 bytes and more, 1 % of the disk together, out of a disk that holds more than that."""
        size, n = 16 * GIB, 10000
        rng, areas, spacing = random.Random(7), [], 16 * GIB // 10000
        for i in range(n):
            length = 512 * rng.randint(1, 66)
            areas.append(((i * spacing + rng.randrange(spacing - length)) // 512 * 512, length))
        total = sum(length for _, length in areas)
        source, expected, ranges = (self.dir / name for name in ("changed.raw", "expected.raw", "areas"))
        ranges.write_text("".join(f"{offset} {length}\n" for offset, length in areas))
        with open(source, "w+b") as s, open(expected, "wb") as e:
            s.truncate(size)
            e.truncate(size)
            for offset, length in areas:
                data = rng.randbytes(length)
                os.pwrite(s.fileno(), rng.randbytes(512) + data + rng.randbytes(512), max(offset - 512, 0))
            for offset, length in areas:  # a neighbour's margin may reach into an area: what counts is the file
                os.pwrite(e.fileno(), os.pread(s.fileno(), length, offset), offset)
        worst = []
        for _ in range(self.runs):
            target, logs = self.fresh(0, size), [self.dir / "source.log", self.dir / "target.log"]
            with Nbdkit(self.dir, "source0", "-r", "--filter=log", "file", source, f"logfile={logs[0]}") as s, \
                    Nbdkit(self.dir, "target0", "--filter=log", "file", target, f"logfile={logs[1]}") as t:
                subprocess.run([BIN / "drover-copy", f"--ranges={ranges}", "--target-is-zero", s.uri, t.uri], check=True)
            if not same(expected, target):
                sys.exit("incremental: the target differs in or outside the areas")
            worst.append(max(self.logged(logs[0], "Read"), self.logged(logs[1], "Write")) / total)
        self.add("incremental", "1 % changed in 10,000 areas", "bytes that the servers saw, a byte of the areas", "≤ 1.001",
                 f"{statistics.median(worst):.4f}", "", "", "", "", "")
        for path in (source, expected):
            path.unlink()

    def sigkill(self):
        """Bytes that the target's server got more than once, over copies each killed once at a random moment."""
        source, again, rng, whole = self.standard(), [], random.Random(), 0
        unique = sum(end - at for at, end in pieces(source))
        state, log = self.dir / "state", self.dir / "target.log"
        for number in range(1 + max(2 * self.runs, 3)):
            state.unlink(missing_ok=True)
            target, sent = self.fresh(), 0
            for kill in (False,) if number == 0 else (True, False):
                # Servers of their own for each attempt: nbdkit 1.32 may abort when a client dies in the middle of an answer.
                with Nbdkit(self.dir, "source0", "-r", "file", source) as s, \
                        Nbdkit(self.dir, "target0", "--filter=log", "file", target, f"logfile={log}") as t:
                    began = time.monotonic()
                    child = subprocess.Popen([BIN / "drover-copy", f"--resume={state}", "--digest=xxh3", s.uri, t.uri],
                                             stderr=subprocess.PIPE)
                    if kill:
                        with contextlib.suppress(subprocess.TimeoutExpired):
                            child.wait(rng.uniform(0.1, 0.9) * whole)
                        child.send_signal(signal.SIGKILL)
                    errors = child.communicate()[1]
                    if not kill and child.returncode != 0:
                        sys.exit(f"sigkill: {errors.decode(errors='replace')}")
                    whole = whole or time.monotonic() - began
                sent += self.logged(log, "Write")
            if not same(source, target):
                sys.exit("sigkill: the target differs")
            if number > 0:
                again.append((sent - unique) / MIB)
        self.add("sigkill", f"SIGKILL at a random moment, {len(again)} times", "bytes sent again", "≤ 64 MiB",
                 f"{max(again):.1f} MiB at most, median {statistics.median(again):.1f}", "", "", "", "", "")

    CASES = {"plain": plain, "xxh3": xxh3, "qemu-img": qemu_img, "tls": tls, "tls-ssh": tls_ssh, "tls-plain": tls_plain,
             "read-latency": read_latency, "read-latency-deep": read_latency_deep, "read-latency-memory": read_latency_memory,
             "extents-latency": extents_latency, "sparse": sparse, "incremental": incremental, "eight-workers": eight_workers,
             "sigkill": sigkill}

    def run(self):
        try:
            for name in self.args.case or self.CASES:
                began = time.monotonic()
                self.CASES[name](self)
                print(f"{name}: {time.monotonic() - began:.0f} s in all", file=sys.stderr, flush=True)
                if self.args.write_doc and not self.args.quick:
                    write_doc(self.rows)
        finally:
            shutil.rmtree(self.dir, ignore_errors=True)


# ---- the table ----

HEAD = ("| case | what is copied | against | goal | reached | seconds, median (min..max), ours / theirs | CPU s a GiB, client side | "
        "CPU s a GiB, with servers | peak MiB, client side | others' CPUs |\n" + "| --- " * 10 + "|\n")


def machine():
    def version(*command):
        done = subprocess.run(command, capture_output=True, text=True)
        return re.search(r"\d+\.\d+[\w.+-]*", done.stdout + done.stderr).group()
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    return (f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} processors ({model}), Linux {platform.release()}; nbdcopy "
            f"{version('nbdcopy', '--version')}, nbdkit {version('nbdkit', '--version')}, qemu-img "
            f"{version('qemu-img', '--version')}, HAProxy {version('haproxy', '-v')}, OpenSSH {version('ssh', '-V')}, "
            f"OpenSSL {version('openssl', 'version')}.")


def write_doc(rows):
    """Puts ROWS into the document's table; others stay when they were measured on the same day and machine."""
    text, about = DOC.read_text(), machine()
    before, rest = text.split(BEGIN)
    old, after = rest.split(END)
    kept = dict(re.findall(r"^(?=\| `([^`]+)`)(.*)$", old, re.M)) if about in old else {}
    kept.update(rows)
    table = HEAD + "".join(kept[key] + "\n" for key in Bench.CASES if key in kept)
    DOC.write_text(f"{before}{BEGIN}\n{about}\n\n{table}{END}{after}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each program; one more warms up (default 5)")
    parser.add_argument("--size", type=float, default=2, metavar="GIB", help="of the file that most cases copy (default 2)")
    parser.add_argument("--case", action="append", choices=list(Bench.CASES), metavar="NAME",
                        help=f"only this one; repeatable: {', '.join(Bench.CASES)}")
    parser.add_argument("--quick", action="store_true", help="small disks, one run: whether it works, not how fast")
    parser.add_argument("--nice", type=int, metavar="N", help="priority for all that is measured (below 0: root), on a busy machine")
    parser.add_argument("--dir", default="/dev/shm", help="where the disks lie (default /dev/shm; needs about 5 GiB)")
    parser.add_argument("--write-doc", action="store_true", help=f"put the rows into {DOC.relative_to(ROOT)}")
    args = parser.parse_args()
    if args.nice is not None:
        os.setpriority(os.PRIO_PROCESS, 0, args.nice)
        with contextlib.suppress(OSError):  # between sessions it is the group's that counts
            Path("/proc/self/autogroup").write_text(str(args.nice))
    bench = Bench(args)
    bench.run()
    print(f"{machine()}\n\n{HEAD}" + "\n".join(bench.rows.values()))

if __name__ == "__main__":
    main()
