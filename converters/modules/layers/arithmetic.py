"""Arithmetic between the tensors of a table (`CAddTable.lua`, `MM.lua`, `DotProduct.lua`, …)."""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer as layer_of_ours
from ..registry import register


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


@layer_of_ours
class CAddTable(nn.Module):
    """`CAddTable.lua`: the sum of all tensors of a list."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Tensors of one shape → their sum."""
        total, *others = _alike(input)
        for item in others:
            total = total + item
        return total


@layer_of_ours
class CMulTable(nn.Module):
    """`CMulTable.lua`: the product of all tensors of a list."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Tensors of one shape → their product."""
        product, *others = _alike(input)
        for item in others:
            product = product * item
        return product


@layer_of_ours
class CSubTable(nn.Module):
    """`CSubTable.lua`: the first tensor less the second."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Two tensors of one shape → their difference."""
        first, second = _alike(input[:2])
        return first - second


@layer_of_ours
class CDivTable(nn.Module):
    """`CDivTable.lua`: the first tensor divided by the second."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Two tensors of one shape → their quotient."""
        first, second = _alike(input[:2])
        return first / second


@layer_of_ours
class CMaxTable(nn.Module):
    """`CMaxTable.lua`: the largest of each element; the first of equal ones gets the gradient."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Tensors of one shape → one of that shape."""
        best, *others = _alike(input)
        for item in others:
            best = torch.where(item > best, item, best)
        return best


@layer_of_ours
class CMinTable(nn.Module):
    """`CMinTable.lua`: the smallest of each element; the first of equal ones gets the gradient."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Tensors of one shape → one of that shape."""
        best, *others = _alike(input)
        for item in others:
            best = torch.where(item < best, item, best)
        return best


@layer_of_ours
class CAddTensorTable(nn.Module):
    """`CAddTensorTable.lua`: a tensor added to each of a list, [t, [a, b]] → [a + t, b + t]."""

    def forward(self, input: list) -> list[torch.Tensor]:
        """[tensor, tensors of its shape] → as many tensors."""
        tensor, others = input
        return [item + tensor.reshape(item.shape) for item in others]


@layer_of_ours
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


@layer_of_ours
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


def _rows(input: list[torch.Tensor]) -> list[torch.Tensor]:
    """Two inputs as (N, D); vectors are a batch of one, and give an output of (1,)."""
    return [item.unsqueeze(0) if item.dim() == 1 else item for item in input[:2]]


@layer_of_ours
class DotProduct(nn.Module):
    """`DotProduct.lua`: the dot product of two vectors, row by row."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """[(N, D), (N, D)] → (N,), or [(D,), (D,)] → (1,)."""
        first, second = _rows(input)
        return (first * second).sum(1)


@layer_of_ours
class CosineDistance(nn.Module):
    """`CosineDistance.lua`: the cosine of the angle between two vectors, row by row.

    1e-12 is added to each squared length.
    """

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """[(N, D), (N, D)] → (N,), or [(D,), (D,)] → (1,)."""
        first, second = _rows(input)
        squares = (first.square().sum(1) + 1e-12) * (second.square().sum(1) + 1e-12)
        return (first * second).sum(1) / squares.sqrt()


@layer_of_ours
class PairwiseDistance(nn.Module):
    """`PairwiseDistance.lua`: the p-norm of the difference of two vectors, row by row.

    torch.nn's adds 1e-6 to the difference; this one does not.

    Args:
        norm: p.
    """

    def __init__(self, norm: float = 2.0) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """[(N, D), (N, D)] → (N,), or [(D,), (D,)] → (1,)."""
        first, second = _rows(input)
        return torch.linalg.vector_norm(first - second, self.norm, dim=1)

    def extra_repr(self) -> str:
        """The power."""
        return f"norm={self.norm}"


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
        DotProduct,
        CosineDistance,
    )
}


@register(*_PLAIN)
def table_arithmetic(layer: LuaObject, context: Context) -> nn.Module:
    """A layer without settings; `inplace` only saves memory, and is left out."""
    return _PLAIN[layer.class_name]()


@register("nn.MM")
def matrix_product(layer: LuaObject, context: Context) -> nn.Module:
    """`MM.lua`."""
    return MM(bool(layer.get("transA")), bool(layer.get("transB")))


@register("nn.MV")
def matrix_vector_product(layer: LuaObject, context: Context) -> nn.Module:
    """`MV.lua`."""
    return MV(bool(layer.get("trans")))


@register("nn.PairwiseDistance")
def pairwise_distance(layer: LuaObject, context: Context) -> nn.Module:
    """`PairwiseDistance.lua`; its `norm` is 2 where the file does not say."""
    return PairwiseDistance(layer.get("norm", 2))
