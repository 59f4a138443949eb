"""Layers that pass their input on and add a penalty to the loss, which only gradients show.

`TotalVariation.lua` of fast-neural-style, `CategoricalEntropy.lua` of dpnn, `NormStabilizer.lua`
of rnn.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


class AddPenalty(torch.autograd.Function):
    """Passes a tensor on, and makes a penalty (a scalar) part of whatever loss is minimized."""

    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
        """The input; the penalty is only there to be differentiated."""
        return input.view_as(input)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The gradient of (loss + penalty)."""
        return grad_output, grad_output.new_ones(())


@layer
class TotalVariation(nn.Module):
    """`TotalVariation.lua`: the identity; half the squared differences of neighbours are a penalty.

    Args:
        strength: weight of the penalty, which only the gradient shows.
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) → the same."""
        corner = input[..., :-1, :-1]
        across, down = corner - input[..., :-1, 1:], corner - input[..., 1:, :-1]
        penalty = (across.square().sum() + down.square().sum()) * (self.strength / 2)
        return AddPenalty.apply(input, penalty)

    def extra_repr(self) -> str:
        """The weight, as printed in the parent's listing."""
        return f"{self.strength}"


@register("nn.TotalVariation", "nn.TVLoss")
def total_variation(source: LuaObject, context: Context) -> nn.Module:
    """`TotalVariation.lua`, and `TVLoss` of neural-style."""
    return TotalVariation(source["strength"])


@layer
class CategoricalEntropy(nn.Module):
    """`CategoricalEntropy.lua`: the identity, whose gradient also raises the batch's entropy.

    Args:
        scale: weight of the entropy.
        min_entropy: a batch whose entropy is larger is left alone.
    """

    def __init__(self, scale: float = 1.0, min_entropy: float | None = None) -> None:
        super().__init__()
        self.scale = scale
        self.min_entropy = min_entropy

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Probabilities (N, classes) → the same."""
        fractions = input.sum(0) / input.detach().sum()
        entropy = -(fractions * (fractions + 1e-6).log()).sum()
        penalty = entropy * (-self.scale / input.shape[0])
        if self.min_entropy is not None:
            penalty = torch.where(entropy < self.min_entropy, penalty, torch.zeros_like(penalty))
        return AddPenalty.apply(input, penalty)


@register("nn.CategoricalEntropy")
def categorical_entropy(source: LuaObject, context: Context) -> nn.Module:
    """`CategoricalEntropy.lua`."""
    return CategoricalEntropy(source.get("scale", 1), source.get("minEntropy"))


@layer
class NormStabilizer(nn.Module):
    """`NormStabilizer.lua`: passes h on; in training it adds a penalty to the gradient.

    The penalty is the mean over the batch of beta · (‖h(t)‖ - ‖h(t-1)‖)².

    Args:
        beta: weight of the penalty.
    """

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta
        self.step_state: list[torch.Tensor] | None = None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, hidden) → the same."""
        output = input
        if self.training and self.step_state:
            change = input.norm(dim=1) - self.step_state[0].norm(dim=1)
            output = AddPenalty.apply(input, self.beta * change.square().mean())
        if self.step_state is not None:
            self.step_state = [input]
        return output

    def extra_repr(self) -> str:
        """The weight, as printed in the parent's listing."""
        return f"beta={self.beta}"


@register("nn.NormStabilizer")
def norm_stabilizer(source: LuaObject, context: Context) -> nn.Module:
    """`NormStabilizer.lua`."""
    return NormStabilizer(source["beta"])
