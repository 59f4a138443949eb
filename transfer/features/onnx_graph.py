"""An exported network that ends at some features: finding values of a graph, and cutting it."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from ..errors import LayerError
from ..find_layers import INPUT, OUTPUT, PENULTIMATE, nearest

#: Operators of an exported Linear; their first input is the layer's.
_LINEAR = ("Gemm", "MatMul")


def find_values(graph: onnx.GraphProto, names: Sequence[str]) -> list[str]:
    """Return the values of a graph that hold the features of these names.

    Args:
        graph: A graph with one input.
        names: `penultimate` (the input of the last Gemm or MatMul), `input`, `output` (the first
            one), or names of values.

    Raises:
        LayerError: If there is no name, or no such value; the message lists similar names.
    """
    if not names:
        raise LayerError("no layer was named")
    return [_find_value(graph, name) for name in names]


def cut_graph(model: onnx.ModelProto, values: Sequence[str]) -> None:
    """Reduce a model in place to what computes some values, which become its outputs.

    An input among the values passes through an Identity, since an output must be computed.

    Args:
        model: It is changed.
        values: Names of values in its graph (see `find_values`).
    """
    graph = model.graph
    inputs = {value.name for value in graph.input}
    nodes, needed = [], set(values)
    for node in reversed(graph.node):
        if needed & set(node.output):
            nodes.append(node)
            needed |= _inputs(node)
    nodes.reverse()
    outputs = [f"{value}_kept" if value in inputs else value for value in values]
    for value, output in zip(values, outputs, strict=True):
        if value != output:
            nodes.append(onnx.helper.make_node("Identity", [value], [output]))
    weights = [weight for weight in graph.initializer if weight.name in needed]
    for field in ("node", "output", "value_info", "initializer"):
        graph.ClearField(field)
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
    # ONNX Runtime infers types and shapes itself.
    graph.output.extend(onnx.ValueInfoProto(name=output) for output in outputs)


def _find_value(graph: onnx.GraphProto, name: str) -> str:
    if not graph.input:
        raise LayerError("the ONNX graph has no input")
    if name == INPUT:
        return str(graph.input[0].name)
    if name == OUTPUT and graph.output:
        return str(graph.output[0].name)
    if name == PENULTIMATE:
        return _last_linear_input(graph)
    values = [output for node in graph.node for output in node.output if output]
    if name not in values:
        similar = ", ".join(nearest(name, values) or values[-5:])
        raise LayerError(
            f"no value {name!r} in the ONNX graph; nearest names: {similar}, {PENULTIMATE}, "
            f"{INPUT}, {OUTPUT}"
        )
    return name


def _last_linear_input(graph: onnx.GraphProto) -> str:
    linear = [node for node in graph.node if node.op_type in _LINEAR]
    if not linear:
        last = ", ".join(node.output[0] for node in graph.node[-5:])
        raise LayerError(
            f"{PENULTIMATE!r} is the input of the last Gemm or MatMul, and this graph has none; "
            f"name a value, such as one of the last: {last}"
        )
    return str(linear[-1].input[0])


def _inputs(node: onnx.NodeProto) -> set[str]:
    """Return the inputs of a node and of all nodes in its branches and loop bodies."""
    names = set(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                names |= _inputs(inner)
    return names
