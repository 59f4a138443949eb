"""Export: a model becomes one `.onnx` file that carries its labels and preprocessing."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import onnx
import onnx_ir
import torch
from torch import nn

from .... import __version__
from ...files import atomic_path, check_output
from ...images.preprocessing import Preprocessing
from ...inference.metadata import Metadata
from ...inference.torch_module import inference_copy, run
from ...input_shapes import (
    BATCH_AXIS,
    InputShapes,
    parse_inputs,
)
from ...labels import check_labels
from ...modules.finite import require_finite_parameters
from ...modules.states import state_count
from ...saved import SavedModel, infer_output_kind
from ...saved.probabilities import sum_problem
from ...saved.shapes import is_sigmoid_last
from ..errors import OnnxError
from ..onnx_file import axes
from .bake_preprocessing import bake, remaining_preprocessing
from .bake_resize import IMAGE, image_preprocessing
from .bake_resize import bake_resize as bake_resize_into
from .example import batch_in_front, example_of, require_any_size
from .fp16 import to_half
from .kept_outputs import Kept, KeptOutputs, choose_kept, kind_of_kept
from .outputs import kind_of_outputs, names_of_outputs
from .states import new_state_names, with_states
from .tracing import EXPORTER, OPSET, PRODUCER, trace

#: Larger weights go to a second file: a protobuf message, graph included, is limited to 2 GiB.
SINGLE_FILE_BYTES = 2**31 - 2**24


#: Without one ONNX Runtime shows the largest integer.
_MODEL_VERSION = 1


class ModelDetails(TypedDict, total=False):
    """What `export` and `check` must know about a module; replaces what a `SavedModel` says.

    Attributes:
        input_shape: The shape of one example, such as (C, H, W); or what the network takes as
            `parse_inputs` gives it, or as its text, such as "?x20" or "16,4x4".
        labels: Class names, in the order of the outputs.
        preprocessing: How an image becomes an input.
        output_kind: What the outputs mean: `logits`, `log_probabilities`, `probabilities` or
            `features`; by default what the last layer suggests.
    """

    input_shape: Sequence[int] | InputShapes | str | None
    labels: Sequence[str] | None
    preprocessing: Preprocessing | None
    output_kind: str | None


@dataclass(frozen=True)
class Exported:
    """The result of `export`.

    Attributes:
        files: The `.onnx` file, and the file of its weights if they are too large for one file.
        inputs: Names of the inputs.
        outputs: Names of the outputs.
        output_kind: What the outputs mean (`SavedModel.output_kind`).
        opset: Version of the ONNX operator set.
    """

    files: list[Path]
    inputs: list[str]
    outputs: list[str]
    output_kind: str
    opset: int = OPSET


def export(
    model: nn.Module | SavedModel,
    path: str | os.PathLike[str],
    *,
    inputs: Any = None,
    bake_preprocessing: bool = False,
    bake_resize: bool = False,
    fp16: bool = False,
    any_size: bool = False,
    outputs: Sequence[str | int] | None = None,
    columns: tuple[int, int] | None = None,
    overwrite: bool = False,
    **details: Unpack[ModelDetails],
) -> Exported:
    """Export a model to ONNX, for batches of any size.

    The model itself is not changed. The input is named `input`; the output is named after its
    kind: `logits`, `log_probabilities`, `probabilities`, or `output` for features. Several inputs
    or outputs are numbered from 1: `input_1`, `input_2`. States that layers remember from call to
    call follow: `state_1`, … (zeros at first), and `new_state_1`, …

    Args:
        model: A `SavedModel`, or a module that takes (N, …).
        path: The file to write, in an existing folder.
        inputs: Example inputs, a tensor (N, …) or a list of tensors; needed for a network that
            does not take one image, in place of `input_shape`.
        bake_preprocessing: Put the normalization into the graph, which then takes uint8 pixels.
        bake_resize: Put all of preprocessing into the graph, which then takes `image`, the uint8
            pixels (height, width, 3) of one image of any size, and gives the outputs of this one.
        fp16: Compute in half precision; inputs and outputs stay float32.
        any_size: Leave the height and width of images free: short for an `input_shape` with `?`.
        outputs: Which outputs are kept, in this order: their names, or numbers from 1.
        columns: Which columns of the only output are kept: the first and the last, from 1. Labels
            are cut with them.
        overwrite: Replace an existing file.
        details: `input_shape`, `labels`, `preprocessing` and `output_kind` (see `ModelDetails`),
            for a module, or to replace those of a `SavedModel`.

    Raises:
        OnnxError: If ONNX cannot express the model, or not with these options.
        InferenceError: If the model does not accept the example inputs.
        LabelsError: If the number of labels is not the number of outputs.
        NotFiniteError: If a parameter of the model is not a finite number.
        WriteError: If the file exists already, or cannot be written.

    Example:
        >>> from tempfile import mkdtemp
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2), nn.LogSoftmax(1))
        >>> path = f"{mkdtemp()}/network.onnx"
        >>> exported = export(network, path, input_shape=(3, 2, 2), labels=["cat", "dog"])
        >>> exported.inputs, exported.outputs
        (['input'], ['log_probabilities'])
    """
    if bake_resize and bake_preprocessing:
        raise OnnxError(
            "bake_resize=True puts all of preprocessing into the graph: leave out "
            "bake_preprocessing=True"
        )
    saved_model = as_saved_model(model, **details)
    target = check_output(path, overwrite)
    require_finite_parameters(saved_model.module)
    module = inference_copy(saved_model.module, torch.float32)
    is_saved = isinstance(model, SavedModel)
    shapes, example = example_of(saved_model, module, inputs, any_size, is_saved)
    values = run(module, example)
    if shapes.takes_any_size:
        require_any_size(module, example, values)
    is_kind_given = details.get("output_kind") is not None
    if not is_kind_given:
        rows, batch = values[0].shape[:1], batch_in_front(shapes, example)
        by_example = batch is None or rows == (batch,)
        kind = kind_of_outputs(saved_model.output_kind, len(values), values[0].dim(), by_example)
        saved_model = replace(saved_model, output_kind=kind)
    output_names = names_of_outputs(saved_model.output_kind, len(values), None)
    kept = choose_kept(outputs, columns, output_names, values)
    if kept is not None:
        module = KeptOutputs(module, kept)
        if not is_kind_given:
            kind = kind_of_kept(module, saved_model.output_kind, example)
            saved_model = replace(saved_model, output_kind=kind)
        saved_model, values = kept.of(saved_model), module.select(values)
        output_names = names_of_outputs(saved_model.output_kind, len(values), kept)
    if problem := sum_problem(values[0].numpy(), saved_model.output_kind):
        raise OnnxError(f"{problem}; output_kind='features' exports what they are")
    if saved_model.labels is not None:
        check_labels(saved_model.labels, values[0].shape[1])
    if states := state_count(module):
        module, shapes, example = with_states(module, shapes, example)
        output_names += new_state_names(states)
    graph = trace(module, example, shapes, output_names)
    metadata = replace(
        metadata_of(saved_model, kept),
        precision="fp16" if fp16 else "fp32",
        exporter=EXPORTER,
        inputs=str(shapes),
    )
    if fp16:
        graph = to_half(graph)
    input_names = shapes.names()
    if bake_preprocessing or bake_resize:
        if saved_model.preprocessing is None:
            raise OnnxError("the model has no preprocessing to bake: open it with mean_std=FILE")
        (bake_resize_into if bake_resize else bake)(graph, saved_model.preprocessing)
        metadata = baked_metadata(metadata, with_resizing=bake_resize)
        input_names = [IMAGE] if bake_resize else input_names
    graph.producer_name, graph.producer_version = PRODUCER, __version__
    graph.model_version, graph.doc_string = _MODEL_VERSION, _description(saved_model, graph)
    graph.metadata_props.update(metadata.to_props())
    return Exported(
        _write(graph, target, None if bake_resize else shapes, overwrite),
        input_names,
        output_names,
        saved_model.output_kind,
    )


def as_saved_model(
    model: nn.Module | SavedModel,
    *,
    input_shape: Sequence[int] | InputShapes | str | None = None,
    labels: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    output_kind: str | None = None,
) -> SavedModel:
    """Return a model with its details; those that are not None replace its own.

    The outputs of a sigmoid are features, unless it is said that they are the probabilities of one
    choice: they do not add up to 1.

    Raises:
        InputShapeError: If `input_shape` is no shape.
    """
    if not isinstance(model, SavedModel):
        model = SavedModel(model, infer_output_kind(model))
    details: dict[str, Any] = {
        "labels": labels,
        "preprocessing": preprocessing,
        "output_kind": output_kind,
    }
    if output_kind is None and model.output_kind == "probabilities":
        details["output_kind"] = "features" if is_sigmoid_last(model.module) else None
    result = replace(model, **{name: value for name, value in details.items() if value is not None})
    if input_shape is not None:
        if not isinstance(input_shape, (InputShapes, str)):
            input_shape = "x".join(map(str, input_shape)) or "scalar"
        shapes = parse_inputs(input_shape) if isinstance(input_shape, str) else input_shape
        result.set_inputs(shapes)
    return result


def metadata_of(model: SavedModel, kept: Kept | None = None) -> Metadata:
    """Return the metadata for the exported file of a model."""
    kept = kept or Kept()
    return Metadata(
        kept_outputs=None if kept.outputs is None else list(kept.outputs),
        kept_columns=None if kept.columns is None else list(kept.columns),
        labels=None if model.labels is None else list(model.labels),
        vocabularies=list(model.vocabularies) or None,
        preprocessing=model.preprocessing,
        image_to_image=model.image_to_image,
        output_kind=model.output_kind,
        source=None if model.source is None else asdict(model.source),
    )


def baked_metadata(metadata: Metadata, with_resizing: bool = False) -> Metadata:
    """Return the metadata of a file whose graph takes pixels, or images of any size."""
    assert metadata.preprocessing is not None
    remaining = image_preprocessing if with_resizing else remaining_preprocessing
    return replace(
        metadata,
        preprocessing=remaining(metadata.preprocessing),
        baked_preprocessing=metadata.preprocessing,
    )


def _description(model: SavedModel, graph: onnx_ir.Model) -> str:
    """Return what a file is, in one line for programs that show it."""
    tensors = [
        ", ".join(f"{value.name} {'×'.join(map(str, value.shape or ()))}" for value in values)
        for values in (graph.graph.inputs, graph.graph.outputs)
    ]
    source = "" if model.source is None else f"{model.source.file}: "
    classes = "" if model.labels is None else f", {len(model.labels)} classes"
    return f"{source}{tensors[0]} → {tensors[1]}{classes}"


def _write(
    graph: onnx_ir.Model, target: Path, shapes: InputShapes | None, overwrite: bool
) -> list[Path]:
    """Write a graph, with its weights in a second file if they are too large for one."""
    weights = graph.graph.initializers.values()
    size = sum(value.const_value.nbytes for value in weights if value.const_value is not None)
    weights_name = f"{target.name}.data" if size > SINGLE_FILE_BYTES else None
    if weights_name:
        check_output(target.with_name(weights_name), overwrite)
    with atomic_path(target) as path:
        onnx_ir.save(graph, path, external_data=weights_name)
        if shapes is not None:
            _check_batch(path, shapes)
    return [target, target.with_name(weights_name)] if weights_name else [target]


def _check_batch(file: Path, shapes: InputShapes) -> None:
    """Check in the written file that the inputs and outputs hold any number of examples."""
    graph = onnx.load(file, load_external_data=False).graph
    for value, names in zip(graph.input, shapes.axis_names(), strict=True):
        shape = axes(value)
        if fixed := [name for axis, name in names.items() if shape[axis] != name]:
            if shapes.takes_any_size:
                raise OnnxError("the network has a fixed input size: leave out any_size=True")
            raise OnnxError(
                f"the network takes no free axis {', '.join(fixed)}: {value.name} has the shape "
                f"{'×'.join(map(str, shape))}; give a number in its place"
            )
    for value in graph.output:
        shape = axes(value)
        if shapes.takes_any_size and shape[:1] != [BATCH_AXIS]:
            raise OnnxError("the network has a fixed input size: leave out any_size=True")
        if not holds_batch(shape):
            raise OnnxError(
                f"the model does not keep its batch: {value.name} has the shape "
                f"{'×'.join(map(str, shape))}, which does not hold {BATCH_AXIS}"
            )


def holds_batch(shape: list[str | int]) -> bool:
    """Whether an output holds the batch.

    Steps and examples may be the rows of one axis.

    Example:
        >>> holds_batch(["batch", 10]), holds_batch(["batch*t", 10]), holds_batch([2, 10])
        (True, True, False)
    """
    return any(isinstance(axis, str) and BATCH_AXIS in re.findall(r"\w+", axis) for axis in shape)
