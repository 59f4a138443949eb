"""Small layers of rnn: parts of recurrent layers, reversal of sequences and sequence dropout."""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register
from .alias import convert_as


@layer
class ScalarAdd(nn.Module):
    """`SAdd.lua`: input + addend, or its negative.

    Args:
        addend: The number to add.
        negate: Whether to negate the sum.
    """

    def __init__(self, addend: float, negate: bool = False) -> None:
        super().__init__()
        self.addend = addend
        self.negate = negate

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map any shape to the same shape."""
        return -(input + self.addend) if self.negate else input + self.addend

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.addend}, negate={self.negate}"


@register("nn.SAdd")
def scalar_add(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SAdd.lua`: a number added to the input, optionally negated."""
    return ScalarAdd(source["addend"], bool(source.get("negate", False)))


@layer
class ReverseSequence(nn.Module):
    """`SeqReverseSequence.lua`: reverses a tensor along a dimension.

    Args:
        dim: The dimension.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map any shape to the same shape."""
        return input.flip(self.dim)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"dim={self.dim}"


@register("nn.SeqReverseSequence", "nn.ReverseSequence")
def reverse_sequence(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SeqReverseSequence.lua`, or `ReverseSequence.lua` of torch-rnn."""
    return ReverseSequence(int(source["dim"]) - 1)


@layer
class ExpandAs(nn.Module):
    """`ExpandAs.lua`: expands the second of two tensors to the shape of the first."""

    def forward(self, input: list[torch.Tensor]) -> list[torch.Tensor]:
        """Map `[a, b]` to `[a, b expanded as a]`."""
        return [input[0], input[1].expand_as(input[0])]


@register("nn.ExpandAs")
def expand_as(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ExpandAs.lua`: the second of two tensors expanded as the first."""
    return ExpandAs()


@layer
class SeqDropout(nn.Module):
    """`SeqDropout.lua`: dropout that drops the same features at every step of a sequence.

    Args:
        p: Probability of dropping a feature.
        scale_in_training: Whether training mode divides by 1-p, as `torch.nn.Dropout` does;
            otherwise evaluation mode multiplies by 1-p.
        stochastic_inference: Whether to drop features in evaluation mode too.
    """

    def __init__(
        self, p: float, scale_in_training: bool = True, stochastic_inference: bool = False
    ) -> None:
        super().__init__()
        self.p = p
        self.scale_in_training = scale_in_training
        self.stochastic_inference = stochastic_inference

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (T, …) to the same shape."""
        if self.training or self.stochastic_inference:
            kept = torch.rand_like(input[:1]).ge(self.p).to(input.dtype)
            return input * (kept / (1 - self.p) if self.scale_in_training else kept)
        return input if self.scale_in_training else input * (1 - self.p)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"p={self.p}"


@register("nn.SeqDropout")
def seq_dropout(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SeqDropout.lua`: dropout of the same features at every step."""
    return SeqDropout(
        source["p"], bool(source.get("v2", False)), bool(source.get("stochastic_inference", False))
    )


@register("nn.CopyGrad")
def copy_grad(source: LuaObject, context: Context) -> nn.Module:
    """Convert `CopyGrad.lua`: the identity (in Torch7 it copies the gradient)."""
    return nn.Identity()


@register("nn.LinearNoBias")
def linear_no_bias(source: LuaObject, context: Context) -> nn.Module:
    """Convert `LinearNoBias.lua`; the first version has a bias of zeros that is never trained."""
    return convert_as("nn.Linear", source, context, bias=None)
