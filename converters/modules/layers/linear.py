"""Linear layers (`Linear.lua`, `Bilinear.lua`, `PartialLinear.lua`, `Maxout.lua`)."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@register("nn.Linear")
def linear(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Linear.lua`: x·Wᵀ + b for (N, in) or (in,); the bias may be missing."""
    weight, bias = source["weight"], source.get("bias")
    n_out, n_in = weight.shape
    module = nn.Linear(n_in, n_out, bias=bias is not None, device="meta")
    return context.fill(module, weight=weight, bias=bias)


@layer
class Bilinear(nn.Module):
    """`Bilinear.lua`: x₁·Wₖ·x₂ + bₖ for each output k.

    It takes a list of two inputs; `torch.nn.Bilinear` takes two arguments.

    Args:
        in1_features: Size of the first input.
        in2_features: Size of the second input.
        out_features: Size of the output.
        bias: Whether the layer has a bias.
    """

    def __init__(
        self, in1_features: int, in2_features: int, out_features: int, bias: bool = True
    ) -> None:
        super().__init__()
        self.in1_features = in1_features
        self.in2_features = in2_features
        self.out_features = out_features
        self.weight = nn.Parameter(torch.empty(out_features, in1_features, in2_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map [(N, in1), (N, in2)] to (N, out)."""
        first, second = input
        return functional.bilinear(first, second, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.in1_features}, {self.in2_features}, out_features={self.out_features}"


@layer
class PartialLinear(nn.Module):
    """`PartialLinear.lua`: a linear layer that computes only some of its outputs.

    Args:
        in_features: Size of the input.
        out_features: Number of all outputs.
        part_features: Number of outputs that are computed; the buffer `partition` holds their
            indices, from 0.
        bias: Whether the layer has a bias.
    """

    partition: torch.Tensor

    def __init__(
        self, in_features: int, out_features: int, part_features: int, bias: bool = True
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.part_features = part_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        self.register_buffer("partition", torch.empty(part_features, dtype=torch.int64))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, in) to (N, part_features)."""
        bias = None if self.bias is None else self.bias[self.partition]
        return functional.linear(input, self.weight[self.partition], bias)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.in_features}, {self.part_features} of {self.out_features}"


@register("nn.Bilinear")
def bilinear(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Bilinear.lua`: x₁·W·x₂ + b; the bias may be missing."""
    weight, bias = source["weight"], source.get("bias")
    n_out, n_first, n_second = weight.shape
    module = Bilinear(n_first, n_second, n_out, bias is not None)
    return context.fill(module, weight=weight, bias=bias)


@register("nn.PartialLinear", ignored=("inputsize", "outputsize", "allcolumns"))
def partial_linear(source: LuaObject, context: Context) -> nn.Module:
    """Convert `PartialLinear.lua`: some outputs of a linear layer, or all of them.

    The weight is that of the LookupTable inside `network`.
    """
    table = source["network"]["modules"][1]["modules"][2]
    weight, bias = table["weight"], source.get("bias")
    n_out, n_in = weight.shape
    partition = source["partition"].ravel().astype(np.int64) - 1
    if np.array_equal(partition, np.arange(n_out)):
        linear = nn.Linear(n_in, n_out, bias=bias is not None, device="meta")
        return context.fill(linear, weight=weight, bias=bias)
    module = PartialLinear(n_in, n_out, partition.size, bias is not None)
    return context.fill(module, weight=weight, bias=bias, partition=partition)


@register("nn.Maxout")
def maxout(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Maxout.lua`: a linear layer, a view and a maximum, which are all in the file."""
    return nn.Sequential(*context.children(source))
