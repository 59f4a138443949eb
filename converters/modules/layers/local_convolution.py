"""Convolutions with unshared kernels, or between some pairs of channels only.

`SpatialConvolutionMap.lua`, `SpatialFullConvolutionMap.lua` and `SpatialConvolutionLocal.lua`.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register
from .geometry import PLANE, height_width, paddings


@layer
class ConvMap2d(nn.Module):
    """`SpatialConvolutionMap.lua`: a convolution that connects some pairs of channels.

    Args:
        in_channels: Number of input channels.
        out_channels: Number of output channels.
        connections: [input channel, output channel] of each kernel, from 0; a pair may occur
            several times.
        kernel_size: (H, W).
        stride: (H, W).
        transposed: Whether it is a transposed convolution (`SpatialFullConvolutionMap.lua`).
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
        """Map (N, in, H, W) to (N, out, H', W'), or (in, H, W) to (out, H', W').

        Channels behind the last connected one are ignored, as in `SpatialConvolutionMap.c`.
        """
        if input.shape[-3] > self.in_channels:
            input = input.narrow(-3, 0, self.in_channels)
        if self.transposed:
            kernels = self._dense(0, 1, self.in_channels, self.out_channels)
            return functional.conv_transpose2d(input, kernels, self.bias, self.stride)
        kernels = self._dense(1, 0, self.out_channels, self.in_channels)
        return functional.conv2d(input, kernels, self.bias, self.stride)

    def _dense(self, row: int, column: int, rows: int, columns: int) -> torch.Tensor:
        """Return the kernels of all pairs of channels, zero if they are not connected."""
        positions = [pair[row] * columns + pair[column] for pair in self.connections]
        index = torch.tensor(positions, device=self.weight.device)
        dense = self.weight.new_zeros(rows * columns, *self.kernel_size)
        return dense.index_add(0, index, self.weight).reshape(rows, columns, *self.kernel_size)


@layer
class ConvLocal2d(nn.Module):
    """`SpatialConvolutionLocal.lua`: a convolution with its own kernel at each output position.

    Args:
        in_channels: Number of input channels.
        out_channels: Number of output channels.
        output_size: (H, W) of the output, which fixes the size of the input.
        kernel_size: (H, W).
        stride: (H, W).
        padding: (H, W), on both sides.
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
        """Map (N, in, H, W) to (N, out, H', W'), or (in, H, W) to (out, H', W')."""
        if input.dim() == 3:
            return self.forward(input.unsqueeze(0)).squeeze(0)
        kernel, padding, stride = map(tuple, (self.kernel_size, self.padding, self.stride))
        columns = functional.unfold(input, kernel, padding=padding, stride=stride)
        positions, size = columns.shape[2], columns.shape[1]
        kernels = self.weight.reshape(positions, self.out_channels, size)
        # One matrix product for each position: (L, out, K) · (L, K, N) = (L, out, N).
        output = (kernels @ columns.permute(2, 1, 0)).permute(2, 1, 0)
        return output.reshape(-1, self.out_channels, *self.output_size) + self.bias


@register("nn.SpatialConvolutionMap", ignored=("connTableRev",))
def spatial_convolution_map(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialConvolutionMap.lua`: a convolution that connects some pairs of channels.

    The pairs are the rows of `connTable`, counted from 1.
    """
    return _convolution_map(source, context, transposed=False)


@register("nn.SpatialFullConvolutionMap")
def spatial_full_convolution_map(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialFullConvolutionMap.lua`: the transposed convolution of some channel pairs."""
    return _convolution_map(source, context, transposed=True)


@register("nn.SpatialConvolutionLocal", ignored=("iW", "iH"))
def spatial_convolution_local(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialConvolutionLocal.lua`: a convolution with unshared kernels.

    The weight is (oH, oW, out, in, kH, kW), the bias (out, oH, oW).
    """
    with torch.device("meta"):
        module = ConvLocal2d(
            int(source["nInputPlane"]),
            int(source["nOutputPlane"]),
            list(height_width(source, "o")),
            list(height_width(source, "k")),
            list(height_width(source, "d")),
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
            list(height_width(source, "k")),
            list(height_width(source, "d")),
            transposed,
        )
    return context.fill(module, weight=source["weight"], bias=source["bias"])
