"""Finding the first node of a file that another runtime computes otherwise than ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from ...errors import TorchliftError
from ...inference.providers import open_session
from ..runtimes.installed import InstalledRuntime
from ..runtimes.session import RuntimeSession

#: The types of values that are compared.
_NUMBERS = (
    *(onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE),
    *(onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.INT32),
)


def first_divergence(
    runtime: InstalledRuntime,
    model: onnx.ModelProto,
    feeds: Mapping[str, np.ndarray],
    tolerance: float,
) -> str | None:
    """Return the first node, in the file's order, whose result differs, and by how much.

    Args:
        runtime: The runtime.
        model: The graph, with its weights.
        feeds: What the graph is given.
        tolerance: Largest error that passes, relative to the largest value of the result.

    Returns:
        Its name, operator and error; None if none differs by as much, or if the runtime does not
        run a graph that gives out what is between its nodes.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "nodes.onnx"
        names = _save_with_values(model, path)
        try:
            expected = open_session(path, "cpu").run(feeds, names)
            with RuntimeSession(runtime, path) as session:
                actual = session.run(feeds, names)
        except TorchliftError:
            return None
    producers = {name: node for node in model.graph.node for name in node.output}
    for name, first, second in zip(names, expected, actual, strict=True):
        error = _error(first, second)
        if not error <= tolerance:
            return f"{producers[name].name} ({producers[name].op_type}, error {error:.1e})"
    return None


def _save_with_values(model: onnx.ModelProto, path: Path) -> list[str]:
    """Write a graph that gives out the results of its nodes; return their names, in its order."""
    graph = onnx.shape_inference.infer_shapes(model)
    known = {
        value.name: value
        for value in (*graph.graph.value_info, *graph.graph.output)
        if value.type.tensor_type.elem_type in _NUMBERS
    }
    names = [name for node in graph.graph.node for name in node.output if name in known]
    existing = {value.name for value in graph.graph.output}
    graph.graph.output.extend(known[name] for name in names if name not in existing)
    onnx.save(graph, path, save_as_external_data=True, location="nodes.data")
    return names


def _error(expected: np.ndarray, actual: np.ndarray) -> float:
    """Return the largest error, relative to the largest value; NaN where one is not finite."""
    if expected.shape != actual.shape:
        return float("nan")
    first, second = expected.astype(np.float64), actual.astype(np.float64)
    largest = np.abs(first).max(initial=1e-12)
    return float(np.abs(first - second).max(initial=0.0) / largest)
