# SPDX-License-Identifier: Apache-2.0
"""A guest in QEMU without KVM, as any machine can run it: commands over a serial line, disks plugged in and out over QMP."""

import base64
import ctypes
import json
import signal
import socket
import subprocess
import time
from pathlib import Path

libc = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1
BOOT_SECONDS = 240  # a busy machine without KVM; seldom more than 30 s


class Answer:
    def __init__(self, code, output):
        self.code = code
        self.output = output

    def __repr__(self):
        return f"Answer({self.code}, {self.output!r})"


class Line:
    """One end of a Unix socket, read in lines."""

    def __init__(self, path, seconds):
        deadline = time.monotonic() + seconds
        self.socket = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.socket.connect(str(path))
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self.rest = b""

    def write(self, data):
        self.socket.sendall(data)

    def read(self, seconds):
        deadline = time.monotonic() + seconds
        while b"\n" not in self.rest:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"the guest has said nothing for {seconds} s")
            self.socket.settimeout(left)
            data = self.socket.recv(65536)
            if not data:
                raise EOFError("the guest has ended")
            self.rest += data
        line, self.rest = self.rest.split(b"\n", 1)
        return line.strip()

    def close(self):
        self.socket.close()


class Guest:
    """Runs from a copy-on-write view of ROOT_DISK, a SCSI or virtio disk that has a serial, as CloudStack's root volumes have."""

    def __init__(self, directory, parts, root_disk, root_serial, root_bus="scsi"):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True)
        self.console = self.directory / "console.log"
        self.parts = parts
        self.root_disk = root_disk
        self.root_serial = root_serial
        self.root_bus = root_bus
        self.process = self.commands = self.monitor = None
        self.events = []
        self.plugged = []

    # -- life ------------------------------------------------------------------------------------------

    def start(self):
        root = "sda1" if self.root_bus == "scsi" else "vda1"
        device = "scsi-hd,bus=scsi0.0" if self.root_bus == "scsi" else "virtio-blk-pci"
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-M", "pc", "-accel", "tcg", "-m", "256", "-nodefaults", "-display", "none", "-no-reboot",
             "-kernel", str(self.parts / "vmlinuz"), "-initrd", str(self.parts / "initrd"),
             "-append", f"console=ttyS0 panic=-1 guestroot={root}",
             "-chardev", f"file,id=console,path={self.console}", "-serial", "chardev:console",
             "-chardev", f"socket,id=commands,path={self.directory}/commands,server=on,wait=off", "-serial", "chardev:commands",
             "-qmp", f"unix:{self.directory}/qmp,server=on,wait=off", "-device", "virtio-scsi-pci,id=scsi0",
             "-drive", f"if=none,id=root,file={self.root_disk},format=raw,snapshot=on",
             "-device", f"{device},drive=root,id=rootdisk,serial={self.root_serial}"],
            stdin=subprocess.DEVNULL, stdout=(self.directory / "qemu.log").open("wb"), stderr=subprocess.STDOUT,
            preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
        self.monitor = Line(self.directory / "qmp", 30)
        self.monitor.read(30)
        self.qmp("qmp_capabilities")
        self.commands = Line(self.directory / "commands", 30)
        return self

    def wait_until_up(self, seconds=BOOT_SECONDS):
        while b"guest is up" not in self.commands.read(seconds):
            pass
        return self

    def reset(self):
        """Switches it off and on, with all disks where they are."""
        self.must("sync")
        self.qmp("set-action", reboot="reset")
        self.qmp("system_reset")
        return self.wait_until_up()

    def stop(self):
        for line in [self.commands, self.monitor]:
            if line:
                line.close()
        if self.process:
            self.process.kill()
            self.process.wait(30)

    def tail(self, lines=40):
        text = self.console.read_text(errors="replace") if self.console.exists() else ""
        qemu = self.directory / "qemu.log"
        return "\n".join(text.splitlines()[-lines:]) + (qemu.read_text(errors="replace") if qemu.exists() else "")

    # -- inside -----------------------------------------------------------------------------------------

    def run(self, command, seconds=120):
        """Runs a shell command in the guest: its exit code and what it wrote."""
        self.commands.write(base64.b64encode(command.encode()) + b"\n")
        code, _, output = self.commands.read(seconds).partition(b" ")
        return Answer(int(code), base64.b64decode(output).decode(errors="replace").strip())

    def must(self, command, seconds=120):
        done = self.run(command, seconds)
        assert done.code == 0, f"{command}: {done}"
        return done.output

    def until(self, command, seconds=60):
        """Repeats COMMAND until it succeeds."""
        deadline = time.monotonic() + seconds
        while True:
            done = self.run(command)
            if done.code == 0:
                return done.output
            assert time.monotonic() < deadline, f"{command}: still {done} after {seconds} s"
            time.sleep(0.2)

    def settle(self):
        self.must("udevadm settle --timeout=100")

    # -- its hardware -------------------------------------------------------------------------------------

    def qmp(self, command, **arguments):
        self.monitor.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            said = json.loads(self.monitor.read(60))
            if "event" in said:
                self.events.append(said)
            elif "error" in said:
                raise RuntimeError(f"{command}: {said['error']['desc']}")
            else:
                return said["return"]

    def plug(self, name, file, serial, bus="virtio"):
        """Hot-plugs FILE as a disk NAME, as libvirt does it for CloudStack."""
        self.qmp("blockdev-add", driver="raw", **{"node-name": f"node-{name}"}, file={"driver": "file", "filename": str(file)})
        driver = {"driver": "scsi-hd", "bus": "scsi0.0"} if bus == "scsi" else {"driver": "virtio-blk-pci"}
        self.qmp("device_add", id=name, drive=f"node-{name}", serial=serial, **driver)
        self.plugged.append(name)

    def unplug(self, name, seconds=60):
        """Takes the disk away; returns when the guest has let go of it."""
        self.events.clear()
        self.qmp("device_del", id=name)
        deadline = time.monotonic() + seconds
        while not any(e["event"] == "DEVICE_DELETED" and e["data"].get("device") == name for e in self.events):
            said = json.loads(self.monitor.read(max(0.1, deadline - time.monotonic())))
            if "event" in said:
                self.events.append(said)
        self.qmp("blockdev-del", **{"node-name": f"node-{name}"})
        self.plugged.remove(name)
