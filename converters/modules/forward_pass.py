"""The forward pass that a file remembers: which layer got what, and what is left of it.

Every call of a layer has a time. What a tensor held at some time is still in the file if nothing
wrote to its storage later; otherwise it has to be computed again.
"""

from __future__ import annotations

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
from .conversion import Conversion

#: Containers whose children run one after the other (`Sequential.lua` and what derives from it).
_SEQUENTIAL = ("nn.Sequential", "nn.LayerNormalization", "nn.Maxout", "nn.SpatialLPPooling")
#: Containers that hand their own input to every child (`Concat.lua`, …).
_BRANCHING = ("nn.Concat", "nn.ConcatTable", "nn.DepthConcat")


class MissingError(Exception):
    """A value that the file does not hold; says why."""


@dataclass(frozen=True)
class _Unknown:
    """An input that nobody kept."""

    reason: str


@dataclass
class Call:
    """One call of a layer.

    Attributes:
        layer: the Torch7 object.
        path: where it stands in the file.
        module: what it was converted to.
        input: what it was given, as the file has it now.
        start: time at which it read its input; a container's first layer reads then.
        end: time at which it had written its output.
        computed: its output computed again, when that was possible.
    """

    layer: LuaObject
    path: str
    module: nn.Module
    input: Any
    start: int
    end: int
    computed: Any = None

    @property
    def output(self) -> Any:
        """What the file has of its output now."""
        return self.layer.get("output")

    def __str__(self) -> str:
        return f"{self.path} ({self.layer.class_name})"


class ForwardPass:
    """The calls of a model's layers, in the order in which they ended.

    Sequential containers are left out: what they do is what their children do.
    """

    def __init__(self, conversion: Conversion, input: Any = None) -> None:
        self.calls: list[Call] = []
        self._entries = {id(entry.source): entry for entry in conversion.layers}
        #: storage → the calls that wrote over numbers of another call.
        self._writers: defaultdict[int, list[Call]] = defaultdict(list)
        #: tensor → the calls that gave it, each with the tensor's place in its output.
        self._givers: defaultdict[int, list[tuple[Call, tuple[Any, ...]]]] = defaultdict(list)
        self._used: set[int] = set()
        self._time = 0
        root = conversion.layers[-1].source
        given = _unknown_input(root) if input is None else input
        self._trace(root, conversion.layers[-1].path, given)

    def input_of(self, call: Call) -> Any:
        """What a call was given, as tensors, lists and dicts.

        Raises:
            MissingError: when it is not in the file and cannot be computed.
        """
        return self._value(call.input, call.start)

    def output_of(self, call: Call) -> Any:
        """What Torch7 computed in a call, as tensors, lists and dicts.

        Raises:
            MissingError: when it was cleared, or overwritten by a later call.
        """
        arrays = [array for _, array in _arrays(call.output)]
        if not any(array.size for array in arrays):
            raise MissingError("its output was not kept")
        for array in arrays:
            for writer in self._writers[_storage(array)]:
                if writer.end > call.end:
                    raise MissingError(f"its output was overwritten by {writer}")
        return _convert(call.output, tensor)

    def _trace(self, layer: Any, path: str, given: Any) -> None:
        """Follow a call of a layer and of all in it."""
        entry = self._entries.get(id(layer))
        if entry is None:
            return  # a part that the converter of its container took in
        first, start = len(self.calls), self._time + 1
        for step, child, childs_input in _children(layer, given):
            self._trace(child, path + step, childs_input)
        if layer.class_name == "nn.Sequential":
            return
        self._time += 1
        call = Call(layer, path, entry.module, given, start, self._time)
        self._note_writing(call, inner=self.calls[first:])
        self.calls.append(call)
        for place, array in _arrays(call.output):
            self._givers[id(array)].append((call, place))

    def _note_writing(self, call: Call, inner: list[Call]) -> None:
        """Find out whose numbers a call wrote over.

        A layer that works in place says so, and one that is called again writes over its last
        output. Any other that has its output where an earlier call had its own wrote over it too,
        unless it only passes on what it was given (`View.lua`).
        """
        replaces = call.layer.get("inplace") is True or any(
            other.layer is call.layer for other in self.calls
        )
        passed_on = {
            _storage(array)
            for value in (call.input, *(part.output for part in inner))
            for _, array in _arrays(value)
        }
        for key in {_storage(array) for _, array in _arrays(call.output)}:
            if replaces or (key in self._used and key not in passed_on):
                self._writers[key].append(call)
            self._used.add(key)

    def _value(self, value: Any, time: int) -> Any:
        """A value of the file as it was at a time, tensors for arrays.

        Raises:
            MissingError: when that is not known any more.
        """
        if isinstance(value, _Unknown):
            raise MissingError(value.reason)
        empty = isinstance(value, (np.ndarray, LuaTable)) and not len(value)
        if value is None or empty:
            raise MissingError("its input was not kept")
        return _convert(value, lambda array: self._array(array, time))

    def _array(self, array: np.ndarray, time: int) -> torch.Tensor:
        writers = self._writers[_storage(array)]
        later = [writer for writer in writers if writer.end >= time]
        if not later:
            return tensor(array)
        for giver, place in reversed(self._givers[id(array)]):
            if giver.end < time and giver.computed is not None:
                if any(giver.end < writer.end < time for writer in writers):
                    break
                return reduce(getitem, place, giver.computed)
        raise MissingError(f"its input was overwritten by {later[0]}")


def _unknown_input(root: LuaObject) -> Any:
    """What a network was given: only graphs keep it, in their first node."""
    kept = root["innode"]["data"].get("input") if root.class_name == "nn.gModule" else None
    return _Unknown("the file does not keep the network's input") if kept is None else _single(kept)


def _children(source: LuaObject, given: Any) -> Iterator[tuple[str, Any, Any]]:
    """The parts of a container, each with its place and its input, in the order they ran in."""
    if source.class_name == "nn.gModule":
        yield from _nodes(source)
        return
    modules = source.get("modules")
    for index, child in enumerate(modules.to_list() if isinstance(modules, LuaTable) else [], 1):
        if source.class_name in (*_SEQUENTIAL, *_BRANCHING):
            taken = given
        elif source.class_name == "nn.ParallelTable" and isinstance(given, LuaTable):
            taken = given.get(index)
        else:
            taken = _Unknown(f"what {source.class_name} gave it was not kept")
        yield f".modules[{index}]", child, taken
        if source.class_name in _SEQUENTIAL:
            given = child.get("output") if isinstance(child, LuaObject) else None


def _nodes(graph: LuaObject) -> Iterator[tuple[str, Any, Any]]:
    """The modules in a graph's nodes, which keep what they were given (`gmodule.lua`)."""
    for index, node in enumerate(graph["forwardnodes"].to_list(), 1):
        data = node["data"]
        if data.get("module") is not None:
            given = _single(data.get("input"))
            yield f".forwardnodes[{index}].data.module", data["module"], given


def _single(values: Any) -> Any:
    """A node's input: the list of its inputs, or the only one."""
    return values[1] if isinstance(values, LuaTable) and len(values) == 1 else values


def _arrays(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The tensors in a value, each with its place once the value is converted."""
    if isinstance(value, np.ndarray):
        yield place, value
    elif isinstance(value, LuaTable):
        shift = 1 if value.is_list() else 0
        for key, item in value.items():
            yield from _arrays(item, (*place, key - 1 if shift else key))


def _convert(value: Any, leaf: Callable[[np.ndarray], torch.Tensor]) -> Any:
    """Tables as lists or dicts, as converted modules take and give them."""
    if isinstance(value, np.ndarray):
        return leaf(value)
    if not isinstance(value, LuaTable):
        return value
    if value.is_list():
        return [_convert(item, leaf) for item in value.to_list()]
    return {key: _convert(item, leaf) for key, item in value.items()}


def _storage(array: np.ndarray) -> int:
    """What identifies the memory of a tensor."""
    storage = getattr(array, "storage", None)
    return id(array if storage is None else storage)
