"""Activations, most of them point by point (`Threshold.lua`, `PReLU.lua`, `CReLU.lua`, …).

Flags for working in place are dropped: they save memory and change no number, and a tensor that
another branch still needs stays as it is.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class Abs(nn.Module):
    """`Abs.lua`: |x|."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Any shape → the same shape."""
        return input.abs()


@layer
class Exp(nn.Module):
    """`Exp.lua`: eˣ."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Any shape → the same shape."""
        return input.exp()


@layer
class Log(nn.Module):
    """`Log.lua`: the natural logarithm."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Any shape → the same shape."""
        return input.log()


@layer
class Square(nn.Module):
    """`Square.lua`: x²."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Any shape → the same shape."""
        return input.square()


@layer
class Sqrt(nn.Module):
    """`Sqrt.lua`: √x, with the gradient 0 (not infinity) where x is 0."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Any shape → the same shape."""
        zero = input == 0
        return input.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)


@layer
class Power(nn.Module):
    """`Power.lua`: xᵖ.

    Args:
        exponent: p.
    """

    def __init__(self, exponent: float) -> None:
        super().__init__()
        self.exponent = exponent

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Any shape → the same shape."""
        return input.pow(self.exponent)

    def extra_repr(self) -> str:
        """The exponent."""
        return f"{self.exponent}"


@layer
class CReLU(nn.Module):
    """`CReLU.lua`: ReLU of the input and of its negative, one after the other as channels.

    Args:
        num_input_dims: dimensions of one example; an input with one more is a batch.
    """

    def __init__(self, num_input_dims: int) -> None:
        super().__init__()
        self.num_input_dims = num_input_dims

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, …) → (N, 2·C, …), or (C, …) → (2·C, …)."""
        dim = 1 if input.dim() == self.num_input_dims + 1 else 0
        return torch.cat([input, -input], dim).relu()


@layer
class ChannelPReLU(nn.PReLU):
    """`PReLU.lua` with a slope for each channel: `nn.PReLU` that takes a single vector as well.

    Args:
        num_parameters: number of channels.
    """

    def __init__(self, num_parameters: int) -> None:
        super().__init__(num_parameters)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, …) → (N, C, …), or (C,) → (C,)."""
        if input.dim() == 1:
            return functional.prelu(input.unsqueeze(0), self.weight).squeeze(0)
        return functional.prelu(input, self.weight)


@layer
class RReLU(nn.RReLU):
    """`RReLU.lua`: `nn.RReLU`, written in evaluation mode as the leaky ReLU that it then is.

    ONNX knows no operator for the random one.

    Args:
        lower: smallest slope that is drawn for a negative number.
        upper: largest slope.
    """

    def __init__(self, lower: float, upper: float) -> None:
        super().__init__(lower, upper)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Any shape → the same shape."""
        if self.training:
            return super().forward(input)
        return functional.leaky_relu(input, (self.lower + self.upper) / 2)


#: Classes without any setting that counts.
_PLAIN: dict[str, type[nn.Module]] = {
    "nn.Abs": Abs,
    "nn.Exp": Exp,
    "nn.Log": Log,
    "nn.LogSigmoid": nn.LogSigmoid,
    "nn.ReLU": nn.ReLU,
    "nn.ReLU6": nn.ReLU6,
    "nn.Sigmoid": nn.Sigmoid,
    "nn.SoftSign": nn.Softsign,
    "nn.Sqrt": Sqrt,
    "nn.Square": Square,
    "nn.Tanh": nn.Tanh,
    "nn.TanhShrink": nn.Tanhshrink,
    "cudnn.ReLU": nn.ReLU,
    "cudnn.Sigmoid": nn.Sigmoid,
    "cudnn.Tanh": nn.Tanh,
}


@register(*_PLAIN)
def plain(source: LuaObject, context: Context) -> nn.Module:
    """A function of each number alone, such as `Tanh.lua`."""
    return _PLAIN[source.class_name]()


@register("nn.Power")
def power(source: LuaObject, context: Context) -> nn.Module:
    """`Power.lua`."""
    return Power(source["pow"])


@register("nn.HardTanh", "nn.Clamp")
def hardtanh(source: LuaObject, context: Context) -> nn.Module:
    """`HardTanh.lua`, `Clamp.lua`; files before the limits became fields mean -1 and 1."""
    if "min_val" not in source or "max_val" not in source:
        context.note("no min_val and max_val: an older HardTanh, from -1 to 1")
    return nn.Hardtanh(source.get("min_val", -1.0), source.get("max_val", 1.0))


@register("cudnn.ClippedReLU")
def clipped_relu(source: LuaObject, context: Context) -> nn.Module:
    """`ClippedReLU.lua`: from 0 to `ceiling`."""
    return nn.Hardtanh(0.0, source["ceiling"])


@register("nn.Threshold")
def threshold(source: LuaObject, context: Context) -> nn.Module:
    """`Threshold.lua`: x where it is above `threshold`, elsewhere `val`."""
    return nn.Threshold(source["threshold"], source["val"])


@register("nn.ELU")
def elu(source: LuaObject, context: Context) -> nn.Module:
    """`ELU.lua`."""
    return nn.ELU(source.get("alpha", 1.0))


@register("nn.LeakyReLU")
def leaky_relu(source: LuaObject, context: Context) -> nn.Module:
    """`LeakyReLU.lua`; before torch/nn had one, waifu2x named its slope `negative_scale`."""
    slope = source.get("negval", source.get("negative_scale"))
    if slope is None:
        context.note("no negval: 1/100")
        slope = 0.01
    return nn.LeakyReLU(slope)


@register("nn.PReLU")
def prelu(source: LuaObject, context: Context) -> nn.Module:
    """`PReLU.lua`: one slope for all (`nOutputPlane` is 0) or one a channel."""
    channels = source.get("nOutputPlane", 0)
    module = ChannelPReLU(channels) if channels else nn.PReLU(device="meta")
    return context.fill(module, weight=source["weight"])


@register("nn.RReLU")
def rrelu(source: LuaObject, context: Context) -> nn.Module:
    """`RReLU.lua`; `channelwise` existed for a while."""
    if source.get("channelwise"):
        context.note("channelwise: in training every number draws its own slope here")
    return RReLU(source["lower"], source["upper"])


@register("nn.SoftPlus")
def softplus(source: LuaObject, context: Context) -> nn.Module:
    """`SoftPlus.lua`; linear where beta·x is above 20, which became a field later."""
    return nn.Softplus(source.get("beta", 1.0), source.get("threshold", 20.0))


@register("nn.HardShrink")
def hardshrink(source: LuaObject, context: Context) -> nn.Module:
    """`HardShrink.lua`."""
    return nn.Hardshrink(source.get("lambda", 0.5))


@register("nn.SoftShrink")
def softshrink(source: LuaObject, context: Context) -> nn.Module:
    """`SoftShrink.lua`."""
    return nn.Softshrink(source.get("lambda", 0.5))


@register("nn.GatedLinearUnit")
def gated_linear_unit(source: LuaObject, context: Context) -> nn.Module:
    """`GatedLinearUnit.lua`: halves `dim`, the last one where it is missing."""
    return nn.GLU(source.get("dim", 0) - 1)


@register("nn.CReLU")
def crelu(source: LuaObject, context: Context) -> nn.Module:
    """`CReLU.lua`; before `nInputDims` an input of three dimensions was one example."""
    if "nInputDims" not in source:
        context.note("no nInputDims: an older CReLU, for images")
    return CReLU(source.get("nInputDims", 3))
