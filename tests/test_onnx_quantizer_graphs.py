"""What an int8 graph is made of: ranges, scales, what stays in float, and what is left as it was.

On a graph of two linear layers that is made here, so that nothing is traced.
"""

from __future__ import annotations

import errno
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from torchlift.converters.errors import WriteError
from torchlift.converters.onnx import OnnxError, quantize
from torchlift.converters.onnx.quantizer import ort_quantizer
from torchlift.converters.onnx.quantizer.ort_quantizer import (
    LINEAR,
    calibrate,
    dynamic_int8,
    layers_of,
    static_int8,
)

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.standard_normal((64, 6), np.float32)
WEIGHTS = {
    "weight_1": RANDOM.standard_normal((6, 8)).astype(np.float32),
    "bias_1": RANDOM.standard_normal(8).astype(np.float32),
    "weight_2": RANDOM.standard_normal((8, 4)).astype(np.float32),
    "bias_2": RANDOM.standard_normal(4).astype(np.float32),
}


def graph(*nodes: onnx.NodeProto, **weights: np.ndarray) -> onnx.ModelProto:
    value_of = helper.make_tensor_value_info
    inputs = [value_of("input", TensorProto.FLOAT, ["batch", 6])]
    outputs = [value_of("logits", TensorProto.FLOAT, ["batch", 4])]
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    model = helper.make_model(
        helper.make_graph([*nodes], "graph", inputs, outputs, constants),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
        producer_name="torchlift",
        producer_version="0.2.0",
        model_version=7,
        doc_string="input → logits",
    )
    said = {"precision": '"fp32"', "output_kind": '"logits"', "torchlift_version": '"0.2.0"'}
    helper.set_model_props(model, said)
    return model


@pytest.fixture
def model() -> onnx.ModelProto:
    return graph(
        helper.make_node("Gemm", ["input", "weight_1", "bias_1"], ["hidden"], "first"),
        helper.make_node("Relu", ["hidden"], ["positive"], "relu"),
        helper.make_node("Gemm", ["positive", "weight_2", "bias_2"], ["logits"], "second"),
        **WEIGHTS,
    )


@pytest.fixture
def file(model: onnx.ModelProto, tmp_path: Path) -> Path:
    onnx.save(model, tmp_path / "float.onnx")
    return tmp_path / "float.onnx"


@pytest.fixture(params=["static", "dynamic"])
def to_int8(
    request: pytest.FixtureRequest, model: onnx.ModelProto, file: Path
) -> Callable[..., onnx.ModelProto]:
    """Either way to an int8 graph; it takes the names of the nodes that stay in float."""
    if request.param == "dynamic":
        return lambda *keep: dynamic_int8(model, keep)
    calibration = calibrate(onnx.load(file), [{"input": INPUTS}])
    return lambda *keep: static_int8(model, calibration, keep)


def arrays(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def test_weights_have_seven_bits_and_a_scale_for_each_unit(
    to_int8: Callable[..., onnx.ModelProto],
) -> None:
    """Processors without VNNI add two products in 16 bits, which 8-bit weights overflow."""
    stored = arrays(to_int8())
    weights = {name: array for name, array in stored.items() if array.dtype == np.int8}
    weights = {name: array for name, array in weights.items() if array.ndim == 2}
    assert len(weights) == 2
    for name, array in weights.items():
        assert 60 < np.abs(array.astype(int)).max() <= 64
        number = name.split("_")[1][0]
        assert stored[f"weight_{number}_scale"].shape == (WEIGHTS[f"bias_{number}"].size,)
        assert not stored[f"weight_{number}_zero_point"].any()
        restored = array * stored[f"weight_{number}_scale"]
        # Rounded to the nearest of 129 steps.
        step = np.abs(WEIGHTS[f"weight_{number}"]).max(axis=0) / 64
        assert (np.abs(restored - WEIGHTS[f"weight_{number}"]) <= step / 2 + 1e-6).all()


def test_activations_are_unsigned(model: onnx.ModelProto, file: Path) -> None:
    stored = arrays(static_int8(model, calibrate(onnx.load(file), [{"input": INPUTS}])))
    points = {name: array.dtype for name, array in stored.items() if name.endswith("zero_point")}
    assert points["input_zero_point"] == points["positive_zero_point"] == np.uint8
    # Biases are in steps of the products, 32 bits each.
    biases = {name: array for name, array in stored.items() if name.startswith("bias")}
    assert {array.dtype for name, array in biases.items() if name.endswith("quantized")} == {
        np.dtype(np.int32)
    }
    for number in (1, 2):
        scale = stored[f"bias_{number}_quantized_scale"]
        found = biases[f"bias_{number}_quantized"] * scale
        np.testing.assert_allclose(found, WEIGHTS[f"bias_{number}"], atol=0.51 * scale.max())


def test_named_layers_stay_in_float(to_int8: Callable[..., onnx.ModelProto]) -> None:
    stored = arrays(to_int8("first"))
    np.testing.assert_array_equal(stored["weight_1"], WEIGHTS["weight_1"])
    assert "weight_2" not in stored


def test_a_product_without_a_bias_stays_in_float_too() -> None:
    """The dynamic quantizer renames what it makes of a Gemm, and nothing else."""
    weights = {name: WEIGHTS[name] for name in ("weight_1", "weight_2")}
    model = graph(
        helper.make_node("MatMul", ["input", "weight_1"], ["hidden"], "first"),
        helper.make_node("MatMul", ["hidden", "weight_2"], ["logits"], "second"),
        **weights,
    )
    nodes = dynamic_int8(model, ["second"]).graph.node
    assert [node.name for node in nodes if node.op_type == "MatMul"] == ["second"]
    assert [node.op_type for node in nodes].count("MatMulInteger") == 1


#: Operators between layers, with what they take beside a map of 4 by 2 by 4 pixels.
BETWEEN: dict[str, tuple[dict[str, np.ndarray], dict[str, Any]]] = {
    "Add": ({"c": np.float32([0.7])}, {}),
    "AveragePool": ({}, {"kernel_shape": [2, 2]}),
    "Clip": ({"low": np.float32(-0.5), "high": np.float32(0.5)}, {}),
    "Concat": ({"more": np.ones((2, 4, 2, 4), np.float32)}, {"axis": 1}),
    "Flatten": ({}, {}),
    "GlobalAveragePool": ({}, {}),
    "MaxPool": ({}, {"kernel_shape": [2, 2]}),
    "Mul": ({"c": np.float32([0.7])}, {}),
    "ReduceMean": ({}, {"axes": [2]}),
    "Relu": ({}, {}),
    "Reshape": ({"shape": np.array([0, -1])}, {}),
    "Squeeze": ({"axis": np.array([4])}, {}),
    "Transpose": ({}, {"perm": [0, 2, 1, 3]}),
    "Unsqueeze": ({"axis": np.array([1])}, {}),
    "LogSoftmax": ({}, {}),
    "Sigmoid": ({}, {}),
    "Softmax": ({}, {}),
    "Tanh": ({}, {}),
}


@pytest.mark.parametrize("operator", [*BETWEEN])
def test_what_only_moves_or_adds_is_quantized_between_layers_and_curves_are_not(
    operator: str,
) -> None:
    """A softmax in 8 bits would lose all small values."""
    more, attributes = BETWEEN[operator]
    value = helper.make_tensor_value_info
    before = [helper.make_node("Conv", ["x", "w"], ["h"], "layer")]
    source = "h"
    if operator == "Squeeze":
        before.append(helper.make_node("Unsqueeze", ["h", "axis"], ["deep"], "deepen"))
        source = "deep"
    nodes = [
        *before,
        helper.make_node(operator, [source, *more], ["moved"], "between", **attributes),
        helper.make_node("Erf", ["moved"], ["y"], "behind"),
    ]
    constants = {"w": np.float32(np.arange(-8, 8).reshape(4, 4, 1, 1)) / 8, **more}
    network = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, [2, 4, 2, 4])],
        [value("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 13)]
    model = helper.make_model(network, opset_imports=opsets, ir_version=8)
    images = RANDOM.standard_normal((2, 4, 2, 4), np.float32)
    quantized = static_int8(model, calibrate(model, [{"x": images}])).graph
    producers = {name: node for node in quantized.node for name in node.output}
    found = [producers[node.input[0]].op_type for node in quantized.node if node.op_type == "Erf"]
    is_quantized = operator not in ("LogSoftmax", "Sigmoid", "Softmax", "Tanh")
    assert found == ["DequantizeLinear" if is_quantized else operator]
    # A ReLU and a clip may become limits of the range.
    if operator not in ("Clip", "Relu"):
        (node,) = [node for node in quantized.node if node.name == "between"]
        assert producers[node.input[0]].op_type == "DequantizeLinear"


def test_the_graph_that_is_given_is_not_changed_and_the_new_one_says_the_same_of_itself(
    to_int8: Callable[..., onnx.ModelProto], model: onnx.ModelProto
) -> None:
    before = model.SerializeToString()
    logging.disable(logging.NOTSET)
    quantized = to_int8()
    assert model.SerializeToString() == before
    assert logging.root.manager.disable == logging.NOTSET
    assert (quantized.producer_name, quantized.producer_version) == ("torchlift", "0.2.0")
    assert (quantized.model_version, quantized.doc_string) == (7, "input → logits")
    assert quantized.ir_version == 8
    assert Counter(prop.key for prop in quantized.metadata_props) == {
        "precision": 1,
        "output_kind": 1,
        "torchlift_version": 1,
    }


def test_what_is_baked_into_the_graph_stays_in_float(tmp_path: Path) -> None:
    """Pixels need more than 8 bits once they are normalized."""
    model = graph(
        helper.make_node("Mul", ["input", "scale"], ["scaled"], "baked_Mul"),
        helper.make_node("Gemm", ["scaled", "weight_1", "bias_1"], ["hidden"], "first"),
        helper.make_node("Relu", ["hidden"], ["positive"], "relu"),
        helper.make_node("Gemm", ["positive", "weight_2", "bias_2"], ["logits"], "second"),
        scale=np.float32([[0.5]]),
        **WEIGHTS,
    )
    onnx.save(model, tmp_path / "baked.onnx")
    quantized = static_int8(
        model, calibrate(onnx.load(tmp_path / "baked.onnx"), [{"input": INPUTS}])
    )
    (mul,) = [node for node in quantized.graph.node if node.op_type == "Mul"]
    assert list(mul.input) == ["input", "scale"]


def test_only_products_with_constant_weights_are_layers() -> None:
    model = graph(
        helper.make_node("Gemm", ["input", "weight_1"], ["a"], "first"),
        helper.make_node("MatMul", ["a", "a"], ["b"], "of two activations"),
        helper.make_node("MatMul", ["b", "weight_2"], ["logits"], "second"),
        helper.make_node("Add", ["b", "bias_1"], ["c"], "add"),
        **WEIGHTS,
    )
    assert layers_of(model) == layers_of(model, LINEAR) == ["first", "second"]


@pytest.mark.parametrize("dynamic", [False, True])
def test_nothing_is_left_beside_the_files_and_progress_ends_at_the_end(
    file: Path,
    dynamic: bool,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    steps: list[tuple[str, int, int]] = []
    written = quantize(
        file,
        file.with_name("int8.onnx"),
        INPUTS,
        dynamic=dynamic,
        max_drop=0.5,
        progress=lambda *step: steps.append(step),
    )
    assert sorted(path.name for path in file.parent.iterdir()) == ["float.onnx", "int8.onnx"]
    assert [*temporary.iterdir()] == []
    last = {name: (done, total) for name, done, total in steps}
    assert set(last.values()) == {(64, 64)}
    assert set(last) == {"float", "int8"} | (set() if dynamic else {"calibration"})
    assert (written.layers, written.kept, written.notes[:-1] if dynamic else []) == (2, [], [])


@pytest.mark.parametrize(
    ("inputs", "note"),
    [
        (INPUTS[:29], "judged on 29 images of"),
        (np.tile(INPUTS[:1], (40, 1)), "judged on 40 images of 1 of 4 classes"),
        (INPUTS[:40], ""),
    ],
    ids=["few", "one class", "enough"],
)
def test_few_images_or_one_class_say_little(file: Path, inputs: np.ndarray, note: str) -> None:
    written = quantize(file, file.with_name("int8.onnx"), inputs, max_drop=1)
    assert [text[: len(note)] for text in written.notes] == ([note] if note else [])


def test_files_that_cannot_be_quantized(tmp_path: Path) -> None:
    target = tmp_path / "int8.onnx"
    relu = helper.make_node("Relu", ["input"], ["hidden"], "relu")
    gather = helper.make_node("Gather", ["hidden", "four"], ["logits"], "gather", axis=1)
    onnx.save(graph(relu, gather, four=np.arange(4)), tmp_path / "none.onnx")
    for dynamic, said in ((False, "has no layer to quantize"), (True, "no linear layer")):
        with pytest.raises(OnnxError, match=said):
            quantize(tmp_path / "none.onnx", target, INPUTS, dynamic=dynamic)
    pixels = graph(
        helper.make_node("Gemm", ["input", "weight_1"], ["hidden"], "first"),
        helper.make_node("Unsqueeze", ["hidden", "axis"], ["logits"], "unsqueeze"),
        axis=np.array([2]),
        **WEIGHTS,
    )
    onnx.save(pixels, tmp_path / "maps.onnx")
    with pytest.raises(OnnxError, match="not a classifier, so its accuracy cannot be measured"):
        quantize(tmp_path / "maps.onnx", target, INPUTS)
    assert not target.exists()


def read_part(name: str) -> None:
    with ort_quantizer._temporary_folder() as folder:
        (folder / "part.onnx").write_bytes(b"\x08\x08\x12")
        onnx.load(folder / name)


def test_a_full_disk_of_temporary_files_is_said() -> None:
    """What infers shapes does not notice it: the next program reads a part of a graph."""
    with pytest.raises(WriteError, match="a temporary file is not whole: disk full"):
        read_part("part.onnx")
    with pytest.raises(FileNotFoundError, match=r"missing\.onnx"):
        read_part("missing.onnx")
    # Of an error without a file nobody could tell what is full.
    with (
        pytest.raises(WriteError, match=r"disk full, or a limit .* TMPDIR names another folder"),
        ort_quantizer._temporary_folder(),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
