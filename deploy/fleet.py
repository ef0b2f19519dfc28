#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a whole Drover fleet on this machine: Kafka, Redis, a CloudStack stand-in, agent, workers, schedulers, aggregator.

  fleet.py run DIR     start everything and keep it running until SIGTERM or SIGINT; DIR/ready appears when it is up
  fleet.py stop DIR    stop the fleet of DIR and wait until it is gone
  fleet.py status DIR  what runs

Everything listens on free loopback ports. Crashed processes are started again, with growing pauses. Whatever was started
is stopped by its process id, and dies with this process even when that is killed. The system tests use the class Fleet.
"""

import argparse
import configparser
import ctypes
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KAFKA = ROOT / "deploy/kafka/kafka.sh"
DOUBLE = ROOT / "tests/doubles/cloudstack/server.py"
PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None, use_errno=True)


class FleetError(Exception):
    """Something did not start; the message says what, and where its log is."""


def free_port():
    """A port that nobody listens on. Not one of the kernel's own choice: those are also given to outgoing connections, and
    one of them, or a fleet beside this one, may take it before our server does."""
    while True:
        port = random.randrange(10240, 32000)
        if port_is_free(port):
            return port


def port_is_free(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


def kafka_answers(address):
    """Does a broker answer ApiVersions (key 18, version 0)?"""
    host, port = address.rsplit(":", 1)
    body = struct.pack(">hhih", 18, 0, 7, -1)
    try:
        with socket.create_connection((host, int(port)), timeout=2) as s:
            s.sendall(struct.pack(">i", len(body)) + body)
            return struct.unpack(">ii", s.recv(8, socket.MSG_WAITALL))[1] == 7
    except (OSError, struct.error):
        return False


def wait_for(condition, seconds, what, poll=0.05):
    """The first true value of condition(); FleetError after SECONDS."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise FleetError(f"{what} did not happen within {seconds} s")
        time.sleep(poll)


def clean_environment():
    """Ours without DROVER_*: what a fleet does is in its drover.conf alone."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DROVER_")}


class Process:
    """One supervised program: restarted when it ends without being told to."""

    def __init__(self, fleet, name, argv, env=None):
        self.fleet, self.name, self.argv = fleet, name, [str(a) for a in argv]
        self.env = {**clean_environment(), "TMPDIR": str(fleet.dir / "tmp"), **(env or {})}
        self.log = fleet.dir / "log" / f"{name}.log"
        self.wanted = False
        self.restarts = 0
        self.exit_codes = []
        self.child = None
        self.lock = threading.Lock()
        self.thread = None

    def start(self):
        self.wanted = True
        self.thread = threading.Thread(target=self._supervise, name=self.name, daemon=True)
        started = threading.Event()
        self._started = started
        self.thread.start()
        started.wait(10)
        return self

    def _spawn(self):
        with open(self.log, "ab") as log:
            # PDEATHSIG watches the forking thread: this one lives as long as the child is wanted.
            return subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env,
                                    cwd=self.fleet.dir, close_fds=True,
                                    preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))

    def _supervise(self):
        pause = 0.2
        while self.wanted:
            began = time.monotonic()
            with self.lock:
                if not self.wanted:
                    break
                self.child = self._spawn()
            self._started.set()
            self.exit_codes.append(self.child.wait())
            if not self.wanted:
                break
            self.restarts += 1
            pause = 0.2 if time.monotonic() - began > 10 else min(pause * 2, 5)
            deadline = time.monotonic() + pause
            while self.wanted and time.monotonic() < deadline:
                time.sleep(0.02)

    @property
    def pid(self):
        return self.child.pid if self.child and self.child.poll() is None else None

    def running(self):
        return self.pid is not None

    def kill(self, sig=signal.SIGKILL):
        """Kills the present instance; the supervisor starts the next one. Returns its process id."""
        pid = self.pid
        if pid:
            self.child.send_signal(sig)
        return pid

    def stop(self, seconds=20):
        self.wanted = False
        with self.lock:
            child = self.child
        if child and child.poll() is None:
            child.terminate()
            try:
                child.wait(seconds)
            except subprocess.TimeoutExpired:
                self.fleet.complaints.append(f"{self.name} ignored SIGTERM for {seconds} s")
                child.kill()
                child.wait(10)
        if self.thread:
            self.thread.join(10)

    def tail(self, lines=15):
        try:
            return "".join(self.log.read_text(errors="replace").splitlines(keepends=True)[-lines:])
        except OSError:
            return ""


class Fleet:
    """A fleet below one directory. SETTINGS: {"section": {"option": value}} on top of the defaults here."""

    site = "site-1"
    agent = "appliance-1"

    def __init__(self, directory, *, bin_dir=None, workers=2, schedulers=2, aggregators=1, nbd_port=0, kafka=None,
                 topic_prefix="drover", settings=None, double_options=(), agents=1):
        self.dir = Path(directory).resolve()
        self.bin = Path(bin_dir or os.environ.get("DROVER_BIN") or ROOT / "build/release/bin")
        self.counts = {"worker": workers, "scheduler": schedulers, "progress-aggregator": aggregators}
        self.agents = [f"appliance-{i}" for i in range(1, agents + 1)]  # the first one is self.agent
        self.nbd_port = nbd_port
        self.kafka = kafka  # "host:port" of a broker that somebody else runs; None: our own
        self.topic_prefix = topic_prefix
        self.settings = settings or {}
        self.double_options = list(double_options)
        self.processes = {}
        self.complaints = []
        self.phases = []  # (what, seconds)
        self.run_dir = None
        self._own_kafka = kafka is None

    # ---- starting

    def start(self):
        for sub in ("log", "run", "tmp"):
            (self.dir / sub).mkdir(parents=True, exist_ok=True)
        self.run_dir = self.dir / "run"
        if len(os.fsencode(self.run_dir)) > 60:  # names of sockets end at 107 bytes
            self.run_dir = Path(tempfile.mkdtemp(prefix="drover-run-", dir="/tmp"))
        if not self.nbd_port:
            self.nbd_port = free_port()
        elif not port_is_free(self.nbd_port):
            raise FleetError(f"Port {self.nbd_port} on 127.0.0.1, wanted for NBD, is taken: see `ss -ltnp`, or choose another")
        try:
            kafka = threading.Thread(target=self._try, args=(self._start_kafka,))
            kafka.start()  # the slowest one, beside the others
            self._timed("redis", self._start_redis)
            self._timed("cloudstack", self._start_double)
            kafka.join()
            if self._failure:
                raise self._failure
            self.write_config()
            self._timed("topics", self._apply_topics)
            self._start_drover()
        except BaseException:
            self.stop()
            raise
        return self

    _failure = None

    def _try(self, step):
        try:
            self._timed("kafka", step)
        except Exception as e:  # handed to the starting thread
            self._failure = e

    def _timed(self, what, step):
        began = time.monotonic()
        step()
        self.phases.append((what, time.monotonic() - began))

    def _start_kafka(self):
        if not self._own_kafka:
            return
        directory = self.dir / "kafka"
        subprocess.run([KAFKA, "fetch"], stdin=subprocess.DEVNULL, check=True, timeout=900)
        broker = self._run("kafka", [KAFKA, "run", directory])

        def ready():
            if broker.exit_codes:
                raise FleetError(f"Kafka does not start:\n{broker.tail()}")
            try:
                self.kafka = (directory / "kafka.address").read_text().strip()
            except OSError:
                return False
            return bool(self.kafka) and kafka_answers(self.kafka)  # empty: it is being written

        wait_for(ready, 90, f"Kafka (log: {broker.log})")

    def _start_redis(self):
        port_file = self.dir / "redis.port"
        self.redis_port = int(port_file.read_text()) if port_file.exists() else free_port()
        port_file.write_text(str(self.redis_port))
        self._run("redis", ["redis-server", "--port", self.redis_port, "--bind", "127.0.0.1", "--dir", self.dir,
                            "--save", "", "--appendonly", "no", "--daemonize", "no"])
        wait_for(lambda: self._answers(self.redis_port), 15, f"Redis (log: {self.processes['redis'].log})")

    def _start_double(self):
        port_file = self.dir / "cloudstack.port"
        listen = int(port_file.read_text()) if port_file.exists() else 0
        port_file.unlink(missing_ok=True)
        self._run("cloudstack", ["/usr/bin/python3", DOUBLE, "--listen", f"127.0.0.1:{listen}", "--dir",
                                 self.dir / "cloudstack", "--port-file", port_file, "--appliance", ",".join(self.agents),
                                 *self.double_options])
        wait_for(port_file.exists, 15, f"The CloudStack stand-in (log: {self.processes['cloudstack'].log})")
        self.cloudstack_port = int(port_file.read_text())
        # A restart must come back at the same port.
        argv = self.processes["cloudstack"].argv
        argv[argv.index("--listen") + 1] = f"127.0.0.1:{self.cloudstack_port}"
        appliances = json.loads((self.dir / "cloudstack/appliances.json").read_text())
        self.appliances = {name: appliances[name] for name in self.agents}
        self.appliance = appliances[self.agent]

    def config(self):
        values = {
            "kafka": {"brokers": self.kafka, "topic-prefix": self.topic_prefix},
            "fleet": {"sites": self.site, "agents": ",".join(self.agents)},
            "redis": {"address": f"127.0.0.1:{self.redis_port}"},
            "scheduler": {},
            "worker": {"site": self.site, "run-dir": self.run_dir},
            "agent": {
                "name": self.agent, "run-dir": self.run_dir,
                "cloudstack-url": f"http://127.0.0.1:{self.cloudstack_port}/client/api",
                "cloudstack-key-file": self.dir / "cloudstack/admin.key",
                "appliance-vm-id": self.appliance["id"],
                "sysfs-root": self.appliance["sysfs_root"], "dev-root": self.appliance["dev_root"],
                "nbd-host": "127.0.0.1", "nbd-port": self.nbd_port,
            },
            "aggregator": {},
        }
        for section, options in self.settings.items():
            values.setdefault(section, {}).update(options)
        return values

    def write_config(self):
        parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
        parser.optionxform = str
        for section, options in self.config().items():
            parser[section] = {k: str(v) for k, v in options.items()}
        path = self.dir / "drover.conf"
        with open(path, "w", opener=lambda p, f: os.open(p, f, 0o600)) as out:
            parser.write(out, space_around_delimiters=False)
        self.conf = path

    def _apply_topics(self):
        self.drover("topics", "apply", "--file", str(ROOT / "deploy/topics.yaml"))

    def _start_drover(self):
        for program in ("drover", "drover-volume-agent", *(f"drover-{name}" for name in self.counts)):
            if not os.access(self.bin / program, os.X_OK):
                raise FleetError(f"{self.bin / program} is missing: cmake --preset release && cmake --build --preset release")
        self._run("volume-agent", [self.bin / "drover-volume-agent", "--config", self.conf])
        for name in self.agents[1:]:
            appliance = self.appliances[name]
            self._run(f"volume-agent-{name}", [
                self.bin / "drover-volume-agent", "--config", self.conf, f"--agent-name={name}", f"--agent-nbd-port={free_port()}",
                f"--agent-appliance-vm-id={appliance['id']}", f"--agent-sysfs-root={appliance['sysfs_root']}",
                f"--agent-dev-root={appliance['dev_root']}"])
        for program, section in (("scheduler", "scheduler"), ("progress-aggregator", "aggregator"), ("worker", "worker")):
            for i in range(1, self.counts[program] + 1):
                name = f"{program}-{i}"
                self._run(name, [self.bin / f"drover-{program}", "--config", self.conf, f"--{section}-name={name}"])

    def _run(self, name, argv):
        self.processes[name] = Process(self, name, argv).start()
        return self.processes[name]

    @staticmethod
    def _answers(port):
        with socket.socket() as s:
            s.settimeout(0.5)
            return s.connect_ex(("127.0.0.1", port)) == 0

    # ---- using

    def __getitem__(self, name):
        return self.processes[name]

    def drover(self, *args, check=True, timeout=120, **kwargs):
        """Runs the CLI; returns the CompletedProcess with text output."""
        kwargs.setdefault("env", clean_environment())
        done = subprocess.run([str(self.bin / "drover"), *args, "--config", str(self.conf)], text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout,
                              **kwargs)
        if check and done.returncode != 0:
            raise FleetError(f"drover {' '.join(args)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    # ---- ending

    def stop(self):
        """Stops all, Drover first; leftovers are added to self.complaints."""
        ours = [n for n in self.processes if n not in ("redis", "cloudstack", "kafka")]
        threads = [threading.Thread(target=self.processes[n].stop) for n in ours]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        for name in ("cloudstack", "redis", "kafka"):
            if name in self.processes:
                self.processes[name].stop()
        self.complaints += [f"left running: {line}" for line in self.left_running()]
        if self.run_dir and self.run_dir.parent != self.dir:
            shutil.rmtree(self.run_dir, ignore_errors=True)

    def left_running(self):
        """Processes that still name the fleet's directory on their command line."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            program = os.path.basename(words[0].decode(errors="replace"))
            if program in ("nbdkit", "qemu-nbd", "redis-server", "java") or program.startswith("drover-"):
                if any(os.fsencode(d) in w for d in (self.dir, self.run_dir or self.dir) for w in words):
                    found.append(f"{entry.name} {program}")
        return found


# ---- command line

def run(args):
    fleet = Fleet(args.dir, bin_dir=args.bin, workers=args.workers, schedulers=args.schedulers, nbd_port=args.nbd_port)
    ended = threading.Event()
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(sig, lambda *_: ended.set())
    fleet.dir.mkdir(parents=True, exist_ok=True)
    ready = fleet.dir / "ready"
    ready.unlink(missing_ok=True)
    (fleet.dir / "fleet.pid").write_text(str(os.getpid()))
    try:
        fleet.start()
    except (FleetError, OSError, subprocess.SubprocessError) as e:
        print(f"fleet.py: {e}", file=sys.stderr)
        return 1
    ready.write_text(json.dumps({
        "kafka": fleet.kafka, "redis": f"127.0.0.1:{fleet.redis_port}", "nbd_port": fleet.nbd_port,
        "cloudstack": f"http://127.0.0.1:{fleet.cloudstack_port}/client/api", "config": str(fleet.conf),
        "phases": fleet.phases, "processes": {n: p.pid for n, p in fleet.processes.items()}}))
    while not ended.wait(0.5):
        if args.parent and os.getppid() != args.parent:
            break  # whoever asked for the fleet is gone
    ready.unlink(missing_ok=True)
    fleet.stop()
    (fleet.dir / "fleet.pid").unlink(missing_ok=True)
    for complaint in fleet.complaints:
        print(f"fleet.py: {complaint}", file=sys.stderr)
    return 1 if fleet.complaints else 0


def fleet_pid(directory):
    try:
        pid = int((Path(directory) / "fleet.pid").read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if any(w.endswith(b"fleet.py") for w in words) else None


def stop(args):
    pid = fleet_pid(args.dir)
    if not pid:
        return 0
    os.kill(pid, signal.SIGTERM)
    try:
        wait_for(lambda: fleet_pid(args.dir) is None, 60, "The end of the fleet")
    except FleetError as e:
        print(f"fleet.py: {e}", file=sys.stderr)
        os.kill(pid, signal.SIGKILL)
        return 1
    return 0


def status(args):
    if not fleet_pid(args.dir):
        print("not running")
        return 1
    try:
        print(json.dumps(json.loads((Path(args.dir) / "ready").read_text()), indent=2))
    except OSError:
        print("starting")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = parser.add_subparsers(dest="command", required=True)
    for name, function in (("run", run), ("stop", stop), ("status", status)):
        p = sub.add_parser(name)
        p.add_argument("dir", metavar="DIR")
        p.set_defaults(function=function)
        if name == "run":
            p.add_argument("--bin", help="where the programs are (default: build/release/bin)")
            p.add_argument("--workers", type=int, default=2)
            p.add_argument("--schedulers", type=int, default=2)
            p.add_argument("--nbd-port", type=int, default=0, help="0: a free one")
            p.add_argument("--parent", type=int, default=0, help="stop when this process is no longer our parent")
    args = parser.parse_args()
    sys.exit(args.function(args))


if __name__ == "__main__":
    main()
