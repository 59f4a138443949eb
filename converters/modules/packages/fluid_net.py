"""Layers of FluidNet, which simulates fluids (`apply_scale.lua`, `variance.lua`, …)."""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..layers.container import Container
from ..registry import layer, register


@layer
class ApplyScale(Container):
    """`apply_scale.lua`: multiplies each example by its number, or divides it.

    Args:
        modules: What is applied to `[example, number]`: a product or a quotient.
    """

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map `[x (N, …), numbers (N, 1)]` to the shape of x."""
        value, scale = input
        scale = scale.reshape([-1, *[1] * (value.dim() - 1)])
        result: torch.Tensor = self[0]([value, scale.expand_as(value)])
        return result


@register("nn.ApplyScale")
def apply_scale(source: LuaObject, context: Context) -> nn.Module:
    """Convert `apply_scale.lua` by its nn.CMulTable or nn.CDivTable."""
    return ApplyScale(*context.children(source))


@layer
class Deviation(nn.Module):
    """`variance.lua`, `standard_deviation.lua`: the spread along an axis, which stays with size 1.

    Args:
        dim: The axis.
        is_root: Whether it is the standard deviation, else the variance.
    """

    def __init__(self, dim: int, is_root: bool = False) -> None:
        super().__init__()
        self.dim = dim
        self.is_root = is_root

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (…, n, …) to (…, 1, …); the sum of squares is divided by n - 1."""
        variance = input.var(self.dim, keepdim=True)
        return variance.sqrt() if self.is_root else variance

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"dim={self.dim}"


@register("nn.Variance", fields=("_dim",))
def variance(source: LuaObject, context: Context) -> nn.Module:
    """Convert `variance.lua`: the variance of samples along an axis."""
    return Deviation(int(source["_dim"]) - 1)


@register("nn.StandardDeviation", fields=("_dim",), ignored=("modules",))
def standard_deviation(source: LuaObject, context: Context) -> nn.Module:
    """Convert `standard_deviation.lua`: the standard deviation of samples along an axis."""
    return Deviation(int(source["_dim"]) - 1, is_root=True)


@layer
class ShuffledConvolution(Container):
    """`spatial_convolution_upsample.lua`: a convolution whose planes are parts of a larger image.

    Args:
        modules: The convolution.
        scale: How many times as high and as wide the output is.
    """

    def __init__(self, *modules: nn.Module, scale: list[int]) -> None:
        super().__init__(*modules)
        self.scale = scale

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, planes / parts, scale · H, scale · W)."""
        high, wide = self.scale
        parts = self[0](input).unflatten(1, (-1, high, wide))
        result: torch.Tensor = parts.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)
        return result

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"scale={self.scale}"


@register(
    "nn.SpatialConvolutionUpsample",
    fields=("scaleW", "scaleH"),
    ignored=("nInputPlane", "nOutputPlane", "kW", "kH", "dW", "dH", "padW", "padH"),
)
def shuffled_convolution(source: LuaObject, context: Context) -> nn.Module:
    """Convert `spatial_convolution_upsample.lua` of FluidNet, which shuffles its planes."""
    scale = [int(source["scaleH"]), int(source["scaleW"])]
    return ShuffledConvolution(*context.children(source), scale=scale)
