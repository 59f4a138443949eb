"""Blocks that the training scripts of published networks defined (`ResidualDrop.lua`, DenseNet)."""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..layers.container import Container
from ..registry import layer, register


@layer
class ResidualDrop(Container):
    """`ResidualDrop.lua`: a residual block that training mode skips at random.

    This is stochastic depth (Huang et al., 2016). In evaluation mode the block's output is
    multiplied by 1-p. In Torch7 the training script drew which blocks to skip before each batch;
    here the layer draws.

    Args:
        modules: The branch that is skipped, and the branch that is always computed.
        p: Probability of skipping the block.
    """

    def __init__(self, *modules: nn.Module, p: float) -> None:
        super().__init__(*modules)
        self.p = p

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to the output shape of `skip`."""
        block, skip = self
        output: torch.Tensor
        if not self.training:
            output = skip(input) + block(input) * (1 - self.p)
        elif torch.rand(()) < self.p:
            output = skip(input)
        else:
            output = skip(input) + block(input)
        return output

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"p={self.p}"


@register("nn.ResidualDrop")
def residual_drop(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ResidualDrop.lua`: a block that is skipped at random, and the skip connection."""
    block, skip = context.children(source)
    context.note("in training mode the layer skips its block at random, as Torch7's script did")
    return ResidualDrop(block, skip, p=float(source["deathRate"]))


@layer
class DenseLayer(Container):
    """`DenseConnectLayerCustom` of DenseNet: appends new feature maps to a list of feature maps.

    Args:
        modules: The first is applied to all feature maps, concatenated (normalization and ReLU);
            the second computes the new feature maps from its output (convolutions).
    """

    def forward(self, input: torch.Tensor | list[torch.Tensor]) -> list[torch.Tensor]:
        """Map (N, C, H, W), or a list of such tensors, to the list with (N, growth, H, W) added."""
        maps = [input] if isinstance(input, torch.Tensor) else list(input)
        first, second = self
        return [*maps, second(first(torch.cat(maps, 1)))]


@register("nn.DenseConnectLayerCustom")
def dense_layer(source: LuaObject, context: Context) -> nn.Module:
    """Convert `DenseConnectLayerCustom`, of DenseNet's memory-efficient option."""
    first, second = context.children(source)
    return DenseLayer(first, second)
