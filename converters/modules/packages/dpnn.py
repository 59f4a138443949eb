"""Layers of dpnn: blocks of networks, index and table layers (`Inception.lua`, `ArgMax.lua`, …)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register
from .alias import convert_as


@layer
class ArgMax(nn.Module):
    """`ArgMax.lua`: the index, from 1, of the largest value along a dimension.

    Args:
        dim: the dimension, without a batch.
        input_dims: an input with more dimensions than this has a batch in front.
        as_long: indices are integers; otherwise they have the input's number type.
    """

    def __init__(self, dim: int, input_dims: int, as_long: bool = True) -> None:
        super().__init__()
        self.dim = dim
        self.input_dims = input_dims
        self.as_long = as_long

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…, size, …) → (…, …); a vector gives (1,)."""
        dim = self.dim + 1 if input.dim() > self.input_dims else self.dim
        index = input.argmax(dim, keepdim=input.dim() == 1) + 1
        return index if self.as_long else index.to(input.dtype)

    def extra_repr(self) -> str:
        """The dimension, as printed in the parent's listing."""
        return f"dim={self.dim}"


@register("nn.ArgMax")
def arg_max(source: LuaObject, context: Context) -> nn.Module:
    """`ArgMax.lua`."""
    return ArgMax(
        int(source["dim"]) - 1, int(source["nInputDim"]), bool(source.get("asLong", True))
    )


@layer
class Clip(nn.Module):
    """`Clip.lua`: values within bounds; the gradient passes as if nothing had been clipped.

    Args:
        lower: the smallest value.
        upper: the largest value.
    """

    def __init__(self, lower: float, upper: float) -> None:
        super().__init__()
        self.lower = lower
        self.upper = upper

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Any shape → the same."""
        return StraightThrough.apply(input, input.detach().clamp(self.lower, self.upper))

    def extra_repr(self) -> str:
        """The bounds, as printed in the parent's listing."""
        return f"{self.lower}, {self.upper}"


class StraightThrough(torch.autograd.Function):
    """Gives the second tensor, and its gradient to the first."""

    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """The output, whatever it was made of."""
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor, None]:
        """The gradient as it comes."""
        return grad_output, None


@register("nn.Clip")
def clip(source: LuaObject, context: Context) -> nn.Module:
    """`Clip.lua`."""
    return Clip(source["minval"], source["maxval"])


@layer
class Inception(nn.ModuleList):
    """`Inception.lua`: a module for batches, which also takes one image.

    Args:
        modules: the columns and their concatenation, as one module.
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__(modules)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) or (C, H, W) → the same with other C, H, W."""
        batch = input.unsqueeze(0) if input.dim() == 3 else input
        output: torch.Tensor = self[0](batch)
        return output.squeeze(0) if input.dim() == 3 else output


@register("nn.Inception")
def inception(source: LuaObject, context: Context) -> nn.Module:
    """`Inception.lua`: all its columns stand in its first module, a DepthConcat."""
    return Inception(*context.children(source))


@register("nn.FireModule")
def fire_module(source: LuaObject, context: Context) -> nn.Module:
    """`FireModule.lua`, of SqueezeNet; its first version had no table of modules."""
    return nn.Sequential(context.convert(source["module"], ".module"))


@register("nn.Serial")
def serial(source: LuaObject, context: Context) -> nn.Module:
    """`Serial.lua`: what it says about saving is done with once the file is written."""
    return nn.Sequential(*context.children(source))


@layer
class ReverseTable(nn.Module):
    """`ReverseTable.lua`: a list in reverse order."""

    def forward(self, input: list[Any]) -> list[Any]:
        """T entries → T entries."""
        return input[::-1]


@register("nn.ReverseTable")
def reverse_table(source: LuaObject, context: Context) -> nn.Module:
    """`ReverseTable.lua`."""
    return ReverseTable()


@layer
class ChannelNormalize(nn.Module):
    """`SpatialFeatNormalization.lua`: (x - mean) / std, with constants for each channel.

    Args:
        channels: channels of the input.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("mean", torch.empty(channels, 1, 1))
        self.register_buffer("std", torch.empty(channels, 1, 1))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) or (C, H, W) → the same."""
        return (input - self.mean) / self.std

    def extra_repr(self) -> str:
        """The channels, as printed in the parent's listing."""
        return f"{self.channels}"


@register("nn.SpatialFeatNormalization")
def spatial_feat_normalization(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialFeatNormalization.lua`."""
    with torch.device("meta"):
        module = ChannelNormalize(source["mean"].size)
    return context.fill(module, mean=source["mean"], std=source["std"])


@register("nn.Dictionary")
def dictionary(source: LuaObject, context: Context) -> nn.Module:
    """`Dictionary.lua`: a LookupTable that was updated row by row in Torch7."""
    return convert_as("nn.LookupTable", source, context)
