"""Layers of visual dialogs and questions (`MaskSoftMax.lua`, `MaskTime.lua`, …)."""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register

#: What a masked score becomes before the softmax.
_MASKED = -9999999.0


@layer
class MaskSoftmax(nn.Module):
    """`MaskSoftMax.lua`: a softmax in which masked places get (almost) nothing."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map `[scores (N, K), mask (N, K)]`, not 0 where masked, to (N, K)."""
        scores, mask = input
        return scores.masked_fill(mask != 0, _MASKED).softmax(-1)


@register("nn.MaskSoftMax", "nn.maskSoftMax", ignored=("dummy_out",))
def mask_soft_max(source: LuaObject, context: Context) -> nn.Module:
    """Convert `MaskSoftMax.lua` of visdial, or `maskSoftmax.lua` of HieCoAttenVQA."""
    return MaskSoftmax()


@layer
class MaskTime(nn.Module):
    """`MaskTime.lua`: the features of each sentence at every word; zeros where it has none."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map `[words (T, N), features (N, F)]` to (T, N, F)."""
        words, features = input
        return features * (words != 0).unsqueeze(-1).to(features.dtype)


@register("nn.MaskTime", ignored=("mask", "seqLen", "featSize"))
def mask_time(source: LuaObject, context: Context) -> nn.Module:
    """Convert `MaskTime.lua`: features repeated over the words of a sentence."""
    return MaskTime()


@layer
class MaskFuture(nn.Module):
    """`MaskFuture.lua`: sets the scores of later rounds (above the diagonal) to zero."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, K, K) to the same shape."""
        return input.tril()


@register("nn.MaskFuture", ignored=("mask",))
def mask_future(source: LuaObject, context: Context) -> nn.Module:
    """Convert `MaskFuture.lua`: zeros above the diagonal."""
    return MaskFuture()


@layer
class ReplaceZero(nn.Module):
    """`ReplaceZero.lua`: replaces zeros by a number; no gradient passes there.

    Args:
        constant: The number.
    """

    def __init__(self, constant: float) -> None:
        super().__init__()
        self.constant = constant

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map any shape to the same shape."""
        return input.masked_fill(input == 0, self.constant)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.constant}"


@register("nn.ReplaceZero", ignored=("mask",))
def replace_zero(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ReplaceZero.lua`: zeros replaced by a number."""
    return ReplaceZero(float(source["constant"]))
