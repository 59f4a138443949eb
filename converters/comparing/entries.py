"""The entries of files that are compared: values of a `.t7`, parts of a model, parts of a graph."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ..t7.leaves import Leaves
from .differences import Entry

if TYPE_CHECKING:
    import onnx

    from ..inference.metadata import Metadata
    from ..saved import SavedModel

#: Entries of an `.onnx` file's metadata that say who wrote it, or what its graph says too.
_LEFT_OUT = ("exporter", "torchlift_version", "format_version", "source", "inputs")


def entries_of_values(leaves: Leaves) -> dict[str, Entry]:
    """Return the values of a `.t7` by their Lua paths, with classes and functions."""
    classes = {f"class of {path}": name for path, name in leaves.classes.items()}
    functions = {f"function {path}": code for path, code in leaves.functions.items()}
    return {**classes, **functions, **leaves.values}


def entries_of_model(model: SavedModel) -> dict[str, Entry]:
    """Return the weights, layers and settings of a model, by PyTorch's names.

    Raises:
        SavedModelError: If it has a layer that a saved model cannot name.
    """
    from ..saved.structure import describe

    layers = {f"layer {path}": text for path, text in _layers(describe(model.module), "")}
    state = model.module.state_dict()
    weights: dict[str, Entry] = {name: each.detach().cpu().numpy() for name, each in state.items()}
    return {**layers, **weights, **settings_of_model(model)}


def _layers(description: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """Yield the path of each layer, with its class and arguments."""
    rest = {name: value for name, value in description.items() if name != "children"}
    arguments = rest.pop("arguments", {})
    given = ", ".join(f"{name}={json.dumps(value)}" for name, value in arguments.items())
    yield path or "(all)", f"{' '.join(map(str, rest.values()))}({given})"
    for index, child in enumerate(description.get("children", [])):
        yield from _layers(child, f"{path}.{index}".removeprefix("."))


def settings_of_model(model: SavedModel) -> dict[str, Entry]:
    """Return what a model says of its inputs and outputs."""
    shapes = model.input_shapes
    known = {
        "output_kind": model.output_kind,
        "labels": model.labels,
        "inputs": None if shapes is None else str(shapes),
        "preprocessing": model.preprocessing and asdict(model.preprocessing),
        "image_to_image": model.image_to_image and asdict(model.image_to_image),
        "vocabularies": [vocabulary.to_json() for vocabulary in model.vocabularies] or None,
    }
    return _settings(known)


def entries_of_graph(model: onnx.ModelProto, metadata: Metadata) -> dict[str, Entry]:
    """Return the weights, nodes and settings of an `.onnx` file; quantized weights as numbers."""
    from onnx import numpy_helper

    from ..onnx.checker.weights import quantized_constants

    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    entries: dict[str, Entry] = {}
    for name, values, parts in quantized_constants(arrays, model):
        entries[name] = values
        for part in parts:
            arrays.pop(part, None)
    counts = Counter(node.op_type for node in model.graph.node)
    entries |= {f"nodes {operator}": count for operator, count in sorted(counts.items())}
    entries["connections"] = _connections(model)
    for kind, values in (("input", model.graph.input), ("output", model.graph.output)):
        for value in values:
            sizes = [each.dim_param or each.dim_value for each in value.type.tensor_type.shape.dim]
            entries[f"{kind} {value.name}"] = "×".join(map(str, sizes))
    known = {name: value for name, value in asdict(metadata).items() if name not in _LEFT_OUT}
    return {**entries, **arrays} | _settings(known)


def _connections(model: onnx.ModelProto) -> str:
    """Return a hash of what the outputs are computed by: operators, attributes, what they take."""
    import onnx_ir

    from ..onnx.checker.nodes import Structure

    graph = onnx_ir.from_proto(model).graph
    graph.sort()
    names = [name for value in graph.initializers.values() if (name := value.name)]
    outputs = Structure(graph, names).outputs
    return " ".join(output[:12] for output in outputs)


def _settings(known: dict[str, Any]) -> dict[str, Entry]:
    """Return settings that are not None as texts, each entry of a table by itself."""
    settings: dict[str, Entry] = {}
    for name, value in known.items():
        if isinstance(value, dict):
            inside = {f"{name}.{key}": each for key, each in value.items()}
            settings |= _settings(inside)
        elif value is not None:
            settings[name] = value if isinstance(value, str) else json.dumps(value, default=str)
    return settings


def floating(entries: dict[str, Entry]) -> dict[str, Entry]:
    """Return entries with every floating-point array in float64, whatever a file stores."""
    return {
        name: entry.astype(np.float64)
        if isinstance(entry, np.ndarray) and entry.dtype.kind == "f"
        else entry
        for name, entry in entries.items()
    }
