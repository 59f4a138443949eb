"""Layers of dpnn that draw what they give, to be trained by rewards (`Reinforce.lua`, …).

In evaluation mode they give what they would have drawn from. The rewards that trained them came
from a criterion that called `reinforce()`; here no gradient passes through a draw.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class ReinforceNormal(nn.Module):
    """`ReinforceNormal.lua`: a normal draw with the input as its mean.

    Args:
        std: standard deviation; None where the input is `[mean, std]`.
        stochastic: draw in evaluation mode too.
    """

    def __init__(self, std: float | list[Any] | None, stochastic: bool = False) -> None:
        super().__init__()
        self.std = std
        self.stochastic = stochastic

    def forward(self, input: Any) -> torch.Tensor:
        """A mean of any shape, or `[mean, std]` → the mean's shape."""
        mean, std = input if isinstance(input, list) else (input, self.std)
        if not (self.training or self.stochastic):
            return mean
        return (mean + torch.randn_like(mean) * torch.as_tensor(std).to(mean)).detach()


@register("nn.ReinforceNormal")
def reinforce_normal(source: LuaObject, context: Context) -> nn.Module:
    """`ReinforceNormal.lua`; `stdev` is a number or a tensor for one example."""
    std = source.get("stdev")
    std = std.tolist() if isinstance(std, np.ndarray) else std
    _note_rewards(context)
    return ReinforceNormal(std, bool(source.get("stochastic", False)))


@layer
class ReinforceBernoulli(nn.Module):
    """`ReinforceBernoulli.lua`: 1 with the probability that the input gives, else 0.

    Args:
        stochastic: draw in evaluation mode too.
    """

    def __init__(self, stochastic: bool = False) -> None:
        super().__init__()
        self.stochastic = stochastic

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Probabilities of any shape → the same shape."""
        if not (self.training or self.stochastic):
            return input
        return torch.rand_like(input).lt(input).to(input.dtype)


@register("nn.ReinforceBernoulli")
def reinforce_bernoulli(source: LuaObject, context: Context) -> nn.Module:
    """`ReinforceBernoulli.lua`."""
    _note_rewards(context)
    return ReinforceBernoulli(bool(source.get("stochastic", False)))


@layer
class ReinforceCategorical(nn.Module):
    """`ReinforceCategorical.lua`: a class drawn with the input's probabilities, as one-hot.

    Args:
        stochastic: draw in evaluation mode too.
    """

    def __init__(self, stochastic: bool = False) -> None:
        super().__init__()
        self.stochastic = stochastic

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Probabilities (N, classes) → the same shape."""
        if not (self.training or self.stochastic):
            return input
        drawn = input.detach().multinomial(1)
        return torch.zeros_like(input).scatter(1, drawn, 1.0)


@register("nn.ReinforceCategorical")
def reinforce_categorical(source: LuaObject, context: Context) -> nn.Module:
    """`ReinforceCategorical.lua`."""
    _note_rewards(context)
    return ReinforceCategorical(bool(source.get("stochastic", False)))


@layer
class ReinforceGamma(nn.Module):
    """`ReinforceGamma.lua`: a Gamma draw; in evaluation mode its mean.

    Args:
        scale: of the distribution; None where the input is `[shape, scale]`.
        stochastic: draw in evaluation mode too.
    """

    def __init__(self, scale: float | list[Any] | None, stochastic: bool = False) -> None:
        super().__init__()
        self.scale = scale
        self.stochastic = stochastic

    def forward(self, input: Any) -> torch.Tensor:
        """Shape parameters of any shape, or `[shape, scale]` → the same shape."""
        shape, scale = input if isinstance(input, list) else (input, self.scale)
        scale = torch.as_tensor(scale).to(shape)
        if not (self.training or self.stochastic):
            return shape * scale
        return torch.distributions.Gamma(shape.detach(), 1 / scale.detach()).sample()


@register("nn.ReinforceGamma")
def reinforce_gamma(source: LuaObject, context: Context) -> nn.Module:
    """`ReinforceGamma.lua`; `scale` is a number or a tensor for one example."""
    scale = source.get("scale")
    scale = scale.tolist() if isinstance(scale, np.ndarray) else scale
    _note_rewards(context)
    return ReinforceGamma(scale, bool(source.get("stochastic", False)))


def _note_rewards(context: Context) -> None:
    context.note("trained by rewards in Torch7: in training it draws, and no gradient passes")
