"""Weights of a `.t7` for a network of one's own: tensors are matched by their order and shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..converters import t7
from ..converters.modules.find import convert_model
from ..converters.t7 import LuaObject, LuaTable
from ..converters.t7.model import search
from ..converters.t7.paths import children, follow, path_step
from .errors import NetworkError

#: The most lists and lone tensors whose order is looked for: a table with names has none.
_MOST_GROUPS = 5

#: How many shapes an error lists.
_LISTED = 6

#: The deepest table whose tensors are taken.
_DEEPEST = 50

#: Dimensions of the matrix in which some convolutions keep their filters.
_MATRIX = 2


@dataclass(frozen=True)
class _Source:
    """A tensor of the file."""

    path: str
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class _Target:
    """A tensor of the network."""

    name: str
    values: torch.Tensor


def fill_from_t7(network: nn.Module, file: Path, at: str | None = None) -> list[str]:
    """Fill a network's parameters, and then its running statistics, with the tensors of a `.t7`.

    The tensors of a list are in the order of the network's parameters. A vector may hold several
    in a row, as `getParameters` makes it. A network in the file counts as the list of its
    parameters.

    Args:
        network: The network, which is changed.
        file: The `.t7` file.
        at: Path of the value that holds the weights; None for the file's value.

    Returns:
        What was done, in sentences.

    Raises:
        T7Error: If the file cannot be read, or has no value at that path.
        NetworkError: If the tensors do not fit, or fit in several ways.
    """
    value = follow(t7.load(file, writable=False), at or "")
    groups = _groups(value, file, at or "")
    if not groups:
        raise NetworkError(f"{file}: it holds no tensors")
    parameters = [_Target(name, one) for name, one in network.named_parameters()]
    buffers = [
        _Target(name, one) for name, one in network.named_buffers() if one.is_floating_point()
    ]
    fitting = [
        filled
        for order in _orders(groups)
        if (filled := _assign(order, parameters, buffers)) is not None
    ]
    if not fitting:
        raise NetworkError(
            f"{file} does not fit the network: it holds {_shapes_of(groups)}; the network's "
            f"parameters are {_listed([tuple(one.values.shape) for one in parameters])}; at=PATH "
            "names the value that holds the weights"
        )
    if len(fitting) > 1:
        names = ", ".join(group[0].path for group in groups)
        raise NetworkError(
            f"{file} fits the network in {len(fitting)} ways: the order of {names} is not known; "
            "at=PATH chooses one"
        )
    with torch.no_grad():
        for target, values in fitting[0].items():
            target.values.copy_(torch.from_numpy(values.copy()).view_as(target.values))
    first = groups[0][0].path or "the file's tensor"
    notes = [f"the weights are those of {file} by order and shape, {first} first"]
    missing = [one.name for one in buffers if one not in fitting[0]]
    if missing:
        notes.append(f"{file} holds no running statistics: {missing[0]} and its like are as new")
    return notes


def _groups(value: Any, file: Path, path: str) -> list[list[_Source]]:
    """Return the tensors of each list, and each tensor under a name."""
    if search(value).networks:
        module = convert_model(value, None, file).module
        named = [*module.named_parameters(), *module.named_buffers()]
        # The batches that a BatchNorm has seen are counted by PyTorch alone.
        weights = [(name, one.detach()) for name, one in named if one.is_floating_point()]
        return [[_Source(name, one.numpy()) for name, one in weights]]
    groups = dict[str, list[_Source]]()
    for group, source in _sources(value, _Walk(path, path)):
        groups.setdefault(group, []).append(source)
    return list(groups.values())


@dataclass
class _Walk:
    """Where a walk through a file is, and what it has seen.

    Attributes:
        path: The path of the value.
        group: The path of the outermost value in which the order of tensors is known.
        depth: Levels of tables above the value.
        seen: The tables that were entered, by id.
    """

    path: str = ""
    group: str = ""
    depth: int = 0
    seen: dict[int, Any] = field(default_factory=dict)


def _sources(value: Any, walk: _Walk) -> Iterator[tuple[str, _Source]]:
    """Yield each tensor of numbers, with its group."""
    if isinstance(value, np.ndarray):
        if value.size and np.issubdtype(value.dtype, np.floating):
            yield walk.group, _Source(walk.path, value)
    elif isinstance(value, (LuaTable, LuaObject)) and id(value) not in walk.seen:
        walk.seen[id(value)] = value
        if walk.depth == _DEEPEST:
            return
        entries = children(value)
        for key, entry in entries.items():
            path = f"{walk.path}{path_step(key)}".removeprefix(".")
            group = walk.group if entries.is_list() else path
            yield from _sources(entry, _Walk(path, group, walk.depth + 1, walk.seen))


def _orders(groups: Sequence[list[_Source]]) -> Iterator[list[_Source]]:
    """Yield the tensors in every order that the groups may have."""
    if len(groups) > _MOST_GROUPS:
        return
    for order in permutations(groups):
        yield [source for group in order for source in group]


def _assign(
    sources: Sequence[_Source], parameters: Sequence[_Target], buffers: Sequence[_Target]
) -> dict[_Target, np.ndarray] | None:
    """Return the values of each tensor of the network; None if those of the file do not fit."""
    filled = dict[_Target, np.ndarray]()
    waiting = [*parameters, *buffers]
    for source in sources:
        flat = np.ascontiguousarray(source.values).reshape(-1)
        while flat.size:
            if not waiting:
                return None
            target = waiting.pop(0)
            count = target.values.numel()
            is_whole = flat.size == source.values.size == count
            if flat.size < count:
                return None
            if is_whole and not _fits(source.values.shape, target.values.shape):
                return None
            if not is_whole and source.values.ndim != 1:
                return None
            filled[target], flat = flat[:count], flat[count:]
    return filled if all(one in filled for one in parameters) else None


def _fits(given: Sequence[int], wanted: Sequence[int]) -> bool:
    """Return whether a tensor of the file has the shape of one of the network.

    Torch7 keeps the filters of some convolutions as rows of a matrix.
    """
    if [size for size in given if size != 1] == [size for size in wanted if size != 1]:
        return True
    is_matrix = len(given) == _MATRIX and given[0] == wanted[0]
    return len(given) == 1 or (is_matrix and prod(given) == prod(wanted))


def _shapes_of(groups: Sequence[list[_Source]]) -> str:
    return _listed([one.values.shape for group in groups for one in group])


def _listed(shapes: Sequence[Sequence[int]]) -> str:
    shown = ", ".join("×".join(map(str, shape)) or "1" for shape in shapes[:_LISTED])
    more = len(shapes) - _LISTED
    return f"{len(shapes)} tensors of {shown}{f' and {more} more' if more > 0 else ''}"
