"""Random layers of features (F,), and of sequences of them (T, F)."""

from __future__ import annotations

from random_drawing_support import Drawing, Layer, Shape, module, sequential
from random_layers_any_shape_support import elementwise, probabilities


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
