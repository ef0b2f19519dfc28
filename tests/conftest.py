# SPDX-License-Identifier: Apache-2.0
"""One broker for the whole session; a fleet per test, with topics of its own. Failed tests print the ends of all logs."""

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE / "harness"))
sys.path.insert(0, str(ROOT / "deploy"))

import fleet as fleet_module  # noqa: E402
from lib_vcsim import make_vcsim  # noqa: E402,F401


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    setattr(item, f"report_{report.when}", report)
    if report.when == "call" and report.failed:
        for fleet in getattr(item, "fleets", []):
            for process in fleet.processes.values():
                report.sections.append((f"log of {process.name} (exits {process.exit_codes})", process.tail(25)))


@pytest.fixture(scope="session")
def work():
    """Scratch space for the session; big files live here."""
    path = Path(tempfile.mkdtemp(prefix="drover-system-", dir=os.environ.get("TMPDIR", "/var/tmp")))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def pytest_configure(config):
    # Fixtures clean up after SIGTERM as they do after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("told to stop", 143))


@pytest.fixture(scope="session")
def kafka(work):
    """Address of a real broker, which ends with this process whatever happens to it."""
    broker = fleet_module.Fleet(work / "broker")
    (work / "broker/log").mkdir(parents=True)
    (work / "broker/tmp").mkdir()
    try:
        broker._start_kafka()
        yield broker.kafka
    finally:
        broker.stop()


_counter = 0


@pytest.fixture
def make_fleet(request, work, kafka):
    """make_fleet(workers=2, settings={...}, ...) -> a running Fleet. Stopped, and checked for leftovers, at the end."""
    request.node.fleets = []

    def make(**options):
        global _counter
        _counter += 1
        directory = work / f"fleet-{_counter}"
        settings = {"worker": {"heartbeat-interval": "1s"}, "agent": {"heartbeat-interval": "1s"},
                    "aggregator": {"heartbeat-interval": "2s"}}
        for section, values in options.pop("settings", {}).items():
            settings.setdefault(section, {}).update(values)
        fleet = fleet_module.Fleet(directory, kafka=kafka, topic_prefix=f"t{os.getpid()}-{_counter}",
                                   settings=settings, double_options=options.pop("double_options", ["--speed", "4"]),
                                   **options)
        request.node.fleets.append(fleet)
        return fleet.start()

    yield make
    complaints = []
    for fleet in request.node.fleets:
        fleet.stop()
        complaints += fleet.complaints
        shutil.rmtree(fleet.dir, ignore_errors=True)
    assert not complaints, complaints


@pytest.fixture
def fleet(make_fleet):
    return make_fleet()
