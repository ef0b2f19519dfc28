# SPDX-License-Identifier: Apache-2.0
"""Read-back by a real agent: beside a running copy, within its rate, and wherever a byte differs from what was written."""

import random
import statistics
import subprocess
import threading
import time

import pytest

import lib_digest
from lib_agent import AGENT, BIN, cloud, leader
from fleet import wait_for

MIB = 1 << 20
CELL = lib_digest.CELL


def written_volume(leader, size, disk):
    """A volume of the agent full of random bytes, with its cells' roots."""
    volume = leader.volume(size, disk=disk)
    leader.do("open_export", disk=disk, volume_id=volume, generation=1, minimum_size_bytes=size)
    block = random.randbytes(4 * MIB)
    with open(leader.bytes_of(volume), "r+b") as f:
        for i in range(size // len(block)):
            f.seek(i * len(block))
            f.write(i.to_bytes(8, "big") + block[8:])
    return volume, dict(enumerate(lib_digest.cell_roots(leader.bytes_of(volume), size)))


def test_read_back_beside_a_copy(leader, cloud, tmp_path, work, record_property):
    """Batches of cells of one volume are read back while another one is copied to, in turn with time without read-back."""
    leader.agent()
    size, total = 256 * MIB, 512 * MIB
    volume, roots = written_volume(leader, size, "disk0")
    target = leader.volume(total, disk="disk1")
    opened = leader.do("open_export", disk="disk1", volume_id=target, generation=1, minimum_size_bytes=total)
    source = work / "verify-source.raw"
    block = random.randbytes(MIB)
    with open(source, "wb") as f:
        for i in range(total // MIB):
            f.write(i.to_bytes(8, "big") + block[8:])
    token = tmp_path / "token"
    token.write_text(f"1.{opened.token}")
    token.chmod(0o600)
    copy = subprocess.Popen([BIN / "drover-copy", "--log-format=text", "--rate=96M", f"--token-file={token}", source,
                             f"nbd://{opened.nbd_host}:{opened.nbd_port}/{opened.export_name}"],
                            stderr=open(tmp_path / "copy.log", "wb"))
    busy, stop, read, wrong = threading.Event(), threading.Event(), [0], []

    def read_back():
        sequence = 0
        while not stop.is_set():
            if not busy.wait(0.05):
                continue
            batches = [dict(list(roots.items())[i::4]) for i in range(4)]
            for i, batch in enumerate(batches):
                leader.verify(volume, 1, batch, size, sequence=sequence + i + 1)
            for i, batch in enumerate(batches):
                answer = leader.verified(sequence + i + 1, 60)
                read[0] += len(answer.verified_cells) * CELL
                if sorted(answer.verified_cells) != sorted(batch) or answer.HasField("error"):
                    wrong.append(answer)
            sequence += 4

    written = lambda: leader.bytes_of(target).stat().st_blocks * 512  # noqa: E731
    wait_for(lambda: written() > 32 * MIB, 60, "The copy to begin")
    thread = threading.Thread(target=read_back)
    thread.start()
    rates, busy_s = {False: [], True: []}, 0
    try:
        while copy.poll() is None and len(rates[True]) < 2:
            for with_reading in (False, True):
                (busy.set if with_reading else busy.clear)()
                began, before = time.monotonic(), written()
                time.sleep(1)
                rates[with_reading].append((written() - before) / (time.monotonic() - began))
                busy_s += with_reading
    finally:
        stop.set()
        thread.join(90)
    assert copy.wait(120) == 0, (tmp_path / "copy.log").read_text()
    assert not wrong, wrong
    ratio = statistics.median(rates[True]) / statistics.median(rates[False])
    record_property("ratio", round(ratio, 3))
    print(f"rate of the copy with read-back / without: {ratio:.2f}; read back at {read[0] / busy_s / 1e6:.0f} MB/s; MB/s of the "
          f"copy: {[[round(r / 1e6) for r in rates[k]] for k in (False, True)]}")
    assert read[0] > size and ratio > 0.4
    subprocess.run(["cmp", "-n", str(total), source, leader.bytes_of(target)], check=True)
    source.unlink()


def test_read_back_keeps_to_its_rate_and_finds_a_byte(leader, cloud):
    leader.agent(verify_rate="64M")
    size = 192 * MIB
    volume, roots = written_volume(leader, size, "disk0")
    spoiled = 3 * CELL + 12345
    with open(leader.bytes_of(volume), "r+b") as f:
        f.seek(spoiled)
        byte = f.read(1)[0]
        f.seek(spoiled)
        f.write(bytes([byte ^ 1]))
    began = time.monotonic()
    for cell, root in roots.items():  # one batch each: several threads share the rate
        leader.verify(volume, 1, {cell: root}, size, sequence=cell + 1)
    answers = {cell: leader.verified(cell + 1, 60) for cell in roots}
    assert time.monotonic() - began >= size / (64 * MIB) - 0.1
    assert [cell for cell, a in answers.items() if list(a.mismatched_cells)] == [3]
    assert all(list(a.verified_cells) == [cell] for cell, a in answers.items() if cell != 3)
