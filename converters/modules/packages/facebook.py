"""Layers of fbnn and fbcunn that are nn's under another name (`LinearNB.lua`, …)."""

from __future__ import annotations

from torch import nn

from ...t7 import LuaObject, LuaTable
from ..context import Context
from ..registry import register
from .alias import convert_as


@register("nn.LinearNB")
def linear_nb(source: LuaObject, context: Context) -> nn.Module:
    """`LinearNB.lua`: nn.Linear without a bias."""
    return convert_as("nn.Linear", source, context, bias=None)


@register("nn.SpatialConvolutionCuFFT")
def spatial_convolution_cufft(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialConvolutionCuFFT.lua`: nn.SpatialConvolution, computed by Fourier transforms."""
    return convert_as("nn.SpatialConvolution", source, context)


@register("nn.CrossMapNormalization")
def cross_map_normalization(source: LuaObject, context: Context) -> nn.Module:
    """`CrossMapNormalization.lua`: nn.SpatialCrossMapLRN with other names."""
    return convert_as(
        "nn.SpatialCrossMapLRN", source, context, alpha=source["scale"], beta=source["power"], k=1
    )


@register("nn.LookupTableGPU")
def lookup_table_gpu(source: LuaObject, context: Context) -> nn.Module:
    """`LookupTableGPU.lua`: nn.LookupTable, with the features in dimension 2 if it says so."""
    table = convert_as("nn.LookupTable", source, context)
    if not source.get("featuresInDim2"):
        return table
    swap = LuaTable.from_list([LuaTable.from_list([2, 3])])
    return nn.Sequential(table, convert_as("nn.Transpose", source, context, permutations=swap))
