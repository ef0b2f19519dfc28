# SPDX-License-Identifier: Apache-2.0
"""More clients of the volume agent's REST API than it has connections for, and slower ones than it waits for."""

import concurrent.futures
import http.client
import socket
import time

from lib_agent import GIB
from lib_rest import own  # noqa: F401 (a fixture)


def test_those_who_wait_leave_room_for_others(own):
    bench = own(rest_connections=8)
    bench.cloud.fault("createVolume", "job-delay", count=1, seconds=6)
    bench.rest.post("/volumes", {"name": "x", "size_bytes": GIB}, operation_id="long")
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: bench.rest.get("/operations/long", wait="60s").json["state"], range(6)))
    assert answers.count("done") == 4 and set(answers) <= {"done", "running", "accepted"}, answers


def test_slow_and_many_clients_lock_nobody_out(own):
    bench = own(rest_connections=8, rest_timeout="1s")
    head = f"POST /api/v1/volumes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bench.rest.token}\r\n"
    openings = [b"", b"GET /api", head.encode(), f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode()]
    crowd = [socket.create_connection(("127.0.0.1", bench.rest.port)) for _ in range(40)]
    for number, s in enumerate(crowd):
        try:
            s.sendall(openings[number % len(openings)])
        except OSError:
            pass  # one too many from one address

    # Another address finds room at once, and all through it.
    def ask_from_elsewhere():
        connection = http.client.HTTPConnection("127.0.0.1", bench.rest.port, timeout=30, source_address=("127.0.0.2", 0))
        connection.request("GET", "/api/v1/health")
        status = connection.getresponse().status
        connection.close()
        return status

    assert ask_from_elsewhere() == 200
    # Dripping bytes does not help: a request is whole in time, or its connection ends.
    deadline = time.monotonic() + 40
    for s in crowd:
        s.settimeout(0.2)
        while time.monotonic() < deadline:
            try:
                s.sendall(b"x")
                if s.recv(1000) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        s.close()
    assert time.monotonic() < deadline, "a slow client was never cut off"
    assert ask_from_elsewhere() == 200
    # A request that waits is not a slow one.
    bench.cloud.fault("createVolume", "job-delay", count=1, seconds=3)
    assert bench.rest.post("/volumes", {"name": "x", "size_bytes": GIB}, wait="60s").json["state"] == "done"
    assert bench.agent.stop() == 0
