"""Layers of texture_nets: noise as an input, and borders that wrap round (`GenNoise`, …)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class GenNoise(nn.Module):
    """`GenNoise`: normal noise of the input's size, which is not used otherwise.

    Args:
        planes: channels of noise.
        scale: of the noise.
    """

    def __init__(self, planes: int, scale: float = 1.0) -> None:
        super().__init__()
        self.planes = planes
        self.scale = scale

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) → (N, planes, H, W)."""
        like = input[:, :1].expand(-1, self.planes, -1, -1)
        return torch.randn_like(like) * self.scale

    def extra_repr(self) -> str:
        """The channels, as printed in the parent's listing."""
        return f"{self.planes}"


@layer
class NoiseFill(nn.Module):
    """`NoiseFill`, and the first `GenNoise`: uniform noise in place of some channels.

    Args:
        first: the first channel of noise; negative numbers count from the last.
        planes: channels of noise.
        scale: the noise goes from 0 to this.
    """

    def __init__(self, first: int, planes: int, scale: float = 1.0) -> None:
        super().__init__()
        self.first = first
        self.planes = planes
        self.scale = scale

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) → the same."""
        first = self.first % input.shape[1]
        noise = torch.rand_like(input[:, first : first + self.planes]) * self.scale
        return torch.cat([input[:, :first], noise, input[:, first + self.planes :]], dim=1)

    def extra_repr(self) -> str:
        """The channels, as printed in the parent's listing."""
        return f"first={self.first}, planes={self.planes}"


@layer
class MaskNoiseFill(nn.Module):
    """`NoiseFill` of the doodles: colours, copies of them times noise, and noise.

    Args:
        colors: channels of the input.
        copies: how many noisy copies.
        planes: channels of noise at the end.
        mask_scale: the noise of the copies goes from 0 to this.
        scale: the noise at the end goes from 0 to this.
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
        """(N, colors, H, W) → (N, colors · (1 + copies) + planes, H, W)."""
        noisy = [input * torch.rand_like(input) * self.mask_scale for _ in range(self.copies)]
        noise = torch.rand_like(input[:, :1].expand(-1, self.planes, -1, -1)) * self.scale
        return torch.cat([input, *noisy, noise], dim=1)


@layer
class CircularPad(nn.Module):
    """`SpatialCircularPadding`: the image goes on at the opposite edge.

    Args:
        padding: left, right, top and bottom.
    """

    def __init__(self, padding: list[int]) -> None:
        super().__init__()
        self.padding = padding

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) or (C, H, W) → padded."""
        if input.dim() == 3:
            return self.forward(input.unsqueeze(0)).squeeze(0)
        return functional.pad(input, self.padding, mode="circular")

    def extra_repr(self) -> str:
        """The padding, as printed in the parent's listing."""
        return f"{self.padding}"


@register("nn.GenNoise")
def gen_noise(source: LuaObject, context: Context) -> nn.Module:
    """`GenNoise`: three classes of this name are told apart by their fields.

    The first has none: it wrote noise over the first three channels of its input, which are all
    that a texture's network has.
    """
    context.note("noise is drawn anew at every call")
    planes = source.get("num_planes")
    if planes is None:
        return NoiseFill(0, 3)
    return GenNoise(int(planes), source.get("mult", 1.0))


@register("nn.NoiseFill")
def noise_fill(source: LuaObject, context: Context) -> nn.Module:
    """`NoiseFill`: noise in the last channels; with `n_colors` the one of the doodles."""
    context.note("noise is drawn anew at every call")
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
    """`SpatialCircularPadding`.

    The class that wrote layers with nothing to pad replaced the border instead: the first row by
    the last but one, the last by the second, and columns likewise.
    """
    padding = [int(source[f"pad_{side}"]) for side in "lrtb"]
    if any(padding):
        return CircularPad(padding)
    context.note("a circular padding of 0 replaces the border by what wraps round")
    return nn.Sequential(nn.ZeroPad2d(-1), CircularPad([1, 1, 1, 1]))


@register("nn.GradNormalization", "nn.DummyGradOutput")
def gradient_helper(source: LuaObject, context: Context) -> nn.Module:
    """`GradNormalization`, `DummyGradOutput`: the identity, but for a training of their own."""
    context.note("a layer that changes gradients: the input passes, and so does the gradient")
    return nn.Identity()
