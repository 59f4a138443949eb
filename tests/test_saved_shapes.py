"""What the layers of a network tell of its inputs and outputs: usual sizes, last layers, hints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from torchlift.converters import convert
from torchlift.converters.modules.layers.container import Concat, ConcatTable, DepthConcat, Parallel
from torchlift.converters.modules.layers.embedding import LookupTable
from torchlift.converters.modules.layers.identity import Cast, GradientReversal, L1Penalty
from torchlift.converters.modules.layers.shape import Collapse, Reshape, View
from torchlift.converters.modules.layers.squeeze import Squeeze, Unsqueeze
from torchlift.converters.modules.packages.fairseq import TemporalConvolutionTBC
from torchlift.converters.modules.packages.seq_lstm import SeqGRU, SeqLSTM
from torchlift.converters.modules.packages.torch_rnn import VanillaRNN
from torchlift.converters.saved import infer_input_shape, infer_output_kind, output_shape
from torchlift.converters.saved.first_layers import vector_size
from torchlift.converters.saved.shapes import (
    infer_inputs,
    input_hint,
    is_sigmoid_last,
    last_layer,
    output_count,
    side_by_side,
    some_image_shape,
)
from torchlift.converters.saved.told_inputs import _first_modules, told_inputs
from torchlift.converters.t7 import LuaObject, LuaTable


def pooled(window: int, side: int, channels: int = 1) -> nn.Module:
    """A classifier of images of which all sides fit that have so many windows."""
    flat = channels * side * side
    return nn.Sequential(nn.MaxPool2d(window), nn.Flatten(), nn.Linear(flat, 2)).eval()


@pytest.mark.parametrize(
    ("window", "side", "found"),
    [
        # The first of several that fit: 224, 227 and 231; 227 and 231, not 221; 256; 32; 28.
        (8, 28, 224),
        (225, 1, 227),
        (230, 1, 231),
        (250, 1, 256),
        (17, 1, 32),
        (16, 1, 28),
        (40, 1, 64),
        (33, 2, 96),
        (8, 7, 60),
        (11, 7, 80),
    ],
)
def test_of_several_sizes_that_fit_the_most_usual_is_taken(
    window: int, side: int, found: int
) -> None:
    assert infer_input_shape(pooled(window, side, 3)) == (3, found, found)


def test_colors_are_tried_before_gray_and_the_channels_of_a_layer_are_its_own() -> None:
    gray = pooled(8, 28, 1)
    assert infer_input_shape(gray) == (1, 224, 224)
    assert infer_input_shape(gray, (230, 225)) == (1, 230, 225)
    assert infer_input_shape(gray, (64, 64)) is None
    five = nn.Sequential(nn.Conv2d(5, 2, 1), pooled(8, 28, 2)).eval()
    assert infer_input_shape(five) == (5, 224, 224)
    # A vector of 75 is 5×5 in three colors, or 75 features that no image has.
    flat = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192), nn.Linear(192, 2)).eval()
    assert infer_input_shape(flat) == (3, 8, 8)


def test_channels_of_somebodys_layer_count_if_they_are_a_number() -> None:
    class Own(nn.Conv2d):
        """Convolutions of several groups, as a layer may call their channels."""

        def __init__(self) -> None:
            super().__init__(3, 2, 1)
            self.in_channels: Any = (1, 2)

        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return torch.conv2d(input, self.weight)

    assert some_image_shape(nn.Sequential(Own())) == (3, 224, 224)


def test_a_network_of_twice_the_size_takes_any() -> None:
    maps = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    assert infer_input_shape(maps) is None
    assert some_image_shape(maps) == (1, 224, 224)
    assert some_image_shape(nn.Sequential(nn.ReLU())) == (3, 224, 224)
    assert some_image_shape(pooled(8, 28)) == (1, 224, 224)
    assert some_image_shape(nn.Linear(4, 2)) is None
    assert some_image_shape(nn.Sequential(nn.Conv1d(1, 2, 3))) is None
    # Several outputs are fine there, as long as each has a row for each image.
    assert some_image_shape(ConcatTable(nn.Conv2d(3, 2, 1), nn.Identity())) == (3, 224, 224)
    assert some_image_shape(ConcatTable(nn.Conv2d(3, 2, 1), View([-1, 4]))) is None


@pytest.mark.parametrize(
    "first",
    [
        *(LookupTable(7, 3), nn.Embedding(7, 3), SeqLSTM(3, 4), SeqGRU(3, 4), VanillaRNN(3, 4)),
        *(nn.LSTM(3, 4), nn.GRU(3, 4), nn.Conv1d(3, 2, 1), nn.Conv3d(3, 2, 1)),
        nn.ConvTranspose3d(3, 2, 1),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_of_sequences_and_volumes_take_no_image(first: nn.Module) -> None:
    class Any4(nn.Module):
        """Somebody's code that would take images."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.flat = first, pooled(8, 28, 3)

        def forward(self, input: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.flat(input)
            return output

    assert infer_input_shape(Any4()) is None
    assert some_image_shape(Any4()) is None


@pytest.mark.parametrize(
    ("layer", "hint"),
    [
        (LookupTable(7, 3), "?:int64"),
        (SeqLSTM(3, 4), "?x3"),
        (SeqGRU(3, 4), "?x3"),
        (TemporalConvolutionTBC(3, 4, 1), "?x3"),
        (VanillaRNN(3, 4), "?x3"),
        (nn.GRU(3, 4), "?x3"),
        (nn.RNN(3, 4), "?x3"),
        (nn.ConvTranspose3d(3, 4, 1), "3x?x?x?"),
        (nn.ConvTranspose2d(3, 4, 1), "3x?x?"),
        (nn.BatchNorm1d(6), "6"),
        (nn.PReLU(), ""),
        (nn.Bilinear(3, 4, 5), ""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_kind_of_layer_suggests_its_own_axes(layer: nn.Module, hint: str) -> None:
    assert input_hint(nn.Sequential(nn.ReLU(), layer, nn.Linear(2, 2))) == hint


@pytest.mark.parametrize(
    "behind",
    [
        *(View([2]), Reshape([2]), Collapse(1), Squeeze(), Unsqueeze(0), nn.Flatten()),
        *(nn.Identity(), nn.Dropout(), Cast("torch.FloatTensor"), GradientReversal()),
        L1Penalty(0.1),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_what_changes_no_value_is_not_the_last_layer(behind: nn.Module) -> None:
    softmax = nn.LogSoftmax(1)
    network = nn.Sequential(nn.Linear(4, 2), nn.Sequential(softmax, behind))
    assert last_layer(network) is softmax
    assert infer_output_kind(network) == "log_probabilities"
    assert is_sigmoid_last(nn.Sequential(nn.Sigmoid(), behind))
    assert not is_sigmoid_last(nn.Sequential(nn.Sigmoid(), nn.Tanh(), behind))


def test_a_network_of_nothing_gives_features() -> None:
    for network in (nn.Sequential(nn.Identity()), nn.Flatten()):
        assert last_layer(network) is None
        assert infer_output_kind(network) == "features"
        assert output_count(network) is None
        assert side_by_side(network) == 1


def test_branches_are_classifiers_if_they_end_in_a_softmax() -> None:
    def head(last: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 4), last)

    logs = [head(nn.LogSoftmax(1)) for _ in range(3)]
    assert side_by_side(Concat(*logs, dim=1)) == 3
    assert side_by_side(Concat(logs[0], head(nn.Tanh()), logs[1], dim=1)) == 2
    assert side_by_side(Concat(logs[0], dim=1)) == 1
    assert side_by_side(Concat(logs[0], logs[1], head(nn.Tanh()), dim=1)) == 2
    assert side_by_side(DepthConcat(head(nn.Softmax(1)), head(nn.Softmax2d()), dim=1)) == 2
    assert side_by_side(Parallel(*logs[:2], input_dim=1, output_dim=1)) == 2
    assert side_by_side(Parallel(*logs[:2])) == 2
    # A table keeps them apart.
    assert side_by_side(ConcatTable(*logs[:2])) == 1
    assert side_by_side(Concat(*(head(nn.Sigmoid()) for _ in "ab"), dim=1)) == 1


def test_vectors_of_code_that_flattens_images_are_not_told() -> None:
    class Flattens(nn.Sequential):
        """Somebody's: it takes images, whatever its first layer takes."""

        def forward(self, input: torch.Tensor) -> torch.Tensor:
            if input.dim() != 4:
                raise ValueError("images were expected")
            output: torch.Tensor = super().forward(input.flatten(1))
            return output

    layers = nn.Linear(12, 4), nn.Tanh()
    assert str(infer_inputs(nn.Sequential(*layers))) == "12"
    assert infer_inputs(Flattens(*layers)) is None
    assert (output_count(nn.Sequential(layers[0])), output_count(Flattens(layers[0]))) == (4, None)
    assert vector_size(None) is None
    assert vector_size(nn.BatchNorm2d(3)) is None


def test_an_output_has_the_two_examples_in_front() -> None:
    assert output_shape(View([-1, 2]), (4, 1, 1)) is None
    assert output_shape(nn.Conv2d(3, 5, 2).double(), (3, 4, 4)) == (2, 5, 3, 3)


def lua(name: str, **fields: Any) -> LuaObject:
    return LuaObject(name, LuaTable({"_type": "torch.FloatTensor", "train": False, **fields}))


def sequential(*layers: LuaObject, **fields: Any) -> LuaObject:
    return lua("nn.Sequential", modules=LuaTable.from_list([*layers]), **fields)


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def volumes(**fields: Any) -> LuaObject:
    window = {f"{name}{axis}": 1 for name in "kd" for axis in "TWH"}
    pads = dict.fromkeys(("padT", "padW", "padH"), 0)
    planes = {"nInputPlane": 2, "nOutputPlane": 3}
    weights = {"weight": zeros(3, 2, 1, 1, 1), "bias": zeros(3)}
    return lua("nn.VolumetricConvolution", **planes, **window, **pads, **weights, **fields)


def steps(**fields: Any) -> LuaObject:
    sizes = {"inputFrameSize": 6, "outputFrameSize": 3, "kW": 1, "dW": 1}
    weights = {"weight": zeros(3, 6), "bias": zeros(3)}
    return lua("nn.TemporalConvolution", **sizes, **weights, **fields)


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (sequential(volumes(gradInput=zeros(4, 2, 5, 6, 7))), ("2x5x6x7", "modules[1].gradInput")),
        (sequential(steps(input=zeros(4, 9, 6))), ("9x6", "modules[1].input")),
        (steps(gradInput=zeros(9, 6)), ("9x6", "gradInput")),
        # What was kept of the input comes before what was given back, and the outside first.
        (steps(_input=zeros(8, 6), gradInput=zeros(9, 6)), ("8x6", "_input")),
        (sequential(steps(input=zeros(8, 6)), gradInput=zeros(9, 6)), ("9x6", "gradInput")),
        (
            sequential(sequential(lua("nn.Copy", intype="torch.FloatTensor",
                outtype="torch.FloatTensor"), steps(input=zeros(8, 6)))),
            ("8x6", "modules[1].modules[2].input"),
        ),
        # cudnn writes the sizes themselves down, and before anything else.
        (steps(iSize=np.array([4, 9, 6]), _input=zeros(8, 6)), ("9x6", "iSize")),
        # Tanh tells no dimensions, and what is behind a layer is not the input.
        (sequential(lua("nn.Tanh", gradInput=zeros(9, 6))), None),
        (sequential(lua("nn.Tanh"), steps(input=zeros(9, 6))), None),
        (steps(gradInput=zeros(4, 3, 9, 6)), None),
    ],
)  # fmt: skip
def test_fields_of_a_file_tell_the_input_by_the_kind_of_its_first_layer(
    network: LuaObject, told: tuple[str, str] | None
) -> None:
    found = told_inputs(convert(network).eval())
    assert (None if found is None else (str(found[0]), found[1])) == told
    assert told_inputs(nn.Linear(4, 2)) is None


def test_what_is_no_module_ends_a_chain_of_them() -> None:
    damaged = lua("nn.Sequential", modules=LuaTable.from_list([5, lua("nn.Linear")]))
    assert [one.class_name for _, one in _first_modules(damaged)] == ["nn.Sequential"]
    empty = lua("nn.Sequential", modules=5)
    assert [one.class_name for _, one in _first_modules(empty)] == ["nn.Sequential"]
