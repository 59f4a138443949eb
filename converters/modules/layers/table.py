"""Layers that join, split, rearrange and index tables (`JoinTable.lua`, `SelectTable.lua`, …).

A table is a Python list, or a dict if its keys are strings.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register
from .dimensions import AlongDimension, dim_of, num_input_dims
from .memory_order import join, same_shape


class _ZeroGradients(torch.autograd.Function):
    """Returns its first input; the gradient of the others is zero, not missing."""

    @staticmethod
    def forward(ctx: Any, *tensors: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(*tensors[1:])
        return tensors[0].view_as(tensors[0])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return grad_outputs[0], *map(torch.zeros_like, ctx.saved_tensors)


def _with_zero_gradients(selected: Any, table: Any) -> Any:
    """Return the selected entries of a table so that a backward pass reaches the others too.

    Torch7 runs the backward pass of every branch. It matters where a layer adds to the gradient
    that comes in, as `L1Penalty.lua` does.
    """
    if not torch.is_grad_enabled():
        return selected
    leaves, structure = tree_flatten(selected)
    unused = [
        tensor
        for tensor in tree_leaves(table)
        if isinstance(tensor, torch.Tensor)
        and tensor.requires_grad
        and all(tensor is not leaf for leaf in leaves)
    ]
    if not unused or not leaves or not isinstance(leaves[0], torch.Tensor):
        return selected
    return tree_unflatten([_ZeroGradients.apply(leaves[0], *unused), *leaves[1:]], structure)


@layer
class SelectTable(nn.Module):
    """`SelectTable.lua`: one entry of a table.

    Args:
        index: Index in a list, from 0 or negative from the end; or the key in a dict.
    """

    def __init__(self, index: int | str) -> None:
        super().__init__()
        self.index = index

    def forward(self, input: Any) -> Any:
        """Map a list or dict to one of its entries; the others get a gradient of zeros."""
        return _with_zero_gradients(input[self.index], input)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return repr(self.index)


@register("nn.SelectTable")
def select_table(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SelectTable.lua`: one entry; the index is a number from 1 or a string."""
    index = source["index"]
    return SelectTable(index if isinstance(index, str) else dim_of(source, "index"))


@layer
class NarrowTable(nn.Module):
    """`NarrowTable.lua`: a range of a list, which may end before it.

    Args:
        start: Index of the first entry, from 0.
        length: Number of entries.
    """

    def __init__(self, start: int, length: int = 1) -> None:
        super().__init__()
        self.start = start
        self.length = length

    def forward(self, input: list[Any]) -> list[Any]:
        """Map a list to at most `length` of its entries; the others get a gradient of zeros."""
        selected = input[self.start : self.start + self.length]
        entries: list[Any] = _with_zero_gradients(selected, input)
        return entries

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"start={self.start}, length={self.length}"


@register("nn.NarrowTable")
def narrow_table(source: LuaObject, context: Context) -> nn.Module:
    """Convert `NarrowTable.lua`: a range of a table, by default of one entry."""
    return NarrowTable(dim_of(source, "offset"), int(source.get("length", 1)))


@layer
class FlattenTable(nn.Module):
    """`FlattenTable.lua`: the tensors of nested lists as one list, in order.

    Entries with strings as keys are left out.
    """

    def forward(self, input: list[Any]) -> list[torch.Tensor]:
        """Map lists of lists of tensors to a list of tensors."""
        return _flatten(input)


def _flatten(value: Any) -> list[torch.Tensor]:
    if isinstance(value, list):
        return [tensor for item in value for tensor in _flatten(item)]
    return [] if isinstance(value, dict) else [value]


@register("nn.FlattenTable", ignored=("input_map",))
def flatten_table(source: LuaObject, context: Context) -> nn.Module:
    """Convert `FlattenTable.lua`: nested tables as one."""
    return FlattenTable()


@layer
class ZipTable(nn.Module):
    """`ZipTable.lua`: rows become columns, [[a1, a2], [b1, b2]] → [[a1, b1], [a2, b2]].

    A shorter row has no entry in the last columns.
    """

    def forward(self, input: list[list[Any]]) -> list[list[Any]]:
        """Map K lists of L entries to L lists of K entries."""
        columns = max(map(len, input), default=0)
        return [[row[i] for row in input if i < len(row)] for i in range(columns)]


@register("nn.ZipTable")
def zip_table(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ZipTable.lua`: rows of a nested table become columns."""
    return ZipTable()


@layer
class ZipTableOneToMany(nn.Module):
    """`ZipTableOneToMany.lua`: a value paired with each entry, [v, [a, b]] → [[v, a], [v, b]]."""

    def forward(self, input: list[Any]) -> list[list[Any]]:
        """Map [value, list] to a list of pairs."""
        one, many = input
        return [[one, item] for item in many]


@register("nn.ZipTableOneToMany")
def zip_table_one_to_many(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ZipTableOneToMany.lua`: one value paired with each entry of a table."""
    return ZipTableOneToMany()


@layer
class MixtureTable(nn.Module):
    """`MixtureTable.lua`: the sum of expert outputs weighted by gates.

    Args:
        dim: Dimension of the experts if they are one tensor; None for the first after the batch.
    """

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: list[Any]) -> torch.Tensor:
        """Map [gates, experts] to the weighted sum.

        Args:
            input: Gates (N, K) or (K,), and K experts (N, …) or (…): a list of tensors, or one
                tensor with K entries along `dim`. Further entries are ignored.
        """
        gates, experts = input[:2]
        batch = min(gates.dim() - 1, 1)
        gates = gates.flatten(batch)
        if isinstance(experts, list):
            gate_shape = [*gates.shape[:batch], *[1] * (experts[0].dim() - batch)]
            weighted = [
                gate.reshape(gate_shape) * expert
                for gate, expert in zip(gates.unbind(-1), experts, strict=True)
            ]
            return torch.stack(same_shape(weighted)).sum(0)
        dim = batch if self.dim is None else self.dim
        shape = [*gates.shape[:batch], *[1] * (experts.dim() - batch)]
        shape[dim] = gates.shape[-1]
        mixture: torch.Tensor = (gates.reshape(shape) * experts).sum(dim)
        return mixture

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"dim={self.dim}"


@register("nn.MixtureTable", ignored=("batchSize", "backwardSetup", "size", "dimG", "table"))
def mixture_table(source: LuaObject, context: Context) -> nn.Module:
    """Convert `MixtureTable.lua`: a mixture of experts; a forward pass in Torch7 sets `dim`."""
    return MixtureTable(None if source.get("dim") is None else dim_of(source, "dim"))


@layer
class SplitTable(AlongDimension):
    """`SplitTable.lua`: a list of the slices along a dimension, which is removed."""

    def forward(self, input: torch.Tensor) -> list[torch.Tensor]:
        """Map (…, D, …) to a list of D tensors (…)."""
        return list(input.unbind(self.dim_in(input)))


@register("nn.SplitTable")
def split_table(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SplitTable.lua`: a table of the slices along a dimension."""
    return SplitTable(dim_of(source), num_input_dims(source))


@layer
class JoinTable(AlongDimension):
    """`JoinTable.lua`: the tensors of a list concatenated along a dimension."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map tensors (…, Dᵢ, …) to (…, ΣDᵢ, …); all have a batch if the first one does."""
        return join(input, self.dim_in(input[0]))


@register("nn.JoinTable", ignored=("size",))
def join_table(source: LuaObject, context: Context) -> nn.Module:
    """Convert `JoinTable.lua`: the tensors of a table concatenated along a dimension."""
    return JoinTable(dim_of(source), num_input_dims(source))
