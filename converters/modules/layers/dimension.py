"""Layers that work along one dimension, counted with or without a batch (`Sum.lua`, `Max.lua`, …).

Torch7 counts dimensions from 1 and, for layers that know how many dimensions one example has,
from the first one after the batch. The layers count from 0; negative ones count from the end.
"""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer as layer_of_ours
from ..registry import register


def dim_of(layer: LuaObject, name: str = "dimension", default: int | None = None) -> int:
    """A dimension (or index) that Torch7 counts from 1, counted from 0; negative ones stay.

    Args:
        layer: the Torch7 object.
        name: its field.
        default: what a missing field means, counted from 1.

    Raises:
        KeyError: when the field is missing and nothing stands for it.
    """
    dim = int(layer[name] if default is None else layer.get(name, default))
    return dim - 1 if dim > 0 else dim


def num_input_dims(layer: LuaObject) -> int | None:
    """Dimensions of one example, where the layer was told (`nInputDims` and its other names)."""
    for name in ("nInputDims", "numInputDims", "ndim"):
        if layer.get(name) is not None:
            return int(layer[name])
    return None


class _Along(nn.Module):
    """A layer that works along one dimension.

    Args:
        dim: the dimension, of one example where `num_input_dims` is given.
        num_input_dims: dimensions of one example, or None where `dim` counts the batch.
    """

    def __init__(self, dim: int = 0, num_input_dims: int | None = None) -> None:
        super().__init__()
        self.dim = dim
        self.num_input_dims = num_input_dims

    def _dim(self, input: torch.Tensor) -> int:
        """The dimension of this input: one further where it has a batch in front."""
        batched = self.num_input_dims is not None and input.dim() == self.num_input_dims + 1
        return self.dim + 1 if batched and self.dim >= 0 else self.dim

    def extra_repr(self) -> str:
        """The dimension."""
        dims = "" if self.num_input_dims is None else f", num_input_dims={self.num_input_dims}"
        return f"dim={self.dim}{dims}"


@layer_of_ours
class Max(_Along):
    """`Max.lua`: the largest number along a dimension; of equal ones the first has the gradient."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…, D, …) → (…), or (D,) → (1,)."""
        return input.max(self._dim(input), keepdim=input.dim() == 1).values


@register("nn.Max")
def max_along(layer: LuaObject, context: Context) -> nn.Module:
    """`Max.lua`."""
    return Max(dim_of(layer, default=1), num_input_dims(layer))


@layer_of_ours
class Min(_Along):
    """`Min.lua`: the smallest number along a dimension, with gradients as in `Max`."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…, D, …) → (…), or (D,) → (1,)."""
        return input.min(self._dim(input), keepdim=input.dim() == 1).values


@register("nn.Min")
def min_along(layer: LuaObject, context: Context) -> nn.Module:
    """`Min.lua`."""
    return Min(dim_of(layer, default=1), num_input_dims(layer))


class _Reduction(_Along):
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


@layer_of_ours
class Sum(_Reduction):
    """`Sum.lua`: the sum along a dimension."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…, D, …) → (…), or (D,) → (1,)."""
        return input.sum(self._dim(input), keepdim=self.keepdim or input.dim() == 1)


@layer_of_ours
class Mean(_Reduction):
    """`Mean.lua`: the mean along a dimension."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…, D, …) → (…), or (D,) → (1,)."""
        return input.mean(self._dim(input), keepdim=self.keepdim or input.dim() == 1)


@register("nn.Sum")
def sum_along(layer: LuaObject, context: Context) -> nn.Module:
    """`Sum.lua`; with `sizeAverage` it is a mean. A missing `squeeze` means that it squeezes."""
    kind = Mean if layer.get("sizeAverage") else Sum
    return kind(dim_of(layer, default=1), num_input_dims(layer), layer.get("squeeze") is False)


@register("nn.Mean")
def mean_along(layer: LuaObject, context: Context) -> nn.Module:
    """`Mean.lua`: a mean whether or not the file has the `sizeAverage` of its later base class."""
    if "sizeAverage" not in layer:
        context.note("no field sizeAverage, as before 2016: nn.Mean is a mean all the same")
    return Mean(dim_of(layer, default=1), num_input_dims(layer), layer.get("squeeze") is False)


@layer_of_ours
class SplitTable(_Along):
    """`SplitTable.lua`: the slices along a dimension as a list; the dimension is removed."""

    def forward(self, input: torch.Tensor) -> list[torch.Tensor]:
        """(…, D, …) → D tensors (…)."""
        return list(input.unbind(self._dim(input)))


@register("nn.SplitTable")
def split_table(layer: LuaObject, context: Context) -> nn.Module:
    """`SplitTable.lua`."""
    return SplitTable(dim_of(layer), num_input_dims(layer))


@layer_of_ours
class JoinTable(_Along):
    """`JoinTable.lua`: the tensors of a list joined along a dimension."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Tensors (…, Dᵢ, …) → (…, ΣDᵢ, …); the first one tells whether there is a batch."""
        return torch.cat(input, self._dim(input[0]))


@register("nn.JoinTable")
def join_table(layer: LuaObject, context: Context) -> nn.Module:
    """`JoinTable.lua`."""
    return JoinTable(dim_of(layer), num_input_dims(layer))
