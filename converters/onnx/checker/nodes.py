"""Comparing the nodes of a file with those that its model is exported as.

A node that is missing can hardly show in the outputs, where a network scales what it computes by a
small factor. So the nodes are compared themselves: each value becomes a hash of the node that
computes it and of the values that the node takes. Names of values play no part.

What conversion to float16 and int8 adds is skipped: casts between floats, and quantization.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator

import numpy as np
import onnx_ir

#: Operators that give their first input, but for its precision.
_PASSED = ("Identity", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
#: Activations that the range of a quantizer makes superfluous.
_IN_RANGE = ("Relu", "Clip")
_FLOATS = (onnx_ir.DataType.FLOAT, onnx_ir.DataType.FLOAT16, onnx_ir.DataType.DOUBLE)
#: The scale that a graph measures while it runs; what a MatMulInteger gives is multiplied by it.
_MEASURED = "measured scale"


class Structure:
    """What a graph computes, whatever its values are called.

    Args:
        graph: The graph; its nodes are sorted.
        weights: Names of constants that tell which weights a node has.
        is_int8: Whether activations may be part of a quantizer.

    Attributes:
        outputs: A hash for each output.
        operators: How many nodes of each operator there are.
        activated: Hashes of the values that an activation is applied to.
    """

    def __init__(
        self, graph: onnx_ir.Graph, weights: Collection[str], is_int8: bool = False
    ) -> None:
        self._weights, self._is_int8 = weights, is_int8
        self._hashes: dict[onnx_ir.Value, str] = {}
        self.operators: Counter[str] = Counter()
        self.activated: set[str] = set()
        for index, value in enumerate(graph.inputs):
            self._hashes[value] = f"input {index}"
        for value in graph.initializers.values():
            self._hashes[value] = self._constant(value)
        for node in graph:
            for output, text in zip(node.outputs, self._of_node(node), strict=False):
                self._hashes[output] = text
        self.outputs = [self._hashes.get(value, "") for value in graph.outputs]

    def _of_node(self, node: onnx_ir.Node) -> Iterator[str]:
        """Yield a text for each output of a node."""
        inputs = ["" if value is None else self._hashes.get(value, "") for value in node.inputs]
        operator = node.op_type
        if operator in _PASSED or _is_float_cast(node):
            if operator == "QuantizeLinear" and _starts_at_zero(node):
                self.activated.add(inputs[0])
            yield inputs[0]
            yield _MEASURED
            return
        if self._is_int8 and operator in _IN_RANGE:
            self.activated.add(inputs[0])
            yield inputs[0]
            return
        if operator == "Mul" and _MEASURED in inputs:
            yield inputs[0] if inputs[1] == _MEASURED else _MEASURED
            return
        attributes = sorted(
            _attribute(value) for value in node.attributes.values() if not _is_default(node, value)
        )
        if operator == "MatMulInteger" or (operator == "Gemm" and _is_plain_product(node)):
            # A quantizer splits a Gemm into a MatMul and an Add.
            self.operators["MatMul"] += 1
            product = _hash("MatMul", *inputs[:2])
            if operator == "Gemm" and len(inputs) > 2:
                self.operators["Add"] += 1
                product = _hash("Add", product, inputs[2])
            yield product
            return
        self.operators[operator] += 1
        text = _hash(operator, *attributes, *inputs)
        for index in range(len(node.outputs)):
            yield f"{text}:{index}" if index else text

    def _constant(self, value: onnx_ir.Value) -> str:
        tensor, name = value.const_value, str(value.name)
        if tensor is None:
            return _hash("constant")
        for suffix in ("_quantized", "_Transposed"):
            name = name.removesuffix(suffix)
        if name != value.name or tensor.dtype in _FLOATS:
            weight = name if name in self._weights else ""
            return _hash("weight", weight, str(sorted(tensor.shape.numpy())))
        if name in self._weights:
            return _hash("weight", name)
        return _hash("constant", str(tensor.numpy().tolist()))


def differences(expected: Structure, actual: Structure) -> str:
    """Return how the nodes of a file differ from those of its model; empty if they do not."""
    operators = Counter(actual.operators)
    changes = [
        f"{operator} {operators[operator]} in the file, {expected.operators[operator]} in the model"
        for operator in sorted({*operators, *expected.operators})
        if operators[operator] != expected.operators[operator]
    ]
    if expected.outputs != actual.outputs:
        return ", ".join(changes) or "the nodes have other inputs or attributes"
    missing = len(expected.activated - actual.activated)
    return f"{missing} activations are missing" if missing else ""


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _is_float_cast(node: onnx_ir.Node) -> bool:
    return node.op_type == "Cast" and node.attributes["to"].as_int() in _FLOATS


def _is_plain_product(node: onnx_ir.Node) -> bool:
    """Whether a Gemm has no factors besides its inputs: quantizers split no other."""
    return all(node.attributes.get_float(name, 1.0) == 1.0 for name in ("alpha", "beta"))


def _starts_at_zero(node: onnx_ir.Node) -> bool:
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    tensor = None if zero is None else zero.const_value
    return tensor is not None and not tensor.numpy().any()


def _is_default(node: onnx_ir.Node, attribute: onnx_ir.Attr) -> bool:
    """Whether an attribute says what holds without it: float16 zeros must be said."""
    if node.op_type != "ConstantOfShape" or attribute.type != onnx_ir.AttributeType.TENSOR:
        return False
    tensor = attribute.as_tensor()
    return tensor.dtype in _FLOATS and not tensor.numpy().any()


def _attribute(attribute: onnx_ir.Attr) -> str:
    if attribute.type == onnx_ir.AttributeType.TENSOR:
        return f"{attribute.name}={attribute.as_tensor().numpy().tolist()}"
    if attribute.type in (onnx_ir.AttributeType.GRAPH, onnx_ir.AttributeType.GRAPHS):
        graphs = [attribute.value] if attribute.type == onnx_ir.AttributeType.GRAPH else []
        return f"{attribute.name}={[node.op_type for graph in graphs for node in graph]}"
    if attribute.type == onnx_ir.AttributeType.FLOAT:  # A file holds single precision.
        return f"{attribute.name}={np.float32(attribute.as_float())}"
    if attribute.type == onnx_ir.AttributeType.FLOATS:
        return f"{attribute.name}={np.asarray(attribute.as_floats(), np.float32).tolist()}"
    return f"{attribute.name}={attribute.value}"
