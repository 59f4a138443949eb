"""Parts of a saved model, each by itself: inputs that layers tell, tensors, notes, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_support import convolution, linear, sequential, view, write
from saved_support import tiny
from torch import nn

from torchlift.converters import saved, t7
from torchlift.converters.images import Preprocessing
from torchlift.converters.input_shapes import parse_inputs
from torchlift.converters.modules.errors import ConversionError
from torchlift.converters.modules.layers.container import Concat, ConcatTable, ParallelTable
from torchlift.converters.modules.layers.linear import Bilinear
from torchlift.converters.modules.layers.squeeze import Squeeze
from torchlift.converters.modules.packages.nngraph import GModule
from torchlift.converters.modules.registry import layer, unregister_module
from torchlift.converters.saved import (
    SavedModel,
    SavedModelError,
    UpToLayer,
    apply_overrides,
    infer_input_shape,
    last_weights,
    load,
    open_model,
    output_shape,
    save,
)
from torchlift.converters.saved.first_layers import vector_inputs
from torchlift.converters.saved.shapes import input_hint
from torchlift.converters.saved.structure import build, describe
from torchlift.converters.t7 import LuaObject, LuaTable

NINE, THREE = nn.Linear(9, 4), nn.Linear(3, 4)
#: Layers whose input is not a vector, or is not told.
OTHER = (nn.Conv2d(3, 4, 3), nn.ReLU())


def graph(*steps: Any) -> GModule:
    """A graph that calls a Linear of 9, one of 3 and an Identity, in some steps."""
    return GModule(NINE, THREE, nn.Identity(), steps=list(steps), outputs=[[len(steps)]])


@pytest.mark.parametrize(
    ("module", "told"),
    [
        (NINE, "9"),
        (nn.BatchNorm1d(7), "7"),
        (nn.Sequential(nn.Dropout(), nn.Identity(), NINE, THREE), "9"),
        *((nn.Sequential(one, NINE), None) for one in OTHER),
        (nn.Sequential(), None),
        (ParallelTable(NINE, THREE), "9,3"),
        (ParallelTable(NINE, OTHER[0]), None),
        (ParallelTable(NINE), "[9]"),
        (Bilinear(5, 6, 2), "5,6"),
        # Branches of one input: what one tells holds, unless another contradicts.
        (Concat(NINE, NINE, dim=1), "9"),
        (ConcatTable(NINE, nn.Identity()), "9"),
        (ConcatTable(NINE, THREE), None),
        (ConcatTable(nn.Identity()), None),
        (graph([0, [[0]]]), "9"),
        (graph([2, [[0]]], [0, [[1]]]), "9"),
        (graph([0, [[0, 0]]], [1, [[0, 1]]]), "9,3"),
        (graph([1, [[0, 0]]], [0, [[0, 1]]]), "3,9"),
        (graph([0, [[0]]], [1, [[0]]]), None),
        # A layer that gets two values takes a table, and what is behind a layer is no input.
        (graph([0, [[0, 0], [0, 1]]]), None),
        (graph([0, [[0]]], [1, [[1]]]), "9"),
        # A step without a layer hands on what it gets.
        (graph([None, [[0]]], [0, [[1]]]), "9"),
        (graph([None, [[0, 1]]], [1, [[1]]], [0, [[0, 0]]]), "9,3"),
    ],
)
def test_vectors_are_told_by_the_first_layers(module: nn.Module, told: str | None) -> None:
    found = vector_inputs(module)
    assert (found and str(found)) == told


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ((nn.Flatten(), nn.Linear(3 * 224 * 224, 2)), (3, 224, 224)),
        ((nn.Flatten(), nn.Linear(224 * 224, 2)), (1, 224, 224)),
        ((nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2 * 227 * 227, 2)), (2, 227, 227)),
        ((nn.Flatten(), nn.BatchNorm1d(3072), nn.Linear(3072, 2)), (3, 32, 32)),
        # It gives maps: no size makes a classifier of it.
        ((nn.Conv2d(3, 2, 3),), None),
        # Nor does the one size at which nothing but the classes is left of them.
        ((nn.Conv2d(3, 2, 8), Squeeze()), None),
        ((nn.Conv1d(3, 2, 3), nn.Flatten(), nn.Linear(4, 2)), None),
    ],
)
def test_images_are_colored_unless_gray_ones_fit(layers: Any, shape: Any) -> None:
    assert infer_input_shape(nn.Sequential(*layers).eval()) == shape
    # It takes any image, of the size that is given.
    assert infer_input_shape(nn.Sequential(nn.ReLU()), (8, 6)) == (3, 8, 6)


class _Table(nn.Module):
    def forward(self, input: torch.Tensor) -> list[torch.Tensor]:
        return [input, input]


def test_an_output_has_a_shape_if_it_is_one_with_a_row_for_each_example() -> None:
    assert output_shape(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), (3, 2, 2)) == (2, 5)
    for module in (nn.Linear(5, 2), nn.Flatten(0), _Table()):
        assert output_shape(module, (3, 2, 2)) is None


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (nn.Linear(2, 2), ""),
        (nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 3), nn.ReLU()), "2"),
        (nn.Sequential(nn.Linear(2, 2), nn.Conv2d(2, 2, 1)), "0"),
        (nn.Sequential(nn.Conv2d(2, 2, 1), nn.Sequential(nn.Conv2d(2, 2, 1), nn.Tanh())), "1.0"),
        (nn.Sequential(nn.ReLU()), None),
        # A layer that stands twice is the last one, too.
        (nn.Sequential(THREE, nn.Linear(4, 3), THREE), "2"),
    ],
)
def test_the_head_is_the_last_linear_layer_or_else_the_last_convolution(
    module: nn.Module, name: str | None
) -> None:
    assert last_weights(module) == name


def test_an_image_of_a_known_size_is_no_other_input() -> None:
    model = tiny()
    for text, shape in (("1x8x8", (1, 8, 8)), ("9", None), ("1x?x?", None), ("1x9x9", (1, 9, 9))):
        model.set_inputs(parse_inputs(text))
        assert (model.input_shape, str(model.input_shapes)) == (shape, text)
        assert (model.inputs is None) == (shape is not None)


def test_a_size_that_is_given_takes_the_place_of_inputs_of_any_size() -> None:
    model = tiny()
    model.set_inputs(parse_inputs("1x?x?"))
    apply_overrides(model, "net", input_size=(8, 8))
    assert (model.input_shape, model.inputs) == ((1, 8, 8), None)


def test_numbers_of_another_type_are_cast_with_a_note(tmp_path: Path) -> None:
    def linear(kind: type) -> LuaObject:
        fields = {"weight": np.ones((2, 2), kind), "bias": np.zeros(2, kind)}
        return LuaObject("nn.Linear", LuaTable(fields))

    kinds = (np.float32, np.float64)
    modules = LuaTable.from_list([linear(kind) for kind in kinds])
    t7.save(LuaObject("nn.Sequential", LuaTable({"modules": modules})), tmp_path / "f.t7")
    file = tmp_path / "f.t7"
    for dtype, name, others in (
        (torch.float32, "float32", "float64"),
        (torch.float64, "float64", "float32"),
        (torch.float16, "float16", "float32 and float64"),
    ):
        model = open_model(file, dtype=dtype)
        assert {tensor.dtype for tensor in model.module.parameters()} == {dtype}
        assert f"parameters were cast from {others} to {name}" in model.notes
    kept = open_model(file, dtype=None)
    assert [one.dtype for one in kept.module.parameters()][::2] == [torch.float32, torch.float64]
    assert not any("cast" in note for note in kept.notes)


def test_a_network_of_buffers_alone_is_cast_too(tmp_path: Path) -> None:
    """A double batch normalization without an affine part: Torch's own type, and no parameter."""
    fields = {"running_mean": np.ones(2), "running_var": np.full(2, 4.0), "affine": False}
    norm = LuaObject("nn.BatchNormalization", LuaTable({**fields, "eps": 0.0, "train": False}))
    t7.save(norm, tmp_path / "f.t7")
    model = open_model(tmp_path / "f.t7")
    assert model.module(torch.tensor([[5.0, -1.0]])).tolist() == [[2.0, -1.0]]
    assert "parameters were cast from float64 to float32" in model.notes
    assert open_model(tmp_path / "f.t7", dtype=None).module.running_mean.dtype == torch.float64


def test_a_layer_whose_tensors_do_not_follow_from_its_arguments_is_not_saved(
    tmp_path: Path,
) -> None:
    wider = nn.Linear(4, 3)
    wider.weight = nn.Parameter(torch.zeros(3, 5))
    without = nn.BatchNorm1d(3)
    without.running_mean = None
    more = nn.Linear(4, 3)
    more.register_buffer("scale", torch.ones(1))
    for module, text in (
        (wider, r"weight has the shape \(3, 5\), but \(3, 4\) in a newly built layer"),
        (without, r"running_mean has the shape None, but \(3,\) in a newly built layer"),
        (more, r"scale has the shape \(1,\), but None in a newly built layer"),
    ):
        with pytest.raises(SavedModelError, match=text):
            save(SavedModel(module.eval(), "logits"), tmp_path / "m")
        assert not (tmp_path / "m").exists()


class Shift(nn.Module):
    """A layer with a number that no saved model has."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("by", torch.ones(1), persistent=False)


def test_a_buffer_that_is_not_saved_is_missed_when_the_model_is_opened(tmp_path: Path) -> None:
    layer(Shift)
    try:
        folder = save(SavedModel(nn.Sequential(Shift()).eval(), "features"), tmp_path / "m")
        with pytest.raises(SavedModelError, match=r"0\.by is not saved \(a buffer that is not"):
            load(folder)
    finally:
        unregister_module(__name__)


def test_what_cannot_be_written_back_to_torch7_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"weight": np.ones((2, 2), np.float32), "bias": np.zeros(2, np.float32)}
    t7.save(LuaObject("nn.Linear", LuaTable(fields)), tmp_path / "f.t7")
    model = open_model(tmp_path / "f.t7")
    assert (save(model, tmp_path / "whole") / "torch7.t7").exists()
    assert not any("written back" in note for note in model.notes)

    def refuse(*_: Any) -> Any:
        raise ConversionError("no such layer")

    monkeypatch.setattr("torchlift.converters.saved.folder.torch7_skeleton", refuse)
    for name in ("a", "b"):
        folder = save(model, tmp_path / name)
        assert not (folder / "torch7.t7").exists()
        notes = load(folder).notes
        assert notes.count("cannot be written back to .t7: no such layer") == 1


def test_a_layer_that_was_replaced_is_written_back_with_the_size_that_is_known(
    tmp_path: Path,
) -> None:
    layers = convolution(1, 2, 3), view(18), linear(18, 2)
    model = open_model(write(sequential(*layers), tmp_path), input="1x5x5")
    model.module[1] = nn.Flatten()
    folder = save(model, tmp_path / "m")
    assert t7.load(folder / "torch7.t7").class_name == "torchlift.Skeleton"
    again = load(folder)
    assert not any("written back" in note for note in again.notes)
    written = t7.load(saved.save_t7(again, tmp_path / "m.t7"))["modules"][2]
    assert (written.class_name, written["size"].tolist()) == ("nn.View", [18])


def test_errors_of_a_model_that_was_opened_name_the_layer(tmp_path: Path) -> None:
    model = load(save(tiny(), tmp_path / "m"))
    with pytest.raises(RuntimeError) as caught:
        model.module(torch.zeros(1, 1, 9, 9))
    assert "layer 3, Linear(in_features=72" in "".join(caught.value.__notes__)


def test_nothing_of_a_pass_up_to_a_layer_stays_at_the_network() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    example = torch.randn(5, 4)
    whole = network(example)
    for before, expected in ((False, network[2](network[1](network[0](example)))), (True, None)):
        cut = UpToLayer(network, "2", before=before)
        expected = network[1](network[0](example)) if expected is None else expected
        assert torch.equal(cut(example), expected)
        assert torch.equal(cut(example), expected)
        assert not network[2]._forward_hooks
        assert not network[2]._forward_pre_hooks
        assert torch.equal(network(example), whole)


@pytest.mark.parametrize(
    ("network", "hint"),
    [
        (nn.Linear(7, 2), "7"),
        (nn.Sequential(nn.Flatten(), nn.Linear(7, 2)), "7"),
        (nn.Conv2d(3, 2, 3), "3x?x?"),
        (nn.BatchNorm2d(4), "4x?x?"),
        (nn.Conv3d(3, 2, 3), "3x?x?x?"),
        (nn.BatchNorm3d(4), "4x?x?x?"),
        (nn.Conv1d(3, 2, 3), "?x3"),
        (nn.LSTM(3, 2), "?x3"),
        (nn.Embedding(9, 2), "?:int64"),
        (nn.Tanh(), ""),
    ],
)
def test_the_first_layer_with_weights_suggests_what_a_network_takes(
    network: nn.Module, hint: str
) -> None:
    assert input_hint(network) == hint


def test_another_resizing_may_be_said_of_a_saved_model(tmp_path: Path) -> None:
    model = tiny()
    model.preprocessing = Preprocessing("gray", size=(8, 8))
    folder = saved.save(model, tmp_path / "m")
    said = saved.open_model(folder, resize="pil-bicubic").preprocessing
    assert said == Preprocessing("gray", size=(8, 8), resize="pil-bicubic")
    assert saved.open_model(folder).preprocessing == model.preprocessing
    with pytest.raises(Exception, match=r"m: std=0\.5 is not the model's own, which is 1"):
        saved.open_model(folder, std=0.5)


@pytest.mark.parametrize("wrong", ["text", "other", "network"])
def test_what_keeps_a_torch7_model_is_read_as_nothing_else(wrong: str, tmp_path: Path) -> None:
    fields = {"weight": torch.ones(2, 3).numpy(), "bias": torch.zeros(2).numpy()}
    file = tmp_path / "n.t7"
    t7.save(LuaObject("nn.Linear", LuaTable(fields)), file)
    folder = saved.save(saved.open_model(file), tmp_path / "m")
    kept = folder / "torch7.t7"
    assert kept.exists()
    assert saved.load(folder).module.in_features == 3
    if wrong == "text":
        kept.write_text("nothing")
    elif wrong == "network":
        t7.save(t7.load(file), kept)
    else:
        t7.save(LuaTable({"a": 1}), kept)
    match = r"torch7\.t7" if wrong == "text" else r"torch7\.t7: damaged: a .* was expected"
    with pytest.raises(SavedModelError, match=match):
        saved.save_t7(saved.load(folder), tmp_path / "again.t7")


def test_a_layer_keeps_its_arguments_as_attributes() -> None:
    try:

        @layer
        class Forgetful(nn.Module):
            def __init__(self, size: int, kept: int = 2) -> None:
                super().__init__()
                self.kept = kept

        @layer
        class ForgetsDefaults(nn.Module):
            def __init__(self, slope: float = 0.5) -> None:
                super().__init__()

        with pytest.raises(SavedModelError, match=r"^0: Forgetful has no attribute 'size' that"):
            describe(nn.Sequential(Forgetful(3)))
        # Nobody could tell whether it was the default.
        with pytest.raises(SavedModelError, match="ForgetsDefaults has no attribute 'slope' that"):
            describe(ForgetsDefaults())
    finally:
        unregister_module(__name__)


def test_a_list_of_modules_is_described_and_built_again() -> None:
    network = nn.Sequential(nn.ModuleList([nn.Linear(2, 3), nn.Tanh()]))
    again: Any = build(describe(network))
    assert isinstance(again[0], nn.ModuleList)
    assert [type(each).__name__ for each in again[0]] == ["Linear", "Tanh"]
    assert isinstance(SavedModel(network, "features").module, nn.Sequential)


def test_a_model_that_is_loaded_shows_its_layers_and_one_kind_of_input(tmp_path: Path) -> None:
    model = load(save(tiny(), tmp_path / "m"))
    html: Any = model.module._repr_html_
    assert "<b>0</b> Conv2d(1, 2" in html()
    assert (model.input_shape, model.inputs) == ((1, 8, 8), None)


def test_a_layer_that_flattens_images_since_then_is_kept_for_torch7(tmp_path: Path) -> None:
    """How many numbers it makes of an image is known from the shape."""
    view = LuaObject("nn.View", LuaTable({"size": np.array([4], np.int64), "numElements": 4}))
    fields = {"weight": np.ones((2, 4), np.float32), "bias": np.zeros(2, np.float32)}
    layers = LuaTable.from_list([view, LuaObject("nn.Linear", LuaTable(fields))])
    t7.save(LuaObject("nn.Sequential", LuaTable({"modules": layers})), tmp_path / "f.t7")
    model = open_model(tmp_path / "f.t7", input="1x2x2")
    model.module[0] = nn.Flatten()
    folder = save(model, tmp_path / "m")
    assert not [note for note in load(folder).notes if "written back" in note]
    again = t7.load(saved.save_t7(load(folder), tmp_path / "again.t7"))
    assert again["modules"][1]["size"].tolist() == [4]
