"""Binary convolution, of dpnn (`SpatialBinaryConvolution.lua`)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.grad import conv2d_input, conv2d_weight

from ...t7 import LuaObject
from ..context import Context
from ..layers.geometry import PLANE, height_width, per_axis
from ..registry import layer, register


@layer
class BinaryConv2d(nn.Module):
    """`SpatialBinaryConvolution.lua`: a convolution with the signs of the weights (XNOR-Net).

    Each output channel is scaled by the mean absolute value of its weights.

    Args:
        in_channels: Number of channels of the input.
        out_channels: Number of channels of the output.
        kernel_size: (kH, kW).
        stride: (dH, dW).
        padding: (padH, padW).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: list[int],
        stride: list[int],
        padding: list[int],
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, *kernel_size))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, out_channels, H', W'), or both without N."""
        batch = input.unsqueeze(0) if input.dim() == 3 else input
        output: torch.Tensor = _BinaryConvolution.apply(
            batch, self.weight, self.stride, self.padding
        )
        return output.squeeze(0) if input.dim() == 3 else output

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}"
        )


class _BinaryConvolution(torch.autograd.Function):
    """The convolution with the gradients of the Lua code in training mode.

    They are those of a convolution with the signs; that of the input is scaled by the mean absolute
    value of the weights of each input channel, that of the weight is not scaled.
    """

    @staticmethod
    def forward(
        ctx: Any,
        input: torch.Tensor,
        weight: torch.Tensor,
        stride: list[int],
        padding: list[int],
    ) -> torch.Tensor:
        signs = torch.where(weight >= 0, 1.0, -1.0).to(weight.dtype)
        scale = weight.abs().mean(dim=(1, 2, 3))
        ctx.save_for_backward(input, weight, signs)
        ctx.settings = stride, padding
        return functional.conv2d(input, signs, None, stride, padding) * scale[:, None, None]

    @staticmethod
    def backward(
        ctx: Any, grad_output: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        input, weight, signs = ctx.saved_tensors
        stride, padding = ctx.settings
        grad_input = conv2d_input(input.shape, signs, grad_output, stride, padding)
        grad_weight = conv2d_weight(input, weight.shape, grad_output, stride, padding)
        input_scale = weight.abs().mean(dim=(0, 2, 3))
        return grad_input * input_scale[:, None, None], grad_weight, None, None


@register("nn.SpatialBinaryConvolution", ignored=("iwh", "owh"))
def spatial_binary_convolution(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialBinaryConvolution.lua`: a convolution with the signs of its weights."""
    weight = source["weight"]
    with torch.device("meta"):
        module = BinaryConv2d(
            int(source["nInputPlane"]),
            int(source["nOutputPlane"]),
            list(height_width(source, "k")),
            list(height_width(source, "d")),
            list(per_axis(source, "pad", PLANE, default=0)),
        )
    return context.fill(module, weight=weight)
