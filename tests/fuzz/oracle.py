"""What must hold for any bytes and any value: it loads or says why not, and survives a file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from torchlift.converters import t7
from torchlift.converters.t7 import LuaFunction, LuaObject, LuaTable, TorchArray
from torchlift.converters.t7.inspection import inspect_value


def exercise(data: bytes) -> bool:
    """Open bytes as a `.t7`, inspect what is inside, write it and read it again.

    Returns:
        whether they could be read.

    Raises:
        Exception: anything but a `T7Error` of the reader is a finding.
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
            if not any(is_guess(part) for part in walk(value)):
                assert (found := difference(value, t7.loads(written))) == "", found
    assert message != "", "an error without a word"
    return message is None


def is_guess(value: Any) -> bool:
    """Whether a part was read in a way that made sense with what stood around it only."""
    if isinstance(value, LuaFunction):
        return value.tag == 6 and not value.bytecode.startswith(b"\x1b")
    return isinstance(value, LuaObject) and value.layout is not None


def walk(value: Any) -> Iterator[Any]:
    """A value and all that is in it, each once."""
    # By identity; the values are kept so that no identity is used twice.
    seen: dict[int, Any] = {}
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if id(part) not in seen:
            seen[id(part)] = part
            yield part
            waiting += inside(part)


def difference(one: Any, other: Any) -> str:
    """Where two values differ, "" if nowhere: in kind, order, bits, sharing, cycles."""
    partners: dict[int, tuple[Any, Any]] = {}
    waiting = [(one, other, "value")]
    while waiting:
        a, b, path = waiting.pop()
        if isinstance(a, (LuaTable, LuaObject, LuaFunction, np.ndarray)):
            if id(a) in partners:
                if partners[id(a)][1] is not b:
                    return f"{path}: shared in one only"
                continue
            partners[id(a)] = a, b
        if facts(a) != facts(b):
            return f"{path}: {facts(a)} and {facts(b)}"
        parts = zip(inside(a), inside(b), strict=True)
        waiting += [(x, y, f"{path}.{index}") for index, (x, y) in enumerate(parts)]
    # The same number of partners on both sides: what is distinct in one is distinct in the other.
    return "" if len(partners) == len({id(b) for _, b in partners.values()}) else "shared in one"


def facts(value: Any) -> Any:
    """What a value is by itself, without its parts."""
    if isinstance(value, TorchArray):
        place = value.shape, value.strides if value.size else None, value.storage_offset
        # A tensor's numbers are its storage's; expanded, they may be more than memory holds.
        numbers = _bits(value) if value.storage is None else b""
        return value.torch_class, value.dtype.str, place, numbers
    if isinstance(value, LuaObject):
        return value.class_name, value.version, len(value.fields), len(value.body)
    if isinstance(value, LuaFunction):
        return value.tag, value.bytecode
    return len(value) if isinstance(value, LuaTable) else (type(value), repr(value))


def inside(value: Any) -> list[Any]:
    """A value's parts, in order."""
    if isinstance(value, TorchArray):
        return [] if value.storage is None else [value.storage]
    if isinstance(value, LuaObject):
        return [value.fields, *value.body]
    if isinstance(value, LuaFunction):
        return [value.upvalues]
    return [part for pair in value.items() for part in pair] if isinstance(value, LuaTable) else []


def _bits(storage: TorchArray) -> bytes:
    """The numbers of a storage; every NaN is the same one, as text knows only one."""
    if storage.dtype.kind != "f":
        return storage.tobytes()
    return np.where(np.isnan(storage), np.array(np.nan, storage.dtype), storage).tobytes()
