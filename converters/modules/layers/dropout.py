"""Dropout and noise (`Dropout.lua`, `SpatialDropout.lua`, `WhiteNoise.lua`, …)."""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class BernoulliDropout(nn.Module):
    """Torch7's dropouts that `nn.Dropout` is not (`Dropout.lua`, `SpatialDropout.lua`).

    Args:
        p: probability of a zero.
        spatial_dims: trailing dimensions that share one draw; 2 drops whole feature maps.
        rescale: divide what is kept by 1 - p. Otherwise everything is multiplied by 1 - p
            when nothing is drawn.
        stochastic_inference: draw in evaluation mode as well.
    """

    def __init__(
        self,
        p: float,
        spatial_dims: int = 0,
        rescale: bool = False,
        stochastic_inference: bool = False,
    ) -> None:
        super().__init__()
        self.p = p
        self.spatial_dims = spatial_dims
        self.rescale = rescale
        self.stochastic_inference = stochastic_inference

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, …) or (C, …) → the same shape."""
        keep = 1 - self.p
        if not (self.training or self.stochastic_inference):
            return input if self.rescale else input * keep
        drawn = input.dim() - self.spatial_dims
        shape = [*input.shape[:drawn], *[1] * self.spatial_dims]
        mask = torch.bernoulli(torch.full(shape, keep, dtype=input.dtype, device=input.device))
        return input * (mask / keep if self.rescale else mask)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"


@layer
class WhiteNoise(nn.Module):
    """`WhiteNoise.lua`: adds Gaussian noise in training, and its mean in evaluation mode.

    Args:
        mean: of the noise.
        std: of the noise.
    """

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean = mean
        self.std = std

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Any shape → the same shape."""
        if self.training:
            return input + torch.randn_like(input) * self.std + self.mean
        return input + self.mean

    def extra_repr(self) -> str:
        """Mean and standard deviation."""
        return f"mean={self.mean}, std={self.std}"


@register("nn.Dropout", "cudnn.Dropout")
def dropout(source: LuaObject, context: Context) -> nn.Module:
    """`Dropout.lua`: with `v2` training rescales; before, and without it, evaluation does."""
    if "v2" not in source:
        context.note("no v2: an older Dropout, which multiplies by 1 - p in evaluation mode")
    for mode in ("lazy", "mono"):
        if source.get(mode):
            context.note(f"{mode}: in training every call and every number draws anew here")
    p, rescale, stochastic = source["p"], bool(source.get("v2")), _is_stochastic(source)
    if rescale and not stochastic:
        return nn.Dropout(p)
    return BernoulliDropout(p, rescale=rescale, stochastic_inference=stochastic)


@register("nn.SpatialDropout")
def spatial_dropout(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialDropout.lua`: whole feature maps; evaluation multiplies by 1 - p."""
    return BernoulliDropout(source["p"], 2, stochastic_inference=_is_stochastic(source))


@register("nn.VolumetricDropout")
def volumetric_dropout(source: LuaObject, context: Context) -> nn.Module:
    """`VolumetricDropout.lua`: whole feature volumes; evaluation multiplies by 1 - p."""
    return BernoulliDropout(source["p"], 3, stochastic_inference=_is_stochastic(source))


def _is_stochastic(source: LuaObject) -> bool:
    return bool(source.get("stochastic_inference"))


@register("nn.WhiteNoise")
def white_noise(source: LuaObject, context: Context) -> nn.Module:
    """`WhiteNoise.lua`."""
    return WhiteNoise(source.get("mean", 0.0), source.get("std", 0.1))
