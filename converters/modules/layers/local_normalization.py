"""Normalization by neighbours: other channels or other places (`SpatialCrossMapLRN.lua`, …)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class LocalResponseNorm(nn.LocalResponseNorm):
    """torch.nn's, that also takes (C, H, W), and looks one channel further ahead in an even window.

    So do THCUNN, cuDNN and ONNX; torch.nn looks further back, and Torch7's CPU code fails.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) or (C, H, W), the same size."""
        if input.dim() == 3:
            return self.forward(input.unsqueeze(0)).squeeze(0)
        back, ahead = (self.size - 1) // 2, self.size // 2
        squares = functional.pad(input.square().unsqueeze(1), [0, 0, 0, 0, back, ahead])
        mean = functional.avg_pool3d(squares, [self.size, 1, 1], stride=1).squeeze(1)
        return input / (mean * self.alpha + self.k).pow(self.beta)


@layer
class SubtractiveNorm(nn.Module):
    """Subtracts the weighted mean of a place's neighbourhood over all planes.

    Args:
        mean: sums over the neighbourhood, for the number of planes that it gets.
    """

    def __init__(self, mean: nn.Module) -> None:
        super().__init__()
        self.mean = _constant(mean)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) or (C, H, W), the same size."""
        return input - _estimate(self.mean, input) / _whole(self.mean, input)


@layer
class DivisiveNorm(nn.Module):
    """Divides by the weighted standard deviation of a place's neighbourhood over all planes.

    Args:
        mean: sums over the neighbourhood; at the border it tells how much of it there is.
        std: the root of the sum of squares over the neighbourhood.
        threshold: deviations up to this one are replaced.
        value: what they are replaced by.
    """

    def __init__(self, mean: nn.Module, std: nn.Module, threshold: float, value: float) -> None:
        super().__init__()
        self.mean = _constant(mean)
        self.std = _constant(std)
        self.threshold = threshold
        self.value = value

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) or (C, H, W), the same size."""
        std = _estimate(self.std, input) / _whole(self.mean, input)
        return input / functional.threshold(std, self.threshold, self.value)


def _estimate(estimator: nn.Module, input: torch.Tensor) -> torch.Tensor:
    """An estimate for each place of each plane; nn.Replicate leaves a dimension too many."""
    output: torch.Tensor = estimator(input)
    return output.reshape(input.shape)


def _whole(mean: nn.Module, input: torch.Tensor) -> torch.Tensor:
    """How much of the neighbourhood lies inside the image, for each place."""
    example = input[:1] if input.dim() == 4 else input
    return _estimate(mean, torch.ones_like(example))


def _constant(module: nn.Module) -> nn.Module:
    """The same module with its parameters as buffers: Torch7 never trains the kernels."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, parameter.detach())
    return module


@register("nn.SpatialCrossMapLRN", "cudnn.SpatialCrossMapLRN")
def spatial_cross_map_lrn(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialCrossMapLRN.lua`; the first cudnn files call its constant K."""
    k = source.get("K") if source.get("k") is None else source["k"]
    return LocalResponseNorm(
        int(source["size"]), float(source["alpha"]), float(source["beta"]), 1.0 if k is None else k
    )


@register("nn.SpatialSubtractiveNormalization")
def spatial_subtractive_normalization(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialSubtractiveNormalization.lua`; the file holds its estimator with the kernels."""
    return SubtractiveNorm(context.convert(source["meanestimator"], ".meanestimator"))


@register("nn.SpatialDivisiveNormalization")
def spatial_divisive_normalization(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialDivisiveNormalization.lua`; the file holds its estimators with the kernels."""
    return DivisiveNorm(
        context.convert(source["meanestimator"], ".meanestimator"),
        context.convert(source["stdestimator"], ".stdestimator"),
        float(source["threshold"]),
        float(source["thresval"]),
    )


@register("nn.SpatialContrastiveNormalization")
def spatial_contrastive_normalization(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialContrastiveNormalization.lua`: subtractive, then divisive normalization."""
    normalizer = context.convert(source["normalizer"], ".normalizer")
    # One module object stands for one Torch7 object, so this is another Sequential.
    return nn.Sequential(*normalizer.children())
