"""Distances and dot products of vectors (`Euclidean.lua`, `PairwiseDistance.lua`, …)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register
from .memory_order import same_shape


@layer
class Euclidean(nn.Module):
    """`Euclidean.lua`, `WeightedEuclidean.lua`: Euclidean distance of the input to learned vectors.

    Args:
        in_features: Size of the input.
        out_features: Number of learned vectors, which are the columns of the weight.
        weighted: Whether each difference is multiplied by a learned factor in `diag_cov`.
    """

    def __init__(self, in_features: int, out_features: int, weighted: bool = False) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weighted = weighted
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.diag_cov = nn.Parameter(torch.empty(in_features, out_features)) if weighted else None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, in) to (N, out), or (in,) to (out,)."""
        difference = input.unsqueeze(-1) - self.weight
        if self.diag_cov is not None:
            difference = difference * self.diag_cov
        distance: torch.Tensor = torch.linalg.vector_norm(difference, dim=-2)
        return distance

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


@layer
class Cosine(nn.Module):
    """`Cosine.lua`: cosine similarity of the input and learned vectors.

    It adds 1e-12 to both norms.

    Args:
        in_features: Size of the input.
        out_features: Number of learned vectors, which are the rows of the weight.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, in) to (N, out), or (in,) to (out,)."""
        weight_norm: torch.Tensor = torch.linalg.vector_norm(self.weight, dim=1) + 1e-12
        input_norm: torch.Tensor = torch.linalg.vector_norm(input, dim=-1, keepdim=True) + 1e-12
        return functional.linear(input, self.weight) / weight_norm / input_norm

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


class _NearestCenter(torch.autograd.Function):
    """Index of the nearest center; its gradient is the step of online k-means.

    As in `Kmeans.lua`, a center's gradient is the mean of (center - example) over its examples,
    independent of the output's gradient, and the input has no gradient.
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
    """`Kmeans.lua`: index of the nearest center, from 1, in the dtype of the weight.

    Args:
        k: Number of centers.
        dim: Size of the input.
        scale: Factor of the centers' gradients.
    """

    def __init__(self, k: int, dim: int, scale: float = 1.0) -> None:
        super().__init__()
        self.k = k
        self.dim = dim
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(k, dim))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, dim) to (N,)."""
        index: torch.Tensor = _NearestCenter.apply(input, self.weight, self.scale)
        return index

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"k={self.k}, dim={self.dim}"


@register("nn.Euclidean", ignored=("fastBackward",))
def euclidean(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Euclidean.lua`: distance to the columns of the weight (in, out)."""
    n_in, n_out = source["weight"].shape
    return context.fill(Euclidean(n_in, n_out), weight=source["weight"])


@register("nn.WeightedEuclidean")
def weighted_euclidean(source: LuaObject, context: Context) -> nn.Module:
    """Convert `WeightedEuclidean.lua`: as `Euclidean`, with factors `diagCov` (in, out)."""
    n_in, n_out = source["weight"].shape
    module = Euclidean(n_in, n_out, weighted=True)
    return context.fill(module, weight=source["weight"], diag_cov=source["diagCov"])


@register("nn.Cosine")
def cosine(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Cosine.lua`: cosine similarity to the rows of the weight (out, in)."""
    n_out, n_in = source["weight"].shape
    return context.fill(Cosine(n_in, n_out), weight=source["weight"])


@register("nn.Kmeans", ignored=("dim", "k", "loss", "clusterSampleCount"))
def kmeans(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Kmeans.lua`: index of the nearest center."""
    k, dim = source["weight"].shape
    return context.fill(Kmeans(k, dim, source.get("scale", 1.0)), weight=source["weight"])


def rows(input: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the two inputs as (N, D).

    The second one takes the shape of the first; a vector is a batch of one; dimensions behind the
    second must have size 1.
    """
    pair = same_shape(input[:2])
    if pair[0].dim() == 1:
        return [item.unsqueeze(0) for item in pair]
    return [item.reshape(item.shape[:2]) if item.dim() > 2 else item for item in pair]


@layer
class DotProduct(nn.Module):
    """`DotProduct.lua`: dot product of two vectors, row by row."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map [(N, D), (N, D)] to (N,), or [(D,), (D,)] to (1,)."""
        first, second = rows(input)
        return (first * second).sum(1)


def cosine_of_rows(input: list[torch.Tensor]) -> torch.Tensor:
    """Return the cosines (N,) of the rows of two tensors, with 1e-12 added to each squared norm."""
    first, second = rows(input)
    norms = [(item.square().sum(1) + 1e-12).sqrt() for item in (first, second)]
    return (first * second).sum(1) / norms[0] / norms[1]


@layer
class CosineDistance(nn.Module):
    """`CosineDistance.lua`: cosine similarity of two vectors, row by row.

    It adds 1e-12 to each squared norm; `torch.nn.CosineSimilarity` clamps the norms.
    """

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map [(N, D), (N, D)] to (N,), or [(D,), (D,)] to (1,)."""
        return cosine_of_rows(input)


@layer
class PairwiseDistance(nn.Module):
    """`PairwiseDistance.lua`: p-norm of the difference of two vectors, row by row.

    `torch.nn.PairwiseDistance` adds 1e-6 to the difference; this layer does not.

    Args:
        norm: The exponent p.
    """

    def __init__(self, norm: float = 2.0) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map [(N, D), (N, D)] to (N,), or [(D,), (D,)] to (1,)."""
        first, second = rows(input)
        distance: torch.Tensor = torch.linalg.vector_norm(first - second, self.norm, dim=1)
        return distance

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"norm={self.norm}"


@register("nn.PairwiseDistance")
def pairwise_distance(source: LuaObject, context: Context) -> nn.Module:
    """Convert `PairwiseDistance.lua`: p-norm of a difference; a missing `norm` is 2."""
    return PairwiseDistance(source.get("norm", 2))


@register("nn.DotProduct")
def dot_product(source: LuaObject, context: Context) -> nn.Module:
    """Convert `DotProduct.lua`: dot product of two vectors."""
    return DotProduct()


@register("nn.CosineDistance")
def cosine_distance(source: LuaObject, context: Context) -> nn.Module:
    """Convert `CosineDistance.lua`: cosine similarity of two vectors."""
    return CosineDistance()
