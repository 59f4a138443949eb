"""What is read of an `.onnx` file without the package onnx: fields of its messages, and weights.

The messages are put together by hand, or by the package.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from torchlift.converters.inference import InferenceError
from torchlift.converters.inference.onnx_weights import first_not_finite_weight, missing_weights
from torchlift.converters.inference.protobuf import fields, spans
from torchlift.converters.inference.providers import open_session

#: One field of each wire type: a number, eight bytes, any bytes, four bytes.
PARTS = [
    (1, b"\x08\xac\x02", 300),
    (2, b"\x11" + struct.pack("<d", 0.5), struct.pack("<d", 0.5)),
    (3, b"\x1a\x03abc", b"abc"),
    (4, b"\x25" + struct.pack("<f", 0.5), struct.pack("<f", 0.5)),
    # A field whose number takes two bytes.
    (300, b"\xe2\x12\x01x", b"x"),
]


@pytest.mark.parametrize("first", range(len(PARTS)))
def test_a_field_is_as_long_as_its_wire_type_says(first: int) -> None:
    """Each of them in front, so that a wrong length shows in what follows."""
    parts = PARTS[first:] + PARTS[:first]
    message = memoryview(b"".join(content for _, content, _ in parts))
    found = [
        (number, value if isinstance(value, int) else bytes(value))
        for number, value in fields(message)
    ]
    assert found == [(number, value) for number, _, value in parts]
    whole = [(number, bytes(span)) for number, span in spans(message)]
    assert whole == [(number, content) for number, content, _ in parts]


@pytest.mark.parametrize("wire", [3, 4, 6, 7])
def test_a_wire_type_that_nobody_writes_is_no_message(wire: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        list(fields(memoryview(bytes([1 << 3 | wire, 0]))))


def external(folder: Path, **places: Any) -> Path:
    """Write a file whose weight is in another one."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in places.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
    graph = helper.make_graph([], "g", [], [], [tensor])
    (folder / "f.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    return folder / "f.onnx"


@pytest.mark.parametrize(
    ("places", "found"),
    [
        ({"location": "w.data"}, "w[0] is nan"),
        ({"location": "w.data", "offset": 4}, "w[3] is nan"),
        ({"location": "w.data", "offset": 8, "length": 12}, "w[2] is nan"),
        ({"location": "w.data", "offset": 4, "length": 12}, ""),
        ({"location": "w.data", "length": 0}, ""),
        # A file says which file is read: none but those beside it.
        ({"location": "../w.data"}, ""),
        ({"location": "inside/w.data"}, ""),
    ],
)
def test_weights_beside_a_file_are_read_and_no_others(
    places: dict[str, Any], found: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    (folder / "inside").mkdir(parents=True)
    beside = np.array([np.nan, 1, 2, 3, np.nan], np.float32)
    beside.tofile(folder / "w.data")
    for other in (tmp_path, folder / "inside"):
        np.full(5, np.nan, np.float32).tofile(other / "w.data")
    file = external(folder, **places)
    assert first_not_finite_weight(file).partition(" (")[0] == found


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ({"location": "w.data", "length": 20}, ""),
        ({"location": "w.data", "offset": 8, "length": 12}, ""),
        ({"location": "w.data", "offset": 8, "length": 13}, "cut: 21 bytes were expected"),
        ({"location": "w.data", "offset": 21}, "cut: 21 bytes were expected"),
        ({"location": "v.data", "length": 1}, "in v.data, which is missing beside it"),
        # What is no place is left to whoever opens the file.
        ({"location": "w.data", "offset": "x"}, ""),
        ({"offset": 8}, ""),
    ],
)
def test_a_file_of_weights_that_is_missing_or_cut_is_named(
    places: dict[str, Any], said: str, tmp_path: Path
) -> None:
    (tmp_path / "w.data").write_bytes(bytes(20))
    found = missing_weights(external(tmp_path, **places))
    assert (said in found) if said else found == ""


@pytest.mark.parametrize(
    ("dtype", "raw"),
    [
        (TensorProto.FLOAT, False),
        (TensorProto.DOUBLE, False),
        (TensorProto.FLOAT, True),
        (TensorProto.DOUBLE, True),
        (TensorProto.FLOAT16, True),
    ],
)
def test_numbers_are_read_in_each_field_that_holds_them(
    dtype: int, raw: bool, tmp_path: Path
) -> None:
    numbers = np.array([1, np.nan, 2, 3, 4, 5])
    kinds = {TensorProto.FLOAT: "<f4", TensorProto.DOUBLE: "<f8", TensorProto.FLOAT16: "<f2"}
    content = numbers.astype(kinds[dtype]).tobytes() if raw else numbers
    tensor = helper.make_tensor("w", dtype, [3, 2], content, raw=raw)
    graph = helper.make_graph([], "g", [], [], [tensor])
    (tmp_path / "f.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    assert first_not_finite_weight(tmp_path / "f.onnx").startswith("w[0, 1] is nan (1 of 6 ")


@pytest.mark.parametrize(
    ("length", "said"),
    [(None, ", which is missing beside it"), (11, " are cut: 12 bytes were expected")],
)
def test_no_session_has_a_part_of_the_weights(
    length: int | None, said: str, tmp_path: Path
) -> None:
    if length is not None:
        (tmp_path / "w.data").write_bytes(bytes(length))
    file = external(tmp_path, location="w.data", length=12)
    with pytest.raises(InferenceError, match=rf"f\.onnx: its weights .*w\.data{said}"):
        open_session(file, "cpu")


@pytest.mark.parametrize(
    ("content", "number"),
    [(b"\x7f", 127), (b"\x80\x01", 128), (b"\x81\x01", 129), (b"\x80\x80\x01", 16384)],
)
def test_a_number_has_seven_bits_a_byte(content: bytes, number: int) -> None:
    assert list(fields(memoryview(b"\x08" + content + b"\x10\x05"))) == [(1, number), (2, 5)]


def test_a_name_that_is_no_text_hides_no_number(tmp_path: Path) -> None:
    tensor = helper.make_tensor("weight", TensorProto.FLOAT, [2], [1.0, float("nan")])
    graph = helper.make_graph([], "g", [], [], [tensor])
    content = helper.make_model(graph).SerializeToString()
    (tmp_path / "f.onnx").write_bytes(content.replace(b"weight", b"\xff\xfeight"))
    found = first_not_finite_weight(tmp_path / "f.onnx")
    assert found.partition(" (")[0] == "\ufffd\ufffdight[1] is nan"
