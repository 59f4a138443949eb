"""Small layers of rnn: masking, padding, sequence dropout and the parts of recurrent layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..layers.embedding import LookupTable
from ..registry import layer, register
from .alias import convert_as
from .sequence_criterion import kept_rows


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
class MaskZero(nn.ModuleList):
    """`MaskZero.lua`: runs a module and sets the output to zero where the whole input is zero.

    Args:
        modules: The module inside.
        input_dims: Number of dimensions of one example of the input's first tensor.
    """

    def __init__(self, *modules: nn.Module, input_dims: int) -> None:
        super().__init__(modules)
        self.input_dims = input_dims

    def forward(self, input: Any) -> Any:
        """Map (N, …), or one example without N; input and output may be (nested) lists."""
        first = first_tensor(input)
        batch_dims = first.dim() - self.input_dims
        return mask(self[0](input), (first == 0).flatten(batch_dims).all(-1))


def first_tensor(value: Any) -> torch.Tensor:
    """Return the first tensor of a (nested) list, or the tensor itself."""
    while isinstance(value, list):
        value = value[0]
    tensor: torch.Tensor = value
    return tensor


def mask(value: Any, padding: torch.Tensor) -> Any:
    """Set a tensor, or each tensor of a list, to zero where `padding` is true.

    Args:
        value: The tensor, or a (nested) list of tensors.
        padding: A boolean tensor with the first dimensions of each.
    """
    if isinstance(value, list):
        return [mask(item, padding) for item in value]
    trailing = [1] * (value.dim() - padding.dim())
    return value.masked_fill(padding.reshape([*padding.shape, *trailing]), 0)


@register("nn.MaskZero")
def mask_zero(source: LuaObject, context: Context) -> nn.Module:
    """Convert `MaskZero.lua`: a module whose output is zero for an input of zeros."""
    return MaskZero(*context.children(source), input_dims=int(source["nInputDim"]))


@layer
class TrimZero(MaskZero):
    """`TrimZero.lua`: a MaskZero whose module does not see the examples that are zero.

    This matters where examples influence each other, as in batch normalization in training mode. An
    exported network computes all of them.

    Args:
        modules: The module inside.
        input_dims: Number of dimensions of one example of the input's first tensor.
    """

    def forward(self, input: Any) -> Any:
        """Map (N, …), or one example without N; input and output may be (nested) lists."""
        first = first_tensor(input)
        if torch.compiler.is_exporting() or first.dim() == self.input_dims:
            return super().forward(input)
        kept = (first != 0).reshape(len(first), -1).any(1)
        if not kept.any():
            return super().forward(input)
        return spread(self[0](kept_rows(input, kept)), kept)


def spread(value: Any, kept: torch.Tensor) -> Any:
    """Return a tensor, or a list of tensors, with rows of zeros where `kept` is false."""
    if isinstance(value, list):
        return [spread(item, kept) for item in value]
    output = value.new_zeros([len(kept), *value.shape[1:]])
    output[kept] = value
    return output


@register("nn.TrimZero")
def trim_zero(source: LuaObject, context: Context) -> nn.Module:
    """Convert `TrimZero.lua`: a module that skips the examples that are zero."""
    return TrimZero(*context.children(source), input_dims=int(source["nInputDim"]))


@layer
class LookupTableMaskZero(LookupTable):
    """`LookupTableMaskZero.lua`: an embedding of indices from 1; index 0 gives zeros.

    `torch.nn.Embedding` with `padding_idx=0` returns row 0, which need not be zero in a file.

    Args:
        rows: Number of rows of the table, including the unused row of index 0.
        features: Length of a row.
        max_norm: Largest norm of a row, None for no limit.
        norm_type: Exponent p of that norm.
    """

    def __init__(
        self, rows: int, features: int, max_norm: float | None = None, norm_type: float = 2.0
    ) -> None:
        super().__init__(rows, features, None, max_norm, norm_type)
        self.rows = rows
        self.features = features

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map indices (…) to (…, features)."""
        index = input.long()
        output: torch.Tensor = mask(super().forward(index + 1), index == 0)
        return output

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.rows}, {self.features}"


@register("nn.LookupTableMaskZero")
def lookup_table_mask_zero(source: LuaObject, context: Context) -> nn.Module:
    """Convert `LookupTableMaskZero.lua`: an embedding whose index 0 gives zeros."""
    weight = source["weight"]
    count, features = weight.shape
    with torch.device("meta"):
        module = LookupTableMaskZero(
            count, features, source.get("maxNorm"), source.get("normType") or 2.0
        )
    return context.fill(module, weight=weight)


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
