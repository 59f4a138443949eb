"""Tensors of the Open Inference Protocol, without a server: every type, and what does not fit."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")

from torchlift.cli.serve.errors import RequestError
from torchlift.cli.serve.tensors import (
    Tensor,
    datatype_of,
    from_bytes,
    from_json,
    to_bytes,
    to_json,
)

VALUES: dict[str, list[Any]] = {
    "BOOL": [True, False],
    "UINT8": [0, 255],
    "INT8": [-128, 127],
    "UINT16": [0, 65535],
    "INT16": [-(2**15), 2**15 - 1],
    "INT32": [-(2**31), 2**31 - 1],
    "UINT32": [0, 2**32 - 1],
    "INT64": [-(2**63), 2**63 - 1],
    "UINT64": [0, 2**64 - 1],
    "FP16": [0.5, 65504.0],
    "FP32": [0.1, -3e38],
    "FP64": [0.1, 1e308],
    "BYTES": ["", "épagneul"],
}


def tensor(datatype: str) -> Tensor:
    return Tensor("x", datatype, (-1, 2), ("batch", None))


@pytest.mark.parametrize("datatype", VALUES)
def test_every_type_comes_in_and_goes_out_as_json_and_as_bytes(datatype: str) -> None:
    values, one = VALUES[datatype], tensor(datatype)
    array = from_json(values, one, (1, 2))
    expected = [float(one.dtype.type(value)) for value in values] if datatype[0] == "F" else values
    assert to_json(array) == expected
    assert (array.shape, datatype_of(array)) == ((1, 2), datatype)
    again = from_bytes(memoryview(to_bytes(array)), one, (1, 2))
    assert again.tolist() == array.tolist()
    assert again.dtype == array.dtype
    assert from_json([values], one, (1, 2)).tolist() == array.tolist()
    assert from_json([[values[:1], values[1:]]], one, (1, 2)).tolist() == array.tolist()


@pytest.mark.parametrize(
    ("datatype", "data", "problem"),
    [
        ("UINT8", [0, 256], "numbers beyond UINT8"),
        ("UINT8", [-1, 0], "numbers beyond UINT8"),
        ("INT8", [0, 128], "numbers beyond INT8"),
        ("INT64", [0, 2**63], "numbers beyond INT64"),
        ("FP16", [0, 65520], "numbers beyond FP16"),
        ("FP32", [0, 1e39], "numbers beyond FP32"),
        ("FP32", [-1e39, 0], "numbers beyond FP32"),
        ("FP16", [-65520, 0], "numbers beyond FP16"),
        ("FP64", [0, 10**400], "numbers beyond FP64"),
        ("INT32", [0, 1.0], "no whole numbers"),
        ("INT32", [0, True], "no whole numbers"),
        ("BOOL", [0, 1], "no booleans"),
        ("FP32", ["0", 1], "no numbers"),
        ("BYTES", ["a", 1], "no texts"),
        ("FP32", [1, 2, 3], "holds 3 values, its shape 2"),
        ("FP32", [[1, 2], 3], "mixes lists and values"),
        ("FP32", [[1, 2], []], "an empty list"),
        ("FP32", {"0": 1}, "no list 'data'"),
    ],
)
def test_values_that_do_not_fit_are_named(datatype: str, data: Any, problem: str) -> None:
    with pytest.raises(RequestError, match=problem) as refused:
        from_json(data, tensor(datatype), (1, 2))
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("datatype", "data", "problem"),
    [
        ("FP32", bytes(7), "has 7 bytes, its shape 8"),
        ("FP32", bytes(9), "has 9 bytes, its shape 8"),
        ("BYTES", b"\1\0\0\0a\1\0\0", "ends within a text"),
        ("BYTES", b"\1\0\0\0a\2\0\0\0b", "ends within a text"),
        ("BYTES", b"\1\0\0\0a", "holds 1 texts, its shape 2"),
        ("BYTES", b"\1\0\0\0a" * 3, "holds 3 texts, its shape 2"),
        ("BYTES", b"\1\0\0\0\xff\0\0\0\0", "no UTF-8"),
    ],
)
def test_bytes_that_do_not_fit_are_named(datatype: str, data: bytes, problem: str) -> None:
    with pytest.raises(RequestError, match=problem):
        from_bytes(memoryview(data), tensor(datatype), (1, 2))


def test_any_byte_but_zero_is_true() -> None:
    """And is 1 in memory, as whoever counts them expects."""
    found = from_bytes(memoryview(b"\2\0"), tensor("BOOL"), (1, 2))
    assert found.tolist() == [[True, False]]
    assert found.view(np.uint8).tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("datatype", "shape", "problem"),
    [
        ("FP64", [1, 2], "has datatype 'FP64', FP32 expected"),
        ("FP32", [2], r"has shape \[2\], \[-1, 2\] expected"),
        ("FP32", [1, 3], r"\[-1, 2\] expected"),
        ("FP32", [0, 2], "it is empty"),
        ("FP32", [-1, 2], "a list of sizes is expected"),
        ("FP32", [True, 2], "a list of sizes is expected"),
        ("FP32", [2**40, 2], "a list of sizes is expected"),
        ("FP32", "1,2", "a list of sizes is expected"),
        ("FP32", [1] * 33, "a list of sizes is expected"),
        ("FP32", [1] * 32, r"\[-1, 2\] expected"),
    ],
)
def test_types_and_shapes_that_do_not_fit_are_named(
    datatype: Any, shape: Any, problem: str
) -> None:
    with pytest.raises(RequestError, match=problem):
        tensor("FP32").check(datatype, shape)
    assert tensor("FP32").check("FP32", [7, 2]) == (7, 2)


def test_what_is_not_finite_is_null() -> None:
    values = np.array([1.0, math.nan, math.inf], np.float32)
    assert to_json(values) == [1.0, None, None]


def test_an_axis_of_one_takes_one() -> None:
    one = Tensor("x", "FP32", (-1, 1), ("batch", None))
    assert one.check("FP32", [3, 1]) == (3, 1)
    with pytest.raises(RequestError, match=r"\[-1, 1\] expected"):
        one.check("FP32", [3, 2])


def test_texts_of_any_kind_are_bytes_behind_their_length() -> None:
    """As little-endian numbers of four bytes; what is bytes already is no text to be encoded."""
    texts = [np.array(["a", "é"], object), np.array(["a", "é"]), np.array([b"a", b"\xc3\xa9"])]
    for one in texts:
        assert datatype_of(one) == "BYTES"
    assert to_bytes(texts[0]) == b"\1\0\0\0a\2\0\0\0\xc3\xa9"
    assert to_bytes(np.array([b"\xff", "b"], object)) == b"\1\0\0\0\xff\1\0\0\0b"


def test_bytes_are_row_by_row_however_numbers_lie_in_memory() -> None:
    rows = np.asfortranarray(np.array([[1, 2], [3, 4]], np.uint8))
    assert (to_bytes(rows), to_json(rows)) == (b"\1\2\3\4", [1, 2, 3, 4])


def test_a_node_of_onnx_runtime_has_named_and_nameless_axes() -> None:
    node = SimpleNamespace(name="x", type="tensor(float16)", shape=["batch", None, 0, 3])
    assert Tensor.from_node(node) == Tensor(
        "x", "FP16", (-1, -1, 0, 3), ("batch", None, None, None)
    )
    with pytest.raises(KeyError):
        Tensor.from_node(SimpleNamespace(name="x", type="seq(tensor(float))", shape=[]))
