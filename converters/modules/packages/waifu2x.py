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
from .dpnn import StraightThrough


@layer
class Clip01(nn.Module):
    """`InplaceClip01.lua`: clips to 0 to 1; unlike `torch.clamp`'s, its gradient is not clipped."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map any shape to the same shape."""
        output: torch.Tensor = StraightThrough.apply(input, input.detach().clamp(0, 1))
        return output


@register("w2nn.InplaceClip01")
def clip01(source: LuaObject, context: Context) -> nn.Module:
    """Convert `InplaceClip01.lua`: clipping to 0 to 1 with an unchanged gradient."""
    return Clip01()


@layer
class ScaleTable(nn.Module):
    """`ScaleTable.lua`: multiplies each feature map by a factor (squeeze and excitation)."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map `[(N, C, H, W), (N, C, 1, 1)]` to (N, C, H, W)."""
        maps, scale = input
        return maps * scale


@register("w2nn.ScaleTable")
def scale_table(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ScaleTable.lua`: feature maps multiplied by factors."""
    return ScaleTable()


def _number_per_example(tensor: torch.Tensor) -> torch.Tensor:
    """Return numbers between 0 and 1, drawn anew, that broadcast over the examples of a batch."""
    shape = [tensor.shape[0], *[1] * (tensor.dim() - 1)]
    return torch.rand(shape, dtype=tensor.dtype, device=tensor.device)


class _ShakeShake(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        alpha = _number_per_example(first)
        return 2 * ((1 - alpha) * first + alpha * second)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        (grad,) = grad_outputs
        beta = _number_per_example(grad)
        return beta * grad, (1 - beta) * grad


@layer
class ShakeShakeTable(nn.Module):
    """`ShakeShakeTable.lua`: the sum of two inputs, weighted at random in training mode.

    The weights 2·(1-α) and 2·α are drawn per example; the gradient is divided between the inputs by
    another draw (Gastaldi, 2017).
    """

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map two tensors (N, …) to (N, …)."""
        first, second = input
        output: torch.Tensor = _ShakeShake.apply(first, second) if self.training else first + second
        return output


@register("w2nn.ShakeShakeTable")
def shake_shake_table(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ShakeShakeTable.lua`: a sum with random weights in training mode."""
    return ShakeShakeTable()


@layer
class AuxiliaryLossTable(nn.Module):
    """`AuxiliaryLossTable.lua`: a list of outputs in training mode, otherwise one of them.

    Args:
        index: Index in the list, from 0.
    """

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, input: list[torch.Tensor]) -> list[torch.Tensor] | torch.Tensor:
        """Map a list to the list, or to one entry."""
        return list(input) if self.training else input[self.index]

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.index}"


@register("w2nn.AuxiliaryLossTable")
def auxiliary_loss_table(source: LuaObject, context: Context) -> nn.Module:
    """Convert `AuxiliaryLossTable.lua`, whose index counts from 1."""
    return AuxiliaryLossTable(int(source.get("i", 1)) - 1)


@layer
class DepthExpand2x(nn.Module):
    """`DepthExpand2x.lua`: turns four channels into one of twice the height and width.

    The channels of each of the four pixels are one block; `torch.nn.PixelShuffle` interleaves them.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, 4·C, H, W) to (N, C, 2·H, 2·W)."""
        blocks: torch.Tensor = input.unflatten(1, (2, 2, input.shape[1] // 4))
        return blocks.permute(0, 3, 4, 1, 5, 2).flatten(4, 5).flatten(2, 3)


@register("w2nn.DepthExpand2x")
def depth_expand2x(source: LuaObject, context: Context) -> nn.Module:
    """Convert `DepthExpand2x.lua`: depth to space by 2×2."""
    return DepthExpand2x()


@register("w2nn.EdgeFilter", "w2nn.RandomBinaryConvolution")
def fixed_convolution(source: LuaObject, context: Context) -> nn.Module:
    """Convert `EdgeFilter.lua` or `RandomBinaryConvolution.lua`: a frozen convolution."""
    module = convert_as("nn.SpatialConvolution", source, context)
    context.note("frozen: Torch7 never trains its weight")
    return module.requires_grad_(False)


@register("w2nn.GradWeight")
def grad_weight(source: LuaObject, context: Context) -> nn.Module:
    """Convert `GradWeight.lua`: the identity with a scaled gradient."""
    return GradientReversal(-float(source["constant_scalar"]))


@register("w2nn.LeakyReLU")
def leaky_relu(source: LuaObject, context: Context) -> nn.Module:
    """Convert `LeakyReLU_deprecated.lua`, which was nn.LeakyReLU before torch/nn had one."""
    return convert_as("nn.LeakyReLU", source, context)


@register("w2nn.Print", "w2nn.PrintTable")
def print_input(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Print.lua` or `PrintTable.lua` to the identity; in Torch7 they print their input."""
    context.note("inputs are not printed")
    return nn.Identity()
