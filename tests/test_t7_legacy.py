"""Bodies that classes wrote themselves before 2013, and the places of errors inside of bodies.

The order of the fields is that of the `write` methods of Torch 5 to 7 at that time. Files of those
years are rare: here each class is written by hand, with numbers of which no two are equal.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from torchlift.converters import t7
from torchlift.converters.t7 import LuaFunction, LuaObject, LuaTable, T7Error
from torchlift.converters.t7.class_layouts import ClassLayout, possible_layouts
from torchlift.converters.t7.errors import TruncatedError
from torchlift.converters.t7.reading.arrays import tensor_view
from torchlift.converters.t7.reading.legacy_layouts import LEGACY_LAYOUTS

SIZES = "kW kH dW dH"
WEIGHTS = "weight bias gradWeight gradBias"

#: The fields of a class in 2011 after `gradInput` and `output`: numbers, then objects.
FIELDS_OF_2011 = {
    "Linear": ("weightDecay", WEIGHTS),
    "Max": ("dimension", "indices"),
    "Min": ("dimension", "indices"),
    "SpatialConvolution": (f"{SIZES} nInputPlane nOutputPlane", WEIGHTS),
    "SpatialConvolutionMap": (f"{SIZES} nInputPlane nOutputPlane", f"{WEIGHTS} connTable"),
    "SpatialSubSampling": (f"{SIZES} nInputPlane", WEIGHTS),
    "SpatialMaxPooling": (SIZES, "indices"),
    "TemporalConvolution": ("kW dW inputFrameSize outputFrameSize", WEIGHTS),
    "Threshold": ("threshold val", ""),
    "SpatialLinear": ("fanin fanout weightDecay", WEIGHTS),
    "SpatialPadding": ("pad_l pad_r pad_t pad_b", ""),
    "SpatialReSampling": ("owidth oheight", ""),
    "Sum": ("dimension", ""),
    "Replicate": ("nfeatures", ""),
    "LogSigmoid": ("", "buffer"),
    "Tanh": ("", ""),
}


def text(*words: object) -> bytes:
    return "".join(f"{word}\n" for word in words).encode()


def string(value: str) -> bytes:
    return text(len(value), value)


def header(name: str) -> bytes:
    """Return the start of an object in a binary stream."""
    return struct.pack("<iii3si", 4, 1, 3, b"V 1", len(name)) + name.encode()


FLOATS, STORAGE = header("torch.FloatTensor"), header("torch.FloatStorage")


@pytest.mark.parametrize("name", FIELDS_OF_2011)
def test_fields_of_2011_come_in_the_order_of_their_class(name: str) -> None:
    numbers, objects = (names.split() for names in FIELDS_OF_2011[name])
    body = text(2, 1, "o", 2, 1, "g")  # Two strings stand for gradInput and output.
    body += text(*range(11, 11 + len(numbers)))
    body += b"".join(text(2) + string(field) for field in objects)
    layer = text(4, 1) + string("V 1") + string(f"nn.{name}") + body
    # A table behind it shows where it ends.
    value = t7.loads(text(3, 7, 2, 1, 1) + layer + text(1, 2, 2) + string("end"), format="ascii")
    assert value[2] == "end"
    expected = {"gradInput": "o", "output": "g"}
    expected |= dict(zip(numbers, range(11, 17), strict=False))
    expected |= {field: field for field in objects}
    assert dict(value[1].fields.items()) == expected


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("Select", "oo" + "il"),
        ("SoftMax", "oo" + "di"),
        ("Linear", "oo" + "d" + "oooo"),
        ("Threshold", "oo" + "dd"),
        ("SpatialLinear", "oo" + "iid" + "oooo"),
        ("SpatialMaxPooling", "oo" + "iiii" + "o"),
        ("TemporalConvolution", "oo" + "iiii" + "oooo"),
        ("SpatialNormalization", "oo" + "o" + "iiiii" + "o" * 11),
        ("Sequential", "oo" + "o"),
        ("Abs", "oo"),
    ],
)
def test_numbers_of_2011_have_the_width_of_their_c_type(name: str, parts: str) -> None:
    later, first = LEGACY_LAYOUTS
    assert first[f"nn.{name}"].parts == parts
    assert len(first[f"nn.{name}"].field_names) == len(parts)
    # The package nnx wrote its own fields after one table until 2012; nn did not.
    if f"nn.{name}" in later:
        assert later[f"nn.{name}"].parts == "o" + parts[2:]
        assert later[f"nn.{name}"].field_names == ()
    assert (f"nn.{name}" in later) is (name.startswith(("SpatialL", "SpatialN", "SpatialM", "Th")))


@pytest.mark.parametrize("name", ["nn.ModelParallelTable", "nn.DataParallelTable"])
@pytest.mark.parametrize(
    ("version", "is_split"), [(0, False), (1, False), (2, True), (3, True), ("x", False)]
)
def test_parallel_tables_have_a_body_of_their_own_since_version_2(
    name: str, version: int | str, is_split: bool
) -> None:
    (layout,) = possible_layouts(name, version, 8)
    split = "oo" if name == "nn.DataParallelTable" else "o*o"
    assert layout.parts == (split if is_split else "o")
    if isinstance(version, int) and version < 2:
        modules = LuaTable.from_list([LuaObject("nn.Tanh")])
        table = LuaObject(name, LuaTable({"modules": modules, "x": 5}), version)
        found = t7.loads(t7.dumps([table, "end"]))
        assert (found[1]["x"], len(found[1]["modules"]), found[2]) == (5, 1, "end")


def test_the_branches_of_a_table_without_assignments_are_none() -> None:
    """Of a damaged file: a number stands where the table with their GPUs was expected."""
    start = text(4, 1) + string("V 2") + string("nn.ModelParallelTable")
    found = t7.loads(start + text(1, 5) + text(3, 2, 1, 1, 7, 1, 8))
    assert (found["gpuAssignments"], found["modules"].to_list(), found[7]) == (5, [], 8)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"v": LuaObject("tds.Vec", LuaTable.from_list(["a", "bad"]), 0)}, "v[2]"),
        ({"h": LuaObject("tds.Hash", LuaTable({"a": 1, "x": "bad"}), 0)}, "h.x"),
        ({"f": LuaFunction(b"\x1b", LuaTable.from_list([1, "bad"]))}, "f.upvalues[2]"),
        ({True: {"a b": ["bad"]}}, '[true]["a b"][1]'),
        ([[["bad"]]], "[1][1][1]"),
        ({"m": LuaObject("nn.A", LuaTable({"x": "bad"}))}, "m.x"),
    ],
)
@pytest.mark.parametrize("format", ["binary", "ascii"])
def test_an_error_has_the_path_of_its_value(value: Any, path: str, format: Any) -> None:
    """The length of the last string is wrong: it reaches beyond the end."""
    data = t7.dumps(value, format=format)
    length = {"binary": struct.pack("<i", 3), "ascii": b"\n3\n"}[format]
    wrong = {"binary": struct.pack("<i", 99), "ascii": b"\n99\n"}[format]
    before, _, after = data.rpartition(length + b"bad")
    with pytest.raises(T7Error, match=r"a string needs 99 bytes and \d are left") as error:
        t7.loads(before + wrong + b"bad" + after, format=format, long_size=8)
    assert error.value.path == path


@pytest.mark.parametrize("count", [-1, 1000, 2**31 - 1])
def test_a_table_of_more_entries_than_bytes_is_refused_before_it_is_read(count: int) -> None:
    starts = {
        "binary": struct.pack("<4idiii", 3, 1, 1, 1, 5, 3, 2, count),
        "ascii": text(3, 1, 1, 1, 5, 3, 2, count),
    }
    for format, start in starts.items():
        rest = t7.dumps("x" * 1000, format=format)  # type: ignore[arg-type]  # both are formats
        said = f"a table of {count:,} entries does not fit in the {len(rest):,} bytes that are left"
        with pytest.raises(T7Error, match=said):
            t7.loads(start + rest, format=format, long_size=8)  # type: ignore[arg-type]
    vec = t7.dumps(LuaObject("tds.Vec", LuaTable.from_list([1]), 0))
    damaged = vec.replace(struct.pack("<q", 1), struct.pack("<q", count), 1)
    with pytest.raises(T7Error, match=rf"a tds\.Vec of {count:,} objects does not fit"):
        t7.loads(damaged, long_size=8)


def test_a_short_table_that_is_cut_is_truncated() -> None:
    """Of a file that is cut no other forms are tried."""
    with pytest.raises(TruncatedError):
        t7.loads(t7.dumps([1, 2, 3, 4, 5, 6, 7, 8])[:14])


@pytest.mark.parametrize("code", [b"", b"no ESC", b"\x03\0\0\0abc", b"\x1bcode"])
def test_the_bytecode_of_an_early_function_ends_after_its_size(code: bytes) -> None:
    """Whatever it looks like: what follows is read from there on."""
    function = LuaFunction(code, upvalues=LuaTable({"a": 1}), tag=6)
    found, end = t7.loads(t7.dumps([function, "end"])).to_list()
    assert (found.bytecode, found.upvalues["a"], end) == (code, 1, "end")


@pytest.mark.parametrize("sizes", [(2, 3), (4, 0), (64,)])
def test_a_tensor_with_numbers_needs_a_storage(sizes: tuple[int, ...]) -> None:
    tensor = text(4, 1) + string("V 1") + string("torch.FloatTensor")
    tensor += text(len(sizes), " ".join(map(str, sizes)), " ".join("1" * len(sizes)), 1, 0)
    if 0 in sizes:
        assert t7.loads(tensor).shape == sizes
    else:
        with pytest.raises(T7Error, match=r"of sizes \(.*\) has no storage"):
            t7.loads(tensor)


@pytest.mark.parametrize(("offset", "fits"), [(1, True), (3, True), (4, False), (0, False)])
def test_a_view_lies_within_its_storage(offset: int, fits: bool) -> None:
    """4 of 6 numbers, from the first, counted from 1."""
    data = t7.dumps(np.arange(6, dtype=np.float32))
    usual = struct.pack("<qqq", 6, 1, 1)
    assert data.count(usual) == 1
    changed = data.replace(usual, struct.pack("<qqq", 4, 1, offset))
    if fits:
        found = t7.loads(changed, long_size=8)
        assert found.tolist() == list(range(offset - 1, offset + 3))
        assert found.storage_offset == offset - 1
    else:
        last = offset + 3
        with pytest.raises(T7Error, match=f"reaches element {last} of a storage of 6"):
            t7.loads(changed, long_size=8)


@pytest.mark.parametrize(
    "storage", ["torch.DoubleStorage", "torch.IntStorage", "torch.FloatTensor", "my.Storage"]
)
def test_a_tensor_has_a_storage_of_its_type(storage: str) -> None:
    name = "torch.FloatTensor"
    body = text(4, 1) + string("V 1") + string(name) + text(1, 2, 1, 1)
    body += text(4, 2) + string("V 1") + string(storage) + text(2, "1 2")
    with pytest.raises(T7Error, match=r"expected (the storage of a torch\.FloatTensor|a storage)"):
        t7.loads(body)


def test_what_a_tensor_refers_to_is_a_storage() -> None:
    """Here a table that was read before."""
    start = text(3, 1, 2, 1, 1, 3, 2, 0, 1, 2, 4, 3) + string("V 1") + string("torch.FloatTensor")
    with pytest.raises(T7Error, match=r"expected the storage of a torch\.FloatTensor"):
        t7.loads(start + text(1, 2, 1, 1, 4, 2))


@pytest.mark.parametrize(
    ("data", "said", "offset"),
    [
        (struct.pack("<i", 3), "an object needs 8 bytes and 0 are left", 4),
        (struct.pack("<ih", 4, 1), "an object needs 8 bytes and 2 are left", 4),
        (struct.pack("<ii", 2, -3), "a string has a negative size", 8),
        (struct.pack("<iiii", 3, 1, 1, 2) + struct.pack("<i", -3), "a string has a negative", 20),
        (struct.pack("<iiii", 3, 1, 1, 0), "a table has nil as a key", 16),
        (struct.pack("<ii", 2, 9) + b"abc", "a string needs 9 bytes and 3 are left", 8),
        (struct.pack("<ih", 1, 1), "an object needs 8 bytes and 2 are left", 4),
        (struct.pack("<iii", 4, 1, -3), "a string has a negative size", 12),
        (FLOATS + struct.pack("<iq", 2, 1), "a list of sizes needs 40 bytes and 8 are left", 40),
        (STORAGE + struct.pack("<q", -1), "a storage of -1 elements has a negative size", 45),
        (STORAGE + struct.pack("<qf", 2, 1), "2 elements needs 8 bytes and 4 are left", 45),
    ],
)
def test_a_binary_value_that_is_cut_is_named(data: bytes, said: str, offset: int) -> None:
    with pytest.raises(T7Error, match=said) as error:
        t7.loads(data, format="binary", byte_order="little", long_size=8)
    assert error.value.offset == offset


def test_what_is_no_class_name_is_quoted_in_short() -> None:
    data = text(4, 1) + string("V 1") + string("\x01" * 500) + text(0)
    with pytest.raises(T7Error, match=r"expected a class name, found '(\\x01){40}' \("):
        t7.loads(data, format="ascii")


def test_a_stride_beyond_all_memory_is_damage() -> None:
    storage = np.zeros(4, np.float32).view(t7.TorchArray)
    with pytest.raises(ValueError, match="has sizes"):
        tensor_view("torch.FloatTensor", (1,), (2**62,), 0, storage)


def test_a_layout_of_a_body_has_as_many_parts() -> None:
    value = LuaObject("my.Layer", LuaTable({"x": 1}))
    value.layout = ClassLayout("parts", "oi")
    with pytest.raises(T7Error, match=r"the body of a my\.Layer must have 2 parts"):
        t7.dumps(value)
    value.body = [value.fields, 7]
    assert t7.dumps(value).endswith(struct.pack("<i", 7))
