"""The weights of an `.onnx` file without the package onnx, which running a model does not need.

An `.onnx` file is a protobuf message. Only the fields that lead to the numbers of its constants are
read (`onnx.proto`): `ModelProto.graph`, `GraphProto.initializer`, and those of `TensorProto`.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..finite import first_not_finite
from .protobuf import Field, fields, messages, varint

_GRAPH, _INITIALIZER = 7, 5
_DIMS, _DATA_TYPE, _NAME, _EXTERNAL = 1, 2, 8, 13
#: The fields that hold a tensor's numbers: raw_data, float_data, double_data.
_NUMBERS = (9, 4, 10)
#: TensorProto.DataType of floating point numbers.
_DTYPES = {1: "<f4", 10: "<f2", 11: "<f8"}


def first_not_finite_weight(file: Path) -> str:
    """Return which constant of an `.onnx` file is not a number, and where; empty if none is.

    An infinity may be there on purpose, as in a mask; only NaN counts.

    Args:
        file: A file that ONNX Runtime can open.
    """
    for name, values in _constants(file):
        unknown = np.isnan(values)
        if unknown.any():
            return f"{name}{first_not_finite(np.where(unknown, values, 0))}"
    return ""


def missing_weights(file: Path) -> str:
    """Return which file of weights beside an `.onnx` file is missing or cut; empty if none is.

    Args:
        file: Any file; one that is not ONNX is left to whoever opens it.
    """
    try:
        for tensor in _tensors(file):
            entries = [dict(fields(value)) for number, value in tensor if number == _EXTERNAL]
            places = {bytes(entry[1]): bytes(entry[2]) for entry in entries}
            if not places:
                continue
            name = places[b"location"].decode()
            beside = file.parent / name
            if not beside.is_file():
                return f"its weights are in {name}, which is missing beside it"
            end = int(places.get(b"offset", 0)) + int(places.get(b"length", 0))
            if end > beside.stat().st_size:
                return f"its weights in {name} are cut: {end:,} bytes were expected"
    except (OSError, ValueError, IndexError, KeyError, TypeError):
        return ""
    return ""


def _tensors(file: Path) -> Iterator[list[Field]]:
    """Yield the fields of each constant."""
    with file.open("rb") as stream:
        content = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    for graph in messages(content, _GRAPH):
        for tensor in messages(graph, _INITIALIZER):
            yield list(fields(tensor))


def _constants(file: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the names and values of the constants with floating point numbers."""
    try:
        for tensor in _tensors(file):
            values = _values(tensor, file.parent)
            if values is not None:
                names = [bytes(value) for number, value in tensor if number == _NAME]
                yield (names or [b""])[-1].decode(errors="replace"), values
    except (OSError, ValueError, IndexError, KeyError):
        return  # Whoever opens the file says what is wrong with it.


def _values(tensor: list[Field], folder: Path) -> np.ndarray | None:
    """Return the numbers of a tensor; None if they are integers or cannot be found."""
    data_type = next((value for number, value in tensor if number == _DATA_TYPE), 0)
    dtype = _DTYPES.get(data_type) if isinstance(data_type, int) else None
    if dtype is None:
        return None
    parts = [value for number, value in tensor if number in _NUMBERS]
    flat = np.concatenate([np.frombuffer(value, dtype) for value in parts]) if parts else None
    entries = [dict(fields(value)) for number, value in tensor if number == _EXTERNAL]
    if entries:
        flat = _external({bytes(entry[1]): bytes(entry[2]) for entry in entries}, folder, dtype)
    if flat is None:
        return None
    shape = list(_dimensions(tensor))
    return flat.reshape(shape) if np.prod(shape, dtype=np.int64) == flat.size else flat


def _external(places: dict[bytes, bytes], folder: Path, dtype: str) -> np.ndarray | None:
    """Return numbers that are in a file beside the model."""
    file = folder / places[b"location"].decode()
    if file.parent != folder:
        return None
    size, offset = np.dtype(dtype).itemsize, int(places.get(b"offset", 0))
    length = int(places.get(b"length", file.stat().st_size - offset))
    return np.memmap(file, dtype, "r", offset, (length // size,))


def _dimensions(tensor: list[Field]) -> Iterator[int]:
    """Yield the sizes of a tensor: one a field, or all in one."""
    for number, value in tensor:
        if number == _DIMS and isinstance(value, int):
            yield value
        elif number == _DIMS and isinstance(value, memoryview):
            position = 0
            while position < len(value):
                size, position = varint(value, position)
                yield size
