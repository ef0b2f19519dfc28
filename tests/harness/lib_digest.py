# SPDX-License-Identifier: Apache-2.0
"""Digests of cells as lib/digest/digest.h defines them, written independently of it, for tests."""
import ctypes
import hashlib
import struct

CELL = 32 << 20
LEAF = 64 << 10


class _Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


def _load():
    lib = ctypes.CDLL("libxxhash.so.0")
    lib.XXH3_128bits.restype = _Hash128
    lib.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    return lib


_lib = None


def xxh3(data: bytes) -> bytes:
    """XXH3-128 in canonical (big endian) order."""
    global _lib
    _lib = _lib or _load()
    h = _lib.XXH3_128bits(data, len(data))
    return struct.pack(">QQ", h.high, h.low)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


ALGORITHMS = {"xxh3": xxh3, "sha256": sha256}


def root(read, ranges, algorithm="xxh3") -> bytes:
    """Root over RANGES [(offset, length), ...], sorted and merged. READ(offset, length) gives the disk's bytes."""
    h = ALGORITHMS[algorithm]
    text = b""
    for offset, length in ranges:
        end = offset + length
        while offset < end:
            step = min(LEAF - offset % LEAF, end - offset)
            data = read(offset, step)
            assert len(data) == step, "short read"
            text += struct.pack("<QQ", offset, step) + h(data)
            offset += step
    return h(text)


def file_reader(file):
    def read(offset, length):
        file.seek(offset)
        return file.read(length)
    return read


def cell_roots(path, size=None, algorithm="xxh3"):
    """Roots of all cells of the raw file PATH (of its first SIZE bytes), in order."""
    with open(path, "rb") as file:
        size = size or file.seek(0, 2)
        read = file_reader(file)
        return [root(read, [(at, min(CELL, size - at))], algorithm) for at in range(0, size, CELL)]


if __name__ == "__main__":
    import sys
    for i, r in enumerate(cell_roots(sys.argv[1], algorithm=sys.argv[2] if len(sys.argv) > 2 else "xxh3")):
        print(i, r.hex())
