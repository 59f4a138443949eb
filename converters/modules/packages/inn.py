"""Layers of inn, imagine-nn (`SpatialMaxPooling.lua`, `SpatialStochasticPooling.lua`, …)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..layers.container import Container
from ..layers.geometry import height_width
from ..layers.pooling import floor_mode_padding, window_counts
from ..registry import layer, register
from .alias import convert_as


@register("inn.SpatialMaxPooling")
def spatial_max_pooling(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialMaxPooling.lua`: nn.SpatialMaxPooling in ceil mode, whatever the fields."""
    return convert_as("nn.SpatialMaxPooling", source, context, ceil_mode=True)


@register("inn.SpatialAveragePooling")
def spatial_average_pooling(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialAveragePooling.lua`: nn.SpatialAveragePooling in ceil mode."""
    return convert_as("nn.SpatialAveragePooling", source, context, ceil_mode=True, divide=True)


@register("inn.SpatialCrossResponseNormalization")
def spatial_cross_response_normalization(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialCrossResponseNormalization.lua`: another name of nn.SpatialCrossMapLRN."""
    return convert_as("nn.SpatialCrossMapLRN", source, context)


@register("inn.SpatialSameResponseNormalization", ignored=("size", "alpha", "beta", "k"))
def spatial_same_response_normalization(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialSameResponseNormalization.lua`: a Sequential of layers of nn."""
    return nn.Sequential(*context.children(source))


@register("inn.LocalResponseNormalization")
def local_response_normalization(source: LuaObject, context: Context) -> nn.Module:
    """Convert `LocalResponseNormalization.lua`, whose field `modules` is a Sequential."""
    return nn.Sequential(context.convert(source["modules"], ".modules"))


@layer
class SubtractMean(nn.Module):
    """`MeanSubtraction.lua`: the input minus a fixed mean image.

    The mean image is taken in the shape of the input's images, whatever its own shape is.

    Args:
        size: Shape of the mean image.
    """

    mean: torch.Tensor

    def __init__(self, size: list[int]) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("mean", torch.empty(size))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) or (C, H, W) to the same shape."""
        return input - self.mean.reshape(input.shape[-3:])

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.size}"


@register("inn.MeanSubtraction")
def mean_subtraction(source: LuaObject, context: Context) -> nn.Module:
    """Convert `MeanSubtraction.lua`; after a batch its mean image is repeated per example."""
    mean = source["mean"]
    mean = mean[0] if mean.ndim == 4 else mean
    with torch.device("meta"):
        module = SubtractMean(list(mean.shape))
    return context.fill(module, mean=mean)


@layer
class ChannelAffine(nn.Module):
    """`ConstAffine.lua`: a·x + b, with fixed values of a and b per channel.

    Args:
        channels: Number of channels.
    """

    a: torch.Tensor
    b: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("a", torch.empty(channels))
        self.register_buffer("b", torch.empty(channels))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C) or (N, C, H, W) to the same shape."""
        shape = [self.channels, *[1] * (input.dim() - 2)]
        return input * self.a.reshape(shape) + self.b.reshape(shape)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.channels}"


@register(
    "inn.ConstAffine", "inn.SpatialConstAffine", "nn.SpatialConstDiagonal", ignored=("inplace",)
)
def const_affine(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ConstAffine.lua` (and DeepMask's name for it): a frozen BatchNormalization."""
    with torch.device("meta"):
        module = ChannelAffine(source["a"].size)
    return context.fill(module, a=source["a"], b=source["b"])


@layer
class SpatialPyramidPooling(Container):
    """`SpatialPyramidPooling.lua`: pooling with several grids, the features concatenated.

    Args:
        modules: One per grid, each returning (N, features) or (features,).
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, features), or (C, H, W) to (features,)."""
        return torch.cat([module(input) for module in self], dim=-1)


@register("inn.SpatialPyramidPooling", ignored=("dimension", "pyr"))
def spatial_pyramid_pooling(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialPyramidPooling.lua`: pooling with several grids."""
    return SpatialPyramidPooling(*context.children(source))


@layer
class StochasticPool2d(nn.Module):
    """`SpatialStochasticPooling.lua`: a value drawn from each window, or Σx² / Σx in evaluation.

    In training mode a value is drawn with a probability proportional to it.

    Args:
        kernel_size: (kH, kW).
        stride: (dH, dW).
    """

    def __init__(self, kernel_size: list[int], stride: list[int]) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map nonnegative (N, C, H, W) or (C, H, W) to the pooled size, in ceil mode."""
        if input.dim() == 3:
            return self.forward(input.unsqueeze(0)).squeeze(0)
        kernel, stride = tuple(self.kernel_size), tuple(self.stride)
        counts = window_counts(input.shape[-2:], kernel, stride, (0, 0), ceil_mode=True)
        pads = floor_mode_padding(input.shape[-2:], kernel, stride, (0, 0), counts)
        planes = functional.pad(input, pads).flatten(0, 1).unsqueeze(1)
        windows = functional.unfold(planes, kernel, stride=stride)
        # The padding is zero, so that it is never drawn and adds nothing to the sums.
        if self.training:
            weights = windows.detach().transpose(1, 2) + torch.finfo(input.dtype).tiny
            drawn = weights.flatten(0, 1).multinomial(1).reshape(len(windows), 1, -1)
            pooled = windows.gather(1, drawn).squeeze(1)
        else:
            total = windows.sum(1) + torch.finfo(input.dtype).tiny
            pooled = windows.square().sum(1) / total
        return pooled.reshape([*input.shape[:2], *counts])

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}"


@register("inn.SpatialStochasticPooling")
def spatial_stochastic_pooling(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialStochasticPooling.lua`: a value drawn from each window in training mode."""
    return StochasticPool2d(list(height_width(source, "k")), list(height_width(source, "d")))
