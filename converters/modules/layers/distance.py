"""Layers that compare their input with learned templates (`Euclidean.lua`, `Cosine.lua`, …)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer as layer_of_ours
from ..registry import register


@layer_of_ours
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


@layer_of_ours
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


@layer_of_ours
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
def euclidean(layer: LuaObject, context: Context) -> nn.Module:
    """`Euclidean.lua`: the weight is (in, out)."""
    n_in, n_out = layer["weight"].shape
    return context.fill(Euclidean(n_in, n_out), weight=layer["weight"])


@register("nn.WeightedEuclidean")
def weighted_euclidean(layer: LuaObject, context: Context) -> nn.Module:
    """`WeightedEuclidean.lua`: weight and `diagCov` are (in, out)."""
    n_in, n_out = layer["weight"].shape
    module = Euclidean(n_in, n_out, weighted=True)
    return context.fill(module, weight=layer["weight"], diag_cov=layer["diagCov"])


@register("nn.Cosine")
def cosine(layer: LuaObject, context: Context) -> nn.Module:
    """`Cosine.lua`: the weight is (out, in)."""
    n_out, n_in = layer["weight"].shape
    return context.fill(Cosine(n_in, n_out), weight=layer["weight"])


@register("nn.Kmeans")
def kmeans(layer: LuaObject, context: Context) -> nn.Module:
    """`Kmeans.lua`."""
    k, dim = layer["weight"].shape
    return context.fill(Kmeans(k, dim, layer.get("scale", 1.0)), weight=layer["weight"])
