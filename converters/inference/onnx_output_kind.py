"""What the output of an `.onnx` file means, as its graph tells."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..requirements import require

if TYPE_CHECKING:
    import onnx

#: Operators that leave scores what they are.
_PASSED = ("Cast", "DequantizeLinear", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze")
_KEPT = {"Softmax": "probabilities", "LogSoftmax": "log_probabilities"}
#: What scikit-learn's classifiers do to their scores, when these are probabilities.
_POST_TRANSFORMS = (b"SOFTMAX", b"SOFTMAX_ZERO")
#: The axes of the classes in scores (N, classes).
_CLASSES = (1, -1)


def output_kind_of_graph(file: str | os.PathLike[str], output: str) -> tuple[str, str]:
    """Return what an output means, and the operator at the graph's end that tells it.

    A softmax gives probabilities, its logarithm log-probabilities, a sigmoid one probability for
    each class by itself, which are features; anything else is taken for logits.

    Args:
        file: A file that ONNX Runtime can open; its weights are not read.
        output: The name of the output.

    Raises:
        MissingPackageError: If onnx is not installed.
    """
    require("reading a graph that another program wrote", "onnx")
    import onnx

    graph = onnx.load(Path(file), load_external_data=False).graph
    return kind_of(graph.node, output)


def kind_of(nodes: Sequence[onnx.NodeProto], output: str) -> tuple[str, str]:
    """Return what a value means, and the operator that tells it (see `output_kind_of_graph`)."""
    producers = {name: node for node in nodes for name in node.output}
    node = _behind(producers, output)
    if node is None:
        return "logits", "its input"
    operator = node.op_type
    if operator in _KEPT and _attribute(node, "axis", -1) in _CLASSES:
        return _KEPT[operator], operator
    if operator == "Log":
        before = _behind(producers, node.input[0])
        if before is not None and before.op_type == "Softmax":
            return "log_probabilities", "Log of Softmax"
    if operator == "Div" and _is_exponential(producers, node):
        return "probabilities", "Exp over a sum"
    if operator == "Normalizer" and _attribute(node, "norm", b"MAX") == b"L1":
        return "probabilities", "Normalizer L1"
    is_tree = operator == "TreeEnsembleClassifier"
    if is_tree or _attribute(node, "post_transform", b"NONE") in _POST_TRANSFORMS:
        return "probabilities", operator
    return ("features" if operator == "Sigmoid" else "logits"), operator


def _behind(producers: Mapping[str, onnx.NodeProto], name: str) -> onnx.NodeProto | None:
    """Return the node that computes a value, but for those that leave it what it is."""
    node = producers.get(name)
    while node is not None and node.op_type in _PASSED:
        node = producers.get(node.input[0])
    return node


def _is_exponential(producers: Mapping[str, onnx.NodeProto], node: onnx.NodeProto) -> bool:
    """Return whether a quotient is that of exponentials and their sum."""
    above, below = (producers.get(name) for name in node.input)
    is_sum = below is not None and below.op_type == "ReduceSum"
    return above is not None and above.op_type == "Exp" and is_sum


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    found = next((one for one in node.attribute if one.name == name), None)
    if found is None:
        return default
    return found.s if isinstance(default, bytes) else found.i
