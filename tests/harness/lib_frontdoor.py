# SPDX-License-Identifier: Apache-2.0
"""A front door as an operator sets it up: certificates by `drover pki`, HAProxy by `drover frontdoor`, and clients in TLS."""

import asyncio
import datetime
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
import uuid
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fleet import PR_SET_PDEATHSIG, ROOT, clean_environment, free_port, libc, wait_for

BIN = Path(os.environ.get("DROVER_BIN") or ROOT / "build/release/bin")
NBD_NAME = "nbd.appliance-1.example"
REST_NAME = "api.appliance-1.example"


def drover(*args, check=True):
    return subprocess.run([BIN / "drover", *map(str, args)], check=check, text=True, capture_output=True, timeout=60,
                          env=clean_environment())


class Pki:
    """A directory of `drover pki`."""

    def __init__(self, directory):
        self.dir = Path(directory)
        self.ca = self.dir / "ca.crt"
        drover("pki", "init", self.dir)

    def issue(self, name, role, **options):
        flags = []
        for key, value in options.items():
            flags += [f"--{key}={v}" for v in (value if isinstance(value, (list, tuple)) else [value])]
        return Path(drover("pki", "issue", self.dir, f"--role={role}", f"--name={name}", *flags).stdout.strip())

    def once(self, name, role, **options):
        path = self.dir / f"{name}.pem"
        return path if path.exists() else self.issue(name, role, **options)

    def renew(self, *names):
        drover("pki", "renew", self.dir, *names)

    def expired(self, name, site):
        """A worker's certificate that was good until an hour ago; `drover pki` does not make such."""
        key = ec.generate_private_key(ec.SECP256R1())
        authority = x509.load_pem_x509_certificate(self.ca.read_bytes())
        now = datetime.datetime.utcnow()
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, site),
                             x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "worker"),
                             x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (x509.CertificateBuilder().subject_name(subject).issuer_name(authority.subject)
                       .public_key(key.public_key()).serial_number(x509.random_serial_number())
                       .not_valid_before(now - datetime.timedelta(days=2)).not_valid_after(now - datetime.timedelta(hours=1))
                       .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH]), False)
                       .sign(serialization.load_pem_private_key((self.dir / "ca.key").read_bytes(), None), hashes.SHA256()))
        path = self.dir / f"{name}.pem"
        path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                           serialization.NoEncryption()) +
                         certificate.public_bytes(serialization.Encoding.PEM))
        return path


class Frontdoor:
    """HAProxy with a configuration of ours."""

    def __init__(self, directory, pki, **options):
        self.dir = Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.run_dir = Path(f"/tmp/fd-{uuid.uuid4().hex[:8]}")
        self.run_dir.mkdir(mode=0o700)
        self.name = self.run_dir.name
        self.pki, self.port = pki, options.pop("port", None) or free_port()
        self.socket = self.run_dir / f"{self.name}.haproxy.sock"
        values = {"name": self.name, "listen": f"127.0.0.1:{self.port}", "certificate": pki.dir / "frontdoor.pem",
                  "authority": pki.ca, "run-dir": self.run_dir, **{k.replace("_", "-"): v for k, v in options.items()}}
        self.conf = self.dir / "drover.conf"
        self.conf.write_text("[frontdoor]\n" + "".join(f"{k}={v}\n" for k, v in values.items()))
        self.cfg = self.dir / "haproxy.cfg"
        self.cfg.write_text(drover("frontdoor", "config", f"--config={self.conf}").stdout)
        self.log = open(self.dir / "haproxy.log", "ab")
        self.child = None
        self.start()

    def _loadings(self):
        return (self.dir / "haproxy.log").read_text().count("Loading success")

    def start(self):
        before = self._loadings()
        self.child = subprocess.Popen(["/usr/sbin/haproxy", "-W", "-f", self.cfg], stdin=subprocess.DEVNULL,
                                      stdout=self.log, stderr=self.log, start_new_session=True,
                                      preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))

        def up():
            assert self.child.poll() is None, (self.dir / "haproxy.log").read_text()
            # The worker may answer before its master listens to signals.
            return self._loadings() > before and "Uptime_sec" in self.ask("show info")
        wait_for(up, 20, "HAProxy")

    def ask(self, command):
        """One command to its admin socket."""
        with socket.socket(socket.AF_UNIX) as s:
            try:
                s.connect(str(self.socket))
                s.sendall(command.encode() + b"\n")
                return b"".join(iter(lambda: s.recv(65536), b"")).decode()
            except OSError:
                return ""

    def server_state(self, backend, server):
        for line in self.ask("show stat").splitlines():
            fields = line.split(",")
            if fields[:2] == [backend, server]:
                return fields[17]
        return None

    def workers(self):
        out = subprocess.run(["pgrep", "-P", str(self.child.pid)], text=True, capture_output=True).stdout
        return {int(pid) for pid in out.split()}

    def reload(self):
        """A new worker process takes over; the old one keeps its connections."""
        workers, loadings = self.workers(), self._loadings()
        sent = [0.0]

        def done():
            if time.monotonic() - sent[0] > 3:  # HAProxy forgets a signal that comes right after its start
                self.child.send_signal(signal.SIGUSR2)
                sent[0] = time.monotonic()
            return self._loadings() > loadings and self.workers() - workers and self.ask("show info")

        wait_for(done, 60, "The new worker of HAProxy")

    def rotate(self):
        return drover("frontdoor", "rotate", f"--config={self.conf}")

    def kill(self):
        """As a crash would end it, with all connections."""
        os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait(20)

    def stop(self):
        if self.child.poll() is None:
            self.kill()
        self.log.close()
        self.socket.unlink(missing_ok=True)
        self.run_dir.rmdir()


def context(pki_ca, pem=None):
    c = ssl.create_default_context(cafile=str(pki_ca))
    if pem:
        c.load_cert_chain(str(pem))
    return c


def knock(port, server_name, tls, send=b"", check_name=True):
    """What comes back first through the front door, and the serial number of the certificate there. Errors are raised."""
    tls.check_hostname = check_name
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
        with tls.wrap_socket(raw, server_hostname=server_name) as s:
            serial = s.getpeercert()["serialNumber"]
            if send:
                s.sendall(send)
            answer = s.recv(4096)
            if not answer:
                raise ConnectionResetError("closed without a word")
            return answer, serial


class Pump:
    """A private Unix socket each of whose connections is carried on in TLS: libnbd's own TLS has no say here."""

    def __init__(self, path, port, server_name, make_context):
        self.path, self.port, self.server_name, self.make_context = path, port, server_name, make_context
        self.loop = asyncio.new_event_loop()
        self.serials = []
        started = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self.thread.start()
        started.wait(10)

    def _run(self, started):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_unix_server(self._serve, str(self.path), limit=1 << 20))
        started.set()
        self.loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    async def _serve(self, reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.make_context(),
                                                                   server_hostname=self.server_name, limit=1 << 20)
        except OSError:  # an SSLError, too
            writer.close()
            return
        self.serials.append(far_writer.get_extra_info("peercert")["serialNumber"])
        await asyncio.gather(self._carry(reader, far_writer), self._carry(far_reader, writer), return_exceptions=True)

    @staticmethod
    async def _carry(reader, writer):
        try:
            while data := await reader.read(1 << 18):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.path.unlink(missing_ok=True)
