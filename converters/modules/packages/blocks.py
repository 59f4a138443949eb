"""Blocks that the scripts of published networks defined (`ResidualDrop.lua`, `densenet.lua`)."""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class ResidualDrop(nn.ModuleList):
    """`ResidualDrop.lua`: a residual block that is at times left out in training.

    This is stochastic depth (Huang et al., 2016). In evaluation mode the block counts as much as
    it was there. Torch7's script drew whether it is, before each batch; here the layer does.

    Args:
        block: what is left out.
        skip: what is not.
        p: how often the block is left out.
    """

    def __init__(self, block: nn.Module, skip: nn.Module, p: float) -> None:
        super().__init__([block, skip])
        self.p = p

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) → what the skip makes of it."""
        block, skip = self
        if not self.training:
            return skip(input) + block(input) * (1 - self.p)
        return skip(input) if torch.rand(()) < self.p else skip(input) + block(input)

    def extra_repr(self) -> str:
        """The share, as printed in the parent's listing."""
        return f"p={self.p}"


@register("nn.ResidualDrop")
def residual_drop(source: LuaObject, context: Context) -> nn.Module:
    """`ResidualDrop.lua`; its children are the block and the skip."""
    block, skip = context.children(source)
    context.note("in training the layer draws whether its block is left out, as the script did")
    return ResidualDrop(block, skip, float(source["deathRate"]))


@layer
class DenseLayer(nn.ModuleList):
    """`DenseConnectLayerCustom` of DenseNet: a list of feature maps grows by one.

    Args:
        first: what all of them, joined, pass at first (normalization and ReLU).
        second: what makes new ones (convolutions).
    """

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__([first, second])

    def forward(self, input: torch.Tensor | list[torch.Tensor]) -> list[torch.Tensor]:
        """(N, C, H, W), or a list of such → the list, and (N, growth, H, W)."""
        maps = [input] if isinstance(input, torch.Tensor) else list(input)
        first, second = self
        return [*maps, second(first(torch.cat(maps, 1)))]


@register("nn.DenseConnectLayerCustom")
def dense_layer(source: LuaObject, context: Context) -> nn.Module:
    """`DenseConnectLayerCustom`, as DenseNet's script built it where memory was short."""
    first, second = context.children(source)
    return DenseLayer(first, second)
