"""The properties that fuzzing checks: bytes load or raise T7Error, values survive a round trip."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from torchlift.converters import t7
from torchlift.converters.t7 import LuaFunction, LuaObject, LuaTable, TorchArray
from torchlift.converters.t7.inspection import inspect_value


def exercise(data: bytes) -> bool:
    """Load bytes as a `.t7`, inspect the value, write it and load it again.

    Returns:
        Whether the bytes could be loaded.

    Raises:
        Exception: Any exception except the reader's `T7Error` is a finding.
    """
    message = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", t7.T7Warning)
        try:
            value = t7.load(data)
        except t7.T7Error as error:
            message = str(error)
        if message is None:
            repr(value)
            assert inspect_value(value, len(data)).bytes.total == len(data)
            written = t7.dumps(value)
            if not any(is_guess(item) for item in walk(value)):
                assert (problem := difference(value, t7.loads(written))) == "", problem
    assert message != "", "an error without a message"
    return message is None


def is_guess(value: Any) -> bool:
    """Return whether a value was read in a form that only the rest of the file confirmed."""
    if isinstance(value, LuaFunction):
        return value.tag == 6 and not value.bytecode.startswith(b"\x1b")
    return isinstance(value, LuaObject) and value.layout is not None


def walk(value: Any) -> Iterator[Any]:
    """Yield a value and everything inside it, each once."""
    # By id; keeping the values makes sure that no id is used twice.
    seen: dict[int, Any] = {}
    stack = [value]
    while stack:
        item = stack.pop()
        if id(item) not in seen:
            seen[id(item)] = item
            yield item
            stack += inner_values(item)


def difference(one: Any, other: Any) -> str:
    """Describe the first difference between two values: in kind, order, bits, sharing or cycles.

    Returns:
        The difference, or an empty string if the values are equal.
    """
    pairs: dict[int, tuple[Any, Any]] = {}
    stack = [(one, other, "value")]
    while stack:
        a, b, path = stack.pop()
        if isinstance(a, (LuaTable, LuaObject, LuaFunction, np.ndarray)):
            if id(a) in pairs:
                if pairs[id(a)][1] is not b:
                    return f"{path}: shared in one only"
                continue
            pairs[id(a)] = a, b
        if own_properties(a) != own_properties(b):
            return f"{path}: {own_properties(a)} and {own_properties(b)}"
        inner = zip(inner_values(a), inner_values(b), strict=True)
        stack += [(x, y, f"{path}.{index}") for index, (x, y) in enumerate(inner)]
    # Equal numbers of objects on both sides: objects distinct in one are distinct in the other.
    return "" if len(pairs) == len({id(b) for _, b in pairs.values()}) else "shared in one"


def own_properties(value: Any) -> Any:
    """Return everything to compare about a value except the values inside it."""
    if isinstance(value, TorchArray):
        geometry = value.shape, value.strides if value.size else None, value.storage_offset
        # A tensor's elements are compared in its storage; an expanded one may not fit into memory.
        elements = _bits(value) if value.storage is None else b""
        return value.torch_class, value.dtype.str, geometry, elements
    if isinstance(value, LuaObject):
        return value.class_name, value.version, len(value.fields), len(value.body)
    if isinstance(value, LuaFunction):
        return value.tag, value.bytecode
    return len(value) if isinstance(value, LuaTable) else (type(value), repr(value))


def inner_values(value: Any) -> list[Any]:
    """Return the values directly inside a value, in order."""
    if isinstance(value, TorchArray):
        return [] if value.storage is None else [value.storage]
    if isinstance(value, LuaObject):
        return [value.fields, *value.body]
    if isinstance(value, LuaFunction):
        return [value.upvalues]
    return [item for pair in value.items() for item in pair] if isinstance(value, LuaTable) else []


def _bits(storage: TorchArray) -> bytes:
    """Return the bytes of a storage, with one form of NaN: ASCII files have no other."""
    if storage.dtype.kind != "f":
        return storage.tobytes()
    return np.where(np.isnan(storage), np.array(np.nan, storage.dtype), storage).tobytes()
