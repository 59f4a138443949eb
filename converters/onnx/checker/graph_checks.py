"""What an exported file holds, compared with the model before anything is run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from torch import nn

from ...images.preprocessing import Preprocessing
from ...inference.metadata import Metadata
from ...saved import SavedModel
from ..exporter.export import baked, interface_names, metadata_of, output_name
from ..exporter.tracing import BATCH_AXIS, SIZE_AXES
from ..onnx_file import axes
from .folding import unfolded
from .profiles import Profile
from .report import Finding
from .weights import differing_weights, weights_with_nan

#: What ONNX Runtime reads since 1.14 (2023); per-channel quantization came with opset 13.
OPSETS = range(13, 19)
IR_VERSIONS = range(7, 9)


def check_contents(
    model: SavedModel,
    module: nn.Module,
    path: str | os.PathLike[str],
    stored: onnx.ModelProto,
    metadata: Metadata,
    profile: Profile,
) -> list[Finding]:
    """Compare a file's structure, interface, metadata and weights with the model.

    Args:
        model: what the file should be.
        module: its network as it was exported (see `inference_copy`).
        path: the file.
        stored: the file, as `read_file` gave it.
        metadata: its metadata.
        profile: what its arithmetic lets pass.
    """
    return [
        _structure(path, stored),
        _interface(model, stored, metadata),
        *_metadata(model, metadata),
        _labels(model, metadata, stored),
        _folding(stored),
        _weights(module, stored, profile),
    ]


def _structure(path: str | os.PathLike[str], stored: onnx.ModelProto) -> Finding:
    try:
        # By its path, because a file with its weights beside it may be larger than a message.
        onnx.checker.check_model(os.fspath(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return Finding("structure", False, str(error).strip().splitlines()[0])
    opset = max(entry.version for entry in stored.opset_import if not entry.domain)
    text = f"{len(stored.graph.node)} nodes, opset {opset}, IR {stored.ir_version}"
    if opset not in OPSETS or stored.ir_version not in IR_VERSIONS:
        wide = f"{OPSETS[0]} to {OPSETS[-1]} and {IR_VERSIONS[0]} to {IR_VERSIONS[-1]}"
        return Finding("structure", False, f"{text}: {wide} can be read everywhere")
    return Finding("structure", True, text)


def _interface(model: SavedModel, stored: onnx.ModelProto, metadata: Metadata) -> Finding:
    """Names, axes and types as the file has them."""
    inputs, outputs = stored.graph.input, stored.graph.output
    text = f"{_described(inputs)} → {_described(outputs)}"
    wrong = []
    pixels = inputs[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    if pixels != (metadata.baked_preprocessing is not None):
        wrong.append("pixels go in only where the preprocessing is in the graph")
    for values, name in ((inputs, "input"), (outputs, output_name(model.output_kind))):
        if [value.name for value in values] != interface_names(name, len(values)):
            wrong.append(f"{name} was expected for a name")
    if any(axes(value)[:1] != [BATCH_AXIS] for value in (*inputs, *outputs)):
        wrong.append(f"the first axis must be {BATCH_AXIS!r} everywhere")
    if model.input_shape is not None and not _takes(axes(inputs[0]), model.input_shape):
        wrong.append(f"an input of {_times(model.input_shape)} was expected")
    return Finding("interface", not wrong, "; ".join([text, *wrong]))


def _metadata(model: SavedModel, metadata: Metadata) -> list[Finding]:
    """Preprocessing, output kind and source; what the model does not know cannot be compared."""
    known = metadata_of(model)
    inside: list[Finding] = []
    if metadata.baked_preprocessing is not None:
        known = baked(known) if known.preprocessing else known
        ours, theirs = known.baked_preprocessing, metadata.baked_preprocessing
        inside = [_same("baked", _entries(ours), _entries(theirs))]
    return [
        _same("preprocessing", _entries(known.preprocessing), _entries(metadata.preprocessing)),
        *inside,
        _same(
            "output_kind",
            {"output_kind": known.output_kind},
            {"output_kind": metadata.output_kind},
        ),
        _same("source", known.source or {}, metadata.source or {}),
    ]


def _entries(preprocessing: Preprocessing | None) -> dict[str, Any]:
    return {} if preprocessing is None else preprocessing.to_json()


def _same(name: str, known: Mapping[str, Any], found: Mapping[str, Any]) -> Finding:
    """Compare what the model and the file say, entry by entry."""
    if not known:
        return Finding(name, True, "the model has none to compare with" if found else "none")
    wrong = [key for key in known if found.get(key) != known[key]]
    if wrong:
        said = (f"{key} is {found.get(key)!r}, the model has {known[key]!r}" for key in wrong)
        return Finding(name, False, "; ".join(said))
    return Finding(name, True, ", ".join(f"{key} {_short(value)}" for key, value in known.items()))


def _labels(model: SavedModel, metadata: Metadata, stored: onnx.ModelProto) -> Finding:
    found, known = metadata.labels, model.labels
    if known is not None and found is not None and list(known) != found:
        for index, (theirs, ours) in enumerate(zip(found, known, strict=False)):
            if theirs != ours:
                text = f"output {index} is {theirs!r} in the file, {ours!r} in the model"
                return Finding("labels", False, text)
        return Finding("labels", False, f"{len(found)} in the file, {len(known)} in the model")
    if found is None:
        return Finding("labels", known is None, "none" if known is None else "none in the file")
    classes = axes(stored.graph.output[0])[-1]
    if classes != len(found):
        return Finding("labels", False, f"{len(found)} names for {classes} outputs")
    return Finding("labels", True, f"{len(found)} names, {found[0]!r} to {found[-1]!r}")


def _folding(stored: onnx.ModelProto) -> Finding:
    left = unfolded(stored)
    if left:
        return Finding("folding", False, f"could be computed ahead: {', '.join(left[:10])}")
    return Finding("folding", True, "constants and batch normalization are folded")


def _weights(module: nn.Module, stored: onnx.ModelProto, profile: Profile) -> Finding:
    nan = weights_with_nan(stored)
    if nan:
        return Finding("weights", False, f"NaN in {', '.join(nan)}")
    differing, compared = differing_weights(module, stored, profile.rounding)
    if differing:
        return Finding("weights", False, f"not the model's numbers: {', '.join(differing)}")
    rounded = "" if profile.name.startswith("fp32") else f", rounded to {profile.name}"
    return Finding("weights", True, f"{compared} tensors have the model's numbers{rounded}")


def _takes(found: Sequence[str | int], shape: Sequence[int]) -> bool:
    """Whether an input takes one example of this shape."""
    return found[1:] == [*shape] or found[1:] == [shape[0], *SIZE_AXES]


def _described(values: Sequence[onnx.ValueInfoProto]) -> str:
    return ", ".join(f"{value.name} {_times(axes(value))} {_numbers(value)}" for value in values)


def _numbers(value: onnx.ValueInfoProto) -> str:
    return str(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))


def _times(shape: Sequence[str | int]) -> str:
    return "×".join(map(str, shape))


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return "/".join(map(_short, value)) or "none"
    text = str(value)
    return text if len(text) <= 32 else f"{text[:12]}…"
