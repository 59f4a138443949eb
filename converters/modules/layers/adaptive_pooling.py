"""Pooling to a fixed output size (`SpatialAdaptiveMaxPooling.lua`, …)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register
from .geometry import height_width


@layer
class AdaptiveMaxPool2d(nn.AdaptiveMaxPool2d):
    """`SpatialAdaptiveMaxPooling.lua`: max pooling to a fixed output size.

    Unlike torch.nn's its window edges are rounded in float32, as in `SpatialAdaptiveMaxPooling.c`:
    the first of 7 windows over 21 elements has 4 elements in Torch7 and 3 in PyTorch. It uses only
    operations that ONNX has.
    """

    output_size: tuple[int, int]

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) or (C, H, W) to the output size."""
        # Columns first: of equal values the gradient goes to the first one, row by row.
        for dim, count in zip((-1, -2), self.output_size[::-1], strict=True):
            edges = [
                _float32(_float32(index / count) * input.shape[dim]) for index in range(count + 1)
            ]
            windows = _windows(input, dim, map(math.floor, edges[:-1]), map(math.ceil, edges[1:]))
            input = torch.cat([window.max(dim, keepdim=True).values for window in windows], dim)
        return input


@layer
class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """`SpatialAdaptiveAveragePooling.lua`: average pooling to a fixed output size.

    It has torch.nn's windows, computed exactly as in `SpatialAdaptiveAveragePooling.c`, but uses
    only operations that ONNX has.
    """

    output_size: tuple[int, int]

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) or (C, H, W) to the output size."""
        for dim, count in zip((-2, -1), self.output_size, strict=True):
            size = input.shape[dim]
            starts = [index * size // count for index in range(count)]
            ends = [(index * size + count - 1) // count for index in range(1, count + 1)]
            windows = _windows(input, dim, starts, ends)
            input = torch.cat([window.mean(dim, keepdim=True) for window in windows], dim)
        return input


def _windows(
    input: torch.Tensor, dim: int, starts: Iterable[int], ends: Iterable[int]
) -> list[torch.Tensor]:
    """Return the windows along one dimension, as many as there are ends."""
    return [input.narrow(dim, start, end - start) for start, end in zip(starts, ends, strict=True)]


def _float32(value: float) -> float:
    """Round a number to float32."""
    fraction, exponent = math.frexp(value)
    return math.ldexp(round(fraction * 2**24), exponent - 24)


#: Most windows along one axis: each becomes an operation.
_MAX_WINDOWS = 4096


def _output_size(source: LuaObject, context: Context) -> tuple[int, int]:
    size = height_width(source, "")
    if not all(0 < count <= _MAX_WINDOWS for count in size):
        raise context.error(
            f"{source.class_name} to {size[0]}×{size[1]}, but each size is 1 to {_MAX_WINDOWS}"
        )
    return size


@register("nn.SpatialAdaptiveMaxPooling")
def spatial_adaptive_max_pooling(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialAdaptiveMaxPooling.lua`; torch.nn's class is the same for size 1×1."""
    size = _output_size(source, context)
    return nn.AdaptiveMaxPool2d(size) if size == (1, 1) else AdaptiveMaxPool2d(size)


@register("nn.SpatialAdaptiveAveragePooling")
def spatial_adaptive_average_pooling(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialAdaptiveAveragePooling.lua`; torch.nn's class is the same for size 1×1."""
    size = _output_size(source, context)
    return nn.AdaptiveAvgPool2d(size) if size == (1, 1) else AdaptiveAvgPool2d(size)
