"""Layers of DeepMind's deep Q-learner (`Rectifier.lua`, `Scale.lua`)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@register("nn.Rectifier")
def rectifier(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Rectifier.lua`: max(0, x)."""
    return nn.ReLU()


@layer
class GrayImage(nn.Module):
    """`Scale.lua`: makes a frame of a game gray, and scales it as `image.scale` does.

    Args:
        height: Height of the result.
        width: Width of the result.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height = height
        self.width = width

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (3, H, W), or the first of (N, 3, H, W), to (1, height, width)."""
        image = input[0] if input.dim() > 3 else input
        # The weights of `image.rgb2y`.
        gray = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
        # Like `image.scale`, one axis after the other, first the width.
        gray = scale_last_axis(gray, self.width)
        return scale_last_axis(gray.T, self.height).T.unsqueeze(0)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.height}, {self.width}"


def scale_last_axis(input: torch.Tensor, size: int) -> torch.Tensor:
    """Scale the last axis of a matrix as `image.scale` of Torch7 does in mode bilinear.

    An axis that grows is interpolated between the centers of its first and last values; one that
    shrinks is averaged over the part that each result covers.
    """
    old = input.shape[-1]
    if size >= old:
        return functional.interpolate(
            input.unsqueeze(0), size=size, mode="linear", align_corners=True
        )[0]
    edges = torch.arange(size + 1, dtype=torch.float64) * (old / size)
    cells = torch.arange(old, dtype=torch.float64)[:, None]
    covered = (torch.minimum(edges[1:], cells + 1) - torch.maximum(edges[:-1], cells)).clamp(min=0)
    weights = (covered / covered.sum(0)).to(input)
    return input @ weights


@register("nn.Scale", fields=("height", "width"))
def scale(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Scale.lua` of the deep Q-learner: a gray image of another size."""
    return GrayImage(int(source["height"]), int(source["width"]))
