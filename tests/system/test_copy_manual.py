# SPDX-License-Identifier: Apache-2.0
"""docs/drover-copy.md says what the program has: options, exit codes, fields of the report; no more and no less."""

import os
import random
import re
import subprocess

import pytest

import lib_copy
from fleet import ROOT, free_port
from lib_tls import Authority

MANUAL = (ROOT / "docs/drover-copy.md").read_text()
MIB = lib_copy.MIB


def section(title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", MANUAL, re.M | re.S).group(1)


def first_columns(text):
    return [row.split(" | ")[0].lstrip("| ") for row in text.splitlines() if row.startswith("| ") and not row.startswith("| ---")][1:]


@pytest.fixture(scope="module")
def help_text():
    return subprocess.run([lib_copy.DROVER_COPY, "--help"], check=True, capture_output=True, text=True).stdout


def test_every_option_is_in_the_manual_and_none_too_many(help_text):
    known = set()
    for line in re.findall(r"^  (--.*)$", help_text, re.M):
        known |= {f"--{name}" for name in re.findall(r"--(?:\[no-\])?([a-z0-9-]+)", line)}
    rows = [set(re.findall(r"`(--[a-z0-9-]+)", row)) for row in first_columns(section("Options"))]
    told = set().union(*rows)
    negative = {option for option in told if option.startswith("--no-")}
    assert told - negative == known
    switches = {f"--no-{name}" for name in re.findall(r"--\[no-\]([a-z-]+)", help_text)}
    assert negative <= switches
    anywhere = set(re.findall(r"(?<![\w-])(--[a-z][a-z0-9-]+[a-z0-9])", MANUAL.replace(section("For whoever knows nbdcopy"), "")))
    assert anywhere - {"--no", "--tls"} <= known | switches, "an option that does not exist"


def test_defaults_in_the_manual_are_the_programs(help_text):
    """Where --help tells a default that is a number, a size, a time or a word, the table has the same."""
    defaults = {}
    for name, text in re.findall(r"^  --(?:\[no-\])?([a-z0-9-]+).*\n((?:      .*\n)*)", help_text, re.M):
        found = re.search(r"\(default: (.*)\)$", text, re.M)
        if found and found.group(1) != "true":
            defaults[name] = found.group(1)
    table = {re.match(r"\| `--([a-z0-9-]+)", row).group(1): re.split(r"(?<!\\)\|", row)[2].strip()
             for row in section("Options").splitlines() if row.startswith("| `--")}
    assert len(defaults) > 10
    assert {name: table.get(name) for name in defaults} == defaults


def test_exit_codes_are_in_both(help_text):
    in_help = set(re.findall(r"(?:^|[:;] ?)(\d) ", re.search(r"Exit codes:.*?\.\n", help_text, re.S).group(0).replace("\n", " "), re.M))
    in_header = set(re.findall(r"DROVER_EXIT_\w+ = (\d)", (ROOT / "worker/drover-copy/job.h").read_text()))
    assert set(first_columns(section("Exit codes"))) == in_header == in_help


def keys(value, path=""):
    if isinstance(value, dict):
        return set().union(*(keys(item, f"{path}.{key}" if path else key) for key, item in value.items()))
    if isinstance(value, list) and value:
        return {path}.union(*(keys(item, path) for item in value))
    return {path}


def test_every_field_of_the_report_is_in_the_manual(tmp_path):
    """Fields of copies that succeed, fail in a region, differ and use TLS on either side."""
    told = set(re.findall(r"`([a-z0-9_.]+)`", " ".join(first_columns(section("Progress and report")))))
    source = lib_copy.write_disk(tmp_path / "s.raw", 33 * MIB, random.Random(1), holes=0)
    authority = Authority(tmp_path / "ca")
    authority.issue("server", "DNS:localhost,IP:127.0.0.1")
    certificates = tmp_path / "tls"
    certificates.mkdir()
    for name, file in (("server-cert.pem", "server.crt"), ("server-key.pem", "server.key"), ("ca-cert.pem", "ca.crt")):
        (certificates / name).write_bytes((authority.dir / file).read_bytes())
    port = free_port()
    server = subprocess.Popen(["nbdkit", "-f", "-i", "127.0.0.1", "-p", str(port), "--tls=require", f"--tls-certificates={certificates}",
                               "memory", str(33 * MIB)], stderr=subprocess.DEVNULL)
    reported = set()
    try:
        tls = [f"--tls-ca={authority.ca}", "--connect-timeout=10s"]
        with lib_copy.Servers(tmp_path) as servers:
            broken = servers.nbdkit("--filter=error", "file", source, "error-pread=EIO", "error-pread-rate=100%")
            lost = servers.nbdkit("null", str(33 * MIB))
            for code, arguments in ((0, [source, tmp_path / "t.raw"]), (2, [broken.uri, tmp_path / "u.raw"]), (4, ["--verify", source, lost.uri]),
                                    (0, [*tls, source, f"nbds://127.0.0.1:{port}/"]), (0, [*tls, f"nbds://127.0.0.1:{port}/", tmp_path / "v.raw"])):
                got, said, report = lib_copy.run(*arguments)
                assert got == code, said
                reported |= keys(report)
    finally:
        server.kill()
        server.wait()
    assert reported == told


def test_fields_of_the_progress_are_in_the_manual(tmp_path):
    (tmp_path / "s.raw").write_bytes(os.urandom(MIB))
    _, said, _ = lib_copy.run("--progress=json", tmp_path / "s.raw", tmp_path / "t.raw")
    text = section("Progress and report").split("`--report=FILE`")[0]
    assert set(re.findall(r'"(\w+)":', said)) == set(re.findall(r"`([a-z]+_[a-z_]+|stall)`", text))
