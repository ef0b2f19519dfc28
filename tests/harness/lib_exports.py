# SPDX-License-Identifier: Apache-2.0
"""nbdkit with the plugin, and the test in the place of the volume agent."""

import os
import socket
import subprocess
from pathlib import Path

import nbd

from fleet import ROOT, free_port, wait_for

BIN = Path(os.environ.get("DROVER_BIN") or ROOT / "build/release/bin")
MIB = 1 << 20
TOKEN = "00112233445566778899aabbccddeeff"
OTHER = "ffeeddccbbaa99887766554433221100"


def name(volume, generation, token=TOKEN):
    return f"migration-vol-{volume}@{generation}.{token}"


class Server:
    def __init__(self, directory, env=None):
        self.dir = directory
        self.port = free_port()
        self.control_path = directory / "control.sock"
        self.env = {**os.environ, **(env or {})}
        self.log = open(directory / "nbdkit.log", "ab")
        self.start()

    def start(self):
        self.child = subprocess.Popen(
            ["nbdkit", "--foreground", "--exit-with-parent", "--threads=1", "-i", "127.0.0.1", "-p", str(self.port),
             str(BIN / "nbdkit-drover-plugin.so"), f"control={self.control_path}"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=self.env)
        wait_for(self._connected, 15, "nbdkit's control socket")

    def _connected(self):
        if not self.control_path.exists():
            return False
        self.control = socket.socket(socket.AF_UNIX)
        try:
            self.control.connect(str(self.control_path))
        except OSError:
            return False
        self.reader = self.control.makefile("r")
        return True

    def ask(self, line):
        self.control.sendall(line.encode() + b"\n")
        lines = []
        while True:
            answer = self.reader.readline().rstrip("\n")
            if answer == "ok" or answer.startswith("error"):
                return answer, lines
            lines.append(answer)

    def open(self, volume, generation, token, path, minimum=0):
        return self.ask(f"open {volume} {generation} {token} {minimum} {path}")[0]

    def connect(self, name):
        h = nbd.NBD()
        h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
        h.set_export_name(name)
        h.connect_tcp("127.0.0.1", str(self.port))
        return h

    def stat(self):
        """Volume -> its counters, by name."""
        names = ("generation", "poisoned", "written", "zeroed", "read", "requests", "flushes", "connections")
        return {line.split()[0]: dict(zip(names, map(int, line.split()[1:]))) for line in self.ask("stat")[1]}

    def kill(self):
        self.reader.close()
        self.control.close()
        self.child.kill()  # on SIGTERM nbdkit waits for its clients
        self.child.wait(15)
        self.control_path.unlink(missing_ok=True)

    def stop(self):
        self.kill()
        self.log.close()
