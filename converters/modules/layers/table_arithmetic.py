"""Elementwise arithmetic between the tensors of a table (`CAddTable.lua`, `CMulTable.lua`, …)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


def same_shape(input: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the tensors in the shape of the first one.

    Torch7 pairs elements by their position in memory; PyTorch would broadcast (N, 1) and (N,) to
    (N, N).
    """
    shape = input[0].shape
    return [item if _equal(item.shape, shape) else item.flatten().view(shape) for item in input]


def _equal(first: torch.Size, second: torch.Size) -> bool:
    """Return whether two shapes are equal; in an export, whether they are for every batch size."""
    if not torch.compiler.is_exporting():
        return first == second
    # In nn.LayerNormalization the shapes are (6, N) and (N, 6). `==` would make torch.export
    # specialize N. The import is here because it takes a second.
    from torch.fx.experimental.symbolic_shapes import statically_known_true, sym_eq

    return statically_known_true(sym_eq(first, second))


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


@register(*_WITHOUT_ARGUMENTS)
def table_arithmetic(source: LuaObject, context: Context) -> nn.Module:
    """Convert `CAddTable.lua` or another elementwise operation; `inplace` only saves memory."""
    return _WITHOUT_ARGUMENTS[source.class_name]()
