"""What a network takes: vectors, sequences, volumes, several inputs; at any size that is left free.

Torch7's own layers, built as a `.t7` holds them, are run in PyTorch and in ONNX Runtime.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from torchlift.cli.main import main
from torchlift.converters import load_model, t7
from torchlift.converters.errors import TorchliftError
from torchlift.converters.modules.layers.table_arithmetic import CAddTable
from torchlift.converters.modules.packages.nngraph import GModule
from torchlift.converters.modules.to_torch7 import to_torch7
from torchlift.converters.onnx import check, describe_file, export
from torchlift.converters.saved import load, open_model, save
from torchlift.converters.saved.shapes import infer_inputs
from torchlift.converters.t7 import LuaObject, LuaTable

RNG = np.random.default_rng(0)


def f(*shape: int) -> np.ndarray:
    return RNG.random(shape, np.float32) - 0.5


def layer(name: str, **fields: Any) -> LuaObject:
    return LuaObject(name, LuaTable({"_type": "torch.FloatTensor", "train": False, **fields}))


def modules(name: str, *children: LuaObject, **fields: Any) -> LuaObject:
    return layer(name, modules=LuaTable.from_list(list(children)), **fields)


def linear(inputs: int, outputs: int) -> LuaObject:
    return layer("nn.Linear", weight=f(outputs, inputs), bias=f(outputs))


def conv(inputs: int, outputs: int, k: int, pad: int = 0) -> LuaObject:
    sizes = {"nInputPlane": inputs, "nOutputPlane": outputs, "kW": k, "kH": k, "dW": 1, "dH": 1}
    return layer(
        "nn.SpatialConvolution",
        **sizes,
        padW=pad,
        padH=pad,
        weight=f(outputs, inputs, k, k),
        bias=f(outputs),
    )


def temporal(inputs: int, outputs: int, k: int) -> LuaObject:
    sizes = {"inputFrameSize": inputs, "outputFrameSize": outputs, "kW": k, "dW": 1}
    return layer("nn.TemporalConvolution", **sizes, weight=f(outputs, inputs * k), bias=f(outputs))


def volumetric(inputs: int, outputs: int, k: int) -> LuaObject:
    sizes = {"nInputPlane": inputs, "nOutputPlane": outputs, "padT": 0, "padW": 0, "padH": 0}
    steps = {"dT": 1, "dW": 1, "dH": 1, "kT": k, "kW": k, "kH": k}
    weight = f(outputs, inputs, k, k, k)
    return layer("nn.VolumetricConvolution", **sizes, **steps, weight=weight, bias=f(outputs))


def vector() -> LuaObject:
    return modules("nn.Sequential", linear(9, 5), layer("nn.Tanh"), linear(5, 3))


def sequence() -> LuaObject:
    return modules("nn.Sequential", temporal(6, 4, 3), layer("nn.Tanh"))


def volume() -> LuaObject:
    return modules("nn.Sequential", volumetric(2, 3, 3), layer("nn.Tanh"))


def words() -> LuaObject:
    return modules("nn.Sequential", layer("nn.LookupTable", weight=f(11, 4)), temporal(4, 3, 2))


def two_inputs() -> LuaObject:
    both = modules("nn.ParallelTable", linear(4, 3), linear(5, 3))
    return modules("nn.Sequential", both, layer("nn.CAddTable"))


def two_outputs() -> LuaObject:
    heads = modules("nn.ConcatTable", conv(4, 2, 1), conv(4, 5, 1))
    return modules("nn.Sequential", conv(3, 4, 3, 1), heads)


@pytest.fixture
def written(tmp_path: Path) -> Callable[[LuaObject], Path]:
    def write(network: LuaObject) -> Path:
        t7.save(network, tmp_path / "net.t7")
        return tmp_path / "net.t7"

    return write


def outputs_of(onnx: Path, *inputs: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))  # type: ignore[no-any-return]


def assert_equal(file: Path, onnx: Path, *inputs: np.ndarray) -> None:
    """Compare with the module that `load_model` gives; float32 sums in another order: 1e-5."""
    tensors = [torch.as_tensor(array) for array in inputs]
    with torch.no_grad():
        expected = load_model(file)(tensors[0] if len(tensors) == 1 else tensors)
    expected = [expected] if isinstance(expected, torch.Tensor) else expected
    for one, other in zip(expected, outputs_of(onnx, *inputs), strict=True):
        np.testing.assert_allclose(one.numpy(), other, rtol=1e-5, atol=1e-5)


def ints(*shape: int) -> np.ndarray:
    return RNG.integers(1, 12, shape)


@pytest.mark.parametrize(
    ("network", "shape", "axes", "inputs"),
    [
        (vector, None, [["batch", 9]], [f(4, 9)]),
        (vector, "9", [["batch", 9]], [f(3, 9)]),
        (sequence, "?x6", [["batch", "size_1", 6]], [f(3, 17, 6)]),
        (sequence, "tx6", [["batch", "t", 6]], [f(2, 40, 6)]),
        (volume, "2x5x6x7", [["batch", 2, 5, 6, 7]], [f(3, 2, 5, 6, 7)]),
        (words, "?:int64", [["batch", "size_1"]], [ints(3, 9)]),
        (two_inputs, "left=4,5", [["batch", 4], ["batch", 5]], [f(3, 4), f(3, 5)]),
        (two_outputs, "3x?x?", [["batch", 3, "height", "width"]], [f(2, 3, 9, 14)]),
        (two_outputs, "3x16x16", [["batch", 3, 16, 16]], [f(2, 3, 16, 16)]),
    ],
)
def test_export_and_check_take_what_the_model_takes(
    network: Callable[[], LuaObject],
    shape: str | None,
    axes: list[list[int | str]],
    inputs: list[np.ndarray],
    written: Callable[[LuaObject], Path],
    tmp_path: Path,
) -> None:
    file, target = written(network()), tmp_path / "net.onnx"
    export(open_model(file, input=shape), target)
    assert [value["shape"] for value in describe_file(target)["inputs"]] == axes
    assert_equal(file, target, *inputs)
    report = check(open_model(file), target)  # The sizes are those of the file.
    assert report.passed, list(report.lines())


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (lambda: modules("nn.Concat", linear(9, 2), linear(9, 3), dimension=2), "9"),
        (lambda: modules("nn.ConcatTable", layer("nn.Identity"), linear(9, 9)), "9"),
        (lambda: modules("nn.ParallelTable", linear(4, 3), linear(5, 3)), "4,5"),
        (lambda: layer("nn.Bilinear", weight=f(2, 4, 3), bias=f(2)), "4,3"),
        (lambda: layer("nn.Euclidean", weight=f(5, 4)), "5"),
        (lambda: modules("nn.ConcatTable", linear(9, 2), linear(8, 2)), "None"),
        (lambda: modules("nn.ParallelTable", linear(4, 3), layer("nn.Tanh")), "None"),
    ],
)
def test_first_linear_layers_tell_the_inputs(
    network: Callable[[], LuaObject], told: str, written: Callable[[LuaObject], Path]
) -> None:
    """Behind containers too: each branch takes the input, or its entry of a table."""
    assert str(open_model(written(network())).inputs) == told


def test_the_nodes_of_a_graph_tell_its_inputs() -> None:
    left, right, joined = nn.Linear(4, 2), nn.Linear(5, 2), CAddTable()
    steps = [[0, [[0, 0]]], [1, [[1]]], [2, [[0, 1]]], [3, [[2], [3]]]]
    graph = GModule(nn.Identity(), left, right, joined, steps=steps, outputs=[[4]])
    assert str(infer_inputs(graph)) == "4,5"


def test_a_name_of_the_exported_file_is_no_fault(
    written: Callable[[LuaObject], Path], tmp_path: Path
) -> None:
    """The size is told by the network, the name by the one who exported it."""
    file, target = written(vector()), tmp_path / "a.onnx"
    export(open_model(file, input="board=9"), target)
    assert check(open_model(file), target).passed
    report = check(open_model(file, input="state=9"), target)
    assert not report.passed
    assert "the name state was expected" in "\n".join(report.lines())


def test_inputs_and_outputs_have_the_names_that_were_given(
    written: Callable[[LuaObject], Path], tmp_path: Path
) -> None:
    found = export(open_model(written(two_inputs()), input="left=4,5"), tmp_path / "a.onnx")
    assert (found.inputs, found.outputs) == (["left", "input_2"], ["output"])
    found = export(open_model(written(two_outputs()), input="3x8x8"), tmp_path / "b.onnx")
    assert (found.inputs, found.outputs) == (["input"], ["output_1", "output_2"])


@pytest.mark.parametrize("shape", ["3x9x9", "2x9", "10"])
def test_an_input_that_torch7_refuses_is_refused_with_the_layers_sentence(
    shape: str, written: Callable[[LuaObject], Path], tmp_path: Path
) -> None:
    with pytest.raises(TorchliftError, match=r"modules\[1\] .*Linear\(in_features=9"):
        open_model(written(vector()), input=shape)
    with pytest.raises(TorchliftError, match=r"Linear\(in_features=9"):
        export(open_model(written(vector())), tmp_path / "x.onnx", input_shape=shape)
    assert not (tmp_path / "x.onnx").exists()


def test_the_number_of_steps_that_decides_the_outputs_must_be_fixed(
    written: Callable[[LuaObject], Path], tmp_path: Path
) -> None:
    file = written(layer("nn.SplitTable", dimension=1, nInputDims=2))
    with pytest.raises(TorchliftError, match=r"free|number of steps, inputs or outputs"):
        export(open_model(file, input="?x4"), tmp_path / "x.onnx")
    export(open_model(file, input="3x4"), tmp_path / "x.onnx")
    assert_equal(file, tmp_path / "x.onnx", f(2, 3, 4))


def test_a_saved_model_keeps_its_inputs(
    written: Callable[[LuaObject], Path], tmp_path: Path
) -> None:
    model = open_model(written(two_inputs()), input="left=4,5")
    folder = save(model, tmp_path / "saved")
    config = json.loads((folder / "config.json").read_text())
    assert [value["name"] for value in config["inputs"]] == ["left", "input_2"]
    assert str(load(folder).inputs) == "left=4,5"
    export(load(folder), tmp_path / "net.onnx")
    assert check(load(folder), tmp_path / "net.onnx").passed


def test_the_command_line_takes_inputs_everywhere(
    written: Callable[[LuaObject], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, target = str(written(sequence())), str(tmp_path / "net.onnx")
    assert main(["export", file, target]) == 1
    assert "--input '?x6'" in capsys.readouterr().err
    assert main(["summary", file, "--input", "20x6", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["output_shape"] == [18, 4]
    assert main(["export", file, target, "--input", "?x6"]) == 0
    assert main(["check", file, target]) == 0
    assert main(["convert", file, str(tmp_path / "m"), "--input", "?x6"]) == 0
    assert main(["export", str(tmp_path / "m"), target, "--overwrite"]) == 0
    assert main(["convert", file, str(tmp_path / "m.pt2"), "--input", "?x6"]) == 0
    exported = torch.export.load(tmp_path / "m.pt2").module()
    assert exported(torch.zeros(3, 50, 6)).shape == (3, 48, 4)


@pytest.mark.parametrize("options", [["--input", "3x"], ["--input", "3x8x8", "--input-size", "9"]])
def test_malformed_inputs_are_usage_errors(options: list[str]) -> None:
    try:
        code = main(["export", "net.t7", "net.onnx", *options])
    except SystemExit as stop:
        code = stop.code  # type: ignore[assignment]
    assert code == 2


def test_check_takes_the_sizes_of_the_file_where_they_are_not_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network of pooled images takes several sizes, of which opening the `.t7` finds another."""
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(8), nn.Flatten(), nn.Linear(64, 2))
    t7.save(to_torch7(layers.eval(), (3, 37, 37)), tmp_path / "m.t7")
    files = [str(tmp_path / "m.t7"), str(tmp_path / "m.onnx")]
    assert main(["export", *files, "--input", "3x39x39"]) == 0
    capsys.readouterr()
    assert main(["check", *files]) == 0, capsys.readouterr().out
    assert "3×39×39" in capsys.readouterr().out
