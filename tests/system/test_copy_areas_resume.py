# SPDX-License-Identifier: Apache-2.0
"""--ranges together with --resume: killed in the middle, gone on with, read back as a whole; another list is refused."""

import random

import pytest

import lib_copy
from fleet import wait_for

MIB = lib_copy.MIB
CELL = 32 * MIB
SIZE = 6 * CELL + 12345


@pytest.fixture
def disks(tmp_path):
    source, target = tmp_path / "s.raw", tmp_path / "t.raw"
    rng = random.Random(7)
    source.write_bytes(rng.randbytes(MIB) * (SIZE // MIB) + rng.randbytes(SIZE % MIB))
    target.write_bytes(rng.randbytes(MIB) * (SIZE // MIB) + rng.randbytes(SIZE % MIB))
    return source, target


def some_areas(seed):
    """Unaligned ones in every cell but the fourth, some across the borders of cells."""
    rng = random.Random(seed)
    areas = [(cell * CELL + rng.randrange(CELL - 3 * MIB), rng.randrange(1, 3 * MIB)) for cell in (0, 1, 2, 4, 5) for _ in range(8)]
    return areas + [(CELL - 777, 2000), (SIZE - 5000, 5000)]


def write(path, areas):
    path.write_text("".join(f"{at} {length}\n" for at, length in areas))
    return path


def test_killed_and_gone_on_with(tmp_path, disks):
    source, target = disks
    areas = some_areas(1)
    expected, original = bytearray(target.read_bytes()), source.read_bytes()
    with lib_copy.Servers(tmp_path) as servers:
        uri = servers.nbdkit("--filter=log", "file", target, f"logfile={tmp_path / 'log'}").uri
        cells = tmp_path / "cells"
        arguments = [f"--resume={cells}", f"--ranges={write(tmp_path / 'areas', areas)}", "--digest=xxh3", source, uri]
        for kills in (1, 2):
            child = lib_copy.start("--rate=16M", *arguments)

            def done():
                assert child.poll() is None, child.stderr.read()
                return cells.read_text().count("\ncell ") if cells.exists() else 0
            try:
                wait_for(lambda: done() >= kills, 60, "checkpoints")
            finally:
                child.kill()
                child.communicate()
        kept = cells.read_text()
        for other in (areas[1:], areas + [(3 * CELL, 1)], [(0, SIZE)]):
            code, said, _ = lib_copy.run(*arguments[:1], f"--ranges={write(tmp_path / 'other', other)}", *arguments[2:])
            assert code == 2 and "DRV-COPY-RESUME" in said, (other, said)
        code, said, _ = lib_copy.run(arguments[0], *arguments[2:])
        assert code == 2 and "DRV-COPY-RESUME" in said, "the whole disk is another copy"
        assert cells.read_text() == kept

        random.Random(2).shuffle(areas)  # the same areas in another order, one of them in two parts
        at, length = areas.pop()
        write(tmp_path / "areas", areas + [(at + length // 2, length - length // 2), (at, length // 2 + 1)])
        code, said, report = lib_copy.run("--verify", *arguments)
        assert code == 0 and report["verified"] and report["complete"], said
        assert report["cells"]["before"] >= 2 and sum(report["cells"].values()) == 6, report["cells"]
        for at, length in areas + [(at, length)]:
            expected[at:at + length] = original[at:at + length]
        assert target.read_bytes() == bytes(expected)

        # The read-back looks at what earlier runs copied, too: one byte in an area of the first cell, one beside every area.
        first = min(at for at, length in areas)
        beside = 3 * CELL + 5
        with open(target, "r+b") as file:
            for offset in (first, beside):
                file.seek(offset)
                byte = file.read(1)[0]
                file.seek(offset)
                file.write(bytes([byte ^ 1]))
        code, said, report = lib_copy.run("--verify", *arguments)
        assert code == 4 and [r["offset"] for r in report["different"]] == [0], (said, report)
        assert report["cells"] == {"done": 0, "before": 6}


def test_other_blocks_are_another_copy(tmp_path, disks):
    """Areas are rounded to the servers' blocks, so cells of an earlier run would not be what this run takes them for."""
    source, target = disks
    write(tmp_path / "areas", some_areas(3))
    with lib_copy.Servers(tmp_path) as servers:
        blocks = ["--filter=blocksize-policy", "file", source, "blocksize-minimum=4096", "blocksize-error-policy=error"]
        (tmp_path / "s2.raw").write_bytes(source.read_bytes().ljust((SIZE + 4095) // 4096 * 4096, b"\0"))
        with open(target, "ab") as file:
            file.truncate((tmp_path / "s2.raw").stat().st_size)
        blocks[2] = tmp_path / "s2.raw"
        server = servers.nbdkit(*blocks)
        arguments = [f"--resume={tmp_path / 'cells'}", f"--ranges={tmp_path / 'areas'}", server.uri, target]
        code, said, report = lib_copy.run("--verify", "--digest=xxh3", *arguments)
        assert code == 0 and report["verified"], said
        server.kill()
        server.command = [str(c) for c in server.command if not str(c).startswith("blocksize") and "blocksize-policy" not in str(c)]
        server.start()
        code, said, _ = lib_copy.run("--verify", "--digest=xxh3", *arguments)
        assert code == 2 and "DRV-COPY-RESUME" in said, said
