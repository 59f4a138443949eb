"""Layers of waifu2x (`InplaceClip01.lua`, `ScaleTable.lua`, …)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..layers.identity import GradientReversal
from ..registry import layer, register
from .alias import convert_as


class _ClipForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: torch.Tensor) -> torch.Tensor:
        return input.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> torch.Tensor:
        return grad_outputs[0]


@layer
class Clip01(nn.Module):
    """`InplaceClip01.lua`: from 0 to 1; the gradient passes as it is, outside of them too."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Any shape → the same shape."""
        return _ClipForward.apply(input)


@register("w2nn.InplaceClip01")
def clip01(source: LuaObject, context: Context) -> nn.Module:
    """`InplaceClip01.lua`."""
    return Clip01()


@layer
class ScaleTable(nn.Module):
    """`ScaleTable.lua`: each feature map times a number of its own (squeeze and excitation)."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """(N, C, H, W) and (N, C, 1, 1) → (N, C, H, W)."""
        maps, scale = input
        return maps * scale


@register("w2nn.ScaleTable")
def scale_table(source: LuaObject, context: Context) -> nn.Module:
    """`ScaleTable.lua`."""
    return ScaleTable()


class _ShakeShake(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        alpha = torch.rand(len(first), *[1] * (first.dim() - 1), device=first.device)
        return 2 * ((1 - alpha) * first + alpha * second)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        (grad,) = grad_outputs
        beta = torch.rand(len(grad), *[1] * (grad.dim() - 1), device=grad.device)
        return beta * grad, (1 - beta) * grad


@layer
class ShakeShakeTable(nn.Module):
    """`ShakeShakeTable.lua`: the sum of two; in training each has a random share for each sample.

    The gradient is shared out by another draw (Gastaldi, 2017).
    """

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Two of (N, …) → (N, …)."""
        first, second = input
        return _ShakeShake.apply(first, second) if self.training else first + second


@register("w2nn.ShakeShakeTable")
def shake_shake_table(source: LuaObject, context: Context) -> nn.Module:
    """`ShakeShakeTable.lua`."""
    return ShakeShakeTable()


@layer
class AuxiliaryLossTable(nn.Module):
    """`AuxiliaryLossTable.lua`: in training a list for as many losses, otherwise one of it.

    Args:
        index: place in the list, from 0.
    """

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, input: list[torch.Tensor]) -> list[torch.Tensor] | torch.Tensor:
        """A list → the list, or its entry."""
        return list(input) if self.training else input[self.index]

    def extra_repr(self) -> str:
        """The place, as printed in the parent's listing."""
        return f"{self.index}"


@register("w2nn.AuxiliaryLossTable")
def auxiliary_loss_table(source: LuaObject, context: Context) -> nn.Module:
    """`AuxiliaryLossTable.lua`; its index is a number from 1."""
    return AuxiliaryLossTable(int(source.get("i", 1)) - 1)


@layer
class DepthExpand2x(nn.Module):
    """`DepthExpand2x.lua`: four channels become a channel of twice the height and width.

    The channels of the four pixels follow each other in blocks, unlike those of
    `nn.PixelShuffle`.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, 4·C, H, W) → (N, C, 2·H, 2·W)."""
        blocks = input.unflatten(1, (2, 2, input.shape[1] // 4))
        return blocks.permute(0, 3, 4, 1, 5, 2).flatten(4, 5).flatten(2, 3)


@register("w2nn.DepthExpand2x")
def depth_expand2x(source: LuaObject, context: Context) -> nn.Module:
    """`DepthExpand2x.lua`."""
    return DepthExpand2x()


@register("w2nn.EdgeFilter", "w2nn.RandomBinaryConvolution")
def fixed_convolution(source: LuaObject, context: Context) -> nn.Module:
    """`EdgeFilter.lua`, `RandomBinaryConvolution.lua`: a convolution that is never trained."""
    module = convert_as("nn.SpatialConvolution", source, context)
    context.note("its weight is never trained in Torch7: frozen")
    return module.requires_grad_(False)


@register("w2nn.GradWeight")
def grad_weight(source: LuaObject, context: Context) -> nn.Module:
    """`GradWeight.lua`: the identity, whose gradient is scaled."""
    return GradientReversal(-float(source["constant_scalar"]))


@register("w2nn.LeakyReLU")
def leaky_relu(source: LuaObject, context: Context) -> nn.Module:
    """`LeakyReLU_deprecated.lua`, which was nn.LeakyReLU before torch/nn had one."""
    return convert_as("nn.LeakyReLU", source, context)


@register("w2nn.Print", "w2nn.PrintTable")
def print_input(source: LuaObject, context: Context) -> nn.Module:
    """`Print.lua`, `PrintTable.lua`: the identity that prints, in Torch7."""
    context.note("inputs are not printed")
    return nn.Identity()
