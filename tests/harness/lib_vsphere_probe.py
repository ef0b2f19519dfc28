# SPDX-License-Identifier: Apache-2.0
"""The vSphere client of lib/vsphere, one call at a time, through tests/doubles/vsphere-probe."""

import json
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROBE = Path(os.environ.get("DROVER_BIN") or ROOT / "build/release/bin") / "vsphere-probe"


class CallFailed(Exception):
    """A call's error: its code (DRV-…), class and what the wait reported."""

    def __init__(self, answer):
        super().__init__(answer["error"])
        self.code = answer["error"].split(":")[0] if answer["error"].startswith("DRV-") else ""
        self.error_class = answer["class"]
        self.told = answer["told"]


class Probe:
    def __init__(self, vcenters, name="dc1", opened=True):
        self.process = subprocess.Popen([PROBE, vcenters, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.told = []
        if opened:
            self.call("open")

    def start(self, *call):
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()

    def finish(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"vsphere-probe ended with {self.process.wait()}")
        answer = json.loads(line)
        self.told = answer["told"]
        if "error" in answer:
            raise CallFailed(answer)
        return answer["result"]

    def call(self, *call):
        self.start(*call)
        return self.finish()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        code = self.process.wait(60)
        self.process.stdout.close()
        assert code == 0, f"vsphere-probe ended with {code}"
