# SPDX-License-Identifier: Apache-2.0
"""A client of the volume agent's REST API, and the tokens and certificates that tests give it."""
import hashlib
import http.client
import json
import re
import socket
import ssl
import subprocess
import time
import urllib.parse

import pytest

from fleet import free_port
from lib_agent import AGENT, GIB, AgentLeader, Double

TOKENS = {"reader": ("read", "test-token-of-the-reader"), "operator": ("operate", "test-token-of-the-operator"),
          "chief": ("admin", "test-token-of-the-chief")}


def write_tokens(path, tokens=None):
    """One plain and the rest salted."""
    lines = ["# tokens of the tests", ""]
    for number, (name, (role, token)) in enumerate((TOKENS if tokens is None else tokens).items()):
        salt = "" if number == 0 else f"salt{number}"
        digest = hashlib.sha256((salt + token).encode()).hexdigest()
        lines.append(f"{name} {role} sha256:{salt + ':' if salt else ''}{digest}")
    fresh = path.with_name(path.name + ".new")
    fresh.write_text("\n".join(lines) + "\n")
    fresh.chmod(0o600)
    fresh.replace(path)
    return path


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {self.body[:300]!r}"


class Rest:
    def __init__(self, port, token=TOKENS["chief"][1], context=None, host="127.0.0.1"):
        self.host, self.port, self.token, self.context = host, port, token, context

    def _connect(self, timeout):
        if self.context:
            return http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=self.context)
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def ask(self, method, path, body=None, token="", headers=None, timeout=90, **query):
        """PATH is behind /api/v1. BODY: an object, or bytes as they are."""
        if query:
            path += "?" + urllib.parse.urlencode(query)
        headers = dict(headers or {})
        token = self.token if token == "" else token
        if token:
            headers.setdefault("Authorization", f"Bearer {token}")
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        connection = self._connect(timeout)
        try:
            connection.request(method, "/api/v1" + path, body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def get(self, path, **options):
        return self.ask("GET", path, **options)

    def post(self, path, body=None, **options):
        return self.ask("POST", path, body, **options)

    def done(self, method, path, body=None, **query):
        """A changing request, waited for; its record."""
        answer = self.ask(method, path, body, wait="60s", **query)
        assert answer.status == 200, answer
        assert answer.json["state"] == "done", answer.json
        return answer.json

    def ready(self, timeout=40):
        """Waits until the agent serves requests and has read its log."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                if self.get("/health", token=None).json["log_read"]:
                    return self
            except (OSError, http.client.HTTPException):
                pass
            assert time.monotonic() < deadline, "the REST API does not come up"
            time.sleep(0.05)


def serve(leader, directory, context=None, token=TOKENS["chief"][1], port=None, **options):
    """An agent with a REST API on a free port; (agent, client)."""
    port = port or free_port()
    options.setdefault("rest_listen", f"127.0.0.1:{port}")
    options.setdefault("rest_tokens", write_tokens(directory / "tokens"))
    options.setdefault("rest_rate", 0)
    agent = leader.agent(**options)
    rest = Rest(port, token, context)
    try:
        return agent, rest.ready()
    except AssertionError as error:
        raise AssertionError(f"{error}\n{leader.tail()}") from None


def raw(port, *parts, timeout=60, pause=0.0):
    """Sends PARTS as they are and reads until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as s:
        for part in parts:
            s.sendall(part)
            time.sleep(pause)
        received = b""
        while chunk := s.recv(65536):
            received += chunk
        return received


def client_context(ca, certificate=None, key=None):
    context = ssl.create_default_context(cafile=str(ca))
    context.check_hostname = False
    if certificate:
        context.load_cert_chain(str(certificate), str(key))
    return context


class Pki:
    """An authority, and certificates of it."""

    def __init__(self, directory):
        self.dir, self.ca, self.serial = directory, directory / "ca.crt", 0
        directory.mkdir(parents=True)
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                      "/CN=authority", "-keyout", directory / "ca.key", "-out", self.ca)

    @staticmethod
    def _openssl(*arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

    def issue(self, name, days=2):
        """(certificate, key); issued again, the files are replaced."""
        self.serial += 1
        key, request = self.dir / f"{name}.key", self.dir / f"{name}.csr"
        certificate, extensions = self.dir / f"{name}.crt", self.dir / f"{name}.ext"
        extensions.write_text("subjectAltName=IP:127.0.0.1\n")
        fresh = key.with_suffix(".new"), certificate.with_suffix(".fresh")
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}", "-keyout",
                      fresh[0], "-out", request)
        self._openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.dir / "ca.key", "-set_serial", self.serial,
                      "-days", days, "-extfile", extensions, "-out", fresh[1])
        fresh[0].chmod(0o600)
        fresh[0].replace(key)
        fresh[1].replace(certificate)
        return certificate, key


class Bench:
    """One agent with a REST API, and the world that it works in."""

    def __init__(self, kafka, directory, **options):
        self.dir = directory
        self.cloud = Double(directory / "cloud", appliance=AGENT, speed=8)
        self.leader = AgentLeader(kafka, self.cloud, directory / "agent")
        self.site = self.leader.site
        self.agent, self.rest = serve(self.leader, directory, **options)

    def close(self):
        self.leader.close()
        self.cloud.__exit__()

    def volume(self, attach=False, size=GIB):
        volume = self.rest.done("POST", "/volumes", {"name": "data", "size_bytes": size})["result"]["volume_id"]
        if attach:
            self.rest.done("POST", f"/volumes/{volume}/attach")
        return volume


def problem(answer, status, code=None, field=None):
    """The one error object."""
    assert answer.status == status, answer
    assert answer.headers["Content-Type"] == "application/json"
    about = answer.json
    assert set(about) == {"code", "message", "request_id", "details"} and about["message"], about
    assert re.fullmatch("DRV-[A-Z0-9-]+", about["code"]) and code in (None, about["code"]), about
    assert about["request_id"] == answer.headers["X-Request-Id"]
    assert field in (None, about["details"].get("field")), about
    return about


@pytest.fixture
def own(kafka, tmp_path):
    """own(**options) -> a Bench with an agent of its own."""
    made = []

    def make(**options):
        directory = tmp_path / f"own-{len(made)}"
        directory.mkdir()
        made.append(Bench(kafka, directory, **options))
        return made[-1]

    yield make
    for bench in made:
        bench.close()
