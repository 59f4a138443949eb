"""Layers that select elements of a tensor (`Select.lua`, `Narrow.lua`, `Index.lua`, …)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..dtypes import module_dtype
from ..registry import layer, register
from .dimensions import dim_of


@layer
class Select(nn.Module):
    """`Select.lua`: one slice along a dimension, which is removed.

    Args:
        dim: The dimension.
        index: Index of the slice, from 0 or negative from the end.
    """

    def __init__(self, dim: int, index: int) -> None:
        super().__init__()
        self.dim = dim
        self.index = index

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (…, D, …) to (…)."""
        return input.select(self.dim, self.index)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"dim={self.dim}, index={self.index}"


@register("nn.Select")
def select(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Select.lua`: one slice; the dimension counts the batch."""
    return Select(dim_of(source), dim_of(source, "index"))


@layer
class Narrow(nn.Module):
    """`Narrow.lua`: a range along a dimension.

    Args:
        dim: The dimension.
        start: First index, from 0.
        end: Index after the last one; 0 and negative values count from the end of the dimension.
    """

    def __init__(self, dim: int, start: int, end: int) -> None:
        super().__init__()
        self.dim = dim
        self.start = start
        self.end = end

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (…, D, …) to (…, end - start, …)."""
        end = self.end if self.end > 0 else input.shape[self.dim] + self.end
        return input.narrow(self.dim, self.start, end - self.start)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"dim={self.dim}, start={self.start}, end={self.end}"


@register("nn.Narrow")
def narrow(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Narrow.lua`: a range along a dimension, the batch included.

    With a negative length the range ends at that index from the end. With any negative index it
    starts at the beginning and leaves out as many entries as it would otherwise have.
    """
    index, length = int(source["index"]), int(source.get("length", 1))
    if index > 0:
        start, end = index - 1, index - 1 + length if length >= 0 else length + 1
    else:
        start, end = 0, -length if length >= 0 else index - length - 2
    return Narrow(dim_of(source), start, end)


@layer
class Index(nn.Module):
    """`Index.lua`: slices along a dimension, selected by a second input.

    Args:
        dim: The dimension.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map [(…, D, …), (K,) indices from 1] to (…, K, …)."""
        values, index = input
        return values.index_select(self.dim, index.long() - 1)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"dim={self.dim}"


@register("nn.Index")
def index(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Index.lua`: slices selected by indices; the dimension counts the batch."""
    return Index(dim_of(source))


@layer
class MaskedSelect(nn.Module):
    """`MaskedSelect.lua`: a vector of the values where a mask is not zero."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map [values, mask] of one shape to (K,), K being the number of selected values."""
        values, mask = input
        # masked_select has no ONNX operator.
        indices = (mask != 0).flatten().nonzero().squeeze(1)
        return values.flatten().index_select(0, indices)


@register("nn.MaskedSelect")
def masked_select(source: LuaObject, context: Context) -> nn.Module:
    """Convert `MaskedSelect.lua`: values selected by a mask."""
    return MaskedSelect()


@layer
class OneHot(nn.Module):
    """`OneHot.lua`: one-hot vectors of class indices, which count from 1.

    Args:
        num_classes: Length of a vector.
        dtype: Name of the output's dtype, such as `float32`.
    """

    def __init__(self, num_classes: int, dtype: str = "float32") -> None:
        super().__init__()
        self.num_classes = num_classes
        self.dtype = dtype

    def forward(self, input: Any) -> torch.Tensor:
        """Map class indices (…) or a number to (…, num_classes)."""
        index = torch.as_tensor(input).long() - 1
        return functional.one_hot(index, self.num_classes).to(getattr(torch, self.dtype))

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.num_classes}, dtype={self.dtype}"


@register("nn.OneHot")
def one_hot(source: LuaObject, context: Context) -> nn.Module:
    """Convert `OneHot.lua`: one-hot vectors of class indices."""
    return OneHot(int(source["outputSize"]), module_dtype(source))
