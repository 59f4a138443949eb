"""Hypothesis strategies for the values of a `.t7`: graphs with sharing, cycles and overlaps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from torchlift.converters.t7 import LuaFunction, LuaObject, LuaTable, TorchArray

KINDS = {
    "Byte": "u1",
    "Char": "i1",
    "Short": "i2",
    "Int": "i4",
    "Long": "i8",
    "Half": "f2",
    "Float": "f4",
    "Double": "f8",
    "Cuda": "f4",
    "CudaHalf": "f2",
    "CudaDouble": "f8",
}
CLASSES = ("nn.Linear", "nn.Sequential", "my.Class", "tds.Hash", "nngraph.Node")


def stays_float(number: float) -> bool:
    """Return whether a float is read back as a float; whole numbers become `int`."""
    return not number.is_integer() or abs(number) > 2**53 or str(number) == "-0.0"


def is_binary(raw: bytes) -> bool:
    """Return whether bytes are read back as `bytes`; UTF-8 becomes `str`."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return True
    return False


NUMBERS = st.integers(-(2**53), 2**53) | st.floats().filter(stays_float)
STRINGS = st.text(max_size=20) | st.binary(min_size=1, max_size=20).filter(is_binary)
SCALARS = st.booleans() | NUMBERS | STRINGS
KEYS = st.integers(-3, 40) | st.booleans() | STRINGS | st.sampled_from([0.5, math.inf, 2.0**60])


@st.composite
def storages(draw: st.DrawFn) -> TorchArray:
    """Draw a storage of any class with any bytes."""
    kind = draw(st.sampled_from(sorted(KINDS)))
    dtype = np.dtype(KINDS[kind])
    # A LongStorage has to fit into a file with 4-byte longs.
    stored = np.dtype("i4") if kind == "Long" else dtype
    raw = draw(st.binary(max_size=80))
    elements = np.frombuffer(raw[: len(raw) // stored.itemsize * stored.itemsize], stored)
    storage = elements.astype(dtype).view(TorchArray)
    storage.torch_class = f"torch.{kind}Storage"
    return storage


@st.composite
def tensors(draw: st.DrawFn, storage: TorchArray) -> TorchArray:
    """Draw a view of a storage: any shape, strides (including 0) and offset that fit."""
    shape, strides, left = [], [], len(storage)
    offset = draw(st.integers(0, max(left - 1, 0)))
    left -= offset + 1
    for _ in range(draw(st.integers(1, 4)) if len(storage) else 0):
        stride = draw(st.integers(0, 4))
        size = draw(st.integers(1, min(left // stride + 1, 5) if stride else 3))
        left -= (size - 1) * stride
        shape.append(size)
        strides.append(stride * storage.itemsize)
    if shape:
        tensor = TorchArray(shape, storage.dtype, storage, offset * storage.itemsize, strides)
        tensor.storage, tensor.storage_offset = storage, offset
    else:
        tensor = TorchArray((0,), storage.dtype)
    tensor.torch_class = str(storage.torch_class).replace("Storage", "Tensor")
    return tensor


@st.composite
def values(draw: st.DrawFn) -> Any:
    """Draw a graph of tables, instances and functions, with sharing, cycles and shared storages."""
    base = draw(st.lists(storages(), max_size=3))
    arrays = [*base, *(draw(tensors(storage)) for storage in base for _ in range(2))]
    nodes = draw(st.lists(st.builds(make_node, st.sampled_from(("table", "function", *CLASSES)))))
    objects = st.sampled_from([*arrays, *nodes]) if arrays or nodes else SCALARS
    items = SCALARS | objects
    for node in nodes:
        fill(draw, node, items, objects)
    return draw(st.sampled_from(nodes)) if nodes else draw(items)


def make_node(kind: str) -> Any:
    """Return an empty table, function or instance of a class."""
    if kind == "table":
        return LuaTable()
    return LuaFunction(b"\x1bLJ\x02", LuaTable()) if kind == "function" else LuaObject(kind)


def fill(draw: st.DrawFn, node: Any, items: st.SearchStrategy, objects: st.SearchStrategy) -> None:
    """Put items into a node, under keys of every kind."""
    if isinstance(node, LuaFunction):
        node.bytecode, node.tag = draw(st.binary(max_size=12)), draw(st.sampled_from((7, 8)))
        node.upvalues = LuaTable.from_list(draw(st.lists(items, max_size=2)))
        return
    table = node.fields if isinstance(node, LuaObject) else node
    # Long runs of numbers are decoded as arrays.
    for key, value in enumerate(draw(st.lists(NUMBERS, max_size=70)), 1):
        table[key] = value
    for key in draw(st.lists(KEYS | objects, max_size=6)):
        table[key] = draw(items)
