# SPDX-License-Identifier: Apache-2.0
"""A disk on a real qemu-storage-daemon that records what changes: one dirty bitmap per round, as a backup client would."""

import ctypes
import json
import os
import random
import signal
import socket
import subprocess
import time

import nbd

libc = ctypes.CDLL(None, use_errno=True)


class TrackedDisk:
    """PATH served as nbd+unix:///disk?socket=..., frozen; bitmap "drover-<n>" holds what changed before freezing n."""

    def __init__(self, directory, path, granularity):
        self.dir, self.path, self.granularity, self.round = directory, path, granularity, 0
        self.nbd_socket, self.qmp_socket = f"{directory}/nbd.sock", f"{directory}/qmp.sock"
        self.process = subprocess.Popen(
            ["qemu-storage-daemon", "--blockdev", f"driver=file,node-name=file,filename={path}",
             "--blockdev", "driver=raw,node-name=disk,file=file",
             "--nbd-server", f"addr.type=unix,addr.path={self.nbd_socket},max-connections=0",
             "--chardev", f"socket,id=qmp,path={self.qmp_socket},server=on,wait=off", "--monitor", "chardev=qmp"],
            stdin=subprocess.DEVNULL, preexec_fn=lambda: libc.prctl(1, signal.SIGKILL))
        deadline = time.monotonic() + 20
        while True:
            self.qmp = socket.socket(socket.AF_UNIX)
            try:
                self.qmp.connect(self.qmp_socket)
                break
            except OSError:
                assert time.monotonic() < deadline and self.process.poll() is None, "qemu-storage-daemon does not answer"
                time.sleep(0.05)
        self.lines = self.qmp.makefile("r")
        self.lines.readline()
        self.command("qmp_capabilities")
        self.uri = f"nbd+unix:///disk?socket={self.nbd_socket}"
        self.track(1)
        self.export()

    def command(self, execute, **arguments):
        self.qmp.sendall(json.dumps({"execute": execute, "arguments": arguments}).encode() + b"\n")
        while True:
            answer = json.loads(self.lines.readline())
            assert "error" not in answer, (execute, answer)
            if "return" in answer:
                return answer["return"]
            self.events = getattr(self, "events", []) + [answer["event"]]

    def track(self, number):
        self.command("block-dirty-bitmap-add", node="disk", name=f"drover-{number}", granularity=self.granularity)

    def export(self, *bitmaps):
        self.command("block-export-add", type="nbd", id="disk", **{"node-name": "disk"}, name="disk",
                     bitmaps=[{"node": "disk", "name": b} for b in bitmaps])

    def unexport(self):
        self.events = []
        self.command("block-export-del", id="disk", mode="hard")
        deadline = time.monotonic() + 20
        while any(e["id"] == "disk" for e in self.command("query-block-exports")):
            assert time.monotonic() < deadline, "the export stays"
            time.sleep(0.02)

    def write(self, pieces):
        """The guest writes (offset, bytes) pieces. The disk is not exported frozen meanwhile."""
        self.unexport()
        self.command("block-export-add", type="nbd", id="disk", **{"node-name": "disk"}, name="guest", writable=True)
        handle = nbd.NBD()
        handle.connect_uri(f"nbd+unix:///guest?socket={self.nbd_socket}")
        for offset, data in pieces:
            handle.pwrite(data, offset)
        handle.flush()
        handle.shutdown()
        self.unexport()

    def freeze(self, forget=False):
        """Next round: what changed is in the bitmap of that number, new changes go to the next one."""
        self.round += 1
        self.command("block-dirty-bitmap-disable", node="disk", name=f"drover-{self.round}")
        self.track(self.round + 1)
        self.export(*([] if forget else [f"drover-{self.round}"]))

    def areas(self):
        """What the bitmap of this round reports, as bytes, read independently of the product."""
        context = f"qemu:dirty-bitmap:drover-{self.round}"
        handle = nbd.NBD()
        handle.add_meta_context(context)
        handle.connect_uri(self.uri)
        size, total, at = handle.get_size(), 0, 0
        while at < size:
            entries = []
            handle.block_status(min(1 << 30, size - at), at, lambda c, o, e, err: entries.extend(e) and 0 or 0)
            for length, flags in zip(entries[::2], entries[1::2]):
                total += length if flags & 1 else 0
                at += length
        handle.shutdown()
        return total

    def stop(self):
        self.process.kill()
        self.process.wait()


def scattered(size, count, length, seed):
    """COUNT pieces of LENGTH random bytes, on 4 KiB places that no two share."""
    rng = random.Random(seed)
    return [(place * 4096, rng.randbytes(length)) for place in rng.sample(range(size // 4096), count)]
