"""Max pooling with random windows (`SpatialFractionalMaxPooling.lua`, …)."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from ...t7 import LuaObject
from ...t7.tensors import tensor
from ..context import Context
from ..registry import register
from .geometry import extents


@register("nn.SpatialFractionalMaxPooling")
def spatial_fractional_max_pooling(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialFractionalMaxPooling.lua`: regions drawn anew at each call, or fixed."""
    return _fractional(nn.FractionalMaxPool2d, source, context, "HW")


@register("nn.VolumetricFractionalMaxPooling")
def volumetric_fractional_max_pooling(source: LuaObject, context: Context) -> nn.Module:
    """`VolumetricFractionalMaxPooling.lua`, (N, C, H, W, T): here time is the last dimension."""
    return _fractional(nn.FractionalMaxPool3d, source, context, "HWT")


def _fractional(
    kind: Callable[..., nn.Module], source: LuaObject, context: Context, axes: str
) -> nn.Module:
    kernel = extents(source, "poolSize", axes)
    if source.get("ratioW") is None:
        module = kind(kernel, output_size=extents(source, "out", axes))
    else:
        ratio = tuple(float(source[f"ratio{axis}"]) for axis in axes)
        module = kind(kernel, output_ratio=ratio)
    # `newRandomPool`, contrary to its name, says that nothing new is drawn (fixPoolingRegions).
    if source.get("newRandomPool") is True and source.get("randomSamples") is not None:
        samples = tensor(source["randomSamples"])
        context.note(f"pooling regions are fixed, for batches of {samples.shape[0]}")
        # In a volume Torch7 draws for the last dimension first, and PyTorch for the first one.
        samples = samples.flip(-1) if len(axes) == 3 else samples
        module.register_buffer("_random_samples", samples)
    return module
