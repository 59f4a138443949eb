"""Layers that join, split, build and index tables (`JoinTable.lua`, `SelectTable.lua`, …).

Tables are Python lists, or dicts where the keys are names.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register
from .dimensions import AlongDimension, dim_of, num_input_dims


@layer
class SelectTable(nn.Module):
    """`SelectTable.lua`: one entry of a table.

    Args:
        index: place in a list, from 0 or negative from the end; or a name.
    """

    def __init__(self, index: int | str) -> None:
        super().__init__()
        self.index = index

    def forward(self, input: Any) -> Any:
        """A list or dict → its entry."""
        return input[self.index]

    def extra_repr(self) -> str:
        """The place or name."""
        return repr(self.index)


@register("nn.SelectTable")
def select_table(source: LuaObject, context: Context) -> nn.Module:
    """`SelectTable.lua`; its index is a number from 1, or the name of an entry."""
    name = source["index"]
    return SelectTable(name if isinstance(name, str) else dim_of(source, "index"))


@layer
class NarrowTable(nn.Module):
    """`NarrowTable.lua`: a range of a list, shorter where the list ends."""

    def __init__(self, start: int, length: int = 1) -> None:
        super().__init__()
        self.start = start
        self.length = length

    def forward(self, input: list[Any]) -> list[Any]:
        """A list → `length` of its entries."""
        return input[self.start : self.start + self.length]

    def extra_repr(self) -> str:
        """The range."""
        return f"start={self.start}, length={self.length}"


@register("nn.NarrowTable")
def narrow_table(source: LuaObject, context: Context) -> nn.Module:
    """`NarrowTable.lua`."""
    return NarrowTable(dim_of(source, "offset"), int(source.get("length", 1)))


@layer
class FlattenTable(nn.Module):
    """`FlattenTable.lua`: the tensors of nested lists in one list, in order."""

    def forward(self, input: list[Any]) -> list[torch.Tensor]:
        """Lists of lists of tensors → a list of tensors."""
        return _flatten(input)


def _flatten(value: Any) -> list[torch.Tensor]:
    if isinstance(value, list):
        return [tensor for item in value for tensor in _flatten(item)]
    return [value]


@register("nn.FlattenTable")
def flatten_table(source: LuaObject, context: Context) -> nn.Module:
    """`FlattenTable.lua`."""
    return FlattenTable()


@layer
class ZipTable(nn.Module):
    """`ZipTable.lua`: rows to columns, [[a1, a2], [b1, b2]] → [[a1, b1], [a2, b2]]."""

    def forward(self, input: list[list[Any]]) -> list[list[Any]]:
        """K lists of L entries → L lists of K entries."""
        return [list(entries) for entries in zip(*input, strict=True)]


@register("nn.ZipTable")
def zip_table(source: LuaObject, context: Context) -> nn.Module:
    """`ZipTable.lua`."""
    return ZipTable()


@layer
class ZipTableOneToMany(nn.Module):
    """`ZipTableOneToMany.lua`: one entry beside each of a list, [v, [a, b]] → [[v, a], [v, b]]."""

    def forward(self, input: list[Any]) -> list[list[Any]]:
        """[entry, list] → as many pairs as the list has entries."""
        one, many = input
        return [[one, item] for item in many]


@register("nn.ZipTableOneToMany")
def zip_table_one_to_many(source: LuaObject, context: Context) -> nn.Module:
    """`ZipTableOneToMany.lua`."""
    return ZipTableOneToMany()


@layer
class MixtureTable(nn.Module):
    """`MixtureTable.lua`: the sum of experts, each weighted by its gate.

    Args:
        dim: dimension of the experts where they come as one tensor; None for the first after the
            batch.
    """

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: list[Any]) -> torch.Tensor:
        """[gates (N, K) or (K,), K experts (N, …) or (…)] → (N, …) or (…).

        The experts are a list, or one tensor with K along `dim`.
        """
        gates, experts = input
        batch = gates.dim() - 1
        if isinstance(experts, list):
            one = [*gates.shape[:batch], *[1] * (experts[0].dim() - batch)]
            weighted = [
                gate.reshape(one) * expert
                for gate, expert in zip(gates.unbind(-1), experts, strict=True)
            ]
            return torch.stack(weighted).sum(0)
        dim = batch if self.dim is None else self.dim
        shape = [*gates.shape[:batch], *[1] * (experts.dim() - batch)]
        shape[dim] = gates.shape[-1]
        return (gates.reshape(shape) * experts).sum(dim)

    def extra_repr(self) -> str:
        """The dimension of the experts."""
        return f"dim={self.dim}"


@register("nn.MixtureTable")
def mixture_table(source: LuaObject, context: Context) -> nn.Module:
    """`MixtureTable.lua`; files that were run once hold the `dim` that it found."""
    return MixtureTable(None if source.get("dim") is None else dim_of(source, "dim"))


@layer
class SplitTable(AlongDimension):
    """`SplitTable.lua`: the slices along a dimension as a list; the dimension is removed."""

    def forward(self, input: torch.Tensor) -> list[torch.Tensor]:
        """(…, D, …) → D tensors (…)."""
        return list(input.unbind(self._dim(input)))


@register("nn.SplitTable")
def split_table(source: LuaObject, context: Context) -> nn.Module:
    """`SplitTable.lua`."""
    return SplitTable(dim_of(source), num_input_dims(source))


@layer
class JoinTable(AlongDimension):
    """`JoinTable.lua`: the tensors of a list joined along a dimension."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Tensors (…, Dᵢ, …) → (…, ΣDᵢ, …); the first one tells whether there is a batch."""
        return torch.cat(input, self._dim(input[0]))


@register("nn.JoinTable")
def join_table(source: LuaObject, context: Context) -> nn.Module:
    """`JoinTable.lua`."""
    return JoinTable(dim_of(source), num_input_dims(source))
