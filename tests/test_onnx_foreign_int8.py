"""`check` of a file that another program quantized: its int8 weights by what they stand for.

What is protected: the forms of ONNX Runtime's quantizers pass, one number two steps off, a wrong
scale and weights in steps too coarse to tell do not. The files are ONNX Runtime's own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from onnx_check_support import text_of
from onnx_foreign_support import network, torch_onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from torchlift.converters.onnx import check
from torchlift.converters.onnx.checker.foreign_weights import compare_by_value
from torchlift.converters.onnx.checker.reference import Constant

FORMS = ("QDQ", "QOperator", "dynamic")
INPUTS = np.random.default_rng(0).standard_normal((16, 3, 6, 6)).astype(np.float32)


class Reader(CalibrationDataReader):
    def __init__(self) -> None:
        self.batches: Iterator[dict[str, np.ndarray]] = iter([{"pixels": INPUTS}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The network in float, and as ONNX Runtime quantizes it."""
    folder = tmp_path_factory.mktemp("int8")
    source = torch_onnx(folder / "float.onnx", network(), None, opset_version=13)
    written = {form: folder / f"{form}.onnx" for form in FORMS}
    logging.disable(logging.WARNING)
    for form in FORMS[:2]:
        options = {"quant_format": QuantFormat[form], "per_channel": True, "reduce_range": True}
        quantize_static(
            source, written[form], Reader(), weight_type=QuantType.QInt8, **options
        )  # fmt: skip
    quantize_dynamic(source, written["dynamic"], weight_type=QuantType.QUInt8)
    logging.disable(logging.NOTSET)
    return {"float": source, **written}


@pytest.fixture(scope="module")
def constants(files: dict[str, Path]) -> list[dict[str, Constant]]:
    """The numbers of the network with its normalization folded, as the float file has them."""
    tensors = onnx.load(files["float"]).graph.initializer
    return [{one.name: Constant(numpy_helper.to_array(one), True) for one in tensors}]


def changed(path: Path, name: str, change: Any) -> onnx.ModelProto:
    """Return a file with a changed constant: the first whose name has an ending."""
    model = onnx.load(path)
    tensor = next(one for one in model.graph.initializer if one.name.endswith(name))
    array = numpy_helper.to_array(tensor).copy()
    change(array)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


@pytest.mark.parametrize("form", FORMS)
def test_every_number_is_compared(
    form: str, files: dict[str, Path], constants: list[dict[str, Constant]]
) -> None:
    found = compare_by_value(constants, onnx.load(files[form]))
    assert (found.compared, found.total, found.differing) == (307, 307, [])


@pytest.mark.parametrize("form", FORMS)
def test_one_number_two_steps_off_is_named(
    form: str, files: dict[str, Path], constants: list[dict[str, Constant]]
) -> None:
    def move(steps: np.ndarray) -> None:
        steps.flat[5] += 2 if steps.flat[5] < 50 else -2

    model = changed(files[form], "_quantized", move)
    weight = next(one for one in model.graph.initializer if one.name.endswith("_quantized"))
    (named,) = compare_by_value(constants, model).differing
    assert named.startswith(weight.name)


def test_a_wrong_scale_is_named(
    files: dict[str, Path], constants: list[dict[str, Constant]]
) -> None:
    def widen(scale: np.ndarray) -> None:
        scale *= 1.05

    name = next(
        one.name
        for one in onnx.load(files["QDQ"]).graph.initializer
        if one.name.endswith("_scale") and one.dims and "Conv" in one.name
    )
    assert compare_by_value(constants, changed(files["QDQ"], name, widen)).differing


def test_steps_too_coarse_to_tell_do_not_count() -> None:
    """Within half a step of 100 is every weight."""
    model = _dequantizing(np.zeros((4, 4), np.int8), np.float32(100))
    weight = {"w": Constant(np.eye(4, dtype=np.float32), False)}
    found = compare_by_value([weight], model)
    # The zeros are told; nothing is known of the ones.
    assert (found.compared, found.total, found.unknown) == (12, 16, ["steps"])
    fine = _dequantizing(np.eye(4, dtype=np.int8) * 127, np.float32(1 / 127))
    assert compare_by_value([weight], fine).fraction == 1


@pytest.mark.parametrize(("off", "is_the_models"), [(0.49, True), (0.5005, True), (0.52, False)])
def test_a_number_is_within_half_a_step_of_what_stands_for_it(
    off: float, is_the_models: bool
) -> None:
    """Rounding in float32 may be off by a thousandth of a step more, and no more."""
    steps, weight = np.eye(4, dtype=np.int8) * 127, np.eye(4) * 127
    weight[1, 2] = -off
    found = compare_by_value([{"w": Constant(weight, False)}], _dequantizing(steps, np.float32(1)))
    assert (found.differing == []) is is_the_models


def test_an_operator_that_is_not_read_is_named() -> None:
    model = _dequantizing(np.zeros((4, 4), np.int8), np.float32(1))
    model.graph.node[0].op_type = "QAttention"
    found = compare_by_value([{}], model)
    # The steps, and what may be their scale.
    assert (found.compared, found.total) == (0, 17)
    assert "steps, whose scale in QAttention is not read" in found.unknown


def test_a_check_says_that_they_are_rounded(files: dict[str, Path]) -> None:
    torch.manual_seed(0)
    report = check(network(), files["QDQ"], INPUTS, input_shape=(3, 6, 6))
    said = "307 of 307 numbers compared: they are the model's, rounded to int8"
    assert text_of(report, "weights") == said


def _dequantizing(steps: np.ndarray, scale: np.ndarray) -> onnx.ModelProto:
    """Return a graph that dequantizes a constant."""
    node = helper.make_node("DequantizeLinear", ["steps", "scale"], ["weight"])
    arrays = {"steps": steps, "scale": np.asarray(scale)}
    stored = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    return helper.make_model(helper.make_graph([node], "graph", [], [], stored))


def test_a_scale_for_each_block_whose_last_is_a_part_of_one(tmp_path: Path) -> None:
    layer = torch.nn.Linear(10, 6, bias=False).eval()
    weight = layer.weight.detach().numpy().T
    scale = np.full((3, 6), np.abs(weight).max() / 127, np.float32)
    steps = np.round(weight / scale[0]).astype(np.int8)
    layer.weight = torch.nn.Parameter(torch.from_numpy((steps * scale[0]).T.copy()))
    kinds = [("input", ["batch", 10]), ("output", ["batch", 6])]
    value, result = (helper.make_tensor_value_info(name, 1, shape) for name, shape in kinds)
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["dw"], axis=0, block_size=4),
        helper.make_node("MatMul", ["input", "dw"], ["output"]),
    ]
    stored = [numpy_helper.from_array(steps, "w"), numpy_helper.from_array(scale, "s")]
    graph = helper.make_graph(nodes, "blocks", [value], [result], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, tmp_path / "blocks.onnx")
    options: dict[str, Any] = {"input_shape": (10,), "output_kind": "features"}
    assert "60 of 60" in text_of(check(layer, tmp_path / "blocks.onnx", **options), "weights")
