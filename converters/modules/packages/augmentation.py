"""Layers that vary images in training: dpnn's (`SpatialUniformCrop.lua`, …), cifar.torch's flip.

In evaluation mode they pass their input on, or crop its middle.
"""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class TotalDropout(nn.Module):
    """`TotalDropout.lua`: in training the whole input passes, or zeros.

    Args:
        p: how often it is zeros.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Any shape → the same."""
        if not self.training:
            return input
        return input * torch.rand((), device=input.device).ge(self.p).to(input.dtype)

    def extra_repr(self) -> str:
        """The share, as printed in the parent's listing."""
        return f"p={self.p}"


@register("nn.TotalDropout")
def total_dropout(source: LuaObject, context: Context) -> nn.Module:
    """`TotalDropout.lua`."""
    return TotalDropout(source["p"])


@layer
class SpatialRegionDropout(nn.Module):
    """`SpatialRegionDropout.lua`: in training the rows or columns along one edge are zeros.

    Args:
        p: the share of rows or columns; what is left is divided by 1-p.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) or (C, H, W) → the same."""
        if not self.training:
            return input
        height, width = input.shape[-2:]
        rows = torch.arange(height, device=input.device)[:, None]
        columns = torch.arange(width, device=input.device)[None, :]
        # Distances from the top, bottom, left and right edge; one of the four is drawn.
        distances = torch.stack(
            torch.broadcast_tensors(
                rows - int(height * self.p),
                height - 1 - rows - int(height * self.p),
                columns - int(width * self.p),
                width - 1 - columns - int(width * self.p),
            )
        )
        kept = distances[torch.randint(4, (1,), device=input.device)].squeeze(0) >= 0
        return input * kept.to(input.dtype) / (1 - self.p)

    def extra_repr(self) -> str:
        """The share, as printed in the parent's listing."""
        return f"p={self.p}"


@register("nn.SpatialRegionDropout")
def spatial_region_dropout(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialRegionDropout.lua`."""
    return SpatialRegionDropout(source["p"])


@layer
class SpatialUniformCrop(nn.Module):
    """`SpatialUniformCrop.lua`: in training a crop anywhere for each image, else the middle.

    Args:
        height: of the crop.
        width: of the crop.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height = height
        self.width = width

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) or (C, H, W) → the same with the crop's size."""
        rooms = input.shape[-2] - self.height, input.shape[-1] - self.width
        if not self.training:
            # The Lua rounds the middle up, and counts it from 1.
            top, left = (max((room + 1) // 2 - 1, 0) for room in rooms)
            return input[..., top : top + self.height, left : left + self.width]
        if input.dim() == 3:
            return self._crop_anywhere(input, *rooms)
        return torch.stack([self._crop_anywhere(image, *rooms) for image in input])

    def _crop_anywhere(self, image: torch.Tensor, room_y: int, room_x: int) -> torch.Tensor:
        top, left = (int(torch.randint(max(room, 1), ())) for room in (room_y, room_x))
        return image[:, top : top + self.height, left : left + self.width]

    def extra_repr(self) -> str:
        """The size, as printed in the parent's listing."""
        return f"{self.height}, {self.width}"


@register("nn.SpatialUniformCrop")
def spatial_uniform_crop(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialUniformCrop.lua`."""
    if source.get("scale") is not None:
        context.note("crops have one size: Torch7 scaled them by a random factor in training")
    return SpatialUniformCrop(int(source["oheight"]), int(source["owidth"]))


@layer
class SimpleColorTransform(nn.Module):
    """`SimpleColorTransform.lua`: in training a random number is added to each channel.

    Args:
        channels: channels of the input.
    """

    limit: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("limit", torch.empty(channels))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) or (C, H, W) → the same."""
        if not self.training:
            return input
        noise = torch.rand(input.shape[:-2], device=input.device, dtype=input.dtype) * 2 - 1
        return input + (noise * self.limit)[..., None, None]


@register("nn.SimpleColorTransform")
def simple_color_transform(source: LuaObject, context: Context) -> nn.Module:
    """`SimpleColorTransform.lua`; the numbers are uniform within ± range."""
    with torch.device("meta"):
        module = SimpleColorTransform(source["range"].size)
    return context.fill(module, limit=source["range"])


@layer
class PCAColorTransform(nn.Module):
    """`PCAColorTransform.lua`: in training colours move along the pixels' principal axes.

    Args:
        channels: channels of the input.
        std: of the random factor of each axis.
    """

    eigen_vectors: torch.Tensor
    eigen_values: torch.Tensor

    def __init__(self, channels: int, std: float = 0.1) -> None:
        super().__init__()
        self.channels = channels
        self.std = std
        self.register_buffer("eigen_vectors", torch.empty(channels, channels))
        self.register_buffer("eigen_values", torch.empty(channels))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) or (C, H, W) → the same."""
        if not self.training:
            return input
        factors = torch.randn(input.shape[:-2], device=input.device, dtype=input.dtype) * self.std
        noise = (factors * self.eigen_values) @ self.eigen_vectors.t()
        return input + noise[..., None, None]

    def extra_repr(self) -> str:
        """The settings, as printed in the parent's listing."""
        return f"{self.channels}, std={self.std}"


@register("nn.PCAColorTransform")
def pca_color_transform(source: LuaObject, context: Context) -> nn.Module:
    """`PCAColorTransform.lua`."""
    vectors = source["eigenVectors"]
    with torch.device("meta"):
        module = PCAColorTransform(len(vectors), source["std"])
    return context.fill(module, eigen_vectors=vectors, eigen_values=source["eigenValues"])


@layer
class BatchFlip(nn.Module):
    """`BatchFlip` of cifar.torch's `train.lua`: in training half of the images are mirrored."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) → the same."""
        if not self.training:
            return input
        count = len(input)
        mirrored = torch.randperm(count, device=input.device) < count // 2
        return torch.where(mirrored[:, None, None, None], input.flip(-1), input)


@register("nn.BatchFlip")
def batch_flip(source: LuaObject, context: Context) -> nn.Module:
    """`BatchFlip`, which every training script defined for itself after cifar.torch's."""
    context.note("taken for cifar.torch's: it mirrors half of a batch in training")
    return BatchFlip()
