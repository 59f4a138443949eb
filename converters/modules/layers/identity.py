"""Layers that pass their input on: identities, casts, changed gradients (`Copy.lua`, …)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..dtypes import dtype_name, tensor_class
from ..registry import layer, register


class _ReverseGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, factor: float) -> torch.Tensor:
        ctx.factor = factor
        return input.view_as(input)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return grad_outputs[0] * -ctx.factor, None


@layer
class GradientReversal(nn.Module):
    """`GradientReversal.lua`: the identity, whose gradient is turned round.

    Args:
        factor: the gradient is multiplied by its negative.
    """

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Any shape → the same tensor."""
        return _ReverseGradient.apply(input, self.factor)

    def extra_repr(self) -> str:
        """The factor."""
        return f"factor={self.factor}"


class _PenaltyGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, weight: float, passes: bool) -> torch.Tensor:
        ctx.save_for_backward(input)
        ctx.weight = weight
        ctx.passes = passes
        return input.view_as(input)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (input,) = ctx.saved_tensors
        penalty = input.sign() * ctx.weight
        return (penalty + grad_outputs[0] if ctx.passes else penalty), None, None


@layer
class L1Penalty(nn.Module):
    """`L1Penalty.lua`: the identity, whose gradient also holds that of `weight` · Σ|x|.

    Args:
        weight: of the penalty.
        size_average: divide the weight by the number of elements.
        provide_output: whether the gradient from above passes as well.
    """

    def __init__(
        self, weight: float, size_average: bool = False, provide_output: bool = True
    ) -> None:
        super().__init__()
        self.weight = weight
        self.size_average = size_average
        self.provide_output = provide_output

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Any shape → the same tensor."""
        weight = self.weight / input.numel() if self.size_average else self.weight
        return _PenaltyGradient.apply(input, weight, self.provide_output)

    def extra_repr(self) -> str:
        """The weight."""
        return f"weight={self.weight}"


@layer
class ZeroGrad(nn.Module):
    """`ZeroGrad.lua`: the identity, through which no gradient passes."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Any shape → the same tensor."""
        return input.detach()


@layer
class Cast(nn.Module):
    """`Copy.lua`: the same numbers in another type.

    Args:
        dtype: name of the type, such as `float32`.
    """

    def __init__(self, dtype: str) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Any shape → the same shape."""
        return input.to(getattr(torch, self.dtype))

    def extra_repr(self) -> str:
        """The type."""
        return self.dtype


@register("nn.Identity", "nn.Contiguous")
def identity(source: LuaObject, context: Context) -> nn.Module:
    """`Identity.lua`, `Contiguous.lua`: the input, whatever it is."""
    return nn.Identity()


@register("nn.PrintSize")
def print_size(source: LuaObject, context: Context) -> nn.Module:
    """`PrintSize.lua`: the identity that prints, in Torch7."""
    context.note("sizes are not printed")
    return nn.Identity()


@register("nn.Copy")
def copy(source: LuaObject, context: Context) -> nn.Module:
    """`Copy.lua`: `gradInput` has the type that comes in, `output` the one that goes out."""
    incoming, outgoing = tensor_class(source.get("gradInput")), tensor_class(source.get("output"))
    if incoming is None or outgoing is None:
        context.note("no gradInput and output to tell the types: nothing is cast")
        return nn.Identity()
    dtype = dtype_name(outgoing)
    return nn.Identity() if dtype == dtype_name(incoming) else Cast(dtype)


@register("nn.GradientReversal")
def gradient_reversal(source: LuaObject, context: Context) -> nn.Module:
    """`GradientReversal.lua`; `lambda` came with its version 2."""
    return GradientReversal(source.get("lambda", 1.0))


@register("nn.L1Penalty")
def l1_penalty(source: LuaObject, context: Context) -> nn.Module:
    """`L1Penalty.lua`."""
    return L1Penalty(
        source["l1weight"], source.get("sizeAverage", False), source.get("provideOutput", True)
    )


@register("nn.ZeroGrad")
def zero_grad(source: LuaObject, context: Context) -> nn.Module:
    """`ZeroGrad.lua`."""
    return ZeroGrad()
