# SPDX-License-Identifier: Apache-2.0
"""What the copies of the benchmark talk to: nbdkit, the front door, an SSH forward. Each counts its own CPU seconds."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "deploy"), str(ROOT / "tests/harness")]

from fleet import free_port  # noqa: E402
from lib_frontdoor import NBD_NAME, Frontdoor, Pki  # noqa: E402


def wait_until(ready, child, what):
    deadline = time.monotonic() + 20
    while not ready():
        if child.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{what} does not start")
        time.sleep(0.01)


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """One child. After stop, CPU_SECONDS counts it and whatever it had started and waited for, PEAK_KIB the largest of them."""

    cpu_seconds = 0.0
    peak_kib = 0

    def start(self, command, ready):
        self.child = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL, process_group=0)
        wait_until(ready, self.child, " ".join(map(str, command)))

    def stop(self):
        if self.child is None:
            return
        child, self.child = self.child, None
        os.kill(child.pid, signal.SIGTERM)  # one that is dead already is a zombie until wait4; Popen's call would reap it
        deadline = time.monotonic() + 10
        while True:
            pid, _, usage = os.wait4(child.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > deadline:
                child.kill()
                deadline += 60
            time.sleep(0.01)
        child.returncode = 0
        self.cpu_seconds, self.peak_kib = usage.ru_utime + usage.ru_stime, usage.ru_maxrss
        with contextlib.suppress(ProcessLookupError):  # a session of sshd or a worker of HAProxy that outlived it
            os.killpg(child.pid, signal.SIGKILL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Nbdkit(Server):
    """On a Unix socket in DIRECTORY; with TCP on a port of 127.0.0.1; with CERTIFICATES (a directory) speaking mutual TLS."""

    def __init__(self, directory, name, *arguments, tcp=False, certificates=None):
        if tcp:
            self.port = free_port()
            tls = ["--tls=require", f"--tls-certificates={certificates}", "--tls-verify-peer"] if certificates else []
            self.start(["nbdkit", "-f", "-i", "127.0.0.1", "-p", self.port, *tls, *arguments], lambda: listens(self.port))
            self.uri = (f"nbds://localhost:{self.port}/?tls-certificates={certificates}" if certificates
                        else f"nbd://127.0.0.1:{self.port}/")
        else:
            self.socket = directory / f"{name}.sock"
            self.socket.unlink(missing_ok=True)
            self.start(["nbdkit", "-f", "-U", self.socket, *arguments], self.socket.exists)
            self.uri = f"nbd+unix:///?socket={self.socket}"


class Certificates:
    """Made by `drover pki`; the same files under the names that nbdkit and libnbd expect lie in GNUTLS."""

    def __init__(self, directory):
        self.pki = Pki(directory / "pki")
        front = self.pki.issue("frontdoor", "frontdoor", dns=[NBD_NAME, "localhost"])
        worker = self.pki.issue("worker", "worker", site="site-1")
        self.options = [f"--tls-ca={self.pki.ca}", f"--tls-cert={worker}", f"--tls-name={NBD_NAME}"]
        self.gnutls = directory / "gnutls"
        self.gnutls.mkdir()
        shutil.copy(self.pki.ca, self.gnutls / "ca-cert.pem")
        for name, pem in (("server", front), ("client", worker)):
            for part in ("cert", "key"):  # both parts stand in the one file, and GnuTLS finds its own
                shutil.copy(pem, self.gnutls / f"{name}-{part}.pem")


class Door(Server):
    """HAProxy with the configuration that `drover frontdoor` prints, before PORT of 127.0.0.1."""

    def __init__(self, directory, certificates, port):
        shutil.rmtree(directory / "door", ignore_errors=True)
        self.door = Frontdoor(directory / "door", certificates.pki, nbd=f"{NBD_NAME}=127.0.0.1:{port}", sites="site-1")
        self.child = self.door.child
        with contextlib.suppress(OSError), open("/proc/self/autogroup") as own:  # a session of its own, but our priority
            Path(f"/proc/{self.child.pid}/autogroup").write_text(own.read().split("nice ")[1].strip())
        self.uri = f"nbd+tls://localhost:{self.door.port}/"

    def stop(self):
        if self.child is not None:
            super().stop()
            self.door.stop()


class SshForward(Server):
    """A port of 127.0.0.1 that `ssh -L` carries through a private sshd to TO_PORT. CLIENT is the part on the worker's side."""

    def __init__(self, directory, to_port):
        home = directory / "ssh"
        if not home.exists():
            home.mkdir(mode=0o700)
            for key in ("host", "user"):
                subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / key], check=True)
            shutil.copy(home / "user.pub", home / "authorized_keys")
        port = free_port()
        (home / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1:{port}\nHostKey {home}/host\nAuthorizedKeysFile {home}/authorized_keys\nPidFile none\n"
            "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
            "AllowTcpForwarding yes\nSubsystem sftp internal-sftp\n")
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's privilege separation wants it
        self.start(["/usr/sbin/sshd", "-D", "-f", home / "sshd_config"], lambda: listens(port))
        self.client = Server()
        forwarded = free_port()
        self.client.start(["ssh", "-F", "none", "-N", "-p", port, "-i", home / "user", "-o", "StrictHostKeyChecking=no", "-o",
                           "UserKnownHostsFile=/dev/null", "-o", "ExitOnForwardFailure=yes", "-L",
                           f"127.0.0.1:{forwarded}:127.0.0.1:{to_port}", "127.0.0.1"], lambda: listens(forwarded))
        self.uri = f"nbd://127.0.0.1:{forwarded}/"

    def stop(self):
        self.client.stop()
        time.sleep(0.2)  # sshd waits for its session's process, which is where the bytes went through
        super().stop()
