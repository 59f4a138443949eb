"""Max pooling with random windows (`SpatialFractionalMaxPooling.lua`, …)."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from ...t7 import LuaObject
from ...t7.tensors import tensor
from ..context import Context
from ..registry import register
from .geometry import per_axis


@register("nn.SpatialFractionalMaxPooling")
def spatial_fractional_max_pooling(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialFractionalMaxPooling.lua`: maximum over random or fixed windows."""
    return _fractional(nn.FractionalMaxPool2d, source, context, "HW")


@register("nn.VolumetricFractionalMaxPooling")
def volumetric_fractional_max_pooling(source: LuaObject, context: Context) -> nn.Module:
    """Convert `VolumetricFractionalMaxPooling.lua`: (N, C, H, W, T), with time last."""
    return _fractional(nn.FractionalMaxPool3d, source, context, "HWT")


def _fractional(
    torch_class: Callable[..., nn.Module], source: LuaObject, context: Context, axes: str
) -> nn.Module:
    kernel = per_axis(source, "poolSize", axes)
    if source.get("ratioW") is None:
        module = torch_class(kernel, output_size=per_axis(source, "out", axes))
    else:
        ratio = tuple(float(source[f"ratio{axis}"]) for axis in axes)
        module = torch_class(kernel, output_ratio=ratio)
    # Despite its name, `newRandomPool` means that the samples are reused (fixPoolingRegions).
    if source.get("newRandomPool") is True and source.get("randomSamples") is not None:
        samples = tensor(source["randomSamples"])
        context.note(f"pooling regions are fixed, for batches of {samples.shape[0]}")
        # For volumes Torch7 stores the last dimension's sample first, PyTorch the first one's.
        samples = samples.flip(-1) if len(axes) == 3 else samples
        module.register_buffer("_random_samples", samples)
    return module
