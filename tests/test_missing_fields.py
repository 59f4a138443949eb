"""A field that a file lacks has the value that Lua's constructor gives it.

Older versions of Torch7 wrote fewer fields, and a class that reads `self.eps or 1e-5` computes with
1e-5. Each row names a field, that value and another one: without the field a layer computes what it
does with the value, and not what it does with the other one. The values are from the Lua sources of
torch/nn.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from layer_support import lua
from recorded_support import gradient, requiring_grad, tensors, without_leaves

from torchlift.converters import convert


def values(*shape: int) -> torch.Tensor:
    """Return numbers of both signs, of which no two are equal."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


IMAGES, ROWS, FRAMES = values(2, 3, 5, 4), values(4, 3), values(2, 6, 3)
STATISTICS = {"running_mean": values(3), "running_var": values(3).abs() + 0.1}
PLANE = {"kW": 3, "kH": 2, "dW": 1, "dH": 2}
CONVOLUTION = {**PLANE, "weight": values(2, 3, 2, 3), "bias": values(2)}
CONVOLUTION |= {"nInputPlane": 3, "nOutputPlane": 2}
FULL = {**PLANE, "weight": values(3, 2, 2, 3), "bias": values(2)}
FULL |= {"nInputPlane": 3, "nOutputPlane": 2}
FULL_VOLUME = {**FULL, "kT": 2, "dT": 1, "weight": values(3, 2, 2, 2, 3), "padW": 1, "adjW": 0}
ROW_CONVOLUTION = {"inputFrameSize": 3, "kW": 2, "dW": 1, "weight": values(3, 1, 2)}
FRAME_CONVOLUTION = {"inputFrameSize": 3, "outputFrameSize": 2, "kW": 3, "kH": 2, "dH": 1}
FRAME_CONVOLUTION |= {"weight": values(2, 6), "bias": values(2)}
SIGNS = torch.tensor([1.0, -1, 1, -1])
LOGS, CLASSES = ROWS.log_softmax(1), torch.tensor([1.0, 3, 2, 1])


class Case(NamedTuple):
    name: str
    fields: dict[str, Any]
    field: str
    default: Any
    other: Any
    input: Any
    target: Any = None


CASES = [
    Case("nn.BatchNormalization", STATISTICS, "eps", 1e-5, 1e-3, ROWS),
    Case("nn.BatchNormalization", STATISTICS, "momentum", 0.1, 0.01, ROWS),
    Case("nn.SpatialBatchNormalization", STATISTICS, "eps", 1e-5, 1e-3, IMAGES),
    Case("nn.ReLU", {}, "threshold", 0, 0.5, ROWS),
    Case("nn.ReLU", {}, "val", 0, -1, ROWS),
    Case("nn.Bottle", {"modules": [lua("nn.Sum", dimension=2)]}, "nInputDim", 2, 3, IMAGES),
    Case("nn.SpatialConvolution", CONVOLUTION | {"padW": 1}, "dilationW", 1, 2, IMAGES),
    Case("nn.SpatialFullConvolution", FULL, "padW", 0, 1, IMAGES),
    Case("nn.SpatialFullConvolution", FULL, "padH", 0, 1, IMAGES),
    Case("nn.SpatialFullConvolution", {**FULL, "dW": 2}, "adjW", 0, 1, IMAGES),
    Case("nn.VolumetricFullConvolution", FULL_VOLUME, "padT", 0, 1, values(2, 3, 3, 4, 5)),
    Case("nn.Normalize", {"p": 2}, "eps", 1e-10, 1e-5, ROWS / 100),
    Case("nn.HardTanh", {}, "min_val", -1, -0.5, ROWS),
    Case("nn.HardTanh", {}, "max_val", 1, 0.5, ROWS),
    Case("nn.ELU", {}, "alpha", 1, 0.5, ROWS),
    Case("nn.LeakyReLU", {}, "negval", 0.01, 0.02, ROWS),
    Case("nn.SoftPlus", {}, "beta", 1, 2, ROWS),
    Case("nn.SoftPlus", {}, "threshold", 20, 2, 3 * ROWS),
    Case("nn.HardShrink", {}, "lambda", 0.5, 1, ROWS),
    Case("nn.SoftShrink", {}, "lambda", 0.5, 1, ROWS),
    Case("nn.GradientReversal", {}, "lambda", 1, 2, ROWS),
    Case("nn.L1Penalty", {"l1weight": 0.5}, "sizeAverage", False, True, ROWS),
    Case("nn.L1Penalty", {"l1weight": 0.5}, "provideOutput", True, False, ROWS),
    Case("nn.WhiteNoise", {}, "mean", 0, 1, ROWS),
    Case("nn.WhiteNoise", {}, "std", 0.1, 1, ROWS),
    Case("nn.Narrow", {"dimension": 2, "index": 1}, "length", 1, 2, ROWS),
    Case("nn.NarrowTable", {"offset": 1}, "length", 1, 2, [ROWS, 2 * ROWS]),
    Case("nn.Replicate", {"nfeatures": 2}, "dim", 1, 2, ROWS),
    Case("nn.Sum", {}, "dimension", 1, 2, ROWS),
    Case("nn.Mean", {}, "dimension", 1, 2, ROWS),
    Case("nn.Max", {}, "dimension", 1, 2, ROWS),
    Case("nn.Padding", {"dim": 2, "pad": 1}, "value", 0, 1, ROWS),
    Case("nn.Padding", {"dim": 2, "pad": 1}, "index", 1, 2, ROWS),
    Case("nn.PairwiseDistance", {}, "norm", 2, 1, [ROWS, ROWS.flip(0)]),
    Case("nn.LookupTable", {"weight": ROWS, "maxNorm": 0.5}, "normType", 2, 1, CLASSES.long()),
    Case("nn.LinearWeightNorm", {"v": 1e-17 * ROWS, "g": ROWS[:, :1]}, "eps", 1e-16, 9, ROWS),
    Case(
        "nn.IndexLinear",
        {"weight": values(4, 2), "bias": values(2)},
        "offset",
        -1,
        0,
        [torch.tensor([1, 3]), values(2)],
    ),
    Case("nn.SpatialCrossMapLRN", {"size": 3, "alpha": 1, "beta": 0.75}, "k", 1, 2, IMAGES),
    Case("nn.MM", {}, "transA", False, True, [ROWS[:3], ROWS[1:]]),
    Case("nn.MM", {}, "transB", False, True, [ROWS[:3], ROWS[1:]]),
    Case("nn.MV", {}, "trans", False, True, [ROWS[:3], ROWS[0]]),
    Case("nn.Sum", {}, "squeeze", True, False, ROWS),
    Case("nn.Sum", {}, "sizeAverage", False, True, ROWS),
    Case("nn.Mean", {}, "squeeze", True, False, ROWS),
    Case("nn.Dropout", {"p": 0.5}, "v2", False, True, ROWS),
    Case("nn.Dropout", {"p": 0.5}, "stochastic_inference", False, True, ROWS),
    Case("nn.SpatialDropout", {"p": 0.5}, "stochastic_inference", False, True, IMAGES),
    Case("nn.VolumetricDropout", {"p": 0.5}, "stochastic_inference", False, True, IMAGES[None]),
    Case("nn.UpSampling", {"scale_factor": 2}, "mode", "nearest", "linear", IMAGES),
    Case(
        "nn.FeatureLPPooling",
        {"width": 2, "stride": 1, "power": 2},
        "batch_mode",
        False,
        True,
        ROWS.abs(),
    ),
    Case("nn.TemporalRowConvolution", ROW_CONVOLUTION, "featFirst", False, True, values(2, 3, 3)),
    Case("cudnn.TemporalConvolution", FRAME_CONVOLUTION, "padH", 0, 1, FRAMES),
    Case("nn.TemporalDynamicKMaxPooling", {"minK": 2}, "factor", 0, 0.5, FRAMES),
    Case("nn.SpatialMaxPooling", PLANE, "ceil_mode", False, True, IMAGES),
    Case("nn.SpatialMaxPooling", PLANE | {"padW": 0}, "padH", 0, 1, IMAGES),
    Case("nn.SpatialMaxPooling", PLANE, "padW", 0, 1, IMAGES),
    Case("nn.SpatialDilatedMaxPooling", PLANE, "dilationH", 1, 2, IMAGES),
    Case(
        "nn.SpatialAveragePooling",
        PLANE | {"ceil_mode": False, "divide": True, "padH": 1},
        "count_include_pad",
        True,
        False,
        IMAGES,
    ),
    Case("nn.SpatialConvolution", CONVOLUTION, "padH", 0, 1, IMAGES),
    Case("nn.SpatialConvolution", CONVOLUTION, "padW", 0, 1, IMAGES),
    Case("nn.SpatialDilatedConvolution", CONVOLUTION, "dilationH", 1, 2, IMAGES),
    Case("nn.MultiMarginCriterion", {}, "p", 1, 2, ROWS, CLASSES),
    Case("nn.MultiMarginCriterion", {}, "margin", 1, 2, ROWS, CLASSES),
    Case("nn.ClassNLLCriterion", {}, "ignoreIndex", -100, 3, LOGS, CLASSES),
    Case("nn.ClassNLLCriterion", {}, "sizeAverage", True, False, LOGS, CLASSES),
    Case("nn.MSECriterion", {}, "sizeAverage", True, False, ROWS, ROWS.flip(0)),
    Case("nn.MarginCriterion", {}, "margin", 1, 2, ROWS[:, 0], SIGNS),
    Case("nn.HingeEmbeddingCriterion", {}, "margin", 1, 2, ROWS[:, 0].abs(), SIGNS),
    Case("nn.L1HingeEmbeddingCriterion", {}, "margin", 1, 9, [ROWS[0], ROWS[1]], -1),
    Case("nn.CosineEmbeddingCriterion", {}, "margin", 0, 0.5, [ROWS, ROWS.flip(1)], SIGNS),
    Case("nn.MarginRankingCriterion", {}, "margin", 1, 2, [ROWS[:, 0], ROWS[:, 1]], SIGNS),
]


def results(case: Case, fields: dict[str, Any]) -> list[torch.Tensor]:
    """Return outputs, gradients and buffers in training mode, and outputs in evaluation mode."""
    module = convert(lua(case.name, **fields))
    arguments = [] if case.target is None else [case.target]
    found: list[torch.Tensor] = []
    for training in (False, True):
        module.train(training)
        input = requiring_grad(case.input)
        torch.manual_seed(0)
        outputs = tensors(module(without_leaves(input), *arguments))
        found += [output.detach() for output in outputs]
        if any(output.requires_grad for output in outputs):
            sum(output.square().sum() for output in outputs).backward()
            found += [tensor.double() for tensor in tensors(gradient(input))]
    return [*found, *(buffer.clone() for buffer in module.buffers())]


def same(one: list[torch.Tensor], two: list[torch.Tensor]) -> bool:
    return len(one) == len(two) and all(
        a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(one, two, strict=True)
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.field}")
def test_a_missing_field_has_the_value_of_luas_constructor(case: Case) -> None:
    missing = results(case, case.fields)
    assert same(missing, results(case, {**case.fields, case.field: case.default}))
    assert not same(missing, results(case, {**case.fields, case.field: case.other}))
