# SPDX-License-Identifier: Apache-2.0
"""drover-copy under random circumstances: allocation, sizes, ranges, options, servers of all kinds, and servers and copies that
are killed. Every run ends with the right bytes or with an error that the circumstances explain.

    DROVER_SEEDS=1-1000 tests/run.sh fault -k copy_seeds      # these seeds; otherwise some at a random place
"""

import os
import random
import signal
import threading
import time

import lib_copy
from lib_copy import KIB, MIB, Servers, first_difference, write_disk

BACKGROUND = 0xA5  # what the target holds before


def round_out(areas, block, size):
    """Areas rounded to blocks and merged."""
    merged = []
    for begin, end in sorted((o // block * block, min(size, -(-(o + n) // block) * block)) for o, n in areas):
        if merged and begin <= merged[-1][1]:
            merged[-1][1] = max(end, merged[-1][1])
        else:
            merged.append([begin, end])
    return merged


class Trial:
    """All of it follows from the seed, but for the instants at which things happen."""

    def __init__(self, seed, directory):
        self.rng, self.dir = random.Random(seed), directory
        rng = self.rng
        self.sector = rng.choice((512, 512, 512, 4096))
        self.size = max(self.sector, int(64 * KIB * 1500 ** rng.random()) // self.sector * self.sector)
        self.source = write_disk(directory / "source", self.size, rng, grain=(512, rng.choice((8 * KIB, MIB, 16 * MIB))),
                                 holes=rng.choice((0, 0.3, 0.9)))
        self.target = directory / "target"
        self.zero_target = rng.random() < 0.3
        with open(self.target, "wb") as file:
            if not self.zero_target:
                for at in range(0, self.size, MIB):
                    file.write(bytes([BACKGROUND]) * min(MIB, self.size - at))
            file.truncate(self.size)
        self.may_fail, self.block = None, self.sector
        self.fault = rng.choice(("none", "none", "kill source", "kill target", "kill copy", "errors", "dead target"))
        self.said = [f"{self.size} bytes", self.fault]

    def filters(self, side):
        rng, filters, more = self.rng, [], []
        if rng.random() < 0.25 and side == "source":
            filters.append("noextents")
        if rng.random() < 0.25:
            filters.append("multi-conn")
            more.append("multi-conn-mode=disable")
        if rng.random() < 0.3 and side == "target":
            filters.append("nozero")
            more.append(f"zeromode={rng.choice(('none', 'emulate', 'notrim', 'plugin'))}")
        if rng.random() < 0.2 and side == "target":
            filters.append("fua")
            more.append(f"fuamode={rng.choice(('discard', 'emulate', 'force', 'native'))}")
        if rng.random() < 0.4 and self.size % 4096 == 0:
            minimum = rng.choice((1, 512, 4096))
            preferred, maximum = max(4096, minimum), rng.choice((64 * KIB, MIB, 32 * MIB))
            filters.append("blocksize-policy")
            more += [f"blocksize-minimum={minimum}", f"blocksize-preferred={preferred}", f"blocksize-maximum={maximum}",
                     "blocksize-error-policy=error"]
            self.block = max(self.block, minimum)
        if self.fault == "errors":
            filters.append("error")
            kind = "pread" if side == "source" else rng.choice(("pwrite", "zero"))
            more += [f"error-{kind}-rate={rng.choice(('0.5%', '5%', '100%'))}", f"error-{kind}={rng.choice(('EIO', 'ENOSPC'))}"]
        if "kill" in self.fault or rng.random() < 0.2:
            filters.append("delay")
            more.append(f"rdelay={rng.choice((2, 10, 30))}ms" if side == "source" else f"wdelay={rng.choice((2, 10, 30))}ms")
        self.said.append(f"{side}: {filters} {more}")
        return [f"--filter={f}" for f in filters], more

    def options(self):
        rng, options = self.rng, []
        options.append(f"--memory={rng.choice(('4M', '16M', '64M'))}")
        options.append(f"--request-size={rng.choice(('32K', '256K', '2M'))}")
        options.append(f"--connections={rng.choice((0, 1, 2, 7))}")
        options.append(f"--digest={rng.choice(('none', 'xxh3', 'sha256'))}")
        if rng.random() < 0.2:
            options.append("--no-extents")
        if rng.random() < 0.3:
            options.append("--verify")
        if self.zero_target and rng.random() < 0.7:
            options.append("--target-is-zero")
        if self.fault == "dead target":
            options.append("--reconnect-timeout=1s")
        self.areas = None
        if rng.random() < 0.4:
            self.areas = []
            for _ in range(int(200 ** rng.random())):
                offset = rng.randrange(self.size)
                self.areas.append((offset, rng.randint(1, min(self.size - offset, rng.choice((1, 512, 70000, 4 * MIB))))))
            (self.dir / "ranges").write_text("".join(f"{o} {n}\n" for o, n in self.areas))
            options.append(f"--ranges={self.dir / 'ranges'}")
        elif self.fault == "kill copy":
            options.append(f"--resume={self.dir / 'resume'}")
        self.said.append(str(options))
        return options

    def disturb(self, servers, ended):
        """Kills and starts again, three times at most, while the copy runs."""
        for _ in range(self.rng.randint(1, 3)):
            if ended.wait(self.rng.uniform(0.02, 0.4)):
                return
            server = servers["source" if self.fault == "kill source" else "target"]
            server.kill()
            if self.fault == "dead target":
                return
            if ended.wait(self.rng.uniform(0, 0.3)):
                return
            server.start()
        while not ended.wait(0.1):  # Debian's nbdkit also ends by itself when connections break under it
            for server in servers.values():
                if server.child.poll() is not None:
                    server.start()

    def serve(self, servers, side, path):
        before, behind = self.filters(side)
        if not before and self.rng.random() < 0.5:
            cache = [] if side == "source" else ["--discard=unmap", "--detect-zeroes=off"]
            self.said.append(f"{side}: qemu-nbd")
            return servers.qemu_nbd("-f", "raw", *(["-r"] if side == "source" else []), *cache, path)
        return servers.nbdkit(*before, *(["-r"] if side == "source" else []), "file", path, *behind)

    def copy(self):
        with Servers(self.dir) as servers:
            both = {"source": self.serve(servers, "source", self.source), "target": self.serve(servers, "target", self.target)}
            arguments = [*self.options(), both["source"].uri, both["target"].uri]
            for _ in range(self.rng.randint(1, 2) if self.fault == "kill copy" else 0):
                child = lib_copy.start(*arguments)
                time.sleep(self.rng.uniform(0.02, 0.6))
                child.send_signal(signal.SIGKILL)
                child.communicate()
                for server in both.values():  # Debian's nbdkit may end with a client that dies
                    server.kill()
                    server.start()
            ended = threading.Event()
            trouble = threading.Thread(target=self.disturb, args=(both, ended))
            if self.fault in ("kill source", "kill target", "dead target"):
                trouble.start()
            try:
                return lib_copy.run(*arguments, seconds=120)
            finally:
                ended.set()
                if trouble.ident:
                    trouble.join()

    def check(self):
        code, said, report = self.copy()
        if code != 0:
            assert self.fault in ("errors", "dead target") and code in (2, 3), said
            assert "DRV-" in said and "Traceback" not in said, said
            assert self.fault != "dead target" or code == 3, said
            return False
        assert report["digest"] is not None or "--digest=none" in self.said[-1], report
        for begin, end in round_out(self.areas or [(0, self.size)], 1, self.size):
            difference = first_difference(self.source, self.target, begin, end)
            assert difference is None, f"byte {difference} differs"
        at = 0
        for begin, end in [*round_out(self.areas or [(0, self.size)], self.block, self.size), [self.size, self.size]]:
            if not self.zero_target:
                self.untouched(at, begin)
            at = end
        return True

    def untouched(self, begin, end):
        with open(self.target, "rb") as file:
            file.seek(begin)
            while begin < end:
                part = file.read(min(MIB, end - begin))
                assert part and part == bytes([BACKGROUND]) * len(part), f"{begin} to {end} was not to be written"
                begin += len(part)


def test_copy_seeds(tmp_path):
    equal, failed, began = 0, 0, time.monotonic()
    chosen = lib_copy.seeds(200)
    for seed in chosen:
        if "DROVER_SEEDS" not in os.environ and time.monotonic() - began > 100:
            break  # a bounded part of them in each run
        directory = tmp_path / str(seed)
        directory.mkdir()
        trial = Trial(seed, directory)
        try:
            if trial.check():
                equal += 1
            else:
                failed += 1
        except AssertionError as error:
            raise AssertionError(f"DROVER_SEEDS={seed}: {error}\n" + "\n".join(trial.said)) from None
        for path in (trial.source, trial.target):
            path.unlink()
    print(f"{equal + failed} seeds from {chosen[0]}: {equal} equal, {failed} ended in a correct error")
    assert equal > failed or len(chosen) < 20
