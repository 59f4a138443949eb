"""Layers of DeepMask (`DeepMask.lua`, `SpatialSymmetricPadding.lua`)."""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class SymmetricPad(nn.Module):
    """`SpatialSymmetricPadding.lua`: the image mirrored at its edges, the edge pixels included.

    Gradients do not pass through the mirrored pixels, as in the Lua.

    Args:
        padding: left, right, top and bottom; negative widths crop.
    """

    def __init__(self, padding: list[int]) -> None:
        super().__init__()
        self.padding = padding

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) → padded."""
        left, right, top, bottom = self.padding
        return mirror(mirror(input, -2, top, bottom), -1, left, right)

    def extra_repr(self) -> str:
        """The padding, as printed in the parent's listing."""
        return f"{self.padding}"


def mirror(input: torch.Tensor, dim: int, before: int, after: int) -> torch.Tensor:
    """A dimension continued on both sides by what it begins and ends with, in reverse order."""
    size = input.shape[dim]
    first, last = max(-before, 0), size - max(-after, 0)
    middle = input.narrow(dim, first, last - first)
    parts = [middle]
    if before > 0:
        parts.insert(0, middle.narrow(dim, 0, before).flip(dim).detach())
    if after > 0:
        parts.append(middle.narrow(dim, middle.shape[dim] - after, after).flip(dim).detach())
    return torch.cat(parts, dim)


@register("nn.SpatialSymmetricPadding")
def spatial_symmetric_padding(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialSymmetricPadding.lua`."""
    return SymmetricPad([int(source[f"pad_{side}"]) for side in "lrtb"])


@layer
class DeepMask(nn.Module):
    """`DeepMask.lua`: a mask of the object in an image's middle, and a score for it.

    Args:
        trunk: features of the image.
        mask_branch: the mask, of the features.
        score_branch: the score, of the features.
    """

    def __init__(self, trunk: nn.Module, mask_branch: nn.Module, score_branch: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.mask_branch = mask_branch
        self.score_branch = score_branch

    def forward(self, input: torch.Tensor) -> list[torch.Tensor]:
        """(N, 3, H, W) → `[masks, scores]`."""
        features = self.trunk(input)
        return [self.mask_branch(features), self.score_branch(features)]


@register("nn.DeepMask")
def deep_mask(source: LuaObject, context: Context) -> nn.Module:
    """`DeepMask.lua`, whose branches Torch7's scripts call one by one."""
    return DeepMask(
        *(
            context.convert(source[name], f".{name}")
            for name in ("trunk", "maskBranch", "scoreBranch")
        )
    )
