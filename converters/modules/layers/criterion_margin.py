"""Criterions with targets 1 and -1 (`MarginCriterion.lua`, `HingeEmbeddingCriterion.lua`, …)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register
from .criterion import Loss, like, reduced, size_average


def hinge(values: torch.Tensor) -> torch.Tensor:
    """Return max(0, x) of each value; its gradient at 0 is 1, that of `torch.relu` is 0."""
    return values.masked_fill(values < 0, 0)


class MarginLoss(Loss):
    """A criterion with a margin.

    Args:
        margin: The margin.
        reduction: "mean" or "sum".
    """

    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.margin = margin


@layer
class MarginCriterion(MarginLoss):
    """`MarginCriterion.lua`: hinge loss max(0, margin - x·y) for targets y of 1 and -1.

    Args:
        margin: The margin.
        reduction: "mean" or "sum".
    """

    def forward(self, input: torch.Tensor, target: torch.Tensor | float) -> torch.Tensor:
        """Return the loss for an input of any shape and as many targets 1 or -1."""
        return reduced((self.margin - input * like(target, input)).relu(), self.reduction)


@register("nn.MarginCriterion")
def margin(source: LuaObject, context: Context) -> nn.Module:
    """Convert `MarginCriterion.lua`: hinge loss."""
    return MarginCriterion(source.get("margin", 1.0), size_average(source, context))


@layer
class HingeEmbeddingCriterion(MarginLoss):
    """`HingeEmbeddingCriterion.lua`: x for target 1, max(0, margin - x) for -1, else their sum.

    Unlike `torch.nn.HingeEmbeddingLoss`'s its gradient for target -1 is -1 at x = margin.

    Args:
        margin: The margin.
        reduction: "mean" or "sum".
    """

    def forward(self, input: torch.Tensor, target: torch.Tensor | float) -> torch.Tensor:
        """Return the loss for an input of any shape and as many targets 1 or -1."""
        target = like(target, input)
        dissimilar = hinge(self.margin - input).masked_fill(target == 1, 0)
        return reduced(input.masked_fill(target == -1, 0) + dissimilar, self.reduction)


@register("nn.HingeEmbeddingCriterion")
def hinge_embedding(source: LuaObject, context: Context) -> nn.Module:
    """Convert `HingeEmbeddingCriterion.lua`: x for target 1, max(0, margin - x) for -1."""
    return HingeEmbeddingCriterion(source.get("margin", 1.0), size_average(source, context))


@layer
class SoftMarginCriterion(Loss):
    """`SoftMarginCriterion.lua`: log(1 + exp(-x·y)) for targets y of 1 and -1.

    `torch.nn.SoftMarginLoss` is infinite for x·y below -88 in single precision; Torch7 computes the
    exponential in double precision.

    Args:
        reduction: "mean" or "sum".
    """

    def forward(self, input: torch.Tensor, target: torch.Tensor | float) -> torch.Tensor:
        """Return the loss for an input of any shape and as many targets 1 or -1."""
        return reduced(-functional.logsigmoid(input * like(target, input)), self.reduction)


@register("nn.SoftMarginCriterion")
def soft_margin(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SoftMarginCriterion.lua`: logistic loss."""
    return SoftMarginCriterion(size_average(source, context))
