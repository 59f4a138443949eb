"""Layers of BinaryNet, whose weights and activations are signs (`BinaryLinear.lua`, …)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register
from .alias import convert_as
from .dpnn import StraightThrough


def _rounded_signs(real: torch.Tensor) -> torch.Tensor:
    """Return 1 for positive values and -1 for the others, with the gradient of the identity.

    As in the Lua, 0 is ½ after shifting, which rounds to the even 0: -1.
    """
    signs = torch.where(real.detach() > 0, 1.0, -1.0).to(real.dtype)
    result: torch.Tensor = StraightThrough.apply(real, signs)
    return result


@layer
class BinarizedNeurons(nn.Module):
    """`BinarizedNeurons.lua`: the sign, 0 at 0, with the gradient of the identity.

    Args:
        stochastic: Whether training mode draws the sign, 1 with probability (x + 1) / 2.
    """

    def __init__(self, stochastic: bool = False) -> None:
        super().__init__()
        self.stochastic = stochastic

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map any shape to the same shape."""
        real = input.detach()
        if self.training and self.stochastic:
            signs = ((real + 1) / 2 - torch.rand_like(real)).sign()
        else:
            signs = real.sign()
        output: torch.Tensor = StraightThrough.apply(input, signs)
        return output


@register("BinarizedNeurons", ignored=("randmat", "outputR"))
def binarized_neurons(source: LuaObject, context: Context) -> nn.Module:
    """Convert `BinarizedNeurons.lua`: the sign."""
    return BinarizedNeurons(bool(source.get("stcFlag", False)))


@layer
class BinaryWeightLinear(nn.Linear):
    """`BinaryLinear.lua`: a linear layer with the signs of its weight.

    The arguments are those of `torch.nn.Linear`; the weight keeps its real values.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (…, in_features) to (…, out_features)."""
        return functional.linear(input, _rounded_signs(self.weight), self.bias)


@layer
class BinaryWeightConv2d(nn.Conv2d):
    """`BinarySpatialConvolution.lua`: a convolution with the signs of its weight.

    The arguments are those of `torch.nn.Conv2d`; the weight keeps its real values.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, out_channels, H', W'), or both without N."""
        output: torch.Tensor = self._conv_forward(input, _rounded_signs(self.weight), self.bias)
        return output


_BINARY = ("weightB", "weightOrg", "maskStc", "randmat", "binaryFlag")


@register("BinaryLinear", ignored=_BINARY)
def binary_linear(source: LuaObject, context: Context) -> nn.Module:
    """Convert `BinaryLinear.lua`: nn.Linear with signs for weights."""
    return _with_signs(convert_as("nn.Linear", source, context), source, context)


@register("BinarySpatialConvolution", "cudnnBinarySpatialConvolution", ignored=_BINARY)
def binary_spatial_convolution(source: LuaObject, context: Context) -> nn.Module:
    """Convert `BinarySpatialConvolution.lua`, or cudnn's: a convolution with signs for weights."""
    return _with_signs(convert_as("nn.SpatialConvolution", source, context), source, context)


def _with_signs(module: nn.Module, source: LuaObject, context: Context) -> nn.Module:
    """Make a new layer use the signs of its weight."""
    if source.get("stcWeights"):
        context.note("stcWeights: in training mode Torch7 draws the weights; here they are signs")
    # The same layer with another forward.
    module.__class__ = BinaryWeightLinear if isinstance(module, nn.Linear) else BinaryWeightConv2d
    return module


def _power_of_2(value: torch.Tensor) -> torch.Tensor:
    """Return the nearest power of 2 on a logarithmic scale, with the sign of the value."""
    return value.sign() * torch.exp2(value.abs().log2().round())


class _ShiftNorm(torch.autograd.Function):
    """Normalization by shifts of a batch in training mode, with the gradients of the Lua code.

    The sums run over all axes but the second.
    """

    @staticmethod
    def forward(
        ctx: Any,
        input: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        eps: float,
        statistics: list[torch.Tensor],
    ) -> torch.Tensor:
        axes = [axis for axis in range(input.dim()) if axis != 1]
        mean = input.mean(axes, keepdim=True)
        centered = input - mean
        rounded = _nearest(centered)
        deviation = ((rounded * centered).mean(axes, keepdim=True) + eps).rsqrt()
        statistics[:] = [mean.flatten(), deviation.flatten()]
        shift = _power_of_2(deviation)
        normalized = centered * shift
        scale = _power_of_2(weight).reshape(mean.shape)
        ctx.save_for_backward(rounded, shift, _nearest(normalized), scale)
        return normalized * scale + bias.reshape(mean.shape)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = grad_outputs
        rounded, shift, normalized, scale = ctx.saved_tensors
        axes = [axis for axis in range(grad.dim()) if axis != 1]
        through = -(rounded * grad).mean(axes, keepdim=True) * rounded * shift * shift
        grad_input = (through + grad - grad.mean(axes, keepdim=True)) * shift * scale
        return grad_input, (normalized * grad).sum(axes), grad.sum(axes), None, None


def _nearest(value: torch.Tensor) -> torch.Tensor:
    """Return the nearest power of 2, and 0 at 0."""
    return torch.where(value == 0, value, _power_of_2(value))


@layer
class ShiftNorm(nn.Module):
    """`BatchNormalizationShiftPow2.lua`: batch normalization whose factors are powers of 2.

    Args:
        num_features: Number of channels C.
        eps: Value added to the variance.
        momentum: Weight of a batch in the running statistics.
    """

    running_mean: torch.Tensor
    running_std: torch.Tensor

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.125) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        # The Lua's name: it holds one over the standard deviation.
        self.register_buffer("running_std", torch.ones(num_features))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C) or (N, C, H, W) to the same shape."""
        if self.training:
            statistics: list[torch.Tensor] = []
            output: torch.Tensor = _ShiftNorm.apply(
                input, self.weight, self.bias, self.eps, statistics
            )
            with torch.no_grad():
                self.running_mean.lerp_(statistics[0], self.momentum)
                self.running_std.lerp_(statistics[1], self.momentum)
            return output
        shape = [1, -1, *[1] * (input.dim() - 2)]
        scale = _power_of_2(self.running_std) * _power_of_2(self.weight)
        centered = input - self.running_mean.reshape(shape)
        return centered * scale.reshape(shape) + self.bias.reshape(shape)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


@register(
    *("BatchNormalizationShiftPow2", "SpatialBatchNormalizationShiftPow2"),
    ignored=(
        *("runningVal", "affine", "running_std_ap2", "weightSign", "weight_ap2"),
        *("buffer", "buffer2", "centered", "centerSign", "centeredSign", "centeredOrg"),
        *("std", "normalized", "normalizedSign"),
    ),
)
def shift_norm(source: LuaObject, context: Context) -> nn.Module:
    """Convert `BatchNormalizationShiftPow2.lua` or its spatial form."""
    mean, weight = source["running_mean"], source.get("weight")
    if not mean.size:
        raise context.error(f"{source.class_name} was never trained: it has no running_mean")
    module = ShiftNorm(
        mean.size, float(source.get("eps", 1e-5)), float(source.get("momentum", 0.125))
    )
    return context.fill(
        module,
        running_mean=mean,
        running_std=source["running_std"],
        weight=weight,
        bias=source.get("bias"),
    )
