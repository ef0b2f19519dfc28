# SPDX-License-Identifier: Apache-2.0
"""The messages of drover.v1 for Python, generated from proto/ when first imported:

    from messages import task, event      # modules; task.Task(), event.Event()
"""
import atexit
import importlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_PROTO = Path(__file__).resolve().parents[2] / "proto"
_out = Path(tempfile.mkdtemp(prefix="drover-proto-"))
atexit.register(shutil.rmtree, _out, ignore_errors=True)
subprocess.run(["protoc", f"-I{_PROTO}", f"--python_out={_out}", *map(str, sorted(_PROTO.glob("drover/v1/*.proto")))],
               check=True)
sys.path.insert(0, str(_out))
directory = str(_out)  # for other programs' PYTHONPATH

common = importlib.import_module("drover.v1.common_pb2")
control = importlib.import_module("drover.v1.control_pb2")
event = importlib.import_module("drover.v1.event_pb2")
fleet = importlib.import_module("drover.v1.fleet_pb2")
job = importlib.import_module("drover.v1.job_pb2")
operation = importlib.import_module("drover.v1.operation_pb2")
state = importlib.import_module("drover.v1.state_pb2")
task = importlib.import_module("drover.v1.task_pb2")
