"""Export: a model becomes one `.onnx` file that carries its labels and preprocessing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import onnx
import onnx_ir
import torch
from torch import nn
from torch.utils import _pytree as pytree

from .... import __version__
from ...files import atomic_path, check_output
from ...images.preprocessing import Preprocessing
from ...inference.metadata import Metadata
from ...inference.torch_module import as_inputs, inference_copy, run
from ...labels import check_labels
from ...modules.finite import require_finite_parameters
from ...saved import SavedModel, infer_output_kind
from ...saved.probabilities import sum_problem
from ..errors import OnnxError
from ..onnx_file import axes
from .bake_preprocessing import bake, remaining_preprocessing
from .fp16 import to_half
from .tracing import BATCH_AXIS, EXPORTER, OPSET, trace

#: Larger weights go to a second file: a protobuf message, graph included, is limited to 2 GiB.
SINGLE_FILE_BYTES = 2**31 - 2**24


class ModelDetails(TypedDict, total=False):
    """What `export` and `check` must know about a module; replaces what a `SavedModel` says.

    Attributes:
        input_shape: (C, H, W) of one example.
        labels: Class names, in the order of the outputs.
        preprocessing: How an image becomes an input.
        output_kind: What the outputs mean: `logits`, `log_probabilities`, `probabilities` or
            `features`; by default what the last layer suggests.
    """

    input_shape: Sequence[int] | None
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
    fp16: bool = False,
    any_size: bool = False,
    overwrite: bool = False,
    **details: Unpack[ModelDetails],
) -> Exported:
    """Export a model to ONNX, for batches of any size.

    The model itself is not changed. The input is named `input`; the output is named after its
    kind: `logits`, `log_probabilities`, `probabilities`, or `output` for features. Several inputs
    or outputs are numbered from 1: `input_1`, `input_2`.

    Args:
        model: A `SavedModel`, or a module that takes (N, …).
        path: The file to write, in an existing folder.
        inputs: Example inputs, a tensor (N, …) or a list of tensors; needed for a network that
            does not take one image, in place of `input_shape`.
        bake_preprocessing: Put the normalization into the graph, which then takes uint8 pixels.
        fp16: Compute in half precision; inputs and outputs stay float32.
        any_size: Leave the height and width of images free.
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
    saved_model = as_saved_model(model, **details)
    target = check_output(path, overwrite)
    require_finite_parameters(saved_model.module)
    module = inference_copy(saved_model.module, torch.float32)
    if inputs is None:
        shape = _input_shape(saved_model, is_saved=isinstance(model, SavedModel))
        inputs = torch.zeros(2, *shape)
    example = as_inputs(module, inputs)
    outputs = run(module, example)
    if problem := sum_problem(outputs[0].numpy(), saved_model.output_kind):
        raise OnnxError(f"{problem}; output_kind='features' exports what they are")
    if saved_model.labels is not None:
        check_labels(saved_model.labels, outputs[0].shape[1])
    input_names = interface_names("input", len(pytree.tree_leaves(example)))
    output_names = interface_names(output_name(saved_model.output_kind), len(outputs))
    graph = trace(module, example, input_names, output_names, any_size)
    metadata = replace(
        metadata_of(saved_model), precision="fp16" if fp16 else "fp32", exporter=EXPORTER
    )
    if fp16:
        graph = to_half(graph)
    if bake_preprocessing:
        if saved_model.preprocessing is None:
            raise OnnxError("the model has no preprocessing to bake: open it with mean_std=FILE")
        bake(graph, saved_model.preprocessing)
        metadata = baked_metadata(metadata)
    graph.producer_name, graph.producer_version = "torchlift", __version__
    graph.metadata_props.update(metadata.to_props())
    return Exported(
        _write(graph, target, any_size, overwrite),
        input_names,
        output_names,
        saved_model.output_kind,
    )


def as_saved_model(
    model: nn.Module | SavedModel,
    *,
    input_shape: Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    output_kind: str | None = None,
) -> SavedModel:
    """Return a model with its details; those that are not None replace its own.

    Raises:
        OnnxError: If `input_shape` is not (C, H, W).
    """
    if not isinstance(model, SavedModel):
        model = SavedModel(model, infer_output_kind(model))
    if input_shape is not None and len(input_shape) != 3:
        raise OnnxError(f"input_shape must be (C, H, W), not {tuple(input_shape)}")
    details: dict[str, Any] = {
        "input_shape": None if input_shape is None else tuple(input_shape),
        "labels": labels,
        "preprocessing": preprocessing,
        "output_kind": output_kind,
    }
    return replace(model, **{name: value for name, value in details.items() if value is not None})


def metadata_of(model: SavedModel) -> Metadata:
    """Return the metadata for the exported file of a model."""
    return Metadata(
        labels=None if model.labels is None else list(model.labels),
        vocabularies=list(model.vocabularies) or None,
        preprocessing=model.preprocessing,
        output_kind=model.output_kind,
        source=None if model.source is None else asdict(model.source),
    )


def baked_metadata(metadata: Metadata) -> Metadata:
    """Return the metadata of a file whose graph takes pixels."""
    assert metadata.preprocessing is not None
    return replace(
        metadata,
        preprocessing=remaining_preprocessing(metadata.preprocessing),
        baked_preprocessing=metadata.preprocessing,
    )


def output_name(output_kind: str) -> str:
    """Return the name of an output; features are named `output`, since they can be anything."""
    return "output" if output_kind == "features" else output_kind


def interface_names(name: str, count: int) -> list[str]:
    """Return the names of the inputs or outputs: numbered from 1 if there are several."""
    return [name] if count == 1 else [f"{name}_{index}" for index in range(1, count + 1)]


def _input_shape(model: SavedModel, is_saved: bool) -> tuple[int, int, int]:
    if model.input_shape is None:
        remedy = "open it with input_size=(H, W)" if is_saved else "pass input_shape=(C, H, W)"
        raise OnnxError(f"the input shape of the model is unknown: {remedy}")
    return model.input_shape


def _write(graph: onnx_ir.Model, target: Path, any_size: bool, overwrite: bool) -> list[Path]:
    """Write a graph, with its weights in a second file if they are too large for one."""
    weights = graph.graph.initializers.values()
    size = sum(value.const_value.nbytes for value in weights if value.const_value is not None)
    weights_name = f"{target.name}.data" if size > SINGLE_FILE_BYTES else None
    if weights_name:
        check_output(target.with_name(weights_name), overwrite)
    with atomic_path(target) as path:
        onnx_ir.save(graph, path, external_data=weights_name)
        _check_batch(path, any_size)
    return [target, target.with_name(weights_name)] if weights_name else [target]


def _check_batch(file: Path, any_size: bool) -> None:
    """Check in the written file that the inputs and outputs hold any number of examples."""
    graph = onnx.load(file, load_external_data=False).graph
    for value in (*graph.input, *graph.output):
        shape = axes(value)
        if shape[:1] != [BATCH_AXIS]:
            if any_size:
                raise OnnxError("the network has a fixed input size: leave out any_size=True")
            raise OnnxError(
                f"the model does not keep its batch: {value.name} has the shape "
                f"{'×'.join(map(str, shape))}, which does not begin with {BATCH_AXIS}"
            )
