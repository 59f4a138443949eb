"""Normalization over neighboring channels or pixels (`SpatialCrossMapLRN.lua`, …)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class LocalResponseNorm(nn.LocalResponseNorm):
    """`SpatialCrossMapLRN.lua`: division by a power of the mean square over neighboring channels.

    Unlike `torch.nn.LocalResponseNorm` it takes (C, H, W) too. A window of even size reaches one
    channel further forward, as in THCUNN, cuDNN and ONNX; torch.nn's reaches further back, and
    Torch7's CPU code fails.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) or (C, H, W) to the same shape."""
        if input.dim() == 3:
            return self.forward(input.unsqueeze(0)).squeeze(0)
        before, after = (self.size - 1) // 2, self.size // 2
        squares = functional.pad(input.square().unsqueeze(1), [0, 0, 0, 0, before, after])
        mean = functional.avg_pool3d(squares, [self.size, 1, 1], stride=1).squeeze(1)
        return input / (mean * self.alpha + self.k).pow(self.beta)


@layer
class SubtractiveNorm(nn.Module):
    """`SpatialSubtractiveNormalization.lua`: the local mean over all channels is subtracted.

    Args:
        mean: Module for the weighted sum over a pixel's neighborhood in all channels.
    """

    def __init__(self, mean: nn.Module) -> None:
        super().__init__()
        self.mean = _constant(mean)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) or (C, H, W) to the same shape."""
        return input - _estimate(self.mean, input) / _coverage(self.mean, input)


@layer
class DivisiveNorm(nn.Module):
    """`SpatialDivisiveNormalization.lua`: division by the local deviation over all channels.

    Args:
        mean: Module for the weighted sum over a pixel's neighborhood in all channels; applied to
            ones it gives the fraction of the neighborhood that lies inside the image.
        std: Module for the square root of the weighted sum of squares.
        threshold: Deviations up to this value are replaced.
        value: The replacement.
    """

    def __init__(self, mean: nn.Module, std: nn.Module, threshold: float, value: float) -> None:
        super().__init__()
        self.mean = _constant(mean)
        self.std = _constant(std)
        self.threshold = threshold
        self.value = value

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) or (C, H, W) to the same shape."""
        std = _estimate(self.std, input) / _coverage(self.mean, input)
        return input / functional.threshold(std, self.threshold, self.value)


def _estimate(estimator: nn.Module, input: torch.Tensor) -> torch.Tensor:
    """Return an estimate for each pixel and channel; nn.Replicate adds a dimension to it."""
    output: torch.Tensor = estimator(input)
    return output.reshape(input.shape)


def _coverage(mean: nn.Module, input: torch.Tensor) -> torch.Tensor:
    """Return the fraction of each pixel's neighborhood that lies inside the image."""
    example = input[:1] if input.dim() == 4 else input
    return _estimate(mean, torch.ones_like(example))


def _constant(module: nn.Module) -> nn.Module:
    """Turn a module's parameters into buffers and return it: Torch7 never trains the kernels."""
    for submodule in module.modules():
        for name, parameter in list(submodule.named_parameters(recurse=False)):
            delattr(submodule, name)
            submodule.register_buffer(name, parameter.detach())
    return module


@register("nn.SpatialCrossMapLRN", "cudnn.SpatialCrossMapLRN")
def spatial_cross_map_lrn(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialCrossMapLRN.lua`: x / (k + alpha · mean(x²))^beta over channels.

    In the first files of cudnn.torch the constant k is the field `K`.
    """
    k = source.get("K") if source.get("k") is None else source["k"]
    return LocalResponseNorm(
        int(source["size"]), float(source["alpha"]), float(source["beta"]), 1.0 if k is None else k
    )


@register(
    "nn.SpatialSubtractiveNormalization",
    ignored=("subtractor", "divider", "kernel", "coef", "nInputPlane"),
)
def spatial_subtractive_normalization(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialSubtractiveNormalization.lua`: the local mean is subtracted.

    The file holds the module `meanestimator`, with its kernels.
    """
    return SubtractiveNorm(context.convert(source["meanestimator"], ".meanestimator"))


@register(
    "nn.SpatialDivisiveNormalization",
    ignored=("normalizer", "thresholder", "divider", "kernel", "coef", "nInputPlane"),
)
def spatial_divisive_normalization(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialDivisiveNormalization.lua`: division by the local deviation.

    The file holds the modules `meanestimator` and `stdestimator`, with their kernels.
    """
    return DivisiveNorm(
        context.convert(source["meanestimator"], ".meanestimator"),
        context.convert(source["stdestimator"], ".stdestimator"),
        float(source["threshold"]),
        float(source["thresval"]),
    )


@register(
    "nn.SpatialContrastiveNormalization", ignored=("kernel", "threshold", "thresval", "nInputPlane")
)
def spatial_contrastive_normalization(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialContrastiveNormalization.lua`: subtractive, then divisive normalization."""
    normalizer = context.convert(source["normalizer"], ".normalizer")
    # Each Torch7 object has a module of its own: this Sequential is not the normalizer's.
    return nn.Sequential(*normalizer.children())
