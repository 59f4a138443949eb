"""Random networks of torch/nn as LuaObjects, with the fields that the Lua constructors write.

A layer is drawn for the shape of one example, without its batch, and gives the shape of the next:
(F,) features, (T, F) a sequence, (C, H, W) an image. Numbers of a layer come from one drawn seed,
so that hypothesis shrinks structures and not weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from hypothesis import strategies as st

from torchlift.converters import t7
from torchlift.converters.t7 import LuaObject, LuaTable, TorchArray

Shape: TypeAlias = tuple[int, ...]
#: A layer and the shape of its output.
Layer: TypeAlias = tuple[LuaObject, Shape]
#: Draws a layer for inputs of a shape.
Maker: TypeAlias = "Callable[[Drawing, Shape], Layer]"

#: The largest shape of each kind of example. Sizes stay small: rules depend on shapes, not on size.
KINDS: dict[str, Shape] = {"features": (7,), "sequence": (6, 6), "image": (4, 7, 7)}
#: No layer may make more values of one example than this.
LARGEST = 600


@dataclass
class Drawing:
    """The draws of one network.

    Attributes:
        draw: Hypothesis' function.
        rng: Draws weights.
        batched_only: Whether a layer counts the dimensions of the whole batch, so that the network
            takes no single example.
        is_continuous: Whether rounding cannot change the output much: no layer jumps.
    """

    draw: st.DrawFn
    rng: np.random.Generator
    batched_only: bool = False
    is_continuous: bool = True
    _reusable: dict[Shape, list[LuaObject]] = field(default_factory=dict)

    def integer(self, lowest: int, highest: int) -> int:
        return self.draw(st.integers(lowest, max(lowest, highest)))

    def choice(self, *values: Any) -> Any:
        return self.draw(st.sampled_from(values))

    def boolean(self) -> bool:
        return self.draw(st.booleans())

    def normal(self, *shape: int, fan_in: int = 1) -> np.ndarray:
        """Return weights that neither blow up nor vanish in a deep network."""
        return (self.rng.standard_normal(shape) / math.sqrt(fan_in)).astype("f4")

    def uniform(self, lowest: float, highest: float, *shape: int) -> np.ndarray:
        return self.rng.uniform(lowest, highest, shape).astype("f4")


def module(class_name: str, **fields: Any) -> LuaObject:
    """Return an object as `Module.lua` builds it: lists are tables, tuples LongStorages."""
    values = {"_type": "torch.FloatTensor", "output": _empty(), "gradInput": _empty(), **fields}
    for name in ("weight", "bias"):
        if fields.get(name) is not None:
            values[f"grad{name.capitalize()}"] = np.zeros_like(fields[name])
    return LuaObject(
        class_name,
        LuaTable({key: _value(value) for key, value in values.items() if value is not None}),
    )


def _empty() -> TorchArray:
    result = np.empty(0, "f4").view(TorchArray)
    result.torch_class = "torch.FloatTensor"
    return result


def _value(value: Any) -> Any:
    if isinstance(value, list):
        return LuaTable.from_list([_value(item) for item in value])
    if isinstance(value, tuple):
        storage = np.array(value, "i8").view(TorchArray)
        storage.torch_class = "torch.LongStorage"
        return storage
    return value


def sequential(*modules: LuaObject) -> LuaObject:
    return module("nn.Sequential", modules=list(modules))


# Element by element: any shape stays as it is.

_ELEMENTWISE: dict[str, Callable[[Drawing], dict[str, Any]]] = {
    "nn.Abs": lambda d: {},
    "nn.AddConstant": lambda d: {"constant_scalar": 1.5, "inplace": d.boolean()},
    "nn.Clamp": lambda d: {"min_val": -0.5, "max_val": 0.5, "inplace": False},
    "nn.Contiguous": lambda d: {},
    "nn.Copy": lambda d: {"intype": "torch.FloatTensor", "outtype": "torch.FloatTensor"},
    "nn.Dropout": lambda d: {"p": 0.5, "v2": d.boolean(), "inplace": d.boolean(), "train": True},
    "nn.ELU": lambda d: {"alpha": d.choice(1, 0.3, 2), "inplace": d.boolean()},
    "nn.GradientReversal": lambda d: {"lambda": 0.5},
    "nn.HardTanh": lambda d: {
        "min_val": d.choice(-1, -0.3),
        "max_val": 0.7,
        "inplace": d.boolean(),
    },
    "nn.Identity": lambda d: {},
    "nn.LeakyReLU": lambda d: {"negval": d.choice(0.01, 0.3), "inplace": d.boolean()},
    "nn.LogSigmoid": lambda d: {},
    "nn.Mul": lambda d: {"weight": d.normal(1)},
    "nn.MulConstant": lambda d: {"constant_scalar": d.choice(-2, 0.3), "inplace": d.boolean()},
    "nn.PReLU": lambda d: {"nOutputPlane": 0, "weight": d.uniform(0, 0.5, 1)},
    "nn.Power": lambda d: {"pow": 2},
    "nn.RReLU": lambda d: {"lower": 0.1, "upper": 0.3, "inplace": d.boolean(), "train": True},
    "nn.ReLU": lambda d: {"threshold": 0, "val": 0, "inplace": d.boolean()},
    "nn.ReLU6": lambda d: {"inplace": d.boolean()},
    "nn.Sigmoid": lambda d: {},
    "nn.SoftPlus": lambda d: {"beta": d.choice(1, 3), "threshold": 20},
    "nn.SoftShrink": lambda d: {"lambda": d.choice(0.5, 0.1)},
    "nn.SoftSign": lambda d: {},
    "nn.Square": lambda d: {},
    "nn.Tanh": lambda d: {},
    "nn.TanhShrink": lambda d: {},
    "nn.WhiteNoise": lambda d: {"mean": 0, "std": 0.1},
}
#: Threshold and HardShrink jump, so that rounding can change an output by as much.
_JUMPING: dict[str, Callable[[Drawing], dict[str, Any]]] = {
    "nn.HardShrink": lambda d: {"lambda": 0.5},
    "nn.Threshold": lambda d: {"threshold": 0.1, "val": d.choice(0, -2), "inplace": d.boolean()},
}


def elementwise(d: Drawing, shape: Shape) -> Layer:
    name = d.choice(*_ELEMENTWISE)
    return module(name, **_ELEMENTWISE[name](d)), shape


def jumping(d: Drawing, shape: Shape) -> Layer:
    name = d.choice(*_JUMPING)
    d.is_continuous = False
    return module(name, **_JUMPING[name](d)), shape


def broadcast(d: Drawing, shape: Shape) -> Layer:
    """CMul and CAdd: one number for each element, or for some dimensions."""
    sizes = tuple(d.choice(1, size) for size in shape)
    # Without its batch, Torch7 would take the first dimension of an example for it.
    d.batched_only |= sizes != shape
    if d.boolean():
        return module("nn.CMul", size=(1, *sizes), weight=d.normal(1, *sizes)), shape
    return module("nn.CAdd", size=(1, *sizes), bias=d.normal(1, *sizes)), shape


def probabilities(d: Drawing, shape: Shape) -> Layer:
    """Softmax over features or planes; a batch of sequences would be taken for an image."""
    return module(d.choice("nn.SoftMax", "nn.LogSoftMax", "nn.SoftMin")), shape


def padding(d: Drawing, shape: Shape) -> Layer:
    dim, pad = d.integer(1, len(shape)), d.choice(-2, 1, 2)
    fields = {"pad": pad, "nInputDim": len(shape), "value": 0.5, "index": 1}
    return module("nn.Padding", dim=dim, **fields), _with(shape, dim - 1, shape[dim - 1] + abs(pad))


def doubled(d: Drawing, shape: Shape) -> Layer:
    layer = module("nn.CReLU", nInputDims=len(shape), inplace=d.boolean())
    return layer, (2 * shape[0], *shape[1:])


def reduction(d: Drawing, shape: Shape) -> Layer:
    name, dim = d.choice("nn.Sum", "nn.Mean", "nn.Max", "nn.Min"), d.integer(1, len(shape))
    fields: dict[str, Any] = {"dimension": dim, "nInputDims": len(shape)}
    if name in ("nn.Sum", "nn.Mean"):
        fields |= {"sizeAverage": name == "nn.Mean", "squeeze": True}
    return module(name, **fields), shape[: dim - 1] + shape[dim:]


def swapped(d: Drawing, shape: Shape) -> Layer:
    """Transpose: pairs of dimensions, counted with the batch or without it."""
    first, second = d.integer(0, len(shape) - 1), d.integer(0, len(shape) - 1)
    result = list(shape)
    result[first], result[second] = result[second], result[first]
    if d.boolean():
        d.batched_only = True
        return module("nn.Transpose", permutations=[[first + 2, second + 2]]), tuple(result)
    pair = [[first + 1, second + 1]]
    return module("nn.Transpose", permutations=pair, numInputDims=len(shape)), tuple(result)


def narrowed(d: Drawing, shape: Shape) -> Layer:
    d.batched_only = True
    dim = d.integer(0, len(shape) - 1)
    start = d.integer(1, shape[dim])
    length = d.integer(1, shape[dim] - start + 1)
    layer = module("nn.Narrow", dimension=dim + 2, index=start, length=length)
    return layer, _with(shape, dim, length)


def flattened(d: Drawing, shape: Shape) -> Layer:
    """View and Reshape to features; both know how many dimensions an example has."""
    count = math.prod(shape)
    if d.boolean():
        fields = {"size": (count,), "numElements": count, "numInputDims": len(shape)}
        return module("nn.View", **fields), (count,)
    fields = {"size": (count,), "nelement": count, "batchsize": (1, count)}
    return module("nn.Reshape", **fields), (count,)


# Features (F,)


def linear(d: Drawing, shape: Shape) -> Layer:
    (n,), out = shape, d.integer(1, 6)
    bias = d.normal(out) if d.boolean() else None
    return module("nn.Linear", weight=d.normal(out, n, fan_in=n), bias=bias), (out,)


def distances(d: Drawing, shape: Shape) -> Layer:
    (n,), out = shape, d.integer(1, 4)
    name = d.choice("nn.Cosine", "nn.Euclidean", "nn.WeightedEuclidean")
    if name == "nn.Cosine":
        return module(name, weight=d.normal(out, n)), (out,)
    fields = {"weight": d.normal(n, out)}
    if name == "nn.WeightedEuclidean":
        fields["diagCov"] = d.uniform(0.5, 1, n, out)
    return module(name, **fields), (out,)


def normalized(d: Drawing, shape: Shape) -> Layer:
    """Normalize, of rows that are not near zero: there rounding would be the output."""
    shifted = module("nn.AddConstant", constant_scalar=3, inplace=False)
    layer = module("nn.Normalize", p=d.choice(1, 2, 3), eps=1e-10)
    return sequential(module("nn.Tanh"), shifted, layer), shape


def batch_normalization(d: Drawing, shape: Shape) -> Layer:
    planes, name = (
        shape[0],
        "nn.BatchNormalization" if len(shape) == 1 else "nn.SpatialBatchNormalization",
    )
    affine = d.boolean()
    values = {
        "weight": d.uniform(0.5, 1.5, planes) if affine else None,
        "bias": d.normal(planes) if affine else None,
        "running_mean": d.normal(planes),
        "running_var": d.uniform(0.3, 2, planes),
    }
    fields = {"eps": d.choice(1e-3, 0.1), "momentum": 0.1, "affine": affine, "train": True}
    return module(name, **values, **fields), shape


def gated(d: Drawing, shape: Shape) -> Layer:
    """GatedLinearUnit behind a layer with twice as many features."""
    (n,), out = shape, d.integer(1, 3)
    wide = module("nn.Linear", weight=d.normal(2 * out, n, fan_in=n), bias=d.normal(2 * out))
    d.batched_only = True
    return sequential(wide, module("nn.GatedLinearUnit", dim=2)), (out,)


def to_sequence(d: Drawing, shape: Shape) -> Layer:
    (n,) = shape
    steps = d.choice(*[k for k in range(1, n + 1) if n % k == 0])
    fields = {"size": (steps, n // steps), "numElements": n, "numInputDims": 1}
    return module("nn.View", **fields), (steps, n // steps)


def repeated(d: Drawing, shape: Shape) -> Layer:
    count, dim = d.integer(1, 3), d.integer(1, len(shape) + 1)
    layer = module("nn.Replicate", nfeatures=count, dim=dim, ndim=len(shape))
    return layer, (*shape[: dim - 1], count, *shape[dim - 1 :])


def unsqueezed(d: Drawing, shape: Shape) -> Layer:
    pos = d.integer(1, len(shape) + 1)
    layer = module("nn.Unsqueeze", pos=pos, numInputDims=len(shape))
    return layer, (*shape[: pos - 1], 1, *shape[pos - 1 :])


# Sequences (T, F)


def temporal_convolution(d: Drawing, shape: Shape) -> Layer:
    (steps, n), out = shape, d.integer(1, 5)
    k, step = d.integer(1, min(steps, 3)), d.integer(1, 2)
    values = {"weight": d.normal(out, k * n, fan_in=k * n), "bias": d.normal(out)}
    fields = {"kW": k, "dW": step, "inputFrameSize": n, "outputFrameSize": out}
    return module("nn.TemporalConvolution", **values, **fields), ((steps - k) // step + 1, out)


def temporal_pooling(d: Drawing, shape: Shape) -> Layer:
    steps, n = shape
    k, step = d.integer(1, min(steps, 3)), d.integer(1, 2)
    window, result = {"kW": k, "dW": step}, ((steps - k) // step + 1, n)
    if d.boolean():
        return module("nn.TemporalMaxPooling", **window), result
    values = {"weight": d.normal(n), "bias": d.normal(n), "inputFrameSize": n}
    return module("nn.TemporalSubSampling", **window, **values), result


def bottle(d: Drawing, shape: Shape) -> Layer:
    """A layer of features, applied at each step."""
    inner, (out,) = d.choice(linear, elementwise, probabilities)(d, shape[-1:])
    fields = {"nInputDim": 2, "nOutputDim": 2, "dimDelta": 0}
    return module("nn.Bottle", modules=[inner], **fields), (*shape[:-1], out)


def row_convolution(d: Drawing, shape: Shape) -> Layer:
    steps, n = shape
    k = d.integer(1, min(steps, 3))
    values = {"weight": d.normal(n, 1, k, fan_in=k), "bias": d.normal(n) if d.boolean() else None}
    fields = {"kW": k, "dW": 1, "inputFrameSize": n, "featFirst": False}
    return module("nn.TemporalRowConvolution", **values, **fields), (steps - k + 1, n)


# Images (C, H, W)


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
    layer = module("nn.SpatialMaxPooling", **window, ceil_mode=ceil_mode, indices=_empty())
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


# Compositions


def residual(d: Drawing, shape: Shape) -> Layer:
    """Two or three branches of one shape, and a layer that takes their table."""
    names = ("nn.CAddTable", "nn.CMulTable", "nn.CMaxTable", "nn.CMinTable", "nn.CSubTable")
    name = d.choice(*names)
    count = 2 if name == "nn.CSubTable" else d.integer(2, 3)
    branches = [keeping(d, shape) for _ in range(count)]
    fields = {"inplace": d.boolean()} if name == "nn.CAddTable" else {}
    return sequential(module("nn.ConcatTable", modules=branches), module(name, **fields)), shape


def joined(d: Drawing, shape: Shape) -> Layer:
    """Branches that are concatenated along one dimension; Concat counts the batch."""
    dim, count = d.integer(0, len(shape) - 1), d.integer(2, 3)
    branches = [keeping(d, shape) for _ in range(count)]
    result = _with(shape, dim, count * shape[dim])
    if d.boolean():
        d.batched_only = True
        return module("nn.Concat", modules=branches, dimension=dim + 2, size=()), result
    join = module("nn.JoinTable", dimension=dim + 1, nInputDims=len(shape))
    return sequential(module("nn.ConcatTable", modules=branches), join), result


def split(d: Drawing, shape: Shape) -> Layer:
    """A table of the steps of the first dimension, changed, and joined or added again."""
    steps = shape[0]
    parts = module("nn.SplitTable", dimension=1, nInputDims=len(shape))
    rest = shape[1:]
    if d.boolean():
        shared = keeping(d, rest)
        changed = module("nn.MapTable", modules=[shared], module=shared, shared=True)
    else:
        changed = module("nn.ParallelTable", modules=[keeping(d, rest) for _ in range(steps)])
    if steps > 1 and d.boolean():
        return sequential(parts, changed, module("nn.CAddTable", inplace=False)), rest
    join = module("nn.JoinTable", dimension=1, nInputDims=len(rest))
    return sequential(parts, changed, join), (steps * rest[0], *rest[1:])


def keeping(d: Drawing, shape: Shape) -> LuaObject:
    """Draw one or two layers that keep a shape; sometimes a layer that stands elsewhere too."""
    known = d._reusable.setdefault(shape, [])
    if known and d.integer(0, 3) == 0:
        return d.choice(*known)
    makers: list[Maker] = [elementwise, jumping, broadcast]
    if len(shape) == 1:
        makers += [probabilities, batch_normalization, normalized, _square_linear]
    if len(shape) == 3:
        makers += [
            probabilities,
            batch_normalization,
            response_normalization,
            channel_slopes,
            _square_convolution,
        ]
    drawn = [d.choice(*makers) for _ in range(d.integer(1, 2))]
    # One example comes out of it with a batch dimension, which tables with others cannot have.
    d.batched_only |= batch_normalization in drawn
    layers = [make(d, shape)[0] for make in drawn]
    known.append(layers[0] if len(layers) == 1 else sequential(*layers))
    return known[-1]


def kept(d: Drawing, shape: Shape) -> Layer:
    return keeping(d, shape), shape


def _square_linear(d: Drawing, shape: Shape) -> Layer:
    (n,) = shape
    return module("nn.Linear", weight=d.normal(n, n, fan_in=n), bias=d.normal(n)), shape


def _square_convolution(d: Drawing, shape: Shape) -> Layer:
    planes = shape[0]
    window = {"kW": 3, "kH": 3, "dW": 1, "dH": 1, "padW": 1, "padH": 1}
    values = {"weight": d.normal(planes, planes, 3, 3, fan_in=9 * planes), "bias": d.normal(planes)}
    sizes = {"nInputPlane": planes, "nOutputPlane": planes}
    return module("nn.SpatialConvolution", **values, **sizes, **window), shape


def graph(d: Drawing, shape: Shape) -> Layer:
    """An `nn.gModule`: nodes that read one or two earlier ones, as nngraph writes it."""
    start = _node()
    nodes, inputs = [start], []
    for _ in range(d.integer(1, 4)):
        first = d.integer(0, len(nodes) - 1)
        if d.boolean():
            second = d.integer(0, len(nodes) - 1)
            if second != first:  # nngraph merges two edges between the same nodes.
                name = d.choice("nn.CAddTable", "nn.CMulTable")
                inputs.append((module(name), [first, second]))
                nodes.append(_node(inputs[-1][0]))
                continue
        inputs.append((keeping(d, shape), [first]))
        nodes.append(_node(inputs[-1][0]))
    for node, (_, origins) in zip(nodes[1:], inputs, strict=True):
        for position, origin in enumerate(origins, 1):
            _connect(nodes[origin], node, position)
    end = _node()
    # What nothing reads goes to the output, which is one tensor here.
    unread = [n for n in nodes if not len(n["children"])]
    if len(unread) > 1:
        total = _node(module("nn.CAddTable", inplace=False))
        for position, node in enumerate(unread, 1):
            _connect(node, total, position)
        nodes.append(total)
        unread = [total]
    _connect(unread[0], end, 1)
    modules = [n["data"]["module"] for n in nodes if "module" in n["data"]]
    fields = {"innode": start, "outnode": end, "forwardnodes": [*nodes, end], "modules": modules}
    return module("nn.gModule", nInputs=1, **fields), shape


def _node(layer: LuaObject | None = None) -> LuaObject:
    data = LuaTable({"annotations": LuaTable(), "mapindex": LuaTable()})
    if layer is not None:
        data["module"] = layer
    return LuaObject(
        "nngraph.Node", LuaTable({"data": data, "children": LuaTable(), "marked": False})
    )


def _connect(origin: LuaObject, consumer: LuaObject, position: int) -> None:
    origin["children"][len(origin["children"]) + 1] = consumer
    consumer["data"]["mapindex"][origin["data"]] = position
    consumer["data"]["mapindex"][position] = origin["data"]


def _with(shape: Shape, dim: int, size: int) -> Shape:
    return (*shape[:dim], size, *shape[dim + 1 :])


_ANY: list[Maker] = [elementwise, broadcast, padding, kept, residual, joined, graph, jumping]
_MAKERS: dict[int, list[Maker]] = {
    1: [
        *(linear, distances, normalized, batch_normalization, gated, to_sequence, probabilities),
        *(doubled, repeated, unsqueezed, *_ANY),
    ],
    2: [
        *(temporal_convolution, temporal_pooling, bottle, row_convolution, reduction, swapped),
        *(narrowed, flattened, split, unsqueezed, repeated, *_ANY),
    ],
    3: [
        *(convolution, full_convolution, depthwise, local_convolution, max_pooling, subsampling),
        *(average_pooling, adaptive_pooling, border, upsampling, response_normalization, shuffled),
        *(channel_slopes, dropped_planes, batch_normalization, probabilities, doubled, reduction),
        *(swapped, narrowed, flattened, split, *_ANY),
    ],
}


@dataclass(frozen=True, repr=False)
class Network:
    """A random network and an input for it.

    Attributes:
        source: The object, as a file holds it.
        input: (N, …) in float32.
        has_single: Whether it takes an example without its batch.
        is_continuous: Whether rounding cannot change the output much.
    """

    source: LuaObject
    input: np.ndarray
    has_single: bool
    is_continuous: bool

    def __repr__(self) -> str:
        return f"Network({' '.join(_class_names(self.source))}; input {self.input.shape})"


def _class_names(source: LuaObject) -> list[str]:
    """Return the class names of a network in order; a container's are in brackets."""
    name = source.class_name.removeprefix("nn.")
    children = source["modules"].to_list() if isinstance(source.get("modules"), LuaTable) else []
    if not children:
        shown = {
            k: v for k, v in source.fields.items() if isinstance(v, (int, float)) and k != "train"
        }
        return [f"{name}({', '.join(f'{k}={v}' for k, v in shown.items())})"]
    return [f"{name}[", *(text for child in children for text in _class_names(child)), "]"]


@st.composite
def networks(draw: st.DrawFn, kind: str, deepest: int = 5) -> Network:
    """Draw a network for examples of a kind (see `KINDS`)."""
    d = Drawing(draw, np.random.default_rng(draw(st.integers(0, 2**32 - 1))))
    shape: Shape = tuple(d.integer(1, largest) for largest in KINDS[kind])
    batch, first = d.integer(2, 4), shape
    modules = []
    for _ in range(d.integer(1, deepest)):
        if len(shape) not in _MAKERS:
            layer, shape = flattened(d, shape)
            modules.append(layer)
        layer, following = d.choice(*_MAKERS[len(shape)])(d, shape)
        if math.prod(following) > LARGEST or not following:
            continue
        modules.append(layer)
        shape = following
    if not modules:
        modules.append(elementwise(d, shape)[0])
    # As a file holds it: its tensors have storages.
    source = t7.loads(t7.dumps(sequential(*modules)))
    input = d.rng.standard_normal((batch, *first)).astype("f4")
    return Network(source, input, not d.batched_only, d.is_continuous)
