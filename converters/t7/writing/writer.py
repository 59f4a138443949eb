"""Write values as `File.lua`'s writeObject does, without its recursion.

The writer chooses tags and classes and assigns an index to each object; the encoder knows how each
number is encoded. A value that was read from a file of Torch7 is written with the same bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ...expanded import expanded_elements, without_repeats
from ..class_layouts import ONE_OBJECT, ClassLayout, is_class_name, possible_layouts
from ..errors import T7Error, abbreviated_path
from ..paths import path_step
from ..scalars import BOOLEAN, NIL, NUMBER, OLD_FUNCTION, STRING, TABLE, TORCH
from ..tensors import strided_storage
from ..types import STORAGE_DTYPES, TENSOR_CLASSES, TENSOR_DTYPES, storage_class
from ..values import LuaFunction, LuaObject, LuaTable, TorchArray
from .encoders import Encoder

#: The values inside a value, each with its key (None if it has none).
_Entries = Iterator[tuple[Any, Any]]


class Writer:
    """Writes objects to one stream; an object that occurs again is written as its index.

    Args:
        encoder: The stream.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._count = 0
        self._indices: dict[Any, int] = {}
        # Keeps the objects alive, so that no id is used twice.
        self._written: list[Any] = []

    def write(self, value: Any) -> None:
        """Write a value with everything inside it.

        Raises:
            T7Error: If Torch7 has no equivalent of a part of the value; the error has its path.
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
                inner = self._write_value(item)
                if inner is not None:
                    stack.append(inner)
                    keys.append(None)
        except T7Error as error:
            error.path = abbreviated_path(keys, lambda key: "" if key is None else path_step(key))
            raise

    def _write_value(self, value: Any) -> _Entries | None:
        """Write the start of a value, and return the values inside it that follow."""
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
            self._write_string(value)
        elif isinstance(value, (LuaTable, Mapping)):
            return self._write_table(value, value.items())
        elif isinstance(value, (list, tuple)):
            return self._write_table(value, enumerate(value, 1))
        elif isinstance(value, LuaObject):
            return self._write_instance(value)
        elif isinstance(value, LuaFunction):
            return self._write_function(value)
        elif isinstance(value, np.ndarray):
            self._write_array(value)
        elif (torch := sys.modules.get("torch")) and isinstance(value, torch.Tensor):
            self._write_torch_tensor(value)
        else:
            raise T7Error(
                f"Torch7 has no equivalent of type {type(value).__name__}; convert it to a table"
            )
        return None

    def _write_index(self, tag: int, value: Any, key: Any = None) -> bool:
        """Write the tag and index of an object.

        Args:
            tag: The type tag.
            value: The object.
            key: Identifies the object, if its id does not.

        Returns:
            Whether the object was written before, so that nothing more is to be written.
        """
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

    def _write_string(self, value: str | bytes | bytearray) -> None:
        try:
            raw = value.encode() if isinstance(value, str) else bytes(value)
        except UnicodeEncodeError:
            raise T7Error(f"{value[:40]!r} is not valid Unicode; convert it to bytes") from None
        self._encoder.integers(len(raw))
        self._encoder.raw(raw)

    def _write_table(self, table: Any, items: Iterable[tuple[Any, Any]]) -> _Entries | None:
        if self._write_index(TABLE, table):
            return None
        entries = _without_nil(items)
        self._encoder.integers(len(entries))
        return _keys_and_values(entries)

    def _write_function(self, function: LuaFunction) -> _Entries | None:
        if function.tag == OLD_FUNCTION:
            self._encoder.integers(OLD_FUNCTION)
        elif self._write_index(function.tag, function):
            return None
        self._write_string(function.bytecode)
        return iter([("upvalues", function.upvalues)])

    def _write_instance(self, value: LuaObject) -> _Entries | None:
        if self._write_index(TORCH, value):
            return None
        name = value.class_name
        if not is_class_name(name) or name in TENSOR_DTYPES or name in STORAGE_DTYPES:
            raise T7Error(
                f"{str(name)[:40]!r} cannot be the class of an object: a printable name of at most "
                "200 letters, which is no tensor's, was expected"
            )
        self._write_class_header(name, value.version)
        encoder, fields = self._encoder, value.fields
        usual_layout = possible_layouts(value.class_name, value.version, encoder.long_size)[0]
        layout = value.layout or usual_layout
        if layout.kind == "parts":
            return self._write_parts(value, layout)
        if layout.kind == "branches":
            return ((None, part) for part in _branches(fields))
        if layout.kind == "pairs":
            entries = _without_nil(fields.items())
            encoder.longs([len(entries)])
            return _keys_and_values(entries)
        if layout.kind == "items":
            encoder.longs([len(fields)])
            return ((index, fields.get(index)) for index in range(1, len(fields) + 1))
        if [type(part) for part in value.body] != [bytes]:
            raise T7Error(f"the body of a {value.class_name} must be one bytes object")
        encoder.raw(value.body[0])
        return None

    def _write_parts(self, value: LuaObject, layout: ClassLayout) -> _Entries:
        """Yield the objects of a body, and write the untagged numbers between them."""
        parts = _body_parts(value, layout.field_names)
        # The body may have any number of objects if its class has the default layout.
        letters = "o" * len(parts) if layout == ONE_OBJECT else layout.parts
        if letters and len(parts) != len(letters):
            raise T7Error(f"the body of a {value.class_name} must have {len(letters)} parts")
        for letter, part in zip(letters, parts, strict=False):
            if letter == "o":
                yield None, part
            elif not isinstance(part, (int, float)):
                raise T7Error(f"expected a number in the body of a {value.class_name}")
            elif letter == "d":
                self._encoder.double(part)
            elif letter == "l":
                self._encoder.longs([int(part)])
            else:
                self._encoder.integers(int(part))

    def _write_class_header(self, name: str, version: int | str = 1) -> None:
        self._write_string(f"V {version}")
        self._write_string(name)

    def _write_array(self, array: np.ndarray) -> None:
        name = getattr(array, "torch_class", None)
        if isinstance(array, TorchArray) and name is not None:
            if name.endswith("Storage"):
                self._write_storage(array, name)
            elif not self._write_index(TORCH, array):
                strides = [stride // array.itemsize for stride in array.strides]
                self._write_tensor_header(name, array.shape, strides, array.storage_offset)
                if array.storage is None:
                    self._encoder.integers(NIL)
                else:
                    self._write_storage(
                        array.storage, array.storage.torch_class or storage_class(name)
                    )
        elif not self._write_index(TORCH, array):
            elements, strides = _elements_and_strides(array)
            name = _tensor_class(array.dtype)
            shape = array.shape or (1,)
            self._write_tensor_header(name, shape, strides, 0)
            if len(elements):
                self._write_storage(elements, storage_class(name))
            else:
                self._encoder.integers(NIL)

    def _write_torch_tensor(self, tensor: Any) -> None:
        if self._write_index(TORCH, tensor):
            return
        elements, key = strided_storage(tensor)
        name = _tensor_class(elements.dtype)
        if elements.size == 0 or tensor.numel() == 0:
            self._write_tensor_header(name, (0,), (), 0)
            self._encoder.integers(NIL)
            return
        shape = tuple(tensor.shape) or (1,)
        self._write_tensor_header(name, shape, tensor.stride() or (1,), tensor.storage_offset())
        self._write_storage(elements, storage_class(name), key)

    def _write_tensor_header(self, name: str, shape: Any, strides: Any, offset: int) -> None:
        """Write a tensor up to its storage; an empty tensor has no dimensions."""
        encoder = self._encoder
        self._write_class_header(name)
        if tuple(shape) == (0,):
            shape, strides = (), ()
        encoder.integers(len(shape))
        encoder.longs(shape)
        encoder.longs(strides)
        encoder.longs([offset + 1])

    def _write_storage(self, elements: np.ndarray, name: str, key: Any = None) -> None:
        if self._write_index(TORCH, elements, key):
            return
        self._write_class_header(name)
        self._encoder.longs([len(elements)])
        self._encoder.array(elements, is_long=name.endswith("LongStorage"))


def _elements_and_strides(array: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Return the elements to write for an array, and its strides; what is broadcast stays so."""
    if expanded_elements(array):
        kept = without_repeats(array)
        if expanded_elements(kept):
            raise T7Error("the rows of an array overlap in memory: copy it first")
    else:
        kept = array
    elements = np.ascontiguousarray(kept)
    strides = [
        step // array.itemsize if size == elements.shape[axis] else 0
        for axis, (size, step) in enumerate(zip(array.shape, elements.strides, strict=False))
    ]
    return elements.reshape(-1), strides or [1]


def _without_nil(items: Iterable[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Return the entries without those whose value is None: a Lua table has no nil values.

    Raises:
        T7Error: If a key is None.
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
    """Return the parts of an instance's body, with its current fields."""
    if names:
        return [value.get(name) for name in names]
    parts = list(value.body)
    for index in reversed(range(len(parts))):
        if isinstance(parts[index], LuaTable):
            parts[index] = value.fields
            break
    return parts


def _branches(fields: LuaTable) -> list[Any]:
    """Return the objects that an instance writes before and after its modules (`BRANCHES`)."""
    modules = fields.get("modules", LuaTable())
    assignments = fields.get("gpuAssignments")
    if not isinstance(assignments, LuaTable) or len(assignments) != len(modules):
        assignments = LuaTable.from_list([1] * len(modules))
    names = ("gpuAssignments", "modules")
    others = LuaTable([entry for entry in fields.items() if entry[0] not in names])
    return [assignments, *modules.to_list(), others]


def _double(value: Any) -> float:
    try:
        double = float(value)
    except OverflowError:
        double = float("inf")
    if isinstance(value, (int, np.integer)) and double != int(value):
        raise T7Error(f"{value} is not a Lua number: integers are exact up to 2^53 only")
    return double


def _tensor_class(dtype: np.dtype[Any]) -> str:
    name = TENSOR_CLASSES.get(np.dtype("u1") if dtype.kind == "b" else dtype.newbyteorder("="))
    if name is None:
        dtypes = ", ".join(map(str, TENSOR_CLASSES))
        raise T7Error(f"Torch7 has no tensor of {dtype}: convert the array to one of {dtypes}")
    return name
