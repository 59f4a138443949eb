"""The first node of a file whose result is not what PyTorch computes in its place.

`torch.export` lists the operators of a network one by one. The exporter translates each and keeps
the names of their results, and so do the conversions to float16 and int8. Running the list in
PyTorch and the nodes in ONNX Runtime gives two results for each name; the exporter's own
translation is not trusted anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from ...inference.torch_module import as_inputs
from ..exporter.bake_preprocessing import NORMALIZED
from ..exporter.tracing import operators
from .comparison import compare

#: What the quantizer adds to the name of a value that has been through int8.
_DEQUANTIZED = "_DequantizeLinear_Output"


@dataclass(frozen=True)
class Divergence:
    """A node whose result is another one than PyTorch's.

    Attributes:
        node: its name in the file.
        operator: such as `Conv`.
        value: the name of its result.
        layer: the layer of the PyTorch model that computes it, such as `0.4`.
        error: the largest difference, relative to the largest number of PyTorch's result.
    """

    node: str
    operator: str
    value: str
    layer: str
    error: float


def first_divergence(
    module: nn.Module,
    path: str | os.PathLike[str],
    inputs: tuple[Any, Any],
    tolerance: float,
    any_size: bool = False,
) -> tuple[Divergence | None, int]:
    """The first node that diverges, in the order of the file, and how many were compared.

    Args:
        module: as it was exported (see `inference_copy`).
        path: the file.
        inputs: what the module takes, and what the file takes by name.
        tolerance: largest error that passes.
        any_size: whether the file takes images of any size.
    """
    ours, theirs = inputs
    expected, outputs = _torch_values(module, as_inputs(module, ours), any_size)
    stored = onnx.load(path, load_external_data=False)
    # Only the outputs were given names of their own.
    for value, output in zip(stored.graph.output, outputs, strict=False):
        expected[value.name] = expected[output]
    makers = {name: node for node in stored.graph.node for name in node.output}
    layers = {name: layer for name, (_, layer) in expected.items()}
    if isinstance(ours, np.ndarray):
        expected[NORMALIZED] = (ours, "input")
        layers[NORMALIZED] = "the preprocessing in the graph"
    # What the next node of an int8 graph gets: a ReLU is nothing but the range of its quantizer.
    results = {
        name: next((n for n in (f"{name}{_DEQUANTIZED}", name) if n in makers), name)
        for name in makers
        if name in expected
    }
    values = _onnx_values(stored, Path(path).parent, list(results.values()), theirs)
    compared = 0
    for name, result_name in results.items():
        truth, value = expected[name][0], values[result_name]
        if value.shape != truth.shape:
            continue  # The exporter reshaped it on the way, to the same effect.
        compared += 1
        result = compare(truth, value, np.arange(len(truth)), tolerance, classes=False)
        if result.error > tolerance or result.not_finite[0] != result.not_finite[1]:
            node = makers[name]
            return Divergence(node.name, node.op_type, name, layers[name], result.error), compared
    return None, compared


class _Recorder(fx.Interpreter):
    """Runs a list of operators and keeps every tensor, with the layer it comes from."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, tuple[np.ndarray, str]] = {}
        self.outputs: list[str] = []

    def run_node(self, n: fx.Node) -> Any:
        """Compute one operator."""
        result = super().run_node(n)
        if n.op == "output":
            self.outputs = [arg.name for arg in pytree.tree_leaves(n.args)]
        if n.op == "call_function" and isinstance(result, torch.Tensor) and result.dim():
            stack = list((n.meta.get("nn_module_stack") or {"": ("", "")}).values())
            # A copy: an operator that works in place changes what the one before it gave.
            self.values[n.name] = (result.float().cpu().numpy().copy(), stack[-1][0])
        return result


def _torch_values(
    module: nn.Module, inputs: Any, any_size: bool
) -> tuple[dict[str, tuple[np.ndarray, str]], list[str]]:
    """Each operator's result and its layer, and the names of those that the module gives."""
    recorder = _Recorder(operators(module, inputs, any_size))
    with torch.no_grad():
        recorder.run(*pytree.tree_leaves(inputs))
    return recorder.values, recorder.outputs


def _onnx_values(
    stored: onnx.ModelProto, folder: Path, names: list[str], inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What ONNX Runtime computes for values inside a graph, in single precision."""
    inside = onnx.ModelProto()
    inside.CopyFrom(stored)
    given = {value.name for value in inside.graph.output}
    inside.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in names if name not in given
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", os.fspath(folder.resolve())
    )
    session = onnxruntime.InferenceSession(
        inside.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    values = session.run(names, dict(inputs))
    return {name: np.asarray(value, np.float32) for name, value in zip(names, values, strict=True)}
