"""Criterions of rnn for sequences (`SequencerCriterion.lua`, `RepeaterCriterion.lua`)."""

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


@register("nn.SequencerCriterion", ignored=("clones",))
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
