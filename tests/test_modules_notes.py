"""What a converter decides or leaves out is said, and nothing is said where it decided nothing.

Objects that are not in `FIELDS` are examples of `test_contract`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from contract_builders_support import BUILDERS
from layer_support import lua

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
#: The fields of objects that no builder makes.
FIELDS: dict[str, dict[str, Any]] = {
    "cudnn.SpatialAveragePooling": {"kW": 2, "kH": 2, "dW": 1, "dH": 1},
    "nn.CReLU": {},
    "nn.ClassNLLCriterion": {},
    "nn.Dropout": {"p": 0.5},
    "nn.LookupTable": {"weight": torch.randn(3, 2)},
    "nn.Mean": {"dimension": 1},
    "nn.PrintSize": {},
    "nn.RReLU": {"lower": 0.1, "upper": 0.3},
    "nn.SeqLSTM": {"weight": torch.randn(5, 8), "bias": torch.randn(8)},
    "nn.SpatialConvolution": _OF_CONVOLUTION,
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
