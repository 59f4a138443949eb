"""Report what a `.t7` file contains: its values, its layers, and its bytes by group."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from ...finite import first_not_finite
from ..embedded import embedded_value
from ..errors import T7Error, T7Warning
from ..model import choose, list_candidates, search
from ..paths import follow
from ..reading.load import read_file
from ..reading.stream_format import StreamFormat
from .layers import Layer, list_modules
from .storage_usage import Bytes
from .tree import Node, value_tree


@dataclass
class Inspection:
    """The contents of a file.

    Attributes:
        file: The file's path.
        size: Bytes of the file (decompressed, if it is compressed).
        tree: Its values; a file with several objects is shown as a list of them.
        format: `binary, 8-byte longs, little endian`, or `ASCII`.
        model_path: Lua path of its model; None if there is none or several are possible.
        layers: Every module in the file, the model's first.
        parameters: Number of distinct elements of all parameters.
        bytes: Bytes by group; they add up to `size`.
        outside: The part of `bytes` that belongs to tensors outside every module.
        notes: Anomalies of the file.
    """

    file: str
    size: int
    tree: Node
    format: str = ""
    model_path: str | None = None
    layers: list[Layer] = field(default_factory=list)
    parameters: int = 0
    bytes: Bytes = field(default_factory=Bytes)
    outside: Bytes = field(default_factory=Bytes)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the inspection as dicts, lists, strings and numbers.

        The counts in `bytes_by_group` add up to `bytes`.
        """
        return {
            "file": self.file,
            "bytes": self.size,
            "bytes_by_group": self.bytes.to_json(),
            "bytes_outside_layers": self.outside.total,
            "stream_format": self.format,
            "model_lua_path": self.model_path,
            "parameters": self.parameters,
            "layers": [layer.to_json() for layer in self.layers],
            "tree": self.tree.to_json(),
            "notes": self.notes,
        }


def inspect(
    file: str | os.PathLike[str], depth: int = 4, entries: int = 20, at: str = ""
) -> Inspection:
    """Inspect a `.t7` file; of its tensors only parameters are read, and torch is not needed.

    Args:
        file: The file.
        depth: Levels of the value tree.
        entries: Entries of a table that the tree shows.
        at: Path of the value whose tree and layers are shown; the bytes are those of the file.

    Raises:
        T7Error: If the file cannot be read, or has no value at that path.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from torchlift.converters import t7
        >>> from torchlift.converters.t7.inspection import inspect
        >>> path = Path(tempfile.mkdtemp()) / "model.t7"
        >>> fields = t7.LuaTable({"weight": np.zeros((2, 3)), "gradInput": np.zeros(0)})
        >>> t7.save({"epoch": 12, "model": t7.LuaObject("nn.Linear", fields)}, path)
        >>> result = inspect(path)
        >>> [(layer.path, layer.class_name, layer.settings) for layer in result.layers]
        [('model', 'nn.Linear', '3→2')]
        >>> result.parameters, result.bytes.weights, result.bytes.total == path.stat().st_size
        (6, 48, True)
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", T7Warning)
        attempt = read_file(file)
    size = attempt.end + attempt.trailing_bytes
    try:
        result = inspect_value(attempt.value, size, depth, entries, at)
    except T7Error as error:
        error.source = os.fspath(file)
        raise
    result.file, result.format = os.fspath(file), _describe_format(attempt.format)
    count = len(attempt.values)
    if count > 1:
        result.notes.append(f"{count} objects in one file: [1] to [{count}]")
    texts = (str(warning.message) for warning in caught)
    result.notes += [text for text in texts if count == 1 or "more object" not in text]
    return result


def inspect_value(
    value: Any, size: int, depth: int = 4, entries: int = 20, at: str = ""
) -> Inspection:
    """Inspect a value that is already loaded.

    Args:
        value: A value returned by `load`.
        size: Bytes of the file it came from.
        depth: Levels of the value tree.
        entries: Entries of a table that the tree shows.
        at: Path of the value whose tree and layers are shown.

    Raises:
        T7Error: If there is no value at that path.

    Example:
        >>> from torchlift.converters import t7
        >>> data = t7.dumps({"epoch": 12, "mean": np.zeros(3, np.float32)})
        >>> inspect_value(t7.loads(data), len(data)).bytes.total == len(data)
        True
    """
    inventory = list_modules(value)
    total = _sum([inventory.outside, *(layer.bytes for layer in inventory.layers)])
    if at:
        value = follow(value, at)
        inside = embedded_value(value)
        value = value if inside is None else inside
        chosen = list_modules(value, at)
        shown = _sum([layer.bytes for layer in chosen.layers])
        chosen.outside = Bytes(
            **{
                group.name: max(getattr(total, group.name) - getattr(shown, group.name), 0)
                for group in fields(Bytes)
            }
        )
        inventory = chosen
    total.structure = size - total.total
    result = Inspection(
        file="<value>",
        size=size,
        tree=value_tree(value, depth, entries, at),
        layers=inventory.layers,
        parameters=inventory.parameters,
        bytes=total,
        outside=inventory.outside,
    )
    found = search(value, at)
    try:
        result.model_path = choose(found, value).path
    except T7Error:
        if found.networks:
            listed = list_candidates(found.networks)
            result.notes.append(f"several modules could be the model: {listed}")
    for path, array in inventory.weights:
        if place := first_not_finite(np.asarray(array)):
            result.notes.append(f"not all parameters are numbers: {path}{place}")
            break
    return result


def _sum(parts: Iterable[Bytes]) -> Bytes:
    total = Bytes()
    for counts in parts:
        for group in fields(counts):
            total.add(group.name, getattr(counts, group.name))
    return total


def _describe_format(format: StreamFormat) -> str:
    if format.encoding == "ascii":
        return "ASCII"
    return f"binary, {format.long_size}-byte longs, {format.byte_order} endian"
