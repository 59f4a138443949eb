"""Mutations of `.t7` files for `tests/test_t7_fuzz.py` and for the long run (`fuzz_t7.py`)."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

FORMATS = Path(__file__).resolve().parents[2] / "fixtures" / "formats"

#: Lengths, counts, tags and indices at the limits of a reader's arithmetic.
_NUMBERS = (-(2**31), -2, -1, *range(12), 255, 2**16, 2**24, 2**31 - 1)
_LONGS = (*_NUMBERS, -(2**63), -(2**60), 2**32, 2**40, 2**61, 2**62, 2**63 - 1)
_NAMES = (
    *(b"torch.FloatTensor", b"torch.LongStorage", b"torch.CharTensor", b"torch.CudaHalfTensor"),
    *(b"tds.Hash", b"tds.Vec", b"tds.AtomicCounter", b"torch.Generator", b"torch.Timer"),
    *(b"nn.GPU", b"nn.DataParallelTable", b"nn.Linear", b"my.Class", b"V 1", b"V 1.0", b"V 2"),
)

Mutation = Callable[[bytes, random.Random, Sequence[bytes]], bytes]


def flip_bits(data: bytes, rng: random.Random, _others: Sequence[bytes]) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def truncate(data: bytes, rng: random.Random, _others: Sequence[bytes]) -> bytes:
    return data[: rng.randrange(len(data))]


def remove(data: bytes, rng: random.Random, _others: Sequence[bytes]) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.choice((1, 4, 8, 12, 40)) :]


def insert(data: bytes, rng: random.Random, _others: Sequence[bytes]) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + rng.randbytes(rng.choice((1, 4, 8, 12))) + data[start:]


def repeat(data: bytes, rng: random.Random, _others: Sequence[bytes]) -> bytes:
    start = rng.randrange(len(data))
    end = start + rng.choice((4, 12, 24, 60))
    return data[:end] + data[start:end] * rng.choice((1, 2, 50)) + data[end:]


def splice(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others)
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


def edit_number(data: bytes, rng: random.Random, _others: Sequence[bytes]) -> bytes:
    """Replace a length, count, tag, index or stride, of either size and byte order."""
    kind, values = rng.choice((("i", _NUMBERS), ("q", _LONGS)))
    number = struct.pack(rng.choice("<<<>") + kind, rng.choice(values))
    start = rng.randrange(len(data))
    if rng.random() < 0.6:  # Most often at a small little-endian int.
        start = rng.choice(
            [offset for offset in range(len(data)) if data[offset : offset + 4].count(0) == 3]
            or [0]
        )
    return data[:start] + number + data[start + len(number) :]


def edit_text_number(data: bytes, rng: random.Random, _others: Sequence[bytes]) -> bytes:
    """Replace a number of an ASCII file."""
    numbers = list(re.finditer(rb"-?\d+", data))
    if not numbers:
        return flip_bits(data, rng, ())
    start, end = rng.choice(numbers).span()
    replacements = [
        str(rng.choice(_LONGS)).encode(),
        b"nan",
        b"-inf",
        b"1e999",
        b"0x10",
        b"9" * 400,
        b"",
    ]
    return data[:start] + rng.choice(replacements) + data[end:]


def write_class_name(data: bytes, rng: random.Random, _others: Sequence[bytes]) -> bytes:
    """Replace a string with the name of a class that the reader treats specially."""
    strings = list(re.finditer(rb"[\w.]{3,}", data))
    if not strings:
        return insert(data, rng, ())
    start, end = rng.choice(strings).span()
    name = rng.choice(_NAMES)
    length = struct.pack("<i", len(name))
    return data[: max(start - 4, 0)] + length + name + data[end:]


MUTATIONS: tuple[Mutation, ...] = (
    *(flip_bits, truncate, remove, insert, repeat, splice),
    *(edit_number, edit_number, edit_number, edit_text_number, write_class_name),
)


def mutate(data: bytes, rng: random.Random, others: Sequence[bytes], limit: int = 1 << 16) -> bytes:
    """Apply one to four mutations to a file.

    Args:
        data: The file.
        rng: Random number generator.
        others: Files to splice in.
        limit: Maximum number of bytes of the result.
    """
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = rng.choice(MUTATIONS)(data or b"\0", rng, others)[:limit]
    return data


def seeds(limit: int = 8192) -> list[bytes]:
    """Return the initial corpus: files written by Torch7, and findings of earlier runs."""
    folders = (FORMATS, Path(__file__).parent / "findings")
    paths = sorted(path for folder in folders for path in folder.glob("*.t7"))
    return [data for path in paths if 0 < len(data := path.read_bytes()) <= limit]
