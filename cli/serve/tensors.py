"""Tensors as the Open Inference Protocol writes them: their types, as JSON and as bytes."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import RequestError

#: The protocol's name of each type, by that of ONNX Runtime.
_DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}

#: NumPy's type for each of the protocol's.
_DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(bool),
    **{f"{kind}{bits}": np.dtype(f"<{kind[0].lower()}{bits // 8}")
       for kind in ("UINT", "INT") for bits in (8, 16, 32, 64)},
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}  # fmt: skip


#: The types of JSON values for each kind of NumPy's, and what they are called.
_JSON_TYPES: dict[str, tuple[set[type], str]] = {
    "O": ({str}, "texts"),
    "b": ({bool}, "booleans"),
    "i": ({int}, "whole numbers"),
    "u": ({int}, "whole numbers"),
    "f": ({int, float}, "numbers"),
}


@dataclass(frozen=True)
class Tensor:
    """An input or output of a model.

    Attributes:
        name: Its name.
        datatype: Its type, as the protocol calls it.
        shape: Its sizes; -1 for one that is free.
        axes: The names of the free sizes; None for one that has a size or no name.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    axes: tuple[str | None, ...]

    @classmethod
    def from_node(cls, node: Any) -> Tensor:
        """Return the description of one of ONNX Runtime's `NodeArg`.

        Raises:
            KeyError: If the protocol has no name for the type.
        """
        shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
        axes = tuple(size if isinstance(size, str) else None for size in node.shape)
        return cls(node.name, _DATATYPES[node.type], shape, axes)

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's type."""
        return _DTYPES[self.datatype]

    def check(self, datatype: Any, shape: Any) -> tuple[int, ...]:
        """Return the shape that a request gives this input.

        Raises:
            RequestError: If datatype or shape do not fit.
        """
        if datatype != self.datatype:
            raise RequestError(
                400,
                f"input {self.name!r} has datatype {_short(datatype)}, {self.datatype} expected",
            )
        is_list = isinstance(shape, list) and len(shape) <= 32
        if not is_list or not all(type(size) is int and 0 <= size < 2**40 for size in shape):
            raise RequestError(
                400, f"input {self.name!r} has shape {_short(shape)}: a list of sizes is expected"
            )
        fits = len(shape) == len(self.shape) and all(
            free in (-1, size) for free, size in zip(self.shape, shape, strict=True)
        )
        if not fits:
            expected = list(self.shape)
            raise RequestError(
                400, f"input {self.name!r} has shape {_short(shape)}, {expected} expected"
            )
        if 0 in shape:
            raise RequestError(400, f"input {self.name!r} has shape {shape}: it is empty")
        return tuple(shape)


def from_json(data: Any, tensor: Tensor, shape: tuple[int, ...]) -> np.ndarray:
    """Return a tensor from the `data` of a request, a list of numbers, nested or flat.

    Raises:
        RequestError: If there are too many or too few, or they are something else.
    """
    where, count = f"input {tensor.name!r}", math.prod(shape)
    if not isinstance(data, list):
        raise RequestError(400, f"{where} has no list 'data' and no 'binary_data_size'")
    flat = _flattened(data, count, where)
    kinds = set(map(type, flat))
    allowed, called = _JSON_TYPES[tensor.dtype.kind]
    if not kinds <= allowed:
        raise RequestError(400, f"{where} holds values that are no {called}")
    if tensor.dtype.kind in "iu":
        limits = np.iinfo(tensor.dtype)
        if not (limits.min <= min(flat) and max(flat) <= limits.max):
            raise RequestError(400, f"{where} holds numbers beyond {tensor.datatype}")
    try:
        values = np.array(flat, np.float64 if tensor.dtype.kind == "f" else tensor.dtype)
    except OverflowError:
        raise RequestError(400, f"{where} holds numbers beyond {tensor.datatype}") from None
    if tensor.dtype.kind == "f" and np.abs(values).max() > np.finfo(tensor.dtype).max:
        raise RequestError(400, f"{where} holds numbers beyond {tensor.datatype}")
    converted: np.ndarray = values.astype(tensor.dtype, copy=False)
    return converted.reshape(shape)


def _flattened(data: list[Any], count: int, where: str) -> list[Any]:
    """Return the values of nested lists, in order."""
    flat = data
    while flat and any(isinstance(value, list) for value in flat):
        if not all(isinstance(value, list) for value in flat):
            raise RequestError(400, f"{where} mixes lists and values")
        if not all(flat):
            raise RequestError(400, f"{where} holds an empty list")
        flat = [value for inner in flat for value in inner]
    if len(flat) != count:
        raise RequestError(400, f"{where} holds {len(flat):,} values, its shape {count:,}")
    return flat


def from_bytes(data: memoryview, tensor: Tensor, shape: tuple[int, ...]) -> np.ndarray:
    """Return a tensor from the bytes behind the JSON of a request, without a copy.

    Raises:
        RequestError: If there are too many or too few.
    """
    where, count = f"input {tensor.name!r}", math.prod(shape)
    if tensor.datatype == "BYTES":
        return np.array(_texts(data, count, where), object).reshape(shape)
    expected = count * tensor.dtype.itemsize
    if len(data) != expected:
        raise RequestError(400, f"{where} has {len(data):,} bytes, its shape {expected:,}")
    if tensor.datatype == "BOOL":
        return np.not_equal(np.frombuffer(data, np.uint8), 0).reshape(shape)
    values: np.ndarray = np.frombuffer(data, tensor.dtype)
    return values.reshape(shape)


def _texts(data: memoryview, count: int, where: str) -> list[str]:
    """Return texts, each behind its length in four bytes."""
    texts: list[str] = []
    position = 0
    while position < len(data):
        if position + 4 > len(data):
            raise RequestError(400, f"{where} ends within a text")
        (length,) = struct.unpack_from("<I", data, position)
        position += 4
        if position + length > len(data):
            raise RequestError(400, f"{where} ends within a text")
        try:
            texts.append(str(data[position : position + length], "utf-8"))
        except UnicodeDecodeError:
            raise RequestError(400, f"{where} holds a text that is no UTF-8") from None
        position += length
    if len(texts) != count:
        raise RequestError(400, f"{where} holds {len(texts):,} texts, its shape {count:,}")
    return texts


def to_bytes(values: np.ndarray) -> bytes:
    """Return a tensor as the protocol's binary data."""
    if values.dtype != object:
        return np.ascontiguousarray(values).tobytes()
    texts = [text if isinstance(text, bytes) else str(text).encode() for text in values.flat]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def to_json(values: np.ndarray) -> list[Any]:
    """Return a tensor as the protocol's JSON, flat; what is not finite is None.

    Example:
        >>> to_json(np.array([[1.5, np.nan]], np.float32))
        [1.5, None]
    """
    flat: list[Any] = values.reshape(-1).tolist()
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return [value if math.isfinite(value) else None for value in flat]
    return flat


def datatype_of(values: np.ndarray) -> str:
    """Return the protocol's name of an array's type."""
    if values.dtype.kind in "OUS":
        return "BYTES"
    return next(name for name, dtype in _DTYPES.items() if dtype == values.dtype)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
