"""Layers of fast-neural-style and similar projects (`InstanceNormalization.lua`, …)."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@register("nn.InstanceNormalization", ignored=("prev_N", "bn"))
def instance_normalization(source: LuaObject, context: Context) -> nn.Module:
    """Convert `InstanceNormalization.lua`: each image is normalized, in evaluation mode too.

    In Torch7 it runs a BatchNormalization `bn` that it creates at the first call. Set to evaluation
    mode before that, it uses the initial running statistics of `bn`.
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
        context.note("never ran before evaluation mode: images are scaled, not normalized")
        dtype = np.float32 if weight is None else weight.dtype
        mean, variance = np.zeros(channels, dtype), np.ones(channels, dtype)
        context.fill(module, running_mean=mean, running_var=variance)
    return context.fill(module, weight=weight, bias=bias)


@layer
class ShaveImage(nn.Module):
    """`ShaveImage.lua`: removes the border of an image.

    Args:
        size: Width of the border in pixels.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, C, H - 2·size, W - 2·size)."""
        height, width = input.shape[-2:]
        return input[..., self.size : height - self.size, self.size : width - self.size]

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.size}"


@register("nn.ShaveImage")
def shave_image(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ShaveImage.lua`: an image without its border."""
    return ShaveImage(int(source["size"]))


@layer
class GramMatrix(nn.Module):
    """`GramMatrix.lua`: the inner products of all pairs of feature maps.

    Args:
        normalize: Whether to divide by the number of values C · H · W of an image.
    """

    def __init__(self, normalize: bool = True) -> None:
        super().__init__()
        self.normalize = normalize

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) or (C, H, W) to (N, C, C) or (C, C)."""
        maps = input.flatten(-2)
        gram = maps @ maps.transpose(-2, -1)
        return gram / (maps.shape[-2] * maps.shape[-1]) if self.normalize else gram


@register("nn.GramMatrix")
def gram_matrix(source: LuaObject, context: Context) -> nn.Module:
    """Convert `GramMatrix.lua`: inner products of all pairs of feature maps."""
    return GramMatrix(bool(source.get("normalize", True)))


@register(
    "nn.ContentLoss",
    "nn.StyleLoss",
    "nn.DeepDreamLoss",
    ignored=(
        "strength",
        "loss",
        "crit",
        "_ignore",
        "mode",
        "target",
        "agg",
        "agg_type",
        "max_grad",
        "clipped",
    ),
)
def observed_loss(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ContentLoss.lua`, `StyleLoss.lua` or `DeepDreamLoss.lua` to the identity."""
    context.note("a loss on its input, which it returns unchanged: the loss is left out")
    return nn.Identity()
