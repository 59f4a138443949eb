"""Sums and p-norms over windows (`SpatialSubSampling.lua`, `SpatialLPPooling.lua`, …)."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register
from .geometry import height_width


@layer
class SubSampling(nn.Module):
    """`SpatialSubSampling.lua`, `TemporalSubSampling.lua`: w · sum + b over windows.

    Each channel has a weight w and a bias b.

    Args:
        channels: Number of channels.
        kernel_size: Size of a window, (T,) or (H, W).
        stride: Step between windows.
    """

    def __init__(self, channels: int, kernel_size: list[int], stride: list[int]) -> None:
        super().__init__()
        self.channels = channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (…, C, H, W) to (…, C, H', W'), or (…, C, T) to (…, C, T')."""
        pool = functional.avg_pool1d if len(self.kernel_size) == 1 else functional.avg_pool2d
        sums = pool(input, self.kernel_size, self.stride) * math.prod(self.kernel_size)
        shape = [-1, *(1 for _ in self.kernel_size)]
        return sums * self.weight.reshape(shape) + self.bias.reshape(shape)


@layer
class FeatureLPPool(nn.Module):
    """`FeatureLPPooling.lua`: p-norm over windows of features.

    Args:
        width: Number of features in a window.
        stride: Step between windows.
        power: The exponent p.
        batch_mode: Whether the first dimension is a batch and the features are the second.
    """

    def __init__(self, width: int, stride: int, power: float, batch_mode: bool = False) -> None:
        super().__init__()
        self.width = width
        self.stride = stride
        self.power = power
        self.batch_mode = batch_mode

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, F, …) to (N, F', …), or without `batch_mode` (F, …) to (F', …)."""
        # As in FeatureLPPooling.c powers are summed in double precision, and a window whose sum is
        # 0 has the gradient 0, not infinity.
        windows = input.unfold(1 if self.batch_mode else 0, self.width, self.stride).double()
        if torch.compiler.is_exporting():  # A graph has no gradients.
            return windows.pow(self.power).sum(-1).pow(1 / self.power).to(input.dtype)
        zero = windows.pow(self.power).sum(-1, keepdim=True) == 0
        sums = torch.where(zero, torch.ones_like(windows), windows).pow(self.power).sum(-1)
        roots = sums.pow(1 / self.power)
        return torch.where(zero.squeeze(-1), torch.zeros_like(roots), roots).to(input.dtype)


@register("nn.SpatialSubSampling")
def spatial_sub_sampling(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialSubSampling.lua`: w · sum + b over windows.

    In some older files each position in the window has its own weight.
    """
    weight, bias = source["weight"], source["bias"]
    kernel, stride = height_width(source, "k"), height_width(source, "d")
    channels = int(source["nInputPlane"])
    if weight.size != channels:
        context.note("one weight for each position in the window (an older file): a convolution")
        convolution = nn.Conv2d(
            channels, channels, kernel, stride=stride, groups=channels, device="meta"
        )
        return context.fill(convolution, weight=weight, bias=bias)
    with torch.device("meta"):
        module = SubSampling(channels, list(kernel), list(stride))
    return context.fill(module, weight=weight, bias=bias)


@register("nn.SpatialLPPooling", ignored=("kW", "kH", "dW", "dH", "nInputPlane"))
def spatial_lp_pooling(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialLPPooling.lua`: a Sequential of power, pooling and root, all in the file."""
    return nn.Sequential(*context.children(source))


@register("nn.FeatureLPPooling")
def feature_lp_pooling(source: LuaObject, context: Context) -> nn.Module:
    """Convert `FeatureLPPooling.lua`: p-norm over windows of features."""
    return FeatureLPPool(
        int(source["width"]),
        int(source["stride"]),
        float(source["power"]),
        source.get("batch_mode") is True,
    )
