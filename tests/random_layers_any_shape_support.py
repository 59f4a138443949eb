"""Random layers that take examples of several shapes: element by element, or along a dimension."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from random_drawing_support import Drawing, Layer, Shape, module, with_size

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


def padding(d: Drawing, shape: Shape) -> Layer:
    dim, pad = d.integer(1, len(shape)), d.choice(-2, 1, 2)
    fields = {"pad": pad, "nInputDim": len(shape), "value": 0.5, "index": 1}
    return module("nn.Padding", dim=dim, **fields), with_size(
        shape, dim - 1, shape[dim - 1] + abs(pad)
    )


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
    return layer, with_size(shape, dim, length)


def flattened(d: Drawing, shape: Shape) -> Layer:
    """View and Reshape to features; both know how many dimensions an example has."""
    count = math.prod(shape)
    if d.boolean():
        fields = {"size": (count,), "numElements": count, "numInputDims": len(shape)}
        return module("nn.View", **fields), (count,)
    fields = {"size": (count,), "nelement": count, "batchsize": (1, count)}
    return module("nn.Reshape", **fields), (count,)


def repeated(d: Drawing, shape: Shape) -> Layer:
    count, dim = d.integer(1, 3), d.integer(1, len(shape) + 1)
    layer = module("nn.Replicate", nfeatures=count, dim=dim, ndim=len(shape))
    return layer, (*shape[: dim - 1], count, *shape[dim - 1 :])


def unsqueezed(d: Drawing, shape: Shape) -> Layer:
    pos = d.integer(1, len(shape) + 1)
    layer = module("nn.Unsqueeze", pos=pos, numInputDims=len(shape))
    return layer, (*shape[: pos - 1], 1, *shape[pos - 1 :])
