"""Padding and cropping (`Padding.lua`, `SpatialZeroPadding.lua`, …)."""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
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
def padding(source: LuaObject, context: Context) -> nn.Module:
    """`Padding.lua`."""
    dims = source.get("nInputDim")
    return Padding(
        int(source["dim"]) - 1,
        int(source["pad"]),
        None if dims is None else int(dims),
        float(source.get("value", 0)),
        int(source.get("index", 1)) - 1,
    )


@register("nn.SpatialZeroPadding")
def spatial_zero_padding(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialZeroPadding.lua`, (N, C, H, W) or (C, H, W); negative paddings crop."""
    return nn.ZeroPad2d(_margins(source))


@register("nn.SpatialReflectionPadding")
def spatial_reflection_padding(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialReflectionPadding.lua`, (N, C, H, W) or (C, H, W); negative paddings crop."""
    return nn.ReflectionPad2d(_margins(source))


@register("nn.SpatialReplicationPadding")
def spatial_replication_padding(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialReplicationPadding.lua`, (N, C, H, W) or (C, H, W); negative paddings crop."""
    return nn.ReplicationPad2d(_margins(source))


@register("nn.VolumetricReplicationPadding")
def volumetric_replication_padding(source: LuaObject, context: Context) -> nn.Module:
    """`VolumetricReplicationPadding.lua`, (N, C, T, H, W) or (C, T, H, W)."""
    sides = ("pleft", "pright", "ptop", "pbottom", "pfront", "pback")
    left, right, top, bottom, front, back = (int(source[side]) for side in sides)
    return nn.ReplicationPad3d((left, right, top, bottom, front, back))


def _margins(source: LuaObject) -> tuple[int, int, int, int]:
    """Padding as PyTorch orders it too: left, right, top, bottom."""
    left, right, top, bottom = (int(source[f"pad_{side}"]) for side in "lrtb")
    return left, right, top, bottom
