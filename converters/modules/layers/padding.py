"""Padding and cropping (`Padding.lua`, `SpatialZeroPadding.lua`, …)."""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register
from .geometry import margins


@layer
class Padding(nn.Module):
    """`Padding.lua`: a constant inserted at one position of one dimension.

    Args:
        dim: The dimension, from 0; it counts the batch if `num_input_dims` is None.
        pad: Number of entries to insert; the position is counted from the front if it is negative
            and from the back if it is positive.
        num_input_dims: Number of dimensions of one example, or None.
        value: The constant.
        index: The position, from 0.
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
        """Map any shape to one with |pad| more entries in one dimension."""
        batched = self.num_input_dims is not None and input.dim() != self.num_input_dims
        dim = self.dim + int(batched)
        front = input.shape[dim] - self.index if self.pad > 0 else self.index
        before = input.narrow(dim, 0, front)
        after = input.narrow(dim, front, input.shape[dim] - front)
        shape = [*input.shape]
        shape[dim] = abs(self.pad)
        return torch.cat([before, input.new_full(shape, self.value), after], dim)


@register("nn.Padding")
def padding(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Padding.lua`: a constant at one position of a dimension."""
    num_input_dims = source.get("nInputDim")
    return Padding(
        int(source["dim"]) - 1,
        int(source["pad"]),
        None if num_input_dims is None else int(num_input_dims),
        float(source.get("value", 0)),
        int(source.get("index", 1)) - 1,
    )


@register("nn.SpatialZeroPadding")
def spatial_zero_padding(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialZeroPadding.lua`: zeros around an image; negative paddings crop."""
    return nn.ZeroPad2d(margins(source))


@register("nn.SpatialReflectionPadding")
def spatial_reflection_padding(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialReflectionPadding.lua`: mirrored borders; negative paddings crop."""
    return nn.ReflectionPad2d(margins(source))


@register("nn.SpatialReplicationPadding")
def spatial_replication_padding(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialReplicationPadding.lua`: repeated borders; negative paddings crop."""
    return nn.ReplicationPad2d(margins(source))


@register("nn.VolumetricReplicationPadding")
def volumetric_replication_padding(source: LuaObject, context: Context) -> nn.Module:
    """Convert `VolumetricReplicationPadding.lua`: repeated borders of (N, C, T, H, W)."""
    sides = ("pleft", "pright", "ptop", "pbottom", "pfront", "pback")
    left, right, top, bottom, front, back = (int(source[side]) for side in sides)
    return nn.ReplicationPad3d((left, right, top, bottom, front, back))
