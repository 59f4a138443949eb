"""Names and counts of the readers that scripts used before, class by class.

Those of `load_lua` are the ones of PyTorch 0.4's `torch/utils/serialization/read_lua_file.py`, and
those of layers the ones of OpenCV 4's `torch_importer.cpp`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import FIXTURES

from torchlift.compat import readNetFromTorch
from torchlift.converters import t7
from torchlift.converters.compat.legacy_fields import lua_fields, python_fields
from torchlift.converters.compat.opencv_layers import opencv_layers
from torchlift.converters.t7 import LuaObject, LuaTable

#: Class → fields that count from 0 in Python and from 1 in Lua.
COUNTED = """
Index dimension, SelectTable index, SplitTable dimension, JoinTable dimension,
Parallel inputDimension, Parallel outputDimension, Concat dimension, DepthConcat dimension,
Squeeze dim, Replicate dim, MixtureTable dim, Narrow dimension, Narrow index, NarrowTable offset,
LookupTable paddingValue, Select dimension, Select index, Padding dim, Padding index,
PartialLinear partition, Sum dimension, Max dimension, Min dimension, Mean dimension
"""


@pytest.mark.parametrize("entry", [entry.strip() for entry in COUNTED.split(",")])
def test_what_counts_from_1_in_lua_counts_from_0_in_python(entry: str) -> None:
    kind, field = entry.split()
    assert python_fields(kind, {field: 2})[field] == 1
    assert lua_fields(kind, {field: 1}) == {field: 2}
    assert python_fields(kind, {field: -1})[field] == (-2 if field == "paddingValue" else -1)
    assert python_fields("Tanh", {field: 2})[field] == 2


@pytest.mark.parametrize("kind", ["SpatialConvolutionMap", "SpatialFullConvolutionMap"])
def test_tables_of_connections_count_from_0(kind: str) -> None:
    found = python_fields(kind, {"connTable": torch.tensor([[1.0, 2.0]])})
    assert found["connTable"].tolist() == [[0, 1]]
    assert python_fields("Transpose", {"permutations": [[1, 2], [3, 1]]})["permutations"] == [
        [0, 1],
        [2, 0],
    ]


@pytest.mark.parametrize(
    ("kind", "lua", "python"),
    [
        ("ReLU", "val", "value"),
        ("Threshold", "val", "value"),
        ("HardShrink", "lambda", "lambd"),
        ("SoftShrink", "lambda", "lambd"),
        ("GradientReversal", "lambda", "lambd"),
        ("SpatialAdaptiveMaxPooling", "H", "h"),
        ("SpatialAdaptiveMaxPooling", "W", "w"),
    ],
)
def test_fields_that_have_another_name_in_python(kind: str, lua: str, python: str) -> None:
    assert python_fields(kind, {lua: 0.5})[python] == 0.5
    assert lua not in python_fields(kind, {lua: 0.5})
    assert lua_fields(kind, {python: 0.5}) == {lua: 0.5}
    # And of `Unsqueeze` the one that counts from another number, too.
    assert python_fields("Unsqueeze", {"pos": 2})["dim"] == 1
    assert lua_fields("Unsqueeze", {"dim": 1}) == {"pos": 2}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("Linear", "bias gradWeight gradBias addBuffer"),
        ("CAddTable", "inplace"),
        ("SpatialFractionalMaxPooling", "outW outH ratioW ratioH"),
        ("BatchNormalization", "weight bias gradWeight gradBias save_mean save_std"),
        ("SpatialBatchNormalization", "weight bias gradWeight gradBias save_mean save_std"),
        ("VolumetricBatchNormalization", "weight bias gradWeight gradBias"),
        ("LookupTable", "maxNorm normType _gradOutput _sorted _indices"),
        ("MixtureTable", "table"),
        ("WeightedEuclidean", "fastBackward"),
        ("VolumetricMaxPooling", "ceil_mode"),
        ("BCECriterion", "buffer"),
        ("SpatialClassNLLCriterion", "weights"),
        ("ClassNLLCriterion", "weights"),
        ("ParallelCriterion", "repeatTarget"),
        ("MultiMarginCriterion", "weights"),
        ("SpatialConvolution", "bias gradWeight gradBias _gradOutput"),
        ("SpatialCrossMapLRN", "scale"),
        ("Dropout", "inplace"),
    ],
)
def test_fields_that_a_file_lacks_are_none(kind: str, fields: str) -> None:
    names = fields.split()
    assert python_fields(kind, {}) == dict.fromkeys(names)
    assert python_fields(kind, {names[0]: 3})[names[0]] == 3
    assert lua_fields(kind, dict.fromkeys(names)) == {}


TYPES = """
SpatialConvolution Convolution, SpatialConvolutionMM Convolution,
SpatialDilatedConvolution Convolution, SpatialFullConvolution Deconvolution,
SpatialMaxPooling Pooling, SpatialAveragePooling Pooling, Linear InnerProduct, View Reshape,
Reshape Reshape, Tanh TanH, ReLU ReLU, Sigmoid Sigmoid, SpatialBatchNormalization BatchNorm,
BatchNormalization BatchNorm, TotalVariation Identity, Identity Identity,
SpatialZeroPadding Padding, SpatialReflectionPadding Padding, SoftMax Softmax, LogSoftMax Softmax,
SpatialCrossMapLRN LRN, Square Power, Sqrt Power, MulConstant Power, ShaveImage Slice,
SpatialUpSamplingNearest Resize, Dropout Power, SpatialDropout Power, PReLU ReLU
"""


@pytest.mark.parametrize("entry", [entry.strip() for entry in TYPES.split(",")])
def test_a_module_becomes_a_layer_of_opencvs_type(entry: str) -> None:
    name, kind = entry.split()
    for package in ("nn", "cudnn", "cunn", "fbcunn"):
        (layer,) = opencv_layers(LuaObject(f"{package}.{name}"))
        assert (layer.name, layer.type) == (f"l1_{kind}", kind)


def test_fields_tell_which_dropout_and_which_slopes_a_module_has() -> None:
    """In version 2 of `nn.Dropout` evaluation changes nothing."""
    for name, fields, kind in (
        ("nn.Dropout", {"v2": True}, "Identity"),
        ("nn.Dropout", {"v2": False}, "Power"),
        ("nn.PReLU", {"nOutputPlane": 3}, "ChannelsPReLU"),
        ("nn.PReLU", {"nOutputPlane": 0}, "ReLU"),
    ):
        (layer,) = opencv_layers(LuaObject(name, LuaTable(fields)))
        assert layer.type == kind


@pytest.mark.parametrize(
    ("container", "after", "names"),
    [
        ("Sequential", None, "l1_TanH l2_Sigmoid"),
        ("Inception", None, "l1_TanH l2_Sigmoid"),
        ("SpatialLPPooling", None, "l1_TanH l2_Sigmoid"),
        # OpenCV counts a layer that it no longer makes.
        ("Concat", None, "l1_TanH l2_Sigmoid l4_torchMerge"),
        ("DepthConcat", None, "l1_TanH l2_Sigmoid l3_torchMerge"),
        ("ConcatTable", "CAddTable", "l2_TanH l3_Sigmoid l4_torchCAddTable"),
        ("ConcatTable", "JoinTable", "l2_TanH l3_Sigmoid l4_torchMerge"),
        ("Parallel", None, "l1_torchSplit l2_torchReshape l3_TanH l4_Sigmoid l5_torchMerge"),
        ("Sequential", "InstanceNormalization", "l1_TanH l2_Sigmoid l3_MVN l4_BatchNorm"),
        ("Sequential", "SpatialMaxUnpooling", "l1_TanH l2_Sigmoid l3_torchMaxUnpooling"),
    ],
)
def test_layers_are_numbered_as_opencv_walks_through_a_container(
    container: str, after: str | None, names: str
) -> None:
    inside = LuaTable.from_list([LuaObject("nn.Tanh"), LuaObject("nn.Sigmoid")])
    steps = [LuaObject(f"nn.{container}", LuaTable({"modules": inside}))]
    steps += [] if after is None else [LuaObject(f"nn.{after}")]
    layers = opencv_layers(
        LuaObject("nn.Sequential", LuaTable({"modules": LuaTable.from_list(steps)}))
    )
    assert " ".join(layer.name for layer in layers) == names
    # What no other layer takes is what the network returns: the last one.
    assert [layer.name for layer in layers if not layer.is_connected] == names.split()[-1:]
    kinds = {"l4_torchMerge": "Concat", "l3_torchMaxUnpooling": "MaxUnpool", "l3_MVN": "MVN"}
    kinds |= {
        "l4_torchCAddTable": "Eltwise",
        "l1_torchSplit": "Slice",
        "l2_torchReshape": "Reshape",
    }
    assert all(layer.type == kinds.get(layer.name, layer.type) for layer in layers)
    steps_inside = [layer.name for layer in layers if layer.is_step]
    assert steps_inside == re.findall(r"\w+(?:Split|Reshape|MVN)", names)
    assert all(layer.blobs() == [] for layer in layers)


def test_a_sum_takes_the_outputs_of_the_table_before_it() -> None:
    """Here of the inner one; the first branch of the outer one is an output of the network."""

    def table(name: str, *modules: LuaObject) -> LuaObject:
        return LuaObject(f"nn.{name}", LuaTable({"modules": LuaTable.from_list(modules)}))

    summed = table("ConcatTable", LuaObject("nn.Sigmoid"), LuaObject("nn.ReLU"))
    second = table("Sequential", summed, LuaObject("nn.CAddTable"))
    layers = opencv_layers(table("ConcatTable", LuaObject("nn.Tanh"), second))
    outputs = [layer.name for layer in layers if not layer.is_connected]
    assert outputs == ["l2_TanH", "l6_torchCAddTable"]
    # All of them, however many there are.
    three = [LuaObject("nn.ReLU") for _ in range(3)]
    layers = opencv_layers(
        table("Sequential", table("ConcatTable", *three), LuaObject("nn.JoinTable"))
    )
    outputs = [layer.name for layer in layers if not layer.is_connected]
    assert outputs == ["l5_torchMerge"]


def test_the_weights_of_a_layer_are_opencvs() -> None:
    """Vectors are columns, of a linear layer rows; batch normalization has its statistics first."""
    fields: dict[str, Any] = {"weight": np.arange(8.0).reshape(2, 4), "bias": np.ones(2)}
    shape, kernels = {"kH": 2, "kW": 1}, [[[[0], [1]], [[2], [3]]], [[[4], [5]], [[6], [7]]]]
    statistics = {"running_mean": np.array([3.0, 4.0]), "running_var": np.array([5.0, 6.0])}
    scaled = statistics | {"weight": np.full(2, 7.0)}
    # Version 1 of the class: 1 / √(3.75 + 0.25) is 0.5.
    older = {"running_mean": np.zeros(1), "running_std": np.array([0.5]), "eps": 0.25}
    for name, values, expected in (
        ("Linear", fields, [[[0, 1, 2, 3], [4, 5, 6, 7]], [[1, 1]]]),
        ("SpatialConvolutionMM", fields | shape, [kernels, [[1], [1]]]),
        ("BatchNormalization", statistics, [[[3], [4]], [[5], [6]]]),
        ("BatchNormalization", older, [[[0]], [[3.75]]]),
        ("BatchNormalization", scaled, [[[3], [4]], [[5], [6]], [[7], [7]]]),
        ("Linear", {"weight": np.ones((1, 1)), "bias": np.zeros(0)}, [[[1]]]),
        # Without statistics of its own: those of three channels behind the step that normalizes.
        ("InstanceNormalization", {"nOutput": 3}, [[[0, 0, 0]], [[1, 1, 1]]]),
        ("InstanceNormalization", statistics, [[[0], [0]], [[1], [1]]]),
        ("Tanh", {}, []),
    ):
        *_, layer = opencv_layers(LuaObject(f"nn.{name}", LuaTable(values)))
        blobs = layer.blobs()
        assert [blob.tolist() for blob in blobs] == expected, name
        assert all(blob.dtype == np.float32 for blob in blobs)


@pytest.mark.parametrize(
    ("name", "fields", "in_training", "in_evaluation"),
    [
        ("nn.SpatialBatchNormalization", {"train": True}, True, False),
        ("cudnn.SpatialBatchNormalization", {"train": True}, True, False),
        ("nn.SpatialBatchNormalization", {"train": False}, False, False),
        # A file that does not say is not in training mode.
        ("nn.SpatialBatchNormalization", {}, False, False),
        ("nn.BatchNormalization", {"train": True}, False, False),
        ("nn.InstanceNormalization", {"nOutput": 2}, True, True),
    ],
)
def test_images_are_normalized_by_themselves_where_opencv_does_it(
    name: str, fields: dict[str, Any], in_training: bool, in_evaluation: bool
) -> None:
    source = LuaObject(name, LuaTable({"running_mean": np.zeros(2), **fields}))
    for evaluate, expected in ((False, in_training), (True, in_evaluation)):
        types = [layer.type for layer in opencv_layers(source, evaluate=evaluate)]
        assert types == ["MVN", "BatchNorm"][not expected :]


def test_layers_are_counted_found_and_read_by_name_and_by_number() -> None:
    net = readNetFromTorch(FIXTURES / "digits" / "digits-lenet5.t7")
    names = net.getLayerNames()
    kinds = [name.partition("_")[2] for name in names]
    for number, name in enumerate(names, 1):
        assert net.getLayerId(name) == number
        assert net.getLayer(name).name == net.getLayer(number).name == name
    assert net.getLayersCount("Convolution") == kinds.count("Convolution") > 1
    assert net.getLayersCount("LSTM") == 0
    assert net.getLayerTypes() == tuple(sorted({*kinds, "__NetInputLayer__"}))
    assert net.getUnconnectedOutLayers() == (len(names),)
    assert net.getUnconnectedOutLayersNames() == (names[-1],)
    model: Any = t7.load(FIXTURES / "digits" / "digits-lenet5.t7")
    first = model["modules"][1]
    np.testing.assert_allclose(net.getParam(1).ravel(), np.ravel(first["weight"]), rtol=1e-6)
    np.testing.assert_allclose(net.getParam(names[0], 1).ravel(), np.ravel(first["bias"]))


def test_a_table_as_output_is_its_last_entry(tmp_path: Path) -> None:
    """OpenCV's last layer is that of the last branch."""
    branches = LuaTable.from_list([LuaObject("nn.Tanh"), LuaObject("nn.Sigmoid")])
    t7.save(LuaObject("nn.ConcatTable", LuaTable({"modules": branches})), tmp_path / "net.t7")
    net = readNetFromTorch(tmp_path / "net.t7")
    net.setInput(np.zeros((1, 2), np.float32))
    assert net.forward().tolist() == [[0.5, 0.5]]
    assert net.getUnconnectedOutLayers() == (1, 2)


def test_a_sum_without_a_table_before_it_takes_nothing() -> None:
    """As where a network begins with it: then its inputs are those of the network."""
    modules = LuaTable.from_list([LuaObject("nn.CAddTable"), LuaObject("nn.Tanh")])
    first, second = opencv_layers(LuaObject("nn.Sequential", LuaTable({"modules": modules})))
    assert (first.name, second.name) == ("l1_torchCAddTable", "l2_TanH")
    assert (first.is_connected, second.is_connected) == (True, False)


def test_a_module_that_stands_in_a_network_twice_is_one_layer() -> None:
    """OpenCV reads an object of the file once."""
    tanh = LuaObject("nn.Tanh")
    modules = LuaTable.from_list([tanh, LuaObject("nn.ReLU"), tanh])
    layers = opencv_layers(LuaObject("nn.Sequential", LuaTable({"modules": modules})))
    assert [layer.name for layer in layers] == ["l1_TanH", "l2_ReLU"]


def test_fields_that_are_no_names_or_no_numbers_are_left_alone() -> None:
    assert python_fields("Max", {1: "x", "dimension": True}) == {"dimension": True}
    assert python_fields("Select", {"index": "last", "dimension": None}) == {
        "index": "last",
        "dimension": None,
    }
    assert python_fields("Narrow", {"index": 2.0})["index"] == 1
