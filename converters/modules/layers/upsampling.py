"""Upsampling of images and volumes (`SpatialUpSamplingNearest.lua`, `UpSampling.lua`, …)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class Upsample(nn.Module):
    """`SpatialUpSamplingNearest.lua`, `SpatialUpSamplingBilinear.lua`, `UpSampling.lua`.

    Linear interpolation has `align_corners=True`, which is not the default of `torch.nn.Upsample`;
    an image may come without a batch.

    Args:
        scale_factor: Factor along each axis; None if `size` is given.
        size: Size of the output, (H, W) or (T, H, W); for an image its last two values are used.
        linear: Whether to interpolate linearly instead of repeating the nearest value.
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
        """Map (N, C, H, W), (C, H, W) or (N, C, T, H, W) to larger sizes."""
        if input.dim() == 3:
            return self.forward(input.unsqueeze(0)).squeeze(0)
        rank = input.dim() - 2
        scale = None if self.scale_factor is None else [float(self.scale_factor)] * rank
        size = None if self.size is None else self.size[-rank:]
        if not self.linear:
            return functional.interpolate(input, size, scale, mode="nearest")
        mode = "bilinear" if rank == 2 else "trilinear"
        return functional.interpolate(input, size, scale, mode=mode, align_corners=True)


@register("nn.SpatialUpSamplingNearest", ignored=("inputSize", "outputSize"))
def spatial_up_sampling_nearest(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialUpSamplingNearest.lua`: each pixel repeated."""
    return Upsample(int(source["scale_factor"]))


@register("nn.SpatialUpSamplingBilinear", ignored=("inputSize", "outputSize"))
def spatial_up_sampling_bilinear(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialUpSamplingBilinear.lua`: bilinear interpolation with aligned corners."""
    return _upsample(source, linear=True)


@register("nn.UpSampling", ignored=("inputSize", "outputSize"))
def up_sampling(source: LuaObject, context: Context) -> nn.Module:
    """Convert `UpSampling.lua`: nearest or linear upsampling of images or volumes."""
    return _upsample(
        source, linear=context.choice(source, "mode", ["nearest", "linear"]) == "linear"
    )


def _upsample(source: LuaObject, linear: bool) -> nn.Module:
    """Convert with a scale factor if the file has one, otherwise with a size."""
    if source.get("scale_factor") is not None:
        return Upsample(int(source["scale_factor"]), None, linear)
    sizes = [source.get("odepth"), source["oheight"], source["owidth"]]
    return Upsample(None, [int(size) for size in sizes if size is not None], linear)
