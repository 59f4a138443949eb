"""The short way through tables of a `.t7` gives what the reader gives that knows every form.

Same values, same sharing, same words about what is damaged.
"""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import pytest
from fuzz.mutations import mutate, seeds
from fuzz.oracle import difference
from hypothesis import given, settings
from hypothesis import strategies as st

from torchlift.converters import t7
from torchlift.converters.t7 import LuaObject, T7Error
from torchlift.converters.t7.reading import fast_tables
from torchlift.converters.t7.reading.binary import BinaryDecoder
from torchlift.converters.t7.reading.classes import Classes
from torchlift.converters.t7.reading.decoder import Container, OpenTable, entries_of
from torchlift.converters.t7.reading.reader import Reader

FINDINGS = sorted((Path(__file__).parent / "fuzz" / "findings").glob("*.t7"))
SEEDS = seeds()


def outcome(data: bytes, long_size: int | None = None) -> Any:
    """What comes of a file: its value, or what is said of it."""
    try:
        return t7.loads(data, long_size=long_size)
    except T7Error as error:
        return str(error)


def long_outcome(data: bytes, long_size: int | None = None) -> Any:
    """The same, where all tables are left to the reader."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_tables.FastTables, "read", read_nothing)
        return outcome(data, long_size)


def read_nothing(
    plain: fast_tables.FastTables, position: int, container: Container, count: int, *_: Any
) -> tuple[list[OpenTable], int]:
    """Leaves all of a table to the reader."""
    return [(container, entries_of(container), count, None)], position


@settings(deadline=5000)
@given(st.integers(0, 2**32), st.sampled_from(SEEDS), st.booleans())
def test_the_short_way_is_the_long_one(seed: int, data: bytes, damaged: bool) -> None:
    if damaged:
        data = mutate(data, random.Random(seed), SEEDS)
    assert difference(outcome(data), long_outcome(data)) == ""


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: path.stem)
def test_findings_are_read_alike(path: Path) -> None:
    data = path.read_bytes()
    assert difference(outcome(data), long_outcome(data)) == ""


def ints(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}i", *values)


def longs(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}q", *values)


def string(text: str) -> bytes:
    return ints(len(text)) + text.encode()


def instance(index: int, name: str, version: str = "V 1") -> bytes:
    return ints(4, index) + string(version) + string(name)


def table(index: int, *entries: tuple[str, bytes]) -> bytes:
    keys = (ints(2) + string(key) + value for key, value in entries)
    return ints(3, index, len(entries)) + b"".join(keys)


def vector(index: int, size: int, stride: int, offset: int, storage: bytes) -> bytes:
    tensor = instance(index, "torch.FloatTensor")
    return tensor + ints(1) + longs(size, stride, offset) + storage


STORAGE = instance(8, "torch.FloatStorage") + longs(6) + struct.pack("<6f", *range(6))
FIELD = table(3, ("x", ints(5, 1)))
YES = ints(5, 1)

STREAMS = {
    "instance": table(1, ("a", instance(2, "my.A") + FIELD), ("b", YES)),
    "empty instance": table(1, ("a", instance(2, "my.A") + table(3)), ("b", YES)),
    "no blank in the version": table(1, ("a", instance(2, "my.A", "V01") + FIELD), ("b", YES)),
    "version of two digits": table(1, ("a", instance(2, "my.A", "V 12") + FIELD), ("b", YES)),
    "tensor of another version": table(
        1, ("a", instance(2, "torch.FloatTensor", "V 2") + ints(0) + longs(1) + ints(0))
    ),
    "fields that came before": table(
        1, ("a", FIELD), ("b", instance(2, "my.A") + ints(3, 3)), ("c", YES)
    ),
    "fields that are the instance": table(1, ("b", instance(2, "my.A") + ints(3, 2)), ("c", YES)),
    "body of a number": table(1, ("a", instance(2, "my.A") + longs(7)), ("b", YES)),
    "whole vector": table(1, ("a", vector(2, 6, 1, 1, STORAGE)), ("b", YES)),
    "part of a storage": table(1, ("a", vector(2, 3, 1, 3, STORAGE)), ("b", YES)),
    "every other element": table(1, ("a", vector(2, 3, 2, 1, STORAGE)), ("b", YES)),
    "one element many times": table(1, ("a", vector(2, 9, 0, 2, STORAGE)), ("b", YES)),
    "beyond the storage": table(1, ("a", vector(2, 6, 1, 2, STORAGE)), ("b", YES)),
    "shared storage": table(
        1, ("a", vector(2, 6, 1, 1, STORAGE)), ("b", vector(3, 2, 1, 5, ints(4, 8)))
    ),
    "storage, then its tensor": table(1, ("a", STORAGE), ("b", vector(3, 6, 1, 1, ints(4, 8)))),
    "storage of another class": table(
        1, ("a", vector(2, 6, 1, 1, instance(8, "torch.IntStorage") + longs(6) + bytes(24)))
    ),
    "storage longer than the file": table(
        1, ("a", vector(2, 6, 1, 1, instance(8, "torch.FloatStorage") + longs(600) + bytes(24)))
    ),
    "storage of another type": table(
        1,
        ("a", instance(8, "torch.DoubleStorage") + longs(6) + bytes(48)),
        ("b", vector(3, 6, 1, 1, ints(4, 8))),
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_odd_streams_are_read_alike(name: str) -> None:
    # Streams without longs make sense with shorter ones too, which are never read on the short way.
    assert difference(outcome(STREAMS[name], 8), long_outcome(STREAMS[name], 8)) == ""


def test_the_streams_hold_what_their_names_say() -> None:
    """Else both ways may agree on nothing."""
    loaded = {name: outcome(stream, 8) for name, stream in STREAMS.items()}
    assert loaded["part of a storage"]["a"].tolist() == [2, 3, 4]
    assert loaded["every other element"]["a"].tolist() == [0, 2, 4]
    assert loaded["one element many times"]["a"].tolist() == [1] * 9
    assert loaded["shared storage"]["b"].storage is loaded["shared storage"]["a"].storage
    assert (
        loaded["storage, then its tensor"]["b"].storage is loaded["storage, then its tensor"]["a"]
    )
    before = loaded["fields that came before"]
    assert before["b"].fields is before["a"]
    itself = loaded["fields that are the instance"]["b"]
    assert itself.body == [itself]
    assert "V01 is written in a way" in loaded["no blank in the version"]
    assert isinstance(loaded["version of two digits"]["a"], LuaObject)
    assert "reaches element 7" in loaded["beyond the storage"]


def test_a_class_is_suspected_where_it_was_last() -> None:
    """What stops making sense was most likely written by the class that came last before it."""
    classes = Classes({}, long_size=8)
    first, second = classes.of(("V 1", "my.A")), classes.of(("V 1", "my.B"))
    assert first is not None
    assert second is not None
    for lua_class, offset in ((first, 10), (second, 20), (first, 30)):
        classes.begin(lua_class, offset)
    assert [(guess.offset, guess.last) for guess in classes.guesses.values()] == [
        (10, 30),
        (20, 20),
    ]


@pytest.mark.parametrize("stream", [STORAGE, instance(2, "my.A") + FIELD])
def test_a_key_that_came_before_is_odd(stream: bytes) -> None:
    """Torch never writes one twice: it speaks for another guess."""
    twice = table(1, ("a", instance(4, "my.B") + table(5)), ("a", stream), ("b", YES))
    reader = Reader(BinaryDecoder(twice))
    reader.read()
    assert reader.oddities
