"""Convolutions of images and volumes (`SpatialConvolution.lua`, `SpatialFullConvolution.lua`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register
from .geometry import PLANE, VOLUME, extents, paddings, pair, strides


@layer
class ConvTranspose2d(nn.ConvTranspose2d):
    """torch.nn's, that also takes {x, reference}: the output gets the reference's size."""

    def forward(
        self,
        input: torch.Tensor | Sequence[torch.Tensor],
        output_size: list[int] | None = None,
    ) -> torch.Tensor:
        """(N, C, H, W) or (C, H, W), or a list of such a tensor and a reference."""
        if isinstance(input, torch.Tensor):
            return super().forward(input, output_size)
        return super().forward(input[0], _size_of(self, *input))


@layer
class ConvTranspose3d(nn.ConvTranspose3d):
    """torch.nn's, that also takes {x, reference}: the output gets the reference's size."""

    def forward(
        self,
        input: torch.Tensor | Sequence[torch.Tensor],
        output_size: list[int] | None = None,
    ) -> torch.Tensor:
        """(N, C, T, H, W) or (C, T, H, W), or a list of such a tensor and a reference."""
        if isinstance(input, torch.Tensor):
            return super().forward(input, output_size)
        return super().forward(input[0], _size_of(self, *input))


def _size_of(
    module: nn.ConvTranspose2d | nn.ConvTranspose3d, input: torch.Tensor, reference: torch.Tensor
) -> list[int]:
    """The output's size for a reference: as much larger as `calculateAdj` says.

    That reaches the reference's size where the stride can, and another size where it cannot.
    """
    rank = len(module.kernel_size)
    sizes = []
    for axis in range(-rank, 0):
        stride, padding = int(module.stride[axis]), int(module.padding[axis])
        least = (input.shape[axis] - 1) * stride - 2 * padding + int(module.kernel_size[axis])
        more = (reference.shape[axis] - least) % stride
        sizes.append(least + more)
    return sizes


@register(
    "nn.SpatialConvolution",
    "nn.SpatialConvolutionMM",
    "nn.SpatialDilatedConvolution",
    "cudnn.SpatialConvolution",
    "cudnn.SpatialDilatedConvolution",
)
def spatial_convolution(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialConvolution.lua`, (N, C, H, W) or (C, H, W).

    The weight is (out, in / groups, kH, kW), or the same numbers in two dimensions.
    """
    return _convolution(nn.Conv2d, source, context, PLANE)


@register(
    "nn.VolumetricConvolution",
    "nn.VolumetricConvolutionMM",
    "nn.VolumetricDilatedConvolution",
    "cudnn.VolumetricConvolution",
    "cudnn.VolumetricDilatedConvolution",
)
def volumetric_convolution(source: LuaObject, context: Context) -> nn.Module:
    """`VolumetricConvolution.lua`, (N, C, T, H, W) or (C, T, H, W)."""
    return _convolution(nn.Conv3d, source, context, VOLUME)


@register("nn.SpatialDepthWiseConvolution")
def spatial_depth_wise_convolution(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialDepthWiseConvolution.lua`: each channel convolved by itself, several times.

    The weight is (multiplier, in · kH · kW) and the bias (multiplier, in); PyTorch wants the
    channel outermost. For images that are not square THNN's CPU code swaps height and width;
    that is not repeated here.
    """
    weight, bias = source["weight"], source.get("bias")
    multiplier, planes = weight.shape[0], int(source["nInputPlane"])
    kernel, stride = pair(source, "k"), pair(source, "d")
    pad_h, pad_w = paddings(source, context, PLANE)
    module = nn.Conv2d(
        planes,
        planes * multiplier,
        kernel,
        stride=stride,
        padding=(pad_h, pad_w),
        groups=planes,
        bias=bias is not None,
        device="meta",
    )
    return context.fill(
        module,
        weight=weight.reshape(multiplier, planes, *kernel).swapaxes(0, 1),
        bias=None if bias is None else bias.reshape(multiplier, planes).T,
    )


@register("nn.SpatialFullConvolution", "cudnn.SpatialFullConvolution")
def spatial_full_convolution(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialFullConvolution.lua`: transposed convolution, weight (in, out, kH, kW)."""
    if source.get("adjW") is None:
        context.note("no fields adjW and adjH, an older file: the output is not made larger")
    padding = extents(source, "pad", PLANE, default=0)
    return _full_convolution(ConvTranspose2d, source, context, PLANE, source["weight"], padding)


@register("nn.VolumetricFullConvolution", "cudnn.VolumetricFullConvolution")
def volumetric_full_convolution(source: LuaObject, context: Context) -> nn.Module:
    """`VolumetricFullConvolution.lua`: transposed convolution, weight (in, out, kT, kH, kW).

    Before it had adjustments its weight was (out, in, …), and its paddings were pT, pW and pH.
    """
    weight = source["weight"]
    if source.get("adjW") is None and source.get("adjT") is None:
        context.note("no fields adjT, adjW and adjH, an older file: its weight is (out, in, …)")
        weight = weight.swapaxes(0, 1)
    prefix = "pad" if "padW" in source else "p"
    padding = extents(source, prefix, VOLUME, default=0)
    return _full_convolution(ConvTranspose3d, source, context, VOLUME, weight, padding)


def _full_convolution(
    kind: Callable[..., nn.Module],
    source: LuaObject,
    context: Context,
    axes: str,
    weight: np.ndarray,
    padding: tuple[int, ...],
) -> nn.Module:
    bias = source.get("bias")
    module = kind(
        int(source["nInputPlane"]),
        int(source["nOutputPlane"]),
        extents(source, "k", axes),
        stride=strides(source, context, axes),
        padding=padding,
        output_padding=extents(source, "adj", axes, default=0),
        bias=bias is not None,
        device="meta",
    )
    return context.fill(module, weight=weight, bias=bias)


def _convolution(
    kind: Callable[..., nn.Module], source: LuaObject, context: Context, axes: str
) -> nn.Module:
    weight, bias = source["weight"], source.get("bias")
    if weight.ndim != len(axes) + 2 and not source.class_name.endswith("MM"):
        context.note(f"an older file, with a weight of {weight.ndim} dimensions: same numbers")
    module = kind(
        int(source["nInputPlane"]),
        int(source["nOutputPlane"]),
        extents(source, "k", axes),
        stride=strides(source, context, axes),
        padding=paddings(source, context, axes),
        dilation=extents(source, "dilation", axes, default=1),
        groups=int(source.get("groups", 1)),
        bias=bias is not None,
        device="meta",
    )
    return context.fill(module, weight=weight, bias=bias)
