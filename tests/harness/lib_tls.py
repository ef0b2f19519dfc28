# SPDX-License-Identifier: Apache-2.0
"""Certificates by openssl, and an HAProxy that ends TLS in front of an NBD server."""

import base64
import os
import socket
import subprocess

from fleet import free_port, wait_for


def openssl(*args, input=None):
    return subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True, text=True, input=input).stdout


class Authority:
    """A CA in a directory of its own; every certificate is a pair NAME.crt, NAME.key there."""

    def __init__(self, directory, name="Drover test CA"):
        self.dir = directory
        directory.mkdir()
        self.ca = directory / "ca.crt"
        self._key(directory / "ca.key")
        openssl("req", "-x509", "-new", "-key", directory / "ca.key", "-subj", f"/CN={name}", "-days", "2", "-out", self.ca,
                "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    @staticmethod
    def _key(path):
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)

    def issue(self, name, names=None, start="-1d", end="+1d"):
        """A server's certificate for NAMES ("DNS:a,IP:::1"), or a client's. Times are relative, in days."""
        key, request, crt = (self.dir / f"{name}.{e}" for e in ("key", "csr", "crt"))
        self._key(key)
        openssl("req", "-new", "-key", key, "-subj", f"/O=site/OU=worker/CN={name}", "-out", request)
        usage = f"extendedKeyUsage=serverAuth\nsubjectAltName={names}" if names else "extendedKeyUsage=clientAuth"
        (self.dir / f"{name}.ext").write_text(f"[x]\nbasicConstraints=CA:FALSE\n{usage}\n")
        for file, text in (("index.txt", ""), ("ca.cnf", f"[ca]\ndefault_ca=d\n[d]\ndatabase={self.dir}/index.txt\n"
                                               f"new_certs_dir={self.dir}\nrand_serial=yes\ndefault_md=sha256\npolicy=p\n"
                                               "unique_subject=no\n[p]\ncommonName=supplied\norganizationName=optional\n"
                                               "organizationalUnitName=optional\n")):
            (self.dir / file).write_text(text)

        def when(days):
            return subprocess.run(["date", "-u", "-d", f"{days[:-1]} days", "+%Y%m%d%H%M%SZ"], check=True,
                                  capture_output=True, text=True).stdout.strip()
        openssl("ca", "-batch", "-notext", "-config", self.dir / "ca.cnf", "-cert", self.ca, "-keyfile", self.dir / "ca.key",
                "-in", request, "-out", crt, "-startdate", when(start), "-enddate", when(end), "-extfile",
                self.dir / f"{name}.ext", "-extensions", "x")
        (self.dir / f"{name}.pem").write_text(crt.read_text() + key.read_text())
        return crt

    def client(self, name="client", **options):
        """Options of drover-copy."""
        crt = self.issue(name, **options)
        return [f"--tls-ca={self.ca}", f"--tls-cert={crt}", f"--tls-key={crt.with_suffix('.key')}"]


class Proxy:
    """HAProxy: mutual TLS on a port of 127.0.0.1 (authority None: without client certificates), plain to SERVER behind."""

    def __init__(self, directory, crt, authority, server, more="", port=None):
        self.port = port or free_port()
        self.dir = directory
        self.child = None
        keys = directory / "tickets"
        if not keys.exists():
            keys.write_text("".join(base64.b64encode(os.urandom(48)).decode() + "\n" for _ in range(3)))
        self.configure(crt, authority, server, more)
        self.start()

    def configure(self, crt, authority, server, more=""):
        verify = f"ca-file {authority} verify required" if authority else ""
        (self.dir / "haproxy.cfg").write_text(
            "global\n  log stderr format raw daemon\n  hard-stop-after 1s\n"
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n"
            f"frontend f\n  bind 127.0.0.1:{self.port} ssl crt {crt} {verify} tls-ticket-keys {self.dir}/tickets {more}\n"
            f"  default_backend b\nbackend b\n  server s {server}\n")

    def start(self):
        with open(self.dir / "haproxy.log", "ab") as log:
            self.child = subprocess.Popen(["haproxy", "-db", "-f", str(self.dir / "haproxy.cfg")], stdout=log, stderr=log)

        def listens():
            assert self.child.poll() is None, (self.dir / "haproxy.log").read_text()
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", self.port)) == 0
        wait_for(listens, 20, "HAProxy")

    def kill(self):
        self.child.kill()
        self.child.wait()

    def uri(self, host="localhost", export=""):
        return f"nbd+tls://{host}:{self.port}/{export}"
