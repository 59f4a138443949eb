"""Criterions of dpnn for two classes, ±1 (`BinaryLogisticRegression.lua` and its spatial twin)."""

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
        size_average: the mean over all numbers; otherwise their sum.
    """

    def __init__(self, size_average: bool = True) -> None:
        super().__init__()
        self.size_average = size_average

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """(N,) or (N, 1), either of them → a scalar."""
        losses = functional.softplus(-target.flatten() * input.flatten())
        return losses.mean() if self.size_average else losses.sum()


@layer
class SpatialLogisticLoss(nn.Module):
    """`SpatialBinaryLogisticRegression.lua`: half the mean over the pixels of LogisticLoss.

    Args:
        size_average: also the mean over the images; otherwise their sum.
    """

    def __init__(self, size_average: bool = True) -> None:
        super().__init__()
        self.size_average = size_average

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """(N, 1, H, W) or (1, H, W), both alike → a scalar."""
        images = functional.softplus(-target * input).mean(dim=(-2, -1)) / 2
        return images.mean() if self.size_average else images.sum()


@register("nn.BinaryLogisticRegression")
def binary_logistic_regression(source: LuaObject, context: Context) -> nn.Module:
    """`BinaryLogisticRegression.lua`."""
    return LogisticLoss(source.get("sizeAverage") is not False)


@register("nn.SpatialBinaryLogisticRegression")
def spatial_binary_logistic_regression(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialBinaryLogisticRegression.lua`."""
    return SpatialLogisticLoss(source.get("sizeAverage") is not False)
