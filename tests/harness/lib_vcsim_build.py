# SPDX-License-Identifier: Apache-2.0
"""Builds the vCenter stand-in once for each state of its sources, also when several test processes want it at once."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = ROOT / "tests/doubles/vcsim"
OLDEST_GO = (1, 25)


def cache():
    return Path(os.environ.get("DROVER_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "drover")


def go_program():
    """A Go that is new enough: of the PATH, of its usual place, or what deploy/install-dependencies.sh brought."""
    for go in (shutil.which("go"), "/usr/local/go/bin/go", *sorted(map(str, cache().glob("go-*/bin/go")))):
        if not go or not os.access(go, os.X_OK):
            continue
        said = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True,
                              env={**os.environ, "GOTOOLCHAIN": "local"}).stdout
        version = re.match(r"go(\d+)\.(\d+)", said.strip())
        if version and tuple(map(int, version.groups())) >= OLDEST_GO:
            return go
    raise RuntimeError("no Go 1.25 or later: ./deploy/install-dependencies.sh test brings one")


def build():
    """The path of the program, made when the sources changed since."""
    digest = hashlib.sha256()
    for path in sorted(p for p in SOURCES.iterdir() if p.suffix in (".go", ".mod", ".sum")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    home = cache()
    program = home / f"vcsim-{digest.hexdigest()[:16]}" / "vcsim"
    if program.exists():
        os.utime(program.parent)
        return program
    home.mkdir(parents=True, exist_ok=True)
    with open(home / "vcsim.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if program.exists():
            return program
        program.parent.mkdir(exist_ok=True)
        partial = program.with_suffix(".partial")
        done = subprocess.run([go_program(), "build", "-trimpath", "-buildvcs=false", "-o", partial, "."], cwd=SOURCES,
                              env={**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "", "CGO_ENABLED": "0"},
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"go build of {SOURCES} failed:\n{done.stdout}")
        partial.rename(program)
        _forget_old(home)
    return program


def _forget_old(home, keep_seconds=86400):
    for directory in home.glob("vcsim-*/"):
        if time.time() - directory.stat().st_mtime > keep_seconds:
            shutil.rmtree(directory, ignore_errors=True)
