# SPDX-License-Identifier: Apache-2.0
"""A vCenter stand-in (tests/doubles/vcsim) for tests: its process, its inventory, its control interface.

    def test_it(make_vcsim):
        vcsim = make_vcsim(vms=[vm("web", disks=[disk("64M")])])
        vcsim.vcenters          # a key file as lib/vsphere/vcenter.h wants it, naming it "dc1"
        vcsim.write("web", 2000, 0, 512)
        vcsim.calls("CreateSnapshot_Task")

Control calls (POST /ctl/...) answer with JSON; what they do is written in tests/doubles/vcsim/README.md.
"""

import ctypes
import hashlib
import http.client
import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import time
from pathlib import Path

import pytest

import lib_vcsim_build
from fleet import ROOT, free_port, wait_for

USER = "drover@vsphere.local"
PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None, use_errno=True)
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def size(text):
    return text if isinstance(text, int) else int(text[:-1]) * UNITS[text[-1]] if text[-1] in UNITS else int(text)


def disk(capacity="64M", **more):
    """A disk of a VM: key, unit, label, file, mode, sharing, thin, rdm, datastore, image, ..."""
    return {"capacity": size(capacity), **more}


def vm(name, disks=None, **more):
    """A VM: disks, nics, firmware, secure_boot, vtpm, version, guest_id, guest_family, tools, power, snapshots, ..."""
    return {"name": name, "disks": disks if disks is not None else [disk()], **more}


def vddk_plugin():
    """nbdkit-vddk-plugin.so of the build that the tests run (DROVER_BIN), to be given to a worker in place of "vddk"."""
    built = Path(os.environ.get("DROVER_BIN") or ROOT / "build/release/bin").parent
    return built / "tests/doubles/vddk/nbdkit-vddk-plugin.so"


def make_libdir(directory):
    """What the stand-in plugin takes for an installation of VDDK."""
    (directory / "lib64").mkdir(parents=True, exist_ok=True)
    (directory / "lib64/libvixDiskLib.so").touch()
    return directory


class Vcsim:
    """One stand-in below a directory. OPTIONS become command line options: grain=512 -> -grain=512."""

    def __init__(self, directory, vms=None, datastores=None, name="dc1", **options):
        self.dir = Path(directory).resolve()
        self.name = name
        self.inventory = {"vms": vms if vms is not None else [vm("vm1")], "datastores": datastores or []}
        self.options = options
        self.user, self.password = USER, secrets.token_urlsafe(12)
        self.process = None
        self.port = None

    # ---- starting and ending

    def start(self):
        program = lib_vcsim_build.build()
        for sub in ("disks", "tls", "tmp"):
            (self.dir / sub).mkdir(parents=True, exist_ok=True)
        self._certificate()
        self.password_file = self.dir / "password"
        self._secret(self.password_file, self.password + "\n")
        self._secret(self.dir / "login", f"{self.user}:{self.password}")
        (self.dir / "inventory.json").write_text(json.dumps(self.inventory))
        self.port = free_port()
        self.libdir = make_libdir(self.dir / "vddk")
        self.log = self.dir / "vcsim.log"
        argv = [program, f"-dir={self.dir / 'disks'}", f"-l=127.0.0.1:{self.port}", f"-login-file={self.dir / 'login'}",
                f"-tlscert={self.cert}", f"-tlskey={self.key}", f"-inventory={self.dir / 'inventory.json'}",
                *(f"-{k.replace('_', '-')}={v}" for k, v in self.options.items())]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.dir,
                                            env={**os.environ, "TMPDIR": str(self.dir / "tmp")},
                                            preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
        self.context = ssl.create_default_context(cafile=str(self.cert))
        wait_for(self._ready, 60, f"The vCenter stand-in (log: {self.log})")
        self.vcenters = self.dir / "vcenters.conf"
        self.write_vcenters()
        return self

    def _ready(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"the vCenter stand-in ended:\n{self.log.read_text()}")
        try:
            return self.ctl("GET", "/ctl/vms") is not None
        except (OSError, ValueError):
            return False

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)

    @staticmethod
    def _secret(path, text):
        with open(path, "w", opener=lambda p, f: os.open(p, f, 0o600)) as out:
            out.write(text)

    def _certificate(self):
        self.cert, self.key = self.dir / "tls/vcsim.crt", self.dir / "tls/vcsim.key"
        if not self.cert.exists():
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                            "-keyout", self.key, "-out", self.cert, "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
                            "subjectAltName=IP:127.0.0.1,DNS:localhost"], check=True, capture_output=True)
        der = ssl.PEM_cert_to_DER_cert(self.cert.read_text())
        self.thumbprint = ":".join(f"{b:02X}" for b in hashlib.sha1(der).digest())
        self.sha256 = ":".join(f"{b:02X}" for b in hashlib.sha256(der).digest())

    def vcenter_settings(self, **more):
        return {"url": f"https://127.0.0.1:{self.port}/sdk", "user": self.user, "password-file": self.password_file,
                "thumbprint": self.thumbprint, "vddk-libdir": self.libdir, **more}

    def write_vcenters(self, **more):
        """The key file of lib/vsphere/vcenter.h; MORE overrides or adds keys (None takes one away)."""
        settings = {k.replace("_", "-"): v for k, v in self.vcenter_settings(**more).items() if v is not None}
        self.vcenters.write_text(f"[vcenter {self.name}]\n" + "".join(f"{k}={v}\n" for k, v in settings.items()))
        return self.vcenters

    # ---- control

    def ctl(self, method, path, body=None):
        """A control call; its answer. ValueError with its words when it is refused."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context, timeout=120)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status != 200:
            raise ValueError(f"{method} {path}: {answer.status} {text.strip()}")
        return json.loads(text)

    def vms(self):
        """Name -> what the stand-in knows of each VM: moref, power, disks with key, file, image, change_id; snapshots."""
        return {v["name"]: v for v in self.ctl("GET", "/ctl/vms")}

    def vm(self, name):
        return self.vms()[name]

    def snapshots(self, name):
        """The VM's snapshots, parents first: moref, name, parent, quiesced, frozen, files and change_ids by disk key."""
        found = self.vm(name)["snapshots"]
        for snapshot in found:
            for field in ("frozen", "files", "change_ids"):
                snapshot[field] = {int(k): v for k, v in snapshot[field].items()}
        return found

    def image(self, name, key=2000):
        """The file that the guest NAME writes; a test may write it, too."""
        return Path(next(d["image"] for d in self.vm(name)["disks"] if d["key"] == key))

    def frozen(self, name, snapshot, key=2000):
        """What disk KEY holds in SNAPSHOT (a name or a moref). The file goes with the snapshot."""
        return Path(next(s["frozen"][key] for s in self.snapshots(name) if snapshot in (s["name"], s["moref"])))

    def write(self, name, key, offset, length, **more):
        """The guest writes: kind="random" (by seed), "zero" or "same"; untracked=True: change tracking loses it."""
        self.writes(name, key, [(offset, length)], **more)

    def writes(self, name, key, ranges, **more):
        body = {"vm": name, "key": key, "writes": [{"offset": o, "length": n} for o, n in ranges], **more}
        body.setdefault("seed", secrets.randbits(31))
        self.ctl("POST", "/ctl/write", body)

    def journal(self, name, key=2000):
        """All that write() wrote: offset, length, after (number of the change id that it came after)."""
        return self.ctl("GET", f"/ctl/journal?vm={name}&key={key}")

    def grow(self, name, capacity, key=2000):
        self.ctl("POST", "/ctl/disk", {"vm": name, "key": key, "capacity": size(capacity)})

    def move(self, name, file, key=2000):
        """The disk's file becomes FILE, in the snapshots too, as after Storage vMotion."""
        self.ctl("POST", "/ctl/disk", {"vm": name, "key": key, "file": file})

    def add_disk(self, name, **spec):
        """A disk more, as disk() describes it."""
        self.ctl("POST", "/ctl/add-disk", {"vm": name, "disk": disk(**spec)})

    def remove_disk(self, name, key):
        self.ctl("POST", "/ctl/remove-disk", {"vm": name, "key": key})

    def take_snapshot(self, name, snapshot):
        """Somebody else's."""
        self.ctl("POST", "/ctl/snapshot", {"vm": name, "name": snapshot})

    def reset_cbt(self, name):
        self.ctl("POST", "/ctl/cbt-reset", {"vm": name})

    def set_vm(self, name, **what):
        """power="off", tools="guestToolsNotRunning", shutdown_ms=-1 (the guest never obeys), leave_deltas=True."""
        self.ctl("POST", "/ctl/vm", {"vm": name, **what})

    def set_free(self, datastore, free):
        self.ctl("POST", "/ctl/datastore", {"datastore": datastore, "free": size(free)})

    def deny(self, *privileges, vm="*"):
        """Takes PRIVILEGES away, and gives all others back."""
        self.ctl("POST", "/ctl/deny", {"deny": list(privileges), "vm": vm})

    # ---- the past

    def history(self):
        """{"snapshots": all that ever were: moref, name, vm, removed, frozen and change_ids by disk key; "answers": what
        QueryChangedDiskAreas said: vm, key, snapshot, since, start, areas}. Frozen files stay only when started with keep="true"."""
        past = self.ctl("GET", "/ctl/history")
        for snapshot in past["snapshots"]:
            for field in ("frozen", "change_ids"):
                snapshot[field] = {int(k): v for k, v in snapshot[field].items()}
        return past

    # ---- trouble

    def rule(self, method="*", **what):
        """What happens to calls of METHOD: fault, message, detail, delay_ms, act ("expire", "drop", "truncate", "garbage",
        "status-503"), where ("call", "after", "task"), object, args, skip, count (0: always), queued_ms, run_ms,
        reason (the task's description). METHOD may be "vddk-open". -> its id."""
        return self.ctl("POST", "/ctl/fault", {"method": method, "count": 1, **what})["id"]

    def fault(self, method, fault, **what):
        """The next call of METHOD answers this fault, e.g. "NoPermission"; count=0: each."""
        return self.rule(method, fault=fault, **what)

    def hits(self, rule):
        return next(r["hits"] for r in self.ctl("GET", "/ctl/fault") if r["id"] == rule)

    def clear(self, rule=0):
        """Takes a rule away, or all; calls and tasks that it holds up go on."""
        self.ctl("DELETE", f"/ctl/fault?id={rule}")

    def expire(self):
        self.ctl("POST", "/ctl/expire-sessions")

    def sessions(self):
        return self.ctl("GET", "/ctl/sessions")

    def calls(self, method=None, since=0):
        """The log of calls: n, time, method, object, name, session, args, fault, ms, done."""
        return [c for c in self.ctl("GET", f"/ctl/calls?since={since}") if method in (None, c["method"])]

    # ---- readers (nbdkit with the stand-in plugin)

    def readers(self):
        """Every disk that was opened: vm, snapshot, key, pid, open, reads, bytes, extents."""
        return self.ctl("GET", "/ctl/vddk")

    def command_readers(self, command, **what):
        """Tells open readers (of vm=, key=) to "fail", "stall", "die" or "run", once they have read after= bytes; next=True:
        the one that opens next."""
        self.ctl("POST", "/ctl/vddk", {"command": command, **what})

    def nbdkit_options(self, name, snapshot, key=2000, /, **more):
        """Parameters of the plugin for a disk of a snapshot; MORE overrides, None takes away."""
        found = next(s for s in self.snapshots(name) if snapshot in (s["name"], s["moref"]))
        options = {"libdir": self.libdir, "server": "127.0.0.1", "port": self.port, "user": self.user,
                   "password": f"+{self.password_file}", "thumbprint": self.thumbprint,
                   "vm": f"moref={self.vm(name)['moref']}", "snapshot": found["moref"], "file": found["files"][key], **more}
        return [f"{k.replace('_', '-')}={v}" for k, v in options.items() if v is not None]


@pytest.fixture
def make_vcsim(request, tmp_path_factory):
    """make_vcsim(vms=[...], grain=512, ...) -> a running Vcsim; stopped, and its disks removed, at the end."""
    started = []

    def make(vms=None, **options):
        directory = tmp_path_factory.mktemp("vcsim")
        vcsim = Vcsim(directory, vms, **options)
        started.append(vcsim)
        return vcsim.start()

    yield make
    for vcsim in started:
        vcsim.stop()
        shutil.rmtree(vcsim.dir, ignore_errors=True)
