"""Layers of DeepMask and SharpMask (`DeepMask.lua`, `SharpMask.lua`, …)."""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..layers.container import Container
from ..layers.geometry import margins
from ..registry import layer, register


@layer
class SymmetricPad(nn.Module):
    """`SpatialSymmetricPadding.lua`: pads an image with its mirror image, edge pixels included.

    `torch.nn.ReflectionPad2d` does not repeat the edge pixels. As in the Lua code, no gradient
    passes through the padding.

    Args:
        padding: Widths on the left, right, top and bottom; negative widths crop.
    """

    def __init__(self, padding: list[int]) -> None:
        super().__init__()
        self.padding = padding

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, C, top + H + bottom, left + W + right)."""
        left, right, top, bottom = self.padding
        return mirror(mirror(input, -2, top, bottom), -1, left, right)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.padding}"


def mirror(input: torch.Tensor, dim: int, before: int, after: int) -> torch.Tensor:
    """Pad a dimension on both sides with its first and last values in reverse order.

    Args:
        input: The tensor.
        dim: The dimension.
        before: Number of values to add in front; negative numbers crop.
        after: Number of values to add at the end; negative numbers crop.
    """
    size = input.shape[dim]
    first, last = max(-before, 0), size - max(-after, 0)
    middle = input.narrow(dim, first, last - first)
    pieces = [middle]
    if before > 0:
        pieces.insert(0, middle.narrow(dim, 0, before).flip(dim).detach())
    if after > 0:
        pieces.append(middle.narrow(dim, middle.shape[dim] - after, after).flip(dim).detach())
    return torch.cat(pieces, dim)


@register("nn.SpatialSymmetricPadding")
def spatial_symmetric_padding(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialSymmetricPadding.lua`: padding by the mirror image, edge pixels included."""
    return SymmetricPad(list(margins(source)))


@layer
class DeepMask(nn.Module):
    """`DeepMask.lua`: a mask of the object at the center of an image, and its objectness score.

    Args:
        trunk: Computes the features of the image.
        mask_branch: Computes the mask from the features.
        score_branch: Computes the score from the features.
    """

    def __init__(self, trunk: nn.Module, mask_branch: nn.Module, score_branch: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.mask_branch = mask_branch
        self.score_branch = score_branch

    def forward(self, input: torch.Tensor) -> list[torch.Tensor]:
        """Map (N, 3, H, W) to `[masks, scores]`."""
        features = self.trunk(input)
        return [self.mask_branch(features), self.score_branch(features)]


@register("nn.DeepMask", ignored=("fSz",))
def deep_mask(source: LuaObject, context: Context) -> nn.Module:
    """Convert `DeepMask.lua`; in Torch7 the training scripts call its branches one by one."""
    return DeepMask(
        *(
            context.convert(source[name], f".{name}")
            for name in ("trunk", "maskBranch", "scoreBranch")
        )
    )


@layer
class SharpMask(Container):
    """`SharpMask.lua`: refines the features of an image, step by step, to the mask of an object.

    Args:
        modules: The trunk (a Sequential), the branches of DeepMask for the score and the mask,
            which do not run, then what makes the first mask features of the trunk's output, and
            the refinements of `[features of the trunk, mask features]`.
        skips: For each refinement, the number (from 0) of the layer of the trunk whose output it
            takes.
    """

    def __init__(self, *modules: nn.Module, skips: list[int]) -> None:
        super().__init__(*modules)
        self.skips = skips

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, 3, H, W) to the scores of the pixels of the masks (N, pixels)."""
        trunk, _score, _mask, first, *refinements = self
        outputs = []
        for module in trunk.children():
            input = module(input)
            outputs.append(input)
        mask: torch.Tensor = first(input)
        for skip, refinement in zip(self.skips, refinements, strict=True):
            mask = refinement([outputs[skip], mask])
        return mask

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"skips={self.skips}"


@register("nn.SharpMask", ignored=("km", "ks", "fSz", "inps", "neths", "netvs"))
def sharp_mask(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SharpMask.lua`; its `refs` count from 0, and hold its `neths` and `netvs`."""
    context.note(
        "the score of an image is scoreBranch of the trunk's output, which is another call"
    )
    skips = [int(position) - 1 for position in source["skpos"].to_list()]
    return SharpMask(
        *(
            context.convert(source[name], f".{name}")
            for name in ("trunk", "scoreBranch", "maskBranchDM")
        ),
        *(
            context.convert(source["refs"][index], f".refs[{index}]")
            for index in range(len(skips) + 1)
        ),
        skips=skips,
    )
