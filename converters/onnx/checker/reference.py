"""What an exported file must hold, from torch's own translation of the model.

`torch.onnx` translates a module operator by operator. The exporter then computes what depends on
constants only and folds batch normalization; here the same numbers are computed once more from the
translation, with onnx's reference evaluator, so that the exporter's optimization is not trusted
where it changes weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir
import torch
from onnx.reference import ReferenceEvaluator
from onnx_ir import traversal
from onnx_ir.passes import common
from torch.utils import _pytree as pytree

from ...inference.torch_module import as_inputs, inference_copy
from ..exporter.bake_preprocessing import bake, normalization_constants
from ..exporter.optimizer import is_large, optimize
from ..exporter.tracing import OPSET, name_interface, translate
from .pair import RANDOM, ExportPair

#: Operators that only move numbers, so that not a bit of them may change.
_MOVES = (
    *("Concat", "Constant", "ConstantOfShape", "Expand", "Flatten", "Gather", "Identity", "Pad"),
    *("Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
)
#: Operators that a batch normalization behind them is folded into.
_LINEAR = ("Conv", "ConvTranspose", "Gemm")


@dataclass(frozen=True)
class Constant:
    """A constant of a graph.

    Attributes:
        values: What it holds.
        is_computed: Whether arithmetic rounded it, which may differ in the last bits.
    """

    values: np.ndarray
    is_computed: bool


@dataclass(frozen=True)
class Reference:
    """What the file of a model must hold.

    Attributes:
        constants: Every constant by its name, in single precision.
        unfolded: The same without folded batch normalization, for a file of another program.
        graph: The nodes, before they are converted to float16 or int8.
    """

    constants: dict[str, Constant]
    unfolded: dict[str, Constant]
    graph: onnx_ir.Graph


def reference_of(pair: ExportPair, inputs: Any) -> Reference:
    """Return what the file of a model must hold.

    Args:
        pair: The model and the file; of the file only the names are used.
        inputs: Example inputs of the model.

    Raises:
        OnnxError: If torch cannot translate the model.
    """
    module = pair.with_states(inference_copy(pair.model.module, torch.float32))
    # Of inputs in another memory format torch makes other operators.
    example = pytree.tree_map(torch.Tensor.contiguous, as_inputs(module, inputs))
    program = translate(module, example, pair.shapes)
    model, graph = program.model, pair.onnx_model.graph
    if not pair.is_foreign:
        names = ([value.name for value in values] for values in (graph.input, graph.output))
        name_interface(model, *names)
    common.InlinePass()(model)
    kept = {node.output[0] for node in graph.node if node.op_type == "BatchNormalization"}
    unfolded = _Constants(model).computed(lambda _: False) if pair.is_foreign else {}
    constants = _Constants(model).computed(lambda name: name not in kept)
    for name, old in optimize(model).items():
        if old in constants:
            constants[name] = constants[old]
    # What else depends on shapes only the exporter knows; the outputs show whether it is right.
    for name, value in model.graph.initializers.items():
        if name not in constants and value.const_value is not None:
            constants[name] = Constant(value.const_value.numpy(), True)
    if pair.metadata.baked_preprocessing is not None and pair.model.preprocessing is not None:
        bake(model, pair.model.preprocessing)
        baked = normalization_constants(pair.model.preprocessing)
        constants |= {name: Constant(values, True) for name, values in baked.items()}
    return Reference(constants, unfolded, model.graph)


class _Constants:
    """The constants of a translated graph.

    Args:
        model: The graph, with its functions inlined.
    """

    def __init__(self, model: onnx_ir.Model) -> None:
        self._nodes = list(traversal.RecursiveGraphIterator(model.graph))
        self._values = {
            name: Constant(value.const_value.numpy(), False)
            for graph in model.graphs()
            for name, value in graph.initializers.items()
            if value.const_value is not None
        }

    def computed(self, is_folded: Callable[[str | None], bool]) -> dict[str, Constant]:
        """Return every constant, those that nodes compute of constants included.

        Args:
            is_folded: Whether the batch normalization with this output was folded.
        """
        for node in self._nodes:
            names = [value.name for value in node.inputs if value is not None]
            is_constant = all(name in self._values for name in names)
            if is_constant and (names or node.op_type == "Constant"):
                self._evaluate(node, names)
            elif node.op_type == "Shape" and (sizes := _normalized_channels(node)) is not None:
                self._values[str(node.outputs[0].name)] = Constant(sizes, False)
            elif node.op_type == "CastLike" and names[0] in self._values:
                # Of the value that it is cast like, the dtype is known: all is single precision.
                constant = self._values[names[0]]
                is_float = constant.values.dtype.kind == "f"
                values = constant.values.astype(np.float32) if is_float else constant.values
                self._values[str(node.outputs[0].name)] = replace(constant, values=values)
        self._fold_normalization(is_folded)
        return self._values

    def _evaluate(self, node: onnx_ir.Node, names: Iterable[Any]) -> None:
        has_graphs = any(attribute.type.name.startswith("GRAPH") for attribute in _attributes(node))
        inputs = [self._values[name].values for name in names]
        if node.op_type in RANDOM or has_graphs or is_large(node.op_type, inputs):
            return
        evaluator = ReferenceEvaluator(onnx_ir.to_proto(node), opsets={"": OPSET})
        arrays = evaluator.run(None, dict(zip(names, inputs, strict=True)))
        rounded = node.op_type not in _MOVES or any(self._values[n].is_computed for n in names)
        for value, array in zip(node.outputs, arrays, strict=True):
            if value.name and isinstance(array, (np.ndarray, np.generic)):
                self._values[value.name] = Constant(np.asarray(array), rounded)

    def _fold_normalization(self, is_folded: Callable[[str | None], bool]) -> None:
        """Put the scale and shift of each folded batch normalization into the layer before it."""
        linear: dict[str | None, onnx_ir.Node] = {}
        for node in self._nodes:
            inputs, output = _input_names(node), node.outputs[0].name
            if node.op_type in _LINEAR and all(n in self._values for n in inputs[1:] if n):
                linear[output] = node
            elif node.op_type == "BatchNormalization" and inputs[0] in linear and is_folded(output):
                self._fold(linear[inputs[0]], node)
                linear[output] = linear[inputs[0]]

    def _fold(self, layer: onnx_ir.Node, normalization: onnx_ir.Node) -> None:
        gamma, beta, mean, variance = (
            self._values[name].values for name in _input_names(normalization)[1:5]
        )
        epsilon = normalization.attributes["epsilon"].as_float()
        factor = gamma / np.sqrt(variance + epsilon)
        _, weight_name, *biases = filter(None, _input_names(layer))
        # The exporter drops a bias of zeros before it folds; then there is one of this name.
        dropped = f"{weight_name}_bias"
        bias_name = biases[0] if biases else dropped
        before = self._values.get(bias_name)
        bias = np.zeros_like(mean) if before is None else before.values
        weight = self._values[weight_name].values
        by_channel = _factor_like(weight, factor, layer)
        self._values[weight_name] = Constant(weight * by_channel, True)
        folded = Constant((bias - mean) * factor + beta, True)
        if not bias.any() or dropped in self._values:
            self._values[dropped] = folded
        self._values[bias_name] = folded


def _factor_like(weight: np.ndarray, factor: np.ndarray, layer: onnx_ir.Node) -> np.ndarray:
    """Return a factor for each output channel, as it broadcasts over the weights of a layer."""
    if layer.op_type == "ConvTranspose":  # (in, out / groups, …), the groups along the first axis.
        groups = len(factor) // weight.shape[1]
        repeated = np.repeat(factor.reshape(groups, -1), len(weight) // groups, axis=0)
        return repeated.reshape(*weight.shape[:2], *[1] * (weight.ndim - 2))
    is_transposed = layer.op_type == "Gemm" and not layer.attributes.get_int("transB", 0)
    return factor if is_transposed else factor.reshape(-1, *[1] * (weight.ndim - 1))


def _normalized_channels(node: onnx_ir.Node) -> np.ndarray | None:
    """Return how many channels a Shape counts for a normalization without weights; else None.

    torch makes as many ones and zeros as it gives, each by an Expand. What another Shape gives is
    left to the outputs to show.
    """
    (value,) = node.inputs
    makers = node.outputs[0].consumers()
    normalizations = [user for maker in makers for user in maker.outputs[0].consumers()]
    if {user.op_type for user in normalizations} != {"BatchNormalization"}:
        return None
    if value is None or value.shape is None:
        return None
    start, end = (node.attributes.get_int(name, None) for name in ("start", "end"))
    sizes = value.shape.dims[start:end]
    known = [size for size in sizes if isinstance(size, int)]
    return np.array(known, np.int64) if len(known) == len(sizes) else None


def _input_names(node: onnx_ir.Node) -> list[str]:
    """Return the names of what a node takes; empty for what is left out."""
    return ["" if value is None or value.name is None else value.name for value in node.inputs]


def _attributes(node: onnx_ir.Node) -> Iterable[onnx_ir.Attr]:
    return node.attributes.values()
