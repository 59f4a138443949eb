"""Layers of dpnn that look at a part of their input (`SpatialGlimpse.lua`, `TemporalGlimpse.lua`).

Where they look is given from -1 (the first row, column or step) to 1 (the last), and gets no
gradient.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


def positions(location: torch.Tensor, input_size: int, size: int) -> torch.Tensor:
    """Indices (N, size) that a glimpse covers, in an input padded by (size-1)//2 on both sides."""
    room = input_size + (size - 1) // 2 * 2 - size
    first = ((location.detach().double() + 1) / 2 * room).clamp(0, room).long()
    return first[:, None] + torch.arange(size, device=location.device)


@layer
class SpatialGlimpse(nn.Module):
    """`SpatialGlimpse.lua`: crops of growing size round a place, all scaled to the same size.

    Args:
        height: of a scaled crop.
        width: of a scaled crop.
        scales: size of each crop, as a multiple of height and width.
        bilinear: scale by bilinear interpolation; otherwise by averages.
    """

    def __init__(self, height: int, width: int, scales: list[int], bilinear: bool = False) -> None:
        super().__init__()
        self.height = height
        self.width = width
        self.scales = scales
        self.bilinear = bilinear

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """`[images (N, C, H, W), places (N, 2)]`, or without N → (N, scales · C, height, width).

        A place is (y, x).
        """
        images, places = input[0], input[1]
        if images.dim() == 3:
            return self.forward([images.unsqueeze(0), places.reshape(1, 2)]).squeeze(0)
        return torch.cat([self._crop(images, places, scale) for scale in self.scales], dim=1)

    def _crop(self, images: torch.Tensor, places: torch.Tensor, scale: int) -> torch.Tensor:
        height, width = self.height * scale, self.width * scale
        rows = positions(places[:, 0], images.shape[2], height)
        columns = positions(places[:, 1], images.shape[3], width)
        pad_y, pad_x = (height - 1) // 2, (width - 1) // 2
        padded = functional.pad(images, [pad_x, pad_x, pad_y, pad_y]).movedim(1, -1)
        example = torch.arange(images.shape[0], device=images.device)[:, None, None]
        crop = padded[example, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
        if self.bilinear:
            return functional.interpolate(
                crop, [self.height, self.width], mode="bilinear", align_corners=True
            )
        return functional.avg_pool2d(crop, scale)

    def extra_repr(self) -> str:
        """The sizes, as printed in the parent's listing."""
        return f"{self.height}, {self.width}, scales={self.scales}"


@register("nn.SpatialGlimpse")
def spatial_glimpse(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialGlimpse.lua`; its first version (`size`) had crops of 1, 1, 2, 3, … scales."""
    depth, scale = int(source["depth"]), int(source["scale"])
    if "width" in source:
        scales = [scale**level for level in range(depth)]
        return SpatialGlimpse(int(source["height"]), int(source["width"]), scales, scale != 2)
    context.note("no width: the first version of SpatialGlimpse, whose scales grow by addition")
    scales = [1, *(level * scale for level in range(1, depth))]
    return SpatialGlimpse(int(source["size"]), int(source["size"]), scales, bilinear=True)


@layer
class TemporalGlimpse(nn.Module):
    """`TemporalGlimpse.lua`: a part of a sequence round a place.

    Args:
        size: steps of the part.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """`[sequences (N, T, C), places (N, 1)]`, or without N → (N, size, C)."""
        sequences, places = input[0], input[1]
        if sequences.dim() == 2:
            return self.forward([sequences.unsqueeze(0), places.reshape(1, 1)]).squeeze(0)
        steps = positions(places[:, 0], sequences.shape[1], self.size)
        pad = (self.size - 1) // 2
        padded = functional.pad(sequences, [0, 0, pad, pad])
        example = torch.arange(sequences.shape[0], device=sequences.device)[:, None]
        return padded[example, steps]

    def extra_repr(self) -> str:
        """The size, as printed in the parent's listing."""
        return f"{self.size}"


@register("nn.TemporalGlimpse")
def temporal_glimpse(source: LuaObject, context: Context) -> nn.Module:
    """`TemporalGlimpse.lua`."""
    return TemporalGlimpse(int(source["size"]))
