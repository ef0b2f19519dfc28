# SPDX-License-Identifier: Apache-2.0
"""The volume agent's REST API: real Kafka, the real agent with its nbdkit, the CloudStack double."""

import concurrent.futures
import hashlib
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import time
import uuid
from pathlib import Path

import nbd
import pytest
import yaml

from fleet import free_port, wait_for
from lib_agent import AGENT, GIB
from lib_rest import TOKENS, Bench, Pki, Rest, client_context, own, problem, raw, serve, write_tokens

ROOT = Path(__file__).resolve().parents[2]
SPEC = yaml.safe_load((ROOT / "volume-agent/rest/openapi.yaml").read_text())
ROUTES = [(method.upper(), path.removeprefix("/api/v1"), about) for path, methods in SPEC["paths"].items()
          for method, about in methods.items()]
ROLES = ["public", "read", "operate", "admin"]


@pytest.fixture(scope="module")
def bench(kafka, tmp_path_factory):
    bench = Bench(kafka, tmp_path_factory.mktemp("rest"))
    yield bench
    bench.close()


# ---- who may ---------------------------------------------------------------------------------------------------------

FILLED = {"volume_id": str(uuid.uuid4()), "vm_id": str(uuid.uuid4()), "snapshot_id": str(uuid.uuid4()), "device": "vdzz",
          "operation_id": "no-such-operation"}
BODIES = {"createVolume": {"name": "role", "size_bytes": GIB}, "resizeVolume": {"size_bytes": GIB},
          "createSnapshot": {"volume_id": FILLED["volume_id"]}, "attachRoot": {"vm_id": FILLED["vm_id"]},
          "cleanupTestFailover": {"vm_id": FILLED["vm_id"]}, "updateSnapshot": {"status": "x"},
          "trackSnapshot": {"snapshot_id": FILLED["snapshot_id"], "volume_id": FILLED["volume_id"]},
          "createExport": {"volume_id": FILLED["volume_id"]}, "preflightTarget": {"name": "role", "disks": []}}


@pytest.mark.parametrize("method,path,about", ROUTES, ids=[about["operationId"] for _, _, about in ROUTES])
def test_every_route_with_every_role_and_none(bench, method, path, about):
    needs = ROLES.index(about["x-role"])
    path = path.format(**FILLED)
    if about["operationId"] == "clearSnapshots":
        path += f"?vm_id={FILLED['vm_id']}"
    body = BODIES.get(about["operationId"])
    for token in (None, "wrong", TOKENS["reader"][1] + "x"):
        answer = bench.rest.ask(method, path, body, token=token)
        if needs == 0:
            assert answer.status == 200
        else:
            problem(answer, 401, "DRV-REST-TOKEN")
            assert answer.headers["WWW-Authenticate"] == "Bearer"
    for role, token in TOKENS.values():
        answer = bench.rest.ask(method, path, body, token=token)
        if ROLES.index(role) < needs:
            assert problem(answer, 403, "DRV-REST-ROLE")["details"]["role"] == about["x-role"]
        else:
            assert answer.status in (200, 202, 404), answer
        assert str(answer.status) in about["responses"], answer


def test_tokens_come_and_go_while_it_runs(bench):
    path = bench.dir / "tokens"
    guest = "token-of-a-guest"
    assert bench.rest.get("/operations", token=guest).status == 401
    write_tokens(path, {**TOKENS, "guest": ("read", guest)})
    deadline = time.monotonic() + 20
    while bench.rest.get("/operations", token=guest).status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    path.write_text("broken")  # locks nobody out
    time.sleep(0.7)
    assert bench.rest.get("/operations").status == 200
    write_tokens(path)
    while bench.rest.get("/operations", token=guest).status != 401:
        assert time.monotonic() < deadline
        time.sleep(0.1)


# ---- what is asked for ------------------------------------------------------------------------------------------------


def test_a_volume_from_its_creation_to_its_end(bench):
    rest, site = bench.rest, bench.site
    answer = rest.post("/volumes", {"name": "life", "size_bytes": GIB + 1}, operation_id="life-1")
    assert answer.status in (200, 202) and answer.headers["Location"] == "/api/v1/operations/life-1"
    record = rest.get("/operations/life-1", wait="60s").json
    assert (record["state"], record["kind"], record["requested_by"]) == ("done", "create-volume", "rest/chief")
    volume = record["result"]["volume_id"]
    assert volume == record["volume_id"] == answer.json["volume_id"]
    seen = rest.get(f"/volumes/{volume}").json
    assert (seen["size_bytes"], seen["state"], seen["vm_id"], seen["device"]) == (2 * GIB, site.look(volume)["state"], None, None)
    problem(rest.get(f"/volumes/{volume}/device"), 404, "DRV-DEVICE-MISSING")

    attached = rest.done("POST", f"/volumes/{volume}/attach", {"minimum_size_bytes": GIB})["result"]
    device = rest.get(f"/volumes/{volume}/device").json
    assert device["device_path"] == attached["device_path"] and device["size_bytes"] == 2 * GIB
    name = Path(device["device_path"]).name
    assert rest.get(f"/devices/{name}/volume").json == device
    problem(rest.get("/devices/vdzz/volume"), 404, "DRV-DEVICE-MISSING")
    listed = rest.get(f"/vms/{site.appliance}/volumes").json["volumes"]
    assert [v["attached_to_appliance"] for v in listed if v["volume_id"] == volume] == [True]

    opened = rest.done("POST", "/exports", {"volume_id": volume, "job_id": "by-hand"})["result"]
    assert opened["generation"] == 1 and "token" not in json.dumps(opened)
    problem(rest.get(f"/exports/{volume}/token"), 404, "DRV-REST-PATH")
    kept = wait_for(lambda: bench.leader.exports().get(volume), 20, "The export in the journal")  # the journal has the token, no answer has
    shown = rest.get(f"/exports/{volume}").json
    assert kept.token and kept.token not in json.dumps(shown) + rest.get("/exports").body.decode()
    h = nbd.NBD()
    h.set_export_name(f"{shown['export_name']}@{shown['generation']}.{kept.token}")
    h.connect_tcp(shown["nbd_host"], str(shown["nbd_port"]))
    h.pwrite(b"x" * 8192, 0)
    h.flush()
    export = rest.get(f"/exports/{volume}").json
    assert export["writable"] and export["job_id"] == "by-hand" and export["counters"]["bytes_written"] == 8192
    assert rest.get("/exports").json["exports"] == [{**export, "counters": rest.get(f"/exports/{volume}").json["counters"]}]
    assert rest.post(f"/exports/{volume}/validate").json["valid"]
    metrics = rest.get("/metrics").body.decode()
    assert f'drover_agent_export_written_bytes_total{{volume_id="{volume}",generation="1"}} 8192' in metrics

    # A newer generation cuts the writer off; without a number nobody is.
    problem(rest.post("/exports", {"volume_id": volume}), 409, "DRV-REST-EXPORT-OPEN")
    rest.done("POST", "/exports", {"volume_id": volume, "generation": 5})
    with pytest.raises(nbd.Error):
        h.pwrite(b"y", 0)
    problem(rest.post("/exports", {"volume_id": volume, "generation": 4}), 409, "DRV-FENCED")
    rest.done("DELETE", f"/exports/{volume}")
    problem(rest.get(f"/exports/{volume}"), 404, "DRV-REST-EXPORT")
    problem(rest.ask("DELETE", f"/exports/{volume}"), 404, "DRV-REST-EXPORT")
    assert rest.done("POST", "/exports", {"volume_id": volume})["result"]["generation"] == 6  # never one that was used

    rest.done("POST", f"/volumes/{volume}/detach")
    assert rest.get(f"/volumes/{volume}").json["export"] is None
    rest.done("DELETE", f"/volumes/{volume}")
    problem(rest.get(f"/volumes/{volume}"), 404, "DRV-VOLUME-MISSING")
    problem(rest.ask("DELETE", f"/volumes/{volume}"), 404, "DRV-VOLUME-MISSING")
    assert [c for c, subject, _ in bench.leader.changes() if subject == volume] == \
        ["createVolume", "attachVolume", "detachVolume", "deleteVolume"]
    log = bench.agent.log.read_text()
    assert kept.token not in log and all(token not in log for _, token in TOKENS.values())


def test_conflicts_and_what_is_not_there(bench):
    rest, site = bench.rest, bench.site
    nowhere = str(uuid.uuid4())
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/attach"), ("POST", "/detach")):
        problem(rest.ask(method, f"/volumes/{nowhere}{path}"), 404, "DRV-VOLUME-MISSING")
    problem(rest.get(f"/vms/{nowhere}/volumes"), 404, "DRV-VM-MISSING")
    problem(rest.post("/cleanup/test-failover", {"vm_id": nowhere}), 404, "DRV-VM-MISSING")
    problem(rest.post("/cleanup/test-failover", {"vm_id": site.appliance}), 409, "DRV-APPLIANCE")
    problem(rest.get("/operations/nothing"), 404, "DRV-REST-OPERATION")
    volume, vm = site.volume(), site.vm()
    problem(rest.post(f"/volumes/{volume}/attach-root", {"vm_id": nowhere}), 404, "DRV-VM-MISSING")
    rest.done("POST", f"/volumes/{volume}/attach", {"vm_id": vm, "device_id": 1})
    assert problem(rest.post(f"/volumes/{volume}/attach"), 409, "DRV-VOLUME-ELSEWHERE")["details"]["vm_id"] == vm
    # What only the operation can find out is in its record.
    bench.cloud.do("startVirtualMachine", id=vm)
    other = site.volume()
    answer = rest.post(f"/volumes/{other}/attach-root", {"vm_id": vm}, wait="60s")
    assert answer.status == 200 and answer.json["state"] == "failed"
    assert answer.json["error"]["code"] == "DRV-VM-RUNNING" and answer.json["error"]["class"] == "permanent"
    problem(rest.post("/exports", {"volume_id": nowhere}), 404, "DRV-VOLUME-MISSING")


def test_an_id_makes_a_request_safe_to_repeat(bench):
    rest, body = bench.rest, {"name": "once", "size_bytes": GIB}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: rest.post("/volumes", body, operation_id="once-1", wait="60s"), range(8)))
    assert {(a.status, a.json["state"], a.json["result"]["volume_id"]) for a in answers} == {(200, "done", answers[0].json["volume_id"])}
    volume = answers[0].json["volume_id"]
    assert len([1 for _, subject, _ in bench.leader.changes("createVolume") if subject == volume]) == 1
    problem(rest.post("/volumes", {**body, "size_bytes": 2 * GIB}, operation_id="once-1"), 409, "DRV-REST-ID-USED")
    problem(rest.ask("DELETE", f"/volumes/{volume}", operation_id="once-1"), 409, "DRV-REST-ID-USED")
    # For ever, also when its volume is gone.
    rest.done("DELETE", f"/volumes/{volume}", operation_id="gone-1")
    assert rest.ask("DELETE", f"/volumes/{volume}", operation_id="gone-1").json["state"] == "done"
    assert rest.post("/volumes", body, operation_id="once-1").json["state"] == "done"
    problem(bench.rest.get(f"/volumes/{volume}"), 404)


def test_one_log_and_one_order_with_the_scheduler(bench):
    volume = str(uuid.uuid4())
    first = bench.leader.operation("create_volume", job="job-7", name="job-7-disk0", size_bytes=GIB, custom_id=volume)
    bench.leader.wait(f"drover.journal.{AGENT}", lambda _: bench.leader.journal(first), 30, "acceptance")
    answer = bench.rest.post(f"/volumes/{volume}/attach", wait="60s")  # of a volume that is only coming
    assert answer.json["state"] == "done", answer
    last = bench.leader.operation("detach_volume", job="job-7", volume_id=volume)
    bench.leader.done(last)
    listed = bench.rest.get("/operations", volume_id=volume).json["operations"]
    assert [o["kind"] for o in listed] == ["detach-volume", "attach-volume", "create-volume"]
    assert [o["requested_by"] for o in listed] == [None, "rest/chief", None]
    assert bench.rest.ask("GET", listed[0]["links"]["self"].removeprefix("/api/v1")).json["id"] == last
    journal = [bench.leader.journal(o["id"])[-1].sequence for o in listed]
    assert journal == sorted(journal, reverse=True)


def test_pages_and_filters(bench):
    rest = bench.rest
    volumes = [bench.volume() for _ in range(2)]
    for volume in volumes * 3:
        rest.done("POST", f"/volumes/{volume}/detach", {"job_id": "paging"})
    seen, cursor = [], None
    while True:
        page = rest.get("/operations", job_id="paging", limit=2, **({"cursor": cursor} if cursor else {})).json
        assert len(page["operations"]) == 2
        seen += page["operations"]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert len({o["id"] for o in seen}) == 6 and [o["volume_id"] for o in seen] == volumes[::-1] * 3
    assert {o["kind"] for o in rest.get("/operations", kind="create-volume", limit=500).json["operations"]} == {"create-volume"}
    assert {o["state"] for o in rest.get("/operations", state="failed").json["operations"]} <= {"failed"}
    assert len(rest.get("/operations", job_id="paging", volume_id=volumes[0], state="done").json["operations"]) == 3
    for query in ("limit=0", "limit=501", "limit=x", "cursor=x", "state=odd", "kind=A", "volume_id=7", "job_id=a%2Fb", "wait=1s",
                  "limit=2&limit=3", "nothing=1", "limit=%zz"):
        problem(rest.get(f"/operations?{query}"), 400)


def test_snapshots_are_tracked(bench):
    rest, volume, vm = bench.rest, bench.site.attached(), bench.site.vm()
    ids = [bench.cloud.do("createSnapshot", volumeid=volume)["id"] for _ in range(2)]
    problem(rest.post("/snapshots", {"snapshot_id": str(uuid.uuid4()), "volume_id": volume}), 404, "DRV-SNAPSHOT-MISSING")
    problem(rest.post("/snapshots", {"snapshot_id": ids[0], "volume_id": str(uuid.uuid4())}), 409, "DRV-SNAPSHOT-MISSING")
    for number, ident in enumerate(ids):
        rest.done("POST", "/snapshots", {"snapshot_id": ident, "volume_id": volume, "vm_id": vm, "name": f"before-{number}"})
    assert [s["snapshot_id"] for s in rest.get("/snapshots", vm_id=vm).json["snapshots"]] == ids
    rest.done("PATCH", f"/snapshots/{ids[0]}", {"status": "reverted"})
    one = rest.get(f"/snapshots/{ids[0]}").json
    assert (one["status"], one["name"], one["volume_id"]) == ("reverted", "before-0", volume)
    assert rest.get(f"/snapshots/{ids[1]}").json["status"] == "tracked"
    problem(rest.ask("PATCH", f"/snapshots/{ids[0]}", {}), 400, field="status")
    problem(rest.ask("PATCH", f"/snapshots/{volume}", {"status": "x"}), 404, "DRV-SNAPSHOT-MISSING")
    rest.done("DELETE", f"/snapshots/{ids[0]}")
    problem(rest.get(f"/snapshots/{ids[0]}"), 404, "DRV-SNAPSHOT-MISSING")
    problem(rest.ask("DELETE", f"/snapshots?vm_id={vm}&volume_id={volume}"), 400)
    problem(rest.ask("DELETE", "/snapshots"), 400)
    rest.done("DELETE", "/snapshots", volume_id=volume)
    assert rest.get("/snapshots", volume_id=volume).json["snapshots"] == []
    assert len(bench.cloud.call("listSnapshots", volumeid=volume, listall="true")["snapshot"]) == 2  # CloudStack keeps them


def test_cleanup_of_a_test_failover(bench):
    rest, cloud = bench.rest, bench.cloud
    root, data, vm = bench.volume(), bench.volume(), bench.site.vm()
    rest.done("POST", f"/volumes/{root}/attach-root", {"vm_id": vm})
    rest.done("POST", f"/volumes/{data}/attach", {"vm_id": vm, "device_id": 1})
    cloud.do("startVirtualMachine", id=vm)
    record = rest.done("POST", "/cleanup/test-failover", {"vm_id": vm})
    assert sorted(record["result"]["volume_ids"]) == sorted([root, data])
    assert not cloud.call("listVirtualMachines", id=vm, listall="true").get("virtualmachine")
    for volume in (root, data):
        assert rest.get(f"/volumes/{volume}").json["attached_to_appliance"]
        assert rest.get(f"/volumes/{volume}/device").status == 200
        assert rest.get("/operations", volume_id=volume, kind="cleanup-test-failover").json["operations"][0]["id"] == record["id"]
    assert not [e for e in cloud.state()["events"] if e["kind"].startswith("open-at")]


def test_orphaned_exports_are_found_and_removed(bench):
    rest = bench.rest
    kept, lost = bench.volume(attach=True), bench.volume(attach=True)
    for volume in (kept, lost):
        rest.done("POST", "/exports", {"volume_id": volume})
    bench.cloud.do("detachVolume", id=lost)  # behind the agent's back
    found = rest.post(f"/exports/{lost}/validate").json
    assert not found["valid"] and "DRV-VOLUME-ELSEWHERE" in {p["code"] for p in found["problems"]}
    assert rest.done("POST", "/exports/cleanup")["result"]["volume_ids"] == [lost]
    problem(rest.get(f"/exports/{lost}"), 404)
    assert rest.post(f"/exports/{kept}/validate").json == {"valid": True, "problems": [], "export": rest.get(f"/exports/{kept}").json}
    again = rest.done("POST", "/exports/cleanup")["result"]
    assert again["already_done"] and again["volume_ids"] == []
    rest.done("POST", f"/volumes/{kept}/detach")


def test_force_sync_reports_and_repairs(bench):
    rest, leader = bench.rest, bench.leader
    rest.done("POST", "/exports/cleanup")
    clean = rest.done("POST", "/admin/force-sync")["result"]["report"]
    assert [d for d in clean["differences"] if d["kind"].startswith("export")] == [], clean
    gone, moved = bench.volume(attach=True), bench.volume(attach=True)
    for volume in (gone, moved):
        rest.done("POST", "/exports", {"volume_id": volume})
    bench.cloud.do("detachVolume", id=gone)
    base = Path(bench.cloud.appliances[AGENT]["dev_root"]).parent
    name = Path(rest.get(f"/volumes/{moved}/device").json["device_path"]).name
    for kind in ("dev", "sys/block"):
        (base / kind / name).rename(base / kind / "vdy")

    def differences(**body):
        report = rest.done("POST", "/admin/force-sync", body)["result"]["report"]
        return {(d["kind"], d["volume_id"], d["repaired"]) for d in report["differences"] if d["volume_id"] in (gone, moved)}

    detached = ("volume-detached", gone, False)
    assert differences() == {("export-volume-elsewhere", gone, False), ("export-device-moved", moved, False), detached}
    wait_for(lambda: gone in leader.exports(), 20, "The export in the journal")
    assert differences(repair=True) == {("export-volume-elsewhere", gone, True), ("export-device-moved", moved, False), detached}
    rest.done("POST", f"/volumes/{gone}/detach")
    wait_for(lambda: gone not in leader.exports(), 20, "The end of the export in the journal")
    assert moved in leader.exports()
    for kind in ("dev", "sys/block"):
        (base / kind / "vdy").rename(base / "lost" if kind == "dev" else base / "lost-too")
    assert {(k, v) for k, v, _ in differences(repair=True)} == {("export-device-missing", moved), ("volume-device-missing", moved)}
    wait_for(lambda: moved not in leader.exports(), 20, "The end of the other one")
    rest.done("POST", f"/volumes/{moved}/detach")
    assert differences() == set()


# ---- how it is asked --------------------------------------------------------------------------------------------------


def test_requests_that_are_not_valid(bench):
    rest, volume = bench.rest, str(uuid.uuid4())
    about = problem(rest.post("/volumes", {"nmae": "x", "size_bytes": 1}), 400, "DRV-REST-REQUEST", "nmae")
    assert "'nmae'" in about["message"]
    problem(rest.post("/volumes", {"name": "x"}), 400, field="size_bytes")
    problem(rest.post("/volumes", {"name": "x", "size_bytes": "1"}), 400, field="size_bytes")
    problem(rest.post("/volumes", b'{"name": "x", "name": "y"}'), 400, "DRV-REST-JSON")
    problem(rest.post("/volumes", b"{"), 400, "DRV-REST-JSON")
    problem(rest.post("/volumes", b"[" * 60000), 400, "DRV-REST-JSON")
    problem(rest.post("/volumes", b"name=x", headers={"Content-Type": "text/plain"}), 415, "DRV-REST-TYPE")
    problem(rest.post(f"/volumes/{volume}/attach", {"device_id": 3}), 400, field="device_id")
    problem(rest.ask("DELETE", f"/volumes/{volume}", {"force": True}), 400, field="force")
    problem(rest.get(f"/volumes/{volume}?verbose=1"), 400, field="verbose")
    problem(rest.get("/volumes/7"), 400, field="volume_id")
    problem(rest.post("/volumes", {"name": "x", "size_bytes": 1}, operation_id="a/b"), 400, field="operation_id")
    for wait in ("0", "1", "-1s", "6m", "301s", "1h", "99999999999s"):
        problem(rest.post("/volumes", {"name": "x", "size_bytes": 1}, wait=wait), 400, field="wait")
    problem(rest.get("/nothing"), 404, "DRV-REST-PATH")
    problem(rest.get("/volumes/%2e%2e/health"), 400)
    answer = rest.ask("PUT", f"/volumes/{volume}")
    problem(answer, 405, "DRV-REST-METHOD")
    assert answer.headers["Allow"] == "GET, DELETE"
    large = b'{"name": "' + b"x" * 70000 + b'", "size_bytes": 1}'
    problem(rest.post("/volumes", large), 413, "DRV-REST-SIZE")
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (large[:40000], large[40000:], b"")[:2]) + b"0\r\n\r\n"
    head = (f"POST /api/v1/volumes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {rest.token}\r\nContent-Type: application/json\r\n"
            "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n").encode()
    assert b" 413 " in raw(rest.port, head, chunked).split(b"\r\n")[0]
    for garbage in (b"\r\n\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n",
                    b"GET /api/v1/health HTTP/1.1\r\nX: " + b"y" * 100000 + b"\r\n\r\n"):
        try:
            answer = raw(rest.port, garbage + b"\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        except ConnectionError:
            continue  # as good an answer as any
        assert not re.match(rb"HTTP/1\.\d (200|500|503)", answer), answer
    assert rest.get("/health").status == 200


def test_request_ids_are_kept_or_made(bench):
    given = bench.rest.get("/nothing", headers={"X-Request-Id": "my-id.1"})
    assert given.headers["X-Request-Id"] == given.json["request_id"] == "my-id.1"
    made = {bench.rest.get("/nothing", headers=headers).headers["X-Request-Id"]
            for headers in ({}, {"X-Request-Id": "not valid"}, {"X-Request-Id": "x" * 65})}
    assert len(made) == 3 and all(re.fullmatch("req-[0-9a-f]{16}", ident) for ident in made)
    rows = [row for row in bench.agent.lines() if row["event"] == "rest.request"]
    assert any(row["request_id"] == "my-id.1" and row["status"] == 404 and row["caller"] == "chief" for row in rows)
    assert bench.rest.get("/health").headers["Cache-Control"] == "no-store"


def test_metrics_are_prometheus_text(bench):
    bench.volume()
    bench.leader.ended(bench.leader.operation("detach_volume", volume_id=str(uuid.uuid4())))
    answer = bench.rest.get("/metrics", token=TOKENS["reader"][1])
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families, values = {}, {}
    for line in answer.body.decode().splitlines():
        if line.startswith("# TYPE"):
            _, _, name, kind = line.split()
            assert name not in families, f"{name} twice"
            families[name] = kind
        elif not line.startswith("#"):
            match = re.fullmatch(r'(\w+)(\{(?:\w+="(?:[^"\\]|\\.)*",?)+\})? (-?[0-9.e+-]+)', line)
            assert match, line
            name = re.sub("_(bucket|sum|count)$", "", match[1]) if match[1] not in families else match[1]
            assert name in families, line
            assert match[1] + (match[2] or "") not in values, line
            values[match[1] + (match[2] or "")] = float(match[3])
    assert values['drover_agent_operations{kind="create-volume",state="done"}'] >= 1
    assert values['drover_agent_operations{kind="detach-volume",state="failed"}'] >= 1
    assert values['drover_agent_operation_seconds_count{kind="create-volume",state="done"}'] >= 1
    assert values['drover_agent_cloudstack_calls_total{command="createVolume"}'] >= 1
    assert values['drover_agent_cloudstack_errors_total{command="listVolumes",code="431"}'] >= 1
    assert values['drover_agent_cloudstack_call_seconds_bucket{command="createVolume",le="+Inf"}'] >= 1
    assert values["drover_agent_cloudstack_up"] == values["drover_agent_nbd_server_up"] == 1
    assert values["drover_agent_log_lag_records"] >= 0 and 0 <= values["drover_agent_log_behind_seconds"] < 60
    assert values["drover_agent_devices"] <= values["drover_agent_device_slots"] == 24
    assert any(name.startswith("drover_agent_build_info{version=") for name in values)
    assert values['drover_agent_rest_requests_total{route="POST /volumes",status="200"}'] >= 1


def test_the_description_is_served(bench):
    answer = bench.rest.get("/openapi.yaml", token=None)
    assert answer.status == 200 and yaml.safe_load(answer.body) == SPEC


def schemathesis():
    cache = Path(os.environ.get("DROVER_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "drover")
    listed = hashlib.sha256((ROOT / "tests/schemathesis-requirements.txt").read_bytes()).hexdigest()[:12]
    program = cache / f"schemathesis-{listed}/bin/schemathesis"
    if not program.exists():
        pytest.skip("schemathesis is not installed: ./deploy/install-dependencies.sh test")
    return program


def with_examples(bench, served):
    """The description with ids that exist, each path's own, so that not all answers are 404. What deletes has none."""
    rest, snapshot_of = bench.rest, bench.volume(attach=True)
    snapshot = {"snapshot_id": bench.cloud.do("createSnapshot", volumeid=snapshot_of)["id"], "volume_id": snapshot_of}
    rest.done("POST", "/snapshots", snapshot, operation_id="example-1")
    examples = {"vm_id": bench.site.appliance, "snapshot_id": snapshot["snapshot_id"], "operation_id": "example-1",
                "device": Path(rest.get(f"/volumes/{snapshot_of}/device").json["device_path"]).name}
    for path, methods in served["paths"].items():
        if "{volume_id}" in path:
            examples["volume_id"] = bench.volume(attach="attach" not in path)
        if path.startswith("/api/v1/exports/{"):
            rest.done("POST", "/exports", {"volume_id": examples["volume_id"]})
        for method, about in methods.items():
            for number, reference in enumerate(about.get("parameters", [])):
                parameter = served["components"]["parameters"][reference["$ref"].split("/")[-1]]
                if parameter["in"] == "path" and method != "delete":
                    about["parameters"][number] = {**parameter, "example": examples[parameter["name"]]}
    vm = bench.site.vm()
    for schema, example in {"AttachRoot": {"vm_id": vm}, "CleanupTestFailover": {"vm_id": vm}, "TrackSnapshot": snapshot,
                            "CreateSnapshot": {"volume_id": snapshot_of},
                            "CreateExport": {"volume_id": bench.volume(attach=True)}}.items():
        served["components"]["schemas"][schema]["example"] = example
    return served


def test_schemathesis_finds_no_5xx_and_nothing_undocumented(own, tmp_path):
    """Valid and invalid requests made up from the OpenAPI file, against the agent that serves it."""
    program, bench = schemathesis(), own()
    spec = tmp_path / "openapi.yaml"
    spec.write_text(yaml.safe_dump(with_examples(bench, yaml.safe_load(bench.rest.get("/openapi.yaml", token=None).body))))
    run = subprocess.run(
        [program, "run", spec, "--base-url", f"http://127.0.0.1:{bench.rest.port}", "--header", f"Authorization: Bearer {bench.rest.token}",
         "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
         "response_schema_conformance,negative_data_rejection", "--data-generation-method", "all", "--hypothesis-max-examples", "10",
         "--hypothesis-seed", "4", "--hypothesis-deadline", "60000", "--hypothesis-suppress-health-check", "all",
         "--request-timeout", "60000", "--hypothesis-database", "none", "--workers", "2", "--force-schema-version", "30"],
        capture_output=True, text=True, timeout=400, cwd=tmp_path, env={**os.environ, "NO_COLOR": "1"})
    assert run.returncode == 0, (run.stdout + run.stderr)[-12000:]
    assert "Performed checks" in run.stdout
    health = bench.rest.get("/health").json
    assert health["status"] == "ok", health
    only_4xx = re.findall(r"- `(\w+ \S+)` returned only 4xx", run.stdout)
    assert len(only_4xx) <= 5, only_4xx  # four delete what was made up; cleanup may be faster than attach-root
    assert bench.agent.running() and bench.agent.stop() == 0


# ---- what goes wrong --------------------------------------------------------------------------------------------------


def test_nothing_is_lost_between_202_and_the_answer(own):
    """kill -9 right after the 202; the next agent knows the operation and ends it."""
    bench = own()
    ids = [f"kill-{i}" for i in range(5)]
    for ident in ids:
        assert bench.rest.post("/volumes", {"name": ident, "size_bytes": GIB}, operation_id=ident).status in (200, 202)
    bench.agent.kill()
    _, rest = serve(bench.leader, bench.dir, port=bench.rest.port)
    records = [rest.get(f"/operations/{ident}", wait="90s", timeout=120).json for ident in ids]
    assert [r["state"] for r in records] == ["done"] * 5, records
    assert rest.post("/volumes", {"name": ids[0], "size_bytes": GIB}, operation_id=ids[0]).json["id"] == ids[0]
    assert sorted(v["name"] for v in bench.cloud.call("listVolumes", listall="true")["volume"] if v["type"] == "DATADISK") == ids
    assert [o["id"] for o in rest.get("/operations").json["operations"]] == ids[::-1]


def test_while_cloudstack_is_away(own):
    bench = own()
    rest, volume = bench.rest, bench.volume()
    bench.cloud.kill()
    answer = rest.get(f"/volumes/{volume}")
    problem(answer, 503, "DRV-CLOUDSTACK-DOWN")
    assert int(answer.headers["Retry-After"]) >= 1
    accepted = rest.post(f"/volumes/{volume}/attach", wait="500ms")  # it waits for CloudStack, the client need not
    assert accepted.status == 202 and accepted.json["state"] in ("accepted", "running")
    health = rest.get("/health", token=None)
    assert health.status == 200 and health.json["status"] == "degraded" and not health.json["cloudstack_reachable"]
    bench.cloud.start()
    assert rest.get(f"/operations/{accepted.json['id']}", wait="60s").json["state"] == "done"


def test_draining_answers_those_who_wait(own):
    bench = own(cloudstack_timeout="4s")
    bench.cloud.fault("createVolume", "hang", count=1)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(bench.rest.post("/volumes", {"name": "x", "size_bytes": GIB}, wait="5m")))
    thread.start()
    bench.leader.wait(f"drover.journal.{AGENT}", lambda rs: any(r and r.operation.command == "createVolume" for _, r in rs), 30, "the call")
    assert bench.agent.stop(timeout=60) == 0
    thread.join(10)
    assert answers and answers[0].status == 202 and answers[0].headers["Connection"] == "close", answers


def test_rate_limits_by_token(own):
    bench = own(rest_rate=2, rest_burst=10)
    reader = TOKENS["reader"][1]
    answers = [bench.rest.get("/snapshots", token=reader) for _ in range(60)]
    limited = [a for a in answers if a.status != 200]
    assert len(limited) > 20
    for answer in limited:
        problem(answer, 429, "DRV-REST-RATE")
        assert int(answer.headers["Retry-After"]) >= 1
    assert bench.rest.get("/snapshots", token=TOKENS["operator"][1]).status == 200  # has a bucket of its own
    # Guessing tokens is limited by address.
    assert 429 in {bench.rest.get("/snapshots", token=f"guess-{n}").status for n in range(60)}
    assert bench.rest.get("/snapshots", token=TOKENS["chief"][1]).status == 200


# ---- connections ------------------------------------------------------------------------------------------------------


def refused_to_start(bench, text, **options):
    agent = bench.leader.agent(**{"rest_listen": f"127.0.0.1:{free_port()}", "rest_tokens": bench.dir / "tokens", **options})
    assert agent.process.wait(60) != 0
    log = agent.log.read_text()
    assert text in log, log
    return log


def test_refuses_to_start_unprotected(own, tmp_path):
    bench = own()
    bench.agent.stop()
    pki = Pki(tmp_path / "pki")
    certificate, key = pki.issue("server")
    tls = {"rest_certificate": certificate, "rest_key": key}
    for host in ("0.0.0.0", "[::]", "*"):
        refused_to_start(bench, "DRV-REST-CONFIG", rest_listen=f"{host}:{free_port()}")
    refused_to_start(bench, "rest-tokens", rest_listen=f"0.0.0.0:{free_port()}", rest_tokens="", **tls)
    refused_to_start(bench, "need each other", rest_certificate=certificate)
    refused_to_start(bench, "rest-client-ca needs", rest_client_ca=pki.ca)
    refused_to_start(bench, "is not HOST:PORT", rest_listen="localhost")
    refused_to_start(bench, "Token file", rest_tokens=tmp_path / "nothing")
    (tmp_path / "bad").write_text("chief admin secret-token\n")
    (tmp_path / "bad").chmod(0o600)
    log = refused_to_start(bench, "line 1", rest_tokens=tmp_path / "bad")
    assert "secret-token" not in log
    key.chmod(0o644)
    refused_to_start(bench, "can be read by others", **tls)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused_to_start(bench, "Address already in use", rest_listen=f"127.0.0.1:{taken.getsockname()[1]}")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_with_client_certificates_and_renewal(own, tmp_path):
    pki, other = Pki(tmp_path / "pki"), Pki(tmp_path / "other")
    certificate, key = pki.issue("server")
    mine = pki.issue("client")
    bench = own(rest_certificate=certificate, rest_key=key, rest_client_ca=pki.ca, context=client_context(pki.ca, *mine))
    assert bench.rest.get("/operations").status == 200
    problem(bench.rest.get("/operations", token="wrong"), 401)  # the certificate is not enough

    def with_context(context):
        return Rest(bench.rest.port, context=context).get("/operations")

    problem(with_context(client_context(pki.ca)), 403, "DRV-REST-CERTIFICATE")
    problem(with_context(client_context(pki.ca, *other.issue("client"))), 403, "DRV-REST-CERTIFICATE")
    problem(with_context(client_context(pki.ca, *pki.issue("late", days=-1))), 403, "DRV-REST-CERTIFICATE")
    with pytest.raises(ssl.SSLError):
        with_context(client_context(other.ca, *mine))
    old = client_context(pki.ca, *mine)
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, OSError)):
        with_context(old)
    with pytest.raises((http.client.HTTPException, OSError)):  # plain HTTP gets nothing
        Rest(bench.rest.port).get("/health", token=None)

    # Renewed files are served at once; who waits on the old certificate still gets his answer.
    bench.cloud.fault("createVolume", "job-delay", count=1, seconds=6)
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(bench.rest.post("/volumes", {"name": "x", "size_bytes": GIB}, wait="60s")))
    waiting.start()
    bench.leader.wait(f"drover.journal.{AGENT}", lambda rs: any(r and r.operation.command == "createVolume" for _, r in rs), 30, "the call")

    def served():
        with socket.create_connection(("127.0.0.1", bench.rest.port)) as s, client_context(pki.ca, *mine).wrap_socket(s) as tls:
            return tls.getpeercert()["serialNumber"]

    before = served()
    key.write_text("half written")
    deadline = time.monotonic() + 30
    while not [row for row in bench.agent.lines() if row["event"] == "rest.certificate" and row["level"] == "error"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert served() == before
    pki.issue("server")
    while served() == before:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert bench.rest.get("/operations").status == 200
    waiting.join(60)
    assert answers and answers[0].json["state"] == "done", answers
    assert bench.agent.stop() == 0
