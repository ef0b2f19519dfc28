# SPDX-License-Identifier: Apache-2.0
"""The front door: certificates of `drover pki`, HAProxy as `drover frontdoor` sets it up, nbdkit and Kafka behind it."""

import http.server
import json
import os
import random
import signal
import socket
import ssl
import stat
import subprocess
import threading
import time
from pathlib import Path

import confluent_kafka
import nbd
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from fleet import KAFKA, ROOT, Fleet, free_port, wait_for
from observe import job_hash, make_raw, same_content, volume_path, wait_job
from lib_exports import MIB, TOKEN, Server, name
from lib_frontdoor import BIN, NBD_NAME, REST_NAME, Frontdoor, Pki, Pump, context, drover, knock

NBD_GREETING = b"NBDMAGIC"
REFUSALS = (ssl.SSLError, ConnectionError, EOFError)


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    p = Pki(tmp_path_factory.mktemp("pki"))
    p.issue("frontdoor", "frontdoor", dns=[NBD_NAME, REST_NAME])
    p.issue("w1", "worker", site="site-1")
    p.issue("op", "operator")
    return p


@pytest.fixture
def server(tmp_path):
    s = Server(tmp_path)
    yield s
    s.stop()


@pytest.fixture
def make_door(tmp_path):
    doors = []

    def make(pki, **options):
        doors.append(Frontdoor(tmp_path / f"door-{len(doors)}", pki, **options))
        return doors[-1]

    yield make
    for door in doors:
        door.stop()


@pytest.fixture(params=["alone", "beside Kafka"])
def beside(request):
    """Options with and without brokers: without them there is no passage in front of the end of TLS."""
    return {"kafka": "kafka.example=127.0.0.1:9"} if request.param == "beside Kafka" else {}


@pytest.fixture
def door(make_door, pki, server, beside):
    return make_door(pki, nbd=f"{NBD_NAME}=127.0.0.1:{server.port}", sites="site-1,site-2", **beside)


@pytest.fixture
def make_pump(tmp_path):
    pumps = []

    def make(door, pem):
        pumps.append(Pump(tmp_path / f"pump-{len(pumps)}.sock", door.port, NBD_NAME, lambda: context(door.pki.ca, pem)))
        return pumps[-1]

    yield make
    for pump in pumps:
        pump.stop()


# ---- certificates


def openssl(*args):
    return subprocess.run(["openssl", *map(str, args)], text=True, capture_output=True)


def test_certificates(tmp_path):
    pki = Pki(tmp_path / "pki")
    assert drover("pki", "init", pki.dir, check=False).returncode == 5  # never a second authority over the first
    worker = pki.issue("w1", "worker", site="site-1", days=3)
    front = pki.issue("door", "frontdoor", dns=["nbd.example", "api.example"], ip=["10.0.0.7", "fd00::7"])
    agent = pki.issue("appliance-1", "agent", dns="a.example")
    for path in (worker, front, agent, pki.dir / "ca.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    for purpose, good, bad in (("sslclient", (worker, agent), (front,)), ("sslserver", (front, agent), (worker,))):
        for path in good + bad:
            verdict = openssl("verify", "-x509_strict", "-purpose", purpose, "-CAfile", pki.ca, path).returncode
            assert (verdict == 0) == (path in good), (purpose, path)
    subject = openssl("x509", "-in", worker, "-noout", "-subject", "-nameopt", "RFC2253").stdout
    assert subject.strip() == "subject=CN=w1,OU=worker,O=site-1"
    assert "O=appliance-1" in openssl("x509", "-in", agent, "-noout", "-subject", "-nameopt", "RFC2253").stdout
    for check, wrong in (("-checkhost", "other.example"), ("-checkip", "10.0.0.8")):
        right = {"-checkhost": "api.example", "-checkip": "10.0.0.7"}[check]
        assert "does match" in openssl("x509", "-in", front, "-noout", check, right).stdout
        assert "does NOT match" in openssl("x509", "-in", front, "-noout", check, wrong).stdout
    assert "prime256v1" in openssl("x509", "-in", worker, "-noout", "-text").stdout
    assert worker.read_text().startswith("-----BEGIN PRIVATE KEY-----")  # PKCS #8: what Kafka reads

    table = drover("pki", "show", pki.dir).stdout
    rows = {line.split()[0]: line for line in table.splitlines()}
    assert "site-1" in rows["w1"] and "worker" in rows["w1"] and (" 3 days " in rows["w1"] or " 2 days " in rows["w1"])
    assert "DNS:nbd.example,DNS:api.example,IP:10.0.0.7,IP:fd00::7" in rows["door"] and rows["ca"].split()[1] == "authority"
    assert "expired" in {line.split()[0]: line for line in (
        pki.expired("old", "site-1"), drover("pki", "show", pki.dir).stdout)[1].splitlines()}["old"]


def test_renewal(tmp_path):
    pki = Pki(tmp_path / "pki")
    worker = pki.issue("w1", "worker", site="site-1", days=9)
    front = pki.issue("door", "frontdoor", dns="nbd.example")
    old = pki.expired("old", "site-2")
    before = {path: path.read_bytes() for path in (worker, front, old)}
    assert drover("pki", "renew", pki.dir).stdout == f"{old}\n"  # the only one that is due
    assert worker.read_bytes() == before[worker]
    subject = ("x509", "-noout", "-subject", "-ext", "subjectAltName,extendedKeyUsage", "-in")
    was = {path: openssl(*subject, path).stdout for path in (worker, front)}
    assert sorted(drover("pki", "renew", pki.dir, "--all").stdout.split()) == sorted(map(str, before))
    for path in (worker, front):
        assert openssl(*subject, path).stdout == was[path]
        key, old_key = (text.split(b"-----END PRIVATE KEY-----")[0] for text in (path.read_bytes(), before[path]))
        assert key != old_key
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert openssl("verify", "-CAfile", pki.ca, path).returncode == 0
    left = {line.split()[0]: line for line in drover("pki", "show", pki.dir).stdout.splitlines()}
    assert "9 days" in left["w1"] or "8 days" in left["w1"]


@pytest.mark.parametrize("args, word", [
    (["--role=worker", "--name=w"], "--site"),
    (["--role=worker", "--name=w", "--site=Site_1"], "site"),
    (["--role=kafka", "--name=k"], "--dns"),
    (["--role=kafka", "--name=k", "--dns=a,DNS:b"], "DNS name"),
    (["--role=kafka", "--name=k", "--ip=10.0.0"], "IP address"),
    (["--role=king", "--name=k"], "one of worker"),
    (["--role=operator", "--name=../x"], "name"),
    (["--role=operator"], "--name"),
    (["--role=operator", "--name=x", "--days=-1"], "--days"),
])
def test_what_is_not_issued(pki, args, word):
    before = sorted(os.listdir(pki.dir))
    done = drover("pki", "issue", pki.dir, *args, check=False)
    assert done.returncode == 2 and word in done.stderr
    assert sorted(os.listdir(pki.dir)) == before


@pytest.mark.parametrize("option, value, word", [
    ("nbd", "a.example", "SERVER-NAME=ADDRESS"), ("nbd", "a.example=1.2.3.4:5 }", "not allowed"),
    ("nbd", "a.example=127.0.0.1:1,A.example=127.0.0.1:2", "twice"), ("certificate", "/x y", "not allowed"),
    ("sites", "site 1", "site"), ("nbd", "", "nowhere"),
])
def test_no_configuration_with_mistakes(option, value, word):
    flags = {"nbd": "a.example=127.0.0.1:1", option: value}
    done = drover("frontdoor", "config", *(f"--frontdoor-{k}={v}" for k, v in flags.items()), check=False)
    assert done.returncode == 2 and word in done.stderr and not done.stdout


def test_the_example_is_what_is_made():
    directory = ROOT / "deploy/frontdoor"
    made = drover("frontdoor", "config", f"--config={directory / 'drover.conf'}").stdout
    assert made == (directory / "haproxy.cfg").read_text()


# ---- who gets in


def test_who_gets_in(door, pki, server, tmp_path):
    greeting, _ = knock(door.port, NBD_NAME, context(pki.ca, pki.dir / "w1.pem"))
    assert greeting.startswith(NBD_GREETING)

    stranger = Pki(tmp_path / "stranger")
    refused = {
        "no certificate": context(pki.ca),
        "wrong CA": context(pki.ca, stranger.issue("w1", "worker", site="site-1")),
        "expired": context(pki.ca, pki.expired("late", "site-1")),
        "another site": context(pki.ca, pki.once("w3", "worker", site="site-3")),
        "a site whose name begins alike": context(pki.ca, pki.once("w10", "worker", site="site-10")),
        "another role": context(pki.ca, pki.dir / "op.pem"),
        "an agent of that site": context(pki.ca, pki.once("a1", "agent", site="site-1", dns="a1.example")),
        "only good for servers": context(pki.ca, pki.dir / "frontdoor.pem"),
    }
    for why, tls in refused.items():
        with pytest.raises(REFUSALS):
            pytest.fail(f"{why}: let in with {knock(door.port, NBD_NAME, tls)[0]}")
    assert server.ask("ping")[0] == "ok"
    for subject in ("/O=site-1/OU=worker/CN=w1", "/O=site-3/OU=worker/CN=w3", "/OU=operator/CN=op"):
        line = wait_for(lambda: next((line for line in (door.dir / "haproxy.log").read_text().splitlines()
                                      if f'name={NBD_NAME} client="{subject}"' in line), None), 20, "The log line")
        assert (" PR " in line) == ("CN=w1" not in subject), line
    # The door proves itself, too: another authority, another name.
    with pytest.raises(ssl.SSLCertVerificationError):
        knock(door.port, NBD_NAME, context(stranger.ca, pki.dir / "w1.pem"))
    for wrong in ("other.example", REST_NAME, None):  # nobody lives there, or nobody is asked for
        with pytest.raises(REFUSALS):
            knock(door.port, wrong, context(pki.ca, pki.dir / "w1.pem"), check_name=False)
    # A name that leads in, and is not in the certificate.
    door.cfg.write_text(door.cfg.read_text().replace(NBD_NAME, "alias.example"))
    door.reload()
    with pytest.raises(ssl.SSLCertVerificationError):
        knock(door.port, "alias.example", context(pki.ca, pki.dir / "w1.pem"))
    assert knock(door.port, "alias.example", context(pki.ca, pki.dir / "w1.pem"), check_name=False)[0]


def test_a_session_is_not_resumed(door, pki):
    """A ticket would let a certificate in after its end."""
    tls = context(pki.ca, pki.dir / "w1.pem")
    session = None
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", door.port), timeout=20) as raw:
            with tls.wrap_socket(raw, server_hostname=NBD_NAME, session=session) as s:
                assert s.recv(8) and not s.session_reused
                session = s.session


def test_rest_is_for_operators(make_door, pki, server, beside):
    seen = []

    class Api(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(dict(self.headers))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *args):
            pass

    api = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=api.serve_forever, daemon=True).start()
    try:
        door = make_door(pki, nbd=f"{NBD_NAME}=127.0.0.1:{server.port}", rest=f"{REST_NAME}=127.0.0.1:{api.server_port}",
                         **beside)
        request = f"GET /api/v1/health HTTP/1.1\r\nHost: {REST_NAME}\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n".encode()
        answer, _ = knock(door.port, REST_NAME, context(pki.ca, pki.dir / "op.pem"), request)
        assert b" 200 " in answer.split(b"\r\n")[0] and seen[-1]["x-forwarded-for"] == "127.0.0.1"
        for pem in (pki.dir / "w1.pem", None):
            with pytest.raises(REFUSALS):
                knock(door.port, REST_NAME, context(pki.ca, pem), request)
        with pytest.raises(REFUSALS):  # what opens one door does not open the other
            knock(door.port, NBD_NAME, context(pki.ca, pki.dir / "op.pem"))
        assert len(seen) == 1
    finally:
        api.shutdown()
        api.server_close()


# ---- servers come and go


def test_servers_are_checked_and_come_back(make_door, pki, server, tmp_path):
    door = make_door(pki, nbd=f"{NBD_NAME}=127.0.0.1:{server.port}", check_interval="100ms")
    state = lambda: door.server_state(f"nbd-{NBD_NAME}", "nbdkit") or ""  # noqa: E731
    checks = lambda: int(door.ask("show stat typed").count("L7OK"))  # noqa: E731
    wait_for(lambda: state() == "UP" and checks(), 20, "A check of nbdkit that succeeds")
    server.kill()
    wait_for(lambda: state().startswith("DOWN"), 20, "HAProxy to see that nbdkit is gone")
    with pytest.raises(REFUSALS):
        knock(door.port, NBD_NAME, context(pki.ca, pki.dir / "w1.pem"))
    server.start()
    wait_for(lambda: state() == "UP", 20, "HAProxy to see nbdkit again")
    assert knock(door.port, NBD_NAME, context(pki.ca, pki.dir / "w1.pem"))[0].startswith(NBD_GREETING)
    assert "error" not in (tmp_path / "nbdkit.log").read_text()  # checks take their leave


def connect(pump, export):
    h = nbd.NBD()
    h.set_export_name(export)
    h.connect_unix(str(pump.path))
    return h


def test_an_idle_connection_stays(door, pki, server, make_pump, tmp_path):
    """The minute that a connection has until it leads somewhere is no limit for one that does."""
    text = door.cfg.read_text()
    assert "timeout client 1m" in text and "timeout server 1m" in text
    door.cfg.write_text(text.replace("timeout client 1m", "timeout client 1s").replace("timeout server 1m", "timeout server 1s"))
    door.reload()
    (tmp_path / "disk.raw").write_bytes(bytes(MIB))
    assert server.open("v1", 1, TOKEN, tmp_path / "disk.raw") == "ok"
    h = connect(make_pump(door, pki.dir / "w1.pem"), name("v1", 1))
    # One that does not show a certificate meanwhile is thrown out: the time has passed.
    with socket.create_connection(("127.0.0.1", door.port), timeout=30) as silent:
        assert silent.recv(1) == b""
    time.sleep(1.5)
    h.pwrite(b"still here" + bytes(502), 0)
    h.flush()


def test_certificates_are_renewed_under_open_connections(make_door, server, make_pump, tmp_path):
    pki = Pki(tmp_path / "pki")
    pki.issue("frontdoor", "frontdoor", dns=NBD_NAME)
    worker = pki.issue("w1", "worker", site="site-1")
    door = make_door(pki, nbd=f"{NBD_NAME}=127.0.0.1:{server.port}")
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(8 * MIB))
    assert server.open("v1", 1, TOKEN, disk) == "ok"
    pump = make_pump(door, worker)
    h = connect(pump, name("v1", 1))
    h.pwrite(b"before" + bytes(506), 0)
    _, serial = knock(door.port, NBD_NAME, context(pki.ca, worker))

    pki.renew("frontdoor", "w1")
    assert knock(door.port, NBD_NAME, context(pki.ca, worker))[1] == serial  # not yet handed over
    door.rotate()
    h.pwrite(b"after" + bytes(507), 512)
    assert knock(door.port, NBD_NAME, context(pki.ca, worker))[1] != serial
    door.reload()  # the file says the same
    h.pwrite(b"reload" + bytes(506), 1024)
    h.flush()

    # What HAProxy cannot use is refused, and it goes on.
    good = (pki.dir / "frontdoor.pem").read_text()
    (pki.dir / "frontdoor.pem").write_text(good[:len(good) // 2])
    done = drover("frontdoor", "rotate", f"--config={door.conf}", check=False)
    assert done.returncode == 5 and "refuses" in done.stderr and "PRIVATE KEY" not in done.stderr
    assert knock(door.port, NBD_NAME, context(pki.ca, worker))[0].startswith(NBD_GREETING)

    (pki.dir / "frontdoor.pem").write_text(good)
    pki.renew("frontdoor")
    door.rotate()
    assert knock(door.port, NBD_NAME, context(pki.ca, worker))[1] != serial

    # Another authority takes a reload; who was let in by the old one stays in.
    both = pki.ca.read_text()
    other = Pki(tmp_path / "other")
    newcomer = other.issue("w1", "worker", site="site-1")
    for authorities, inside, outside in ((both + other.ca.read_text(), (worker, newcomer), ()),
                                         (other.ca.read_text(), (newcomer,), (worker,))):
        (tmp_path / "ca.new").write_text(authorities)
        (tmp_path / "ca.new").replace(pki.ca)
        done = drover("frontdoor", "rotate", f"--config={door.conf}", check=False)
        assert done.returncode == 5 and "reload" in done.stderr
        door.reload()
        door.rotate()
        (tmp_path / "own-ca.crt").write_text(both)
        for pem in inside:
            assert knock(door.port, NBD_NAME, context(tmp_path / "own-ca.crt", pem))[0].startswith(NBD_GREETING)
        for pem in outside:
            with pytest.raises(REFUSALS):
                knock(door.port, NBD_NAME, context(tmp_path / "own-ca.crt", pem))
    h.pwrite(b"still" + bytes(507), 1536)
    data = disk.read_bytes()
    assert (data[:6], data[512:517], data[1536:1541]) == (b"before", b"after", b"still")


def test_a_copy_outlives_restarts_and_renewals(make_door, server, tmp_path, work):
    """HAProxy dies and comes back, is reloaded, gets new certificates; nbdkit dies and comes back: the copy completes."""
    pki = Pki(tmp_path / "pki")
    pki.issue("frontdoor", "frontdoor", dns=NBD_NAME)
    worker = pki.issue("w1", "worker", site="site-1")
    door = make_door(pki, nbd=f"{NBD_NAME}=127.0.0.1:{server.port}", kafka="kafka.example=127.0.0.1:9")
    size = 256 * MIB
    source, target = work / "frontdoor-source.raw", work / "frontdoor-target.raw"
    rng = random.Random(7)
    with open(source, "wb") as f:
        f.truncate(size)
        for at in range(0, size, MIB):
            if rng.random() < 0.8:
                f.seek(at)
                f.write(rng.randbytes(MIB))
    with open(target, "wb") as f:
        f.truncate(size)
    assert server.open("v1", 1, TOKEN, target) == "ok"
    (tmp_path / "token").write_text(f"1.{TOKEN}")
    (tmp_path / "token").chmod(0o600)
    copy = subprocess.Popen([BIN / "drover-copy", "--log-format=json", "--rate=24M", "--verify", f"--report={tmp_path / 'report'}",
                             f"--token-file={tmp_path / 'token'}", f"--tls-ca={pki.ca}", f"--tls-cert={worker}",
                             f"--tls-name={NBD_NAME}", source, f"nbd+tls://127.0.0.1:{door.port}/migration-vol-v1"],
                            stdout=subprocess.DEVNULL, stderr=open(tmp_path / "copy.log", "wb"))

    def more():
        """Waits until the copy has got on."""
        base = server.stat().get("v1", {}).get("written", 0)
        wait_for(lambda: copy.poll() is not None or server.stat().get("v1", {}).get("written", 0) > base + 8 * MIB, 40,
                 "The copy to go on")
        assert copy.poll() is None, f"ended too soon: {(tmp_path / 'copy.log').read_text()}"

    try:
        more()
        door.kill()
        time.sleep(0.3)
        door.start()
        more()
        server.kill()
        time.sleep(0.3)
        server.start()
        assert server.open("v1", 1, TOKEN, target) == "ok"
        more()
        pki.renew("frontdoor", "w1")
        door.rotate()
        door.kill()
        door.start()
        more()
        door.reload()
        more()
        assert copy.wait(120) == 0, (tmp_path / "copy.log").read_text()
    finally:
        if copy.poll() is None:
            copy.send_signal(signal.SIGKILL)
            copy.wait()
    report = json.loads((tmp_path / "report").read_text())
    assert report["complete"] and report["verified"], report
    with open(source, "rb") as a, open(target, "rb") as b:
        while chunk := a.read(MIB):
            assert chunk == b.read(MIB)
    assert TOKEN not in (tmp_path / "copy.log").read_text() + "".join(p.read_text() for p in tmp_path.glob("door-*/haproxy.log"))
    source.unlink()
    target.unlink()


# ---- Kafka


@pytest.fixture
def make_broker(pki, work):
    """A broker that wants client certificates on its listener behind the door, knows clients by their subjects, and obeys
    the operator alone."""
    fleet = Fleet(work / "tls-broker")

    def make(outside):
        """Starts it, for clients that come in through port OUTSIDE; the port of its listener behind the door."""
        directory = fleet.dir / "kafka"
        for sub in (directory, fleet.dir / "log", fleet.dir / "tmp"):
            sub.mkdir(parents=True)
        pem = pki.issue("kafka-1", "kafka", dns="localhost")
        inside, plain, controller = free_port(), free_port(), free_port()
        (directory / "more.properties").write_text(f"""
listeners=FRONTDOOR://127.0.0.1:{inside},PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=FRONTDOOR://localhost:{outside},PLAINTEXT://127.0.0.1:{plain}
controller.quorum.voters=1@127.0.0.1:{controller}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,FRONTDOOR:SSL
listener.name.frontdoor.ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location={pem}
ssl.truststore.type=PEM
ssl.truststore.location={pki.ca}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:CN=op,OU=operator
""")
        subprocess.run([KAFKA, "fetch"], stdin=subprocess.DEVNULL, check=True, timeout=600)
        process = fleet._run("kafka", [KAFKA, "run", directory, plain])
        subprocess.run([KAFKA, "wait", directory], check=True, timeout=90, stdout=subprocess.DEVNULL)
        assert process.running(), process.tail()
        return inside

    yield make
    fleet.stop()


def create_topic(port, pki, pem, topic, seconds=10):
    conf = {"bootstrap.servers": f"localhost:{port}", "security.protocol": "ssl", "ssl.ca.location": str(pki.ca),
            "socket.timeout.ms": seconds * 1000, "log_level": 0}
    if pem:
        conf |= {"ssl.certificate.location": str(pem), "ssl.key.location": str(pem)}
    admin = AdminClient(conf)  # the request ends with it
    future = admin.create_topics([NewTopic(topic, 1, 1)], request_timeout=seconds)[topic]
    try:
        return future.result(30) or "created"
    except confluent_kafka.KafkaException as e:
        return e.args[0].name()


def test_kafka_sees_the_client_through_the_door(make_door, make_broker, pki, tmp_path):
    port = free_port()
    inside = make_broker(port)
    door = make_door(pki, kafka=f"localhost=127.0.0.1:{inside}", port=port)
    assert create_topic(port, pki, pki.dir / "op.pem", "t1") == "created"
    assert create_topic(port, pki, pki.dir / "w1.pem", "t2") == "TOPIC_AUTHORIZATION_FAILED"  # heard, known, not allowed
    assert create_topic(port, pki, None, "t3", 2).startswith("_")  # never gets to speak
    stranger = Pki(tmp_path / "stranger")
    assert create_topic(port, pki, stranger.issue("op", "operator"), "t4", 2).startswith("_")
    door.kill()
    door.start()
    assert create_topic(port, pki, pki.dir / "op.pem", "t5") == "created"


# ---- a fleet


def test_a_migration_goes_through_the_door(make_fleet, make_door, tmp_path, work):
    """Workers that speak TLS only, an agent whose nbdkit they cannot reach otherwise; HAProxy dies in the middle."""
    pki = Pki(tmp_path / "pki")
    pki.issue("frontdoor", "frontdoor", dns="localhost")
    worker = pki.issue("worker-1", "worker", site="site-1")
    nbd_port, port = free_port(), free_port()
    door = make_door(pki, nbd=f"localhost=127.0.0.1:{nbd_port}", port=port)
    fleet = make_fleet(nbd_port=nbd_port, workers=1, settings={
        "agent": {"nbd-public-host": "127.0.0.1", "nbd-public-port": port},  # no name of the certificate, nor one the door knows
        "worker": {"target-tls": "true", "tls-ca": pki.ca, "tls-cert": worker, "tls-name": "localhost"}})
    raw = make_raw(work / "frontdoor.raw", 512, 192, seed=11)
    fleet.drover("migrate", "--source", f"file:{raw}", "--name", "door", "--job-id", "door", "--bandwidth-limit", "48M")
    wait_for(lambda: int(job_hash(fleet, "door").get("bytes_transferred") or 0) > 32 * MIB, 180, "The copy to get on")
    door.kill()
    pki.renew("worker-1", "frontdoor")
    door.start()
    final = wait_job(fleet, "door", seconds=240)
    assert same_content(raw, volume_path(fleet, "door")) is None
    assert final["bytes_transferred"] == final["total_bytes"]
    assert '/O=site-1/OU=worker/CN=worker-1"' in (door.dir / "haproxy.log").read_text()
