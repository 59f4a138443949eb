"""Small layers and criterions of rnn: masks, padding, and what its recurrent layers are made of."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register
from .alias import convert_as


@layer
class ScalarAdd(nn.Module):
    """`SAdd.lua`: input + addend, or its negative.

    Args:
        addend: the number.
        negate: change the sign of the sum.
    """

    def __init__(self, addend: float, negate: bool = False) -> None:
        super().__init__()
        self.addend = addend
        self.negate = negate

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Any shape → the same."""
        return -(input + self.addend) if self.negate else input + self.addend

    def extra_repr(self) -> str:
        """The settings, as printed in the parent's listing."""
        return f"{self.addend}, negate={self.negate}"


@register("nn.SAdd")
def scalar_add(source: LuaObject, context: Context) -> nn.Module:
    """`SAdd.lua`."""
    return ScalarAdd(source["addend"], bool(source.get("negate", False)))


@layer
class MaskZero(nn.ModuleList):
    """`MaskZero.lua`: zeros for the examples whose input is all zeros.

    Args:
        modules: the module inside.
        input_dims: dimensions of one example of the input's first tensor.
    """

    def __init__(self, *modules: nn.Module, input_dims: int) -> None:
        super().__init__(modules)
        self.input_dims = input_dims

    def forward(self, input: Any) -> Any:
        """(N, …) or without N; input and output may be (nested) lists."""
        first = input
        while isinstance(first, list):
            first = first[0]
        batch_dims = first.dim() - self.input_dims
        return mask(self[0](input), (first == 0).flatten(batch_dims).all(-1))


def mask(value: Any, padding: torch.Tensor) -> Any:
    """The value with zeros where `padding`, of its first dimensions, is true."""
    if isinstance(value, list):
        return [mask(part, padding) for part in value]
    trailing = [1] * (value.dim() - padding.dim())
    return value.masked_fill(padding.reshape([*padding.shape, *trailing]), 0)


@register("nn.MaskZero", "nn.TrimZero")
def mask_zero(source: LuaObject, context: Context) -> nn.Module:
    """`MaskZero.lua`; `TrimZero.lua` leaves those examples out, which gives the same."""
    return MaskZero(*context.children(source), input_dims=int(source["nInputDim"]))


@layer
class LookupTableMaskZero(nn.Module):
    """`LookupTableMaskZero.lua`: rows of a table by index from 1; index 0 gives zeros.

    Args:
        rows: rows of the table, the unused one of index 0 included.
        features: length of a row.
    """

    def __init__(self, rows: int, features: int) -> None:
        super().__init__()
        self.rows = rows
        self.features = features
        self.weight = nn.Parameter(torch.empty(rows, features))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Indices (…) → (…, features)."""
        index = input.long()
        return mask(functional.embedding(index, self.weight), index == 0)

    def extra_repr(self) -> str:
        """The sizes, as printed in the parent's listing."""
        return f"{self.rows}, {self.features}"


@register("nn.LookupTableMaskZero")
def lookup_table_mask_zero(source: LuaObject, context: Context) -> nn.Module:
    """`LookupTableMaskZero.lua`."""
    weight = source["weight"]
    with torch.device("meta"):
        module = LookupTableMaskZero(*weight.shape)
    return context.fill(module, weight=weight)


@layer
class ReverseSequence(nn.Module):
    """`SeqReverseSequence.lua`: a tensor in reverse order along a dimension.

    Args:
        dim: the dimension.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Any shape → the same."""
        return input.flip(self.dim)

    def extra_repr(self) -> str:
        """The dimension, as printed in the parent's listing."""
        return f"dim={self.dim}"


@register("nn.SeqReverseSequence", "nn.ReverseSequence")
def reverse_sequence(source: LuaObject, context: Context) -> nn.Module:
    """`SeqReverseSequence.lua`, and `ReverseSequence.lua` of torch-rnn."""
    return ReverseSequence(int(source["dim"]) - 1)


@layer
class ExpandAs(nn.Module):
    """`ExpandAs.lua`: the second of two tensors in the shape of the first."""

    def forward(self, input: list[torch.Tensor]) -> list[torch.Tensor]:
        """`[a, b]` → `[a, b expanded]`."""
        return [input[0], input[1].expand_as(input[0])]


@register("nn.ExpandAs")
def expand_as(source: LuaObject, context: Context) -> nn.Module:
    """`ExpandAs.lua`."""
    return ExpandAs()


@layer
class SeqDropout(nn.Module):
    """`SeqDropout.lua`: dropout that leaves out the same features at every step.

    Args:
        p: share of the features that is left out.
        scale_in_training: divide by 1-p in training; otherwise multiply by it in evaluation.
        stochastic_inference: leave features out in evaluation too.
    """

    def __init__(
        self, p: float, scale_in_training: bool = True, stochastic_inference: bool = False
    ) -> None:
        super().__init__()
        self.p = p
        self.scale_in_training = scale_in_training
        self.stochastic_inference = stochastic_inference

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(T, …) → the same."""
        if self.training or self.stochastic_inference:
            kept = torch.rand_like(input[:1]).ge(self.p).to(input.dtype)
            return input * (kept / (1 - self.p) if self.scale_in_training else kept)
        return input if self.scale_in_training else input * (1 - self.p)

    def extra_repr(self) -> str:
        """The share, as printed in the parent's listing."""
        return f"p={self.p}"


@register("nn.SeqDropout")
def seq_dropout(source: LuaObject, context: Context) -> nn.Module:
    """`SeqDropout.lua`."""
    return SeqDropout(
        source["p"], bool(source.get("v2", False)), bool(source.get("stochastic_inference", False))
    )


@register("nn.CopyGrad")
def copy_grad(source: LuaObject, context: Context) -> nn.Module:
    """`CopyGrad.lua`: the identity."""
    return nn.Identity()


@register("nn.LinearNoBias")
def linear_no_bias(source: LuaObject, context: Context) -> nn.Module:
    """`LinearNoBias.lua`; its first version kept a bias of zeros that was never trained."""
    return convert_as("nn.Linear", source, context, bias=None)
