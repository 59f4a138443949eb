"""Activations, most of them element by element (`Threshold.lua`, `PReLU.lua`, `CReLU.lua`, …).

None overwrites its input. Where another branch reads what Torch7 overwrites (`inplace`), the
container runs with Torch7's memory (see `in_place`).
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
    """`Abs.lua`: |x|, element by element; its gradient at 0 is 1, `torch.abs`'s is 0."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map any shape to the same shape."""
        if torch.compiler.is_exporting():  # A graph has no gradients.
            return input.abs()
        return torch.where(input >= 0, input, -input)


@layer
class Exp(nn.Module):
    """`Exp.lua`: eˣ, element by element."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map any shape to the same shape."""
        return input.exp()


@layer
class Log(nn.Module):
    """`Log.lua`: the natural logarithm, element by element."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map any shape to the same shape."""
        return input.log()


@layer
class LogSigmoid(nn.Module):
    """`LogSigmoid.lua`: log(1 / (1 + e⁻ˣ)), element by element.

    `torch.nn.LogSigmoid` is exported to ONNX as the logarithm of a sigmoid, which is -inf for x
    below -104. The softplus that takes its place here is linear only where e⁻ˣ no longer counts.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map any shape to the same shape."""
        return -functional.softplus(-input, threshold=50)


@layer
class Square(nn.Module):
    """`Square.lua`: x², element by element."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map any shape to the same shape."""
        return input.square()


@layer
class Sqrt(nn.Module):
    """`Sqrt.lua`: √x, element by element; its gradient at 0 is 0, `torch.sqrt`'s is infinite."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map any shape to the same shape."""
        if torch.compiler.is_exporting():  # A graph has no gradients.
            return input.sqrt()
        zero = input == 0
        return input.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)


@layer
class Power(nn.Module):
    """`Power.lua`: xᵖ, element by element.

    Args:
        exponent: The exponent p.
    """

    def __init__(self, exponent: float) -> None:
        super().__init__()
        self.exponent = exponent

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map any shape to the same shape."""
        return input.pow(self.exponent)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.exponent}"


@layer
class CReLU(nn.Module):
    """`CReLU.lua`: ReLU of x and of -x, concatenated along the channels.

    Args:
        num_input_dims: Number of dimensions of one example; an input with one more is a batch.
    """

    def __init__(self, num_input_dims: int) -> None:
        super().__init__()
        self.num_input_dims = num_input_dims

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, …) to (N, 2·C, …), or (C, …) to (2·C, …)."""
        dim = 1 if input.dim() == self.num_input_dims + 1 else 0
        return torch.cat([input, -input], dim).relu()


@layer
class ChannelPReLU(nn.PReLU):
    """`PReLU.lua` with a slope for each channel.

    Unlike `torch.nn.PReLU` it takes a vector (C,) as one example with C channels.

    Args:
        num_parameters: Number of channels.
    """

    def __init__(self, num_parameters: int) -> None:
        super().__init__(num_parameters)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, …) or (C,) to the same shape."""
        if input.dim() == 1:
            return functional.prelu(input.unsqueeze(0), self.weight).squeeze(0)
        return functional.prelu(input, self.weight)


@layer
class RReLU(nn.RReLU):
    """`RReLU.lua`: leaky ReLU whose negative slopes are random in training mode.

    In evaluation mode it calls `leaky_relu` with the mean slope, which equals `torch.nn.RReLU`:
    ONNX has no operator for the latter.

    Args:
        lower: Lower bound of the slopes.
        upper: Upper bound of the slopes.
    """

    def __init__(self, lower: float, upper: float) -> None:
        super().__init__(lower, upper)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map any shape to the same shape."""
        if self.training:
            return super().forward(input)
        return functional.leaky_relu(input, (self.lower + self.upper) / 2)


#: Classes without fields that a layer is built from.
_WITHOUT_ARGUMENTS: dict[str, type[nn.Module]] = {
    "nn.Abs": Abs,
    "nn.Exp": Exp,
    "nn.Log": Log,
    "nn.LogSigmoid": LogSigmoid,
    "nn.ReLU6": nn.ReLU6,
    "nn.Sigmoid": nn.Sigmoid,
    "nn.SoftSign": nn.Softsign,
    "nn.Sqrt": Sqrt,
    "nn.Square": Square,
    "nn.Tanh": nn.Tanh,
    "nn.TanhShrink": nn.Tanhshrink,
}


@register(*_WITHOUT_ARGUMENTS, ignored=("inplace", "eps", "tanh"))
def without_arguments(source: LuaObject, context: Context) -> nn.Module:
    """Convert an elementwise function without arguments, such as `Tanh.lua` or `Abs.lua`."""
    return _WITHOUT_ARGUMENTS[source.class_name]()


_CUDNN: dict[str, type[nn.Module]] = {
    "cudnn.ReLU": nn.ReLU,
    "cudnn.Sigmoid": nn.Sigmoid,
    "cudnn.Tanh": nn.Tanh,
}


@register(*_CUDNN, ignored=("inplace", "threshold", "val"))
def cudnn_activation(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Pointwise.lua` of cudnn.torch: ReLU, sigmoid or tanh."""
    name = source.class_name.partition(".")[2].upper()
    context.choice(source, "mode", [f"CUDNN_ACTIVATION_{name}"])
    return _CUDNN[source.class_name]()


@register("nn.ReLU", ignored=("inplace",))
def relu(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ReLU.lua`: `Threshold.lua` with a threshold and a value of 0, unless it was set."""
    limits = source.get("threshold", 0), source.get("val", 0)
    return nn.ReLU() if limits == (0, 0) else nn.Threshold(*limits)


@register("nn.Power")
def power(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Power.lua`: xᵖ."""
    return Power(source["pow"])


@register("nn.HardTanh", "nn.Clamp", ignored=("inplace",))
def hardtanh(source: LuaObject, context: Context) -> nn.Module:
    """Convert `HardTanh.lua` or `Clamp.lua`: x clipped to [min_val, max_val].

    Older files have no limits; they mean -1 and 1.
    """
    if "min_val" not in source or "max_val" not in source:
        context.note("no fields min_val and max_val (an older file): clips to [-1, 1]")
    return nn.Hardtanh(source.get("min_val", -1.0), source.get("max_val", 1.0))


@register("cudnn.ClippedReLU", ignored=("inplace",))
def clipped_relu(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ClippedReLU.lua` of cudnn.torch: x clipped to [0, ceiling]."""
    return nn.Hardtanh(0.0, source["ceiling"])


@register("nn.Threshold", ignored=("inplace",))
def threshold(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Threshold.lua`: x where x > threshold, `val` elsewhere."""
    return nn.Threshold(source["threshold"], source["val"])


@register("nn.ELU", ignored=("inplace",))
def elu(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ELU.lua`: x where x > 0, alpha·(eˣ - 1) elsewhere."""
    return nn.ELU(source.get("alpha", 1.0))


@register("nn.LeakyReLU", ignored=("inplace",))
def leaky_relu(source: LuaObject, context: Context) -> nn.Module:
    """Convert `LeakyReLU.lua`: x where x > 0, negval·x elsewhere.

    waifu2x had a class of this name before torch/nn did; its slope is `negative_scale`.
    """
    slope = source.get("negval", source.get("negative_scale"))
    if slope is None:
        context.note("no field negval: the slope is 0.01")
        slope = 0.01
    return nn.LeakyReLU(slope)


@register("nn.PReLU")
def prelu(source: LuaObject, context: Context) -> nn.Module:
    """Convert `PReLU.lua`: one learned slope (`nOutputPlane` is 0) or one per channel."""
    channels = source.get("nOutputPlane", 0)
    module = ChannelPReLU(channels) if channels else nn.PReLU(device="meta")
    return context.fill(module, weight=source["weight"])


@register("nn.RReLU", ignored=("inplace",))
def rrelu(source: LuaObject, context: Context) -> nn.Module:
    """Convert `RReLU.lua`: leaky ReLU with random slopes in training mode.

    Some versions had the option `channelwise`, which `torch.nn.RReLU` lacks.
    """
    if source.get("channelwise"):
        context.note("channelwise is not supported: in training each element draws its own slope")
    return RReLU(source["lower"], source["upper"])


@register("nn.SoftPlus")
def softplus(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SoftPlus.lua`: log(1 + e^(beta·x)) / beta, and x where beta·x > threshold.

    In older files the threshold is not a field; it was always 20.
    """
    return nn.Softplus(source.get("beta", 1.0), source.get("threshold", 20.0))


@register("nn.HardShrink")
def hardshrink(source: LuaObject, context: Context) -> nn.Module:
    """Convert `HardShrink.lua`: x where |x| > lambda, 0 elsewhere."""
    return nn.Hardshrink(source.get("lambda", 0.5))


@register("nn.SoftShrink")
def softshrink(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SoftShrink.lua`: |x| reduced by lambda, down to 0; the sign stays."""
    return nn.Softshrink(source.get("lambda", 0.5))


@register("nn.GatedLinearUnit")
def gated_linear_unit(source: LuaObject, context: Context) -> nn.Module:
    """Convert `GatedLinearUnit.lua`: a·σ(b) for the halves a, b along `dim` (default: the last)."""
    return nn.GLU(source.get("dim", 0) - 1)


@register("nn.CReLU", ignored=("inplace", "modules"))
def crelu(source: LuaObject, context: Context) -> nn.Module:
    """Convert `CReLU.lua`: ReLU of x and of -x along the channels.

    Older files have no `nInputDims`; their examples have three dimensions.
    """
    if "nInputDims" not in source:
        context.note("no field nInputDims (an older file): examples have three dimensions")
    return CReLU(source.get("nInputDims", 3))
