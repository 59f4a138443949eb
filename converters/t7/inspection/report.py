"""What a `.t7` file holds: the tree of its values, its layers, and where its bytes go."""

from __future__ import annotations

import os
import warnings
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ..errors import T7Error, T7Warning
from ..model import find_model
from ..reading.load import read_file
from ..reading.variants import Interpretation
from .layers import Layer, list_modules
from .storage_usage import Bytes
from .tree import Node, value_tree


@dataclass
class Inspection:
    """What is known of a file without looking at its tensors' numbers.

    Attributes:
        source: the file's name.
        size: bytes of the file (of what is inside, where it is compressed).
        format: how it is written: `binary, 8-byte longs, little endian`, or `ASCII`.
        tree: its values; of a file with several objects, a list of them.
        model: path of its model, None where there is none or where several might be it.
        layers: every module in it, the model's first.
        parameters: distinct parameters of them all.
        bytes: where the bytes go; they add up to `size`.
        outside: those of tensors outside every module, part of `bytes`.
        notes: what is odd about the file.
    """

    source: str
    size: int
    tree: Node
    format: str = ""
    model: str | None = None
    layers: list[Layer] = field(default_factory=list)
    parameters: int = 0
    bytes: Bytes = field(default_factory=Bytes)
    outside: Bytes = field(default_factory=Bytes)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """All of it as dicts, lists and strings."""
        return asdict(self)


def inspect(file: str | os.PathLike[str], depth: int = 4, entries: int = 20) -> Inspection:
    """Open a `.t7` and tell what is inside; no tensor is read, and torch is not needed.

    Args:
        file: the file.
        depth: levels of the value tree.
        entries: entries of a table that the tree shows.

    Raises:
        T7Error: when the file cannot be read.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", T7Warning)
        read = read_file(file)
    result = inspect_value(read.value, read.end + read.left, depth, entries)
    result.source, result.format = os.fspath(file), _format(read.how)
    result.notes += [str(warning.message) for warning in caught]
    return result


def inspect_value(value: Any, size: int, depth: int = 4, entries: int = 20) -> Inspection:
    """`inspect` for a value that is there already.

    Args:
        value: what `t7.load` gave.
        size: bytes of the file it came from.
        depth: levels of the value tree.
        entries: entries of a table that the tree shows.
    """
    inventory = list_modules(value)
    spent = Bytes()
    for part in (inventory.outside, *(layer.bytes for layer in inventory.layers)):
        for group in fields(part):
            spent.add(group.name, getattr(part, group.name))
    spent.structure = size - spent.total
    result = Inspection(
        source="<value>",
        size=size,
        tree=value_tree(value, depth, entries),
        layers=inventory.layers,
        parameters=inventory.parameters,
        bytes=spent,
        outside=inventory.outside,
    )
    try:
        result.model = find_model(value)[1]
    except T7Error as error:
        if inventory.layers:
            result.notes.append(str(error))
    return result


def _format(how: Interpretation) -> str:
    if how.format == "ascii":
        return "ASCII"
    return f"binary, {how.long_size}-byte longs, {how.byte_order} endian"
