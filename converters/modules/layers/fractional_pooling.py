"""Max pooling with random windows (`SpatialFractionalMaxPooling.lua`, …)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ...t7.tensors import tensor
from ..context import Context
from ..registry import layer, register
from .geometry import per_axis


@layer
class FixedFractionalMaxPool(nn.Module):
    """`SpatialFractionalMaxPooling.lua` and its volumetric kin after `fixPoolingRegions`.

    Unlike torch.nn's it keeps the random samples, which place the windows of each channel of each
    example in a batch.

    Args:
        kernel_size: Size of a window, (H, W), or (H, W, T) for volumes.
        regions: Number of examples and number of channels that have samples.
        output_size: Size of the output; None if `output_ratio` is given.
        output_ratio: Size of the output as a fraction of that of the input, along each axis.
    """

    def __init__(
        self,
        kernel_size: list[int],
        regions: list[int],
        output_size: list[int] | None = None,
        output_ratio: list[float] | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.regions = regions
        self.output_size = output_size
        self.output_ratio = output_ratio
        self.register_buffer("samples", torch.empty(*regions, len(kernel_size)))
        self.samples: torch.Tensor

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, …) or (C, …) to the output size, N and C being the numbers of `regions`."""
        planar = len(self.kernel_size) == 2
        pool: Callable[..., torch.Tensor] = (
            functional.fractional_max_pool2d if planar else functional.fractional_max_pool3d
        )
        return pool(
            input,
            self.kernel_size,
            self.output_size,
            self.output_ratio,
            _random_samples=self.samples,
        )


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
    kernel, size, ratio = per_axis(source, "poolSize", axes), None, None
    if source.get("ratioW") is None:
        size = per_axis(source, "out", axes)
    else:
        ratio = tuple(float(source[f"ratio{axis}"]) for axis in axes)
    # Despite its name, `newRandomPool` means that the samples are reused (fixPoolingRegions).
    if source.get("newRandomPool") is not True or source.get("randomSamples") is None:
        context.note("every call draws new pooling regions")
        return torch_class(kernel, output_size=size, output_ratio=ratio)
    samples = tensor(source["randomSamples"])
    context.note(f"pooling regions are fixed, for batches of {samples.shape[0]}")
    module = FixedFractionalMaxPool(
        list(kernel),
        list(samples.shape[:2]),
        None if size is None else list(size),
        None if ratio is None else list(ratio),
    )
    # For volumes Torch7 stores the last dimension's sample first, PyTorch the first one's.
    module.samples = samples.flip(-1) if len(axes) == 3 else samples
    return module
