"""Data augmentation as layers, of dpnn (`SpatialUniformCrop.lua`, …) and cifar.torch (`BatchFlip`).

In evaluation mode they return their input, or its center crop.
"""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class TotalDropout(nn.Module):
    """`TotalDropout.lua`: in training mode the whole input, or zeros.

    Unlike `torch.nn.Dropout` it drops all elements at once, and does not rescale the others.

    Args:
        p: Probability of zeros.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map any shape to the same shape."""
        if not self.training:
            return input
        return input * torch.rand((), device=input.device).ge(self.p).to(input.dtype)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"p={self.p}"


@register("nn.TotalDropout")
def total_dropout(source: LuaObject, context: Context) -> nn.Module:
    """Convert `TotalDropout.lua`: all of the input or none of it in training mode."""
    return TotalDropout(source["p"])


@layer
class SpatialRegionDropout(nn.Module):
    """`SpatialRegionDropout.lua`: in training mode the rows or columns along one edge are zeros.

    Args:
        p: Fraction of the rows or columns; the remaining values are divided by 1-p.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) or (C, H, W) to the same shape."""
        if not self.training:
            return input
        height, width = input.shape[-2:]
        rows = torch.arange(height, device=input.device)[:, None]
        columns = torch.arange(width, device=input.device)[None, :]
        # Distances from the top, bottom, left and right region; one of the four is drawn.
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
        """Return the arguments shown by repr()."""
        return f"p={self.p}"


@register("nn.SpatialRegionDropout")
def spatial_region_dropout(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialRegionDropout.lua`: zeros along one edge in training mode."""
    return SpatialRegionDropout(source["p"])


@layer
class SpatialUniformCrop(nn.Module):
    """`SpatialUniformCrop.lua`: a random crop of each image in training mode, else a center crop.

    Args:
        height: Height of the crop.
        width: Width of the crop.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height = height
        self.width = width

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) or (C, H, W) to the same shape with the height and width of the crop."""
        margins = input.shape[-2] - self.height, input.shape[-1] - self.width
        if not self.training:
            # The Lua code rounds half the margin up and takes it as an index from 1.
            top, left = (max((margin + 1) // 2 - 1, 0) for margin in margins)
            return input[..., top : top + self.height, left : left + self.width]
        if input.dim() == 3:
            return self._random_crop(input, *margins)
        return torch.stack([self._random_crop(image, *margins) for image in input])

    def _random_crop(self, image: torch.Tensor, margin_y: int, margin_x: int) -> torch.Tensor:
        top, left = (int(torch.randint(max(margin, 1), ())) for margin in (margin_y, margin_x))
        return image[:, top : top + self.height, left : left + self.width]

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.height}, {self.width}"


@register("nn.SpatialUniformCrop")
def spatial_uniform_crop(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialUniformCrop.lua`: a random crop in training mode, else a center crop."""
    if source.get("scale") is not None:
        context.note("crops have a fixed size: Torch7 scaled them by a random factor in training")
    return SpatialUniformCrop(int(source["oheight"]), int(source["owidth"]))


@layer
class SimpleColorTransform(nn.Module):
    """`SimpleColorTransform.lua`: in training mode a random number is added to each channel.

    The number is uniform in (-limit, limit), with one limit per channel.

    Args:
        channels: Number of channels.
    """

    limit: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("limit", torch.empty(channels))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) or (C, H, W) to the same shape."""
        if not self.training:
            return input
        noise = torch.rand(input.shape[:-2], device=input.device, dtype=input.dtype) * 2 - 1
        return input + (noise * self.limit)[..., None, None]


@register("nn.SimpleColorTransform", ignored=("inputChannels",))
def simple_color_transform(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SimpleColorTransform.lua`: a random number added to each channel in training."""
    with torch.device("meta"):
        module = SimpleColorTransform(source["range"].size)
    return context.fill(module, limit=source["range"])


@layer
class PCAColorTransform(nn.Module):
    """`PCAColorTransform.lua`: in training mode colors are shifted along their principal axes.

    Args:
        channels: Number of channels.
        std: Standard deviation of the random factor of each axis.
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
        """Map (N, C, H, W) or (C, H, W) to the same shape."""
        if not self.training:
            return input
        factors = torch.randn(input.shape[:-2], device=input.device, dtype=input.dtype) * self.std
        noise = (factors * self.eigen_values) @ self.eigen_vectors.t()
        return input + noise[..., None, None]

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.channels}, std={self.std}"


@register("nn.PCAColorTransform", ignored=("inputChannels",))
def pca_color_transform(source: LuaObject, context: Context) -> nn.Module:
    """Convert `PCAColorTransform.lua`: colors shifted along principal axes in training mode."""
    vectors = source["eigenVectors"]
    with torch.device("meta"):
        module = PCAColorTransform(len(vectors), source["std"])
    return context.fill(module, eigen_vectors=vectors, eigen_values=source["eigenValues"])


@layer
class BatchFlip(nn.Module):
    """`BatchFlip` of cifar.torch's `train.lua`: half of the images are mirrored in training."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to the same shape."""
        if not self.training:
            return input
        count = input.shape[0]
        mirrored = torch.randperm(count, device=input.device) < count // 2
        return torch.where(mirrored[:, None, None, None], input.flip(-1), input)


@register("nn.BatchFlip")
def batch_flip(source: LuaObject, context: Context) -> nn.Module:
    """Convert `BatchFlip`, a class that training scripts defined after cifar.torch's example."""
    context.note("assumed to be cifar.torch's BatchFlip, which mirrors half of a batch in training")
    return BatchFlip()
