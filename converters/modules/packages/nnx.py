"""Layers of nnx, an early extension of torch/nn (`SpatialNormalization.lua`, …).

Most of them take a single image (C, H, W), not a batch.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..layers.activation import Sqrt
from ..layers.container import Container
from ..layers.geometry import margins
from ..registry import layer, register
from .alias import convert_as


@layer
class SpatialNormalization(nn.Module):
    """`SpatialNormalization.lua`: minus the local mean, divided by the local standard deviation.

    Args:
        mean_filter: A weighted mean around each pixel, over all channels.
        deviation_filter: The filter that is applied to the squares.
        features: Number of channels.
        threshold: The smallest deviation to divide by; None takes their mean, but at least 0.001.
    """

    def __init__(
        self,
        mean_filter: nn.Module,
        deviation_filter: nn.Module,
        features: int,
        threshold: float | None = None,
    ) -> None:
        super().__init__()
        self.mean_filter = mean_filter
        self.deviation_filter = deviation_filter
        self.features = features
        self.threshold = threshold
        self.sqrt = Sqrt()

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (C, H, W) to the same shape; (H, W) is taken as one channel."""
        if input.dim() == 2:
            input = input.unsqueeze(0)
        # The weight of the filter that lies within the image.
        inside = self.mean_filter(torch.ones_like(input[:1]).expand(self.features, -1, -1))
        centered: torch.Tensor = input - self.mean_filter(input) / inside
        deviation = self.sqrt(self.deviation_filter(centered.square())) / inside
        if self.threshold is None:
            smallest = deviation.detach().mean().clamp(min=1e-3)
        else:
            smallest = torch.full_like(deviation[0, 0, 0], self.threshold)
        return centered / torch.where(deviation > smallest, deviation, smallest)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.features}, threshold={self.threshold}"


#: Layers, sizes and buffers that `SpatialNormalization.lua` makes of its filters.
_WORKING_LAYERS = (
    *("kernel", "coef", "padW", "padH", "pad2W", "pad2H", "sqrtMod", "squareMod", "subtractMod"),
    *("kerWisPair", "kerHisPair", "ker2WisPair", "ker2HisPair", "diviseMod", "meanDiviseMod"),
    *("stdDiviseMod", "thresMod", "input", "inConvo", "inMean", "inVar", "inConvoVar", "inStdDev"),
    *("inStdDevNotUnit", "inputZeroMean", "inputZeroMeanSq", "stdDev", "thstd"),
)


@register("nn.SpatialNormalization", ignored=_WORKING_LAYERS)
def spatial_normalization(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialNormalization.lua`: local mean and standard deviation removed."""
    return SpatialNormalization(
        context.convert(source["convo"], ".convo"),
        context.convert(source["convostd"], ".convostd"),
        int(source["nfeatures"]),
        source.get("fixedThres"),
    )


@layer
class SpatialPadding(nn.Module):
    """`SpatialPadding.lua`: a constant around an image; negative widths crop.

    Unlike `torch.nn.ConstantPad2d` it counts its dimensions from the first one: with a batch,
    dimensions 1 and 2 are the channels and the rows.

    Args:
        padding: Widths on the left, right, top and bottom.
        y_dim: Dimension of the rows.
        x_dim: Dimension of the columns.
        value: The constant.
    """

    def __init__(
        self, padding: list[int], y_dim: int = 1, x_dim: int = 2, value: float = 0.0
    ) -> None:
        super().__init__()
        self.padding = padding
        self.y_dim = y_dim
        self.x_dim = x_dim
        self.value = value

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (…, H, …, W, …) to (…, top + H + bottom, …, left + W + right, …)."""
        widths = {self.x_dim: self.padding[:2], self.y_dim: self.padding[2:]}
        # functional.pad lists the last dimension first.
        dims = range(input.dim() - 1, min(widths) - 1, -1)
        pads = [width for dim in dims for width in widths.get(dim, [0, 0])]
        return functional.pad(input, pads, value=self.value)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.padding}, y_dim={self.y_dim}, x_dim={self.x_dim}, value={self.value}"


@register("nn.SpatialPadding")
def spatial_padding(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialPadding.lua`; older files have no dimensions and pad with zeros."""
    return SpatialPadding(
        list(margins(source)),
        int(source.get("y_dim") or 2) - 1,
        int(source.get("x_dim") or 3) - 1,
        float(source.get("val") or 0),
    )


@register("nn.SpatialLinear", ignored=("weightDecay", "fanin", "fanout"))
def spatial_linear(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialLinear.lua`: a linear layer at each pixel, which is a 1×1 convolution."""
    n_out, n_in = source["weight"].shape
    module = nn.Conv2d(n_in, n_out, 1, device="meta")
    return context.fill(module, weight=source["weight"], bias=source["bias"])


@layer
class SpatialClassifier(Container):
    """`SpatialClassifier.lua`: a classifier of vectors, applied to each pixel.

    Args:
        modules: The classifier, from (pixels, C) to (pixels, classes).
        spatial_output: Whether the output has rows and columns; otherwise it is (pixels, classes).
    """

    def __init__(self, *modules: nn.Module, spatial_output: bool = True) -> None:
        super().__init__(*modules)
        self.spatial_output = spatial_output

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (C, H, W) to (classes, H, W) or (H · W, classes); also with N in front."""
        pixels = input.movedim(-3, -1)
        output: torch.Tensor = self[0](pixels.reshape(-1, pixels.shape[-1]))
        if not self.spatial_output:
            return output
        return output.reshape([*pixels.shape[:-1], output.shape[-1]]).movedim(-1, -3)


@register("nn.SpatialClassifier", ignored=("modules", "outputF", "outputT", "inputF", "inputT"))
def spatial_classifier(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialClassifier.lua`; older files have no `spatialOutput`, which means true."""
    classifier = context.convert(source["classifier"], ".classifier")
    return SpatialClassifier(classifier, spatial_output=source.get("spatialOutput") is not False)


@register("nn.SpatialConvolutionSparse")
def spatial_convolution_sparse(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialConvolutionSparse.lua`: the earlier name of nn.SpatialConvolutionMap."""
    return convert_as("nn.SpatialConvolutionMap", source, context)


@layer
class Resample(nn.Module):
    """`SpatialReSampling.lua`, `SpatialReSamplingEx.lua`: resizes an image.

    Args:
        mode: `bilinear` (with aligned corners), `simple` (nearest) or `average`.
        height: Height of the output, or None to compute it from `ratio_y`.
        width: Width of the output, or None to compute it from `ratio_x`.
        ratio_y: Height of the output / height of the input.
        ratio_x: Width of the output / width of the input.
        y_dim: Dimension of the rows; that of the columns follows it.
        round_size: Whether a size computed from a ratio is rounded; otherwise it is rounded down.
    """

    def __init__(
        self,
        mode: str,
        height: int | None = None,
        width: int | None = None,
        ratio_y: float | None = None,
        ratio_x: float | None = None,
        y_dim: int = -2,
        round_size: bool = True,
    ) -> None:
        super().__init__()
        self.mode = mode
        self.height = height
        self.width = width
        self.ratio_y = ratio_y
        self.ratio_x = ratio_x
        self.y_dim = y_dim
        self.round_size = round_size

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (…, H, W, …) to (…, H', W', …)."""
        y_dim = self.y_dim % input.dim()
        rows, columns = input.shape[y_dim : y_dim + 2]
        half = 0.5 if self.round_size else 0.0
        size = [
            int(rows * (self.ratio_y or 1) + half) if self.height is None else self.height,
            int(columns * (self.ratio_x or 1) + half) if self.width is None else self.width,
        ]
        moved = input.movedim([y_dim, y_dim + 1], [-2, -1])
        output = self._resample(moved.reshape(1, -1, rows, columns), size)
        return output.reshape([*moved.shape[:-2], *size]).movedim([-2, -1], [y_dim, y_dim + 1])

    def _resample(self, planes: torch.Tensor, size: list[int]) -> torch.Tensor:
        if self.mode == "bilinear":
            return functional.interpolate(planes, size, mode="bilinear", align_corners=True)
        rows, columns = planes.shape[-2:]
        if size[0] >= rows:
            # Each pixel is repeated by the ratio, rounded up; what is too much is cut off.
            repeats = [-(-new // old) for new, old in zip(size, (rows, columns), strict=True)]
            repeated = planes.repeat_interleave(repeats[0], -2).repeat_interleave(repeats[1], -1)
            return repeated[..., : size[0], : size[1]]
        steps = [old // new for new, old in zip(size, (rows, columns), strict=True)]
        if self.mode == "average":
            return functional.avg_pool2d(planes, steps)[..., : size[0], : size[1]]
        return planes[..., :: steps[0], :: steps[1]][..., : size[0], : size[1]]

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        size = f"{self.height or self.ratio_y}, {self.width or self.ratio_x}"
        return f"{self.mode}, {size}"


@register("nn.SpatialReSampling")
def spatial_re_sampling(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialReSampling.lua`: bilinear resizing to a size or by a ratio.

    Torch7 replaced a ratio by a size at the first image, and files have that size; its C code
    rounds it down.
    """
    return resample(source, "bilinear", y_dim=-2, round_size=False)


@register(
    "nn.SpatialReSamplingEx",
    ignored=(
        "inputSize",
        "outputSize",
        "iheight",
        "iwidth",
        "oheightCurrent",
        "owidthCurrent",
        "mode_c",
    ),
)
def spatial_re_sampling_ex(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialReSamplingEx.lua`: resizing by one of three modes."""
    mode = context.choice(source, "mode", ["simple", "average", "bilinear"])
    return resample(source, mode, _y_dim(source, context), round_size=True)


def _y_dim(source: LuaObject, context: Context) -> int:
    """Return the dimension of the rows, from 0; that of the columns must follow it."""
    y_dim = int(source.get("yDim", 2)) - 1
    if source.get("xDim", y_dim + 2) != y_dim + 2:
        raise context.error(f"{source.class_name} with columns that do not follow its rows")
    return y_dim


def resample(source: LuaObject, mode: str, y_dim: int, round_size: bool) -> nn.Module:
    """Return a Resample with the size or the ratio of a layer."""
    height, width = source.get("oheight"), source.get("owidth")
    return Resample(
        mode,
        None if height is None else int(height),
        None if width is None else int(width),
        source.get("rheight"),
        source.get("rwidth"),
        y_dim,
        round_size,
    )


@layer
class Repeat2d(nn.Module):
    """`SpatialUpSampling.lua`: repeats every pixel in a rectangle.

    Args:
        height: Height of the rectangle.
        width: Width of the rectangle.
        y_dim: Dimension of the rows; that of the columns follows it.
    """

    def __init__(self, height: int, width: int, y_dim: int) -> None:
        super().__init__()
        self.height = height
        self.width = width
        self.y_dim = y_dim

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (…, H, W, …) to (…, H · height, W · width, …)."""
        tall = input.repeat_interleave(self.height, self.y_dim)
        return tall.repeat_interleave(self.width, self.y_dim + 1)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.height}, {self.width}"


@register("nn.SpatialUpSampling", ignored=("inputSize", "outputSize"))
def spatial_up_sampling(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialUpSampling.lua`: every pixel repeated in a rectangle."""
    return Repeat2d(int(source["dH"]), int(source["dW"]), _y_dim(source, context))


@register("nn.Minus")
def minus(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Minus.lua`: the negative of the input."""
    return convert_as("nn.MulConstant", source, context, constant_scalar=-1)


@layer
class SaturatedLinear(nn.Module):
    """`SaturatedLU.lua`: replaces values below a bound and above another one.

    Args:
        lower: The lower bound.
        low_value: What replaces values below it.
        upper: The upper bound.
        high_value: What replaces values above it.
    """

    def __init__(self, lower: float, low_value: float, upper: float, high_value: float) -> None:
        super().__init__()
        self.lower = lower
        self.low_value = low_value
        self.upper = upper
        self.high_value = high_value

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map any shape to the same shape."""
        low = torch.where(input < self.lower, self.low_value, input)
        return torch.where(low > self.upper, self.high_value, low)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.lower}, {self.low_value}, {self.upper}, {self.high_value}"


@register("nn.SaturatedLU")
def saturated_lu(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SaturatedLU.lua`: values beyond two bounds are replaced."""
    names = ("threshold", -1.0), ("val", -1.0), ("threshold2", 1.0), ("val2", 1.0)
    return SaturatedLinear(*(float(source.get(name, default)) for name, default in names))


@register("nn.MultiSoftMax")
def multi_soft_max(source: LuaObject, context: Context) -> nn.Module:
    """Convert `MultiSoftMax.lua`: a softmax over the last axis of (N, K) or (N, M, K)."""
    return nn.Softmax(-1)


@register("nn.Balance", ignored=("nBatch", "inputCache", "prob", "sum", "batchSize", "startIdx"))
def balance(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Balance.lua`: in evaluation mode the identity."""
    context.note(
        "in training mode Torch7 balances the classes of the last batches; here it does not"
    )
    return nn.Identity()


@register("nn.PixelSort", ignored=("downscaleFactorSquared", "outShape"))
def pixel_sort(source: LuaObject, context: Context) -> nn.Module:
    """Convert `PixelSort.lua`: the pixels of each block become channels."""
    return nn.PixelUnshuffle(int(source["downscaleFactor"]))
