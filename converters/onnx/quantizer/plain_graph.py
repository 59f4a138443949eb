"""A graph of another program in the form that ONNX Runtime's quantizer takes."""

from __future__ import annotations

import onnx
from onnx import version_converter
from onnx.shape_inference import InferenceError

from ...errors import first_line
from ..errors import OnnxError

#: The oldest opset that quantizes by channel, and the IR version that goes with it.
_OPSET, _IR_VERSION = 13, 7


def plain_graph(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Return a graph whose nodes all have names, whose weights are initializers, of opset 13 on.

    Args:
        model: The graph; it is not changed.
        name: What messages call it.

    Raises:
        OnnxError: If it cannot be brought to opset 13.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    if opset < _OPSET:
        try:
            result = version_converter.convert_version(result, _OPSET)
        except (RuntimeError, InferenceError, version_converter.ConvertError) as error:
            reason = first_line(error)
            raise OnnxError(
                f"{name}: is of opset {opset}, int8 by channel needs {_OPSET}: {reason}"
            ) from error
    result.ir_version = max(result.ir_version, _IR_VERSION)
    _lift_constants(result.graph)
    taken = {node.name for node in result.graph.node}
    for number, node in enumerate(result.graph.node):
        if not node.name:
            node.name = _free(f"{node.op_type}_{number}", taken)
    return result


def _lift_constants(graph: onnx.GraphProto) -> None:
    """Turn the tensors of Constant nodes into initializers."""
    for node in list(graph.node):
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = graph.initializer.add()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
            graph.node.remove(node)


def _free(name: str, taken: set[str]) -> str:
    """Return a name that no node has, and take it."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name
