# SPDX-License-Identifier: Apache-2.0
"""Sources and jobs that cannot work: a clear message in CLI, Redis and log, and nothing left behind."""

import os

import pytest

from fleet import wait_for
from observe import MIB, cloud, convert, job_hash, job_log, make_raw, nothing_left, view, wait_job


@pytest.fixture(scope="module")
def raw(work):
    return make_raw(work / "bad.raw", 128, 48, seed=11)


@pytest.fixture(scope="module")
def fleet(request, work, kafka):
    import shutil
    import fleet as fleet_module
    f = fleet_module.Fleet(work / "fleet-bad", kafka=kafka, topic_prefix=f"bad{os.getpid()}",
                           settings={"worker": {"heartbeat-interval": "1s"}, "agent": {"heartbeat-interval": "1s"}})
    f.start()
    yield f
    f.stop()
    assert not f.complaints, f.complaints
    shutil.rmtree(f.dir, ignore_errors=True)


def truncated(source, path, keep):
    data = source.read_bytes()
    path.write_bytes(data[:keep if keep > 0 else len(data) + keep])
    return path


def missing(raw, tmp):
    return f"file:{tmp}/nowhere.raw", "DRV-SOURCE-MISSING"


def cut(kind, keep_tenths):
    def make(raw, tmp):
        whole = convert(raw, tmp / f"whole.{kind}", kind)
        image = truncated(whole, tmp / f"cut.{'qcow2' if kind == 'qcow2' else 'vmdk'}", whole.stat().st_size * keep_tenths // 10)
        return f"file:{image}", "DRV-SOURCE-TRUNCATED"
    return make


def cut_by_a_little(kind):
    def make(raw, tmp):
        whole = convert(raw, tmp / f"whole.{kind}", kind)
        image = truncated(whole, tmp / f"cut.{'qcow2' if kind == 'qcow2' else 'vmdk'}", -65536)
        return f"file:{image}", "DRV-SOURCE-TRUNCATED"
    return make


def short_raw(raw, tmp):
    return f"file:{truncated(raw, tmp / 'short.raw', -512)},size={128 * MIB}", "DRV-SOURCE"


def wrong_digest(raw, tmp):
    return f"file:{raw},size={128 * MIB},sha256={'0' * 64}", "DRV-SOURCE"


CASES = {"missing": missing, "qcow2 cut in half": cut("qcow2", 5), "sparse vmdk cut in half": cut("vmdk", 5),
         "stream vmdk cut in half": cut("stream", 5), "qcow2 without its end": cut_by_a_little("qcow2"),
         "sparse vmdk without its end": cut_by_a_little("vmdk"), "stream vmdk without its end": cut_by_a_little("stream"),
         "raw of the wrong size": short_raw, "raw with the wrong digest": wrong_digest}


@pytest.mark.parametrize("case", CASES)
def test_bad_sources(fleet, raw, tmp_path, case):
    source, code = CASES[case](raw, tmp_path)
    job = "bad-" + case.replace(" ", "-")
    submitted = fleet.drover("migrate", "--source", source, "--name", "web01", "--job-id", job, "--wait", check=False)
    assert submitted.returncode == 1, submitted
    assert code in submitted.stdout + submitted.stderr
    final = job_hash(fleet, job)
    assert final["status"] == "failed" and final["current_operation"] == "Failed"
    path = source.removeprefix("file:").split(",")[0]
    assert code in final["error_message"] and path in final["error_message"]
    assert code in job_log(fleet, job)
    assert any(code in p.log.read_text() for n, p in fleet.processes.items() if n.startswith("worker"))
    nothing_left(fleet)


def test_source_larger_than_the_target(fleet, raw):
    done = fleet.drover("migrate", "--source", f"file:{raw},size={128 * MIB}", "--name", "web01", "--job-id", "too-large",
                        "--target-size", "64M", "--wait", check=False)
    assert done.returncode == 1
    assert "DRV-TARGET-TOO-SMALL" in job_hash(fleet, "too-large")["error_message"]
    nothing_left(fleet)


def test_what_the_command_line_refuses(fleet, raw, tmp_path):
    broken = tmp_path / "job.yaml"
    broken.write_text("name: web01\ndisks:\n  - sorce: file:/x\n")
    for arguments, part in (
            (["migrate", "--source", "ftp:/x", "--name", "a"], "ftp"),
            (["migrate", "--source", "file:relative.raw", "--name", "a"], "relative"),
            (["migrate", "--source", f"file:{raw}", "--name", "no_good"], "no_good"),
            (["migrate", "--source", f"file:{raw}", "--name", "a", "--job-id", "../x"], "../x"),
            (["migrate", "--name", "a"], "--source"),
            (["submit", str(broken)], "sorce"),
            (["submit", str(tmp_path / "none.yaml")], "none.yaml"),
            (["show", "no-such-job"], "no-such-job"),
            (["frobnicate"], "frobnicate")):
        done = fleet.drover(*arguments, check=False)
        assert done.returncode not in (0, None), arguments
        assert part in done.stderr, (arguments, done.stderr)


def test_a_failing_cloud_fails_the_job_and_leaves_nothing(fleet, raw):
    import json
    import urllib.request
    fault = json.dumps({"command": "attachVolume", "action": "job-fail", "count": 1000}).encode()
    url = f"http://127.0.0.1:{fleet.cloudstack_port}/ctl"
    urllib.request.urlopen(urllib.request.Request(f"{url}/fault", fault, {"Content-Type": "application/json"}), timeout=10)
    fleet.drover("migrate", "--source", f"file:{raw},size={128 * MIB}", "--name", "web01", "--job-id", "cloudy")
    wait_job(fleet, "cloudy", "failed", 120)
    assert "ttach" in job_hash(fleet, "cloudy")["error_message"]
    urllib.request.urlopen(urllib.request.Request(f"{url}/reset", b"{}", {"Content-Type": "application/json"}), timeout=10)
    nothing_left(fleet)
