"""Distances and products of vectors, between inputs or with learned templates."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class Euclidean(nn.Module):
    """`Euclidean.lua`, `WeightedEuclidean.lua`: distance of the input to each template.

    Args:
        in_features: size of the input.
        out_features: number of templates, the columns of the weight.
        weighted: scale each difference by a learned number of its own, `diag_cov`.
    """

    def __init__(self, in_features: int, out_features: int, weighted: bool = False) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weighted = weighted
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.diag_cov = nn.Parameter(torch.empty(in_features, out_features)) if weighted else None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, in) → (N, out), or (in,) → (out,)."""
        difference = input.unsqueeze(-1) - self.weight
        if self.diag_cov is not None:
            difference = difference * self.diag_cov
        return torch.linalg.vector_norm(difference, dim=-2)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


@layer
class Cosine(nn.Module):
    """`Cosine.lua`: cosine between the input and each template, 1e-12 added to both norms.

    Args:
        in_features: size of the input.
        out_features: number of templates, the rows of the weight.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, in) → (N, out), or (in,) → (out,)."""
        weight_norm = torch.linalg.vector_norm(self.weight, dim=1) + 1e-12
        input_norm = torch.linalg.vector_norm(input, dim=-1, keepdim=True) + 1e-12
        return functional.linear(input, self.weight) / weight_norm / input_norm

    def extra_repr(self) -> str:
        """Sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


class _NearestCenter(torch.autograd.Function):
    """Index of the nearest centre; its gradient is the step of online k-means.

    Torch7 gives a centre the mean of (centre - example) over its examples, whatever comes back
    from above, and the input nothing.
    """

    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, weight: torch.Tensor, scale: float) -> torch.Tensor:
        nearest = (input.unsqueeze(1) - weight).square().sum(dim=2).argmin(dim=1)
        ctx.save_for_backward(input, weight, nearest)
        ctx.scale = scale
        return (nearest + 1).to(weight.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        input, weight, nearest = ctx.saved_tensors
        counts = torch.bincount(nearest, minlength=len(weight)).to(weight.dtype) + 1e-7
        steps = torch.zeros_like(weight).index_add(0, nearest, weight[nearest] - input)
        return None, ctx.scale * steps / counts.unsqueeze(1), None


@layer
class Kmeans(nn.Module):
    """`Kmeans.lua`: index of the nearest centre, from 1, as a floating number.

    Args:
        k: number of centres.
        dim: size of the input.
        scale: factor of a centre's gradient.
    """

    def __init__(self, k: int, dim: int, scale: float = 1.0) -> None:
        super().__init__()
        self.k = k
        self.dim = dim
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(k, dim))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, dim) → (N,)."""
        return _NearestCenter.apply(input, self.weight, self.scale)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"k={self.k}, dim={self.dim}"


@register("nn.Euclidean")
def euclidean(source: LuaObject, context: Context) -> nn.Module:
    """`Euclidean.lua`: the weight is (in, out)."""
    n_in, n_out = source["weight"].shape
    return context.fill(Euclidean(n_in, n_out), weight=source["weight"])


@register("nn.WeightedEuclidean")
def weighted_euclidean(source: LuaObject, context: Context) -> nn.Module:
    """`WeightedEuclidean.lua`: weight and `diagCov` are (in, out)."""
    n_in, n_out = source["weight"].shape
    module = Euclidean(n_in, n_out, weighted=True)
    return context.fill(module, weight=source["weight"], diag_cov=source["diagCov"])


@register("nn.Cosine")
def cosine(source: LuaObject, context: Context) -> nn.Module:
    """`Cosine.lua`: the weight is (out, in)."""
    n_out, n_in = source["weight"].shape
    return context.fill(Cosine(n_in, n_out), weight=source["weight"])


@register("nn.Kmeans")
def kmeans(source: LuaObject, context: Context) -> nn.Module:
    """`Kmeans.lua`."""
    k, dim = source["weight"].shape
    return context.fill(Kmeans(k, dim, source.get("scale", 1.0)), weight=source["weight"])


def _rows(input: list[torch.Tensor]) -> list[torch.Tensor]:
    """Two inputs as (N, D); vectors are a batch of one, and give an output of (1,)."""
    return [item.unsqueeze(0) if item.dim() == 1 else item for item in input[:2]]


@layer
class DotProduct(nn.Module):
    """`DotProduct.lua`: the dot product of two vectors, row by row."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """[(N, D), (N, D)] → (N,), or [(D,), (D,)] → (1,)."""
        first, second = _rows(input)
        return (first * second).sum(1)


@layer
class CosineDistance(nn.Module):
    """`CosineDistance.lua`: the cosine of the angle between two vectors, row by row.

    1e-12 is added to each squared length.
    """

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """[(N, D), (N, D)] → (N,), or [(D,), (D,)] → (1,)."""
        first, second = _rows(input)
        squares = (first.square().sum(1) + 1e-12) * (second.square().sum(1) + 1e-12)
        return (first * second).sum(1) / squares.sqrt()


@layer
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


@register("nn.PairwiseDistance")
def pairwise_distance(source: LuaObject, context: Context) -> nn.Module:
    """`PairwiseDistance.lua`; its `norm` is 2 where the file does not say."""
    return PairwiseDistance(source.get("norm", 2))


@register("nn.DotProduct")
def dot_product(source: LuaObject, context: Context) -> nn.Module:
    """`DotProduct.lua`."""
    return DotProduct()


@register("nn.CosineDistance")
def cosine_distance(source: LuaObject, context: Context) -> nn.Module:
    """`CosineDistance.lua`."""
    return CosineDistance()
