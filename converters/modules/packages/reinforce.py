"""Layers of dpnn that draw random outputs and are trained by REINFORCE (`Reinforce.lua`, …).

In evaluation mode they return the mean or the probabilities that they draw from. In Torch7 a
criterion trained them by calling `reinforce()` with a reward; here no gradient passes through.
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
    """`ReinforceNormal.lua`: draws from a normal distribution with the input as its mean.

    Args:
        std: Standard deviation, or None if the input is `[mean, std]`.
        stochastic: Whether to draw in evaluation mode too.
    """

    def __init__(self, std: float | list[Any] | None, stochastic: bool = False) -> None:
        super().__init__()
        self.std = std
        self.stochastic = stochastic

    def forward(self, input: Any) -> torch.Tensor:
        """Map a mean of any shape, or `[mean, std]`, to the shape of the mean."""
        mean: torch.Tensor
        mean, std = input if isinstance(input, list) else (input, self.std)
        if not (self.training or self.stochastic):
            return mean
        return (mean + torch.randn_like(mean) * torch.as_tensor(std).to(mean)).detach()


@register("nn.ReinforceNormal")
def reinforce_normal(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ReinforceNormal.lua`; `stdev` is a number, or a tensor for one example."""
    std = source.get("stdev")
    std = std.tolist() if isinstance(std, np.ndarray) else std
    _note_rewards(context)
    return ReinforceNormal(std, bool(source.get("stochastic", False)))


@layer
class ReinforceBernoulli(nn.Module):
    """`ReinforceBernoulli.lua`: draws 1 with the probability that is the input, otherwise 0.

    Args:
        stochastic: Whether to draw in evaluation mode too.
    """

    def __init__(self, stochastic: bool = False) -> None:
        super().__init__()
        self.stochastic = stochastic

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map probabilities of any shape to the same shape."""
        if not (self.training or self.stochastic):
            return input
        return torch.rand_like(input).lt(input).to(input.dtype)


@register("nn.ReinforceBernoulli")
def reinforce_bernoulli(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ReinforceBernoulli.lua`: draws of 0 or 1."""
    _note_rewards(context)
    return ReinforceBernoulli(bool(source.get("stochastic", False)))


@layer
class ReinforceCategorical(nn.Module):
    """`ReinforceCategorical.lua`: draws a class with the probabilities in the input, as one-hot.

    Args:
        stochastic: Whether to draw in evaluation mode too.
    """

    def __init__(self, stochastic: bool = False) -> None:
        super().__init__()
        self.stochastic = stochastic

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map probabilities (N, classes) to the same shape."""
        if not (self.training or self.stochastic):
            return input
        drawn = input.detach().multinomial(1)
        return torch.zeros_like(input).scatter(1, drawn, 1.0)


@register("nn.ReinforceCategorical")
def reinforce_categorical(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ReinforceCategorical.lua`: draws of a class, as one-hot vectors."""
    _note_rewards(context)
    return ReinforceCategorical(bool(source.get("stochastic", False)))


@layer
class ReinforceGamma(nn.Module):
    """`ReinforceGamma.lua`: draws from a gamma distribution; its mean in evaluation mode.

    Args:
        scale: Scale of the distribution, or None if the input is `[shape, scale]`.
        stochastic: Whether to draw in evaluation mode too.
    """

    def __init__(self, scale: float | list[Any] | None, stochastic: bool = False) -> None:
        super().__init__()
        self.scale = scale
        self.stochastic = stochastic

    def forward(self, input: Any) -> torch.Tensor:
        """Map shape parameters of any shape, or `[shape, scale]`, to the same shape."""
        shape: torch.Tensor
        shape, scale = input if isinstance(input, list) else (input, self.scale)
        scale = torch.as_tensor(scale).to(shape)
        if not (self.training or self.stochastic):
            return shape * scale
        return torch.distributions.Gamma(shape.detach(), 1 / scale.detach()).sample()


@register("nn.ReinforceGamma")
def reinforce_gamma(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ReinforceGamma.lua`; `scale` is a number, or a tensor for one example."""
    scale = source.get("scale")
    scale = scale.tolist() if isinstance(scale, np.ndarray) else scale
    _note_rewards(context)
    return ReinforceGamma(scale, bool(source.get("stochastic", False)))


def _note_rewards(context: Context) -> None:
    context.note(
        "trained by rewards in Torch7; here no gradient passes through it in training mode"
    )
