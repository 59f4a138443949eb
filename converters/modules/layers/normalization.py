"""Normalization over a batch or over one example's features (`BatchNormalization.lua`, …)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalization whose weight and bias are optional one by one, as in Torch7.

    Unlike torch.nn's classes it takes one example without a batch in evaluation mode, and in
    training mode it normalizes a batch of one by the running statistics and leaves them alone, as
    `BatchNormalization.lua` does.

    Args:
        num_features: Number of channels.
        eps: Value added to the variance.
        momentum: Weight of a new batch in the running statistics.
        scale: Whether the layer has a weight.
        shift: Whether the layer has a bias.
    """

    #: Number of dimensions of a batch.
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
        """Map (N, C, …) to the same shape; in evaluation mode also (C, …) to (1, C, …)."""
        if not self.training and input.dim() == self.batch_dim - 1:
            return super().forward(input.unsqueeze(0))
        if self.training and input.dim() == self.batch_dim and input.shape[0] == 1:
            return functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(input)


@layer
class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """`BatchNormalization.lua`, of (N, C) or in evaluation mode (C,)."""

    batch_dim = 2


@layer
class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """`SpatialBatchNormalization.lua`, of (N, C, H, W) or in evaluation mode (C, H, W)."""

    batch_dim = 4


@layer
class BatchNorm3d(_BatchNorm, nn.BatchNorm3d):
    """`VolumetricBatchNormalization.lua`, of (N, C, T, H, W) or in evaluation mode (C, T, H, W)."""

    batch_dim = 5


@register("nn.BatchNormalization", "cudnn.BatchNormalization", ignored=("affine",))
def batch_normalization(source: LuaObject, context: Context) -> nn.Module:
    """Convert `BatchNormalization.lua`: batch normalization of (N, C)."""
    return _batch_norm(BatchNorm1d, source, context)


@register("nn.SpatialBatchNormalization", "cudnn.SpatialBatchNormalization", ignored=("affine",))
def spatial_batch_normalization(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialBatchNormalization.lua`: batch normalization of (N, C, H, W)."""
    return _batch_norm(BatchNorm2d, source, context)


@register(
    "nn.VolumetricBatchNormalization", "cudnn.VolumetricBatchNormalization", ignored=("affine",)
)
def volumetric_batch_normalization(source: LuaObject, context: Context) -> nn.Module:
    """Convert `VolumetricBatchNormalization.lua`: batch normalization of (N, C, T, H, W)."""
    return _batch_norm(BatchNorm3d, source, context)


def _batch_norm(cls: type[_BatchNorm], source: LuaObject, context: Context) -> nn.Module:
    weight, bias = source.get("weight"), source.get("bias")
    mean, eps = source["running_mean"], float(source.get("eps", 1e-5))
    with torch.device("meta"):
        module = cls(
            mean.size,
            eps,
            float(source.get("momentum", 0.1)),
            scale=weight is not None,
            shift=bias is not None,
        )
    variance = _running_var(source, context, eps)
    return context.fill(module, weight=weight, bias=bias, running_mean=mean, running_var=variance)


def _running_var(source: LuaObject, context: Context, eps: float) -> np.ndarray:
    """Return the running variance; version 1 of the class stores 1/√(variance + eps) instead."""
    std: np.ndarray | None = source.get("running_std")
    if std is None:
        variance: np.ndarray = source["running_var"]
        return variance
    context.note("running_std (version 1 of the class): the variance is running_std⁻² - eps")
    return np.asarray(std.astype(np.float64) ** -2 - eps, std.dtype)


@layer
class Normalize(nn.Module):
    """`Normalize.lua`: a vector divided by its p-norm, (Σ|x|ᵖ + eps)^(1/p).

    `torch.nn.functional.normalize` has no eps inside the root; it clamps the norm.

    Args:
        p: Exponent of the norm; `inf` is the largest absolute value.
        eps: Value added to the sum of powers.
    """

    def __init__(self, p: float, eps: float = 1e-10) -> None:
        super().__init__()
        self.p = p
        self.eps = eps

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, F) or (F,) to the same shape."""
        if math.isinf(self.p):
            return input / (input.abs().max(-1, keepdim=True).values + self.eps)
        base = input if self.p % 2 == 0 else input.abs()
        powers = base.pow(self.p)
        if self.p < 1:
            # The derivative of |x|ᵖ at 0 is infinite; Torch7's is 0.
            zero = input == 0
            powers = base.masked_fill(zero, 1).pow(self.p).masked_fill(zero, 0)
        sums = powers.sum(-1, keepdim=True) + self.eps
        return input / sums.pow(1 / self.p)


@register("nn.Normalize")
def normalize(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Normalize.lua`: division by the p-norm."""
    return Normalize(float(source["p"]), float(source.get("eps", 1e-10)))


@register("nn.LayerNormalization")
def layer_normalization(source: LuaObject, context: Context) -> nn.Module:
    """Convert `LayerNormalization.lua`: a Sequential whose modules are all in the file.

    They divide by √(Σ(x - mean)² + 1e-10) / √n: eps is added to the sum, not to the mean as in
    `torch.nn.LayerNorm`.
    """
    return nn.Sequential(*context.children(source))
