"""Layers that return their input: identities, casts, gradient changes (`Copy.lua`, …)."""

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
    """`GradientReversal.lua`: the identity; the gradient is multiplied by -factor.

    Args:
        factor: The factor.
    """

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the input."""
        output: torch.Tensor = _ReverseGradient.apply(input, self.factor)
        return output

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"factor={self.factor}"


class _PenaltyGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, weight: float, add: bool) -> torch.Tensor:
        ctx.save_for_backward(input)
        ctx.weight = weight
        ctx.add = add
        return input.view_as(input)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (input,) = ctx.saved_tensors
        penalty = input.sign() * ctx.weight
        return (penalty + grad_outputs[0] if ctx.add else penalty), None, None


@layer
class L1Penalty(nn.Module):
    """`L1Penalty.lua`: the identity; the gradient of weight · Σ|x| is added to the gradient.

    Args:
        weight: Weight of the penalty.
        size_average: Whether the weight is divided by the number of elements.
        provide_output: Whether the output's gradient is kept; otherwise only the penalty's is.
    """

    def __init__(
        self, weight: float, size_average: bool = False, provide_output: bool = True
    ) -> None:
        super().__init__()
        self.weight = weight
        self.size_average = size_average
        self.provide_output = provide_output

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the input."""
        weight = self.weight / input.numel() if self.size_average else self.weight
        output: torch.Tensor = _PenaltyGradient.apply(input, weight, self.provide_output)
        return output

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"weight={self.weight}"


@layer
class ZeroGrad(nn.Module):
    """`ZeroGrad.lua`: the identity; the gradient is zero."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the input."""
        return input.detach()


@layer
class Cast(nn.Module):
    """`Copy.lua`: a cast to another dtype.

    Args:
        dtype: Name of the dtype, such as `float32`.
    """

    def __init__(self, dtype: str) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map any shape to the same shape."""
        return input.to(getattr(torch, self.dtype))

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return self.dtype


@register("nn.Identity", "nn.Contiguous")
def identity(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Identity.lua` or `Contiguous.lua`: the input, unchanged."""
    return nn.Identity()


@register("nn.PrintSize", ignored=("prefix",))
def print_size(source: LuaObject, context: Context) -> nn.Module:
    """Convert `PrintSize.lua`: the identity; Torch7 prints the input's size."""
    context.note("sizes are not printed")
    return nn.Identity()


@register("nn.Copy")
def copy(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Copy.lua`: a cast from the class of `gradInput` to that of `output`."""
    input_class, output_class = (tensor_class(source.get(n)) for n in ("gradInput", "output"))
    if input_class is None or output_class is None:
        context.note("no fields gradInput and output, so the dtypes are unknown: nothing is cast")
        return nn.Identity()
    dtype = dtype_name(output_class)
    return nn.Identity() if dtype == dtype_name(input_class) else Cast(dtype)


@register("nn.GradientReversal")
def gradient_reversal(source: LuaObject, context: Context) -> nn.Module:
    """Convert `GradientReversal.lua`: gradient times -lambda; version 1 has no field `lambda`."""
    return GradientReversal(source.get("lambda", 1.0))


@register("nn.L1Penalty", ignored=("loss",))
def l1_penalty(source: LuaObject, context: Context) -> nn.Module:
    """Convert `L1Penalty.lua`: the gradient of an L1 penalty added to the gradient."""
    return L1Penalty(
        source["l1weight"], source.get("sizeAverage", False), source.get("provideOutput", True)
    )


@register("nn.ZeroGrad")
def zero_grad(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ZeroGrad.lua`: a zero gradient."""
    return ZeroGrad()
