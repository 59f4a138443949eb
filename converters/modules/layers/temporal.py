"""Layers on sequences of frames, (N, T, F) or (T, F) (`TemporalConvolution.lua`, …)."""

from __future__ import annotations

import math

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register
from .subsampling import SubSampling


@layer
class FramesFirst(nn.Module):
    """A layer on (N, F, T), such as `nn.Conv1d`, applied to Torch7's (N, T, F) or (T, F).

    Args:
        module: The layer.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, T, F) to (N, T', F'), or (T, F) to (T', F')."""
        output: torch.Tensor = self.module(input.transpose(-1, -2))
        return output.transpose(-1, -2)


@layer
class DynamicKMaxPool(nn.Module):
    """`TemporalDynamicKMaxPooling.lua`: the k largest values of each feature, in temporal order.

    k is max(min_k, factor · T).

    Args:
        min_k: Smallest k.
        factor: Fraction of the frames.
        round_up: Whether that fraction is rounded up, and not down.
    """

    def __init__(self, min_k: int, factor: float = 0.0, round_up: bool = True) -> None:
        super().__init__()
        self.min_k = min_k
        self.factor = factor
        self.round_up = round_up

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, T, F) to (N, k, F), or (T, F) to (k, F)."""
        k = self.min_k
        if self.factor > 0:
            frames = self.factor * input.shape[-2]
            k = max(k, math.ceil(frames) if self.round_up else math.floor(frames))
        return input.gather(-2, largest_in_order(input, k))


def largest_in_order(values: torch.Tensor, k: int) -> torch.Tensor:
    """Return the indices, rising, of the k largest values along the second last axis.

    Of equal values the earlier one is preferred, as in Torch7.
    """
    # ONNX's TopK prefers it too, PyTorch only in a stable sort, which ONNX lacks.
    if torch.compiler.is_exporting():
        largest = values.topk(k, dim=-2).indices
    else:
        largest = values.sort(dim=-2, descending=True, stable=True).indices.narrow(-2, 0, k)
    return largest.sort(dim=-2).values


@register("nn.TemporalConvolution")
def temporal_convolution(source: LuaObject, context: Context) -> nn.Module:
    """Convert `TemporalConvolution.lua`: convolution over time, weight (out, kW · in)."""
    return _convolution(source, context, int(source["kW"]), int(source["dW"]), 0)


@register("cudnn.TemporalConvolution")
def cudnn_temporal_convolution(source: LuaObject, context: Context) -> nn.Module:
    """Convert `TemporalConvolution.lua` of cudnn.torch: convolution over time.

    It computes a convolution of an image whose rows are the frames: kW is the size of a frame;
    kernel, stride and padding over time are kH, dH and padH.
    """
    padding = int(source.get("padH", 0))
    return _convolution(source, context, int(source["kH"]), int(source["dH"]), padding)


@register("nn.TemporalRowConvolution", "nn.TemporalRowConvolutionMM")
def temporal_row_convolution(source: LuaObject, context: Context) -> nn.Module:
    """Convert `TemporalRowConvolution.lua`: each feature convolved with its own kernel.

    The weight is (F, 1, kW). With `featFirst` the input is (N, F, T) or (F, T).
    """
    features, bias = int(source["inputFrameSize"]), source.get("bias")
    module = nn.Conv1d(
        features,
        features,
        int(source["kW"]),
        stride=int(source["dW"]),
        groups=features,
        bias=bias is not None,
        device="meta",
    )
    context.fill(module, weight=source["weight"], bias=bias)
    return module if source.get("featFirst") is True else FramesFirst(module)


@register("nn.TemporalMaxPooling")
def temporal_max_pooling(source: LuaObject, context: Context) -> nn.Module:
    """Convert `TemporalMaxPooling.lua`: max pooling over time."""
    return FramesFirst(nn.MaxPool1d(int(source["kW"]), int(source["dW"])))


@register("nn.TemporalDynamicKMaxPooling")
def temporal_dynamic_k_max_pooling(source: LuaObject, context: Context) -> nn.Module:
    """Convert `TemporalDynamicKMaxPooling.lua`: the k largest values in temporal order."""
    return DynamicKMaxPool(int(source["minK"]), float(source.get("factor", 0)))


@register("nn.TemporalSubSampling")
def temporal_sub_sampling(source: LuaObject, context: Context) -> nn.Module:
    """Convert `TemporalSubSampling.lua`: w · sum + b over windows, for each feature."""
    with torch.device("meta"):
        module = SubSampling(
            int(source["inputFrameSize"]), [int(source["kW"])], [int(source["dW"])]
        )
    context.fill(module, weight=source["weight"], bias=source["bias"])
    return FramesFirst(module)


def _convolution(
    source: LuaObject, context: Context, kernel_size: int, stride: int, padding: int
) -> nn.Module:
    """Convert a convolution over time, whose weight is (out, frame · feature)."""
    weight, bias = source["weight"], source.get("bias")
    n_in, n_out = int(source["inputFrameSize"]), int(source["outputFrameSize"])
    module = nn.Conv1d(
        n_in,
        n_out,
        kernel_size,
        stride=stride,
        padding=padding,
        bias=bias is not None,
        device="meta",
    )
    frames = weight.reshape(n_out, kernel_size, n_in)
    return FramesFirst(context.fill(module, weight=frames.swapaxes(1, 2), bias=bias))
