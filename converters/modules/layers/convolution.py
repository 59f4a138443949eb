"""Convolutions of images and volumes (`SpatialConvolution.lua`, `VolumetricConvolution.lua`, …)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register
from .geometry import PLANE, VOLUME, height_width, paddings, per_axis, strides


class _ConvTranspose(nn.modules.conv._ConvTransposeNd):
    """A transposed convolution that also takes a list [input, reference]."""

    def forward(
        self,
        input: torch.Tensor | Sequence[torch.Tensor],
        output_size: list[int] | None = None,
    ) -> torch.Tensor:
        """Map a tensor, or a list [tensor, reference] to an output of the reference's size."""
        if not isinstance(input, torch.Tensor):
            input, reference = input
            output_size = self._output_size_for(input, reference)
        output: torch.Tensor = super().forward(input, output_size)
        return output

    def _output_size_for(self, input: torch.Tensor, reference: torch.Tensor) -> list[int]:
        """Return the output size for a reference (`calculateAdj` of `SpatialFullConvolution.lua`).

        It is the reference's size if the stride allows it.
        """
        sizes = []
        for axis in range(-len(self.kernel_size), 0):
            stride, padding = int(self.stride[axis]), int(self.padding[axis])
            smallest = (input.shape[axis] - 1) * stride - 2 * padding + int(self.kernel_size[axis])
            sizes.append(smallest + (reference.shape[axis] - smallest) % stride)
        return sizes


@layer
class ConvTranspose2d(_ConvTranspose, nn.ConvTranspose2d):
    """`SpatialFullConvolution.lua`: transposed convolution of (N, C, H, W) or (C, H, W).

    Unlike `torch.nn.ConvTranspose2d` it also takes a list [input, reference] and then gives the
    output the reference's height and width.
    """


@layer
class ConvTranspose3d(_ConvTranspose, nn.ConvTranspose3d):
    """`VolumetricFullConvolution.lua`: transposed convolution of (N, C, T, H, W) or (C, T, H, W).

    Unlike `torch.nn.ConvTranspose3d` it also takes a list [input, reference] and then gives the
    output the reference's size.
    """


@register(
    "nn.SpatialConvolution",
    "nn.SpatialConvolutionMM",
    "nn.SpatialDilatedConvolution",
    "cudnn.SpatialConvolution",
    "cudnn.SpatialDilatedConvolution",
)
def spatial_convolution(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialConvolution.lua` or a class like it: (N, C, H, W) or (C, H, W).

    The weight is (out, in / groups, kH, kW); in older files and in `SpatialConvolutionMM.lua` it
    has two dimensions, with the same elements in the same order.
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
    """Convert `VolumetricConvolution.lua` or a class like it: (N, C, T, H, W) or (C, T, H, W)."""
    return _convolution(nn.Conv3d, source, context, VOLUME)


@register("nn.SpatialDepthWiseConvolution", ignored=("nOutputPlane",))
def spatial_depth_wise_convolution(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialDepthWiseConvolution.lua`: each channel convolved with several kernels.

    The weight is (multiplier, in · kH · kW) and the bias (multiplier, in); `torch.nn.Conv2d` with
    groups has the channel first. THNN's CPU code swaps height and width of images that are not
    square; this error is not reproduced.
    """
    weight, bias = source["weight"], source.get("bias")
    multiplier, planes = weight.shape[0], int(source["nInputPlane"])
    kernel, stride = height_width(source, "k"), height_width(source, "d")
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
    """Convert `SpatialFullConvolution.lua`: transposed convolution, weight (in, out, kH, kW)."""
    if source.get("adjW") is None:
        context.note("no fields adjW and adjH (an older file): they are 0")
    padding = per_axis(source, "pad", PLANE, default=0)
    return _full_convolution(ConvTranspose2d, source, context, PLANE, source["weight"], padding)


@register("nn.VolumetricFullConvolution", "cudnn.VolumetricFullConvolution")
def volumetric_full_convolution(source: LuaObject, context: Context) -> nn.Module:
    """Convert `VolumetricFullConvolution.lua`: transposed convolution of volumes.

    The weight is (in, out, kT, kH, kW). In older files, which have no fields adjT, adjW and
    adjH, it is (out, in, kT, kH, kW), and the paddings are pT, pW and pH.
    """
    weight = source["weight"]
    if source.get("adjW") is None and source.get("adjT") is None:
        context.note("no fields adjT, adjW and adjH (an older file): the weight is (out, in, …)")
        weight = weight.swapaxes(0, 1)
    prefix = "pad" if "padW" in source else "p"
    padding = per_axis(source, prefix, VOLUME, default=0)
    return _full_convolution(ConvTranspose3d, source, context, VOLUME, weight, padding)


def _full_convolution(
    torch_class: Callable[..., nn.Module],
    source: LuaObject,
    context: Context,
    axes: str,
    weight: np.ndarray,
    padding: tuple[int, ...],
) -> nn.Module:
    bias = source.get("bias")
    module = torch_class(
        int(source["nInputPlane"]),
        int(source["nOutputPlane"]),
        per_axis(source, "k", axes),
        stride=strides(source, context, axes),
        padding=padding,
        output_padding=per_axis(source, "adj", axes, default=0),
        bias=bias is not None,
        device="meta",
    )
    return context.fill(module, weight=weight, bias=bias)


def _convolution(
    torch_class: Callable[..., nn.Module], source: LuaObject, context: Context, axes: str
) -> nn.Module:
    weight, bias = source["weight"], source.get("bias")
    if weight.ndim != len(axes) + 2 and not source.class_name.endswith("MM"):
        context.note(f"the weight has {weight.ndim} dimensions (an older file): it is reshaped")
    module = torch_class(
        int(source["nInputPlane"]),
        int(source["nOutputPlane"]),
        per_axis(source, "k", axes),
        stride=strides(source, context, axes),
        padding=paddings(source, context, axes),
        dilation=per_axis(source, "dilation", axes, default=1),
        groups=int(source.get("groups", 1)),
        bias=bias is not None,
        device="meta",
    )
    return context.fill(module, weight=weight, bias=bias)
