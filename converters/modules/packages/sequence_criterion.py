"""Criterions of rnn over sequences (`SequencerCriterion.lua`, `RepeaterCriterion.lua`, …)."""

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
        criterion: the criterion of one step.
    """

    def __init__(self, criterion: nn.Module) -> None:
        super().__init__()
        self.criterion = criterion

    def forward(self, input: list[Any], target: list[Any]) -> torch.Tensor:
        """T outputs and T targets → a scalar."""
        pairs = zip(input, target, strict=True)
        return torch.stack([self.criterion(step, goal) for step, goal in pairs]).sum()


@register("nn.SequencerCriterion")
def sequencer_criterion(source: LuaObject, context: Context) -> nn.Module:
    """`SequencerCriterion.lua`."""
    return SequencerCriterion(context.convert(source["criterion"], ".criterion"))


@layer
class RepeaterCriterion(nn.Module):
    """`RepeaterCriterion.lua`: SequencerCriterion with the same target at every step.

    Args:
        criterion: the criterion of one step.
    """

    def __init__(self, criterion: nn.Module) -> None:
        super().__init__()
        self.criterion = criterion

    def forward(self, input: list[Any], target: Any) -> torch.Tensor:
        """T outputs and one target → a scalar."""
        return torch.stack([self.criterion(step, target) for step in input]).sum()


@register("nn.RepeaterCriterion")
def repeater_criterion(source: LuaObject, context: Context) -> nn.Module:
    """`RepeaterCriterion.lua`."""
    return RepeaterCriterion(context.convert(source["criterion"], ".criterion"))


@layer
class MaskZeroCriterion(nn.Module):
    """`MaskZeroCriterion.lua`: a criterion of the examples whose input is not all zeros.

    Args:
        criterion: the criterion.
        input_dims: dimensions of one example of the input's first tensor.
    """

    def __init__(self, criterion: nn.Module, input_dims: int) -> None:
        super().__init__()
        self.criterion = criterion
        self.input_dims = input_dims

    def forward(self, input: Any, target: Any) -> torch.Tensor:
        """(N, …) and N targets → a scalar, zero where no example is left."""
        first = input
        while isinstance(first, list):
            first = first[0]
        kept = (first != 0).flatten(1).any(1)
        if not kept.any():
            return first.sum() * 0
        return self.criterion(rows(input, kept), rows(target, kept))


def rows(value: Any, kept: torch.Tensor) -> Any:
    """The examples of a tensor, or of every tensor of a list, that are kept."""
    return [rows(part, kept) for part in value] if isinstance(value, list) else value[kept]


@register("nn.MaskZeroCriterion")
def mask_zero_criterion(source: LuaObject, context: Context) -> nn.Module:
    """`MaskZeroCriterion.lua`."""
    criterion = context.convert(source["criterion"], ".criterion")
    return MaskZeroCriterion(criterion, int(source["nInputDim"]))
