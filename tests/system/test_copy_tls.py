# SPDX-License-Identifier: Apache-2.0
"""The copy engine over TLS: against HAProxy with mutual TLS, nbdkit's own TLS, and servers that should be refused."""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from fleet import ROOT, free_port, wait_for
from lib_tls import Authority, Proxy

DROVER_COPY = Path(os.environ.get("DROVER_BIN") or ROOT / "build/release/bin") / "drover-copy"
MIB = 1 << 20


def run(*args):
    return subprocess.run([DROVER_COPY, "--log-format=text", *map(str, args)], text=True, capture_output=True, timeout=120)


def make_disk(path, size):
    with open(path, "wb") as file:
        file.truncate(size)
        for at in range(0, size, 2 * MIB):
            file.seek(at)
            file.write(os.urandom(min(MIB, size - at)))
    return path


def same(a, b):
    return subprocess.run(["cmp", "-s", a, b]).returncode == 0


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    """One authority, certificates made when first asked for."""
    authority = Authority(tmp_path_factory.mktemp("pki") / "ca")
    authority.issue("server", "DNS:localhost,IP:127.0.0.1")
    authority.options = authority.client()
    return authority


@pytest.fixture(scope="module")
def other_ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("pki") / "other", "Somebody else")


class Place:
    """A directory with a source, a target behind nbdkit, and what was started."""

    def __init__(self, directory):
        self.dir = directory
        self.children = []
        self.source = make_disk(directory / "s.raw", 40 * MIB)
        self.target = directory / "t.raw"
        self.target.touch()
        os.truncate(self.target, 40 * MIB)

    def spawn(self, *args, **options):
        child = subprocess.Popen([str(a) for a in args], **options)
        self.children.append(child)
        return child

    def nbdkit(self, *args, name="nbd.sock"):
        """Address for HAProxy."""
        path = self.dir / name
        path.unlink(missing_ok=True)
        self.spawn("nbdkit", "-f", "-U", path, *(args or ("file", self.target)), stderr=subprocess.DEVNULL)
        wait_for(path.exists, 10, "nbdkit's socket")
        return f"unix@{path}"

    def nbdkit_tcp(self, *args):
        port = free_port()
        child = self.spawn("nbdkit", "-f", "-i", "127.0.0.1", "-p", port, *args, stderr=subprocess.DEVNULL)

        def listens():
            assert child.poll() is None
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", port)) == 0
        wait_for(listens, 10, "nbdkit")
        return port

    def proxy(self, ca, crt=None, authority="same", server=None, **options):
        proxy = Proxy(self.dir, crt or ca.dir / "server.pem", ca.ca if authority == "same" else authority,
                      server or self.nbdkit(), **options)
        self.children.append(proxy)
        return proxy

    def report(self):
        return json.loads((self.dir / "report").read_text())


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    yield place
    for child in reversed(place.children):
        child.kill()
        if isinstance(child, subprocess.Popen):
            child.wait()
    shutil.rmtree(tmp_path, ignore_errors=True)


def refused(done, code):
    assert done.returncode == 2 and code in done.stderr, (code, done.returncode, done.stderr)


def test_both_ends_over_mutual_tls(place, ca):
    proxy = place.proxy(ca)
    source = place.nbdkit("-r", "file", place.source, name="source.sock")
    other = place.dir / "source"
    other.mkdir()
    front = Proxy(other, ca.dir / "server.pem", ca.ca, source)
    place.children.append(front)
    done = run(*ca.options, "--connections=4", "--verify", f"--report={place.dir / 'report'}", front.uri("127.0.0.1"), proxy.uri())
    assert done.returncode == 0, done.stderr
    assert same(place.source, place.target)
    for tls in place.report()["tls"].values():
        assert tls["by"] in ("openssl", "ktls", "ktls-send") and tls["version"] == "TLSv1.3" and tls["handshakes"] >= 4
        if " aes " in Path("/proc/cpuinfo").read_text():
            assert "AES" in tls["cipher"] and "GCM" in tls["cipher"]


def test_older_tls_only_when_it_is_allowed(place, ca):
    proxy = place.proxy(ca, more="ssl-max-ver TLSv1.2")
    refused(run(*ca.options, place.source, proxy.uri()), "DRV-TLS-VERSION")
    done = run(*ca.options, "--tls-min=1.2", f"--report={place.dir / 'report'}", place.source, proxy.uri())
    assert done.returncode == 0, done.stderr
    assert place.report()["tls"]["target"]["version"] == "TLSv1.2"
    assert same(place.source, place.target)


def test_server_certificates_that_are_refused(place, ca, other_ca):
    ca.issue("old", "DNS:localhost", start="-3d", end="-1d")
    ca.issue("young", "DNS:localhost", start="+1d", end="+3d")
    other_ca.issue("server", "DNS:localhost")
    other_ca.issue("ours", "DNS:elsewhere.example,DNS:*.other.example")
    proxy = place.proxy(ca)
    uri = proxy.uri()
    cases = [
        ("wrong name", ca.dir / "server.pem", uri, [*ca.options, "--tls-name=another.example"], "DRV-TLS-NAME", "localhost"),
        ("wrong address", ca.dir / "server.pem", proxy.uri("127.0.0.2"), ca.options, "DRV-TLS-NAME", "127.0.0.1"),
        ("expired", ca.dir / "old.pem", uri, ca.options, "DRV-TLS-EXPIRED", "until 20"),
        ("not yet", ca.dir / "young.pem", uri, ca.options, "DRV-TLS-EXPIRED", "not valid yet"),
        ("foreign", other_ca.dir / "server.pem", uri, ca.options, "DRV-TLS-CA", "tls-ca"),
        ("a client's", ca.dir / "client.pem", uri, ca.options, "DRV-TLS-CERTIFICATE", "purpose"),
        ("system's authorities", ca.dir / "server.pem", uri, [], "DRV-TLS-CA", "tls-ca"),
    ]
    for what, crt, where, options, code, text in cases:
        proxy.kill()
        proxy.configure(crt, ca.ca, f"unix@{place.dir / 'nbd.sock'}")
        if "127.0.0.2" in where:
            config = place.dir / "haproxy.cfg"
            config.write_text(config.read_text().replace(f"bind 127.0.0.1:{proxy.port}", f"bind :{proxy.port}"))
        proxy.start()
        done = run(*options, place.source, where)
        refused(done, code)
        assert text in done.stderr, (what, done.stderr)


def test_client_certificates_that_are_refused(place, ca, other_ca):
    proxy = place.proxy(ca)
    old = ca.issue("expired", start="-3d", end="-1d")
    stranger = other_ca.issue("stranger")
    key = ca.dir / "client.key"
    cases = [
        ([f"--tls-ca={ca.ca}"], "DRV-TLS-CLIENT", "none is configured"),
        ([f"--tls-ca={ca.ca}", f"--tls-cert={old}", f"--tls-key={old.with_suffix('.key')}"], "DRV-TLS-CLIENT", "expired"),
        ([f"--tls-ca={ca.ca}", f"--tls-cert={stranger}", f"--tls-key={stranger.with_suffix('.key')}"], "DRV-TLS-CLIENT",
         "authority"),
        ([f"--tls-ca={ca.ca}", f"--tls-cert={stranger}", f"--tls-key={key}"], "DRV-TLS-FILES", "mismatch"),
        ([f"--tls-ca={ca.ca}", f"--tls-cert={ca.dir / 'none.crt'}"], "DRV-TLS-FILES", "No such file"),
        ([f"--tls-ca={key}"], "DRV-TLS-FILES", "authorities"),
    ]
    for options, code, text in cases:
        done = run(*options, place.source, proxy.uri())
        refused(done, code)
        assert text in done.stderr, done.stderr
    assert run(f"--tls-key={key}", place.source, proxy.uri()).returncode == 2
    assert same(place.target, "/dev/null") is False and place.target.read_bytes().count(0) == 40 * MIB


def test_a_door_without_a_server_is_tried_again(place, ca):
    """Refused after the handshake, as a front door does with roles it does not let in."""
    proxy = place.proxy(ca, server=f"unix@{place.dir / 'nobody'}")
    done = run(*ca.options, "--connect-timeout=1s", place.source, proxy.uri())
    assert done.returncode == 3 and "DRV-COPY-CONNECT" in done.stderr and "after the TLS handshake" in done.stderr


class Listener:
    """Takes connections, answers GREETING at once, and keeps what was sent to it."""

    def __init__(self, greeting):
        self.heard = b""
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.greeting = greeting
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            connection.settimeout(0.5)
            try:
                connection.sendall(self.greeting)
                while data := connection.recv(65536):
                    self.heard += data
            except OSError:
                pass
            connection.close()


@pytest.mark.parametrize("greeting", [b"NBDMAGICIHAVEOPT\0\3", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"220 mail.example ESMTP\r\n"])
@pytest.mark.parametrize("scheme", ["nbd+tls", "nbds"])
def test_nothing_is_ever_said_in_plain_text(place, ca, greeting, scheme):
    listener = Listener(greeting)
    done = run(*ca.options, "--connect-timeout=1s", place.source, f"{scheme}://localhost:{listener.port}/secret-export")
    listener.server.close()
    if scheme == "nbds" and greeting.startswith(b"NBD"):
        # It waits for an answer to STARTTLS, in vain.
        assert done.returncode == 3 and listener.heard.endswith(b"IHAVEOPT\0\0\0\5\0\0\0\0"), listener.heard
        assert "DRV-COPY-CONNECT" in done.stderr, done.stderr
    else:
        refused(done, "DRV-TLS-PLAIN")
    assert b"secret-export" not in listener.heard and listener.heard.count(b"IHAVEOPT") <= (scheme == "nbds") * 10
    if scheme == "nbd+tls":
        assert listener.heard[:1] == b"\x16"


@pytest.mark.parametrize("scheme,greeting,owed", [("nbds", b"", "NBD's greeting"), ("nbds", b"NBDMAGIC", "NBD's greeting"),
                                                  ("nbds", b"NBDMAGICIHAVEOPT\0\3", "an answer to NBD_OPT_STARTTLS"),
                                                  ("nbd+tls", b"", "its part of the TLS handshake")])
def test_a_server_that_falls_silent_is_given_up_by_the_deadline(place, ca, scheme, greeting, owed):
    """It takes the connection and then owes something for ever: worth another try, and the message says what it owes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = []

        def serve():
            try:
                while True:
                    taken.append(server.accept()[0])
                    taken[-1].sendall(greeting)
            except OSError:
                pass
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        done = run(*ca.options, "--connect-timeout=1s", f"--report={place.dir / 'report'}", place.source,
                   f"{scheme}://localhost:{server.getsockname()[1]}/x")
        server.shutdown(socket.SHUT_RDWR)
    thread.join(10)
    for connection in taken:
        connection.close()
    error = place.report()["error"]
    assert done.returncode == 3 and len(taken) >= 1
    assert error["class"] == "retryable" and error["code"] == "DRV-COPY-CONNECT" and error["message"].endswith(f"owes {owed}"), error


def test_a_plain_server_is_refused(place, ca):
    port = place.nbdkit_tcp("file", place.target)
    for uri in (f"nbd+tls://localhost:{port}/", f"nbds://localhost:{port}/"):
        done = run(*ca.options, place.source, uri)
        refused(done, "DRV-TLS-PLAIN")
        assert "plain text" in done.stderr
    # Options of TLS with two plain ends are a mistake, too.
    assert run(*ca.options, place.source, f"nbd://localhost:{port}/").returncode == 1


def test_starttls(place, ca, other_ca):
    """nbds:// against nbdkit's own TLS (GnuTLS)."""
    pki = place.dir / "pki"
    pki.mkdir()
    for source, name in ((ca.ca, "ca-cert.pem"), (ca.dir / "server.crt", "server-cert.pem"), (ca.dir / "server.key", "server-key.pem"),
                         (ca.dir / "client.crt", "client-cert.pem"), (ca.dir / "client.key", "client-key.pem")):
        shutil.copy(source, pki / name)
    port = place.nbdkit_tcp("--tls=require", f"--tls-certificates={pki}", "--tls-verify-peer", "file", place.target)
    uri = f"nbds://localhost:{port}/"
    done = run(*ca.options, "--verify", f"--report={place.dir / 'report'}", place.source, uri)
    assert done.returncode == 0, done.stderr
    assert same(place.source, place.target)
    assert place.report()["tls"]["target"]["version"] == "TLSv1.3"
    # The files as nbdcopy finds them.
    assert run(place.source, f"{uri}?tls-certificates={pki}").returncode == 0
    refused(run(place.source, f"{uri}?tls-certificates={pki}&tls-hostname=another.example"), "DRV-TLS-NAME")
    refused(run(f"--tls-ca={other_ca.ca}", *ca.options[1:], place.source, uri), "DRV-TLS-CA")
    socket_path = place.dir / "tls.sock"
    place.spawn("nbdkit", "-f", "-U", socket_path, "--tls=require", f"--tls-certificates={pki}", "file", place.target,
                stderr=subprocess.DEVNULL)
    wait_for(socket_path.exists, 10, "nbdkit's socket")
    done = run(*ca.options, "--tls-name=localhost", place.source, f"nbds+unix:///?socket={socket_path}")
    assert done.returncode == 0, done.stderr
    assert same(place.source, place.target)


def start_slow(place, *args, rate="12M"):
    return subprocess.Popen([DROVER_COPY, "--log-format=text", "--progress=json", f"--rate={rate}", "--verify",
                             f"--report={place.dir / 'report'}", *map(str, args)], stderr=subprocess.PIPE, text=True)


def wait_until_moving(child):
    """Reads its progress until data is on its way; the rest of its output stays in the pipe."""
    lines = []
    for line in child.stderr:
        lines.append(line)
        if line.startswith("{") and json.loads(line)["done_bytes"] + json.loads(line)["in_flight_bytes"] > 2 * MIB:
            return
    pytest.fail("the copy ended early: " + "".join(lines))


def test_a_killed_proxy_is_ridden_out_with_tickets(place, ca):
    proxy = place.proxy(ca)
    child = start_slow(place, *ca.options, place.source, proxy.uri())
    wait_until_moving(child)
    proxy.kill()
    time.sleep(0.3)
    proxy.start()
    _, stderr = child.communicate(timeout=100)
    assert child.returncode == 0, stderr
    assert same(place.source, place.target)
    report = place.report()
    assert report["reconnects"] >= 1 and report["tls"]["target"]["resumed"] >= 1, report


def test_rotated_certificates_count_at_the_next_connection(place, ca, other_ca):
    """The authority changes while the copy runs: new files under the old names, then the proxy takes only those."""
    files = {"ca": ca.ca, "crt": ca.dir / "client.crt", "key": ca.dir / "client.key"}
    for name, path in files.items():
        shutil.copy(path, place.dir / name)
    options = [f"--tls-ca={place.dir / 'ca'}", f"--tls-cert={place.dir / 'crt'}", f"--tls-key={place.dir / 'key'}"]
    proxy = place.proxy(ca)
    child = start_slow(place, *options, place.source, proxy.uri())
    wait_until_moving(child)
    other_ca.issue("server", "DNS:localhost")
    other_ca.issue("client")
    proxy.kill()
    # For a moment certificate and key do not belong together.
    shutil.copy(other_ca.ca, place.dir / "ca")
    shutil.copy(other_ca.dir / "client.crt", place.dir / "crt")
    proxy.configure(other_ca.dir / "server.pem", other_ca.ca, f"unix@{place.dir / 'nbd.sock'}")
    proxy.start()
    time.sleep(0.5)
    shutil.copy(other_ca.dir / "client.key", place.dir / "key")
    _, stderr = child.communicate(timeout=100)
    assert child.returncode == 0, stderr
    assert same(place.source, place.target)


def test_a_refusal_after_a_reconnect_ends_the_copy(place, ca, other_ca):
    other_ca.issue("server", "DNS:localhost")
    proxy = place.proxy(ca)
    child = start_slow(place, *ca.options, place.source, proxy.uri())
    wait_until_moving(child)
    proxy.kill()
    proxy.configure(other_ca.dir / "server.pem", ca.ca, f"unix@{place.dir / 'nbd.sock'}")
    proxy.start()
    _, stderr = child.communicate(timeout=100)
    assert child.returncode == 2 and "DRV-TLS-CA" in stderr, stderr


def test_a_stalled_proxy_counts_as_lost(place, ca):
    proxy = place.proxy(ca)
    child = start_slow(place, *ca.options, "--stall-timeout=1s", place.source, proxy.uri())
    wait_until_moving(child)
    proxy.child.send_signal(signal.SIGSTOP)
    wait_for(lambda: "copy.lost" in child.stderr.readline(), 60, "the loss")
    proxy.child.send_signal(signal.SIGCONT)
    _, stderr = child.communicate(timeout=100)
    assert child.returncode == 0, stderr
    assert same(place.source, place.target)
