"""Enlarging images and volumes (`SpatialUpSamplingNearest.lua`, `UpSampling.lua`, …)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class Upsample(nn.Module):
    """Enlarges images or volumes, with or without a batch.

    Args:
        scale_factor: times larger along each axis; or None, with a size.
        size: of the output, (H, W) or (T, H, W); an image takes the last two.
        linear: interpolate between the corners, instead of repeating the nearest value.
    """

    def __init__(
        self,
        scale_factor: int | None = None,
        size: list[int] | None = None,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.scale_factor = scale_factor
        self.size = size
        self.linear = linear

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) or (C, H, W), or (N, C, T, H, W), to the same enlarged."""
        if input.dim() == 3:
            return self.forward(input.unsqueeze(0)).squeeze(0)
        rank = input.dim() - 2
        scale = None if self.scale_factor is None else [float(self.scale_factor)] * rank
        size = None if self.size is None else self.size[-rank:]
        if not self.linear:
            return functional.interpolate(input, size, scale, mode="nearest")
        mode = "bilinear" if rank == 2 else "trilinear"
        return functional.interpolate(input, size, scale, mode=mode, align_corners=True)


@register("nn.SpatialUpSamplingNearest")
def spatial_up_sampling_nearest(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialUpSamplingNearest.lua`, (N, C, H, W) or (C, H, W)."""
    return Upsample(int(source["scale_factor"]))


@register("nn.SpatialUpSamplingBilinear")
def spatial_up_sampling_bilinear(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialUpSamplingBilinear.lua`, (N, C, H, W) or (C, H, W): corners stay where they are."""
    return _upsample(source, linear=True)


@register("nn.UpSampling")
def up_sampling(source: LuaObject, context: Context) -> nn.Module:
    """`UpSampling.lua`, (N, C, H, W) or (N, C, T, H, W)."""
    return _upsample(source, linear=source.get("mode") == "linear")


def _upsample(source: LuaObject, linear: bool) -> nn.Module:
    """By a factor if the file has one, otherwise to a size."""
    if source.get("scale_factor") is not None:
        return Upsample(int(source["scale_factor"]), None, linear)
    sizes = [source.get("odepth"), source["oheight"], source["owidth"]]
    return Upsample(None, [int(size) for size in sizes if size is not None], linear)
