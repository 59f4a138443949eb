"""Layers of fast-neural-style and its relatives (`InstanceNormalization.lua`, `ShaveImage.lua`)."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@register("nn.InstanceNormalization")
def instance_normalization(source: LuaObject, context: Context) -> nn.Module:
    """`InstanceNormalization.lua`: statistics of each image, in evaluation mode too.

    It runs a BatchNormalization `bn` of its own, made at the first call. Put into evaluation mode
    before that, it used the running statistics that a new one begins with.
    """
    weight, bias = source.get("weight"), source.get("bias")
    eps, channels = float(source.get("eps", 1e-5)), int(source["nOutput"])
    never_ran = not ({"bn", "running_mean"} & set(source.fields)) and source.get("train") is False
    module = nn.InstanceNorm2d(
        channels,
        eps=eps,
        affine=weight is not None,
        track_running_stats=never_ran,
        device="meta",
    )
    if never_ran:
        context.note("never ran, and in evaluation mode: images are scaled, not normalized")
        dtype = np.float32 if weight is None else weight.dtype
        mean, variance = np.zeros(channels, dtype), np.ones(channels, dtype)
        context.fill(module, running_mean=mean, running_var=variance)
    return context.fill(module, weight=weight, bias=bias)


@layer
class ShaveImage(nn.Module):
    """`ShaveImage.lua`: an image without its border.

    Args:
        size: width of the border in pixels.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) → (N, C, H - 2·size, W - 2·size)."""
        height, width = input.shape[-2:]
        return input[..., self.size : height - self.size, self.size : width - self.size]

    def extra_repr(self) -> str:
        """The width, as printed in the parent's listing."""
        return f"{self.size}"


@register("nn.ShaveImage")
def shave_image(source: LuaObject, context: Context) -> nn.Module:
    """`ShaveImage.lua`."""
    return ShaveImage(int(source["size"]))


@layer
class GramMatrix(nn.Module):
    """`GramMatrix.lua`: products of all pairs of feature maps.

    Args:
        normalize: divide by the number of features of an image.
    """

    def __init__(self, normalize: bool = True) -> None:
        super().__init__()
        self.normalize = normalize

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) or (C, H, W) → (N, C, C) or (C, C)."""
        maps = input.flatten(-2)
        gram = maps @ maps.transpose(-2, -1)
        return gram / (maps.shape[-2] * maps.shape[-1]) if self.normalize else gram


@register("nn.GramMatrix")
def gram_matrix(source: LuaObject, context: Context) -> nn.Module:
    """`GramMatrix.lua`."""
    return GramMatrix(bool(source.get("normalize", True)))


@register("nn.ContentLoss", "nn.StyleLoss", "nn.DeepDreamLoss")
def observed_loss(source: LuaObject, context: Context) -> nn.Module:
    """`ContentLoss.lua`, `StyleLoss.lua`, `DeepDreamLoss.lua`: the identity."""
    context.note("a loss that watches its input: the input passes, the loss is left out")
    return nn.Identity()
