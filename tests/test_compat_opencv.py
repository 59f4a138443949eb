"""`readNetFromTorch` computes OpenCV 4's numbers, with OpenCV's names of layers.

The truth is Torch7 (`*_io.t7`) and, where it is installed, OpenCV 4 itself; what OpenCV printed for
ten scripts is compared in `test_compat_scripts`.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import FIXTURES, SHARED
from torch import nn

from torchlift.compat import readNetFromTorch, readTorchBlob
from torchlift.converters import TorchliftError, t7
from torchlift.converters.t7 import LuaObject, LuaTable

BRANCHES = FIXTURES / "compat" / "branches.t7"
#: Networks that OpenCV 4 loads and runs, with the shape of an input.
NETWORKS: dict[str, tuple[int, ...]] = {
    "fixtures/cifar/cifar-convnet-bn.t7": (2, 3, 32, 32),
    "fixtures/digits/digits-lenet5-bn.t7": (2, 1, 32, 32),
    "fixtures/digits/digits-lenet5-bn_uncleared.t7": (1, 1, 32, 32),
    "fixtures/digits/digits-lenet5.t7": (2, 1, 32, 32),
    "fixtures/models/alexnetowtbn_small.t7": (1, 3, 224, 224),
    "fixtures/models/convnet.t7": (2, 3, 32, 32),
    "fixtures/models/convnet_bn.t7": (2, 3, 32, 32),
    "fixtures/models/lenet5.t7": (2, 1, 32, 32),
    "fixtures/compat/branches.t7": (2, 3, 16, 16),
    "fixtures/compat/faststyle_none.t7": (1, 3, 32, 32),
    "fixtures/projects/faststyle_instance.t7": (1, 3, 32, 32),
    "wild/anuragranj+spynet__models__modelL1_3.t7": (1, 8, 32, 32),
    "wild/jsenellart+luatorch-onnx-convert__test__data__model4.t7@17a0ae9": (1, 0),
    "wild/mbojarski+VisualBackProp__model.t7b": (1, 1, 125, 637),
    "wild/socurites+tic-tac-toe-rl.torch__tictactoc-10-O.t7": (1, 0),
    "wild/socurites+tic-tac-toe-rl.torch__tictactoc-18000-O.t7": (1, 0),
    "wild/tuotuoxp+cpp-torch__example__basic__net.t7": (1, 0),
    "wild/twitter+torch-autograd__test__data__model.th.51": (1, 0),
    "wild/twitter+torch-autograd__test__data__model.th.52": (1, 0),
    "wild/twitter+torch-autograd__test__data__model.th.53": (1, 0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_opencv_agrees(name: str) -> None:
    """Names, types, weights, and the output of every layer of every network.

    Layers differ by at most 1e-5 of the largest number. Behind instance normalization it is 3e-4:
    OpenCV divides by sqrt(1 + eps) and without eps in the variance, Torch7 with it.
    """
    cv2: Any = pytest.importorskip("cv2")
    if not hasattr(cv2.dnn, "readNetFromTorch"):
        pytest.skip("OpenCV 5 has no importer of Torch7 networks")
    file = next((root / name for root in (FIXTURES.parent, SHARED) if (root / name).exists()), None)
    if file is None:
        pytest.skip("not here")
    theirs, ours = cv2.dnn.readNetFromTorch(str(file)), readNetFromTorch(file)
    assert ours.getLayerNames() == theirs.getLayerNames()
    assert ours.getUnconnectedOutLayersNames() == theirs.getUnconnectedOutLayersNames()
    assert list(ours.getUnconnectedOutLayers()) == list(theirs.getUnconnectedOutLayers())
    assert ours.getLayerTypes() == theirs.getLayerTypes()
    shape = NETWORKS[name]
    if not shape[-1]:
        shape = (1, theirs.getLayer(1).blobs[0].shape[1])
    blob = np.random.default_rng(0).random(shape, dtype=np.float32)
    theirs.enableFusion(False)
    theirs.enableWinograd(False)
    normalized = False
    for layer in theirs.getLayerNames():
        blobs = ours.getLayer(layer).blobs
        for mine, other in zip(blobs, theirs.getLayer(layer).blobs, strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-9)
        normalized |= layer.endswith("_MVN")
        if layer.endswith("_MVN"):
            continue
        ours.setInput(blob)
        theirs.setInput(blob)
        expected = theirs.forward(layer)
        found = ours.forward(layer)
        assert found.shape == expected.shape
        limit = (3e-4 if normalized else 1e-5) * max(1, abs(expected).max())
        assert abs(found - expected).max() < limit, layer
    assert abs(ours.forward() - theirs.forward()).max() < limit


def test_torch7_agrees() -> None:
    io = t7.load(FIXTURES / "compat" / "branches_io.t7")
    net = readNetFromTorch(BRANCHES)
    net.setInput(np.asarray(io["input"]))
    np.testing.assert_allclose(net.forward(), io["output"], atol=2e-6)
    for number in range(2):
        net.setInput(np.asarray(io["input"])[number : number + 1])
        assert net.forward().shape == (1, 10)


def test_the_layers_of_branches_are_opencvs() -> None:
    """What OpenCV 4.14 lists: numbers are left out where it once added a layer to split."""
    net = readNetFromTorch(BRANCHES)
    assert net.getLayerNames()[4:13] == (
        "l5_Convolution",
        "l7_torchMerge",
        "l9_Convolution",
        "l10_Identity",
        "l11_Identity",
        "l12_torchCAddTable",
        "l14_Convolution",
        "l15_Convolution",
        "l16_torchMerge",
    )
    assert net.getUnconnectedOutLayersNames() == ("l29_Softmax",)


def test_training_mode_normalizes_each_image(tmp_path: Path) -> None:
    """`evaluate=False`: as in OpenCV, each image by itself where the file is in training mode."""
    rng = np.random.default_rng(0)
    fields = {name: rng.random(3) for name in ("weight", "bias", "running_mean", "running_var")}
    norm = LuaObject(
        "nn.SpatialBatchNormalization",
        LuaTable({**fields, "eps": 1e-5, "momentum": 0.1, "affine": True, "train": True}),
    )
    t7.save(norm, tmp_path / "norm.t7")
    blob = rng.random((2, 3, 4, 5)).astype(np.float32)
    mean, std = blob.mean((2, 3), keepdims=True), blob.std((2, 3), keepdims=True)
    expected = (blob - mean) / std * fields["weight"].reshape(-1, 1, 1)
    expected = expected + fields["bias"].reshape(-1, 1, 1)
    net = readNetFromTorch(tmp_path / "norm.t7", evaluate=False)
    net.setInput(blob)
    np.testing.assert_allclose(net.forward(), expected, atol=1e-3)
    assert net.getLayerNames() == ("l1_MVN", "l2_BatchNorm")
    assert abs(net.getLayer(2).blobs[0]).max() == 0
    assert readNetFromTorch(tmp_path / "norm.t7").getLayerNames() == ("l1_BatchNorm",)


def test_the_eps_of_each_image_is_that_of_the_file(tmp_path: Path) -> None:
    fields = {"running_mean": np.zeros(1), "running_var": np.ones(1), "eps": 3.0, "train": True}
    t7.save(LuaObject("nn.SpatialBatchNormalization", LuaTable(fields)), tmp_path / "norm.t7")
    net = readNetFromTorch(tmp_path / "norm.t7", evaluate=False)
    net.setInput(np.float32([-1, 1]).reshape(1, 1, 1, 2))
    # Mean 0, variance 1: divided by √(1 + 3).
    np.testing.assert_allclose(net.forward().ravel(), [-0.5, 0.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [2, 4, 6]),
        ({"scalefactor": 0.5}, [1, 2, 3]),
        ({"mean": (1, 2)}, [1, 2, 6]),
        # What is subtracted has the scale of the blob.
        ({"scalefactor": 0.5, "mean": (1, 2, 3)}, [0.5, 1, 1.5]),
    ],
)
def test_a_mean_is_subtracted_from_the_input_before_it_is_scaled(
    options: dict[str, Any], expected: list[float], tmp_path: Path
) -> None:
    t7.save(LuaObject("nn.Identity"), tmp_path / "net.t7")
    net = readNetFromTorch(tmp_path / "net.t7")
    net.setInput(np.float32([2, 4, 6]).reshape(1, 3, 1, 1), **options)
    assert net.forward().ravel().tolist() == expected


def test_asking_for_layers_leaves_nothing_behind() -> None:
    """Each call would be slower than the one before, and hold its outputs."""

    def hooks() -> int:
        return sum(len(module._forward_hooks) for module in net._module.modules())

    net = readNetFromTorch(BRANCHES)
    net.setInput(np.zeros((1, 3, 16, 16), np.float32))
    before = hooks()
    net.forward(["l1_Convolution", "l2_ReLU"])
    net.forward("l5_Convolution")
    assert hooks() == before
    with pytest.raises(TorchliftError):
        net.forward(["l1_Convolution", "l16_torchMerge", "nope"])
    assert hooks() == before


def test_several_names_give_their_outputs_in_that_order() -> None:
    net = readNetFromTorch(BRANCHES)
    blob = np.linspace(-1, 1, 768, dtype=np.float32).reshape(1, 3, 16, 16)
    net.setInput(blob)
    names = ["l5_Convolution", "l1_Convolution", ""]
    expected = [net.forward(name) for name in names]
    for found in (net.forward(names), [one for (one,) in net.forwardAndRetrieve(names)]):
        for mine, alone in zip(found, expected, strict=True):
            assert mine.dtype == np.float32
            np.testing.assert_array_equal(mine, alone)
    assert net.forward().shape == (1, 10)
    ticks, layers = net.getPerfProfile()
    assert ticks > 0
    assert layers.shape == (0, 1)


def test_asking_for_layers_changes_no_number() -> None:
    net = readNetFromTorch(BRANCHES)
    blob = np.linspace(0, 1, 768, dtype=np.float32).reshape(1, 3, 16, 16)
    net.setInput(blob)
    before = net.forward()
    first, relu = net.forward(["l1_Convolution", "l2_ReLU"])
    assert (first < 0).any(), "the ReLU that works in place wrote into it"
    np.testing.assert_array_equal(relu, np.maximum(first, 0))
    assert len(net.forwardAndRetrieve(["l1_Convolution"])[0]) == 1
    np.testing.assert_array_equal(net.forward(), before)
    blob[:] = 0
    np.testing.assert_array_equal(net.forward(), before)


def test_a_layer_that_writes_into_its_input_changes_no_output_that_is_asked_for() -> None:
    """Converted layers do not, a plugin's may: what is recorded is a copy."""
    net = readNetFromTorch(BRANCHES)
    net.setInput(np.linspace(-1, 1, 768, dtype=np.float32).reshape(1, 3, 16, 16))
    before = net.forward("l1_Convolution")
    net._module.set_submodule("1", nn.ReLU(inplace=True))
    np.testing.assert_array_equal(net.forward("l1_Convolution"), before)


def test_a_module_that_is_a_field_of_its_own_is_no_layer(tmp_path: Path) -> None:
    """As an activation that a container copies; what stands in a table is one."""
    layers = LuaTable.from_list([LuaObject("nn.Tanh"), LuaObject("nn.Sigmoid")])
    network = LuaObject("nn.Sequential", LuaTable({"modules": layers}))
    network.fields["activation"] = LuaObject("nn.ReLU")
    t7.save(network, tmp_path / "net.t7")
    assert readNetFromTorch(tmp_path / "net.t7").getLayerNames() == ("l1_TanH", "l2_Sigmoid")


def test_scale_and_mean_of_set_input() -> None:
    net = readNetFromTorch(FIXTURES / "cifar" / "cifar-convnet-bn.t7")
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 32), dtype=np.uint8)
    net.setInput(image, "", 1 / 64, (125.0, 123.0))
    found = net.forward()
    net.setInput((image - np.float32([125, 123, 0]).reshape(3, 1, 1)) / 64)
    np.testing.assert_allclose(found, net.forward(), atol=1e-5)
    # OpenCV's scalars have four numbers. The blob is the caller's.
    blob = image.astype(np.float32)
    net.setInput(blob, "", 1 / 64, (125.0, 123.0, 0.0, 9.0))
    np.testing.assert_allclose(found, net.forward(), atol=1e-5)
    np.testing.assert_array_equal(blob, image)


def test_of_a_table_the_last_entry_is_the_output(tmp_path: Path) -> None:
    """OpenCV's net ends in the layer that was added last, however deep it stands."""

    def branches(*modules: LuaObject) -> LuaObject:
        return LuaObject("nn.ConcatTable", LuaTable({"modules": LuaTable.from_list([*modules])}))

    square, root = LuaObject("nn.Square"), LuaObject("nn.Sqrt")
    t7.save(branches(root, branches(root, square)), tmp_path / "net.t7")
    net = readNetFromTorch(tmp_path / "net.t7")
    net.setInput(np.full((1, 1, 2, 2), 9, np.float32))
    assert net.forward().tolist() == np.full((1, 1, 2, 2), 81).tolist()


def test_blobs_of_files(tmp_path: Path) -> None:
    t7.save(np.arange(6).reshape(2, 3), tmp_path / "mean.t7")
    blob = readTorchBlob(str(tmp_path / "mean.t7"))
    assert (blob.tolist(), blob.dtype) == ([[0, 1, 2], [3, 4, 5]], np.float32)
    t7.save("text", tmp_path / "text.t7")
    with pytest.raises(TorchliftError, match="tensor was expected"):
        readTorchBlob(tmp_path / "text.t7")


def test_errors() -> None:
    net = readNetFromTorch(BRANCHES)
    with pytest.raises(TorchliftError, match="no input is set"):
        net.forward()
    net.setInput(np.zeros((1, 3, 16, 16), np.float32))
    with pytest.raises(TorchliftError, match="no layer 'nope'"):
        net.forward("nope")
    assert net.getLayerId("nope") == -1
    with pytest.raises(TorchliftError, match="getLayerNames"):
        net.getLayer("nope")
    with pytest.raises(TorchliftError, match="no such file"):
        readNetFromTorch("missing.t7")
    net.setPreferableBackend(3)
    assert not net.empty()
    assert net.forward().shape == (1, 10)


def test_a_step_inside_a_layer_has_no_output_of_its_own(tmp_path: Path) -> None:
    """`nn.Parallel` is a slice, a reshape, its branches and a merge in OpenCV."""
    branches = LuaTable.from_list([LuaObject("nn.Tanh"), LuaObject("nn.Sigmoid")])
    fields = {"inputDimension": 2.0, "outputDimension": 2.0, "modules": branches}
    t7.save(LuaObject("nn.Parallel", LuaTable(fields)), tmp_path / "p.t7")
    net = readNetFromTorch(tmp_path / "p.t7")
    x = np.random.default_rng(0).standard_normal((1, 2, 3, 4)).astype(np.float32)
    net.setInput(x)
    steps = ["l1_torchSplit", "l2_torchReshape"]
    for step in steps:
        with pytest.raises(TorchliftError, match=f"{step} is a step inside .* the layer after it"):
            net.forward(step)
    assert net.getLayerNames() == (*steps, "l3_TanH", "l4_Sigmoid", "l5_torchMerge")
    expected = np.concatenate([np.tanh(x[:, 0]), 1 / (1 + np.exp(-x[:, 1]))], axis=1)
    assert np.abs(net.forward("l5_torchMerge") - expected).max() < 1e-6


@pytest.mark.parametrize(("target", "warns"), [(0, False), (5, False), (6, True), (7, True)])
def test_the_targets_of_cuda_need_a_gpu(
    target: int, warns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one the CPU computes, which is said."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    net = readNetFromTorch(BRANCHES)
    net.setInput(np.zeros((1, 3, 16, 16), np.float32))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net.setPreferableTarget(target)
    assert [str(one.message) for one in caught] == (
        ["PyTorch finds no GPU: the CPU computes"] if warns else []
    )
    assert net.forward().shape == (1, 10)


def test_the_target_is_where_the_network_goes_and_its_input(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    net = readNetFromTorch(BRANCHES)
    moved: list[torch.device] = []
    monkeypatch.setattr(net._module, "to", moved.append)
    for target in (6, 7, 0):
        net.setPreferableTarget(target)
    assert moved == [torch.device("cuda"), torch.device("cuda"), torch.device("cpu")]
    assert net._device == moved[-1]


def test_every_layer_in_training_mode_normalizes_each_image_wherever_it_stands(
    tmp_path: Path,
) -> None:
    """Only those: the running statistics of one in evaluation mode count."""
    statistics = {"running_mean": np.full(2, 3.0), "running_var": np.full(2, 4.0), "eps": 0.0}
    norms = [
        LuaObject("nn.SpatialBatchNormalization", LuaTable({**statistics, "train": train}))
        for train in (False, True)
    ]
    inner = LuaObject("nn.Sequential", LuaTable({"modules": LuaTable.from_list(norms[1:])}))
    layers = LuaTable.from_list([norms[0], inner])
    t7.save(LuaObject("nn.Sequential", LuaTable({"modules": layers})), tmp_path / "net.t7")
    blob = np.random.default_rng(0).random((2, 2, 3, 4)).astype(np.float32)
    fixed = (blob - 3) / 2
    mean, std = fixed.mean((2, 3), keepdims=True), fixed.std((2, 3), keepdims=True)
    for evaluate, names, expected in (
        (False, "l1_BatchNorm l2_MVN l3_BatchNorm", (fixed - mean) / std),
        (True, "l1_BatchNorm l2_BatchNorm", (fixed - 3) / 2),
    ):
        net = readNetFromTorch(tmp_path / "net.t7", evaluate=evaluate)
        net.setInput(blob)
        assert " ".join(net.getLayerNames()) == names
        np.testing.assert_allclose(net.forward(), expected, atol=1e-4)
        np.testing.assert_allclose(net.forward("l1_BatchNorm"), fixed, atol=1e-5)
        # OpenCV's weights of the last one: mean 0 and variance 1 behind a step that normalizes.
        mean_blob, variance_blob = net.getLayer(names.split()[-1]).blobs
        assert mean_blob.tolist() == [[3.0 if evaluate else 0.0]] * 2
        assert variance_blob.tolist() == [[4.0 if evaluate else 1.0]] * 2
