"""Networks of XNOR-Net, whose convolutions are binary (`BinActiveZ.lua`, `util.lua`).

The file holds the real weights. Before every run the scripts put the binary ones in their place:
for all convolutions but the first and the last, the sign of each weight times the mean absolute
value of its filter. Here the convolution does that itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context, Note
from ..registry import layer, register
from .dpnn import StraightThrough


class _Sign(torch.autograd.Function):
    """The sign, with the gradient of a clipped identity."""

    @staticmethod
    def forward(ctx: Any, input: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(input)
        return input.sign()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> torch.Tensor:
        (input,) = ctx.saved_tensors
        grad: torch.Tensor = grad_outputs[0] * (input.abs() < 1)
        return grad


@layer
class Sign(nn.Module):
    """`BinActiveZ.lua`: the sign, 0 at 0; the gradient passes between -1 and 1."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map any shape to the same shape."""
        output: torch.Tensor = _Sign.apply(input)
        return output


@layer
class SignConv2d(nn.Conv2d):
    """A convolution with the signs of its weight, times the mean absolute value of each filter.

    The arguments are those of `torch.nn.Conv2d`. The weight keeps its real values, whose gradient
    is that of the binary ones.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, out_channels, H', W'), or both without N."""
        real = self.weight.detach()
        binary = real.sign() * real.abs().mean(dim=(1, 2, 3), keepdim=True)
        weight: torch.Tensor = StraightThrough.apply(self.weight, binary)
        output: torch.Tensor = self._conv_forward(input, weight, self.bias)
        return output


@register("nn.BinActiveZ")
def bin_active_z(source: LuaObject, context: Context) -> nn.Module:
    """Convert `BinActiveZ.lua`: the sign, and binary convolutions in the network around it."""
    context.when_done(make_convolutions_binary)
    return Sign()


def make_convolutions_binary(context: Context) -> None:
    """Make the convolutions of a network binary, all but the first and the last.

    A part of a network that begins with a sign has neither of them: all of it is binary.
    """
    found = [
        entry
        for entry in context.layers
        if isinstance(entry.module, (nn.Conv2d, Sign))
        and entry.source.class_name.rpartition(".")[2] in ("SpatialConvolution", "BinActiveZ")
    ]
    convolutions = [entry for entry in found if isinstance(entry.module, nn.Conv2d)]
    if found and isinstance(found[0].module, nn.Conv2d):
        convolutions = convolutions[1:-1]
    for entry in convolutions:
        # The same layer with another forward: whatever refers to it stays right.
        entry.module.__class__ = SignConv2d
    if convolutions:
        text = (
            f"{len(convolutions)} convolutions are binary, as XNOR-Net's scripts make them before "
            "every run: the sign of a weight times the mean absolute value of its filter"
        )
        context.notes.append(Note(context.path, context.layers[-1].source.class_name, text))
