"""Convolutions whose kernels are not shared, or not between all planes.

`SpatialConvolutionMap.lua`, `SpatialFullConvolutionMap.lua` and `SpatialConvolutionLocal.lua`.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register
from .geometry import PLANE, extents, paddings


@layer
class ConvMap2d(nn.Module):
    """Convolution in which some pairs of planes are connected, each by a kernel of its own.

    Args:
        in_channels: planes of the input.
        out_channels: planes of the output.
        connections: [input plane, output plane] of every kernel, from 0; a pair may come twice.
        kernel_size: (H, W).
        stride: (H, W).
        transposed: a full (transposed) convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        connections: list[list[int]],
        kernel_size: list[int],
        stride: list[int],
        transposed: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.connections = connections
        self.kernel_size = kernel_size
        self.stride = stride
        self.transposed = transposed
        self.weight = nn.Parameter(torch.empty(len(connections), *kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, in, H, W) or (in, H, W) to (N, out, H', W') or (out, H', W')."""
        if self.transposed:
            kernels = self._dense(0, 1, self.in_channels, self.out_channels)
            return functional.conv_transpose2d(input, kernels, self.bias, self.stride)
        kernels = self._dense(1, 0, self.out_channels, self.in_channels)
        return functional.conv2d(input, kernels, self.bias, self.stride)

    def _dense(self, row: int, column: int, rows: int, columns: int) -> torch.Tensor:
        """The kernels of all pairs of planes, zero where they are not connected."""
        places = [pair[row] * columns + pair[column] for pair in self.connections]
        index = torch.tensor(places, device=self.weight.device)
        dense = self.weight.new_zeros(rows * columns, *self.kernel_size)
        return dense.index_add(0, index, self.weight).reshape(rows, columns, *self.kernel_size)


@layer
class ConvLocal2d(nn.Module):
    """Convolution with another kernel at every place of the output.

    Args:
        in_channels: planes of the input.
        out_channels: planes of the output.
        output_size: (H, W) of the output, which fixes the input's size.
        kernel_size: (H, W).
        stride: (H, W).
        padding: (H, W), on either side.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        output_size: list[int],
        kernel_size: list[int],
        stride: list[int],
        padding: list[int],
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.output_size = output_size
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.weight = nn.Parameter(
            torch.empty(*output_size, out_channels, in_channels, *kernel_size)
        )
        self.bias = nn.Parameter(torch.empty(out_channels, *output_size))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, in, H, W) or (in, H, W) to (N, out, H', W') or (out, H', W')."""
        if input.dim() == 3:
            return self.forward(input.unsqueeze(0)).squeeze(0)
        kernel, padding, stride = map(tuple, (self.kernel_size, self.padding, self.stride))
        columns = functional.unfold(input, kernel, padding=padding, stride=stride)
        places, size = columns.shape[2], columns.shape[1]
        kernels = self.weight.reshape(places, self.out_channels, size)
        # One matrix product a place: (L, out, K) · (L, K, N) = (L, out, N).
        output = (kernels @ columns.permute(2, 1, 0)).permute(2, 1, 0)
        return output.reshape(-1, self.out_channels, *self.output_size) + self.bias


@register("nn.SpatialConvolutionMap")
def spatial_convolution_map(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialConvolutionMap.lua`; its table of connections counts planes from 1."""
    return _convolution_map(source, context, transposed=False)


@register("nn.SpatialFullConvolutionMap")
def spatial_full_convolution_map(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialFullConvolutionMap.lua`: the transposed convolution with a table of connections."""
    return _convolution_map(source, context, transposed=True)


@register("nn.SpatialConvolutionLocal")
def spatial_convolution_local(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialConvolutionLocal.lua`: weight (oH, oW, out, in, kH, kW), bias (out, oH, oW)."""
    with torch.device("meta"):
        module = ConvLocal2d(
            int(source["nInputPlane"]),
            int(source["nOutputPlane"]),
            list(extents(source, "o", PLANE)),
            list(extents(source, "k", PLANE)),
            list(extents(source, "d", PLANE)),
            list(paddings(source, context, PLANE)),
        )
    return context.fill(module, weight=source["weight"], bias=source["bias"])


def _convolution_map(source: LuaObject, context: Context, transposed: bool) -> nn.Module:
    connections = [[int(plane) - 1 for plane in pair] for pair in source["connTable"]]
    with torch.device("meta"):
        module = ConvMap2d(
            int(source["nInputPlane"]),
            int(source["nOutputPlane"]),
            connections,
            list(extents(source, "k", PLANE)),
            list(extents(source, "d", PLANE)),
            transposed,
        )
    return context.fill(module, weight=source["weight"], bias=source["bias"])
