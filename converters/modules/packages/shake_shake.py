"""Residual networks with shaken branches (`shakeshakeblock.lua`, `mulconstantslices.lua`, …).

In training mode the two branches of a block are weighted by α and 1-α, which are drawn anew at
every pass, for each image or for the batch; their gradients by β and 1-β. Otherwise both are ½.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..layers.container import Container
from ..registry import layer, register


class _Weighted(torch.autograd.Function):
    """Multiplies a tensor by one factor, and its gradient by another one."""

    @staticmethod
    def forward(
        ctx: Any, input: torch.Tensor, factor: torch.Tensor, gradient_factor: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(gradient_factor)
        return input * factor

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (factor,) = ctx.saved_tensors
        return grad_outputs[0] * factor, None, None


def shake(
    first: torch.Tensor, second: torch.Tensor, forward: bool, backward: bool, per_image: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight two branches as in training mode.

    Args:
        first: Output of the first branch (N, …).
        second: Output of the second branch (N, …).
        forward: Whether their weights are drawn, else they are ½.
        backward: Whether the weights of their gradients are drawn, else they are ½.
        per_image: Whether a weight is drawn for each image, else for the batch.
    """
    shape = [first.shape[0] if per_image else 1, *[1] * (first.dim() - 1)]
    alpha, beta = (
        torch.rand(shape, dtype=first.dtype, device=first.device)
        if drawn
        else first.new_full(shape, 0.5)
        for drawn in (forward, backward)
    )
    return _Weighted.apply(first, alpha, beta), _Weighted.apply(second, 1 - alpha, 1 - beta)


@layer
class ShakeShakeBlock(Container):
    """`shakeshakeblock.lua`: a residual block with two shaken branches.

    Args:
        modules: The two branches, whose last layer only holds the weight and does not run, and the
            skip connection.
        forward_shake: Whether training mode draws the weights of the branches.
        backward_shake: Whether it draws the weights of their gradients.
        per_image: Whether a weight is drawn for each image, else for the batch.
    """

    def __init__(
        self,
        *modules: nn.Module,
        forward_shake: bool = True,
        backward_shake: bool = True,
        per_image: bool = True,
    ) -> None:
        super().__init__(*modules)
        self.forward_shake = forward_shake
        self.backward_shake = backward_shake
        self.per_image = per_image

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to the output shape of the branches."""
        *branches, skip = self
        first, second = (self._without_weight(branch, input) for branch in branches)
        if self.training:
            options = self.forward_shake, self.backward_shake, self.per_image
            first, second = shake(first, second, *options)
        else:
            first, second = first * 0.5, second * 0.5
        output: torch.Tensor = skip(input) + first + second
        return output

    @staticmethod
    def _without_weight(branch: nn.Module, input: torch.Tensor) -> torch.Tensor:
        for module in list(branch.children())[:-1]:
            input = module(input)
        return input


def _options(source: LuaObject) -> dict[str, bool]:
    """Return the options of a layer, which are the strings 'true' and 'false'."""
    names = {
        "forward_shake": "forwardShake",
        "backward_shake": "backwardShake",
        "per_image": "shakeImage",
    }
    return {ours: str(source.get(lua, "true")).lower() == "true" for ours, lua in names.items()}


@register("nn.ShakeShakeBlock", ignored=("net1", "net2", "skip", "batchSize", "alpha", "beta"))
def shake_shake_block(source: LuaObject, context: Context) -> nn.Module:
    """Convert `shakeshakeblock.lua`; it sets the weights of its branches itself at every pass."""
    return ShakeShakeBlock(*context.children(source), **_options(source))


@layer
class ShakeShakeBranches(nn.Module):
    """`shakeshaketable.lua`: a list of a skip connection and two branches, which are weighted.

    Args:
        forward_shake: Whether training mode draws the weights of the branches.
        backward_shake: Whether it draws the weights of their gradients.
        per_image: Whether a weight is drawn for each image, else for the batch.
    """

    def __init__(
        self, forward_shake: bool = True, backward_shake: bool = True, per_image: bool = True
    ) -> None:
        super().__init__()
        self.forward_shake = forward_shake
        self.backward_shake = backward_shake
        self.per_image = per_image

    def forward(self, input: list[torch.Tensor]) -> list[torch.Tensor]:
        """Map `[skip, first, second]` to a list of the same shapes."""
        skip, first, second = input
        if not self.training:
            return [skip, first * 0.5, second * 0.5]
        options = self.forward_shake, self.backward_shake, self.per_image
        return [skip, *shake(first, second, *options)]


@register(
    "nn.ShakeShakeTable",
    fields=("constant_tensor", "forwardShake"),
    ignored=("constant_tensor", "batchSize", "alpha", "beta"),
)
def shake_shake_table(source: LuaObject, context: Context) -> nn.Module:
    """Convert `shakeshaketable.lua`: two weighted branches beside a skip connection."""
    return ShakeShakeBranches(**_options(source))


@layer
class MulSlices(nn.Module):
    """`mulconstantslices.lua`: multiplies each example of a batch by a number of its own.

    Args:
        size: Number of examples.
    """

    constants: torch.Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("constants", torch.ones(size))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, …), with N up to `size`, to the same shape."""
        constants = self.constants.to(input.dtype)[: input.shape[0]]
        return input * constants.reshape([-1, *[1] * (input.dim() - 1)])

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.size}"


@register("nn.MulConstantSlices", ignored=("inplace",))
def mul_constant_slices(source: LuaObject, context: Context) -> nn.Module:
    """Convert `mulconstantslices.lua`: one factor an example."""
    constants = source["constant_tensor"].reshape(-1)
    return context.fill(MulSlices(len(constants)), constants=constants)
