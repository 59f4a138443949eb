"""Max and average pooling (`SpatialMaxPooling.lua`, `SpatialAveragePooling.lua`, …)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register
from .geometry import PLANE, VOLUME, per_axis


def window_counts(
    input: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
) -> list[int]:
    """Return the number of windows along each axis (`SpatialDilatedMaxPooling.c`).

    A last window that starts outside the input and its padding is dropped only if some axis is
    padded; PyTorch and ONNX always drop it.

    Args:
        input: Size of the input along each axis.
        kernel: Size of a window, including its dilation.
        stride: Step between windows.
        padding: Padding on both sides.
        ceil_mode: Whether to count windows that extend over the edge.
    """
    counts = []
    for size, extent, step, pad in zip(input, kernel, stride, padding, strict=True):
        room = size + 2 * pad - extent
        count = (room + step - 1 if ceil_mode else room) // step + 1
        if any(padding) and (count - 1) * step >= size + pad:
            count -= 1
        counts.append(count)
    return counts


def floor_mode_padding(
    input: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    counts: Sequence[int],
) -> list[int]:
    """Return the padding for `functional.pad` with which floor mode has these windows."""
    pads: list[int] = []
    for size, extent, step, pad, count in zip(input, kernel, stride, padding, counts, strict=True):
        # Negative if the last window ends before the input does.
        pads[:0] = [pad, (count - 1) * step + extent - size - pad]
    return pads


@layer
class CeilMaxPool(nn.Module):
    """`SpatialMaxPooling.lua`, `VolumetricMaxPooling.lua` in ceil mode, or dilated and padded.

    In ceil mode it keeps a last window that `torch.nn.MaxPool2d` drops (see `window_counts`). A
    window without an element of the input, which a dilation may step over, gives the lowest value
    of the dtype, as in `SpatialDilatedMaxPooling.c`, not -∞. It pads explicitly and pools in floor
    mode, for which all ONNX runtimes agree.

    Args:
        kernel_size: Size of a window, (H, W) or (T, H, W).
        stride: Step between windows.
        padding: Padding on both sides.
        dilation: Step between the elements of a window.
        ceil_mode: Whether windows may extend over the edge.
    """

    def __init__(
        self,
        kernel_size: list[int],
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        ceil_mode: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.ceil_mode = ceil_mode

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (…, H, W) to (…, H', W'), or (…, T, H, W) to (…, T', H', W')."""
        kernel = [d * (k - 1) + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True)]
        sizes = input.shape[-len(kernel) :]
        counts = window_counts(sizes, kernel, self.stride, self.padding, self.ceil_mode)
        pads = floor_mode_padding(sizes, kernel, self.stride, self.padding, counts)
        padded = functional.pad(input, pads, value=torch.finfo(input.dtype).min)
        pool = functional.max_pool2d if len(kernel) == 2 else functional.max_pool3d
        return pool(padded, self.kernel_size, self.stride, 0, self.dilation)


@layer
class AvgPool(nn.Module):
    """`SpatialAveragePooling.lua`, `VolumetricAveragePooling.lua` in ceil mode or without `divide`.

    It keeps a last window that `torch.nn.AvgPool2d` drops (see `window_counts`). It pads with
    zeros explicitly, pools in floor mode and corrects the divisor, because ONNX runtimes disagree
    on the divisor at the edge.

    Args:
        kernel_size: Size of a window, (H, W) or (T, H, W).
        stride: Step between windows.
        padding: Padding on both sides.
        ceil_mode: Whether windows may extend over the edge.
        count_include_pad: Whether the divisor includes the padding; it never includes what lies
            beyond.
        divide: If False, the mean is multiplied by the size of a whole window. That is the sum,
            except for windows at the edge.
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
        """Map (…, H, W) to (…, H', W'), or (…, T, H, W) to (…, T', H', W')."""
        kernel, rank = self.kernel_size, len(self.kernel_size)
        sizes = input.shape[-rank:]
        counts = window_counts(sizes, kernel, self.stride, self.padding, self.ceil_mode)
        pads = floor_mode_padding(sizes, kernel, self.stride, self.padding, counts)
        padded = functional.pad(input, pads)
        pool = functional.avg_pool2d if rank == 2 else functional.avg_pool3d
        output = pool(padded, kernel, self.stride)
        for axis in range(rank):
            divisor = self._divisor(axis, sizes[axis], counts[axis], input)
            output = output * (kernel[axis] / divisor).reshape([-1] + [1] * (rank - 1 - axis))
        return output if self.divide else output * math.prod(kernel)

    def _divisor(self, axis: int, size: int, count: int, input: torch.Tensor) -> torch.Tensor:
        """Return the divisor of each window along one axis."""
        pad = self.padding[axis]
        start = torch.arange(count, dtype=input.dtype, device=input.device)
        start = start * self.stride[axis] - pad
        end = (start + self.kernel_size[axis]).clamp(max=size + pad)
        if not self.count_include_pad:
            start, end = start.clamp(min=0), end.clamp(max=size)
        return end - start


@register(
    "nn.SpatialMaxPooling",
    "nn.SpatialDilatedMaxPooling",
    "cudnn.SpatialMaxPooling",
    ignored=("iwidth", "iheight", "nThread"),
)
def spatial_max_pooling(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialMaxPooling.lua`: max pooling of (N, C, H, W) or (C, H, W)."""
    return _max_pool(nn.MaxPool2d, source, context, PLANE)


@register("nn.VolumetricMaxPooling", "nn.VolumetricDilatedMaxPooling", "cudnn.VolumetricMaxPooling")
def volumetric_max_pooling(source: LuaObject, context: Context) -> nn.Module:
    """Convert `VolumetricMaxPooling.lua`: max pooling of (N, C, T, H, W) or (C, T, H, W)."""
    return _max_pool(nn.MaxPool3d, source, context, VOLUME)


@register(
    "nn.SpatialAveragePooling",
    "cudnn.SpatialAveragePooling",
    ignored=("count_include_pad", "divide"),
)
def spatial_average_pooling(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialAveragePooling.lua`: average pooling of (N, C, H, W) or (C, H, W)."""
    return _average_pool(nn.AvgPool2d, source, context, PLANE)


@register(
    "nn.VolumetricAveragePooling",
    "cudnn.VolumetricAveragePooling",
    ignored=("count_include_pad", "divide"),
)
def volumetric_average_pooling(source: LuaObject, context: Context) -> nn.Module:
    """Convert `VolumetricAveragePooling.lua`: average pooling of volumes, with or without batch."""
    return _average_pool(nn.AvgPool3d, source, context, VOLUME)


def _max_pool(
    torch_class: Callable[..., nn.Module], source: LuaObject, context: Context, axes: str
) -> nn.Module:
    context.choice(source, "mode", ["CUDNN_POOLING_MAX", "CUDNN_POOLING_MAX_DETERMINISTIC"])
    kernel = per_axis(source, "k", axes)
    stride = per_axis(source, "d", axes)
    padding = per_axis(source, "pad", axes, default=0)
    dilation = per_axis(source, "dilation", axes, default=1)
    ceil_mode = _ceil_mode(source, context)
    # With these sizes no window starts outside the input, so PyTorch has the same windows.
    same_windows = not ceil_mode or all(
        p + s <= d * (k - 1) + 1
        for k, s, p, d in zip(kernel, stride, padding, dilation, strict=True)
    )
    # A window that starts in the padding may step over the whole input.
    empty_windows = any(p > 0 and d > 1 for p, d in zip(padding, dilation, strict=True))
    if same_windows and not empty_windows:
        return torch_class(kernel, stride, padding, dilation, ceil_mode=ceil_mode)
    return CeilMaxPool(list(kernel), list(stride), list(padding), list(dilation), ceil_mode)


def _average_pool(
    torch_class: Callable[..., nn.Module], source: LuaObject, context: Context, axes: str
) -> nn.Module:
    kernel = per_axis(source, "k", axes)
    stride = per_axis(source, "d", axes)
    padding = per_axis(source, "pad", axes, default=0)
    ceil_mode = _ceil_mode(source, context)
    older = source.class_name == "nn.SpatialAveragePooling" and source.get("ceil_mode") is None
    if older and any(padding):
        context.note("`backwardCompatible` of SpatialAveragePooling.lua sets its padding to 0")
        padding = (0, 0)
    cudnn = source.class_name.startswith("cudnn.")
    context.choice(source, "mode", ["CUDNN_POOLING_AVERAGE_COUNT_INCLUDE_PADDING"])
    if cudnn and ceil_mode:
        context.note("cuDNN does not document its divisor at the edge: nn's is assumed")
    include = cudnn or source.get("count_include_pad", True) is not False
    divide = _divides(source, context)
    if divide and not ceil_mode:
        return torch_class(kernel, stride, padding, count_include_pad=include)
    return AvgPool(list(kernel), list(stride), list(padding), ceil_mode, include, divide)


def _ceil_mode(source: LuaObject, context: Context) -> bool:
    """Return whether windows may extend over the edge; in nn.VolumetricAveragePooling none does."""
    if source.get("ceil_mode") is None and source.class_name != "nn.VolumetricAveragePooling":
        context.note("no field ceil_mode (an older file): it is false")
    return source.get("ceil_mode") is True


def _divides(source: LuaObject, context: Context) -> bool:
    """Return whether windows are averaged; nn summed them before it had the field `divide`."""
    if source.class_name != "nn.SpatialAveragePooling":
        return True
    if source.get("divide") is None:
        context.note("no field divide (a file from before March 2015): windows are summed")
    return source.get("divide") is True
