"""Layers of dpnn: blocks of networks, argmax, clipping and others (`Inception.lua`, …)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..layers.container import Container
from ..registry import layer, register
from .alias import convert_as


@layer
class ArgMax(nn.Module):
    """`ArgMax.lua`: the index, counted from 1, of the largest value along a dimension.

    Args:
        dim: The dimension in one example.
        input_dims: Number of dimensions of one example; an input with more is a batch.
        as_long: Whether indices are int64; otherwise they have the dtype of the input.
    """

    def __init__(self, dim: int, input_dims: int, as_long: bool = True) -> None:
        super().__init__()
        self.dim = dim
        self.input_dims = input_dims
        self.as_long = as_long

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (…, size, …) to (…, …), and a vector to (1,)."""
        dim = self.dim + 1 if input.dim() > self.input_dims else self.dim
        index = input.argmax(dim, keepdim=input.dim() == 1) + 1
        return index if self.as_long else index.to(input.dtype)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"dim={self.dim}"


@register("nn.ArgMax")
def arg_max(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ArgMax.lua`: the index of the largest value, counted from 1."""
    return ArgMax(
        int(source["dim"]) - 1, int(source["nInputDim"]), bool(source.get("asLong", True))
    )


@layer
class Clip(nn.Module):
    """`Clip.lua`: clips values; unlike `torch.clamp`'s, the gradient passes unchanged everywhere.

    Args:
        lower: The smallest value.
        upper: The largest value.
    """

    def __init__(self, lower: float, upper: float) -> None:
        super().__init__()
        self.lower = lower
        self.upper = upper

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map any shape to the same shape."""
        # The lower limit is applied last: it wins if it is above the upper one.
        clipped = input.detach().clamp(max=self.upper).clamp(min=self.lower)
        output: torch.Tensor = StraightThrough.apply(input, clipped)
        return output

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.lower}, {self.upper}"


class StraightThrough(torch.autograd.Function):
    """Returns its second argument, and passes the gradient to the first."""

    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Return `output`."""
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Pass the gradient on unchanged."""
        return grad_output, None


@register("nn.Clip")
def clip(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Clip.lua`: clipping with an unchanged gradient."""
    return Clip(source["minval"], source["maxval"])


@layer
class Inception(Container):
    """`Inception.lua`: parallel columns of convolutions whose outputs are concatenated.

    Unlike the module inside, it also takes an image without a batch.

    Args:
        modules: The columns and their concatenation, as one module.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, C', H', W'), or both without N."""
        batch = input.unsqueeze(0) if input.dim() == 3 else input
        output: torch.Tensor = self[0](batch)
        return output.squeeze(0) if input.dim() == 3 else output


@register(
    "nn.Inception",
    ignored=(
        "inputSize",
        "reduceSize",
        "pool",
        "outputSize",
        "batchNorm",
        "kernelSize",
        "kernelStride",
        "poolStride",
        "padding",
        "poolSize",
        "transfer",
    ),
)
def inception(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Inception.lua`; its only child is a DepthConcat of all columns."""
    return Inception(*context.children(source))


@register("nn.FireModule", ignored=("modules", "s1x1", "e1x1", "e3x3", "activation", "nInputPlane"))
def fire_module(source: LuaObject, context: Context) -> nn.Module:
    """Convert `FireModule.lua` of SqueezeNet, whose first version had no table `modules`."""
    return nn.Sequential(context.convert(source["module"], ".module"))


@register("nn.Serial")
def serial(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Serial.lua`; its settings only concern how Torch7 saves the module inside."""
    return nn.Sequential(*context.children(source))


@layer
class ReverseTable(nn.Module):
    """`ReverseTable.lua`: the entries of a list in reverse order."""

    def forward(self, input: list[Any]) -> list[Any]:
        """Map a list of T entries to a list of T entries."""
        return input[::-1]


@register("nn.ReverseTable")
def reverse_table(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ReverseTable.lua`: a list in reverse order."""
    return ReverseTable()


@layer
class ChannelNormalize(nn.Module):
    """`SpatialFeatNormalization.lua`: (x - mean) / std, with fixed values per channel.

    Args:
        channels: Number of channels.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("mean", torch.empty(channels, 1, 1))
        self.register_buffer("std", torch.empty(channels, 1, 1))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) or (C, H, W) to the same shape."""
        return (input - self.mean) / self.std

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.channels}"


@register("nn.SpatialFeatNormalization", ignored=("noOfFeats",))
def spatial_feat_normalization(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialFeatNormalization.lua`: normalization by fixed values per channel."""
    with torch.device("meta"):
        module = ChannelNormalize(source["mean"].size)
    return context.fill(module, mean=source["mean"], std=source["std"])


@register("nn.Dictionary")
def dictionary(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Dictionary.lua`: a LookupTable with a sparse update rule of its own in Torch7."""
    return convert_as("nn.LookupTable", source, context)
