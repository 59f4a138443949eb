"""Layers of texture_nets: noise as an input, and circular padding (`GenNoise`, …)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..layers.geometry import margins
from ..registry import layer, register


@layer
class GenNoise(nn.Module):
    """`GenNoise`: normally distributed noise of the input's size; the values are not used.

    Args:
        planes: Number of channels of noise.
        scale: Standard deviation of the noise.
    """

    def __init__(self, planes: int, scale: float = 1.0) -> None:
        super().__init__()
        self.planes = planes
        self.scale = scale

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, planes, H, W)."""
        like = input[:, :1].expand(-1, self.planes, -1, -1)
        return torch.randn_like(like) * self.scale

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.planes}"


@layer
class NoiseFill(nn.Module):
    """`NoiseFill`, and the first `GenNoise`: replaces some channels by uniform noise.

    Args:
        first: The first channel of noise; negative numbers count from the end.
        planes: Number of channels of noise.
        scale: The noise is uniform from 0 to this number.
    """

    def __init__(self, first: int, planes: int, scale: float = 1.0) -> None:
        super().__init__()
        self.first = first
        self.planes = planes
        self.scale = scale

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to the same shape."""
        first = self.first % input.shape[1]
        noise = torch.rand_like(input[:, first : first + self.planes]) * self.scale
        return torch.cat([input[:, :first], noise, input[:, first + self.planes :]], dim=1)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"first={self.first}, planes={self.planes}"


@layer
class MaskNoiseFill(nn.Module):
    """`NoiseFill` for doodles: the input, copies of it multiplied by noise, and noise.

    Args:
        colors: Number of channels of the input.
        copies: Number of copies multiplied by noise.
        planes: Number of channels of noise at the end.
        mask_scale: The factors of the copies are uniform from 0 to this number.
        scale: The noise at the end is uniform from 0 to this number.
    """

    def __init__(
        self, colors: int, copies: int, planes: int, mask_scale: float = 1.0, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.colors = colors
        self.copies = copies
        self.planes = planes
        self.mask_scale = mask_scale
        self.scale = scale

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, colors, H, W) to (N, colors · (1 + copies) + planes, H, W)."""
        noisy = [input * torch.rand_like(input) * self.mask_scale for _ in range(self.copies)]
        noise = torch.rand_like(input[:, :1].expand(-1, self.planes, -1, -1)) * self.scale
        return torch.cat([input, *noisy, noise], dim=1)


@layer
class CircularPad(nn.Module):
    """`SpatialCircularPadding`: circular padding; takes an image without a batch too.

    Args:
        padding: Widths on the left, right, top and bottom.
    """

    def __init__(self, padding: list[int]) -> None:
        super().__init__()
        self.padding = padding

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) or (C, H, W) to the padded size."""
        if input.dim() == 3:
            return self.forward(input.unsqueeze(0)).squeeze(0)
        return functional.pad(input, self.padding, mode="circular")

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.padding}"


@register("nn.GenNoise")
def gen_noise(source: LuaObject, context: Context) -> nn.Module:
    """Convert `GenNoise`: noise of the input's size.

    The first class of this name has no fields: it replaces the first three channels of its input by
    noise, which are all channels in a texture network.
    """
    context.note("every call draws new noise")
    planes = source.get("num_planes")
    if planes is None:
        return NoiseFill(0, 3)
    return GenNoise(int(planes), source.get("mult", 1.0))


@register("nn.NoiseFill")
def noise_fill(source: LuaObject, context: Context) -> nn.Module:
    """Convert `NoiseFill`: noise in the last channels; with `n_colors` the class for doodles."""
    context.note("every call draws new noise")
    planes = int(source["num_noise_channels"])
    if "n_colors" in source:
        return MaskNoiseFill(
            int(source["n_colors"]),
            int(source["num_mask_noise_times"]),
            planes,
            source.get("mult_noise_mask", 1.0),
            source.get("mult_noise", 1.0),
        )
    return NoiseFill(-planes, planes, source.get("mult", 1.0)) if planes else nn.Identity()


@register("nn.SpatialCircularPadding")
def spatial_circular_padding(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialCircularPadding`.

    With widths of 0, the class replaces the border instead: the first row by the last but one, the
    last row by the second, and columns likewise.
    """
    padding = list(margins(source))
    if any(padding):
        return CircularPad(padding)
    context.note("a circular padding of 0 replaces the border by pixels of the opposite side")
    return nn.Sequential(nn.ZeroPad2d(-1), CircularPad([1, 1, 1, 1]))


@register("nn.GradNormalization", "nn.DummyGradOutput")
def gradient_helper(source: LuaObject, context: Context) -> nn.Module:
    """Convert `GradNormalization` or `DummyGradOutput` to the identity."""
    context.note("changes the gradient in Torch7; here input and gradient pass unchanged")
    return nn.Identity()
