"""`inspect` divides the bytes of a file among its layers and groups; they add up to its size."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import FIXTURES, wild_files
from t7_inspection_support import storage, view

from torchlift.converters import t7
from torchlift.converters.t7 import LuaObject, LuaTable, T7Error, TorchArray
from torchlift.converters.t7.inspection import inspect, inspect_value
from torchlift.converters.t7.inspection.storage_usage import (
    GROUPS,
    Bytes,
    TensorUse,
    attribute_bytes,
)
from torchlift.converters.t7.paths import follow
from torchlift.converters.t7.reading.load import read_file

UNCLEARED = FIXTURES / "digits" / "digits-lenet5-bn_uncleared.t7"
ALEXNET = FIXTURES / "models" / "alexnetowtbn_small.t7"

SPANS = st.tuples(st.integers(0, 40), st.integers(0, 40), st.sampled_from(GROUPS))


@given(st.integers(1, 40), st.lists(SPANS, min_size=1))
def test_a_storage_is_divided_element_by_element(
    size: int, spans: list[tuple[int, int, str]]
) -> None:
    """Compare with a slow implementation that attributes each element on its own."""
    base = storage(size)
    uses = []
    for owner, (start, length, group) in enumerate(spans):
        start = min(start, size - 1)
        uses.append(TensorUse(view(base, start, min(length, size - start)), owner, group))
    expected = [0] * len(uses)
    ranked = sorted(uses, key=lambda use: GROUPS.index(use.group))
    for element in range(size):
        covering = [
            use
            for use in ranked
            if use.array.storage_offset <= element < use.array.storage_offset + use.array.size
        ]
        expected[(covering or ranked[-1:])[0].owner or 0] += 4
    attributed = [0] * len(uses)
    for attribution in attribute_bytes(uses):
        attributed[attribution.use.owner or 0] += attribution.bytes
    assert attributed == expected


@pytest.mark.parametrize("stored", [11, 12, 13, 47])
def test_the_bytes_of_a_printed_storage_are_divided_without_a_rest(stored: int) -> None:
    """In ASCII files numbers have different lengths: an element has no whole number of bytes."""
    base = storage(7)
    base.stored_bytes = stored
    parts = ((0, 3, "weights"), (3, 2, "gradients"), (5, 2, "buffers"))
    uses = [TensorUse(view(base, start, size), None, group) for start, size, group in parts]
    attributed = [attribution.bytes for attribution in attribute_bytes(uses)]
    assert attributed[:2] == [stored * 3 // 7, stored * 2 // 7], "the rest is with the buffers"
    assert sum(attributed) == stored
    assert all(
        abs(count - stored * size / 7) < len(parts)
        for count, (_, size, _) in zip(attributed, parts, strict=True)
    )


def test_a_strided_view_uses_its_whole_extent() -> None:
    base = storage(12)
    columns = TensorUse(view(base, 1, 3, 2, strides=(4, 1)), 0, "weights")
    rest = TensorUse(base, None, "other")
    elements = [attribution.elements for attribution in attribute_bytes([rest, columns])]
    assert elements == [10, 2]


def test_bytes_of_a_training_checkpoint() -> None:
    """LeNet-5's parameters are known: 61,750 floats in one storage, and as many gradients."""
    result = inspect(UNCLEARED)
    assert result.parameters == 61_750
    assert result.bytes.weights == result.bytes.gradients == 4 * 61_750
    assert result.bytes.running_statistics == 4 * 2 * (6 + 16)
    assert result.bytes.total == result.size == UNCLEARED.stat().st_size
    convolution = result.layers[1]
    assert (convolution.parameters, convolution.bytes.weights) == (156, 4 * 156)
    # output 3×6×28×28 and finput 3×25×784
    assert convolution.bytes.buffers == 4 * 3 * (6 * 28 * 28 + 25 * 784)


def test_bytes_add_up_with_4_byte_longs() -> None:
    """A LongStorage with 4-byte longs has half as many bytes in the file as in memory."""
    raw = struct.pack("<ii", 4, 1) + struct.pack("<i", 3) + b"V 1"
    raw += struct.pack("<i", 17) + b"torch.LongStorage" + struct.pack("<qqq", 2, 7, 8)
    result = inspect_value(t7.load(raw), len(raw))
    assert (result.bytes.other, result.bytes.total) == (16, len(raw))


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("module_ascii", "ASCII"),
        ("module_big", "binary, 8-byte longs, big endian"),
        ("module_long4", "binary, 4-byte longs, little endian"),
    ],
)
def test_bytes_add_up_in_every_format(name: str, format: str) -> None:
    """Elements count with the bytes that they occupy in the file, as text too."""
    path = FIXTURES / "formats" / f"{name}.t7"
    result = inspect(path)
    assert result.format == format
    assert result.bytes.total == result.size == path.stat().st_size
    linear = follow(t7.load(path), "model.modules[1]")
    weights = [linear["weight"].storage, linear["bias"].storage]
    assert result.bytes.weights == sum(weight.stored_bytes for weight in weights)
    if format == "ASCII":
        text = b" ".join(b"%.17g" % number for number in weights[0]) + b"\n"
        assert text in path.read_bytes()
        assert weights[0].stored_bytes == len(text)


def test_bytes_of_a_compressed_file_are_decompressed_bytes(tmp_path: Path) -> None:
    path = tmp_path / "model.t7.gz"
    path.write_bytes(gzip.compress(ALEXNET.read_bytes()))
    result = inspect(path)
    assert result.bytes.total == result.size == ALEXNET.stat().st_size


@pytest.mark.parametrize(
    "path",
    [
        *wild_files(),
        *sorted(FIXTURES.glob("*/*.t7")),
    ],
    ids=lambda path: path.name,
)
def test_every_file_adds_up_and_serializes(path: Path) -> None:
    try:
        value = read_file(path).value
    except (T7Error, IsADirectoryError):
        pytest.skip("cannot be read")
    result = inspect(path)
    assert result.bytes.total == result.size
    assert result.bytes.structure > 0
    assert all(count >= 0 for count in vars(result.bytes).values())
    for layer in result.layers:
        assert isinstance(follow(value, layer.path), LuaObject)
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    groups = {entry["group"]: entry["bytes"] for entry in document["bytes_by_group"]}
    assert sum(groups.values()) == document["bytes"] == result.size
    in_layers = sum(layer["bytes"] for layer in document["layers"])
    assert in_layers + document["bytes_outside_layers"] + groups["structure"] == result.size
    for entry in document["layers"]:
        assert entry["bytes"] == sum(group["bytes"] for group in entry["bytes_by_group"])


def test_storages_of_no_numbers_and_views_of_none_have_no_bytes() -> None:
    empty, base = storage(0), storage(4)
    uses = [TensorUse(empty, 0, "weights"), TensorUse(empty, 1, "buffers")]
    assert [one.bytes for one in attribute_bytes(uses)] == [0, 0]
    for none in (view(base, 3, 0), view(base, 0, 0, 2, strides=(4, 1))):
        uses = [TensorUse(none, 0, "weights"), TensorUse(base, 1, "buffers")]
        assert [(one.elements, one.bytes) for one in attribute_bytes(uses)] == [(0, 0), (4, 16)]
    alone = np.zeros(3).view(TorchArray)
    assert attribute_bytes([TensorUse(alone, 0, "weights")]) == [], "it is in no storage"


def test_what_nothing_views_belongs_to_the_last_in_rank_and_within_one_to_the_first() -> None:
    base = storage(10)
    first, second = (TensorUse(view(base, 2, 4), n, "gradients") for n in (1, 2))
    weights = TensorUse(view(base, 4, 4), 3, "weights")
    found = {one.use.owner: one.elements for one in attribute_bytes([first, second, weights])}
    # 4 to 7 are weights; 2 and 3 gradients of the first; 0, 1, 8 and 9 nobody's.
    assert found == {3: 4, 1: 2, 2: 4}


def test_bytes_are_added_by_group() -> None:
    counts = Bytes(weights=5, structure=2)
    counts.add("weights", 3)
    counts.add("other", 1)
    assert counts.total == 11
    assert counts.to_json() == [
        {"group": "weights", "bytes": 8},
        {"group": "other", "bytes": 1},
        {"group": "structure", "bytes": 2},
    ]


def test_a_tensor_outside_of_modules_is_no_parameter_whatever_its_name() -> None:
    values = {"weight": storage(2), "gradWeight": storage(3), "running_mean": storage(4)}
    result = inspect_value(LuaTable({"state": LuaTable(values), "bias": storage(5)}), 1000)
    assert (result.parameters, result.outside.other, result.outside.total) == (0, 56, 56)
