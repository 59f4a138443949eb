"""A model as one `.onnx` file that carries its labels and preprocessing."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import torch
from torch import nn
from torch.utils import _pytree as pytree

from .... import __version__
from ...images.preprocessing import Preprocessing
from ...inference.metadata import Metadata
from ...inference.torch_module import as_inputs, inference_copy, run
from ...labels import check_labels
from ...saved import SavedModel, infer_output_kind
from ..errors import OnnxError
from .bake_preprocessing import bake, left_outside
from .fp16 import to_half
from .tracing import BATCH_AXIS, OPSET, trace

#: Weights above this go to a second file: a protobuf message ends at 2 GiB, graph included.
SINGLE_FILE_BYTES = 2**31 - 2**24


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        files: the `.onnx` file, and the file of its weights if they are too large for one.
        inputs: names of the inputs.
        outputs: names of the outputs.
        output_kind: what the outputs mean (`SavedModel.output_kind`).
        opset: the ONNX operator set.
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
    input_shape: Sequence[int] | None = None,
    inputs: Any = None,
    labels: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    output_kind: str | None = None,
    bake_preprocessing: bool = False,
    fp16: bool = False,
    any_size: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Write a model as ONNX with a symbolic batch axis; the model is not changed.

    The input is called `input` and the output by what it means: `logits`, `log_probabilities`,
    `probabilities`, or `output`. Several are numbered: `input_1`, `input_2`.

    Args:
        model: a module that takes (N, …), or a saved model.
        path: where to; its folder must be there.
        input_shape: (C, H, W) of one example, where `model` does not know it.
        inputs: an example in its place, for a network that takes no single image: a tensor
            (N, …), or a list of them.
        labels: the names of the outputs, in the place of the model's.
        preprocessing: what turns an image into an input, in the place of the model's.
        output_kind: what the outputs mean, in the place of the model's.
        bake_preprocessing: put normalization into the graph, which then takes uint8 pixels.
        fp16: compute in half precision inside; inputs and outputs stay float32.
        any_size: leave the height and width of the images free.
        overwrite: replace a file that is there.

    Raises:
        OnnxError: when the model cannot be exported so, or the file is there already.
        LabelsError: when there are more or fewer labels than outputs.
    """
    described = as_saved_model(
        model, input_shape=input_shape, labels=labels, preprocessing=preprocessing, output_kind=output_kind
    )
    target = Path(path)
    check_free(target, overwrite)
    module = inference_copy(described.module, torch.float32)
    if inputs is None:
        inputs = torch.zeros(2, *_input_shape(described))
    example = as_inputs(module, inputs)
    outputs = run(module, example)
    if described.labels is not None:
        check_labels(described.labels, outputs[0].shape[1])
    input_names = interface_names("input", len(pytree.tree_leaves(example)))
    output_names = interface_names(output_name(described.output_kind), len(outputs))
    graph = trace(module, example, input_names, output_names, any_size)
    metadata = replace(metadata_of(described), precision="fp16" if fp16 else "fp32")
    if fp16:
        graph = to_half(graph)
    if bake_preprocessing:
        if described.preprocessing is None:
            raise OnnxError("the model has no preprocessing to bake: give its mean and std")
        bake(graph, described.preprocessing)
        metadata = baked(metadata)
    graph.producer_name, graph.producer_version = "torchlift", __version__
    graph.metadata_props.update(metadata.to_props())
    return Exported(_write(graph, target), input_names, output_names, described.output_kind)


def as_saved_model(
    model: nn.Module | SavedModel, *, input_shape: Sequence[int] | None = None, **given: Any
) -> SavedModel:
    """A model with what is known of it; what is given (and not None) goes before its own.

    Raises:
        OnnxError: when the input's shape is not that of an image.
    """
    if not isinstance(model, SavedModel):
        model = SavedModel(model, infer_output_kind(model))
    if input_shape is not None:
        if len(input_shape) != 3:
            raise OnnxError(f"input_shape is {tuple(input_shape)}, (C, H, W) was expected")
        given["input_shape"] = tuple(input_shape)
    return replace(model, **{name: value for name, value in given.items() if value is not None})


def metadata_of(model: SavedModel) -> Metadata:
    """What the exported file says of a model."""
    return Metadata(
        labels=None if model.labels is None else list(model.labels),
        preprocessing=model.preprocessing,
        output_kind=model.output_kind,
        source=None if model.source is None else asdict(model.source),
    )


def baked(metadata: Metadata) -> Metadata:
    """What a file says whose graph takes pixels."""
    assert metadata.preprocessing is not None
    left = left_outside(metadata.preprocessing)
    return replace(metadata, preprocessing=left, baked_preprocessing=metadata.preprocessing)


def output_name(output_kind: str) -> str:
    """What an output of a kind is called; features may be anything, also images."""
    return "output" if output_kind == "features" else output_kind


def interface_names(name: str, count: int) -> list[str]:
    """The names of inputs or outputs: numbered from 1 where there are several."""
    return [name] if count == 1 else [f"{name}_{index}" for index in range(1, count + 1)]


def _input_shape(model: SavedModel) -> tuple[int, int, int]:
    if model.input_shape is None:
        raise OnnxError(
            "the size of the input is not known: give it with input_shape=(C, H, W) or --input-size"
        )
    return model.input_shape


def check_free(target: Path, overwrite: bool) -> None:
    """Make sure that a file can be written.

    Raises:
        OnnxError: when its folder is missing, or it is there already.
    """
    if not target.parent.is_dir():
        raise OnnxError(f"{target.parent}: no such folder")
    if target.is_dir():
        raise OnnxError(f"{target}: is a folder")
    if target.exists() and not overwrite:
        raise OnnxError(f"{target}: is there already; --overwrite replaces it")


def _write(graph: onnx_ir.Model, target: Path) -> list[Path]:
    """Write the files under their own names in a folder beside the target, then move them."""
    weights = graph.graph.initializers.values()
    size = sum(value.const_value.nbytes for value in weights if value.const_value is not None)
    names = [target.name]
    if size > SINGLE_FILE_BYTES:
        names.append(f"{target.name}.data")
    try:
        folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            onnx_ir.save(graph, folder / names[0], external_data=names[1] if names[1:] else None)
            _check_batch(folder / names[0])
            # The weights first: the model must never be there without them.
            for name in reversed(names):
                (folder / name).replace(target.parent / name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise OnnxError(f"{target}: cannot be written: {error.strerror or error}") from error
    return [target.parent / name for name in names]


def _check_batch(file: Path) -> None:
    """Read back from a file that its inputs and outputs hold any number of examples."""
    graph = onnx.load(file, load_external_data=False).graph
    for value in (*graph.input, *graph.output):
        axes = [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        if axes[:1] != [BATCH_AXIS]:
            raise OnnxError(
                f"the model does not keep its batch: {value.name} comes out as "
                f"{'×'.join(map(str, axes))}, with the batch in front as {BATCH_AXIS}"
            )
