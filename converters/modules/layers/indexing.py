"""Layers that pick parts of a tensor, or are picked by an index (`Select.lua`, `Index.lua`, …)."""

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
    """`Select.lua`: one slice along a dimension, which is removed; negatives count from the end."""

    def __init__(self, dim: int, index: int) -> None:
        super().__init__()
        self.dim = dim
        self.index = index

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…, D, …) → (…)."""
        return input.select(self.dim, self.index)

    def extra_repr(self) -> str:
        """The dimension and the slice."""
        return f"dim={self.dim}, index={self.index}"


@register("nn.Select")
def select(source: LuaObject, context: Context) -> nn.Module:
    """`Select.lua`; the dimension counts the batch."""
    return Select(dim_of(source), dim_of(source, "index"))


@layer
class Narrow(nn.Module):
    """`Narrow.lua`: a range along a dimension.

    Args:
        dim: the dimension.
        start: first index.
        end: index after the last; 0 and negative ones count from the end of the dimension.
    """

    def __init__(self, dim: int, start: int, end: int) -> None:
        super().__init__()
        self.dim = dim
        self.start = start
        self.end = end

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…, D, …) → (…, end - start, …)."""
        end = self.end if self.end > 0 else input.shape[self.dim] + self.end
        return input.narrow(self.dim, self.start, end - self.start)

    def extra_repr(self) -> str:
        """The dimension and the range."""
        return f"dim={self.dim}, start={self.start}, end={self.end}"


@register("nn.Narrow")
def narrow(source: LuaObject, context: Context) -> nn.Module:
    """`Narrow.lua`.

    A negative length ends that far from the end. A negative index, whatever it says, starts at
    the beginning and leaves out as many entries as there would have been in the range.
    """
    index, length = int(source["index"]), int(source.get("length", 1))
    if index > 0:
        start, end = index - 1, index - 1 + length if length >= 0 else length + 1
    else:
        start, end = 0, -length if length >= 0 else index - length - 2
    return Narrow(dim_of(source), start, end)


@layer
class Index(nn.Module):
    """`Index.lua`: slices along a dimension in the order that a second input gives."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """[(…, D, …), (K,) indices from 1] → (…, K, …)."""
        values, index = input
        return values.index_select(self.dim, index.long() - 1)

    def extra_repr(self) -> str:
        """The dimension."""
        return f"dim={self.dim}"


@register("nn.Index")
def index(source: LuaObject, context: Context) -> nn.Module:
    """`Index.lua`; the dimension counts the batch."""
    return Index(dim_of(source))


@layer
class MaskedSelect(nn.Module):
    """`MaskedSelect.lua`: the numbers where a mask is not zero, one after the other."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """[values, mask] of one shape → (K,), as many as the mask selects."""
        values, mask = input
        # ONNX has no masked_select, and the same by places.
        places = (mask != 0).flatten().nonzero().squeeze(1)
        return values.flatten().index_select(0, places)


@register("nn.MaskedSelect")
def masked_select(source: LuaObject, context: Context) -> nn.Module:
    """`MaskedSelect.lua`."""
    return MaskedSelect()


@layer
class OneHot(nn.Module):
    """`OneHot.lua`: class numbers, counted from 1, as rows with a single 1.

    Args:
        num_classes: length of a row.
        dtype: dtype of the rows, such as `float32`.
    """

    def __init__(self, num_classes: int, dtype: str = "float32") -> None:
        super().__init__()
        self.num_classes = num_classes
        self.dtype = dtype

    def forward(self, input: Any) -> torch.Tensor:
        """(…) → (…, num_classes); a number gives (num_classes,)."""
        index = torch.as_tensor(input).long() - 1
        return functional.one_hot(index, self.num_classes).to(getattr(torch, self.dtype))

    def extra_repr(self) -> str:
        """The length of a row."""
        return f"{self.num_classes}, dtype={self.dtype}"


@register("nn.OneHot")
def one_hot(source: LuaObject, context: Context) -> nn.Module:
    """`OneHot.lua`."""
    return OneHot(int(source["outputSize"]), module_dtype(source))
