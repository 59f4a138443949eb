"""int8 forms of a graph: which layers can be quantized, and the quantized graph.

ONNX Runtime's own quantizer does the work. Weights are int8 with a scale for each channel,
activations uint8, as quantize-dequantize pairs (QDQ) that every runtime can read.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ..exporter.bake_preprocessing import BAKED

#: The layers with weights, and those of them that find the range of their inputs by themselves.
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
LINEAR = ("Gemm", "MatMul")

#: What int8 passes through on its way from one layer to the next. In this list and no other
#: operator is quantized: a softmax in 8 bits would lose what is small.
_BETWEEN = (
    *("Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "MaxPool", "Mul"),
    *("ReduceMean", "Relu", "Reshape", "Squeeze", "Transpose", "Unsqueeze"),
)


def layers_of(model: onnx.ModelProto, kinds: Sequence[str] = LAYERS) -> list[str]:
    """Names of the nodes that multiply by a constant weight, in the order of the graph."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in kinds and constants.intersection(node.input)
    ]


@dataclass(frozen=True)
class Calibration:
    """The range of each value inside a graph.

    Attributes:
        ranges: as ONNX Runtime's calibrator gave them.
    """

    ranges: Any


def calibrate(file: Path, batches: Iterable[dict[str, np.ndarray]]) -> Calibration:
    """The ranges that the values inside a graph have on examples.

    Args:
        file: the graph in single precision.
        batches: inputs by name.
    """
    from onnxruntime.quantization import CalibrationDataReader
    from onnxruntime.quantization.calibrate import create_calibrator

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._batches: Iterator[dict[str, np.ndarray]] = iter(batches)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._batches, None)

    with _quiet(), tempfile.TemporaryDirectory() as folder:
        calibrator = create_calibrator(
            file,
            [*LAYERS, *_BETWEEN],
            str(Path(folder) / "calibrated.onnx"),
        )
        calibrator.collect_data(Reader())
        return Calibration(calibrator.compute_data())


def static_int8(
    model: onnx.ModelProto, calibration: Calibration, keep: Sequence[str] = ()
) -> onnx.ModelProto:
    """A graph whose layers and what stands between them work in int8.

    Args:
        model: in single precision; it is left as it is.
        calibration: of this graph.
        keep: names of the nodes that stay in single precision.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    # Pixels need more than 8 bits once they are normalized for each channel.
    baked = [node.name for node in model.graph.node if node.name.startswith(BAKED)]
    with _quiet():
        quantizer = QDQQuantizer(
            _copy(model),
            per_channel=True,
            # Processors without VNNI add pairs of products in 16 bits: 8-bit weights overflow there.
            reduce_range=True,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=calibration.ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=[*keep, *baked],
            op_types_to_quantize=[*LAYERS, *_BETWEEN],
            extra_options={"WeightSymmetric": True},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    return _named(quantizer.model.model, model)


def dynamic_int8(model: onnx.ModelProto, keep: Sequence[str] = ()) -> onnx.ModelProto:
    """A graph whose linear layers have int8 weights and find their inputs' range by themselves.

    Args:
        model: in single precision; it is left as it is.
        keep: names of the nodes that stay in single precision.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    changed = _copy(model)
    # A Gemm becomes a MatMul with its weight transposed, and the shapes would be the old ones.
    del changed.graph.value_info[:]
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "dynamic.onnx"
        quantize_dynamic(
            changed,
            target,
            op_types_to_quantize=[*LINEAR],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=list(keep),
        )
        return _named(onnx.load(target), model)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    """The quantizers change the graph that they are given."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    return result


def _named(quantized: onnx.ModelProto, model: onnx.ModelProto) -> onnx.ModelProto:
    """The quantized graph with what the original says of itself."""
    del quantized.metadata_props[:]
    quantized.metadata_props.extend(model.metadata_props)
    quantized.producer_name, quantized.producer_version = (
        model.producer_name,
        model.producer_version,
    )
    quantized.ir_version = model.ir_version
    return quantized


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizer's advice off the streams."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
