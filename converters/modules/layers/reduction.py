"""Reductions along one dimension (`Sum.lua`, `Mean.lua`, `Max.lua`, `Min.lua`)."""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register
from .dimensions import AlongDimension, dim_of, num_input_dims


def _along(source: LuaObject) -> tuple[int, int | None]:
    """Return the dimension, by default the first, and the number of dimensions of one example.

    With `nInputDims` Torch7 adds 1 to the dimension if the input is a batch. So dimension 0 is the
    batch; Torch7 refuses an input without one.
    """
    dim, dims = dim_of(source, default=1), num_input_dims(source)
    return (0, None) if source.get("dimension") == 0 else (dim, dims)


@layer
class Max(AlongDimension):
    """`Max.lua`: maximum along a dimension; the first of equal values has the gradient."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (…, D, …) to (…), or (D,) to (1,)."""
        return input.max(self.dim_in(input), keepdim=input.dim() == 1).values


@register("nn.Max")
def max_along(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Max.lua`: maximum along a dimension, by default the first."""
    return Max(*_along(source))


@layer
class Min(AlongDimension):
    """`Min.lua`: minimum along a dimension; the first of equal values has the gradient."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (…, D, …) to (…), or (D,) to (1,)."""
        return input.min(self.dim_in(input), keepdim=input.dim() == 1).values


@register("nn.Min")
def min_along(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Min.lua`: minimum along a dimension, by default the first."""
    return Min(*_along(source))


class _Reduction(AlongDimension):
    """A layer that reduces one dimension to a single value.

    Args:
        dim: The dimension; it counts the batch if `num_input_dims` is None.
        num_input_dims: Number of dimensions of one example, or None.
        keepdim: Whether to keep the dimension with size 1; a one-dimensional input always keeps it.
    """

    def __init__(
        self, dim: int = 0, num_input_dims: int | None = None, keepdim: bool = False
    ) -> None:
        super().__init__(dim, num_input_dims)
        self.keepdim = keepdim

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return super().extra_repr() + (", keepdim=True" if self.keepdim else "")


@layer
class Sum(_Reduction):
    """`Sum.lua`: sum along a dimension."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (…, D, …) to (…), or (D,) to (1,)."""
        return input.sum(self.dim_in(input), keepdim=self.keepdim or input.dim() == 1)


@layer
class Mean(_Reduction):
    """`Mean.lua`: mean along a dimension."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (…, D, …) to (…), or (D,) to (1,)."""
        return input.mean(self.dim_in(input), keepdim=self.keepdim or input.dim() == 1)


@register("nn.Sum")
def sum_along(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Sum.lua`: sum along a dimension, or mean with `sizeAverage`.

    It removes the dimension if `squeeze` is missing.
    """
    cls = Mean if source.get("sizeAverage") else Sum
    return cls(*_along(source), keepdim=source.get("squeeze") is False)


@register("nn.Mean")
def mean_along(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Mean.lua`: mean along a dimension.

    Since 2016 it derives from `Sum.lua` and sets its `sizeAverage`; older files lack that field.
    """
    if "sizeAverage" not in source:
        context.note("no field sizeAverage (a file from before 2016): nn.Mean averages anyway")
    return Mean(*_along(source), keepdim=source.get("squeeze") is False)
