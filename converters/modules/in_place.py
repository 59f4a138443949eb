"""Layers that overwrite their input (`inplace` in Torch7), where another branch reads it too.

A converted layer returns a new tensor, which is the same as long as nobody else reads the memory
that Torch7 overwrites. Where somebody does (a later child of a Concat, an earlier one that hands
its input on, a later node of a graph), `share_memory` puts the container into an `InPlace`, which
runs it with Torch7's memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import nn

from .layers.container import (
    Bottle,
    Concat,
    ConcatTable,
    DepthConcat,
    MapTable,
    Parallel,
    ParallelTable,
)
from .layers.table import (
    FlattenTable,
    NarrowTable,
    SelectTable,
    SplitTable,
    ZipTable,
    ZipTableOneToMany,
)
from .layers.table_arithmetic import CAddTable
from .packages.nngraph import GModule, JustElement, JustTable
from .registry import layer

#: Layers that only move the entries of tables.
_MOVING = (
    *(FlattenTable, NarrowTable, SelectTable, ZipTable, ZipTableOneToMany),
    *(JustElement, JustTable),
)

#: What a view makes of a tensor.
_View: TypeAlias = Callable[[torch.Tensor], torch.Tensor]


class Memory:
    """The memory of a tensor.

    Attributes:
        tensor: Its present values; None where only the order of reads and writes is followed.
        writes: How often it was overwritten.
        entries: If it is a table of an unknown length: the memory of its entries.
    """

    def __init__(self, tensor: torch.Tensor | None = None) -> None:
        self.tensor = tensor
        self.writes = 0
        self.entries: dict[Any, Ref] = {}


class Ref:
    """A tensor that a layer returned: memory, seen through views.

    Attributes:
        memory: The memory.
        views: The views, in order.
        writes: How often the memory had been overwritten when the layer returned.
    """

    def __init__(self, memory: Memory, views: tuple[_View, ...] = ()) -> None:
        self.memory = memory
        self.views = views
        self.writes = memory.writes

    #: A table of an unknown length cannot be walked through, as `__getitem__` alone would allow.
    __iter__ = None

    def __getitem__(self, index: Any) -> Any:
        """Return an entry of a table of an unknown length."""
        if isinstance(index, slice):
            return [self[i] for i in range(index.start, index.stop)]
        if self.views:
            return self
        return self.memory.entries.setdefault(index, Ref(Memory()))

    def view(self, view: _View) -> Ref:
        """Return the same memory seen through one view more."""
        ref = Ref(self.memory, (*self.views, view))
        ref.writes = self.writes
        return ref

    def apply_views(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return what a tensor is behind the views."""
        for view in self.views:
            tensor = view(tensor)
        return tensor


class Interpreter:
    """Runs a module with Torch7's memory.

    Attributes:
        writers: The layers that overwrite their input, by their id.
        viewers: The layers that return the memory of their input, by their id.
        stale: Whether a tensor was read that was overwritten after a layer had returned it.
    """

    def __init__(self, writers: set[int], viewers: set[int]) -> None:
        self.writers = writers
        self.viewers = viewers
        self.stale = False

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
        if isinstance(module, MapTable):
            return self._run_on_entries(module, value)
        if isinstance(module, (Concat, DepthConcat)):
            return self._new(module.combine, [self.run(child, value) for child in module])
        if isinstance(module, GModule):
            return module.walk(value, self.run)
        if isinstance(module, (Parallel, Bottle)) and isinstance(value, Ref):
            return self._run_on_views(module, value)
        if isinstance(module, _MOVING):
            # A table of an unknown length has entries, but cannot be walked through.
            if isinstance(value, Ref) and isinstance(module, JustElement):
                return value[0]
            # These look at places alone.
            has_index = isinstance(module, (SelectTable, NarrowTable, JustTable))
            return value if isinstance(value, Ref) and not has_index else module(value)
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
        if not isinstance(value, Ref):
            return value
        self.stale |= value.writes != value.memory.writes
        entries = value.memory.entries.values()
        self.stale |= any(entry.writes != entry.memory.writes for entry in entries)
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
        return Ref(Memory()) if _is_unknown(tensors) else reference(module(tensors))

    def _view(self, module: nn.Module, value: Any) -> Any:
        """Return the memory of the input as a layer returns it: one tensor, or a list of slices."""
        if not isinstance(value, Ref):
            return value
        tensor = self.read(value)
        if not isinstance(module, SplitTable) or tensor is None:
            return value.view(module)
        dim = module.dim_in(tensor)
        return [value.view(_Slice(dim, index)) for index in range(tensor.shape[dim])]

    def _overwrite(self, module: nn.Module, value: Any) -> Any:
        """Write the output of a layer into the memory of its input, the first of a table."""
        target = value[0] if isinstance(module, CAddTable) else value
        if not isinstance(target, Ref):
            return self._new(module, value)
        tensors, memory = self.read(value), target.memory
        if memory.tensor is not None:
            output = module(tensors)
            if any(isinstance(view, _Slice) for view in target.views):
                # A copy, because an earlier layer's gradient may need the old values.
                whole = memory.tensor.clone(memory_format=torch.contiguous_format)
                target.apply_views(whole).copy_(output)
            elif output.numel() == memory.tensor.numel():
                whole = output.reshape(memory.tensor.shape)
            else:  # Repeated by nn.Replicate: what Torch7 makes of the memory is undefined.
                return Ref(Memory(output))
            memory.tensor = whole
        memory.writes += 1
        return Ref(memory, target.views)

    def _run_on_entries(self, module: MapTable, value: Any) -> Any:
        """Run a MapTable on each entry; of an unknown table, on as many as it has modules."""
        if isinstance(value, list):
            return [self.run(module.child(i), entry) for i, entry in enumerate(value)]
        outputs = Ref(Memory())
        for index, child in enumerate(module):
            outputs.memory.entries[index] = self.run(child, value[index])
        return outputs

    def _run_on_views(self, module: Parallel | Bottle, value: Ref) -> Any:
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
        if not isinstance(output, Ref) or tensor is None:
            return output
        return output.view(_Unflatten(module, tensor.shape))


class _Slice:
    """The view of one slice along a dimension."""

    def __init__(self, dim: int, index: int) -> None:
        self.dim = dim
        self.index = index

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.select(self.dim, self.index)


class _Unflatten:
    """The view in which a Bottle returns the output of its child."""

    def __init__(self, bottle: Bottle, shape: torch.Size) -> None:
        self.bottle = bottle
        self.shape = shape

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.bottle.unflatten(tensor, self.shape)


def _renewed(value: Any) -> Any:
    """Return references as if a layer had just returned them."""
    if isinstance(value, list):
        return [_renewed(entry) for entry in value]
    return Ref(value.memory, value.views) if isinstance(value, Ref) else value


def _is_unknown(value: Any) -> bool:
    """Return whether a tensor in nested tables is not known."""
    if isinstance(value, (list, dict)):
        return any(map(_is_unknown, value.values() if isinstance(value, dict) else value))
    return value is None


def reference(value: Any) -> Any:
    """Return references to the tensors of nested tables; one tensor is one memory."""
    memories: dict[int, Memory] = {}

    def refer(item: Any) -> Any:
        if isinstance(item, list):
            return [refer(entry) for entry in item]
        if isinstance(item, dict):
            return {key: refer(entry) for key, entry in item.items()}
        if not isinstance(item, torch.Tensor):
            return item
        return Ref(memories.setdefault(id(item), Memory(item)))

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
        interpreter = Interpreter(writers, viewers)
        return interpreter.read(interpreter.run(self[0], reference(input)))

    __repr__ = nn.Module.__repr__

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"writers={self.writers}"
