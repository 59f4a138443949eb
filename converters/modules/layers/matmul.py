"""Products of the matrices and vectors of a table (`MM.lua`, `MV.lua`)."""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class MM(nn.Module):
    """`MM.lua`: the product of two matrices, or of two batches of matrices.

    Args:
        trans_a: transpose the matrices of the first input.
        trans_b: transpose those of the second.
    """

    def __init__(self, trans_a: bool = False, trans_b: bool = False) -> None:
        super().__init__()
        self.trans_a = trans_a
        self.trans_b = trans_b

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """[(N, A, B), (N, B, C)] → (N, A, C), or the same without N."""
        a, b = input
        return torch.matmul(a.mT if self.trans_a else a, b.mT if self.trans_b else b)

    def extra_repr(self) -> str:
        """What is transposed."""
        return f"trans_a={self.trans_a}, trans_b={self.trans_b}"


@layer
class MV(nn.Module):
    """`MV.lua`: a matrix times a vector, or batches of both.

    Args:
        trans: transpose the matrices.
    """

    def __init__(self, trans: bool = False) -> None:
        super().__init__()
        self.trans = trans

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """[(N, A, B), (N, B)] → (N, A), or the same without N."""
        matrix, vector = input
        matrix = matrix.mT if self.trans else matrix
        return torch.matmul(matrix, vector.unsqueeze(-1)).squeeze(-1)

    def extra_repr(self) -> str:
        """Whether the matrices are transposed."""
        return f"trans={self.trans}"


@register("nn.MM")
def matrix_product(source: LuaObject, context: Context) -> nn.Module:
    """`MM.lua`."""
    return MM(bool(source.get("transA")), bool(source.get("transB")))


@register("nn.MV")
def matrix_vector_product(source: LuaObject, context: Context) -> nn.Module:
    """`MV.lua`."""
    return MV(bool(source.get("trans")))
