"""All values of a `.t7` by their paths, and files of them: `.npz`, `.safetensors`, `.json`."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..expanded import expanded_elements
from ..finite import spelled
from .embedded import embedded_value
from .errors import T7Error
from .paths import ROOTS, path_step
from .values import LuaFunction, LuaObject, LuaTable

#: A value without further values in it, or a list of such values of one type.
Leaf: TypeAlias = np.ndarray | str | bytes | bool | int | float | list[Any]

#: Elements that an expanded tensor may have beyond those in memory, and numbers in a JSON file.
_MAX_NUMBERS = 2**24


@dataclass
class Leaves:
    """The values of a `.t7`.

    Attributes:
        values: Each value by its path, in the file's order.
        notes: What is left out, or stands under another path.
        classes: The class of each object, by its path.
        functions: The bytecode of each function, by its path.
    """

    values: dict[str, Leaf] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    classes: dict[str, str] = field(default_factory=dict)
    functions: dict[str, bytes] = field(default_factory=dict)


def leaves_of(value: Any) -> Leaves:
    """Return the tensors, numbers, strings and booleans in a value, by the paths of `follow`.

    A list of numbers, of strings or of booleans is one value. Fields of objects are values like
    those of tables; strings that `torch.serialize` wrote are entered. A table that occurs twice is
    entered once. Functions, and entries whose keys are tables, are left out, with a note.

    Args:
        value: What `load` returned.

    Example:
        >>> leaves_of(LuaTable({"epoch": 3, "classes": LuaTable.from_list(["cat", "dog"])})).values
        {'epoch': 3, 'classes': ['cat', 'dog']}
    """
    found = Leaves()
    # By id; keeping the values makes sure that no id is used twice.
    entered: dict[int, tuple[Any, str]] = {}
    functions: list[str] = []
    nameless: list[str] = []
    repeated: list[str] = []
    waiting: list[tuple[Any, str]] = [(value, "")]
    while waiting:
        item, path = waiting.pop()
        inside = embedded_value(item)
        item = item if inside is None else inside
        name = path or ROOTS[0]
        if isinstance(item, LuaFunction):
            functions.append(name)
            found.functions[name] = item.bytecode
        elif not isinstance(item, (LuaTable, LuaObject)):
            found.values[name] = np.asarray(item) if isinstance(item, np.ndarray) else item
        elif (listed := _list_of_one_type(item)) is not None:
            found.values[name] = listed
        elif id(item) in entered:
            repeated.append(f"{name} is {entered[id(item)][1]}")
        else:
            entered[id(item)] = item, name
            if isinstance(item, LuaObject):
                found.classes[name] = item.class_name
            entries = (item.fields if isinstance(item, LuaObject) else item).items()
            nameless += [
                name for key, _ in entries if not isinstance(key, (str, bytes, int, float))
            ]
            waiting += [
                (child, (path + path_step(key)).removeprefix("." if not path else ""))
                for key, child in reversed(entries)
                if isinstance(key, (str, bytes, int, float))
            ]
    for kind, places in (
        ("left out, functions", functions),
        ("left out, entries whose keys are tables", nameless),
        ("written under one path only", repeated),
    ):
        if places:
            shown = ", ".join(places[:3]) + (", …" if len(places) > 3 else "")
            found.notes.append(f"{kind}: {len(places):,} ({shown})")
    return found


def _list_of_one_type(item: LuaTable | LuaObject) -> list[Any] | None:
    """Return a list of numbers, of strings or of booleans; None for any other table."""
    if not isinstance(item, LuaTable) or not item.is_list():
        return None
    values = item.values()
    kinds = {float if type(each) is int else type(each) for each in values}
    is_plain = len(kinds) < 2 and kinds <= {float, str, bool}
    return item.to_list() if is_plain and not any(map(embedded_value, values)) else None


def write_leaves(values: Mapping[str, Leaf], file: Path) -> None:
    """Write values to a file whose suffix says how.

    - `.npz`: arrays; numbers, booleans and strings are arrays too, bytes an array of uint8;
    - `.safetensors`: arrays, numbers and booleans; strings are its metadata;
    - `.json`: one object; what is not finite is the string "nan", "inf" or "-inf".

    Args:
        values: What `leaves_of` found.
        file: The file; the caller makes it atomic.

    Raises:
        T7Error: If a tensor is expanded to far more elements than there are, or there are
            too many numbers for JSON.
        OSError: If the file cannot be written.
    """
    for path, value in values.items():
        if isinstance(value, np.ndarray) and expanded_elements(value) > _MAX_NUMBERS:
            problem = f"it is expanded to {value.size:,} elements from fewer"
            raise T7Error(problem, path=path)
    _WRITERS[file.suffix.lower()](values, file)


def _write_npz(values: Mapping[str, Leaf], file: Path) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for path, value in values.items():
            with archive.open(f"{path}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, _array(value), allow_pickle=False)


def _write_safetensors(values: Mapping[str, Leaf], file: Path) -> None:
    from safetensors.numpy import save

    texts = {path: value for path, value in values.items() if isinstance(value, str)}
    texts |= {
        path: json.dumps(value, ensure_ascii=False)
        for path, value in values.items()
        if isinstance(value, list) and value and isinstance(value[0], str)
    }
    arrays = {path: _array(value) for path, value in values.items() if path not in texts}
    file.write_bytes(save({path: array.copy(order="C") for path, array in arrays.items()}, texts))


def _write_json(values: Mapping[str, Leaf], file: Path) -> None:
    count = sum(value.size for value in values.values() if isinstance(value, np.ndarray))
    if count > _MAX_NUMBERS:
        raise T7Error(
            f"{count:,} numbers are too many for JSON: write .npz or .safetensors, or save one "
            "value with cat"
        )
    plain = {
        path: spelled(_array(value).tolist() if isinstance(value, (np.ndarray, bytes)) else value)
        for path, value in values.items()
    }
    with file.open("w", encoding="utf-8") as stream:
        json.dump(plain, stream, indent=1, ensure_ascii=False, allow_nan=False)
        stream.write("\n")


def _array(value: Leaf) -> np.ndarray:
    """Return a value as an array in native byte order; bytes as uint8."""
    if isinstance(value, bytes):
        return np.frombuffer(value, np.uint8)
    array = np.asarray(value)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


_WRITERS: dict[str, Callable[[Mapping[str, Leaf], Path], None]] = {
    ".npz": _write_npz,
    ".safetensors": _write_safetensors,
    ".json": _write_json,
}
