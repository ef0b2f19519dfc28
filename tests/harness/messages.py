# SPDX-License-Identifier: Apache-2.0
"""Drover's messages for Python: made by protoc from proto/ into a directory of the caller's, then imported."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parent.parent.parent


def load(directory):
    """A namespace with the modules common, control, event, fleet, job, operation, state, task."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    protos = sorted((ROOT / "proto/drover/v1").glob("*.proto"))
    subprocess.run(["protoc", f"-I{ROOT / 'proto'}", f"--python_out={directory}", *map(str, protos)], check=True)
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    return SimpleNamespace(**{p.stem: importlib.import_module(f"drover.v1.{p.stem}_pb2") for p in protos})
