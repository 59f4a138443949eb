"""Finding the first node of a file whose result differs from what PyTorch computes there.

`torch.export` turns a network into a list of operators. The exporter translates each operator and
keeps the name of its result, and so do the conversions to float16 and int8. Running the operators
in PyTorch and the nodes in ONNX Runtime gives two results for each name, which are compared. The
translation itself is not trusted.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from ...errors import first_line
from ...inference.provider_options import EXACT_INT8
from ...inference.torch_module import as_inputs
from ...input_shapes import InputShapes
from ..exporter.bake_preprocessing import NORMALIZED
from ..exporter.tracing import translate
from .check_inputs import CheckBatch
from .comparison import compare
from .pair import ExportPair
from .report import Finding

#: What the quantizer adds to the name of a value that went through int8.
_DEQUANTIZED = "_DequantizeLinear_Output"


@dataclass(frozen=True)
class _Divergence:
    """A node whose result differs from PyTorch's.

    Attributes:
        node: The node.
        layer: The layer of the PyTorch model that computes the value, such as `0.4`.
        error: Largest difference, relative to the largest value of PyTorch's result.
    """

    node: onnx.NodeProto
    layer: str
    error: float


def check_nodes(pair: ExportPair, batches: Iterable[CheckBatch], tolerance: float) -> Finding:
    """Find the first node of a file, in the file's order, whose result differs from PyTorch's.

    Args:
        pair: The model and the file.
        batches: The first of them with several examples is run.
        tolerance: Largest error that passes.
    """
    batch = next(batch for batch in batches if len(batch.examples) > 1)
    try:
        divergence, compared = _first_divergence(pair, batch, tolerance)
    except Exception as error:  # A damaged file makes onnx and ONNX Runtime raise anything.
        return Finding("locate", False, f"the nodes cannot be run: {first_line(error)}")
    if divergence is None:
        return Finding("locate", True, f"{compared} nodes compared, none diverges")
    node = divergence.node
    return Finding(
        "locate",
        False,
        f"the first node that diverges is {node.name} ({node.op_type}), layer {divergence.layer}: "
        f"error {divergence.error:.1e}, {tolerance:g} allowed",
    )


def _first_divergence(
    pair: ExportPair, batch: CheckBatch, tolerance: float
) -> tuple[_Divergence | None, int]:
    """Return the first node that diverges, and how many nodes were compared."""
    inputs = as_inputs(pair.module, batch.model)
    expected, outputs = _torch_values(pair.module, inputs, pair.shapes)
    model = onnx.load(pair.path, load_external_data=False)
    # The exporter renamed the outputs, and no other value.
    for value, output in zip(model.graph.output, outputs, strict=False):
        expected[value.name] = expected[output]
    producers = {name: node for node in model.graph.node for name in node.output}
    if isinstance(batch.model, np.ndarray):
        expected[NORMALIZED] = (batch.model, "the preprocessing in the graph")
    # In an int8 graph the next node gets the dequantized value, and a ReLU is nothing but the range
    # of its quantizer.
    result_names = {
        name: next((n for n in (f"{name}{_DEQUANTIZED}", name) if n in producers), name)
        for name in producers
        if name in expected
    }
    file_inputs = pair.file_inputs(batch.file)
    values = _onnx_values(model, pair.path.parent, list(result_names.values()), file_inputs)
    compared = 0
    for name, result_name in result_names.items():
        (torch_value, layer), value = expected[name], values[result_name]
        if value.shape != torch_value.shape:
            continue  # The exporter reshaped the value, to the same effect.
        compared += 1
        examples = np.arange(len(torch_value))
        result = compare(torch_value, value, examples, tolerance, is_classifier=False)
        if result.error > tolerance or result.not_finite[0] != result.not_finite[1]:
            return _Divergence(producers[name], layer, result.error), compared
    return None, compared


class _Recorder(fx.Interpreter):
    """Runs a graph of operators and keeps every tensor, with the layer that computes it."""

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
            # A copy, because an in-place operator changes the result of the one before it.
            self.values[n.name] = (result.float().cpu().numpy().copy(), stack[-1][0])
        return result


def _torch_values(
    module: nn.Module, inputs: Any, shapes: InputShapes
) -> tuple[dict[str, tuple[np.ndarray, str]], list[str]]:
    """Return each operator's result and its layer, by name, and the names of the outputs."""
    program = translate(module, inputs, shapes).exported_program
    assert program is not None
    graph_module = program.module()
    assert isinstance(graph_module, fx.GraphModule)
    recorder = _Recorder(graph_module)
    with torch.no_grad():
        recorder.run(*pytree.tree_leaves(inputs))
    return recorder.values, recorder.outputs


def _onnx_values(
    model: onnx.ModelProto, folder: Path, names: list[str], inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return what ONNX Runtime computes for values inside a graph, in single precision.

    Args:
        model: The graph, without the weights in other files.
        folder: Where those files are.
        names: The values.
        inputs: Inputs of the graph, by name.
    """
    with_outputs = onnx.ModelProto()
    with_outputs.CopyFrom(model)
    existing = {value.name for value in with_outputs.graph.output}
    with_outputs.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in names if name not in existing
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised too, without names from the file
    options.add_session_config_entry(*EXACT_INT8)
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", os.fspath(folder.resolve())
    )
    session = onnxruntime.InferenceSession(
        with_outputs.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    values = session.run(names, dict(inputs))
    return {name: np.asarray(value, np.float32) for name, value in zip(names, values, strict=True)}
