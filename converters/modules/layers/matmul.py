"""Matrix products of the entries of a table (`MM.lua`, `MV.lua`)."""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class MM(nn.Module):
    """`MM.lua`: product of two matrices, or of two batches of matrices.

    Args:
        trans_a: Whether the matrices of the first input are transposed.
        trans_b: Whether the matrices of the second input are transposed.
    """

    def __init__(self, trans_a: bool = False, trans_b: bool = False) -> None:
        super().__init__()
        self.trans_a = trans_a
        self.trans_b = trans_b

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map [(N, A, B), (N, B, C)] to (N, A, C), or [(A, B), (B, C)] to (A, C)."""
        a, b = input
        return torch.matmul(a.mT if self.trans_a else a, b.mT if self.trans_b else b)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"trans_a={self.trans_a}, trans_b={self.trans_b}"


@layer
class MV(nn.Module):
    """`MV.lua`: product of a matrix and a vector, or of batches of both.

    Args:
        trans: Whether the matrices are transposed.
    """

    def __init__(self, trans: bool = False) -> None:
        super().__init__()
        self.trans = trans

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map [(N, A, B), (N, B)] to (N, A), or [(A, B), (B,)] to (A,)."""
        matrix, vector = input
        matrix = matrix.mT if self.trans else matrix
        return torch.matmul(matrix, vector.unsqueeze(-1)).squeeze(-1)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"trans={self.trans}"


@register("nn.MM")
def matrix_product(source: LuaObject, context: Context) -> nn.Module:
    """Convert `MM.lua`: matrix product of a table's two entries."""
    return MM(bool(source.get("transA")), bool(source.get("transB")))


@register("nn.MV")
def matrix_vector_product(source: LuaObject, context: Context) -> nn.Module:
    """Convert `MV.lua`: matrix-vector product of a table's two entries."""
    return MV(bool(source.get("trans")))
