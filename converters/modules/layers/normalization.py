"""Normalization over a batch or over the features of one example (`BatchNormalization.lua`, …)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


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


@layer
class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """torch.nn's, that in evaluation mode also takes (C,)."""

    batch_dim = 2


@layer
class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """torch.nn's, that in evaluation mode also takes (C, H, W)."""

    batch_dim = 4


@layer
class BatchNorm3d(_BatchNorm, nn.BatchNorm3d):
    """torch.nn's, that in evaluation mode also takes (C, T, H, W)."""

    batch_dim = 5


@register("nn.BatchNormalization", "cudnn.BatchNormalization")
def batch_normalization(source: LuaObject, context: Context) -> nn.Module:
    """`BatchNormalization.lua`, (N, C)."""
    return _batch_norm(BatchNorm1d, source, context)


@register("nn.SpatialBatchNormalization", "cudnn.SpatialBatchNormalization")
def spatial_batch_normalization(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialBatchNormalization.lua`, (N, C, H, W)."""
    return _batch_norm(BatchNorm2d, source, context)


@register("nn.VolumetricBatchNormalization", "cudnn.VolumetricBatchNormalization")
def volumetric_batch_normalization(source: LuaObject, context: Context) -> nn.Module:
    """`VolumetricBatchNormalization.lua`, (N, C, T, H, W)."""
    return _batch_norm(BatchNorm3d, source, context)


def _batch_norm(kind: type[_BatchNorm], source: LuaObject, context: Context) -> nn.Module:
    weight, bias = source.get("weight"), source.get("bias")
    mean, eps = source["running_mean"], float(source.get("eps", 1e-5))
    with torch.device("meta"):
        module = kind(
            mean.size,
            eps,
            float(source.get("momentum", 0.1)),
            scale=weight is not None,
            shift=bias is not None,
        )
    variance = _running_var(source, context, eps)
    return context.fill(module, weight=weight, bias=bias, running_mean=mean, running_var=variance)


def _running_var(source: LuaObject, context: Context, eps: float) -> np.ndarray:
    """The running variance; the first version of the class kept 1/√(variance + eps)."""
    if source.get("running_std") is None:
        variance: np.ndarray = source["running_var"]
        return variance
    context.note("running_std of a version 1 file: the variance is running_std⁻² - eps")
    std = source["running_std"]
    return (std.astype(np.float64) ** -2 - eps).astype(std.dtype)


@layer
class Normalize(nn.Module):
    """A vector divided by its p-norm, with a small number inside the root.

    Args:
        p: of the norm; `inf` is the largest absolute value.
        eps: added to the sum of powers.
    """

    def __init__(self, p: float, eps: float = 1e-10) -> None:
        super().__init__()
        self.p = p
        self.eps = eps

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, F) or (F,), the same size."""
        if math.isinf(self.p):
            return input / (input.abs().max(-1, keepdim=True).values + self.eps)
        base = input if self.p % 2 == 0 else input.abs()
        sums = base.pow(self.p).sum(-1, keepdim=True) + self.eps
        return input / sums.pow(1 / self.p)


@register("nn.Normalize")
def normalize(source: LuaObject, context: Context) -> nn.Module:
    """`Normalize.lua`."""
    return Normalize(float(source["p"]), float(source.get("eps", 1e-10)))


@register("nn.LayerNormalization")
def layer_normalization(source: LuaObject, context: Context) -> nn.Module:
    """`LayerNormalization.lua`: a Sequential; its parts are in the file."""
    return nn.Sequential(*context.children(source))
