"""What a `.t7` tells of its input that was not cleared, and outputs whose rows are no examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from torchlift.converters import convert, t7
from torchlift.converters.onnx import OnnxError, check, describe_file, export
from torchlift.converters.saved import open_model
from torchlift.converters.saved.told_inputs import told_inputs
from torchlift.converters.t7 import LuaObject, LuaTable

RNG = np.random.default_rng(0)


def layer(name: str, **fields: Any) -> LuaObject:
    return LuaObject(name, LuaTable({"_type": "torch.FloatTensor", "train": False, **fields}))


def sequential(*children: LuaObject, **fields: Any) -> LuaObject:
    return layer("nn.Sequential", modules=LuaTable.from_list(list(children)), **fields)


def conv(name: str = "nn.SpatialConvolution", **fields: Any) -> LuaObject:
    """A convolution of 3 to 4 planes that takes any size."""
    window = {"kW": 3, "kH": 3, "dW": 1, "dH": 1, "padW": 1, "padH": 1}
    weight = RNG.random((4, 3, 3, 3), np.float32)
    planes = {"nInputPlane": 3, "nOutputPlane": 4, "groups": 1}
    bias = np.zeros(4, np.float32)
    return layer(name, weight=weight, bias=bias, **planes, **window, **fields)


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (sequential(conv(), gradInput=zeros(8, 3, 20, 24)), "3x20x24"),
        (sequential(conv(gradInput=zeros(3, 20, 24))), "3x20x24"),
        (sequential(sequential(layer("nn.Identity"), conv(_input=zeros(2, 3, 7, 9)))), "3x7x9"),
        (sequential(conv("cudnn.SpatialConvolution", iSize=np.array([16, 3, 48, 40]))), "3x48x40"),
        # What a layer got tells more than what it gave back, which may be of another pass.
        (
            sequential(
                conv(
                    "cudnn.SpatialConvolution",
                    iSize=np.array([16, 3, 48, 40]),
                    gradInput=zeros(8, 3, 20, 24),
                )
            ),
            "3x48x40",
        ),
        (sequential(conv(_input=zeros(2, 3, 7, 9), gradInput=zeros(8, 3, 20, 24))), "3x7x9"),
        *(
            (layer(name, modules=LuaTable({1: conv(input=zeros(3, 7, 9))})), "3x7x9")
            for name in (
                *("nn.DataParallel", "nn.DataParallelTable", "fbcunn.DataParallel"),
                *("nn.NoBackprop", "nn.Decorator"),
            )
        ),
    ],
)
def test_a_file_tells_the_size_that_its_layers_leave_open(
    network: LuaObject, told: str, tmp_path: Path
) -> None:
    t7.save(network, tmp_path / "net.t7")
    model = open_model(tmp_path / "net.t7")
    assert str(model.input_shapes) == told
    assert any(told in note for note in model.notes)
    # What is said wins.
    assert open_model(tmp_path / "net.t7", input_size=(32, 32)).input_shape == (3, 32, 32)


@pytest.mark.parametrize(
    "network",
    [
        sequential(conv()),
        sequential(conv(gradInput=zeros(0))),
        sequential(conv("cudnn.SpatialConvolution", iSize=np.zeros(4, np.int64))),
        # Memory that was never set, and an input of other channels.
        sequential(conv("cudnn.SpatialConvolution", iSize=np.array([140530918631352, -1, 2, 3]))),
        sequential(conv(gradInput=zeros(8, 5, 20, 24))),
    ],
)
def test_what_is_no_input_of_the_network_tells_nothing(network: LuaObject, tmp_path: Path) -> None:
    t7.save(network, tmp_path / "net.t7")
    assert open_model(tmp_path / "net.t7").input_shapes is None


def window(*axes: str) -> dict[str, int]:
    """Fields of a layer of 3 planes with a window of 1 along some axes."""
    kept = {"nInputPlane": 3, "nOutputPlane": 3, "inputFrameSize": 3, "outputFrameSize": 3}
    return kept | {f"{one}{axis}": int(one in "kd") for axis in axes for one in ("k", "d", "pad")}


@pytest.mark.parametrize(
    ("name", "fields", "shape", "told"),
    [
        ("Linear", {"weight": zeros(2, 9)}, (4, 9), "9"),
        ("Linear", {"weight": zeros(2, 9)}, (9,), "9"),
        ("TemporalConvolution", {"weight": zeros(3, 3), **window("W")}, (4, 11, 3), "11x3"),
        ("SpatialConvolution", {"weight": zeros(3, 3, 1, 1), **window(*"WH")}, (3, 5, 6), "3x5x6"),
        (
            "VolumetricConvolution",
            {"weight": zeros(3, 3, 1, 1, 1), **window(*"TWH")},
            (2, 3, 5, 6, 7),
            "3x5x6x7",
        ),
    ],
)
def test_the_name_of_the_first_layer_tells_how_many_dimensions_an_example_has(
    name: str, fields: dict[str, Any], shape: tuple[int, ...], told: str
) -> None:
    first = layer(f"nn.{name}", bias=zeros(len(fields["weight"])), **fields)
    for source, path in (
        (sequential(first, gradInput=zeros(*shape)), "gradInput"),
        (
            layer("nn.DataParallelTable", modules=LuaTable({1: first}), _input=zeros(*shape)),
            "_input",
        ),
    ):
        found = told_inputs(convert(source).eval())
        assert found is not None
        assert (str(found[0]), found[1]) == (told, path)


def test_a_size_that_the_layers_tell_needs_no_note(tmp_path: Path) -> None:
    linear = layer("nn.Linear", weight=RNG.random((2, 9), np.float32), bias=zeros(2))
    t7.save(sequential(linear, gradInput=zeros(4, 9)), tmp_path / "net.t7")
    model = open_model(tmp_path / "net.t7")
    assert (str(model.input_shapes), model.notes) == ("9", [])


def test_rows_of_an_output_may_be_places_of_the_examples(tmp_path: Path) -> None:
    """Such outputs are features; each image of another size would have other rows."""
    size = np.array([-1, 4])
    network = sequential(conv(), layer("nn.Reshape", size=size, nelement=4, batchMode=False))
    t7.save(network, tmp_path / "net.t7")
    model = open_model(tmp_path / "net.t7", input="3x6x6")
    with pytest.raises(OnnxError, match="fixed input size"):
        export(model, tmp_path / "net.onnx", any_size=True)
    export(model, tmp_path / "net.onnx")
    described = describe_file(tmp_path / "net.onnx")
    assert described["output_kind"] == "features"
    assert described["outputs"][0]["shape"][1] == 4
    report = check(model, tmp_path / "net.onnx")
    assert report.passed, list(report.lines())


def test_a_sigmoid_is_no_choice_of_one_class(tmp_path: Path) -> None:
    linear = layer("nn.Linear", weight=RNG.random((3, 9), np.float32), bias=zeros(3))
    t7.save(sequential(linear, layer("nn.Sigmoid")), tmp_path / "net.t7")
    model = open_model(tmp_path / "net.t7")
    export(model, tmp_path / "net.onnx")
    described = describe_file(tmp_path / "net.onnx")
    assert (described["output_kind"], described["outputs"][0]["name"]) == ("features", "output")
    assert check(model, tmp_path / "net.onnx").passed
    assert torch.equal(model.module(torch.zeros(1, 9)), torch.full((1, 3), 0.5))
