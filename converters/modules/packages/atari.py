"""Layers of Kaixhin's Atari, a deep Q-learner (`GradientRescale.lua`, `MinDim.lua`)."""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..layers.identity import GradientReversal
from ..registry import layer, register


@register("nn.GradientRescale", ignored=("inplace",))
def gradient_rescale(source: LuaObject, context: Context) -> nn.Module:
    """Convert `GradientRescale.lua`: the identity with a scaled gradient."""
    return GradientReversal(-float(source["scaleFactor"]))


@layer
class MinDim(nn.Module):
    """`MinDim.lua`: puts an axis of size 1 into inputs with too few axes.

    Args:
        dim: Where the axis is put.
        input_dims: Number of axes from which on an input stays as it is.
    """

    def __init__(self, dim: int, input_dims: int) -> None:
        super().__init__()
        self.dim = dim
        self.input_dims = input_dims

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (…) to (…, 1, …), or to itself."""
        return input.unsqueeze(self.dim) if input.dim() < self.input_dims else input

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.dim}, input_dims={self.input_dims}"


@register("nn.MinDim")
def min_dim(source: LuaObject, context: Context) -> nn.Module:
    """Convert `MinDim.lua`: an axis of size 1 at `pos` if there are fewer than `numInputDims`."""
    return MinDim(int(source["pos"]) - 1, int(source["numInputDims"]))
