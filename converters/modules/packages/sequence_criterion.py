"""Criterions of rnn for sequences (`SequencerCriterion.lua`, `RepeaterCriterion.lua`, …)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class SequencerCriterion(nn.Module):
    """`SequencerCriterion.lua`: the sum of a criterion over the steps of a sequence.

    Args:
        criterion: The criterion of one step.
        size_average: Whether to divide the sum by the number of steps.
    """

    def __init__(self, criterion: nn.Module, size_average: bool = False) -> None:
        super().__init__()
        self.criterion = criterion
        self.size_average = size_average

    def forward(
        self, input: list[Any] | torch.Tensor, target: list[Any] | torch.Tensor
    ) -> torch.Tensor:
        """Map T outputs and T targets, as lists or as tensors (T, …), to a scalar."""
        pairs = zip(input, target, strict=True)
        losses = torch.stack([self.criterion(*pair) for pair in pairs])
        return losses.mean() if self.size_average else losses.sum()


@register("nn.SequencerCriterion")
def sequencer_criterion(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SequencerCriterion.lua`: a criterion summed over the steps, or their mean."""
    criterion = context.convert(source["criterion"], ".criterion")
    return SequencerCriterion(criterion, bool(source.get("sizeAverage", False)))


@layer
class RepeaterCriterion(nn.Module):
    """`RepeaterCriterion.lua`: the sum of a criterion over the steps, with one target for all.

    Args:
        criterion: The criterion of one step.
    """

    def __init__(self, criterion: nn.Module) -> None:
        super().__init__()
        self.criterion = criterion

    def forward(self, input: list[Any], target: Any) -> torch.Tensor:
        """Map T outputs and one target to a scalar."""
        return torch.stack([self.criterion(step, target) for step in input]).sum()


@register("nn.RepeaterCriterion")
def repeater_criterion(source: LuaObject, context: Context) -> nn.Module:
    """Convert `RepeaterCriterion.lua`: a criterion with one target for all steps."""
    return RepeaterCriterion(context.convert(source["criterion"], ".criterion"))


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
        first = input
        while isinstance(first, list):
            first = first[0]
        loss: torch.Tensor
        kept = (first != 0).reshape(len(first), -1).any(1)
        if kept.any():
            loss = self.criterion(kept_rows(input, kept), kept_rows(target, kept))
        else:
            loss = first.sum() * 0
        return loss


def kept_rows(value: Any, kept: torch.Tensor) -> Any:
    """Select examples of a tensor, or of each tensor of a list, by a boolean tensor."""
    return [kept_rows(item, kept) for item in value] if isinstance(value, list) else value[kept]


@register("nn.MaskZeroCriterion")
def mask_zero_criterion(source: LuaObject, context: Context) -> nn.Module:
    """Convert `MaskZeroCriterion.lua`: a criterion without examples that are all zeros."""
    criterion = context.convert(source["criterion"], ".criterion")
    return MaskZeroCriterion(criterion, int(source["nInputDim"]))
