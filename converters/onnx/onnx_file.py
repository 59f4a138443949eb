"""An `.onnx` file as it is stored: its graph, its weights and what it says of itself."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from ..images.preprocessing import Preprocessing
from ..inference.metadata import PREPROCESSING, Metadata
from .errors import OnnxError


def read_file(path: str | os.PathLike[str]) -> tuple[onnx.ModelProto, Metadata]:
    """An `.onnx` file with its weights, and what it says of itself.

    Raises:
        OnnxError: when the file is missing, is no ONNX, or its metadata is damaged.
    """
    try:
        model = onnx.load(Path(path))
    except FileNotFoundError as error:
        raise OnnxError(f"{error.filename or os.fspath(path)}: no such file") from None
    except (DecodeError, onnx.checker.ValidationError, OSError) as error:
        raise OnnxError(f"{os.fspath(path)}: no ONNX file: {error}") from error
    return model, Metadata.from_props({prop.key: prop.value for prop in model.metadata_props})


def axes(value: onnx.ValueInfoProto) -> list[str | int]:
    """The axes of an input or output: a number, a name, or 0 for one that is open."""
    return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]


def describe_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What an `.onnx` file holds, as JSON values; neither torch nor ONNX Runtime is needed.

    `preprocessing` is what is left to do before the graph, `baked_preprocessing` what turned
    images into the network's input where the graph does a part of that itself.

    Raises:
        OnnxError: when the file is missing, is no ONNX, or its metadata is damaged.
    """
    model, metadata = read_file(path)
    weights = {tensor.name for tensor in model.graph.initializer}
    opsets = {each.domain: each.version for each in model.opset_import}
    return {
        "bytes": Path(path).stat().st_size,
        "inputs": _shapes(value for value in model.graph.input if value.name not in weights),
        "outputs": _shapes(model.graph.output),
        "nodes": len(model.graph.node),
        "parameters": sum(math.prod(tensor.dims) for tensor in model.graph.initializer),
        "opset": opsets.get(""),
        "ir_version": model.ir_version,
        **vars(metadata),
        **{name: _to_json(getattr(metadata, name)) for name in PREPROCESSING},
    }


def _shapes(values: Iterable[onnx.ValueInfoProto]) -> dict[str, str]:
    """Names and shapes, such as `batch×3×224×224`."""
    return {value.name: "×".join(str(axis or "?") for axis in axes(value)) for value in values}


def _to_json(preprocessing: Preprocessing | None) -> dict[str, Any] | None:
    return None if preprocessing is None else preprocessing.to_json()
