"""int8 as accelerators take it, and ranges measured in three ways.

What is protected: what TensorRT publishes of graphs with quantize-dequantize pairs (signed values,
zero points of 0, no quantized bias), which was not run on TensorRT; and that calibration keeps no
batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from torch import nn

from torchlift.cli.main import main
from torchlift.converters.onnx import OnnxError, check, export, quantize
from torchlift.converters.onnx.quantizer.ort_quantizer import calibrate

INPUTS = np.random.default_rng(0).standard_normal((64, 3, 8, 8), np.float32)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    layers = (nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4))
    module = nn.Sequential(*layers).eval()
    path = tmp_path_factory.mktemp("symmetric") / "fp32.onnx"
    export(module, path, input_shape=(3, 8, 8), output_kind="logits")
    return module, path


def test_activations_are_signed_and_biases_stay_in_float(
    network: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    module, path = network
    written = quantize(path, tmp_path / "q.onnx", INPUTS, symmetric=True, max_drop=0.2)
    graph = onnx.load(written.file).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    pairs = [node for node in graph.node if "uantizeLinear" in node.op_type]
    assert len([node for node in pairs if node.op_type == "QuantizeLinear"]) >= 2
    for node in pairs:
        zero_point = constants[node.input[2]]
        assert zero_point.data_type == TensorProto.INT8
        assert not numpy_helper.to_array(zero_point).any()
        assert (numpy_helper.to_array(constants[node.input[1]]) > 0).all()
    # Only weights are stored in 8 bits; TensorRT refuses a dequantized bias.
    dequantized = {node.output[0] for node in pairs if node.op_type == "DequantizeLinear"}
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            assert node.input[1] in dequantized
            assert constants[node.input[2]].data_type == TensorProto.FLOAT
    details: Any = {"input_shape": (3, 8, 8), "output_kind": "logits"}
    report = check(module, written.file, INPUTS, **details)
    assert report.passed, list(report.lines())


def test_the_methods_cut_more_or_less_of_rare_values(network: tuple[nn.Module, Path]) -> None:
    _, path = network

    tails = INPUTS**5

    def lowest(method: Any) -> float:
        batches = ({"input": batch} for batch in np.split(tails, 8))
        found = calibrate(onnx.load(path), batches, method).ranges["input"]
        return float(np.max(found.range_value[0]))

    assert lowest("minmax") == tails.min()
    # Of 12,288 values one may be cut; most of the entropy is in the middle.
    assert tails.min() < lowest("percentile") < 0.99 * tails.min()
    assert lowest("entropy") > 0.8 * tails.min()


@pytest.mark.parametrize("method", ["minmax", "entropy"])
def test_no_batch_is_kept(
    method: Any, network: tuple[nn.Module, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnxruntime.quantization import calibrate as ort

    held: list[int] = []

    def count(calibrator: type) -> None:
        collect = calibrator.collect_data

        def counted(self: Any, reader: Any) -> None:
            collect(self, reader)
            held.append(len(self.intermediate_outputs))

        monkeypatch.setattr(calibrator, "collect_data", counted)

    count(ort.MinMaxCalibrater)
    count(ort.HistogramCalibrater)
    calibrate(onnx.load(network[1]), ({"input": batch} for batch in np.split(INPUTS, 8)), method)
    assert held == [0] * 8


def test_what_needs_ranges_is_refused_without_them(
    network: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    _, path = network
    options: dict[str, Any]
    for options in ({"symmetric": True}, {"method": "entropy"}):
        with pytest.raises(OnnxError, match="which dynamic=True leaves open"):
            quantize(path, tmp_path / "q.onnx", INPUTS, dynamic=True, **options)
    words = ["quantize", str(path), str(tmp_path / "q.onnx"), "--data", "x", "--dynamic"]
    assert main([*words, "--symmetric"]) == 2
    assert main([*words, "--method", "percentile"]) == 2
    assert not (tmp_path / "q.onnx").exists()
