"""Layers that overwrite their input (`inplace` in Torch7), where another branch reads it too.

A converted layer returns a new tensor, which is the same as long as nobody else reads the memory
that Torch7 overwrites. Where somebody does (a later child of a Concat, an earlier one that hands
its input on, a later node of a graph), `share_memory` puts the container into an `InPlace`, which
runs it with Torch7's memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from .context import ConvertedLayer
from .layers.container import (
    Bottle,
    Concat,
    ConcatTable,
    DepthConcat,
    MapTable,
    Parallel,
    ParallelTable,
)
from .layers.table import FlattenTable, NarrowTable, SelectTable, ZipTable, ZipTableOneToMany
from .layers.table_arithmetic import CAddTable
from .packages.nngraph import GModule, JustElement, JustTable
from .registry import layer

#: Classes whose field `inplace` makes them overwrite their input.
_OVERWRITING = frozenset(
    {
        *("nn.AddConstant", "nn.CAddTable", "nn.Clamp", "nn.Dropout", "nn.ELU", "nn.HardTanh"),
        *("nn.LeakyReLU", "nn.MulConstant", "nn.ReLU", "nn.ReLU6", "nn.RReLU", "nn.Threshold"),
        *("cudnn.ClippedReLU", "cudnn.ReLU", "cudnn.Sigmoid", "cudnn.Tanh", "inn.ConstAffine"),
    }
)
#: Classes whose output is the memory of their input.
_VIEWING = frozenset(
    {
        *("nn.Collapse", "nn.Contiguous", "nn.GradientReversal", "nn.Identity"),
        *("nn.L1Penalty", "nn.PrintSize", "nn.Replicate", "nn.Reshape", "nn.SplitTable"),
        *("nn.Squeeze", "nn.Unsqueeze", "nn.View", "nn.ZeroGrad"),
    }
)
#: Layers that only move the entries of tables.
_MOVING = (
    *(FlattenTable, NarrowTable, SelectTable, ZipTable, ZipTableOneToMany),
    *(JustElement, JustTable),
)


@dataclass(eq=False)
class _Memory:
    """The memory of a tensor.

    Attributes:
        tensor: Its present values; None where only the order of reads and writes is followed.
        writes: How often it was overwritten.
        entries: If it is a table of an unknown length: the memory of its entries.
    """

    tensor: torch.Tensor | None = None
    writes: int = 0
    entries: dict[Any, _Ref] = field(default_factory=dict)


@dataclass(frozen=True)
class _Ref:
    """A tensor that a layer returned: memory, seen through views.

    Attributes:
        memory: The memory.
        views: The views, in order.
        writes: How often the memory had been overwritten when the layer returned.
    """

    memory: _Memory
    views: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = ()
    writes: int = 0

    def __getitem__(self, index: Any) -> Any:
        """Return an entry of a table of an unknown length."""
        if isinstance(index, slice):
            return [self[i] for i in range(index.start, index.stop)]
        if self.views:
            return self
        return self.memory.entries.setdefault(index, _Ref(_Memory()))

    def view(self, view: Callable[[torch.Tensor], torch.Tensor]) -> _Ref:
        """Return the same memory seen through one view more."""
        return _Ref(self.memory, (*self.views, view), self.writes)

    def apply_views(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return what a tensor is behind the views."""
        for view in self.views:
            tensor = view(tensor)
        return tensor


@dataclass
class _Run:
    """One run of a module with Torch7's memory.

    Attributes:
        writers: The layers that overwrite their input, by their id.
        viewers: The layers that return the memory of their input, by their id.
        stale: Whether a tensor was read that was overwritten after a layer had returned it.
    """

    writers: set[int]
    viewers: set[int]
    stale: bool = False

    def run(self, module: nn.Module, value: Any) -> Any:
        """Return what a module makes of references."""
        if isinstance(module, InPlace):
            return self._run_in_place(module[0], value)
        if type(module) is nn.Sequential:
            for child in module:
                value = self.run(child, value)
            return value
        if isinstance(module, ConcatTable):
            return [self.run(child, value) for child in module]
        if isinstance(module, ParallelTable):
            return [self.run(child, value[i]) for i, child in enumerate(module)]
        if isinstance(module, MapTable) and isinstance(value, list):
            return [self.run(module.child(i), entry) for i, entry in enumerate(value)]
        if isinstance(module, (Concat, DepthConcat)):
            return self._new(module.combine, [self.run(child, value) for child in module])
        if isinstance(module, GModule):
            return module.walk(value, self.run)
        if isinstance(module, (Parallel, Bottle)) and isinstance(value, _Ref):
            return self._run_on_views(module, value)
        if isinstance(module, _MOVING):
            return module(value)
        if id(module) in self.viewers:
            return self._view(module, value)
        if id(module) in self.writers:
            return self._overwrite(module, value)
        return self._new(module, value)

    def read(self, value: Any) -> Any:
        """Return the tensors of references as they are now, None if they have none."""
        if isinstance(value, list):
            return [self.read(entry) for entry in value]
        if isinstance(value, dict):
            return {key: self.read(entry) for key, entry in value.items()}
        if not isinstance(value, _Ref):
            return value
        self.stale |= value.writes != value.memory.writes
        self.stale |= any(entry.memory.writes for entry in value.memory.entries.values())
        tensor = value.memory.tensor
        return None if tensor is None else value.apply_views(tensor)

    def _run_in_place(self, container: nn.Module, value: Any) -> Any:
        """Run a container that is in an InPlace already: what it returns is up to date."""
        self.read(value)
        stale = self.stale
        output = self.run(container, value)
        self.stale = stale
        return _renewed(output)

    def _new(self, module: Callable[[Any], Any], value: Any) -> Any:
        """Return the output of a layer that has memory of its own."""
        tensors = self.read(value)
        return _Ref(_Memory()) if _is_unknown(tensors) else reference(module(tensors))

    def _view(self, module: nn.Module, value: Any) -> Any:
        """Return the memory of the input as a layer returns it: one tensor, or a list of parts."""
        if not isinstance(value, _Ref):
            return value
        tensor = self.read(value)
        parts = None if tensor is None else module(tensor)
        if not isinstance(parts, list):
            return value.view(module)
        return [value.view(_Part(module, index)) for index in range(len(parts))]

    def _overwrite(self, module: nn.Module, value: Any) -> _Ref:
        """Write the output of a layer into the memory of its input, the first of a table."""
        target: _Ref = value[0] if isinstance(module, CAddTable) else value
        tensors, memory = self.read(value), target.memory
        if memory.tensor is not None:
            output = module(tensors)
            if any(isinstance(view, (_Part, _Slice)) for view in target.views):
                # A copy, because an earlier layer's gradient may need the old values.
                whole = memory.tensor.clone(memory_format=torch.contiguous_format)
                target.apply_views(whole).copy_(output)
            elif output.numel() == memory.tensor.numel():
                whole = output.reshape(memory.tensor.shape)
            else:  # Repeated by nn.Replicate: what Torch7 makes of the memory is undefined.
                return _Ref(_Memory(output))
            memory.tensor = whole
        memory.writes += 1
        return _Ref(memory, target.views, memory.writes)

    def _run_on_views(self, module: Parallel | Bottle, value: _Ref) -> Any:
        """Run a container that gives its children views of its input."""
        tensor = self.read(value)
        if isinstance(module, Parallel):
            count = len(module) if tensor is None else tensor.shape[module.input_dim]
            outputs = [
                self.run(module[index], value.view(_Slice(module.input_dim, index)))
                for index in range(count)
            ]
            return self._new(module.combine, outputs)
        output = self.run(module[0], value.view(module.flatten))
        if not isinstance(output, _Ref) or tensor is None:
            return output
        return output.view(_Unflatten(module, tensor.shape))


@dataclass(frozen=True)
class _Part:
    """The view of one of several tensors that a layer returns."""

    module: nn.Module
    index: int

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        part: torch.Tensor = self.module(tensor)[self.index]
        return part


@dataclass(frozen=True)
class _Slice:
    """The view of one slice along a dimension."""

    dim: int
    index: int

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.select(self.dim, self.index)


@dataclass(frozen=True)
class _Unflatten:
    """The view in which a Bottle returns the output of its child."""

    bottle: Bottle
    shape: torch.Size

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.bottle.unflatten(tensor, self.shape)


def _renewed(value: Any) -> Any:
    """Return references as if a layer had just returned them."""
    if isinstance(value, list):
        return [_renewed(entry) for entry in value]
    return (
        _Ref(value.memory, value.views, value.memory.writes) if isinstance(value, _Ref) else value
    )


def _is_unknown(value: Any) -> bool:
    """Return whether a tensor in nested tables is not known."""
    if isinstance(value, (list, dict)):
        return any(map(_is_unknown, value.values() if isinstance(value, dict) else value))
    return value is None


def reference(value: Any) -> Any:
    """Return references to the tensors of nested tables; one tensor is one memory."""
    memories: dict[int, _Memory] = {}

    def refer(item: Any) -> Any:
        if isinstance(item, list):
            return [refer(entry) for entry in item]
        if isinstance(item, dict):
            return {key: refer(entry) for key, entry in item.items()}
        if not isinstance(item, torch.Tensor):
            return item
        return _Ref(memories.setdefault(id(item), _Memory(item)))

    return refer(value)


@layer
class InPlace(nn.ModuleList):
    """A container that runs with Torch7's memory: what a layer overwrites, other branches read.

    The gradient is that of the output, which Torch7's is not.

    Args:
        modules: One container.
        writers: Paths of the layers that overwrite their input, such as `0.1`.
        viewers: Paths of the layers whose output is the memory of their input.
    """

    def __init__(self, *modules: nn.Module, writers: list[str], viewers: list[str]) -> None:
        super().__init__(modules)
        self.writers = writers
        self.viewers = viewers

    def forward(self, input: Any) -> Any:
        """Map an input of the container to its output; the input itself is not changed."""
        writers, viewers = (
            {id(self.get_submodule(path)) for path in paths}
            for paths in (self.writers, self.viewers)
        )
        run = _Run(writers, viewers)
        return run.read(run.run(self[0], reference(input)))

    __repr__ = nn.Module.__repr__

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"writers={self.writers}"


def share_memory(module: nn.Module, layers: list[ConvertedLayer]) -> tuple[nn.Module, list[str]]:
    """Put each container in which a layer overwrites what another one reads into an InPlace.

    Args:
        module: The converted module, which is changed.
        layers: What it was converted from, children before parents.

    Returns:
        The module, itself in an InPlace where needed, and the Lua paths of the containers.
    """
    writers = {id(e.module) for e in layers if _overwrites(e)}
    if not writers:
        return module, []
    viewers = {id(e.module) for e in layers if _views(e)}
    paths = []
    for entry in layers:
        container = entry.module
        if not isinstance(container, (nn.Sequential, nn.ModuleList)):
            continue
        run = _Run(writers, viewers)
        run.read(run.run(container, _Ref(_Memory())))
        if run.stale:
            paths.append(entry.path)
            names = [(f"0.{name}", id(part)) for name, part in container.named_modules() if name]
            wrapper = InPlace(
                container,
                writers=[name for name, key in names if key in writers],
                viewers=[name for name, key in names if key in viewers],
            )
            wrapper.training = container.training
            module = _replace(module, container, wrapper)
    return module, paths


def _overwrites(entry: ConvertedLayer) -> bool:
    return entry.source.class_name in _OVERWRITING and entry.source.get("inplace") is True


def _views(entry: ConvertedLayer) -> bool:
    # nn.Copy returns its input if the type is the same.
    is_copy = entry.source.class_name == "nn.Copy" and isinstance(entry.module, nn.Identity)
    return entry.source.class_name in _VIEWING or is_copy


def _replace(module: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Put a module in another's place wherever it occurs, and return the whole module."""
    for parent in module.modules():
        for name, child in parent._modules.items():
            if child is old and parent is not new:
                parent._modules[name] = new
    return new if module is old else module
