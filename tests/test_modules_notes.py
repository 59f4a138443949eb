"""What a converter decides or leaves out is said, and nothing is said where it decided nothing.

Objects that are not in `FIELDS` are examples of `test_contract`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from contract_builders_support import BUILDERS
from layer_support import lua

from torchlift.converters import t7
from torchlift.converters.modules import convert_recorded

#: A field that is taken out.
NONE = object()
INNER = lua("nn.Tanh")
SIDES = ("pad_l", "pad_r", "pad_t", "pad_b")
_OF_CONVOLUTION = {
    "weight": torch.randn(2, 3, 2, 2),
    "bias": torch.randn(2),
    "nInputPlane": 3,
    "nOutputPlane": 2,
    "kW": 2,
    "kH": 2,
    "dW": 1,
    "dH": 1,
    "padW": 0,
    "padH": 0,
}
_FULL = {**_OF_CONVOLUTION, "weight": torch.randn(3, 2, 2, 2), "adjW": 0, "adjH": 0}
_FULL_VOLUME = {**_FULL, "kT": 2, "dT": 1, "adjT": 0, "weight": torch.randn(3, 2, 2, 2, 2)}
_PLANE = {"kW": 2, "kH": 2, "dW": 1, "dH": 1}
#: Floats as a file holds them, with their class.
_FLOATS = t7.loads(t7.dumps(np.zeros(1, np.float32)))
#: The fields of objects that no builder makes.
FIELDS: dict[str, dict[str, Any]] = {
    "cudnn.SpatialAveragePooling": _PLANE,
    "cudnn.VolumetricAveragePooling": {**_PLANE, "kT": 2, "dT": 1},
    "nn.CReLU": {},
    "nn.Copy": {"gradInput": _FLOATS, "output": _FLOATS},
    "nn.ClassNLLCriterion": {},
    "nn.Dropout": {"p": 0.5},
    "nn.HardTanh": {"min_val": -2, "max_val": 2},
    "nn.IndexLinear": {"weight": torch.randn(3, 2), "bias": torch.randn(2)},
    "nn.LeakyReLU": {"negval": 0.2},
    "nn.LookupTable": {"weight": torch.randn(3, 2)},
    "nn.Mean": {"dimension": 1},
    "nn.PrintSize": {},
    "nn.RReLU": {"lower": 0.1, "upper": 0.3},
    "nn.SeqLSTM": {"weight": torch.randn(5, 8), "bias": torch.randn(8)},
    "nn.SpatialAveragePooling": {**_PLANE, "ceil_mode": False, "divide": True},
    "nn.SpatialConvolution": _OF_CONVOLUTION,
    "nn.SpatialConvolutionMM": _OF_CONVOLUTION,
    "nn.SpatialFractionalMaxPooling": {
        "poolSizeW": 2,
        "poolSizeH": 2,
        "outW": 2,
        "outH": 2,
        "newRandomPool": True,
        "randomSamples": torch.rand(3, 2, 2),
    },
    "nn.SpatialFullConvolution": _FULL,
    "nn.SpatialMaxPooling": {**_PLANE, "ceil_mode": False},
    "nn.SpatialSubSampling": {
        **_PLANE,
        "nInputPlane": 2,
        "weight": torch.randn(2),
        "bias": torch.randn(2),
    },
    "nn.VolumetricAveragePooling": {**_PLANE, "kT": 2, "dT": 1},
    "nn.VolumetricFullConvolution": _FULL_VOLUME,
    "w2nn.EdgeFilter": _OF_CONVOLUTION,
}

#: A class, fields of the example to change, a part of the note, and other fields without the note.
NOTED: list[tuple[str, dict[str, Any], str, dict[str, Any] | None]] = [
    ("BinaryLinear", {"stcWeights": True}, "here they are signs", {"stcWeights": False}),
    ("nn.Balance", {}, "balances the classes", None),
    ("nn.BatchFlip", {}, "cifar.torch's BatchFlip", None),
    ("nn.ClassNLLCriterion", {"sizeAverage": NONE}, "averaged", {"sizeAverage": True}),
    ("nn.CReLU", {"nInputDims": NONE}, "three dimensions", {"nInputDims": 3}),
    ("nn.Dropout", {"v2": True, "lazy": True}, "lazy is not supported", {"v2": True}),
    ("nn.Dropout", {"v2": True, "mono": True}, "mono is not supported", {"v2": True}),
    ("nn.DummyGradOutput", {}, "changes the gradient", None),
    ("nn.GenNoise", {}, "draws new noise", None),
    ("nn.GradNormalization", {}, "changes the gradient", None),
    ("nn.LookupTable", {"maxOutNorm": 2.0}, "maxOutNorm is not supported", {"maxOutNorm": 0.0}),
    ("nn.Mean", {"sizeAverage": NONE}, "averages anyway", {"sizeAverage": True}),
    ("nn.Module", {}, "no forward pass", None),
    ("nn.NoBackprop", {}, "no gradient to the module inside", None),
    ("nn.NoiseFill", {}, "draws new noise", None),
    ("nn.PrintSize", {}, "not printed", None),
    ("nn.RReLU", {"channelwise": True}, "its own slope", {"channelwise": False}),
    ("nn.ReinforceBernoulli", {}, "trained by rewards", None),
    ("nn.ReinforceCategorical", {}, "trained by rewards", None),
    ("nn.ReinforceGamma", {}, "trained by rewards", None),
    ("nn.ReinforceNormal", {}, "trained by rewards", None),
    ("nn.ResidualDrop", {}, "at random", None),
    ("nn.SeqLSTM", {"batchfirst": NONE}, "the first version", {"batchfirst": False}),
    ("nn.SharpMask", {}, "which is another call", None),
    ("nn.SpatialUniformCrop", {"scale": 2}, "have a fixed size", {"scale": None}),
    ("nn.StereoJoin", {}, "without a counterpart are NaN", None),
    ("nn.TrainTestLayer", {"train": True}, "does not run", {"train": False}),
    ("nn.TrainTestLayer", {"train": NONE}, "does not run", None),
    ("onmt.Bridge", {"net": NONE}, "starts from zeros", {"net": INNER}),
    ("onmt.VariationalDropout", {}, "every call draws it", None),
    ("w2nn.EdgeFilter", {}, "never trains its weight", None),
    ("w2nn.Print", {}, "not printed", None),
    ("nn.SpatialConvolution", {"dW": NONE, "dH": NONE}, "no stride", {}),
    ("nn.SpatialConvolution", {"padW": NONE, "padH": NONE}, "the padding is 0", {}),
    ("nn.SpatialConvolution", {"padding": 1}, "applies to all axes", {}),
    (
        "nn.SpatialCircularPadding",
        dict.fromkeys(SIDES, 0),
        "replaces the border",
        dict.fromkeys(SIDES, 1),
    ),
    (
        "cudnn.SpatialAveragePooling",
        {"ceil_mode": True},
        "nn's is assumed",
        {"ceil_mode": False},
    ),
    ("cudnn.VolumetricAveragePooling", {}, "no field ceil_mode", {"ceil_mode": False}),
    ("nn.Copy", {"gradInput": NONE}, "nothing is cast", {}),
    ("nn.Copy", {"output": NONE}, "nothing is cast", {}),
    ("nn.DataParallelTable", {"modules": [INNER] * 3}, "3 replicas", {"modules": [INNER]}),
    ("nn.HardTanh", {"min_val": NONE}, "clips to [-1, 1]", {}),
    ("nn.HardTanh", {"max_val": NONE}, "clips to [-1, 1]", {}),
    ("nn.IndexLinear", {"weightDecay": 0.1}, "weightDecay 0.1 is not", {"weightDecay": 0}),
    ("nn.LeakyReLU", {"negval": NONE}, "the slope is 0.01", {}),
    ("nn.SpatialAveragePooling", {"divide": NONE}, "windows are summed", {}),
    (
        "nn.SpatialAveragePooling",
        {"padW": 0, "padH": 1, "ceil_mode": NONE},
        "sets its padding to 0",
        {"padW": 0, "padH": 0, "ceil_mode": NONE},
    ),
    ("nn.SpatialConvolution", {"weight": torch.randn(2, 12)}, "has 2 dimensions", {}),
    ("nn.SpatialConvolution", {"padding": 0}, "applies to all axes", {}),
    ("nn.SpatialFractionalMaxPooling", {"newRandomPool": False}, "draws new pooling", {}),
    ("nn.SpatialFractionalMaxPooling", {"randomSamples": NONE}, "draws new pooling", {}),
    ("nn.SpatialFractionalMaxPooling", {}, "for batches of 3", {"newRandomPool": False}),
    ("nn.SpatialFullConvolution", {"adjW": NONE, "adjH": NONE}, "no fields adjW", {}),
    ("nn.SpatialMaxPooling", {"ceil_mode": NONE}, "no field ceil_mode", {}),
    ("nn.SpatialSubSampling", {"weight": torch.randn(2, 2, 2)}, "one weight for each", {}),
    (
        "nn.VolumetricFullConvolution",
        {"adjT": NONE, "adjW": NONE, "adjH": NONE},
        "the weight is (out, in, …)",
        {"adjW": NONE},
    ),
    ("nn.VolumetricFullConvolution", {"adjT": NONE, "adjW": NONE}, "(out, in, …)", {"adjT": NONE}),
]


def notes(class_name: str, changes: dict[str, Any]) -> list[str]:
    """Return the notes on an object of a class with other fields."""
    if class_name in FIELDS:
        given = dict(FIELDS[class_name])
    else:
        given = dict(BUILDERS[class_name]()[0].fields.items())
    given = {name: value for name, value in (given | changes).items() if value is not NONE}
    return [note.text for note in convert_recorded(lua(class_name, **given)).notes]


@pytest.mark.parametrize(("class_name", "changes", "text", "other"), NOTED)
def test_what_is_decided_is_noted(
    class_name: str, changes: dict[str, Any], text: str, other: dict[str, Any] | None
) -> None:
    assert any(text in note for note in notes(class_name, changes))
    if other is not None:
        assert not any(text in note for note in notes(class_name, other))


@pytest.mark.parametrize(
    ("class_name", "changes"),
    [
        # Its windows never extend over the edge, and no version of it has the field.
        ("nn.VolumetricAveragePooling", {}),
        # A weight of two dimensions is what this class has.
        ("nn.SpatialConvolutionMM", {"weight": torch.randn(2, 12)}),
        ("nn.SpatialConvolution", {"padH": NONE}),
        ("nn.SpatialConvolution", {"dH": NONE}),
    ],
)
def test_what_leaves_nothing_open_is_not_noted(class_name: str, changes: dict[str, Any]) -> None:
    assert notes(class_name, changes) == []
