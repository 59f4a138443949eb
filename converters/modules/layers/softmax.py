"""Softmax, log-softmax and softmin over the channels (`SoftMax.lua`, `LogSoftMax.lua`, …)."""

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
        function: `softmax`, `log_softmax` or `softmin`, with an argument `dim`.
        input: (N, C) or (C,), or either with `spatial_dims` more dimensions.
        spatial_dims: 2 for images, 3 for volumes.
        instance: Whether to normalize over all values of an example, not over the channels of each
            pixel.
    """
    dim = 0 if input.dim() in (1, 1 + spatial_dims) else 1
    if instance:
        return function(input.flatten(dim), dim=dim).reshape(input.shape)
    return function(input, dim=dim)


@layer
class ChannelSoftmax(nn.Softmax):
    """`SoftMax.lua`: softmax over the channels, with or without a batch.

    Unlike `torch.nn.Softmax` it finds the dimension from the input's number of dimensions.

    Args:
        spatial_dims: 2 for images, 3 for volumes.
        instance: Whether to normalize over all values of an example (`cudnn.SoftMax`).
    """

    def __init__(self, spatial_dims: int = 2, instance: bool = False) -> None:
        super().__init__(dim=1)
        self.spatial_dims = spatial_dims
        self.instance = instance

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C), (C,), (C, H, W) or (N, C, H, W) to the same shape."""
        return over_channels(functional.softmax, input, self.spatial_dims, self.instance)


@layer
class ChannelLogSoftmax(nn.LogSoftmax):
    """`LogSoftMax.lua`: logarithm of the softmax over the channels, with or without a batch.

    Unlike `torch.nn.LogSoftmax` it finds the dimension from the input's number of dimensions.

    Args:
        spatial_dims: 2 for images, 3 for volumes.
        instance: Whether to normalize over all values of an example (`cudnn.LogSoftMax`).
    """

    def __init__(self, spatial_dims: int = 2, instance: bool = False) -> None:
        super().__init__(dim=1)
        self.spatial_dims = spatial_dims
        self.instance = instance

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C), (C,), (C, H, W) or (N, C, H, W) to the same shape."""
        return over_channels(functional.log_softmax, input, self.spatial_dims, self.instance)


@layer
class ChannelSoftmin(nn.Softmin):
    """`SoftMin.lua`: softmax of -x over the channels, with or without a batch.

    Unlike `torch.nn.Softmin` it finds the dimension from the input's number of dimensions.
    """

    def __init__(self) -> None:
        super().__init__(dim=1)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C), (C,), (C, H, W) or (N, C, H, W) to the same shape."""
        return over_channels(functional.softmin, input, 2, False)


@register("nn.SoftMax", "nn.SpatialSoftMax", "cudnn.SpatialSoftMax", ignored=("algorithm",))
def softmax(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SoftMax.lua` or `SpatialSoftMax.lua`: softmax over the channels."""
    context.choice(source, "mode", ["CUDNN_SOFTMAX_MODE_CHANNEL"])
    return ChannelSoftmax()


@register(
    "nn.LogSoftMax", "nn.SpatialLogSoftMax", "cudnn.SpatialLogSoftMax", ignored=("algorithm",)
)
def log_softmax(source: LuaObject, context: Context) -> nn.Module:
    """Convert `LogSoftMax.lua` or `SpatialLogSoftMax.lua`: log-softmax over the channels."""
    context.choice(source, "mode", ["CUDNN_SOFTMAX_MODE_CHANNEL"])
    return ChannelLogSoftmax()


@register("nn.SoftMin")
def softmin(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SoftMin.lua`: softmax of -x over the channels."""
    return ChannelSoftmin()


@register("cudnn.SoftMax", ignored=("algorithm",))
def cudnn_softmax(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SoftMax.lua` of cudnn.torch: softmax over all values of an image, not per pixel."""
    context.choice(source, "mode", ["CUDNN_SOFTMAX_MODE_INSTANCE"])
    return ChannelSoftmax(instance=True)


@register("cudnn.LogSoftMax", ignored=("algorithm",))
def cudnn_log_softmax(source: LuaObject, context: Context) -> nn.Module:
    """Convert `LogSoftMax.lua` of cudnn.torch: log-softmax over all values of an image."""
    context.choice(source, "mode", ["CUDNN_SOFTMAX_MODE_INSTANCE"])
    return ChannelLogSoftmax(instance=True)


@register("cudnn.VolumetricSoftMax", ignored=("algorithm",))
def volumetric_softmax(source: LuaObject, context: Context) -> nn.Module:
    """Convert `VolumetricSoftMax.lua` of cudnn.torch: softmax over the channels of a volume."""
    context.choice(source, "mode", ["CUDNN_SOFTMAX_MODE_CHANNEL"])
    return ChannelSoftmax(spatial_dims=3)


@register("cudnn.VolumetricLogSoftMax", ignored=("algorithm",))
def volumetric_log_softmax(source: LuaObject, context: Context) -> nn.Module:
    """Convert `VolumetricLogSoftMax.lua` of cudnn.torch: log-softmax over a volume's channels."""
    context.choice(source, "mode", ["CUDNN_SOFTMAX_MODE_CHANNEL"])
    return ChannelLogSoftmax(spatial_dims=3)
