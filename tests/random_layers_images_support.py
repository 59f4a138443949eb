"""Random layers of images (C, H, W)."""

from __future__ import annotations

from typing import Any

from random_drawing_support import Drawing, Layer, Shape, empty, module, sequential


def _window(d: Drawing, shape: Shape, largest: int = 3) -> dict[str, int]:
    """Draw a window that fits, and a padding that Torch7 accepts: at most half of it."""
    height, width = shape[-2:]
    kw, kh = d.integer(1, min(largest, width)), d.integer(1, min(largest, height))
    steps = {"dW": d.integer(1, 3), "dH": d.integer(1, 3)}
    return {
        "kW": kw,
        "kH": kh,
        **steps,
        "padW": d.integer(0, kw // 2),
        "padH": d.integer(0, kh // 2),
    }


def _pooled(shape: Shape, w: dict[str, int], ceil_mode: bool) -> Shape:
    sizes = []
    for size, axis in zip(shape[-2:], "HW", strict=True):
        k, step, pad = w[f"k{axis}"], w[f"d{axis}"], w[f"pad{axis}"]
        spare = size + 2 * pad - k
        count = (-(-spare // step) if ceil_mode else spare // step) + 1
        if ceil_mode and (count - 1) * step >= size + pad:
            count -= 1  # The last window would start in the padding.
        sizes.append(count)
    return (*shape[:-2], *sizes)


def convolution(d: Drawing, shape: Shape) -> Layer:
    planes, out, window = shape[0], d.integer(1, 4), _window(d, shape)
    k = window["kH"], window["kW"]
    name = d.choice(
        "nn.SpatialConvolution", "nn.SpatialConvolutionMM", "nn.SpatialDilatedConvolution"
    )
    weight = d.normal(out, planes, *k, fan_in=planes * k[0] * k[1])
    fields: dict[str, Any] = {"nInputPlane": planes, "nOutputPlane": out}
    if name == "nn.SpatialConvolutionMM":
        weight = weight.reshape(out, -1)
    if name == "nn.SpatialDilatedConvolution":
        fields |= {"dilationW": 1, "dilationH": 1}
    bias = d.normal(out) if d.boolean() else None
    layer = module(name, weight=weight, bias=bias, **window, **fields)
    return layer, (out, *_pooled(shape, window, ceil_mode=False)[1:])


def full_convolution(d: Drawing, shape: Shape) -> Layer:
    planes, height, width = shape
    out, window = d.integer(1, 3), _window(d, shape)
    adjust = {"adjW": d.integer(0, window["dW"] - 1), "adjH": d.integer(0, window["dH"] - 1)}
    sizes = [
        (size - 1) * window[f"d{axis}"]
        - 2 * window[f"pad{axis}"]
        + window[f"k{axis}"]
        + adjust[f"adj{axis}"]
        for size, axis in ((height, "H"), (width, "W"))
    ]
    weight = d.normal(planes, out, window["kH"], window["kW"], fan_in=planes)
    fields = {"nInputPlane": planes, "nOutputPlane": out, "bias": d.normal(out)}
    layer = module("nn.SpatialFullConvolution", weight=weight, **fields, **window, **adjust)
    return layer, (out, *sizes)


def depthwise(d: Drawing, shape: Shape) -> Layer:
    """SpatialDepthWiseConvolution; only square windows and images are Torch7's own."""
    planes, times = shape[0], d.integer(1, 2)
    k = d.integer(1, min(*shape[1:], 3))
    window = {"kW": k, "kH": k, "dW": 1, "dH": 1, "padW": 0, "padH": 0}
    fields = {"nInputPlane": planes, "nOutputPlane": times}
    values = {
        "weight": d.normal(times, planes, k, k, fan_in=k * k),
        "bias": d.normal(times, planes),
    }
    layer = module("nn.SpatialDepthWiseConvolution", **values, **fields, **window)
    return layer, (planes * times, *_pooled(shape, window, ceil_mode=False)[1:])


def local_convolution(d: Drawing, shape: Shape) -> Layer:
    planes, out, window = shape[0], d.integer(1, 2), _window(d, shape)
    rows, columns = _pooled(shape, window, ceil_mode=False)[1:]
    k = window["kH"], window["kW"]
    values = {
        "weight": d.normal(rows, columns, out, planes, *k, fan_in=planes * k[0] * k[1]),
        "bias": d.normal(out, rows, columns),
    }
    sizes = {"iW": shape[2], "iH": shape[1], "oW": columns, "oH": rows}
    fields = {"nInputPlane": planes, "nOutputPlane": out}
    layer = module("nn.SpatialConvolutionLocal", **values, **sizes, **fields, **window)
    return layer, (out, rows, columns)


def _pooling_window(d: Drawing, shape: Shape) -> tuple[dict[str, int], bool]:
    """Draw a window, and whether to round up.

    With steps wider than the window, the last one could be empty: its maximum is the smallest
    number of the type.
    """
    window, ceil_mode = _window(d, shape), d.boolean()
    is_covering = window["dW"] <= window["kW"] and window["dH"] <= window["kH"]
    return window, ceil_mode and is_covering


def max_pooling(d: Drawing, shape: Shape) -> Layer:
    window, ceil_mode = _pooling_window(d, shape)
    layer = module("nn.SpatialMaxPooling", **window, ceil_mode=ceil_mode, indices=empty())
    return layer, _pooled(shape, window, ceil_mode)


def average_pooling(d: Drawing, shape: Shape) -> Layer:
    window, ceil_mode = _pooling_window(d, shape)
    fields = {"ceil_mode": ceil_mode, "count_include_pad": d.boolean(), "divide": d.boolean()}
    layer = module("nn.SpatialAveragePooling", **window, **fields)
    return layer, _pooled(shape, window, ceil_mode)


def adaptive_pooling(d: Drawing, shape: Shape) -> Layer:
    name = d.choice("nn.SpatialAdaptiveMaxPooling", "nn.SpatialAdaptiveAveragePooling")
    size = {"W": d.integer(1, shape[2]), "H": d.integer(1, shape[1])}
    return module(name, **size), (shape[0], size["H"], size["W"])


def subsampling(d: Drawing, shape: Shape) -> Layer:
    window = _window(d, shape) | {"padW": 0, "padH": 0}
    values = {"weight": d.normal(shape[0]), "bias": d.normal(shape[0]), "nInputPlane": shape[0]}
    fields = {key: value for key, value in window.items() if not key.startswith("pad")}
    return module("nn.SpatialSubSampling", **fields, **values), _pooled(shape, window, False)


def border(d: Drawing, shape: Shape) -> Layer:
    name = d.choice(
        "nn.SpatialZeroPadding", "nn.SpatialReplicationPadding", "nn.SpatialReflectionPadding"
    )
    widths = {f"pad_{side}": d.integer(0, 2) for side in "lrtb"}
    if name == "nn.SpatialReflectionPadding":  # Narrower than the image.
        widths = {
            side: min(width, shape[2 if side[-1] in "lr" else 1] - 1)
            for side, width in widths.items()
        }
    height = shape[1] + widths["pad_t"] + widths["pad_b"]
    width = shape[2] + widths["pad_l"] + widths["pad_r"]
    return module(name, **widths), (shape[0], height, width)


def upsampling(d: Drawing, shape: Shape) -> Layer:
    if d.boolean():
        fields = {"scale_factor": 2, "inputSize": (0,) * 4, "outputSize": (0,) * 4}
        return module("nn.SpatialUpSamplingNearest", **fields), (
            shape[0],
            2 * shape[1],
            2 * shape[2],
        )
    height, width = shape[1] + d.integer(1, 3), shape[2] + d.integer(1, 3)
    fields = {"oheight": height, "owidth": width, "inputSize": (0,) * 4, "outputSize": (0,) * 4}
    return module("nn.SpatialUpSamplingBilinear", **fields), (shape[0], height, width)


def response_normalization(d: Drawing, shape: Shape) -> Layer:
    fields = {"size": d.choice(1, 3, 5), "alpha": 0.5, "beta": 0.75, "k": d.choice(1, 2)}
    return module("nn.SpatialCrossMapLRN", **fields), shape


def channel_slopes(d: Drawing, shape: Shape) -> Layer:
    """PReLU with a slope for each plane, which is dimension 2: it needs a batch."""
    d.batched_only = True
    return module("nn.PReLU", nOutputPlane=shape[0], weight=d.uniform(0, 0.5, shape[0])), shape


def dropped_planes(d: Drawing, shape: Shape) -> Layer:
    return module("nn.SpatialDropout", p=0.5, train=True), shape


def shuffled(d: Drawing, shape: Shape) -> Layer:
    """PixelShuffle behind a convolution with four times as many planes."""
    weight = d.normal(4, shape[0], 1, 1, fan_in=shape[0])
    window = {"kW": 1, "kH": 1, "dW": 1, "dH": 1, "padW": 0, "padH": 0}
    planes = {"nInputPlane": shape[0], "nOutputPlane": 4, "bias": d.normal(4)}
    wide = module("nn.SpatialConvolution", weight=weight, **planes, **window)
    shuffle = module("nn.PixelShuffle", upscaleFactor=2, upscaleFactorSquared=4)
    return sequential(wide, shuffle), (1, 2 * shape[1], 2 * shape[2])
