"""Padding, cropping and enlarging (`SpatialZeroPadding.lua`, `UpSampling.lua`, …)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer as layer_of_ours
from ..registry import register


@layer_of_ours
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


@layer_of_ours
class Padding(nn.Module):
    """Puts a constant in at one place of one dimension.

    Args:
        dim: which dimension, from 0, of an input without a batch.
        pad: how many; negative ones count the place from the front, positive ones from the back.
        num_input_dims: dimensions of an input without a batch, or None.
        value: the constant.
        index: the place, from 0.
    """

    def __init__(
        self,
        dim: int,
        pad: int,
        num_input_dims: int | None = None,
        value: float = 0.0,
        index: int = 0,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.pad = pad
        self.num_input_dims = num_input_dims
        self.value = value
        self.index = index

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Any shape, to the same with |pad| more in one dimension."""
        batched = self.num_input_dims is not None and input.dim() != self.num_input_dims
        dim = self.dim + int(batched)
        front = input.shape[dim] - self.index if self.pad > 0 else self.index
        before, after = input.split([front, input.shape[dim] - front], dim)
        shape = [*input.shape]
        shape[dim] = abs(self.pad)
        return torch.cat([before, input.new_full(shape, self.value), after], dim)


@register("nn.Padding")
def padding(layer: LuaObject, context: Context) -> nn.Module:
    """`Padding.lua`."""
    dims = layer.get("nInputDim")
    return Padding(
        int(layer["dim"]) - 1,
        int(layer["pad"]),
        None if dims is None else int(dims),
        float(layer.get("value", 0)),
        int(layer.get("index", 1)) - 1,
    )


@register("nn.SpatialZeroPadding")
def spatial_zero_padding(layer: LuaObject, context: Context) -> nn.Module:
    """`SpatialZeroPadding.lua`, (N, C, H, W) or (C, H, W); negative paddings crop."""
    return nn.ZeroPad2d(_margins(layer))


@register("nn.SpatialReflectionPadding")
def spatial_reflection_padding(layer: LuaObject, context: Context) -> nn.Module:
    """`SpatialReflectionPadding.lua`, (N, C, H, W) or (C, H, W); negative paddings crop."""
    return nn.ReflectionPad2d(_margins(layer))


@register("nn.SpatialReplicationPadding")
def spatial_replication_padding(layer: LuaObject, context: Context) -> nn.Module:
    """`SpatialReplicationPadding.lua`, (N, C, H, W) or (C, H, W); negative paddings crop."""
    return nn.ReplicationPad2d(_margins(layer))


@register("nn.VolumetricReplicationPadding")
def volumetric_replication_padding(layer: LuaObject, context: Context) -> nn.Module:
    """`VolumetricReplicationPadding.lua`, (N, C, T, H, W) or (C, T, H, W)."""
    sides = ("pleft", "pright", "ptop", "pbottom", "pfront", "pback")
    left, right, top, bottom, front, back = (int(layer[side]) for side in sides)
    return nn.ReplicationPad3d((left, right, top, bottom, front, back))


@register("nn.SpatialUpSamplingNearest")
def spatial_up_sampling_nearest(layer: LuaObject, context: Context) -> nn.Module:
    """`SpatialUpSamplingNearest.lua`, (N, C, H, W) or (C, H, W)."""
    return Upsample(int(layer["scale_factor"]))


@register("nn.SpatialUpSamplingBilinear")
def spatial_up_sampling_bilinear(layer: LuaObject, context: Context) -> nn.Module:
    """`SpatialUpSamplingBilinear.lua`, (N, C, H, W) or (C, H, W): corners stay where they are."""
    return _upsample(layer, linear=True)


@register("nn.UpSampling")
def up_sampling(layer: LuaObject, context: Context) -> nn.Module:
    """`UpSampling.lua`, (N, C, H, W) or (N, C, T, H, W)."""
    return _upsample(layer, linear=layer.get("mode") == "linear")


def _margins(layer: LuaObject) -> tuple[int, int, int, int]:
    """Padding as PyTorch orders it too: left, right, top, bottom."""
    left, right, top, bottom = (int(layer[f"pad_{side}"]) for side in "lrtb")
    return left, right, top, bottom


def _upsample(layer: LuaObject, linear: bool) -> nn.Module:
    """By a factor if the file has one, otherwise to a size."""
    if layer.get("scale_factor") is not None:
        return Upsample(int(layer["scale_factor"]), None, linear)
    sizes = [layer.get("odepth"), layer["oheight"], layer["owidth"]]
    return Upsample(None, [int(size) for size in sizes if size is not None], linear)
