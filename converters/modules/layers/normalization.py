"""Batch normalization (`BatchNormalization.lua`)."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer as layer_of_ours
from ..registry import register


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """What the three ranks share: Torch7's weight and bias are optional one by one.

    Args:
        num_features: channels.
        eps: added to the variance.
        momentum: share of a new batch in the running statistics.
        scale: whether there is a weight.
        shift: whether there is a bias.
    """

    #: Dimensions of a batch.
    batch_dim: int

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        scale: bool = True,
        shift: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine=scale or shift)
        self.scale = scale
        self.shift = shift
        if not scale:
            self.register_parameter("weight", None)
        if not shift:
            self.register_parameter("bias", None)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, …), and in evaluation mode also one example (C, …), as `makeBatch` allows."""
        if not self.training and input.dim() == self.batch_dim - 1:
            return super().forward(input.unsqueeze(0)).squeeze(0)
        return super().forward(input)


@layer_of_ours
class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """torch.nn's, that in evaluation mode also takes (C,)."""

    batch_dim = 2


@layer_of_ours
class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """torch.nn's, that in evaluation mode also takes (C, H, W)."""

    batch_dim = 4


@layer_of_ours
class BatchNorm3d(_BatchNorm, nn.BatchNorm3d):
    """torch.nn's, that in evaluation mode also takes (C, T, H, W)."""

    batch_dim = 5


@register("nn.BatchNormalization", "cudnn.BatchNormalization")
def batch_normalization(layer: LuaObject, context: Context) -> nn.Module:
    """`BatchNormalization.lua`, (N, C)."""
    return _batch_norm(BatchNorm1d, layer, context)


@register("nn.SpatialBatchNormalization", "cudnn.SpatialBatchNormalization")
def spatial_batch_normalization(layer: LuaObject, context: Context) -> nn.Module:
    """`SpatialBatchNormalization.lua`, (N, C, H, W)."""
    return _batch_norm(BatchNorm2d, layer, context)


@register("nn.VolumetricBatchNormalization", "cudnn.VolumetricBatchNormalization")
def volumetric_batch_normalization(layer: LuaObject, context: Context) -> nn.Module:
    """`VolumetricBatchNormalization.lua`, (N, C, T, H, W)."""
    return _batch_norm(BatchNorm3d, layer, context)


def _batch_norm(kind: type[_BatchNorm], layer: LuaObject, context: Context) -> nn.Module:
    weight, bias = layer.get("weight"), layer.get("bias")
    mean, eps = layer["running_mean"], float(layer.get("eps", 1e-5))
    with torch.device("meta"):
        module = kind(
            mean.size,
            eps,
            float(layer.get("momentum", 0.1)),
            scale=weight is not None,
            shift=bias is not None,
        )
    variance = _running_var(layer, context, eps)
    return context.fill(module, weight=weight, bias=bias, running_mean=mean, running_var=variance)


def _running_var(layer: LuaObject, context: Context, eps: float) -> np.ndarray:
    """The running variance; the first version of the class kept 1/√(variance + eps)."""
    if layer.get("running_std") is None:
        variance: np.ndarray = layer["running_var"]
        return variance
    context.note("running_std of a version 1 file: the variance is running_std⁻² - eps")
    std = layer["running_std"]
    return (std.astype(np.float64) ** -2 - eps).astype(std.dtype)
