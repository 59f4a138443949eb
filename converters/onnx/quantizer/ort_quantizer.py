"""Quantizing a graph with ONNX Runtime's quantizer: its layers, calibration, int8 graphs.

Weights become int8 with a scale for each channel, activations uint8, as quantize-dequantize pairs
(QDQ) that every runtime reads.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx

from ...errors import WriteError
from ..exporter.bake_preprocessing import BAKED

#: Operators with weights.
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
#: Operators with weights that can measure the range of their inputs while they run.
LINEAR = ("Gemm", "MatMul")

#: Operators between the layers that are quantized too. Other operators stay in float: a softmax
#: in 8 bits would lose all small values.
_BETWEEN = (
    *("Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "MaxPool", "Mul"),
    *("ReduceMean", "Relu", "Reshape", "Squeeze", "Transpose", "Unsqueeze"),
)

#: Operators at the end of a classifier that only move its scores, or turn them into probabilities.
_LAST = (
    *("Cast", "Flatten", "Identity", "LogSoftmax", "Reshape", "Softmax", "Squeeze", "Transpose"),
    "Unsqueeze",
)


def layers_of(model: onnx.ModelProto, operators: Sequence[str] = LAYERS) -> list[str]:
    """Return the names of the nodes that multiply by a constant weight, in the graph's order."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in operators and constants.intersection(node.input)
    ]


#: How ranges are measured.
Method = Literal["minmax", "entropy", "percentile"]


@dataclass(frozen=True)
class Calibration:
    """The range of each value inside a graph.

    Attributes:
        ranges: The result of ONNX Runtime's calibrator.
    """

    ranges: Any


def calibrate(
    model: onnx.ModelProto,
    batches: Iterable[dict[str, np.ndarray]],
    method: Method = "minmax",
) -> Calibration:
    """Measure the ranges of the values inside a graph, one batch after the other.

    Args:
        model: The graph in single precision.
        batches: Inputs by name.
        method: How ranges follow from the values: their extremes, the range that keeps most of
            their entropy, or one that cuts a hundred-thousandth of them.

    Raises:
        WriteError: If the disk of the temporary files is full.
    """
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }
    with _quiet(), _temporary_folder() as folder:
        # ONNX Runtime writes beside the graph that it is given, and leaves that if it fails.
        copy = folder / "model.onnx"
        onnx.save(model, copy)
        calibrator = create_calibrator(
            copy,
            [*LAYERS, *_BETWEEN],
            str(folder / "calibrated.onnx"),
            calibrate_method=methods[method],
        )
        # All at once, every value inside the graph would be kept until the end.
        for batch in batches:
            calibrator.collect_data(_BatchReader(iter([batch])))
        return Calibration(calibrator.compute_data())


@dataclass
class _BatchReader:
    """Gives batches to ONNX Runtime's calibrator (its `CalibrationDataReader`)."""

    batches: Iterator[dict[str, np.ndarray]]

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch, or None at the end."""
        return next(self.batches, None)


def static_int8(
    model: onnx.ModelProto,
    calibration: Calibration,
    keep: Sequence[str] = (),
    symmetric: bool = False,
) -> onnx.ModelProto:
    """Return a graph whose layers, and the operators between them, compute in int8.

    Args:
        model: The graph in single precision; it is not changed.
        calibration: The ranges of its values.
        keep: Names of the nodes that stay in single precision.
        symmetric: Make activations signed, with zero points of 0, and leave biases in float, as
            TensorRT asks of a quantized graph.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    # Pixels need more than 8 bits once each channel is normalized.
    baked = [node.name for node in model.graph.node if node.name.startswith(BAKED)]
    with _quiet():
        quantizer = QDQQuantizer(
            _copy(model),
            per_channel=True,
            # Processors without VNNI add pairs of products in 16 bits: 8-bit weights overflow.
            reduce_range=True,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            tensors_range=calibration.ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=[*keep, *baked],
            op_types_to_quantize=[*LAYERS, *_BETWEEN],
            extra_options={
                "WeightSymmetric": True,
                "ActivationSymmetric": symmetric,
                "QuantizeBias": not symmetric,
            },
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    _keep_logits_in_float(quantizer.model.model.graph)
    return _with_metadata_of(model, quantizer.model.model)


def _keep_logits_in_float(graph: onnx.GraphProto) -> None:
    """Remove the quantization of what a graph gives, and of what a softmax at its end takes.

    A softmax computes in float, and a range measured on a few images would cut large scores.
    """
    producers = {name: node for node in graph.node for name in node.output}
    for output in graph.output:
        name = output.name
        while (node := producers.get(name)) is not None:
            if node.op_type == "DequantizeLinear":
                quantized = producers.get(node.input[0])
                if quantized is None:
                    break
                name = quantized.input[0]
                _skip(graph, node, name)
                producers = {name: node for node in graph.node for name in node.output}
                if node.output[0] == output.name:
                    name = output.name
            elif node.op_type in _LAST:
                name = node.input[0]
            else:
                break


def _skip(graph: onnx.GraphProto, dequantize: onnx.NodeProto, source: str) -> None:
    """Let everything behind a quantize-dequantize pair take its input."""
    result = dequantize.output[0]
    graph.node.remove(dequantize)
    is_output = any(result == value.name for value in graph.output)
    renamed, new = (source, result) if is_output else (result, source)
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == renamed:
                    names[index] = new
    used = {name for node in graph.node for name in node.input}
    used.update(value.name for value in graph.output)
    for node in [
        n for n in graph.node if n.op_type == "QuantizeLinear" and n.output[0] not in used
    ]:
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)


def dynamic_int8(model: onnx.ModelProto, keep: Sequence[str] = ()) -> onnx.ModelProto:
    """Return a graph whose linear layers have int8 weights and measure the range of their inputs.

    Args:
        model: The graph in single precision; it is not changed.
        keep: Names of the nodes that stay in single precision.

    Raises:
        WriteError: If the disk of the temporary files is full.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    copied = _copy(model)
    # A Gemm becomes a MatMul with its weight transposed, which the recorded shapes do not fit.
    del copied.graph.value_info[:]
    with _quiet(), _temporary_folder() as folder:
        target = folder / "dynamic.onnx"
        quantize_dynamic(
            copied,
            target,
            op_types_to_quantize=[*LINEAR],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            # A Gemm is renamed before the quantizer looks at its name.
            nodes_to_exclude=[*keep, *(f"{name}_MatMul" for name in keep)],
        )
        return _with_metadata_of(model, onnx.load(target))


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy: the quantizers change the graph that they are given."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    return result


def _with_metadata_of(model: onnx.ModelProto, quantized: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a graph's metadata, description and versions to its quantized form."""
    del quantized.metadata_props[:]
    quantized.metadata_props.extend(model.metadata_props)
    quantized.producer_name, quantized.producer_version = (
        model.producer_name,
        model.producer_version,
    )
    quantized.doc_string, quantized.model_version = model.doc_string, model.model_version
    quantized.ir_version = model.ir_version
    return quantized


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Yield a folder for the graphs that ONNX Runtime's quantizer writes and reads again.

    Raises:
        WriteError: If a graph is not whole: what infers its shapes does not notice a full disk.
    """
    from google.protobuf.message import DecodeError

    with tempfile.TemporaryDirectory() as folder:
        try:
            yield Path(folder)
        except (DecodeError, OSError) as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise  # It names the file itself.
            raise WriteError(
                f"{tempfile.gettempdir()}: a temporary file is not whole: disk full, or a limit "
                "on the size of files; TMPDIR names another folder"
            ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizer's advice, and what its calibrators print, off the streams."""
    previous_level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        logging.disable(previous_level)
