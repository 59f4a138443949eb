"""Pooling of regions of interest, of inn (`ROIPooling.lua`)."""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..layers.geometry import height_width
from ..registry import layer, register


@layer
class ROIPooling(nn.Module):
    """`ROIPooling.lua`: the maximum in each bin of a grid, for each region of an image.

    Unlike `torchvision.ops.RoIPool` it counts examples and coordinates from 1.

    Args:
        height: Number of bins from top to bottom.
        width: Number of bins from left to right.
        spatial_scale: Pixels of the input per pixel of the regions' coordinates.
        version2: Whether regions end before their last pixel and bins do not overlap.
    """

    def __init__(self, height: int, width: int, spatial_scale: float, version2: bool) -> None:
        super().__init__()
        self.height = height
        self.width = width
        self.spatial_scale = spatial_scale
        self.version2 = version2

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map `[(N, C, H, W), regions (R, 5)]` to (R, C, height, width).

        A region is (example, x1, y1, x2, y2), all counted from 1.
        """
        maps, regions = input[0], input[1]
        corners = round_half_away((regions[:, 1:] - 1) * self.spatial_scale)
        chosen = maps[regions[:, 0].long() - 1]
        rows = self._bins(corners[:, 1], corners[:, 3], self.height, maps.shape[2])
        columns = self._bins(corners[:, 0], corners[:, 2], self.width, maps.shape[3])
        lowest = torch.finfo(maps.dtype).min
        # Columns first: of equal values the gradient goes to the first one, row by row.
        in_columns = torch.stack(
            [
                chosen.masked_fill(~column[:, None, None], lowest).max(3).values
                for column in columns
            ],
            dim=3,
        )
        pooled = torch.stack(
            [in_columns.masked_fill(~row[:, None, :, None], lowest).max(2).values for row in rows],
            dim=2,
        )
        # The Lua code returns zero for an empty bin.
        return pooled.masked_fill(pooled == lowest, 0)

    def _bins(
        self, first: torch.Tensor, last: torch.Tensor, count: int, size: int
    ) -> list[torch.Tensor]:
        """Return for each bin a mask (R, size) of the pixels that it covers."""
        last = last - 1 if self.version2 else last
        extent = (last - first + 1).clamp(min=1) / count
        pixels = torch.arange(size, device=first.device)
        bins = []
        for index in range(count):
            start, end = extent * index, extent * (index + 1)
            if self.version2:
                start, end = round_half_away(start), round_half_away(end)
            start, end = (start.floor() + first)[:, None], (end.ceil() + first)[:, None]
            bins.append((pixels >= start) & (pixels < end))
        return bins

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.height}, {self.width}, spatial_scale={self.spatial_scale}"


def round_half_away(value: torch.Tensor) -> torch.Tensor:
    """Round as C does, halves away from zero (`torch.round` rounds them to even)."""
    return value.sign() * (value.abs() + 0.5).floor()


@register("inn.ROIPooling")
def roi_pooling(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ROIPooling.lua`; a file without `v2` is of the first version."""
    height, width = height_width(source, "")
    return ROIPooling(height, width, source.get("spatial_scale", 1), bool(source.get("v2")))
