"""Arithmetic between the tensors of a table (`CAddTable.lua`, `MM.lua`, `DotProduct.lua`, …)."""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


def _alike(input: list[torch.Tensor]) -> list[torch.Tensor]:
    """The tensors in the shape of the first: Torch7 goes by the number of elements, not by shape.

    PyTorch would broadcast (N, 1) and (N,) to (N, N).
    """
    shape = input[0].shape
    return [item if _equal(item.shape, shape) else item.flatten().view(shape) for item in input]


def _equal(first: torch.Size, second: torch.Size) -> bool:
    """Whether two shapes are the same; in an export, whether they are for every batch."""
    if not torch.compiler.is_exporting():
        return first == second
    # Whether (6, N) is (N, 6) depends on N, which torch.export must not have to ask:
    # nn.LayerNormalization comes here with both. The import takes a second.
    from torch.fx.experimental.symbolic_shapes import statically_known_true, sym_eq

    return statically_known_true(sym_eq(first, second))


@layer
class CAddTable(nn.Module):
    """`CAddTable.lua`: the sum of all tensors of a list."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Tensors of one shape → their sum."""
        total, *others = _alike(input)
        for item in others:
            total = total + item
        return total


@layer
class CMulTable(nn.Module):
    """`CMulTable.lua`: the product of all tensors of a list."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Tensors of one shape → their product."""
        product, *others = _alike(input)
        for item in others:
            product = product * item
        return product


@layer
class CSubTable(nn.Module):
    """`CSubTable.lua`: the first tensor less the second."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Two tensors of one shape → their difference."""
        first, second = _alike(input[:2])
        return first - second


@layer
class CDivTable(nn.Module):
    """`CDivTable.lua`: the first tensor divided by the second."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Two tensors of one shape → their quotient."""
        first, second = _alike(input[:2])
        return first / second


@layer
class CMaxTable(nn.Module):
    """`CMaxTable.lua`: the largest of each element; the first of equal ones gets the gradient."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Tensors of one shape → one of that shape."""
        best, *others = _alike(input)
        for item in others:
            best = torch.where(item > best, item, best)
        return best


@layer
class CMinTable(nn.Module):
    """`CMinTable.lua`: the smallest of each element; the first of equal ones gets the gradient."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Tensors of one shape → one of that shape."""
        best, *others = _alike(input)
        for item in others:
            best = torch.where(item < best, item, best)
        return best


@layer
class CAddTensorTable(nn.Module):
    """`CAddTensorTable.lua`: a tensor added to each of a list, [t, [a, b]] → [a + t, b + t]."""

    def forward(self, input: list) -> list[torch.Tensor]:
        """[tensor, tensors of its shape] → as many tensors."""
        tensor, others = input
        return [item + tensor.reshape(item.shape) for item in others]


_PLAIN: dict[str, type[nn.Module]] = {
    f"nn.{kind.__name__}": kind
    for kind in (
        CAddTable,
        CMulTable,
        CSubTable,
        CDivTable,
        CMaxTable,
        CMinTable,
        CAddTensorTable,
    )
}


@register(*_PLAIN)
def table_arithmetic(source: LuaObject, context: Context) -> nn.Module:
    """A layer without settings; `inplace` only saves memory, and is left out."""
    return _PLAIN[source.class_name]()
