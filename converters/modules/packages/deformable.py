"""The deformable convolution of a public implementation of 2017 (`DeformableConvolution.lua`)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class DeformableConvolution(nn.Module):
    """`DeformableConvolution.lua`: a convolution whose samples are moved by predicted offsets.

    A sample between pixels is interpolated, one outside the image is that of the nearest place
    inside; `torchvision.ops.DeformConv2d` takes zeros there.

    Args:
        offsets: The convolution that predicts the offsets: first those of y for each element of
            the kernel, then those of x.
        in_channels: Number of input channels.
        out_channels: Number of output channels.
        kernel_size: Height and width of the kernel.
    """

    def __init__(
        self, offsets: nn.Module, in_channels: int, out_channels: int, kernel_size: list[int]
    ) -> None:
        super().__init__()
        self.offsets = offsets
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.weight = nn.Parameter(torch.zeros(out_channels, in_channels, *kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) or (C, H, W) to (N, out, H - kH + 1, W - kW + 1) or without N."""
        if input.dim() == 3:
            return self.forward(input.unsqueeze(0))[0]
        offsets = self.offsets(input).unflatten(1, (2, *self.kernel_size))
        rows, columns = offsets.shape[-2:]
        # The axes: examples, rows and columns of the kernel, rows and columns of the output.
        y = offsets[:, 0] + _places(self.kernel_size[0], rows, input)[:, None, :, None]
        x = offsets[:, 1] + _places(self.kernel_size[1], columns, input)[:, None, :]
        # grid_sample counts from -1 to 1, between the centers of the outermost pixels. What is far
        # outside is moved here: there ONNX Runtime's weights of single precision sum up to 0.
        grid = torch.stack(
            [
                places.clamp(0, size - 1) * (2 / max(size - 1, 1)) - 1
                for places, size in ((x, input.shape[-1]), (y, input.shape[-2]))
            ],
            -1,
        )
        sampled = functional.grid_sample(
            input, grid.flatten(1, 3), padding_mode="border", align_corners=True
        )
        samples = sampled.unflatten(2, (-1, rows)).flatten(1, 2)
        return functional.conv2d(samples, self.weight.flatten(1)[:, :, None, None], self.bias)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"


def _places(kernel_size: int, size: int, like: torch.Tensor) -> torch.Tensor:
    """Return the (kernel size, size) coordinates of the samples that no offset has moved."""
    kernel, outputs = (
        torch.arange(count, dtype=like.dtype, device=like.device) for count in (kernel_size, size)
    )
    return kernel[:, None] + outputs


@register(
    "nn.DeformableConvolution",
    fields=("weightDC", "offsetPredictor"),
    # weight and bias hold the parameters of both convolutions; weightDC and biasDC are views.
    ignored=(
        *("nInputPlane", "nOutputPlane", "kW", "kH", "weight", "bias"),
        *("gradWeightDC", "gradBiasDC", "gradOffset"),
        *("bufferIndices", "bufferInterpolationWeights"),
    ),
)
def deformable_convolution(source: LuaObject, context: Context) -> nn.Module:
    """Convert `DeformableConvolution.lua`: samples at places that a convolution predicts."""
    weight = source["weightDC"]
    n_out, n_in, *kernel = weight.shape
    offsets = context.convert(source["offsetPredictor"], ".offsetPredictor")
    with torch.device("meta"):
        module = DeformableConvolution(offsets, n_in, n_out, kernel)
    return context.fill(module, weight=weight, bias=source["biasDC"])


@register("nn.almostIdentity", ignored=("i",))
def almost_identity(source: LuaObject, context: Context) -> nn.Module:
    """Convert `almostIdentity.lua` of the same project: the identity, which counts its calls."""
    return nn.Identity()
