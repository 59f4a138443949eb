"""Writing values as `File.lua`'s writeObject does, without its recursion.

The writer knows which tags and classes values have and numbers what is shared; the encoder knows
how a number is written. What Torch7 wrote itself comes out as it was, byte for byte.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ..class_layouts import ONE_OBJECT, ClassLayout, possible_bodies
from ..errors import T7Error, short_path
from ..paths import path_step
from ..scalars import BOOLEAN, NIL, NUMBER, OLD_FUNCTION, STRING, TABLE, TORCH
from ..tensors import strided_storage
from ..types import TENSOR_CLASSES, storage_class
from ..values import LuaFunction, LuaObject, LuaTable, TorchArray
from .encoders import Encoder

#: What stands inside a value, each with the key that leads to it (`None` where no key does).
_Entries = Iterator[tuple[Any, Any]]


class Writer:
    """Writes objects to one stream; what was written once is referred to from then on.

    Args:
        encoder: the stream.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._count = 0
        self._indices: dict[Any, int] = {}
        # An id is only good while its object lives.
        self._written: list[Any] = []

    def write(self, value: Any) -> None:
        """Write a value with all that it holds.

        Raises:
            T7Error: when Torch7 has nothing for some part of it; the error names its path.
        """
        stack: list[_Entries] = [iter([(None, value)])]
        keys: list[Any] = [None]
        try:
            while stack:
                entry = next(stack[-1], None)
                if entry is None:
                    stack.pop()
                    keys.pop()
                    continue
                keys[-1], item = entry
                inner = self._write_one(item)
                if inner is not None:
                    stack.append(inner)
                    keys.append(None)
        except T7Error as error:
            error.path = short_path(keys, lambda key: "" if key is None else path_step(key))
            raise

    def _write_one(self, value: Any) -> _Entries | None:
        """Write a value but for what stands inside it, which is the result."""
        encoder = self._encoder
        if value is None:
            encoder.integers(NIL)
        elif isinstance(value, (bool, np.bool_)):
            encoder.integers(BOOLEAN, int(value))
        elif isinstance(value, (int, float, np.integer, np.floating)):
            encoder.integers(NUMBER)
            encoder.double(_double(value))
        elif isinstance(value, (str, bytes, bytearray)):
            encoder.integers(STRING)
            self._string(value)
        elif isinstance(value, (LuaTable, Mapping)):
            return self._table(value, value.items())
        elif isinstance(value, (list, tuple)):
            return self._table(value, enumerate(value, 1))
        elif isinstance(value, LuaObject):
            return self._instance(value)
        elif isinstance(value, LuaFunction):
            return self._function(value)
        elif isinstance(value, np.ndarray):
            self._array(value)
        elif (torch := sys.modules.get("torch")) and isinstance(value, torch.Tensor):
            self._torch_tensor(value)
        else:
            raise T7Error(f"Torch7 has nothing like a {type(value).__name__}; write it as a table")
        return None

    def _is_known(self, tag: int, value: Any, key: Any = None) -> bool:
        """Write the tag and index of an object; whether that is all, as it was written before."""
        key = id(value) if key is None else key
        index = self._indices.get(key)
        if index is not None:
            self._encoder.integers(tag, index)
            return True
        self._count += 1
        self._indices[key] = self._count
        self._written.append(value)
        self._encoder.integers(tag, self._count)
        return False

    def _string(self, value: str | bytes | bytearray) -> None:
        try:
            raw = value.encode() if isinstance(value, str) else bytes(value)
        except UnicodeEncodeError:
            raise T7Error(f"{value[:40]!r} is no text; write it as bytes") from None
        self._encoder.integers(len(raw))
        self._encoder.raw(raw)

    def _table(self, table: Any, items: Iterable[tuple[Any, Any]]) -> _Entries | None:
        if self._is_known(TABLE, table):
            return None
        entries = _without_nil(items)
        self._encoder.integers(len(entries))
        return _keys_and_values(entries)

    def _function(self, function: LuaFunction) -> _Entries | None:
        if function.tag == OLD_FUNCTION:
            self._encoder.integers(OLD_FUNCTION)
        elif self._is_known(function.tag, function):
            return None
        self._string(function.bytecode)
        return iter([("upvalues", function.upvalues)])

    def _instance(self, value: LuaObject) -> _Entries | None:
        if self._is_known(TORCH, value):
            return None
        self._class(value.class_name, value.version)
        encoder, fields = self._encoder, value.fields
        usual = possible_bodies(value.class_name, value.version, encoder.long_size)[0]
        body = value.layout or usual
        if body.kind == "parts":
            return self._parts(value, body)
        if body.kind == "pairs":
            entries = _without_nil(fields.items())
            encoder.longs([len(entries)])
            return _keys_and_values(entries)
        if body.kind == "items":
            encoder.longs([len(fields)])
            return ((index, fields.get(index)) for index in range(1, len(fields) + 1))
        if [type(part) for part in value.body] != [bytes]:
            raise T7Error(f"the body of a {value.class_name} is one string of bytes")
        encoder.raw(value.body[0])
        return None

    def _parts(self, value: LuaObject, body: ClassLayout) -> _Entries:
        """The objects of a body; the numbers between them are written on the way."""
        parts = _body_parts(value, body.names)
        # A class that writes one table may have been given more.
        letters = "o" * len(parts) if body == ONE_OBJECT else body.parts
        if letters and len(parts) != len(letters):
            raise T7Error(f"the body of a {value.class_name} has {len(letters)} parts")
        for letter, part in zip(letters, parts, strict=False):
            if letter == "o":
                yield None, part
            elif not isinstance(part, (int, float)):
                raise T7Error(f"a number was expected in the body of a {value.class_name}")
            elif letter == "d":
                self._encoder.double(part)
            elif letter == "l":
                self._encoder.longs([int(part)])
            else:
                self._encoder.integers(int(part))

    def _class(self, name: str, version: int | str = 1) -> None:
        self._string(f"V {version}")
        self._string(name)

    def _array(self, array: np.ndarray) -> None:
        name = getattr(array, "torch_class", None)
        if isinstance(array, TorchArray) and name is not None:
            if name.endswith("Storage"):
                self._storage(array, name)
            elif not self._is_known(TORCH, array):
                steps = [step // array.itemsize for step in array.strides]
                self._tensor(name, array.shape, steps, array.storage_offset)
                if array.storage is None:
                    self._encoder.integers(NIL)
                else:
                    self._storage(array.storage, array.storage.torch_class or storage_class(name))
        elif not self._is_known(TORCH, array):
            elements = np.ascontiguousarray(array).reshape(-1)
            name = _tensor_class(array.dtype)
            shape = array.shape or (1,)
            steps = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
            self._tensor(name, shape, steps, 0)
            if len(elements):
                self._storage(elements, storage_class(name))
            else:
                self._encoder.integers(NIL)

    def _torch_tensor(self, tensor: Any) -> None:
        if self._is_known(TORCH, tensor):
            return
        elements, key = strided_storage(tensor)
        name = _tensor_class(elements.dtype)
        if elements.size == 0 or tensor.numel() == 0:
            self._tensor(name, (0,), (), 0)
            self._encoder.integers(NIL)
            return
        shape = tuple(tensor.shape) or (1,)
        self._tensor(name, shape, tensor.stride() or (1,), tensor.storage_offset())
        self._storage(elements, storage_class(name), key)

    def _tensor(self, name: str, shape: Any, steps: Any, offset: int) -> None:
        """All of a tensor but its storage; one without elements has no dimensions."""
        encoder = self._encoder
        self._class(name)
        if tuple(shape) == (0,):
            shape, steps = (), ()
        encoder.integers(len(shape))
        encoder.longs(shape)
        encoder.longs(steps)
        encoder.longs([offset + 1])

    def _storage(self, elements: np.ndarray, name: str, key: Any = None) -> None:
        if self._is_known(TORCH, elements, key):
            return
        self._class(name)
        self._encoder.longs([len(elements)])
        self._encoder.array(elements, is_long=name.endswith("LongStorage"))


def _without_nil(items: Iterable[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """The entries that a Lua table has: none with nil for a value.

    Raises:
        T7Error: when a key is nil.
    """
    entries = [(key, value) for key, value in items if value is not None]
    if any(key is None for key, _ in entries):
        raise T7Error("None cannot be a key of a Lua table")
    return entries


def _keys_and_values(entries: list[tuple[Any, Any]]) -> _Entries:
    for key, value in entries:
        yield key, key
        yield key, value


def _body_parts(value: LuaObject, names: tuple[str, ...]) -> list[Any]:
    """The parts of an instance's body, with the fields that it has now."""
    if names:
        return [value.get(name) for name in names]
    parts = list(value.body)
    for index in reversed(range(len(parts))):
        if isinstance(parts[index], LuaTable):
            parts[index] = value.fields
            break
    return parts


def _double(value: Any) -> float:
    try:
        double = float(value)
    except OverflowError:
        double = float("inf")
    if isinstance(value, int) and double != value:
        raise T7Error(f"{value} is no number of Lua's: its integers go up to 2^53")
    return double


def _tensor_class(dtype: np.dtype) -> str:
    name = TENSOR_CLASSES.get(np.dtype("u1") if dtype.kind == "b" else dtype.newbyteorder("="))
    if name is None:
        kinds = ", ".join(str(known) for known in TENSOR_CLASSES)
        raise T7Error(f"Torch7 has no tensor of {dtype}: convert the array to one of {kinds}")
    return name
