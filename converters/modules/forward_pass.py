"""The last forward pass before a model was saved, reconstructed from the activations in its file.

Each call of a layer has a time. The values that a tensor had at some time are still in the file if
no later call wrote to its storage; otherwise they have to be recomputed.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from typing import Any

import numpy as np
import torch
from torch import nn

from ..t7 import LuaObject, LuaTable
from ..t7.tensors import tensor
from ..t7.values import is_true
from .conversion import Conversion
from .in_place import InPlace

#: Containers whose children run one after the other (`Sequential.lua` and its subclasses).
_SEQUENTIAL = ("nn.Sequential", "nn.LayerNormalization", "nn.Maxout", "nn.SpatialLPPooling")
#: Containers that pass their input to every child (`Concat.lua`, …).
_BRANCHING = ("nn.Concat", "nn.ConcatTable", "nn.DepthConcat")


#: Levels of tables in the input or output of a layer, and how many of them there may be.
_MAX_DEPTH, _MAX_TABLES = 50, 10_000


class _MissingValueError(Exception):
    """A value is not in the file; the message says why. Only `selfcheck` sees it."""


@dataclass(frozen=True)
class _Unknown:
    """An input that is not in the file."""

    reason: str


@dataclass
class Call:
    """One call of a layer.

    Attributes:
        layer: The Torch7 object.
        path: Path of the object in the file.
        module: The converted module.
        input: The input, with the values that it has in the file now.
        start: Time at which it read its input, or the first layer in it did.
        end: Time at which it had written its output.
        recomputed: Its output computed again, None if that was not possible.
    """

    layer: LuaObject
    path: str
    module: nn.Module
    input: Any
    start: int
    end: int
    recomputed: Any = None

    @property
    def output(self) -> Any:
        """The output, with the values that it has in the file now."""
        return self.layer.get("output")

    def __str__(self) -> str:
        return f"{self.path} ({self.layer.class_name})"


class ForwardPass:
    """The calls of a model's layers, in the order in which they ended.

    nn.Sequential is left out: its output is that of its last child.

    Args:
        conversion: A converted model.
        input: The network's input as a value of a `.t7` file, None if unknown.

    Attributes:
        calls: The calls.
    """

    def __init__(self, conversion: Conversion, input: Any = None) -> None:
        self.calls: list[Call] = []
        self._entries = {id(entry.source): entry for entry in conversion.layers}
        #: Container → the InPlace that runs it with Torch7's memory.
        self._in_place = {
            id(wrapper[0]): wrapper
            for wrapper in conversion.module.modules()
            if isinstance(wrapper, InPlace)
        }
        #: Storage → the calls that overwrote values of another call.
        self._writers: defaultdict[int, list[Call]] = defaultdict(list)
        #: Tensor → the calls that output it, each with the tensor's keys in the output.
        self._producers: defaultdict[int, list[tuple[Call, tuple[Any, ...]]]] = defaultdict(list)
        self._used: set[int] = set()
        self._called: set[int] = set()
        self._time = 0
        root = conversion.layers[-1].source
        root_input = _recorded_input(root) if input is None else input
        self._trace(root, conversion.layers[-1].path, root_input)

    def input_of(self, call: Call) -> Any:
        """Return the input of a call as tensors, lists and dicts.

        Raises:
            _MissingValueError: It is not in the file and cannot be recomputed.
        """
        return self._value(call.input, call.start)

    def output_of(self, call: Call) -> Any:
        """Return the output that Torch7 computed in a call as tensors, lists and dicts.

        Raises:
            _MissingValueError: It was cleared, or overwritten by a later call.
        """
        arrays = [array for _, array in arrays_in(call.output)]
        if not any(array.size for array in arrays):
            raise _MissingValueError("its output is not in the file")
        for array in arrays:
            for writer in self._writers[_storage(array)]:
                if writer.end > call.end:
                    raise _MissingValueError(f"its output was overwritten by {writer}")
        return _convert(call.output, tensor)

    def _trace(self, layer: Any, path: str, input: Any) -> None:
        """Record a call of a layer and those of its children."""
        entry = self._entries.get(id(layer))
        if entry is None:
            return  # The converter of its container did not convert it separately.
        first, start = len(self.calls), self._time + 1
        for step, child, child_input in _children(layer, input):
            self._trace(child, path + step, child_input)
        if layer.class_name == "nn.Sequential":
            return
        self._time += 1
        module = self._in_place.get(id(entry.module), entry.module)
        call = Call(layer, path, module, input, start, self._time)
        self._record_writes(call, inner=self.calls[first:])
        self.calls.append(call)
        for keys, array in arrays_in(call.output):
            self._producers[id(array)].append((call, keys))

    def _record_writes(self, call: Call, inner: list[Call]) -> None:
        """Record the storages in which a call overwrote the output of an earlier one.

        A layer with `inplace` does, and so does one that is called again. Any other layer does if
        its output is in the storage of an earlier output, unless it returns a view of its own input
        or of an inner output (`View.lua`).
        """
        overwrites = is_true(call.layer.get("inplace")) or id(call.layer) in self._called
        self._called.add(id(call.layer))
        own = {
            _storage(array)
            for value in (call.input, *(other.output for other in inner))
            for _, array in arrays_in(value)
        }
        for storage in {_storage(array) for _, array in arrays_in(call.output)}:
            if overwrites or (storage in self._used and storage not in own):
                self._writers[storage].append(call)
            self._used.add(storage)

    def _value(self, value: Any, time: int) -> Any:
        """Return a value of the file as it was at a time, with tensors for arrays.

        Raises:
            _MissingValueError: The values of that time are lost.
        """
        if isinstance(value, _Unknown):
            raise _MissingValueError(value.reason)
        empty = isinstance(value, (np.ndarray, LuaTable)) and not len(value)
        if value is None or empty:
            raise _MissingValueError("its input is not in the file")
        return _convert(value, lambda array: self._array(array, time))

    def _array(self, array: np.ndarray, time: int) -> torch.Tensor:
        """Return an array of the file as it was at a time, as a tensor."""
        writers = self._writers[_storage(array)]
        later = [writer for writer in writers if writer.end >= time]
        if not later:
            return tensor(array)
        for producer, keys in reversed(self._producers[id(array)]):
            if producer.end < time and producer.recomputed is not None:
                if any(producer.end < writer.end < time for writer in writers):
                    break
                recomputed: torch.Tensor = reduce(getitem, keys, producer.recomputed)
                return recomputed
        raise _MissingValueError(f"its input was overwritten by {later[0]}")


def _recorded_input(root: LuaObject) -> Any:
    """Return the input of a network; only a graph records it, in its first node."""
    input = root["innode"]["data"].get("input") if root.class_name == "nn.gModule" else None
    return _Unknown("the network's input is not in the file") if input is None else _single(input)


def _children(source: LuaObject, input: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the path, object and input of each child of a container, in the order of the calls."""
    if source.class_name == "nn.gModule":
        yield from _nodes(source)
        return
    modules = source.get("modules")
    for index, child in enumerate(modules.to_list() if isinstance(modules, LuaTable) else [], 1):
        if source.class_name in (*_SEQUENTIAL, *_BRANCHING):
            child_input = input
        elif source.class_name == "nn.ParallelTable" and isinstance(input, LuaTable):
            child_input = input.get(index)
        else:
            child_input = _Unknown(f"its input from {source.class_name} is not in the file")
        yield f".modules[{index}]", child, child_input
        if source.class_name in _SEQUENTIAL:
            input = child.get("output") if isinstance(child, LuaObject) else None


def _nodes(graph: LuaObject) -> Iterator[tuple[str, Any, Any]]:
    """Yield the path, module and input of each node of a graph.

    The nodes record their inputs (`gmodule.lua`), so the wiring is not needed here.
    """
    for index, node in enumerate(graph["forwardnodes"].to_list(), 1):
        data = node["data"]
        if data.get("module") is not None:
            path = f".forwardnodes[{index}].data.module"
            yield path, data["module"], _single(data.get("input"))


def _single(values: Any) -> Any:
    """Return the only entry of a node's list of inputs, or the list if it has several."""
    return values[1] if isinstance(values, LuaTable) and len(values) == 1 else values


def arrays_in(value: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield the tensors in a value, each with its keys in the converted value.

    A table that occurs several times, or in itself, is walked through once.
    """
    waiting: list[tuple[tuple[Any, ...], Any]] = [((), value)]
    seen: set[int] = set()
    while waiting:
        keys, item = waiting.pop()
        if isinstance(item, np.ndarray):
            yield keys, item
        elif isinstance(item, LuaTable) and id(item) not in seen:
            seen.add(id(item))
            shift = 1 if item.is_list() else 0
            entries = [
                ((*keys, key - shift if shift else key), entry) for key, entry in item.items()
            ]
            waiting += reversed(entries)


def _convert(value: Any, to_tensor: Callable[[np.ndarray], torch.Tensor]) -> Any:
    """Convert tables to lists or dicts, as converted modules take and return them.

    Raises:
        _MissingValueError: The tables hold themselves, or each other so often that they cannot be
            written out.
    """
    budget = itertools.count()

    def convert(item: Any, depth: int) -> Any:
        if isinstance(item, np.ndarray):
            return to_tensor(item)
        if not isinstance(item, LuaTable):
            return item
        if depth == _MAX_DEPTH or next(budget) == _MAX_TABLES:
            raise _MissingValueError("its table holds itself, or too many tables")
        if item.is_list():
            return [convert(entry, depth + 1) for entry in item.to_list()]
        return {key: convert(entry, depth + 1) for key, entry in item.items()}

    return convert(value, 0)


def _storage(array: np.ndarray) -> int:
    """Return an identifier of a tensor's memory."""
    storage = getattr(array, "storage", None)
    return id(array if storage is None else storage)
