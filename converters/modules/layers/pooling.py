"""Maximum and average over windows (`SpatialMaxPooling.lua`, `SpatialAveragePooling.lua`, …)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register
from .geometry import PLANE, VOLUME, extents, pair


def _counts(
    input: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
) -> list[int]:
    """How many windows Torch7 counts along each axis (`SpatialDilatedMaxPooling.c`).

    Only where something is padded, a last window that would start past the input is dropped;
    PyTorch and ONNX always drop it.

    Args:
        input: the input's size along each axis.
        kernel: a window's extent, with its dilation.
        stride: from window to window.
        padding: on either side.
        ceil_mode: count windows that stand over the edge.
    """
    counts = []
    for size, extent, step, pad in zip(input, kernel, stride, padding, strict=True):
        room = size + 2 * pad - extent
        count = (room + step - 1 if ceil_mode else room) // step + 1
        if any(padding) and (count - 1) * step >= size + pad:
            count -= 1
        counts.append(count)
    return counts


def _overhang(
    input: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    counts: Sequence[int],
) -> list[int]:
    """The padding that floor mode needs for these windows, as `functional.pad` wants it."""
    pads: list[int] = []
    for size, extent, step, pad, count in zip(input, kernel, stride, padding, counts, strict=True):
        # Negative where the last stride leaves some of the input over.
        pads[:0] = [pad, (count - 1) * step + extent - size - pad]
    return pads


@layer
class CeilMaxPool(nn.Module):
    """Maximum over windows that may stand over the edge, with Torch7's rule for the last one.

    Pads by hand and then pools in floor mode, which every ONNX runtime does alike. A window that
    holds nothing gives the lowest number, as in THNN.

    Args:
        kernel_size: of a window, (H, W) or (T, H, W).
        stride: from window to window.
        padding: on either side.
        dilation: between the elements of a window.
    """

    def __init__(
        self,
        kernel_size: list[int],
        stride: list[int],
        padding: list[int],
        dilation: list[int],
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) or (C, H, W) to the same with fewer rows and columns; or (…, T, H, W)."""
        kernel = [d * (k - 1) + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True)]
        sizes = input.shape[-len(kernel) :]
        counts = _counts(sizes, kernel, self.stride, self.padding, ceil_mode=True)
        pads = _overhang(sizes, kernel, self.stride, self.padding, counts)
        padded = functional.pad(input, pads, value=torch.finfo(input.dtype).min)
        pool = functional.max_pool2d if len(kernel) == 2 else functional.max_pool3d
        return pool(padded, self.kernel_size, self.stride, 0, self.dilation)


@layer
class AvgPool(nn.Module):
    """Mean over windows that stand over the edge, or their sum: what torch.nn computes otherwise.

    Pads with zeros by hand, pools in floor mode, and corrects the divisor by a constant: ONNX
    runtimes disagree on the divisor at the edge.

    Args:
        kernel_size: of a window, (H, W) or (T, H, W).
        stride: from window to window.
        padding: on either side.
        ceil_mode: count windows that stand over the edge.
        count_include_pad: whether the padding counts in the divisor (what is beyond never does).
        divide: False multiplies the mean by the window's size: a sum, but for windows at the edge.
    """

    def __init__(
        self,
        kernel_size: list[int],
        stride: list[int],
        padding: list[int],
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divide: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divide = divide

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) or (C, H, W) to the same with fewer rows and columns; or (…, T, H, W)."""
        kernel, rank = self.kernel_size, len(self.kernel_size)
        sizes = input.shape[-rank:]
        counts = _counts(sizes, kernel, self.stride, self.padding, self.ceil_mode)
        padded = functional.pad(input, _overhang(sizes, kernel, self.stride, self.padding, counts))
        pool = functional.avg_pool2d if rank == 2 else functional.avg_pool3d
        output = pool(padded, kernel, self.stride)
        for axis in range(rank):
            counted = self._counted(axis, sizes[axis], counts[axis], input)
            output = output * (kernel[axis] / counted).reshape([-1] + [1] * (rank - 1 - axis))
        return output if self.divide else output * math.prod(kernel)

    def _counted(self, axis: int, size: int, count: int, input: torch.Tensor) -> torch.Tensor:
        """How many elements of each window along one axis are in the divisor."""
        pad = self.padding[axis]
        start = torch.arange(count, dtype=input.dtype, device=input.device)
        start = start * self.stride[axis] - pad
        end = (start + self.kernel_size[axis]).clamp(max=size + pad)
        if not self.count_include_pad:
            start, end = start.clamp(min=0), end.clamp(max=size)
        return end - start


@register("nn.SpatialMaxPooling", "nn.SpatialDilatedMaxPooling", "cudnn.SpatialMaxPooling")
def spatial_max_pooling(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialMaxPooling.lua`, (N, C, H, W) or (C, H, W)."""
    return _max_pool(nn.MaxPool2d, source, context, PLANE)


@register("nn.VolumetricMaxPooling", "nn.VolumetricDilatedMaxPooling", "cudnn.VolumetricMaxPooling")
def volumetric_max_pooling(source: LuaObject, context: Context) -> nn.Module:
    """`VolumetricMaxPooling.lua`, (N, C, T, H, W) or (C, T, H, W)."""
    return _max_pool(nn.MaxPool3d, source, context, VOLUME)


@register("nn.SpatialAveragePooling", "cudnn.SpatialAveragePooling")
def spatial_average_pooling(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialAveragePooling.lua`, (N, C, H, W) or (C, H, W)."""
    return _average_pool(nn.AvgPool2d, source, context, PLANE)


@register("nn.VolumetricAveragePooling", "cudnn.VolumetricAveragePooling")
def volumetric_average_pooling(source: LuaObject, context: Context) -> nn.Module:
    """`VolumetricAveragePooling.lua`, (N, C, T, H, W) or (C, T, H, W)."""
    return _average_pool(nn.AvgPool3d, source, context, VOLUME)


def _max_pool(
    kind: Callable[..., nn.Module], source: LuaObject, context: Context, axes: str
) -> nn.Module:
    kernel = extents(source, "k", axes)
    stride = extents(source, "d", axes)
    padding = extents(source, "pad", axes, default=0)
    dilation = extents(source, "dilation", axes, default=1)
    ceil_mode = _ceil_mode(source, context)
    # No window can start past the input, so that every rule for the last one says the same.
    same_windows = all(
        p + s <= d * (k - 1) + 1
        for k, s, p, d in zip(kernel, stride, padding, dilation, strict=True)
    )
    if same_windows or not ceil_mode:
        return kind(kernel, stride, padding, dilation, ceil_mode=ceil_mode)
    return CeilMaxPool(list(kernel), list(stride), list(padding), list(dilation))


def _average_pool(
    kind: Callable[..., nn.Module], source: LuaObject, context: Context, axes: str
) -> nn.Module:
    kernel = extents(source, "k", axes)
    stride = extents(source, "d", axes)
    padding = extents(source, "pad", axes, default=0)
    ceil_mode = _ceil_mode(source, context)
    cudnn = source.class_name.startswith("cudnn.")
    if cudnn and ceil_mode:
        context.note("cuDNN does not say what it divides by at the edge: taken to be as in nn")
    include = cudnn or source.get("count_include_pad", True) is not False
    divide = _divides(source, context)
    if divide and not ceil_mode:
        return kind(kernel, stride, padding, count_include_pad=include)
    return AvgPool(list(kernel), list(stride), list(padding), ceil_mode, include, divide)


def _ceil_mode(source: LuaObject, context: Context) -> bool:
    """Whether windows may stand over the edge; nn's average over volumes never lets them."""
    if source.get("ceil_mode") is None and source.class_name != "nn.VolumetricAveragePooling":
        context.note("no field ceil_mode, an older file: windows over the edge are left out")
    return source.get("ceil_mode") is True


def _divides(source: LuaObject, context: Context) -> bool:
    """Whether windows are averaged: nn summed them before it had the field `divide`."""
    if source.class_name != "nn.SpatialAveragePooling":
        return True
    if source.get("divide") is None:
        context.note("no field divide: a file from before March 2015, windows are summed")
    return source.get("divide") is True


@layer
class AdaptiveMaxPool2d(nn.AdaptiveMaxPool2d):
    """torch.nn's with Torch7's windows, in operations that ONNX has."""

    output_size: tuple[int, int]

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) or (C, H, W) to the output size."""
        for dim, count in zip((-2, -1), self.output_size, strict=True):
            windows = _windows(input, dim, count)
            input = torch.cat([window.max(dim, keepdim=True).values for window in windows], dim)
        return input


@layer
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
def spatial_adaptive_max_pooling(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialAdaptiveMaxPooling.lua`; to a single place all windows are the same."""
    size = pair(source, "")
    return nn.AdaptiveMaxPool2d(size) if size == (1, 1) else AdaptiveMaxPool2d(size)


@register("nn.SpatialAdaptiveAveragePooling")
def spatial_adaptive_average_pooling(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialAdaptiveAveragePooling.lua`; to a single place all windows are the same."""
    size = pair(source, "")
    return nn.AdaptiveAvgPool2d(size) if size == (1, 1) else AdaptiveAvgPool2d(size)
