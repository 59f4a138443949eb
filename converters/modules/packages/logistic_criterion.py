"""Criterions of dpnn for targets of ±1 (`BinaryLogisticRegression.lua`, its spatial version)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class LogisticLoss(nn.Module):
    """`BinaryLogisticRegression.lua`: log(1 + exp(-target · input)).

    Args:
        size_average: Whether to return the mean over all elements; otherwise their sum.
    """

    def __init__(self, size_average: bool = True) -> None:
        super().__init__()
        self.size_average = size_average

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Map input and target, each (N,) or (N, 1), to a scalar."""
        losses = functional.softplus(-target.flatten() * input.flatten())
        return losses.mean() if self.size_average else losses.sum()


@layer
class SpatialLogisticLoss(nn.Module):
    """`SpatialBinaryLogisticRegression.lua`: half the mean of LogisticLoss over the pixels.

    Args:
        size_average: Whether to average over the images too; otherwise they are summed.
    """

    def __init__(self, size_average: bool = True) -> None:
        super().__init__()
        self.size_average = size_average

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Map input and target, both (N, 1, H, W) or both (1, H, W), to a scalar."""
        images = functional.softplus(-target * input).mean(dim=(-2, -1)) / 2
        return images.mean() if self.size_average else images.sum()


@register("nn.BinaryLogisticRegression")
def binary_logistic_regression(source: LuaObject, context: Context) -> nn.Module:
    """Convert `BinaryLogisticRegression.lua`: the logistic loss for targets of ±1."""
    return LogisticLoss(source.get("sizeAverage") is not False)


@register("nn.SpatialBinaryLogisticRegression")
def spatial_binary_logistic_regression(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialBinaryLogisticRegression.lua`: the logistic loss per pixel."""
    return SpatialLogisticLoss(source.get("sizeAverage") is not False)
