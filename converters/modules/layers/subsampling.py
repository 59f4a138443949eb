"""Sums and power means over windows (`SpatialSubSampling.lua`, `SpatialLPPooling.lua`, …)."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register
from .geometry import pair


@layer
class SubSampling(nn.Module):
    """The sum of each window, times a weight and plus a bias that each channel has.

    Args:
        channels: of the input and the output.
        kernel_size: of a window, (T,) or (H, W).
        stride: from window to window.
    """

    def __init__(self, channels: int, kernel_size: list[int], stride: list[int]) -> None:
        super().__init__()
        self.channels = channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) or (C, H, W), or (N, C, T) or (C, T), to the same with fewer places."""
        pool = functional.avg_pool1d if len(self.kernel_size) == 1 else functional.avg_pool2d
        sums = pool(input, self.kernel_size, self.stride) * math.prod(self.kernel_size)
        shape = [-1, *(1 for _ in self.kernel_size)]
        return sums * self.weight.reshape(shape) + self.bias.reshape(shape)


@layer
class FeatureLPPool(nn.Module):
    """The p-norm over windows of features.

    Args:
        width: features in a window.
        stride: from window to window.
        power: p.
        batch_mode: whether the features are the second dimension, after the batch.
    """

    def __init__(self, width: int, stride: int, power: float, batch_mode: bool = False) -> None:
        super().__init__()
        self.width = width
        self.stride = stride
        self.power = power
        self.batch_mode = batch_mode

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, F, …) or, without `batch_mode`, (F, …) to the same with fewer features."""
        windows = input.unfold(1 if self.batch_mode else 0, self.width, self.stride)
        sums = windows.pow(self.power).sum(-1)
        # As in FeatureLPPooling.c: a window of zeros has no gradient, rather than an infinite one.
        zero = sums == 0
        roots = torch.where(zero, torch.ones_like(sums), sums).pow(1 / self.power)
        return torch.where(zero, torch.zeros_like(sums), roots)


@register("nn.SpatialSubSampling")
def spatial_sub_sampling(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialSubSampling.lua`; some older files hold a weight for every place of the window."""
    weight, bias = source["weight"], source["bias"]
    kernel, stride = pair(source, "k"), pair(source, "d")
    channels = int(source["nInputPlane"])
    if weight.size != channels:
        context.note("a weight for every place of the window: a convolution of each channel")
        convolution = nn.Conv2d(
            channels, channels, kernel, stride=stride, groups=channels, device="meta"
        )
        return context.fill(convolution, weight=weight, bias=bias)
    with torch.device("meta"):
        module = SubSampling(channels, list(kernel), list(stride))
    return context.fill(module, weight=weight, bias=bias)


@register("nn.SpatialLPPooling")
def spatial_lp_pooling(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialLPPooling.lua`: a Sequential of power, pooling and root, all in the file."""
    return nn.Sequential(*context.children(source))


@register("nn.FeatureLPPooling")
def feature_lp_pooling(source: LuaObject, context: Context) -> nn.Module:
    """`FeatureLPPooling.lua`."""
    return FeatureLPPool(
        int(source["width"]),
        int(source["stride"]),
        float(source["power"]),
        source.get("batch_mode") is True,
    )
