"""Glimpses: crops at a location that is an input, of dpnn (`SpatialGlimpse.lua`, …).

A location is a number from -1 (the first row, column or step) to 1 (the last), and gets no
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
    """Return the indices (N, size) of a glimpse in an input padded by (size-1)//2 on both sides."""
    largest = input_size + (size - 1) // 2 * 2 - size
    first = ((location.detach().double() + 1) / 2 * largest).clamp(0, largest).long()
    return first[:, None] + torch.arange(size, device=location.device)


@layer
class SpatialGlimpse(nn.Module):
    """`SpatialGlimpse.lua`: crops of several sizes around a location, scaled to one size.

    Args:
        height: Height of a scaled crop.
        width: Width of a scaled crop.
        scales: Size of each crop, as a multiple of height and width or as [height, width].
        bilinear: Whether to scale by bilinear interpolation; otherwise by average pooling.
    """

    def __init__(
        self,
        height: int,
        width: int,
        scales: list[int | list[int]],
        bilinear: bool = False,
    ) -> None:
        super().__init__()
        self.height = height
        self.width = width
        self.scales = scales
        self.bilinear = bilinear

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map `[images (N, C, H, W), locations (N, 2)]` to (N, scales · C, height, width).

        A location is (y, x). Without N in both inputs there is none in the output.
        """
        images, locations = input[0], input[1]
        if images.dim() == 3:
            return self.forward([images.unsqueeze(0), locations.reshape(1, 2)]).squeeze(0)
        return torch.cat([self._crop(images, locations, scale) for scale in self.scales], dim=1)

    def _crop(
        self, images: torch.Tensor, locations: torch.Tensor, scale: int | list[int]
    ) -> torch.Tensor:
        if isinstance(scale, int):
            height, width = self.height * scale, self.width * scale
        else:
            height, width = scale
        rows = positions(locations[:, 0], images.shape[2], height)
        columns = positions(locations[:, 1], images.shape[3], width)
        pad_y, pad_x = (height - 1) // 2, (width - 1) // 2
        padded = functional.pad(images, [pad_x, pad_x, pad_y, pad_y]).movedim(1, -1)
        example = torch.arange(images.shape[0], device=images.device)[:, None, None]
        crop = padded[example, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
        if self.bilinear:
            return functional.interpolate(
                crop, [self.height, self.width], mode="bilinear", align_corners=True
            )
        return functional.avg_pool2d(crop, [height // self.height, width // self.width])

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.height}, {self.width}, scales={self.scales}"


@register("nn.SpatialGlimpse", ignored=("module", "modules"))
def spatial_glimpse(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialGlimpse.lua`: crops of several sizes around a location.

    Its first version has a field `size`; its crops are 1, scale, 2 · scale, … times that size.
    """
    depth, scale = int(source["depth"]), source["scale"]
    scales: list[int | list[int]]
    if "width" in source:
        height, width = int(source["height"]), int(source["width"])
        if scale == int(scale):
            scales = [int(scale) ** level for level in range(depth)]
        else:
            scales = crop_sizes(height, width, depth, scale)
        return SpatialGlimpse(height, width, scales, bilinear=scale != 2)
    context.note("no field width: the first version of SpatialGlimpse, whose scales grow linearly")
    scales = [1, *(level * int(scale) for level in range(1, depth))]
    return SpatialGlimpse(int(source["size"]), int(source["size"]), scales, bilinear=True)


def crop_sizes(height: int, width: int, depth: int, scale: float) -> list[int | list[int]]:
    """Return [height, width] of each crop, each rounded down before the next is computed."""
    sizes: list[int | list[int]] = []
    for _ in range(depth):
        sizes.append([height, width])
        height, width = int(height * scale), int(width * scale)
    return sizes


@layer
class TemporalGlimpse(nn.Module):
    """`TemporalGlimpse.lua`: a section of a sequence around a location.

    Args:
        size: Number of steps of the section.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map `[sequences (N, T, C), locations (N, 1)]` to (N, size, C), or all without N."""
        sequences, locations = input[0], input[1]
        if sequences.dim() == 2:
            return self.forward([sequences.unsqueeze(0), locations.reshape(1, 1)]).squeeze(0)
        steps = positions(locations[:, 0], sequences.shape[1], self.size)
        pad = (self.size - 1) // 2
        padded = functional.pad(sequences, [0, 0, pad, pad])
        example = torch.arange(sequences.shape[0], device=sequences.device)[:, None]
        return padded[example, steps]

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.size}"


@register("nn.TemporalGlimpse")
def temporal_glimpse(source: LuaObject, context: Context) -> nn.Module:
    """Convert `TemporalGlimpse.lua`: a section of a sequence around a location."""
    return TemporalGlimpse(int(source["size"]))
