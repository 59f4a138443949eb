"""Findings about what a file holds: structure, interface, metadata, labels, folding, weights.

Nothing is run; the file is compared with the model.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx_ir

from ...errors import first_line
from ...images.preprocessing import Preprocessing
from ...input_shapes import BATCH_AXIS, InputShape
from ...vocabulary import Vocabulary
from ..errors import OnnxError
from ..exporter.export import baked_metadata, holds_batch, metadata_of
from ..exporter.optimizer import EXPANDING
from ..exporter.tracing import EXPORTER
from ..onnx_file import axes, dtype_of
from .foreign_weights import compare_by_value
from .nodes import Structure, differences
from .pair import ExportPair
from .reference import Reference, reference_of
from .report import Finding
from .weights import WeightComparison, compare_weights, weights_with_nan

#: What ONNX Runtime reads since 1.14 (2023). Quantization by channel came with opset 13.
OPSETS = range(13, 19)
IR_VERSIONS = range(7, 9)

#: How many names a finding lists.
_NAMED = 10

#: Operators whose weights can absorb the scale and shift of a batch normalization behind them.
_LINEAR = ("Conv", "ConvTranspose", "Gemm")
#: Operators that work on constants on purpose: their output is larger, as that of int8 weights, or
#: random.
_UNFOLDED = (*EXPANDING, "DequantizeLinear", "QuantizeLinear", "Cast", "Multinomial", "Bernoulli")


def check_contents(pair: ExportPair) -> list[Finding]:
    """Compare a file's structure, interface and metadata with its model.

    Of a file that another program exported, that is what it says of itself.
    """
    if pair.is_foreign:
        return [
            _structure(pair.path, pair.onnx_model, any_version=True),
            _foreign_interface(pair),
            *_what_it_says(pair),
        ]
    return [
        _structure(pair.path, pair.onnx_model),
        _interface(pair),
        *_metadata(pair),
        _labels(pair),
        _folding(pair.onnx_model),
    ]


def unfolded_nodes(model: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes that compute at each run what could be computed once.

    They work on constants alone, or are a batch normalization behind a linear layer.

    Args:
        model: The graph, with or without its external weights.
    """
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(value.name for value in graph.output)
    unfolded = []
    for node in graph.node:
        inputs = [name for name in node.input if name]
        # Only operators with one output are folded.
        is_folded = len(node.output) == 1 and node.op_type not in _UNFOLDED
        if inputs and constants.issuperset(inputs) and is_folded:
            unfolded.append(node.name)
        elif node.op_type == "BatchNormalization" and uses[inputs[0]] == 1:
            producer = producers.get(inputs[0])
            if producer is not None and producer.op_type in _LINEAR:
                unfolded.append(node.name)
    return unfolded


def _structure(path: Path, model: onnx.ModelProto, any_version: bool = False) -> Finding:
    try:
        # By path: a file and its external weights can be larger than a protobuf message.
        onnx.checker.check_model(os.fspath(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return Finding("structure", False, first_line(error))
    opset = max(entry.version for entry in model.opset_import if not entry.domain)
    text = f"{len(model.graph.node)} nodes, opset {opset}, IR {model.ir_version}"
    is_known = opset in OPSETS and model.ir_version in IR_VERSIONS
    if not (is_known or any_version):
        opsets, versions = (f"{r[0]} to {r[-1]}" for r in (OPSETS, IR_VERSIONS))
        expected = f"opset {opsets} and IR {versions} were expected, which older runtimes read too"
        return Finding("structure", False, f"{text}: {expected}")
    return Finding("structure", True, text)


def _interface(pair: ExportPair) -> Finding:
    """Check the names, axes and dtypes of the inputs and outputs."""
    inputs, outputs = pair.onnx_model.graph.input, pair.onnx_model.graph.output
    model = pair.model
    text = f"{_described(inputs)} → {_described(outputs)}"
    problems = []
    takes_pixels = inputs[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    if takes_pixels != (pair.metadata.baked_preprocessing is not None):
        problems.append("a graph takes pixels if, and only if, it has the preprocessing inside")
    if pair.takes_image:
        return _image_interface(pair, text)
    shapes = model.input_shapes
    count = len(inputs) - pair.states
    for values, expected in ((inputs, pair.input_names), (outputs, pair.output_names)):
        if [value.name for value in values] != expected:
            problems.append(f"the name {', '.join(expected)} was expected")
    if any(BATCH_AXIS not in axes(value) for value in inputs) or not all(
        holds_batch(axes(value)) for value in outputs
    ):
        problems.append(f"every shape must hold the axis {BATCH_AXIS!r}")
    expected_leaves = [] if shapes is None else list(shapes.leaves())
    for value, leaf in zip(inputs, expected_leaves, strict=False):
        if not _accepts(axes(value), leaf):
            problems.append(f"an input of {leaf} was expected")
    if expected_leaves and len(expected_leaves) != count:
        problems.append(f"inputs of {shapes} were expected")
    return Finding("interface", not problems, "; ".join([text, *problems]))


def _foreign_interface(pair: ExportPair) -> Finding:
    """Check the axes of the inputs of a file of another program; names and batch are its own."""
    inputs, outputs = pair.onnx_model.graph.input, pair.onnx_model.graph.output
    text = f"{_described(inputs)} → {_described(outputs)}"
    model, file = pair.model.input_shapes, list(pair.shapes.leaves())
    expected = [] if model is None else list(model.leaves())
    fits = len(expected) == len(file) and all(
        len(one.axes) == len(other.axes)
        and all(
            isinstance(size, str) or isinstance(wanted, str) or size == wanted
            for size, wanted in zip(one.example_axes, other.example_axes, strict=True)
        )
        for one, other in zip(file, expected, strict=True)
    )
    if expected and not fits:
        return Finding("interface", False, f"{text}; inputs of {model} were expected")
    return Finding("interface", True, f"{text}; exported by {_producer(pair)}")


def _producer(pair: ExportPair) -> str:
    """Return which program exported a file, as it says itself."""
    model = pair.onnx_model
    return f"{model.producer_name} {model.producer_version}".strip() or "another program"


def _what_it_says(pair: ExportPair) -> list[Finding]:
    """Compare the metadata that `annotate` wrote; what is not said is not compared."""
    said = pair.metadata
    expected = metadata_of(pair.model)
    findings = []
    if said.preprocessing is not None:
        entries = _entries(expected.preprocessing), _entries(said.preprocessing)
        findings.append(_compare_entries("preprocessing", *entries))
    if said.output_kind is not None:
        kinds = {"output_kind": expected.output_kind}, {"output_kind": said.output_kind}
        findings.append(_compare_entries("output_kind", *kinds))
    if said.labels is not None:
        findings.append(_labels(pair))
    names = ("preprocessing", "output_kind", "labels")
    unsaid = [name for name in names if getattr(said, name) is None]
    if unsaid:
        text = f"the file says nothing of {', '.join(unsaid)}: torchlift annotate adds them"
        findings.append(Finding("metadata", True, text))
    return findings


def _image_interface(pair: ExportPair, text: str) -> Finding:
    """Check the input and the outputs of a file that takes one image."""
    values, outputs = pair.onnx_model.graph.input, pair.onnx_model.graph.output
    baked = pair.metadata.baked_preprocessing
    channels = "channels" if baked is not None and baked.channels == 1 else 3
    problems = []
    if len(values) != 1 or axes(values[0]) != ["height", "width", channels]:
        problems.append(f"an image of height×width×{channels} was expected")
    if [value.name for value in outputs] != pair.output_names:
        problems.append(f"the name {', '.join(pair.output_names)} was expected")
    if any(axes(value)[:1] != [1] for value in outputs):
        problems.append("the outputs of one image were expected")
    return Finding("interface", not problems, "; ".join([text, *problems]))


def _metadata(pair: ExportPair) -> list[Finding]:
    """Compare preprocessing, output kind and source; what the model lacks cannot be compared."""
    expected, actual = metadata_of(pair.model), pair.metadata
    baked: list[Finding] = []
    if actual.baked_preprocessing is not None:
        expected = (
            baked_metadata(expected, pair.takes_image) if expected.preprocessing else expected
        )
        baked = [
            _compare_entries(
                "baked",
                _entries(expected.baked_preprocessing),
                _entries(actual.baked_preprocessing),
            )
        ]
    return [
        _compare_entries(
            "preprocessing", _entries(expected.preprocessing), _entries(actual.preprocessing)
        ),
        *baked,
        _compare_entries(
            "output_kind",
            {"output_kind": expected.output_kind},
            {"output_kind": actual.output_kind},
        ),
        _compare_entries("source", expected.source or {}, actual.source or {}),
        *_vocabularies(expected.vocabularies or [], actual.vocabularies or []),
    ]


def _vocabularies(model: Sequence[Vocabulary], file: Sequence[Vocabulary]) -> list[Finding]:
    """Compare the tokens of a network of texts; others have none."""
    if not model:
        return []
    problems = [
        f"{one.lua_path} has other tokens in the file, or is not in it"
        for one in model
        if one not in file
    ]
    same = ", ".join(f"{len(one.tokens):,} tokens of {one.lua_path}" for one in model)
    return [Finding("vocabularies", not problems, "; ".join(problems) or same)]


def _entries(preprocessing: Preprocessing | None) -> dict[str, Any]:
    return {} if preprocessing is None else preprocessing.to_json()


def _compare_entries(name: str, model: Mapping[str, Any], file: Mapping[str, Any]) -> Finding:
    """Compare what the model and the file say, entry by entry."""
    if not model:
        return Finding(name, True, "the model has none to compare with" if file else "none")
    differences = [
        f"{_name(key)} is {_text(file.get(key))}, the model has {_text(value)}"
        for key, value in model.items()
        if file.get(key) != value
    ]
    if differences:
        return Finding(name, False, "; ".join(differences))
    return Finding(
        name, True, ", ".join(f"{_name(key)} {_short(value)}" for key, value in model.items())
    )


def _labels(pair: ExportPair) -> Finding:
    labels, expected = pair.metadata.labels, pair.model.labels
    if expected is not None and labels is not None and list(expected) != labels:
        for index, (label, expected_label) in enumerate(zip(labels, expected, strict=False)):
            if label != expected_label:
                text = f"output {index} is {label!r} in the file, {expected_label!r} in the model"
                return Finding("labels", False, text)
        return Finding("labels", False, f"{len(labels)} in the file, {len(expected)} in the model")
    if labels is None:
        return Finding(
            "labels", expected is None, "none" if expected is None else "none in the file"
        )
    outputs, names = pair.onnx_model.graph.output, pair.compared_outputs
    sizes = next(axes(value) for value in outputs if value.name in names)
    # Behind the batch; other programs may have them last, as the channels of images.
    classes = [sizes[1] if len(sizes) > 1 else 1, *(sizes[-1:] if pair.is_foreign else [])]
    if len(labels) not in classes:
        return Finding("labels", False, f"{len(labels)} names for {classes[0]} outputs")
    return Finding("labels", True, f"{len(labels)} names, {labels[0]!r} to {labels[-1]!r}")


def _folding(model: onnx.ModelProto) -> Finding:
    unfolded = unfolded_nodes(model)
    if unfolded:
        return Finding("folding", False, f"could be computed ahead: {', '.join(unfolded[:10])}")
    return Finding("folding", True, "constants and batch normalization are folded")


def check_reference(pair: ExportPair, inputs: Any, min_compared: float) -> list[Finding]:
    """Compare a file's weights and nodes with what torch's own translation of the model holds.

    Args:
        pair: The model and the file.
        inputs: Example inputs of the model.
        min_compared: Smallest fraction of the file's numbers that must be compared.
    """
    nan = weights_with_nan(pair.onnx_model)
    if nan:
        return [Finding("weights", False, f"NaN in {', '.join(nan)}")]
    try:
        reference = reference_of(pair, inputs)
    except OnnxError as error:
        return [Finding("weights", False, f"no number can be compared: {error}")]
    if pair.is_foreign:
        return [_foreign_weights(pair, reference, min_compared)]
    return [_weights(pair, reference, min_compared), _nodes(pair, reference)]


def _foreign_weights(pair: ExportPair, reference: Reference, min_compared: float) -> Finding:
    """Look up the numbers of a file of another program among the model's, by value."""
    known = (reference.constants, reference.unfolded)
    return _verdict(pair, compare_by_value(known, pair.onnx_model), min_compared)


def _weights(pair: ExportPair, reference: Reference, min_compared: float) -> Finding:
    renamed = () if pair.is_of_this_exporter else pair.module.state_dict().keys()
    return _verdict(
        pair, compare_weights(reference.constants, pair.onnx_model, renamed), min_compared
    )


def _verdict(pair: ExportPair, found: WeightComparison, min_compared: float) -> Finding:
    """Return what comparing the numbers of a file with the model's shows."""
    compared = f"{found.compared:,} of {found.total:,} numbers compared"
    if found.differing:
        names = ", ".join(found.differing[:_NAMED])
        more = f" and {len(found.differing) - _NAMED} more" if found.differing[_NAMED:] else ""
        return Finding("weights", False, f"not the model's values: {names}{more}; {compared}")
    if found.fraction < min_compared:
        return Finding(
            "weights",
            False,
            f"only {compared}, {found.fraction:.2%}, {min_compared:.2%} required; the model has no "
            f"numbers for {', '.join(found.unknown[:_NAMED])}",
        )
    precision = pair.metadata.precision
    rounded = f", rounded to {precision}" if precision in ("fp16", "int8") else ""
    return Finding("weights", True, f"{compared}: they are the model's{rounded}")


def _nodes(pair: ExportPair, reference: Reference) -> Finding:
    if not pair.is_of_this_exporter:
        versions = pair.metadata.exporter or "an unknown exporter"
        return Finding("nodes", True, f"not compared: written by {versions}, this is {EXPORTER}")
    weights, is_int8 = pair.module.state_dict().keys(), pair.metadata.precision == "int8"
    file = onnx_ir.from_proto(pair.onnx_model).graph
    file.sort()
    actual = Structure(file, weights, is_int8)
    different = differences(Structure(reference.graph, weights, is_int8), actual)
    if not different:
        return Finding("nodes", True, f"{sum(actual.operators.values())} are the model's")
    return Finding("nodes", False, f"not those of the model: {different}")


def _accepts(input_axes: Sequence[str | int], shape: InputShape) -> bool:
    """Whether an input of a file accepts one example of a shape."""
    return len(input_axes) == len(shape.axes) and all(
        isinstance(actual, str) or actual == expected
        for actual, expected in zip(input_axes, shape.axes, strict=True)
    )


def _described(values: Sequence[onnx.ValueInfoProto]) -> str:
    return ", ".join(f"{value.name} {_times(axes(value))} {dtype_of(value)}" for value in values)


def _times(shape: Sequence[str | int]) -> str:
    return "×".join(map(str, shape))


def _name(key: str) -> str:
    return key.replace("_", " ")


def _text(value: Any) -> str:
    """Return a value as people write it: a size is 32×32, and there is no True, False and None."""
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        sizes = all(isinstance(item, int) for item in value)
        return ("×" if sizes else "/").join(map(_text, value))
    return str(value)


def _short(value: Any) -> str:
    text = _text(value)
    return f"{text[:12]}…" if isinstance(value, str) and len(text) > 32 else text
