"""The fast path through the tables of a `.t7` is equivalent to `Reader`.

What is protected: equal values, equal sharing, and equal errors for damaged files, with and without
`fast_tables` and `fast_tensors`.
"""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz.mutations import mutate, seeds
from fuzz.oracle import difference
from hypothesis import given, settings
from hypothesis import strategies as st

from torchlift.converters import t7
from torchlift.converters.t7 import LuaObject, LuaTable, T7Error, TorchArray
from torchlift.converters.t7.reading import fast_tables
from torchlift.converters.t7.reading.binary import BinaryDecoder
from torchlift.converters.t7.reading.classes import Classes
from torchlift.converters.t7.reading.decoder import Container, OpenTable, entries_of
from torchlift.converters.t7.reading.reader import Reader

FINDINGS = sorted((Path(__file__).parent / "fuzz" / "findings").glob("*.t7"))
SEEDS = seeds()


def outcome(data: bytes, long_size: int | None = None) -> Any:
    """Return the value of a file, or its error message."""
    try:
        return t7.loads(data, long_size=long_size)
    except T7Error as error:
        return str(error)


def slow_outcome(data: bytes, long_size: int | None = None) -> Any:
    """Return the same without the fast path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_tables.FastTables, "read", read_nothing)
        return outcome(data, long_size)


def read_nothing(
    fast: fast_tables.FastTables, position: int, container: Container, count: int, *_: Any
) -> tuple[list[OpenTable], int]:
    """Leave a whole table to the reader."""
    return [(container, entries_of(container), count, None)], position


@settings(deadline=5000)
@given(st.integers(0, 2**32), st.sampled_from(SEEDS), st.booleans())
def test_the_fast_path_equals_the_slow_path(seed: int, data: bytes, damaged: bool) -> None:
    if damaged:
        data = mutate(data, random.Random(seed), SEEDS)
    assert difference(outcome(data), slow_outcome(data)) == ""


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: path.stem)
def test_both_paths_read_fuzzing_findings_alike(path: Path) -> None:
    data = path.read_bytes()
    assert difference(outcome(data), slow_outcome(data)) == ""


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
REST = ints(2, 80) + b"x" * 80
YES = ints(5, 1)

STREAMS = {
    "instance": table(1, ("a", instance(2, "my.A") + FIELD), ("b", YES)),
    "empty instance": table(1, ("a", instance(2, "my.A") + table(3)), ("b", YES)),
    "no space in the version": table(1, ("a", instance(2, "my.A", "V01") + FIELD), ("b", YES)),
    "version of two digits": table(1, ("a", instance(2, "my.A", "V 12") + FIELD), ("b", YES)),
    "tensor of another version": table(
        1, ("a", instance(2, "torch.FloatTensor", "V 2") + ints(0) + longs(1) + ints(0))
    ),
    "fields read before": table(
        1, ("a", FIELD), ("b", instance(2, "my.A") + ints(3, 3)), ("c", YES)
    ),
    "fields that are the instance": table(1, ("b", instance(2, "my.A") + ints(3, 2)), ("c", YES)),
    "body without a table": table(1, ("a", instance(2, "my.A") + longs(7)), ("b", YES)),
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
    "storage that is called a table": table(
        1, ("a", vector(2, 6, 1, 1, ints(3) + STORAGE[4:])), ("b", REST)
    ),
    "storage longer than the file": table(
        1, ("a", vector(2, 6, 1, 1, instance(8, "torch.FloatStorage") + longs(600) + bytes(24)))
    ),
    "key of a negative length": ints(3, 1, 1, 2, -4) + YES,
    "key longer than the file": ints(3, 1, 1, 2, 100) + b"key" + YES,
    "no boolean of Lua's": table(1, ("a", ints(5, 2)), ("b", ints(5, 0))),
    "keys beyond whole numbers": ints(3, 1, 2)
    + b"".join(ints(1) + struct.pack("<d", key) + YES for key in (2.0**60, -(2.0**60))),
    "storage of another type": table(
        1,
        ("a", instance(8, "torch.DoubleStorage") + longs(6) + bytes(48)),
        ("b", vector(3, 6, 1, 1, ints(4, 8))),
        ("c", REST),
    ),
    "storage of another class with as long a name": table(
        1,
        ("a", vector(2, 6, 1, 1, instance(8, "torch.ShortStorage") + longs(6) + bytes(24))),
        ("c", REST),
    ),
    "no numbers and a storage": table(
        1, ("a", instance(2, "torch.FloatTensor") + ints(0) + longs(1) + STORAGE), ("b", YES)
    ),
    "version of one digit": table(1, ("a", instance(2, "my.A", "V 2") + FIELD), ("b", YES)),
    "text longer than the file": table(1, ("a", ints(2, 100) + b"abcdef")),
    "negative zeros": ints(3, 1, 1, 1) + struct.pack("<did", -0.0, 1, -0.0),
}


@pytest.mark.parametrize("name", STREAMS)
def test_both_paths_read_unusual_streams_alike(name: str) -> None:
    # Streams without longs parse with 4-byte longs too, for which the fast path does less.
    assert difference(outcome(STREAMS[name], 8), slow_outcome(STREAMS[name], 8)) == ""


def test_the_unusual_streams_hold_what_their_names_say() -> None:
    """Otherwise both paths could agree because both fail."""
    loaded = {name: outcome(stream, 8) for name, stream in STREAMS.items()}
    assert loaded["part of a storage"]["a"].tolist() == [2, 3, 4]
    assert loaded["every other element"]["a"].tolist() == [0, 2, 4]
    assert loaded["one element many times"]["a"].tolist() == [1] * 9
    assert loaded["shared storage"]["b"].storage is loaded["shared storage"]["a"].storage
    assert (
        loaded["storage, then its tensor"]["b"].storage is loaded["storage, then its tensor"]["a"]
    )
    shared = loaded["fields read before"]
    assert shared["b"].fields is shared["a"]
    itself = loaded["fields that are the instance"]["b"]
    assert itself.body == [itself]
    assert "V01 is written in a way" in loaded["no space in the version"]
    assert isinstance(loaded["version of two digits"]["a"], LuaObject)
    assert "reaches element 7" in loaded["beyond the storage"]
    # `File.lua`: `self:readInt() == 1`.
    assert dict(loaded["no boolean of Lua's"].items()) == {"a": False, "b": False}
    assert [*map(type, loaded["keys beyond whole numbers"])] == [float, float]
    for name in ("another type", "another class with as long a name"):
        assert "expected the storage of a torch.FloatTensor" in loaded[f"storage of {name}"]
    empty = loaded["no numbers and a storage"]["a"]
    assert (empty.shape, empty.storage.tolist()) == ((0,), [0, 1, 2, 3, 4, 5])
    assert loaded["version of one digit"]["a"].version == 2
    assert "a string needs 100 bytes and 6 are left" in loaded["text longer than the file"]
    assert repr(loaded["negative zeros"].items()) == "[(-0.0, -0.0)]"


def test_a_storage_of_four_byte_longs_is_not_read_on_the_fast_path() -> None:
    """Its first number, here zero, would be taken for a half of the count."""
    values = np.arange(6, dtype=np.float32).view(TorchArray)
    values.torch_class = "torch.FloatStorage"
    data = t7.dumps({"a": values, "rest": "x" * 80}, long_size=4)
    assert t7.loads(data, long_size=4)["a"].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", ["torch.LongStorage", "torch.CudaLongStorage"])
def test_longs_of_every_device_have_the_width_of_the_file(name: str) -> None:
    values = np.array([7, -8, 9]).view(TorchArray)
    values.torch_class = name
    wide, narrow = (t7.dumps(values, long_size=size) for size in (8, 4))
    assert len(wide) - len(narrow) == 4 * (1 + 3)
    found = t7.loads(narrow, long_size=4)
    assert (found.torch_class, found.dtype, found.tolist()) == (name, np.int64, [7, -8, 9])
    none = np.zeros(0, np.int64).view(TorchArray)
    none.torch_class = name
    assert t7.loads(t7.dumps(none, long_size=4), long_size=4).tolist() == []


def test_the_body_of_an_instance_is_its_fields() -> None:
    for count in (0, 1, 40):
        entries = {f"k{index}": index for index in range(count)}
        for value in (LuaObject("my.A", LuaTable(entries)), LuaObject("nn.A", LuaTable(entries))):
            outer, inner = t7.loads(t7.dumps(value)), t7.loads(t7.dumps([value]))[1]
            for found in (outer, inner):
                assert len(found.body) == 1
                assert found.body[0] is found.fields
                assert dict(found.fields.items()) == entries


def test_guesses_record_the_first_and_last_instance() -> None:
    """Most likely, the layout of the last class in front of a parse error is wrong."""
    classes = Classes({}, long_size=8)
    first, second = classes.find(("V 1", "my.A")), classes.find(("V 1", "my.B"))
    assert first is not None
    assert second is not None
    for lua_class, offset in ((first, 10), (second, 20), (first, 30)):
        classes.record_instance(lua_class, offset)
    offsets = [(guess.first_offset, guess.last_offset) for guess in classes.guesses.values()]
    assert offsets == [(10, 30), (20, 20)]


@pytest.mark.parametrize("stream", [STORAGE, instance(2, "my.A") + FIELD])
def test_a_repeated_key_is_an_anomaly(stream: bytes) -> None:
    """Torch never writes a key twice, so another format is more likely."""
    twice = table(1, ("a", instance(4, "my.B") + table(5)), ("a", stream), ("b", YES))
    reader = Reader(BinaryDecoder(twice))
    reader.read()
    assert reader.anomalies
