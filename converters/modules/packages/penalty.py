"""Layers that return their input and add a penalty to the gradient.

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
from .recurrent import RECURRENT


class AddPenalty(torch.autograd.Function):
    """Returns a tensor unchanged, and adds a scalar penalty to the loss that is differentiated."""

    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
        """Return the input; the penalty takes part in the backward pass only."""
        return input.view_as(input)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the gradients of loss + penalty."""
        return grad_output, grad_output.new_ones(())


@layer
class TotalVariation(nn.Module):
    """`TotalVariation.lua`: the identity with a penalty on differences between neighboring pixels.

    The penalty is half the sum of the squared differences; it appears in the gradient only.

    Args:
        strength: Weight of the penalty.
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to the same shape."""
        pixel = input[..., :-1, :-1]
        horizontal, vertical = pixel - input[..., :-1, 1:], pixel - input[..., 1:, :-1]
        penalty = (horizontal.square().sum() + vertical.square().sum()) * (self.strength / 2)
        output: torch.Tensor = AddPenalty.apply(input, penalty)
        return output

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.strength}"


@register("nn.TotalVariation", "nn.TVLoss")
def total_variation(source: LuaObject, context: Context) -> nn.Module:
    """Convert `TotalVariation.lua`, or `TVLoss` of neural-style."""
    return TotalVariation(source["strength"])


@layer
class CategoricalEntropy(nn.Module):
    """`CategoricalEntropy.lua`: the identity with a gradient that increases the batch's entropy.

    Args:
        scale: Weight of the entropy.
        min_entropy: The entropy above which a batch gets no penalty; None means no limit.
    """

    def __init__(self, scale: float = 1.0, min_entropy: float | None = None) -> None:
        super().__init__()
        self.scale = scale
        self.min_entropy = min_entropy

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map probabilities (N, classes) to the same shape."""
        fractions = input.sum(0) / input.detach().sum()
        entropy = -(fractions * (fractions + 1e-6).log()).sum()
        penalty = entropy * (-self.scale / input.shape[0])
        if self.min_entropy is not None:
            penalty = torch.where(entropy < self.min_entropy, penalty, torch.zeros_like(penalty))
        output: torch.Tensor = AddPenalty.apply(input, penalty)
        return output


@register("nn.CategoricalEntropy", ignored=("module", "modules", "minusOne", "sizeAverage", "_mul"))
def categorical_entropy(source: LuaObject, context: Context) -> nn.Module:
    """Convert `CategoricalEntropy.lua`: the identity with a penalty on low entropy."""
    return CategoricalEntropy(source.get("scale", 1), source.get("minEntropy"))


@layer
class NormStabilizer(nn.Module):
    """`NormStabilizer.lua`: returns h; training mode adds a penalty to the gradient.

    The penalty is the mean over the batch of beta · (‖h(t)‖ - ‖h(t-1)‖)².

    Args:
        beta: Weight of the penalty.
    """

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta
        self.step_state: list[torch.Tensor] | None = None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, hidden) to the same shape."""
        output = input
        if self.training and self.step_state:
            change = input.norm(dim=1) - self.step_state[0].norm(dim=1)
            output = AddPenalty.apply(input, self.beta * change.square().mean())
        if self.step_state is not None:
            self.step_state = [input]
        return output

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"beta={self.beta}"


@register("nn.NormStabilizer", ignored=RECURRENT)
def norm_stabilizer(source: LuaObject, context: Context) -> nn.Module:
    """Convert `NormStabilizer.lua`: a penalty on changes of the norm of h between steps."""
    return NormStabilizer(source["beta"])
