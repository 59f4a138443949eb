"""Softmax and its relatives, over the channels (`SoftMax.lua`, `LogSoftMax.lua`, …)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


def over_channels(
    function: Callable[..., torch.Tensor], input: torch.Tensor, spatial_dims: int, instance: bool
) -> torch.Tensor:
    """Apply a softmax along the dimension that Torch7 takes for the channels (`SoftMax.c`).

    Args:
        function: `softmax` or its like, with a `dim`.
        input: (N, C), (C,), or either with `spatial_dims` more.
        spatial_dims: 2 for images, 3 for volumes.
        instance: over all numbers of an example rather than its channels at each point.
    """
    dim = 0 if input.dim() in (1, 1 + spatial_dims) else 1
    if instance:
        return function(input.flatten(dim), dim=dim).reshape(input.shape)
    return function(input, dim=dim)


@layer
class ChannelSoftmax(nn.Softmax):
    """`SoftMax.lua`: softmax over the channels, with or without a batch.

    Args:
        spatial_dims: 2 for images, 3 for volumes.
        instance: over all numbers of an example (`cudnn.SoftMax` on images).
    """

    def __init__(self, spatial_dims: int = 2, instance: bool = False) -> None:
        super().__init__(dim=1)
        self.spatial_dims = spatial_dims
        self.instance = instance

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C), (C,), (C, H, W) or (N, C, H, W) → the same shape."""
        return over_channels(functional.softmax, input, self.spatial_dims, self.instance)


@layer
class ChannelLogSoftmax(nn.LogSoftmax):
    """`LogSoftMax.lua`: logarithm of the softmax over the channels, with or without a batch.

    Args:
        spatial_dims: 2 for images, 3 for volumes.
        instance: over all numbers of an example (`cudnn.LogSoftMax` on images).
    """

    def __init__(self, spatial_dims: int = 2, instance: bool = False) -> None:
        super().__init__(dim=1)
        self.spatial_dims = spatial_dims
        self.instance = instance

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C), (C,), (C, H, W) or (N, C, H, W) → the same shape."""
        return over_channels(functional.log_softmax, input, self.spatial_dims, self.instance)


@layer
class ChannelSoftmin(nn.Softmin):
    """`SoftMin.lua`: softmax of the negative over the channels, with or without a batch."""

    def __init__(self) -> None:
        super().__init__(dim=1)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C), (C,), (C, H, W) or (N, C, H, W) → the same shape."""
        return over_channels(functional.softmin, input, 2, False)


@register("nn.SoftMax", "nn.SpatialSoftMax", "cudnn.SpatialSoftMax")
def softmax(source: LuaObject, context: Context) -> nn.Module:
    """`SoftMax.lua`, `SpatialSoftMax.lua`."""
    return ChannelSoftmax()


@register("nn.LogSoftMax", "nn.SpatialLogSoftMax", "cudnn.SpatialLogSoftMax")
def log_softmax(source: LuaObject, context: Context) -> nn.Module:
    """`LogSoftMax.lua`, `SpatialLogSoftMax.lua`."""
    return ChannelLogSoftmax()


@register("nn.SoftMin")
def softmin(source: LuaObject, context: Context) -> nn.Module:
    """`SoftMin.lua`."""
    return ChannelSoftmin()


@register("cudnn.SoftMax")
def cudnn_softmax(source: LuaObject, context: Context) -> nn.Module:
    """The `SoftMax.lua` of cudnn.torch: images are normalised over channels and points together."""
    return ChannelSoftmax(instance=True)


@register("cudnn.LogSoftMax")
def cudnn_log_softmax(source: LuaObject, context: Context) -> nn.Module:
    """The `LogSoftMax.lua` of cudnn.torch: as its `SoftMax.lua`."""
    return ChannelLogSoftmax(instance=True)


@register("cudnn.VolumetricSoftMax")
def volumetric_softmax(source: LuaObject, context: Context) -> nn.Module:
    """`VolumetricSoftMax.lua`: over the channels of (C, T, H, W), with or without a batch."""
    return ChannelSoftmax(spatial_dims=3)


@register("cudnn.VolumetricLogSoftMax")
def volumetric_log_softmax(source: LuaObject, context: Context) -> nn.Module:
    """`VolumetricLogSoftMax.lua`: as `VolumetricSoftMax.lua`."""
    return ChannelLogSoftmax(spatial_dims=3)
