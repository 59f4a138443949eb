"""Layers of fbnn and fbcunn, which are layers of nn under other names (`LinearNB.lua`, …)."""

from __future__ import annotations

from torch import nn

from ...t7 import LuaObject, LuaTable
from ..context import Context
from ..registry import register
from .alias import convert_as


@register("nn.LinearNB")
def linear_nb(source: LuaObject, context: Context) -> nn.Module:
    """Convert `LinearNB.lua`: nn.Linear without a bias."""
    return convert_as("nn.Linear", source, context, bias=None)


@register("nn.SpatialConvolutionCuFFT")
def spatial_convolution_cufft(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialConvolutionCuFFT.lua`: nn.SpatialConvolution, computed by FFTs in Torch7."""
    return convert_as("nn.SpatialConvolution", source, context)


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
