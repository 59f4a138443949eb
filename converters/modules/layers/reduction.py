"""Reductions along one dimension (`Sum.lua`, `Mean.lua`, `Max.lua`, `Min.lua`)."""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register
from .dimensions import AlongDimension, dim_of, num_input_dims


@layer
class Max(AlongDimension):
    """`Max.lua`: the largest number along a dimension; of equal ones the first has the gradient."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…, D, …) → (…), or (D,) → (1,)."""
        return input.max(self._dim(input), keepdim=input.dim() == 1).values


@register("nn.Max")
def max_along(source: LuaObject, context: Context) -> nn.Module:
    """`Max.lua`."""
    return Max(dim_of(source, default=1), num_input_dims(source))


@layer
class Min(AlongDimension):
    """`Min.lua`: the smallest number along a dimension, with gradients as in `Max`."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…, D, …) → (…), or (D,) → (1,)."""
        return input.min(self._dim(input), keepdim=input.dim() == 1).values


@register("nn.Min")
def min_along(source: LuaObject, context: Context) -> nn.Module:
    """`Min.lua`."""
    return Min(dim_of(source, default=1), num_input_dims(source))


class _Reduction(AlongDimension):
    """A layer that reduces one dimension to a single number.

    Args:
        dim: the dimension, of one example where `num_input_dims` is given.
        num_input_dims: dimensions of one example, or None where `dim` counts the batch.
        keepdim: keep the dimension, with size 1; one-dimensional inputs always do.
    """

    def __init__(
        self, dim: int = 0, num_input_dims: int | None = None, keepdim: bool = False
    ) -> None:
        super().__init__(dim, num_input_dims)
        self.keepdim = keepdim

    def extra_repr(self) -> str:
        """The dimension, and whether it stays."""
        return super().extra_repr() + (", keepdim=True" if self.keepdim else "")


@layer
class Sum(_Reduction):
    """`Sum.lua`: the sum along a dimension."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…, D, …) → (…), or (D,) → (1,)."""
        return input.sum(self._dim(input), keepdim=self.keepdim or input.dim() == 1)


@layer
class Mean(_Reduction):
    """`Mean.lua`: the mean along a dimension."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…, D, …) → (…), or (D,) → (1,)."""
        return input.mean(self._dim(input), keepdim=self.keepdim or input.dim() == 1)


@register("nn.Sum")
def sum_along(source: LuaObject, context: Context) -> nn.Module:
    """`Sum.lua`; with `sizeAverage` it is a mean. A missing `squeeze` means that it squeezes."""
    kind = Mean if source.get("sizeAverage") else Sum
    return kind(dim_of(source, default=1), num_input_dims(source), source.get("squeeze") is False)


@register("nn.Mean")
def mean_along(source: LuaObject, context: Context) -> nn.Module:
    """`Mean.lua`: a mean whether or not the file has the `sizeAverage` of its later base class."""
    if "sizeAverage" not in source:
        context.note("no field sizeAverage, as before 2016: nn.Mean is a mean all the same")
    return Mean(dim_of(source, default=1), num_input_dims(source), source.get("squeeze") is False)
