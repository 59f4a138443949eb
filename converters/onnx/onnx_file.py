"""Reading an `.onnx` file: its graph, its weights and its metadata."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from ..errors import first_line
from ..images.image_to_image import ImageToImage
from ..images.preprocessing import Preprocessing
from ..inference.errors import InferenceError
from ..inference.metadata import PREPROCESSING, Metadata
from ..inference.onnx_interface import has_channels_last
from .errors import OnnxError


def read_file(path: str | os.PathLike[str]) -> tuple[onnx.ModelProto, Metadata]:
    """Return the model in an `.onnx` file, with its weights, and the file's metadata.

    Raises:
        OnnxError: If the file is missing, is not ONNX, or its metadata is damaged.
    """
    try:
        model = onnx.load(Path(path), load_external_data=False)
        if not model.ir_version:
            # Protobuf reads an empty file as a message without entries.
            raise OnnxError(f"{os.fspath(path)}: not an ONNX file: it states no version")
        _load_weights(model, Path(path))
        metadata = Metadata.from_props({prop.key: prop.value for prop in model.metadata_props})
        metadata.check_fits(*_sizes(model.graph, metadata.is_foreign))
    except FileNotFoundError as error:
        raise OnnxError(f"{error.filename or os.fspath(path)}: no such file") from None
    except IsADirectoryError:
        raise OnnxError(f"{os.fspath(path)}: a folder, not an .onnx file") from None
    except (DecodeError, onnx.checker.ValidationError, OSError) as error:
        raise OnnxError(f"{os.fspath(path)}: not an ONNX file: {error}") from error
    except InferenceError as error:
        raise OnnxError(f"{os.fspath(path)}: {error}") from error
    if metadata.precision is None:
        metadata = replace(metadata, precision=_arithmetic(model.graph))
    return model, metadata


def _arithmetic(graph: onnx.GraphProto) -> str:
    """Return the arithmetic inside a graph that does not say it."""
    if any("QuantizeLinear" in node.op_type or "Integer" in node.op_type for node in graph.node):
        return "int8"
    values = [*graph.input, *graph.output]
    kinds = {tensor.data_type for tensor in graph.initializer}
    kinds |= {value.type.tensor_type.elem_type for value in values}
    return "fp16" if onnx.TensorProto.FLOAT16 in kinds else "fp32"


def read_network(path: str | os.PathLike[str]) -> tuple[onnx.ModelProto, Metadata]:
    """Return what `read_file` does, of a file whose inputs and outputs are tensors.

    Raises:
        OnnxError: As `read_file`, or if an input or output is none, or there are none.
    """
    model, metadata = read_file(path)
    # Before IR 4 weights are inputs too.
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in [value for value in model.graph.input if value.name in weights]:
        model.graph.input.remove(value)
        model.ir_version = max(model.ir_version, 4)
    for kind, values in (("input", model.graph.input), ("output", model.graph.output)):
        if not values:
            raise OnnxError(f"{os.fspath(path)}: not a network: it has no {kind}")
        for value in values:
            if value.type.WhichOneof("value") != "tensor_type":
                raise OnnxError(
                    f"{os.fspath(path)}: the {kind} {value.name} is a "
                    f"{value.type.WhichOneof('value').removesuffix('_type')}, where a tensor was "
                    "expected; scikit-learn's exporter writes one with zipmap=False"
                )
    return model, metadata


def _load_weights(model: onnx.ModelProto, path: Path) -> None:
    """Load the weights that are in other files, beside the graph.

    Raises:
        OnnxError: If one of these files is missing or cut.
    """
    sizes = weight_files(model)
    missing = [name for name in sizes if not (path.parent / name).is_file()]
    if missing:
        raise OnnxError(
            f"{path}: its weights are in {', '.join(missing)}, which is missing beside it"
        )
    for name, size in sizes.items():
        # Older versions of onnx read what is there.
        if (found := (path.parent / name).stat().st_size) < size:
            raise OnnxError(f"{path}: its weights in {name}: {found:,} bytes of {size:,} are there")
    try:
        onnx.load_external_data_for_model(model, os.fspath(path.parent))
    except (ValueError, onnx.checker.ValidationError) as error:
        reason = first_line(error)
        raise OnnxError(f"{path}: its weights in {', '.join(sizes)}: {reason}") from error


def weight_files(model: onnx.ModelProto) -> dict[str, int]:
    """Return the files, beside that of a graph, that hold its weights, and the bytes each needs."""
    sizes: dict[str, int] = {}
    for tensor in model.graph.initializer:
        if onnx.external_data_helper.uses_external_data(tensor):
            place = {entry.key: entry.value for entry in tensor.external_data}
            numbers = (place.get(key, "") for key in ("offset", "length"))
            # What is no number is refused when the weights are loaded.
            end = sum(int(number) for number in numbers if number.isdecimal())
            name = place.get("location", "")
            sizes[name] = max(end, sizes.get(name, 0))
    return dict(sorted(sizes.items()))


def axes(value: onnx.ValueInfoProto) -> list[str | int]:
    """Return the axes of an input or output: a size, a name, or 0 for a free axis without one."""
    return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]


def dtype_of(value: onnx.ValueInfoProto) -> np.dtype[Any]:
    """Return the dtype of an input or output."""
    return onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)


def takes_image(value: onnx.ValueInfoProto) -> bool:
    """Return whether an input is one image: uint8 (height, width, channels) of any size."""
    sizes = axes(value)
    is_free = len(sizes) == 3 and not any(isinstance(size, int) and size for size in sizes[:2])
    return is_free and value.type.tensor_type.elem_type == onnx.TensorProto.UINT8


def describe_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what an `.onnx` file holds, as JSON values. Needs neither torch nor ONNX Runtime.

    `inputs` and `outputs` are lists of `{"name", "shape", "dtype"}`; a free axis is its name, or
    None. `preprocessing` is what turns an image into an input of the graph. `baked_preprocessing`
    is what turns it into an input of the network, if the graph does a part of that itself.

    Raises:
        OnnxError: If the file is missing, is not ONNX, or its metadata is damaged.

    Example:
        >>> from tempfile import mkdtemp
        >>> from torch import nn
        >>> from torchlift.converters.onnx import export
        >>> path = f"{mkdtemp()}/linear.onnx"
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
        >>> exported = export(network, path, input_shape=(3, 1, 1))
        >>> description = describe_file(path)
        >>> description["inputs"]
        [{'name': 'input', 'shape': ['batch', 3, 1, 1], 'dtype': 'float32'}]
        >>> description["output_kind"], description["arithmetic"]
        ('logits', 'fp32')
    """
    model, metadata = read_file(path)
    weights = {tensor.name for tensor in model.graph.initializer}
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    return {
        "bytes": Path(path).stat().st_size,
        "inputs": _describe(value for value in model.graph.input if value.name not in weights),
        "outputs": _describe(model.graph.output),
        "nodes": len(model.graph.node),
        "parameters": sum(math.prod(tensor.dims) for tensor in model.graph.initializer),
        "opset": opsets.get(""),
        "ir_version": model.ir_version,
        "labels": metadata.labels,
        "vocabularies": [vocabulary.to_json() for vocabulary in metadata.vocabularies or []],
        **{name: _to_json(getattr(metadata, name)) for name in (*PREPROCESSING, "image_to_image")},
        "arithmetic": metadata.precision,
        "output_kind": metadata.output_kind,
        "depends_on_batch": bool(metadata.depends_on_batch),
        "source": metadata.source,
        "torchlift_version": metadata.torchlift_version,
        "format_version": metadata.format_version,
    }


def _sizes(graph: onnx.GraphProto, is_foreign: bool) -> tuple[list[int] | None, int | None]:
    """Return the (C, H, W) of a graph's only input and the columns of its output, where fixed."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [axes(value) for value in graph.input if value.name not in weights]
    if is_foreign and inputs and has_channels_last(inputs[0]):
        inputs[0] = [inputs[0][0], inputs[0][3], *inputs[0][1:3]]
    inputs = [sizes[1:] for sizes in inputs]
    outputs = [axes(value)[1:] for value in graph.output]
    shape = [axis for axis in inputs[0] if isinstance(axis, int) and axis] if inputs else []
    is_image = len(inputs) == 1 and len(shape) == len(inputs[0]) == 3
    columns = outputs[0][0] if len(outputs) == 1 and outputs[0] else None
    return shape if is_image else None, columns if isinstance(columns, int) and columns else None


def _describe(values: Iterable[onnx.ValueInfoProto]) -> list[dict[str, Any]]:
    return [
        {
            "name": value.name,
            "shape": [axis or None for axis in axes(value)],
            # Sequences and maps, in other programs' files, have no dtype of their own.
            "dtype": str(dtype_of(value)) if value.type.tensor_type.elem_type else None,
        }
        for value in values
    ]


def _to_json(steps: Preprocessing | ImageToImage | None) -> dict[str, Any] | None:
    return None if steps is None else steps.to_json()
