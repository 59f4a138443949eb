"""Elementwise arithmetic between the tensors of a table (`CAddTable.lua`, `CMulTable.lua`, …)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register
from .memory_order import same_shape


@layer
class CAddTable(nn.Module):
    """`CAddTable.lua`: the elementwise sum of a list of tensors."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map tensors of one shape to their sum."""
        total, *others = same_shape(input)
        for item in others:
            total = total + item
        return total


@layer
class CMulTable(nn.Module):
    """`CMulTable.lua`: the elementwise product of a list of tensors."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map tensors of one shape to their product."""
        product, *others = same_shape(input)
        for item in others:
            product = product * item
        return product


@layer
class CSubTable(nn.Module):
    """`CSubTable.lua`: the first tensor minus the second."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map two tensors of one shape to their difference."""
        first, second = same_shape(input[:2])
        return first - second


@layer
class CDivTable(nn.Module):
    """`CDivTable.lua`: the first tensor divided by the second."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map two tensors of one shape to their quotient."""
        first, second = same_shape(input[:2])
        return first / second


@layer
class CMaxTable(nn.Module):
    """`CMaxTable.lua`: elementwise maximum; the first of equal values has the gradient."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map tensors of one shape to their maximum."""
        best, *others = same_shape(input)
        for item in others:
            best = torch.where(item > best, item, best)
        return best


@layer
class CMinTable(nn.Module):
    """`CMinTable.lua`: elementwise minimum; the first of equal values has the gradient."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map tensors of one shape to their minimum."""
        best, *others = same_shape(input)
        for item in others:
            best = torch.where(item < best, item, best)
        return best


@layer
class CAddTensorTable(nn.Module):
    """`CAddTensorTable.lua`: a tensor added to each of a list, [t, [a, b]] → [a + t, b + t].

    The sums have the shape of t; the others are read in memory order.
    """

    def forward(self, input: list[Any]) -> list[torch.Tensor]:
        """Map [tensor, list of tensors of its size] to a list of tensors of its shape."""
        tensor, others = input
        return [item + tensor for item in same_shape([tensor, *others])[1:]]


_WITHOUT_ARGUMENTS: dict[str, type[nn.Module]] = {
    f"nn.{cls.__name__}": cls
    for cls in (
        CAddTable,
        CMulTable,
        CSubTable,
        CDivTable,
        CMaxTable,
        CMinTable,
        CAddTensorTable,
    )
}


@register(*_WITHOUT_ARGUMENTS, ignored=("inplace", "maxIdx", "minIdx"))
def table_arithmetic(source: LuaObject, context: Context) -> nn.Module:
    """Convert `CAddTable.lua` or another elementwise operation."""
    return _WITHOUT_ARGUMENTS[source.class_name]()
