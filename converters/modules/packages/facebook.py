"""Layers of fbnn and fbcunn, most of which are layers of nn otherwise (`LinearNB.lua`, …)."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject, LuaTable
from ..context import Context
from ..layers.container import Container
from ..layers.temporal import DynamicKMaxPool, largest_in_order
from ..registry import layer, register
from .alias import convert_as


@register("nn.LinearNB")
def linear_nb(source: LuaObject, context: Context) -> nn.Module:
    """Convert `LinearNB.lua`: nn.Linear without a bias."""
    return convert_as("nn.Linear", source, context, bias=None)


@register(
    "nn.SpatialConvolutionCuFFT",
    "nn.SpatialConvolutionFBFFT",
    "nn.SpatialConvolutionFBFFTGemm",
    "nn.SpatialConvolutionFFT",
    "nn.SpatialConvolutionFFTTiled",
    "nn.SpatialConvolutionFFTTiledAsync",
    "nn.SpatialConvolutionFFTTiledIterated",
    "nn.SpatialConvolutionFFTTiledSync",
    ignored=(
        *("fftImplementation", "printDebugLevel", "cudnnDebug", "numCudaStreams", "allStreams"),
        *("numCublasHandles", "allStreamsButDefault", "bufferKeys", "memoryReusePolicy"),
        *("moduleUID", "timeSteps", "recoverFromError", "cudnnChecks", "success"),
        *("autotuningPass", "reportErrors", "fallbackModules", "collectedGarbage"),
        *("originalStream", "tileSizeW", "tileSizeH", "padRight", "padDown"),
    ),
)
def spatial_convolution_fft(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialConvolutionFFT.lua` and its kinds: nn.SpatialConvolution, by other means."""
    return convert_as(
        "nn.SpatialConvolution",
        source,
        context,
        padW=source.get("padLeft", source.get("padW", 0)),
        padH=source.get("padUp", source.get("padH", 0)),
    )


@register("nn.CrossMapNormalization")
def cross_map_normalization(source: LuaObject, context: Context) -> nn.Module:
    """Convert `CrossMapNormalization.lua`: nn.SpatialCrossMapLRN with other field names."""
    return convert_as(
        "nn.SpatialCrossMapLRN", source, context, alpha=source["scale"], beta=source["power"], k=1
    )


@register("nn.LookupTableGPU")
def lookup_table_gpu(source: LuaObject, context: Context) -> nn.Module:
    """Convert `LookupTableGPU.lua`: nn.LookupTable; `featuresInDim2` moves features to dim 2."""
    table = convert_as("nn.LookupTable", source, context)
    if not source.get("featuresInDim2"):
        return table
    swap = LuaTable.from_list([LuaTable.from_list([2, 3])])
    return nn.Sequential(table, convert_as("nn.Transpose", source, context, permutations=swap))


@layer
class WeightedEmbedding(Container):
    """`WeightedLookupTable.lua`: rows of a table, each times a weight.

    Args:
        modules: The table.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map pairs (N, 2) of an index from 1 and a weight to (N, features)."""
        indices, weights = input.unbind(1)
        output: torch.Tensor = self[0](indices) * weights.unsqueeze(1)
        return output


@register("nn.WeightedLookupTable", ignored=("_gradOutput", "_embeddings"))
def weighted_lookup_table(source: LuaObject, context: Context) -> nn.Module:
    """Convert `WeightedLookupTable.lua`: nn.LookupTable times a weight for each row."""
    return WeightedEmbedding(convert_as("nn.LookupTable", source, context))


@register(
    "nn.LocallyConnected", ignored=("input_cache", "gradOutput_cache", "gradOutputCacheIsValid")
)
def locally_connected(source: LuaObject, context: Context) -> nn.Module:
    """Convert `LocallyConnected.lua`: nn.SpatialConvolutionLocal with another layout.

    Its weight is (out, oH, oW, in, kH, kW); on a GPU (oH, oW, kH, kW, out, in), with a bias of (oH,
    oW, out).
    """
    weight, bias = source["weight"], source["bias"]
    n_out, n_in = int(source["nOutputPlane"]), int(source["nInputPlane"])
    kernel = int(source["kH"]), int(source["kW"])
    if weight.shape[0] == n_out and weight.shape[3:] == (n_in, *kernel):
        weight = weight.transpose(1, 2, 0, 3, 4, 5)
    elif weight.shape[2:] == (*kernel, n_out, n_in):
        weight, bias = weight.transpose(0, 1, 4, 5, 2, 3), bias.transpose(2, 0, 1)
    else:
        raise context.error(f"the weight has an unknown shape {tuple(weight.shape)}")
    height, width = weight.shape[:2]
    return convert_as(
        "nn.SpatialConvolutionLocal", source, context, weight=weight, bias=bias, oH=height, oW=width
    )


@register("nn.KMaxPooling", "nn.TemporalKMaxPooling", ignored=("switches", "indices"))
def temporal_k_max_pooling(source: LuaObject, context: Context) -> nn.Module:
    """Convert `TemporalKMaxPooling.lua`: the k largest values of each feature in temporal order."""
    factor = max(float(source.get("k_dynamic", -1)), 0.0)
    return DynamicKMaxPool(int(source["k"]), factor, round_up=False)


@layer
class GroupKMaxPool(nn.Module):
    """`GroupKMaxPooling.lua`: the k frames of the largest norm, in temporal order.

    k is max(min_k, factor · T). Frames of zeros follow where there are fewer than k.

    Args:
        min_k: Smallest k.
        factor: Fraction of the frames, rounded down.
    """

    def __init__(self, min_k: int, factor: float = 0.0) -> None:
        super().__init__()
        self.min_k = min_k
        self.factor = factor

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, T, F) to (N, k, F), or (T, F) to (k, F)."""
        k = self.min_k
        if self.factor > 0:
            k = max(k, math.floor(self.factor * input.shape[-2]))
        # An added frame is chosen after all others: its norm is the smallest.
        frames = functional.pad(input, (0, 0, 0, k))
        norms = functional.pad(input.norm(dim=-1, keepdim=True), (0, 0, 0, k), value=-1.0)
        indices = largest_in_order(norms, k)
        return frames.gather(-2, indices.expand(*indices.shape[:-1], input.shape[-1]))

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.min_k}, factor={self.factor}"


@register("nn.GroupKMaxPooling", ignored=("switches",))
def group_k_max_pooling(source: LuaObject, context: Context) -> nn.Module:
    """Convert `GroupKMaxPooling.lua`: the frames of the largest norm, in temporal order."""
    factor = max(float(source.get("k_dynamic", -1)), 0.0)
    return GroupKMaxPool(int(source["k"]), factor)
