"""Dropout and noise (`Dropout.lua`, `SpatialDropout.lua`, `WhiteNoise.lua`, …)."""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class BernoulliDropout(nn.Module):
    """Dropouts that torch.nn lacks (`Dropout.lua`, `SpatialDropout.lua`, `VolumetricDropout.lua`).

    `torch.nn.Dropout` and its variants divide by 1 - p in training mode. Without `rescale` this
    layer multiplies by 1 - p in evaluation mode instead.

    Args:
        p: Probability that an element becomes 0.
        spatial_dims: Number of trailing dimensions that share one draw; 2 drops whole feature maps.
        rescale: Whether the kept elements are divided by 1 - p.
        stochastic_inference: Whether elements are dropped in evaluation mode too.
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
        """Map (N, C, …) or (C, …) to the same shape."""
        keep = 1 - self.p
        if not (self.training or self.stochastic_inference):
            return input if self.rescale else input * keep
        leading = input.dim() - self.spatial_dims
        shape = [*input.shape[:leading], *[1] * self.spatial_dims]
        mask = torch.bernoulli(torch.full(shape, keep, dtype=input.dtype, device=input.device))
        return input * (mask / keep if self.rescale else mask)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"p={self.p}"


@layer
class WhiteNoise(nn.Module):
    """`WhiteNoise.lua`: Gaussian noise added in training mode, its mean in evaluation mode.

    Args:
        mean: Mean of the noise.
        std: Standard deviation of the noise.
    """

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean = mean
        self.std = std

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map any shape to the same shape."""
        if self.training:
            return input + torch.randn_like(input) * self.std + self.mean
        return input + self.mean

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"mean={self.mean}, std={self.std}"


@register("nn.Dropout", "cudnn.Dropout", ignored=("inplace", "flag"))
def dropout(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Dropout.lua`: elements set to 0 with probability p in training mode.

    With the field `v2` it divides by 1 - p in training mode, as `torch.nn.Dropout`; without it, as
    in files from before July 2014, it multiplies by 1 - p in evaluation mode. The options `lazy`
    and `mono` are not supported.
    """
    if "v2" not in source:
        context.note("no field v2 (an older file): multiplies by 1 - p in evaluation mode")
    for option in ("lazy", "mono"):
        if source.get(option):
            context.note(f"{option} is not supported: each element is drawn anew in each call")
    p, rescale, stochastic = source["p"], bool(source.get("v2")), _is_stochastic(source)
    if rescale and not stochastic:
        return nn.Dropout(p)
    return BernoulliDropout(p, rescale=rescale, stochastic_inference=stochastic)


@register("nn.SpatialDropout")
def spatial_dropout(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialDropout.lua`: whole feature maps set to 0.

    It multiplies by 1 - p in evaluation mode; `torch.nn.Dropout2d` divides in training mode.
    """
    return BernoulliDropout(source["p"], 2, stochastic_inference=_is_stochastic(source))


@register("nn.VolumetricDropout")
def volumetric_dropout(source: LuaObject, context: Context) -> nn.Module:
    """Convert `VolumetricDropout.lua`: whole feature volumes set to 0.

    It multiplies by 1 - p in evaluation mode; `torch.nn.Dropout3d` divides in training mode.
    """
    return BernoulliDropout(source["p"], 3, stochastic_inference=_is_stochastic(source))


def _is_stochastic(source: LuaObject) -> bool:
    return bool(source.get("stochastic_inference"))


@register("nn.WhiteNoise")
def white_noise(source: LuaObject, context: Context) -> nn.Module:
    """Convert `WhiteNoise.lua`: Gaussian noise, by default with mean 0 and deviation 0.1."""
    return WhiteNoise(source.get("mean", 0.0), source.get("std", 0.1))
