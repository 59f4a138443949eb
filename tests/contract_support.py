"""An example of every class that has a converter, for `test_contract.py`.

Cases that Torch7 wrote come first, with the output that it computed. A class that computes what
another one does gets that class's case under its own name, and so Torch7's output too. The rest is
built as the Lua constructors build it (see `contract_builders_support`).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from contract_builders_support import BUILDERS, CRITERIONS
from project_support import records
from support import FIXTURES

from torchlift.converters import t7
from torchlift.converters.modules import convert_recorded
from torchlift.converters.t7 import LuaObject


@dataclass(frozen=True)
class Example:
    """An object of a class, and an input for it.

    Attributes:
        origin: Where it comes from.
        source: The object; it has the class itself, or holds it (see `IN_A_CONTAINER`).
        input: A tensor, or nested lists of tensors.
        target: The target of a criterion.
        output: What Torch7 computed in evaluation mode, None if that is not known.
        is_criterion: Whether it takes a target and returns a loss.
    """

    origin: str
    source: LuaObject
    input: Any
    target: Any = None
    output: Any = None
    is_criterion: bool = False


#: Classes that only run beside another layer: their example is a container of both.
IN_A_CONTAINER = {"nn.PullTable", "nn.SpatialMaxUnpooling", "nn.VolumetricMaxUnpooling"}

#: Layers that draw random numbers in evaluation mode too: their outputs are not Torch7's.
RANDOM = {"nn.SpatialFractionalMaxPooling", "nn.VolumetricFractionalMaxPooling"}

#: Class → class that computes the same, whose cases it gets; fields that must or will differ.
SAME_AS: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        f"cudnn.{name}": (f"nn.{name}", {})
        for name in (
            *("BatchNormalization", "Dropout", "LogSoftMax", "ReLU", "Sigmoid", "SoftMax", "Tanh"),
            *("SpatialBatchNormalization", "SpatialConvolution"),
            *("SpatialCrossMapLRN", "SpatialDilatedConvolution", "SpatialFullConvolution"),
            *("SpatialLogSoftMax", "SpatialMaxPooling", "SpatialSoftMax"),
            *("VolumetricAveragePooling", "VolumetricBatchNormalization", "VolumetricConvolution"),
            *("VolumetricDilatedConvolution", "VolumetricFullConvolution", "VolumetricMaxPooling"),
        )
    },
    # cuDNN always counts the padding.
    "cudnn.SpatialAveragePooling": (
        "nn.SpatialAveragePooling",
        {"count_include_pad": True, "padW": 1},
    ),
    "inn.SpatialAveragePooling": ("nn.SpatialAveragePooling", {"ceil_mode": True}),
    "inn.SpatialCrossResponseNormalization": ("nn.SpatialCrossMapLRN", {}),
    "inn.SpatialMaxPooling": ("nn.SpatialMaxPooling", {"ceil_mode": True}),
    "nn.BNFastLSTM": ("nn.FastLSTM", {}),
    "nn.Dictionary": ("nn.LookupTable", {}),
    "nn.LookupTableGPU": ("nn.LookupTable", {}),
    "nn.Mufuru": ("nn.MuFuRu", {}),
    "nn.ReverseSequence": ("nn.SeqReverseSequence", {}),
    **{
        f"nn.SpatialConvolution{kind}": ("nn.SpatialConvolution", {})
        for kind in (
            *("CuFFT", "FBFFT", "FBFFTGemm", "FFT", "FFTTiled", "FFTTiledAsync"),
            *("FFTTiledIterated", "FFTTiledSync"),
        )
    },
    "nn.SpatialConvolutionSparse": ("nn.SpatialConvolutionMap", {}),
    "nn.TVLoss": ("nn.TotalVariation", {}),
    "nn.VolumetricConvolutionMM": ("nn.VolumetricConvolution", {}),
    "w2nn.EdgeFilter": ("nn.SpatialConvolution", {}),
    "w2nn.LeakyReLU": ("nn.LeakyReLU", {}),
    "w2nn.RandomBinaryConvolution": ("nn.SpatialConvolution", {}),
}

#: Class → the case that can be exported too: a batch, counted by no layer, and not as a table.
PREFERRED = {
    "nn.CAdd": "fuzz/onnx_subtractive_normalization, inside",
    "nn.Concat": "container/Concat_2",
    "nn.FlattenTable": "packages/rnn_BiSequencer, inside",
    "nn.Max": "shape/Max_nid",
    "nn.NCEModule": "fuzz/nce_z_given",
    "nn.NarrowTable": "packages/rnn_BiSequencer, inside",
    "nn.Padding": "resampling/Padding_neg",
    "nn.Replicate": "shape/Replicate_dim",
    "nn.ReverseTable": "packages/rnn_BiSequencer, inside",
    "nn.SelectTable": "packages/rnn_BiSequencer, inside",
    "nn.SeqLSTM": "packages/rnn_SeqLSTM_batchfirst",
    "nn.SpatialConvolutionMap": "fuzz/convolution_map_unused_plane_batch",
    "nn.Transpose": "packages/stn_spatial_transformer, inside",
    "nn.ZipTable": "packages/rnn_BiSequencer, inside",
}

#: Classes whose cases are one example without a batch: they get a batch of two.
SINGLE = {"nn.SpatialFullConvolutionMap", "nn.TemporalSubSampling"}


def example(class_name: str) -> Example | None:
    """Return the example of a class, None if there is neither a case nor a builder."""
    if class_name in BUILDERS:
        return _built(class_name)
    if class_name in SAME_AS:
        other, fields = SAME_AS[class_name]
        found = _found(other, fields)
        return found and replace(
            found,
            source=LuaObject(class_name, found.source.fields, found.source.version),
            origin=f"{found.origin}, as {other}",
        )
    return _found(class_name, {})


def _found(class_name: str, fields: dict[str, Any]) -> Example | None:
    """Return the case of a class, or the object of the class inside one, that has these fields."""
    whole, parts = _cases()
    known = whole[class_name] + parts[class_name, "alone"]
    for found in parts[class_name, "container"] if class_name in IN_A_CONTAINER else known:
        if found.origin != PREFERRED.get(class_name, found.origin):
            continue
        if all(found.source.get(name) == value for name, value in fields.items()):
            return _twice(found) if class_name in SINGLE else found
    return None


def _twice(found: Example) -> Example:
    input, output = (torch.stack([value, value]) for value in (found.input, found.output))
    return replace(found, input=input, output=output)


def _built(class_name: str) -> Example:
    # Seeded by the name, so that a new builder does not change the others.
    torch.manual_seed(sum(map(ord, class_name)))
    built, input, *known = BUILDERS[class_name]()
    # As a file holds it: its tensors have storages.
    source = t7.loads(t7.dumps(built))
    if class_name in CRITERIONS:
        return Example("built", source, input, *known, is_criterion=True)
    return Example("built", source, input, output=known[0] if known else None)


@cache
def _cases() -> tuple[dict[str, list[Example]], dict[tuple[str, str], list[Example]]]:
    """Return the cases of `fixtures`, and what the layers inside them got as inputs.

    Returns:
        Class → cases of an object of this class; (class, "alone" or "container") → the object
        inside a case with the input that it got there, or the whole case.
    """
    whole: dict[str, list[Example]] = defaultdict(list)
    parts: dict[tuple[str, str], list[Example]] = defaultdict(list)
    for origin, case in _stored():
        source = (
            case["criterion"] if isinstance(case.get("criterion"), LuaObject) else case["module"]
        )
        data = t7.to_torch(case)
        example = Example(origin, source, data["input"], data.get("target"))
        if case.get("criterion"):
            whole[source.class_name].append(
                replace(example, is_criterion=True, output=data["output"])
            )
            continue
        if case.get("mode", "evaluate") != "train" and source.class_name not in RANDOM:
            example = replace(example, output=data["output"])
        whole[source.class_name].append(example)
        for inner, input in _inner_inputs(source, example.input):
            alone = Example(f"{origin}, inside", inner, input)
            parts[inner.class_name, "alone"].append(alone)
            parts[inner.class_name, "container"].append(example)
    return whole, parts


def _stored() -> list[tuple[str, Any]]:
    layers, fuzz = (sorted((FIXTURES / folder).glob("*.t7")) for folder in ("layers", "fuzz"))
    return [
        *(
            (f"{file.stem}/{case['name']}", case)
            for file in layers
            for case in t7.load(file).values()
        ),
        *((f"fuzz/{file.stem}", t7.load(file)) for file in fuzz),
        *(
            (f"projects/{record.name}", record.case())
            for record in records(only_ours=True)
            if record.is_forward and record.values["mode"] == "eval"
        ),
    ]


def _inner_inputs(source: LuaObject, input: Any) -> list[tuple[LuaObject, Any]]:
    """Return the objects inside another one with the first input that each gets."""
    conversion = convert_recorded(source)
    objects = {id(entry.module): entry.source for entry in conversion.layers}
    found: dict[int, tuple[LuaObject, Any]] = {}

    def note(module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        if module is not conversion.module and inputs:
            found.setdefault(id(module), (objects[id(module)], inputs[0]))

    for entry in conversion.layers:
        entry.module.register_forward_pre_hook(note)
    with torch.no_grad():
        conversion.module.eval()(input)
    return list(found.values())
