"""Criterions that compare element by element (`MSECriterion.lua`, `BCECriterion.lua`, …).

They are called as `criterion(input, target)` and return the loss as a scalar tensor. A target may
be a Python number where Torch7 allows it.
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
    """Return the `reduction` of a criterion, "mean" (Torch7's default) or "sum"."""
    average = source.get("sizeAverage")
    if average is None:
        context.note("no field sizeAverage: the loss is averaged")
    return "sum" if average is False else "mean"


def reduced(losses: torch.Tensor, reduction: str) -> torch.Tensor:
    """Return the mean or the sum of all losses."""
    return losses.mean() if reduction == "mean" else losses.sum()


def num_weights(source: LuaObject) -> int:
    """Return the number of weights of a criterion, 0 if it has none."""
    weights = source.get("weights")
    return 0 if weights is None else int(weights.size)


def like(target: torch.Tensor | float, input: torch.Tensor) -> torch.Tensor:
    """Return the target with the input's dtype and shape; Torch7 only compares their sizes."""
    target = torch.as_tensor(target, dtype=input.dtype, device=input.device)
    return target.reshape(input.shape)


class Loss(nn.Module):
    """A criterion that returns the mean or the sum of losses.

    Args:
        reduction: "mean" or "sum".
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction


class WeightedLoss(Loss):
    """A criterion with an optional buffer `weights`, one for each class.

    Args:
        reduction: "mean" or "sum".
        num_weights: Number of weights, 0 for none.
    """

    weights: torch.Tensor | None

    def __init__(self, reduction: str = "mean", num_weights: int = 0) -> None:
        super().__init__(reduction)
        self.num_weights = num_weights
        self.register_buffer("weights", torch.empty(num_weights) if num_weights else None)

    def _weights_of(self, target: torch.Tensor | float, input: torch.Tensor) -> torch.Tensor | None:
        """Return a weight for each input; the target's last dimension counts the classes."""
        if self.weights is None:
            return None
        return self.weights.expand(torch.as_tensor(target).shape).reshape(input.shape)


@layer
class PointwiseCriterion(nn.Module):
    """An elementwise loss of torch.nn, such as `MSECriterion.lua`.

    Unlike torch.nn's losses it takes a target of another shape with as many elements, or a number.

    Args:
        loss: The loss of torch.nn.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, input: torch.Tensor, target: torch.Tensor | float) -> torch.Tensor:
        """Return the loss for an input of any shape and a target with as many elements."""
        loss: torch.Tensor = self.loss(input, like(target, input))
        return loss


@layer
class AbsoluteLoss(Loss):
    """`AbsCriterion.lua`: |input - target|; unlike `torch.nn.L1Loss`'s its gradient at 0 is 1.

    Args:
        reduction: "mean" over all elements, or "sum".
    """

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss for an input and a target of the same shape."""
        difference = input - target
        return reduced(torch.where(difference >= 0, difference, -difference), self.reduction)


_POINTWISE: dict[str, Callable[[str], nn.Module]] = {
    "nn.MSECriterion": lambda reduction: nn.MSELoss(reduction=reduction),
    "nn.AbsCriterion": lambda reduction: AbsoluteLoss(reduction),
    "nn.SmoothL1Criterion": lambda reduction: nn.SmoothL1Loss(reduction=reduction),
}


@register(*_POINTWISE)
def pointwise(source: LuaObject, context: Context) -> nn.Module:
    """Convert `MSECriterion.lua`, `AbsCriterion.lua` or `SmoothL1Criterion.lua`."""
    return PointwiseCriterion(_POINTWISE[source.class_name](size_average(source, context)))


@layer
class DistKLDivCriterion(Loss):
    """`DistKLDivCriterion.lua`: Kullback-Leibler divergence of log-probabilities from a target.

    Where the target is 0 or less the loss is 0, whatever the input is, unlike in
    `torch.nn.KLDivLoss`.

    Args:
        reduction: "mean" over all elements, or "sum".
    """

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss for log-probabilities of any shape and as many target probabilities."""
        target = like(target, input)
        losses = torch.xlogy(target, target) - target * input
        return reduced(torch.where(target > 0, losses, 0), self.reduction)


@register("nn.DistKLDivCriterion")
def dist_kl_div(source: LuaObject, context: Context) -> nn.Module:
    """Convert `DistKLDivCriterion.lua`: Kullback-Leibler divergence from the target."""
    return DistKLDivCriterion(size_average(source, context))


@layer
class L1Cost(nn.Module):
    """`L1Cost.lua`: Σ|x|; the target is ignored."""

    def forward(self, input: torch.Tensor, target: torch.Tensor | None = None) -> torch.Tensor:
        """Return the loss for an input of any shape."""
        return input.abs().sum()


@register("nn.L1Cost")
def l1_cost(source: LuaObject, context: Context) -> nn.Module:
    """Convert `L1Cost.lua`: the sum of absolute values."""
    return L1Cost()


@layer
class WeightedMSECriterion(Loss):
    """`WeightedMSECriterion.lua`: squared distance to the target multiplied by a weight.

    The weight multiplies the target, not the squared distance.

    Args:
        size: Shape of the weight, which has as many elements as the target, or as one example of
            it if it has one dimension less than the input.
        reduction: "mean" or "sum".
    """

    weight: torch.Tensor

    def __init__(self, size: list[int], reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.size = size
        self.register_buffer("weight", torch.empty(size))

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss for (N, …) or (…) and as many targets."""
        per_example = input.dim() - 1 == self.weight.dim()
        weight = self.weight.reshape(input.shape[1:] if per_example else input.shape)
        target = like(target, input) * weight
        return functional.mse_loss(input, target, reduction=self.reduction)


@register("nn.WeightedMSECriterion")
def weighted_mse(source: LuaObject, context: Context) -> nn.Module:
    """Convert `WeightedMSECriterion.lua`: squared distance to a weighted target."""
    weight = source["weight"]
    module = WeightedMSECriterion(list(weight.shape), size_average(source, context))
    return context.fill(module, weight=weight)


@layer
class SpatialAutoCropMSECriterion(Loss):
    """`SpatialAutoCropMSECriterion.lua`: squared distance to the center crop of a larger target.

    Args:
        reduction: "mean" or "sum".
    """

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss for (N, C, h, w) or (C, h, w) and a target with H ≥ h and W ≥ w."""
        for dim in (-2, -1):
            start = (target.size(dim) - input.size(dim)) // 2
            target = target.narrow(dim, start, input.size(dim))
        return functional.mse_loss(input, like(target, input), reduction=self.reduction)


@register("nn.SpatialAutoCropMSECriterion")
def spatial_auto_crop_mse(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialAutoCropMSECriterion.lua`: squared distance to the target's center."""
    return SpatialAutoCropMSECriterion(size_average(source, context))


@layer
class BCECriterion(WeightedLoss):
    """`BCECriterion.lua`: binary cross-entropy of probabilities.

    It adds 1e-12 inside the logarithms; `torch.nn.BCELoss` clamps the logarithms at -100. Torch7's
    gradient, (x - y) / ((x + 1e-12)(1 - x + 1e-12)), is 0 where x and y are both 0 or both 1: 1e-12
    in the factors gives it, and is too small to change the loss.

    Args:
        reduction: "mean" or "sum".
        num_weights: Size of the target's last dimension if each of its indices has a weight, else
            0.
    """

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss for probabilities (…, C) and as many targets between 0 and 1."""
        weights, target = self._weights_of(target, input), like(target, input)
        ones = (input + 1e-12).log() * (target + 1e-12)
        zeros = (1 - input + 1e-12).log() * (1 - target + 1e-12)
        losses = -(ones + zeros)
        return reduced(losses if weights is None else losses * weights, self.reduction)


@register("nn.BCECriterion")
def bce(source: LuaObject, context: Context) -> nn.Module:
    """Convert `BCECriterion.lua`: binary cross-entropy of probabilities."""
    module = BCECriterion(size_average(source, context), num_weights(source))
    return context.fill(module, weights=source.get("weights"))


@layer
class MultiLabelSoftMarginCriterion(WeightedLoss):
    """`MultiLabelSoftMarginCriterion.lua`: binary cross-entropy of logits.

    Args:
        reduction: "mean" or "sum".
        num_weights: Number of classes if each has a weight, else 0.
    """

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss for logits (N, C) or (C,) and as many targets 0 or 1."""
        return functional.binary_cross_entropy_with_logits(
            input,
            like(target, input),
            self._weights_of(target, input),
            reduction=self.reduction,
        )


@register("nn.MultiLabelSoftMarginCriterion", ignored=("sigmoid",))
def multi_label_soft_margin(source: LuaObject, context: Context) -> nn.Module:
    """Convert `MultiLabelSoftMarginCriterion.lua`: binary cross-entropy of logits.

    Older objects keep their options in a BCECriterion, the field `nll`.
    """
    options = source.get("nll", source)
    module = MultiLabelSoftMarginCriterion(size_average(options, context), num_weights(options))
    return context.fill(module, weights=options.get("weights"))
