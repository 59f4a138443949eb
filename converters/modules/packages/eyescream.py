"""The upsampling convolution of eyescream (`SpatialConvolutionUpsample.lua`)."""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..layers.container import Container
from ..registry import layer, register
from .alias import convert_as


@layer
class ConvolutionUpsample(Container):
    """`SpatialConvolutionUpsample.lua`: a convolution whose planes are read as a larger image.

    The numbers of an example stay in their order, in which `torch.nn.PixelShuffle` would change
    them.

    Args:
        modules: The convolution.
        factor: How many times as high and as wide the output is.
    """

    def __init__(self, *modules: nn.Module, factor: int) -> None:
        super().__init__(*modules)
        self.factor = factor

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, planes / factor², factor · H, factor · W), or both without N."""
        output: torch.Tensor = self[0](input)
        height, width = output.shape[-2] * self.factor, output.shape[-1] * self.factor
        planes = output.shape[-3] // self.factor**2
        return output.reshape([*output.shape[:-3], planes, height, width])

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"factor={self.factor}"


@register(
    *("nn.SpatialConvolutionUpsample", "cudnn.SpatialConvolutionUpsample"),
    fields=("factor", "nOutputPlaneU"),
    ignored=("nInputPlaneU", "nOutputPlaneU", "h", "w"),
)
def spatial_convolution_upsample(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialConvolutionUpsample.lua`: a convolution, and its planes as a larger image."""
    package = source.class_name.partition(".")[0]
    convolution = convert_as(f"{package}.SpatialConvolution", source, context)
    return ConvolutionUpsample(convolution, factor=int(source["factor"]))
