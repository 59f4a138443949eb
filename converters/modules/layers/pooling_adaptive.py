"""Pooling whose windows follow from the sizes of input and output.

`SpatialAdaptiveMaxPooling.lua`, `SpatialFractionalMaxPooling.lua` and their kin.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from ...t7 import LuaObject
from ...t7.tensors import tensor
from ..context import Context
from ..registry import layer as layer_of_ours
from ..registry import register
from .geometry import extents, pair


@layer_of_ours
class AdaptiveMaxPool2d(nn.AdaptiveMaxPool2d):
    """torch.nn's with Torch7's windows, in operations that ONNX has."""

    output_size: tuple[int, int]

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) or (C, H, W) to the output size."""
        for dim, count in zip((-2, -1), self.output_size, strict=True):
            windows = _windows(input, dim, count)
            input = torch.cat([window.max(dim, keepdim=True).values for window in windows], dim)
        return input


@layer_of_ours
class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """torch.nn's with Torch7's windows, in operations that ONNX has."""

    output_size: tuple[int, int]

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) or (C, H, W) to the output size."""
        for dim, count in zip((-2, -1), self.output_size, strict=True):
            windows = _windows(input, dim, count)
            input = torch.cat([window.mean(dim, keepdim=True) for window in windows], dim)
        return input


def _windows(input: torch.Tensor, dim: int, count: int) -> list[torch.Tensor]:
    """The windows along one dimension, with the edges of `SpatialAdaptiveMaxPooling.c`.

    It computes them in float32: 21 places in 7 windows begin with a window of 4, where PyTorch,
    which counts in whole numbers, has one of 3.
    """
    edges = [_float32(_float32(index / count) * input.shape[dim]) for index in range(count + 1)]
    starts, ends = map(math.floor, edges[:-1]), map(math.ceil, edges[1:])
    return [input.narrow(dim, start, end - start) for start, end in zip(starts, ends, strict=True)]


def _float32(value: float) -> float:
    """The nearest float32."""
    fraction, exponent = math.frexp(value)
    return math.ldexp(round(fraction * 2**24), exponent - 24)


@register("nn.SpatialAdaptiveMaxPooling")
def spatial_adaptive_max_pooling(layer: LuaObject, context: Context) -> nn.Module:
    """`SpatialAdaptiveMaxPooling.lua`; to a single place all windows are the same."""
    size = pair(layer, "")
    return nn.AdaptiveMaxPool2d(size) if size == (1, 1) else AdaptiveMaxPool2d(size)


@register("nn.SpatialAdaptiveAveragePooling")
def spatial_adaptive_average_pooling(layer: LuaObject, context: Context) -> nn.Module:
    """`SpatialAdaptiveAveragePooling.lua`; to a single place all windows are the same."""
    size = pair(layer, "")
    return nn.AdaptiveAvgPool2d(size) if size == (1, 1) else AdaptiveAvgPool2d(size)


@register("nn.SpatialFractionalMaxPooling")
def spatial_fractional_max_pooling(layer: LuaObject, context: Context) -> nn.Module:
    """`SpatialFractionalMaxPooling.lua`: regions drawn anew at each call, or fixed."""
    return _fractional(nn.FractionalMaxPool2d, layer, context, "HW")


@register("nn.VolumetricFractionalMaxPooling")
def volumetric_fractional_max_pooling(layer: LuaObject, context: Context) -> nn.Module:
    """`VolumetricFractionalMaxPooling.lua`, (N, C, H, W, T): here time is the last dimension."""
    return _fractional(nn.FractionalMaxPool3d, layer, context, "HWT")


def _fractional(
    kind: Callable[..., nn.Module], layer: LuaObject, context: Context, axes: str
) -> nn.Module:
    kernel = extents(layer, "poolSize", axes)
    if layer.get("ratioW") is None:
        module = kind(kernel, output_size=extents(layer, "out", axes))
    else:
        ratio = tuple(float(layer[f"ratio{axis}"]) for axis in axes)
        module = kind(kernel, output_ratio=ratio)
    # `newRandomPool`, contrary to its name, says that nothing new is drawn (fixPoolingRegions).
    if layer.get("newRandomPool") is True and layer.get("randomSamples") is not None:
        samples = tensor(layer["randomSamples"])
        context.note(f"pooling regions are fixed, for batches of {samples.shape[0]}")
        # In a volume Torch7 draws for the last dimension first, and PyTorch for the first one.
        samples = samples.flip(-1) if len(axes) == 3 else samples
        module.register_buffer("_random_samples", samples)
    return module
