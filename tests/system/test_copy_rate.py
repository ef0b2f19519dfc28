# SPDX-License-Identifier: Apache-2.0
"""--rate-file: the limit follows a file while the copy runs."""

import os
import threading

import pytest

import lib_copy
from fleet import wait_for

MIB = lib_copy.MIB
SIZE = 256 * MIB


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "s.raw"
    path.write_bytes(os.urandom(MIB) * (SIZE // MIB))
    return path


class Run:
    """drover-copy with JSON progress; what it says is read while it runs."""

    def __init__(self, *arguments):
        self.child, self.lines = lib_copy.start("--progress=json", *arguments), []
        self.reader = threading.Thread(target=lambda: self.lines.extend(iter(self.child.stderr.readline, "")))
        self.reader.start()

    def says(self, text):
        return sum(text in line for line in list(self.lines))

    def end(self, seconds):
        code = self.child.wait(seconds)
        self.reader.join(10)
        return code


def test_a_copy_follows_its_rate_file(tmp_path, disk):
    """At 1 MiB/s this disk takes minutes; it is done at once when the file lifts the limit. Nonsense changes nothing and is told once."""
    rate = tmp_path / "rate"
    rate.write_text("1M\n")
    copy = Run(f"--rate-file={rate}", "--report=-", disk, tmp_path / "t.raw")
    try:
        wait_for(lambda: copy.says('"stall":"throttle"') or copy.says('"rate_bytes_per_second":1'), 30, "a throttled copy")
        rate.write_text("as fast as you can\n")
        wait_for(lambda: copy.says("rate.bad"), 30, "the warning")
        rate.write_text("more nonsense")
        seen = copy.says('"rate_bytes_per_second"')
        wait_for(lambda: copy.says('"rate_bytes_per_second"') >= seen + 5, 30, "more progress")
        assert copy.child.poll() is None and not copy.says("rate.changed")
        (tmp_path / "new").write_text("2M")
        os.replace(tmp_path / "new", rate)  # another file under the same name
        wait_for(lambda: copy.says("rate.changed") == 1, 30, "the new rate")
        rate.unlink()
        wait_for(lambda: copy.says("rate.bad") == 2, 30, "the second warning")
        assert copy.child.poll() is None
        rate.write_text("0")
        assert copy.end(60) == 0, copy.lines
    finally:
        copy.child.kill()
        copy.reader.join(10)
    assert copy.says("rate.bad") == 2 and copy.says("rate.changed") == 2, copy.lines
    assert lib_copy.first_difference(disk, tmp_path / "t.raw") is None


def test_a_limit_that_cannot_be_read_is_not_none(tmp_path, disk):
    for content in (None, "", "fast", "1M\n2M", "9" * 100, "1\0M"):
        rate = tmp_path / "rate"
        if content is not None:
            rate.write_text(content)
        code, said, report = lib_copy.run(f"--rate-file={rate}", disk, tmp_path / "t.raw")
        assert code == 2 and "rate file" in said and str(rate) in said, (content, said)
        assert not (tmp_path / "t.raw").exists()
    code, said, report = lib_copy.run(f"--rate-file={rate}", "--rate=4G", disk, tmp_path / "t.raw")
    assert code == 0 and "rate.bad" in said and report["complete"]
