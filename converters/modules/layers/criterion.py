"""Criterions that compare numbers place by place (`MSECriterion.lua`, `BCECriterion.lua`, …).

They are called as `criterion(input, target)` and give the loss as a tensor without dimensions.
A target may be a plain number where Torch7 allows it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


def size_average(source: LuaObject, context: Context) -> str:
    """The `reduction` of a criterion; without `sizeAverage` it is an average, Torch7's default."""
    average = source.get("sizeAverage")
    if average is None:
        context.note("no sizeAverage: the loss is an average")
    return "sum" if average is False else "mean"


def reduced(losses: torch.Tensor, reduction: str) -> torch.Tensor:
    """The mean or the sum of all losses."""
    return losses.mean() if reduction == "mean" else losses.sum()


def like(target: torch.Tensor | float, input: torch.Tensor) -> torch.Tensor:
    """The target in the input's type and shape; Torch7 only counts the elements of both."""
    target = torch.as_tensor(target, dtype=input.dtype, device=input.device)
    return target.reshape(input.shape)


@layer
class PointwiseCriterion(nn.Module):
    """A loss of torch.nn between numbers at the same place, such as `MSECriterion.lua`.

    Args:
        loss: the loss.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, input: torch.Tensor, target: torch.Tensor | float) -> torch.Tensor:
        """Any shape, and as many numbers → ()."""
        return self.loss(input, like(target, input))


_POINTWISE: dict[str, Callable[[str], nn.Module]] = {
    "nn.MSECriterion": lambda reduction: nn.MSELoss(reduction=reduction),
    "nn.AbsCriterion": lambda reduction: nn.L1Loss(reduction=reduction),
    "nn.SmoothL1Criterion": lambda reduction: nn.SmoothL1Loss(reduction=reduction),
    "nn.SoftMarginCriterion": lambda reduction: nn.SoftMarginLoss(reduction=reduction),
}


@register(*_POINTWISE)
def pointwise(source: LuaObject, context: Context) -> nn.Module:
    """`MSECriterion.lua`, `AbsCriterion.lua`, `SmoothL1Criterion.lua` and the like."""
    return PointwiseCriterion(_POINTWISE[source.class_name](size_average(source, context)))


@register("nn.HingeEmbeddingCriterion")
def hinge_embedding(source: LuaObject, context: Context) -> nn.Module:
    """`HingeEmbeddingCriterion.lua`: targets are 1 and -1."""
    reduction = size_average(source, context)
    return PointwiseCriterion(nn.HingeEmbeddingLoss(source.get("margin", 1.0), reduction=reduction))


@layer
class DistKLDivCriterion(nn.Module):
    """`DistKLDivCriterion.lua`: Kullback-Leibler divergence of log-probabilities from a target.

    Args:
        reduction: `mean` over all numbers, or `sum`.
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Log-probabilities, and as many probabilities → ()."""
        target = like(target, input).clamp(min=0)
        return reduced(torch.xlogy(target, target) - target * input, self.reduction)


@register("nn.DistKLDivCriterion")
def dist_kl_div(source: LuaObject, context: Context) -> nn.Module:
    """`DistKLDivCriterion.lua`."""
    return DistKLDivCriterion(size_average(source, context))


@layer
class MarginCriterion(nn.Module):
    """`MarginCriterion.lua`: max(0, margin - x·y) for targets 1 and -1.

    Args:
        margin: the margin.
        reduction: `mean` or `sum`.
    """

    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        super().__init__()
        self.margin = margin
        self.reduction = reduction

    def forward(self, input: torch.Tensor, target: torch.Tensor | float) -> torch.Tensor:
        """Any shape, and as many targets → ()."""
        return reduced((self.margin - input * like(target, input)).relu(), self.reduction)


@register("nn.MarginCriterion")
def margin(source: LuaObject, context: Context) -> nn.Module:
    """`MarginCriterion.lua`."""
    return MarginCriterion(source.get("margin", 1.0), size_average(source, context))


@layer
class L1Cost(nn.Module):
    """`L1Cost.lua`: Σ|x|, without a target."""

    def forward(self, input: torch.Tensor, target: torch.Tensor | None = None) -> torch.Tensor:
        """Any shape → ()."""
        return input.abs().sum()


@register("nn.L1Cost")
def l1_cost(source: LuaObject, context: Context) -> nn.Module:
    """`L1Cost.lua`."""
    return L1Cost()


@layer
class WeightedMSECriterion(nn.Module):
    """`WeightedMSECriterion.lua`: squared distance to the target multiplied by the weight.

    Args:
        size: shape of the weight: of the target, or of one example of it.
        reduction: `mean` or `sum`.
    """

    weight: torch.Tensor

    def __init__(self, size: list[int], reduction: str = "mean") -> None:
        super().__init__()
        self.size = size
        self.reduction = reduction
        self.register_buffer("weight", torch.empty(size))

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """(N, …) or (…), and as many targets → ()."""
        by_example = input.dim() - 1 == self.weight.dim()
        weight = self.weight if by_example else self.weight.reshape(input.shape)
        target = like(target, input) * weight
        return functional.mse_loss(input, target, reduction=self.reduction)


@register("nn.WeightedMSECriterion")
def weighted_mse(source: LuaObject, context: Context) -> nn.Module:
    """`WeightedMSECriterion.lua`."""
    weight = source["weight"]
    module = WeightedMSECriterion(list(weight.shape), size_average(source, context))
    return context.fill(module, weight=weight)


@layer
class SpatialAutoCropMSECriterion(nn.Module):
    """`SpatialAutoCropMSECriterion.lua`: squared distance to the middle of a larger target.

    Args:
        reduction: `mean` or `sum`.
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) or (C, h, w), and the same with H ≥ h, W ≥ w → ()."""
        for dim in (-2, -1):
            start = (target.size(dim) - input.size(dim)) // 2
            target = target.narrow(dim, start, input.size(dim))
        return functional.mse_loss(input, like(target, input), reduction=self.reduction)


@register("nn.SpatialAutoCropMSECriterion")
def spatial_auto_crop_mse(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialAutoCropMSECriterion.lua`."""
    return SpatialAutoCropMSECriterion(size_average(source, context))


@layer
class BCECriterion(nn.Module):
    """`BCECriterion.lua`: binary cross-entropy, 1e-12 added to each probability.

    Args:
        reduction: `mean` or `sum`.
        num_weights: size of the last dimension where each of its indices has a weight, or 0.
    """

    weights: torch.Tensor | None

    def __init__(self, reduction: str = "mean", num_weights: int = 0) -> None:
        super().__init__()
        self.reduction = reduction
        self.num_weights = num_weights
        self.register_buffer("weights", torch.empty(num_weights) if num_weights else None)

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Probabilities (…, C), and as many targets from 0 to 1 → ()."""
        target = like(target, input)
        losses = -((input + 1e-12).log() * target + (1 - input + 1e-12).log() * (1 - target))
        return reduced(losses if self.weights is None else losses * self.weights, self.reduction)


@register("nn.BCECriterion")
def bce(source: LuaObject, context: Context) -> nn.Module:
    """`BCECriterion.lua`."""
    weights = source.get("weights")
    module = BCECriterion(size_average(source, context), 0 if weights is None else weights.size)
    return context.fill(module, weights=weights)


@layer
class MultiLabelSoftMarginCriterion(nn.Module):
    """`MultiLabelSoftMarginCriterion.lua`: binary cross-entropy of logits.

    Args:
        reduction: `mean` or `sum`.
        num_weights: number of classes where each has a weight, or 0.
    """

    weights: torch.Tensor | None

    def __init__(self, reduction: str = "mean", num_weights: int = 0) -> None:
        super().__init__()
        self.reduction = reduction
        self.num_weights = num_weights
        self.register_buffer("weights", torch.empty(num_weights) if num_weights else None)

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Logits (N, C) or (C,), and as many targets 0 or 1 → ()."""
        return functional.binary_cross_entropy_with_logits(
            input, like(target, input), self.weights, reduction=self.reduction
        )


@register("nn.MultiLabelSoftMarginCriterion")
def multi_label_soft_margin(source: LuaObject, context: Context) -> nn.Module:
    """`MultiLabelSoftMarginCriterion.lua`; at first it held a BCECriterion, `nll`."""
    settings = source.get("nll", source)
    weights, reduction = settings.get("weights"), size_average(settings, context)
    module = MultiLabelSoftMarginCriterion(reduction, 0 if weights is None else weights.size)
    return context.fill(module, weights=weights)
