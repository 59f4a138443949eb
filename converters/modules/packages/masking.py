"""Layers of rnn for examples that are all zeros, which pad a batch (`MaskZero.lua`, …)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..layers.container import Container
from ..layers.embedding import LookupTable
from ..registry import layer, register
from .recurrent import first_tensor


def is_padding(input: Any, example_dims: int) -> torch.Tensor:
    """Return which examples of an input are all zeros, as booleans in the shape of the batch.

    Args:
        input: A tensor, or a (nested) list of which the first tensor counts.
        example_dims: Number of dimensions of one example of it.
    """
    first = first_tensor(input)
    batch_dims = first.dim() - example_dims
    return (first == 0).unsqueeze(-1).flatten(batch_dims).all(-1)


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


def kept_rows(value: Any, kept: torch.Tensor) -> Any:
    """Select examples of a tensor, or of each tensor of a list, by a boolean tensor."""
    return [kept_rows(item, kept) for item in value] if isinstance(value, list) else value[kept]


def spread(value: Any, kept: torch.Tensor) -> Any:
    """Return a tensor, or a list of tensors, with rows of zeros where `kept` is false."""
    if isinstance(value, list):
        return [spread(item, kept) for item in value]
    output = value.new_zeros([len(kept), *value.shape[1:]])
    output[kept] = value
    return output


@layer
class MaskZero(Container):
    """`MaskZero.lua`: runs a module and sets the output to zero where the whole input is zero.

    Args:
        modules: The module inside.
        input_dims: Number of dimensions of one example of the input's first tensor.
    """

    def __init__(self, *modules: nn.Module, input_dims: int) -> None:
        super().__init__(*modules)
        self.input_dims = input_dims

    def forward(self, input: Any) -> Any:
        """Map (N, …), or one example without N; input and output may be (nested) lists."""
        return mask(self[0](input), is_padding(input, self.input_dims))


@register("nn.MaskZero", ignored=("zeroMask", "batchmode"))
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
        kept = ~is_padding(input, self.input_dims)
        if torch.compiler.is_exporting() or not kept.dim() or not kept.any():
            return super().forward(input)
        return spread(self[0](kept_rows(input, kept)), kept)


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
        #: The first row is that of index 0.
        self.largest_index = rows - 1

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map indices (…) to (…, features)."""
        index = input.long()
        output: torch.Tensor = mask(super().forward(index + 1), index == 0)
        return output

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.rows}, {self.features}"


@register(
    "nn.LookupTableMaskZero", ignored=("copiedInput", "shouldScaleGradByFreq", "paddingValue")
)
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
class MaskZeroCriterion(nn.Module):
    """`MaskZeroCriterion.lua`: a criterion that skips examples whose input is all zeros.

    Args:
        criterion: The criterion.
        input_dims: Number of dimensions of one example of the input's first tensor.
    """

    def __init__(self, criterion: nn.Module, input_dims: int) -> None:
        super().__init__()
        self.criterion = criterion
        self.input_dims = input_dims

    def forward(self, input: Any, target: Any) -> torch.Tensor:
        """Map (N, …) and N targets to a scalar, which is zero if all examples are skipped."""
        loss: torch.Tensor
        kept = ~is_padding(input, self.input_dims)
        if kept.any():
            loss = self.criterion(kept_rows(input, kept), kept_rows(target, kept))
        else:
            loss = first_tensor(input).sum() * 0
        return loss


@register("nn.MaskZeroCriterion", ignored=("input", "target", "zeroMask"))
def mask_zero_criterion(source: LuaObject, context: Context) -> nn.Module:
    """Convert `MaskZeroCriterion.lua`: a criterion without examples that are all zeros."""
    criterion = context.convert(source["criterion"], ".criterion")
    return MaskZeroCriterion(criterion, int(source["nInputDim"]))
