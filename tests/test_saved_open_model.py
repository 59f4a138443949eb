"""What `open_model` decides: class names, preprocessing, shapes of inputs, kinds of outputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_support import linear, module, sequential, write
from support import FIXTURES
from torch import nn

from torchlift.converters import convert, saved, t7
from torchlift.converters.errors import LabelsError
from torchlift.converters.images import PreprocessingError
from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.saved import SavedModel, SavedModelError


def test_float64_is_cast_to_float32_with_a_note_by_open_model_only(tmp_path: Path) -> None:
    cases = t7.load(FIXTURES / "layers" / "linear.t7").values()
    linear = next(case["module"] for case in cases if case["class"] == "nn.Linear")
    linear.fields["weight"] = linear["weight"].astype(np.float64)
    linear.fields["bias"] = linear["bias"].astype(np.float64)
    module = convert(linear)
    assert module.weight.dtype == torch.float64
    saved.save(SavedModel(module, "logits"), tmp_path / "m")
    assert saved.load(tmp_path / "m").module.weight.dtype == torch.float64
    cast = saved.open_model(tmp_path / "m")
    assert cast.module.weight.dtype == torch.float32
    assert any("float64 to float32" in note for note in cast.notes)


def test_a_file_of_two_floating_types_has_one_when_it_is_opened(tmp_path: Path) -> None:
    """char-rnn on a CPU: doubles and nn.OneHot; and a network of float and double layers."""
    one_hot = module("nn.OneHot", outputSize=5, _eye=np.eye(5))
    double = linear(5, 4)
    double.fields["weight"] = double["weight"].astype(np.float64)
    double.fields["bias"] = double["bias"].astype(np.float64)
    for first, inputs in ((one_hot, torch.tensor([1.0, 2.0])), (linear(5, 5), torch.rand(2, 5))):
        file = write(sequential(first, double), tmp_path)
        model = saved.open_model(file)
        output = model.module(inputs)
        assert output.dtype == torch.float32
        rows = torch.eye(5)[:2] if first is one_hot else model.module[0](inputs)
        expected = rows.detach().numpy() @ double["weight"].T + double["bias"]
        assert np.abs(output.detach().numpy() - expected).max() < 1e-6
        assert any("cast from float64 to float32" in note for note in model.notes)


def test_a_cast_leaves_the_layers_that_make_whole_numbers(tmp_path: Path) -> None:
    """`nn.Copy` to LongTensors cuts decimals off, whatever the type of the parameters."""
    copy = module("nn.Copy", gradInput=np.zeros(0), output=np.zeros(0, np.int64))
    double = linear(3, 3)
    double.fields["weight"], double.fields["bias"] = np.eye(3), np.full(3, 0.75)
    model = saved.open_model(write(sequential(double, copy), tmp_path))
    assert model.module[0].weight.dtype == torch.float32
    output = model.module(torch.tensor([[0.0, 1.0, 2.5]]))
    assert output.dtype == torch.int64
    assert output.tolist() == [[0, 1, 3]]


def test_a_checkpoints_class_names_are_used_unless_others_are_given() -> None:
    file = FIXTURES / "digits" / "digits-lenet5-bn_uncleared.t7"
    assert saved.open_model(file).labels[:2] == ["zero", "one"]
    names = [f"digit {i}" for i in range(10)]
    assert saved.open_model(file, labels=names, at="model").labels == names
    with pytest.raises(LabelsError, match="9 class names for 10 outputs"):
        saved.open_model(file, labels=names[:9])


def test_digits_reach_torch7s_outputs_and_accuracy() -> None:
    """Labels, preprocessing and network together, against what Lua computed and printed."""
    folder = FIXTURES / "digits"
    model = saved.open_model(
        folder / "digits-lenet5-bn.t7",
        labels=folder / "digits_classes.t7",
        mean_std=folder / "digits_meanStd.t7",
    )
    assert model.preprocessing is not None
    assert model.preprocessing.color == "gray"
    assert any("0 to 255" in note for note in model.notes)
    test = t7.load(folder / "digits-test.t7")
    truth = t7.to_torch(t7.load(folder / "digits-lenet5-bn_lua_outputs.t7"))
    with torch.no_grad():
        output = model.module(torch.from_numpy(model.preprocessing(test["data"])))
    expected = truth["log_probabilities"]
    assert (output - expected).abs().max() < 1e-5 * expected.abs().max()
    correct = output.argmax(1).numpy() + 1 == test["label"]
    assert correct.mean() == truth["test_accuracy"]


#: Numbers within 0 to 1.
NORMALIZED = t7.LuaTable({"mean": 0.5, "std": 0.25})
#: Numbers that fit any value range.
CENTERED = t7.LuaTable({"mean": 0.0, "std": 1.0})
DIGITS = FIXTURES / "digits" / "digits-lenet5.t7"


def test_mean_and_std_give_one_note_with_value_range_and_resizing() -> None:
    model = saved.open_model(DIGITS, mean_std=NORMALIZED)
    assert model.preprocessing is not None
    assert model.preprocessing.resize == "pil-bilinear"
    assert model.notes == [
        "mean 0.5 and std 0.25 fit values from 0 to 1; images are resized to 32×32 by pil-bilinear"
    ]
    model = saved.open_model(DIGITS, mean_std=NORMALIZED, resize="image.scale-bicubic:^40")
    assert len(model.notes) == 1
    assert "resized to ^40 by image.scale-bicubic and cropped to 32×32" in model.notes[0]


def test_the_value_range_is_given_where_mean_and_std_fit_any(tmp_path: Path) -> None:
    with pytest.raises(PreprocessingError, match=r"lenet5\.t7: mean 0 and std 1 .*value_range=1"):
        saved.open_model(DIGITS, mean_std=CENTERED)
    model = saved.open_model(DIGITS, mean_std=CENTERED, value_range=255)
    assert model.preprocessing is not None
    assert model.preprocessing.value_range == 255
    alone = saved.open_model(DIGITS, value_range=(-1, 1)).preprocessing
    assert alone is not None
    assert (alone.value_range, alone.mean, alone.std) == ((-1, 1), (), ())
    with pytest.raises(PreprocessingError, match=r"resize=pil-box needs mean and std too"):
        saved.open_model(DIGITS, resize="pil-box")
    saved.save(model, tmp_path / "m")
    assert saved.open_model(tmp_path / "m", value_range=255).preprocessing == model.preprocessing
    with pytest.raises(PreprocessingError, match=r"value_range=1 is not the model's own"):
        saved.open_model(tmp_path / "m", value_range=1)


def test_a_checkpoints_own_mean_and_std_are_used(tmp_path: Path) -> None:
    network = t7.load(DIGITS)
    for value_range, mean in ((1, 0.25), (255, 33.5)):
        file = tmp_path / f"{value_range}.t7"
        t7.save({"model": network, "mean": mean, "std": 0.5}, file)
        model = saved.open_model(file)
        assert model.preprocessing is not None
        assert (model.preprocessing.mean, model.preprocessing.value_range) == ((mean,), value_range)
    file = tmp_path / "open.t7"
    t7.save({"model": network, "mean": 0.0, "std": 1.0}, file)
    left_out = saved.open_model(file)
    assert left_out.preprocessing is None
    assert any("fit any range" in note for note in left_out.notes)
    assert saved.open_model(file, value_range=255).preprocessing is not None


def test_the_input_size_can_be_given_if_it_does_not_follow_from_the_layers() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert saved.infer_input_shape(network) is None
    assert saved.infer_input_shape(network, (50, 70)) == (3, 50, 70)
    assert saved.infer_input_shape(nn.Sequential(nn.Linear(9, 2))) is None
    assert saved.open_model(DIGITS, input_size=(33, 32)).input_shape == (1, 33, 32)
    with pytest.raises(SavedModelError, match=r"lenet5\.t7: .* no input of 64×64; 32×32 fits"):
        saved.open_model(DIGITS, input_size=(64, 64))


def test_a_given_input_size_replaces_resizing_and_crop(tmp_path: Path) -> None:
    """Images of the given size reach the network whole."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    preprocessing = Preprocessing(size="^40", crop=(32, 32), mean=(0.5,), std=(0.25,))
    folder = tmp_path / "m"
    saved.save(SavedModel(network, "features", (3, 32, 32), preprocessing=preprocessing), folder)
    assert saved.open_model(folder).preprocessing == preprocessing
    model = saved.open_model(folder, input_size=(20, 24))
    assert model.input_shape == (3, 20, 24)
    assert model.preprocessing == replace(preprocessing, size=(20, 24), crop=None)
    for said in ({"input_size": (20, 24)}, {"input": "3x20x24"}):
        assert saved.open_model(folder, **said).preprocessing == model.preprocessing


@pytest.mark.parametrize("said", [{"input_size": (32, 32)}, {"input": "3x32x32"}])
def test_the_size_that_images_have_after_the_crop_changes_nothing(
    tmp_path: Path, said: dict[str, Any]
) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    preprocessing = Preprocessing(size="^40", crop=(32, 32), mean=(0.5,), std=(0.25,))
    model = SavedModel(network, "features", (3, 32, 32), preprocessing=preprocessing)
    folder = saved.save(model, tmp_path / "m")
    assert saved.open_model(folder, **said).preprocessing == preprocessing
    # A resizing that is said beside it keeps the crop too.
    resized = saved.open_model(folder, **said, resize="pil-box:36").preprocessing
    assert resized == replace(preprocessing, size="36", resize="pil-box")


def test_inferring_the_input_shape_does_not_change_shared_and_tied_layers() -> None:
    first, last = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
    last.weight = first.weight
    network = nn.Sequential(first, first, last, nn.Flatten(), nn.Linear(1024, 2)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert saved.infer_input_shape(network) == (1, 32, 32)
    assert saved.output_shape(network, (1, 32, 32)) == (2, 2)
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert network[2].weight is network[0].weight


def test_the_last_layer_tells_what_the_outputs_are() -> None:
    linear = nn.Linear(2, 2)
    assert saved.infer_output_kind(nn.Sequential(linear, nn.LogSoftmax(1))) == "log_probabilities"
    assert saved.infer_output_kind(nn.Sequential(linear, nn.Softmax(1))) == "probabilities"
    assert saved.infer_output_kind(nn.Sequential(linear, nn.Sigmoid())) == "probabilities"
    assert saved.infer_output_kind(nn.Sequential(linear, nn.Softmax2d())) == "probabilities"
    assert saved.infer_output_kind(nn.Sequential(linear, nn.Tanh())) == "features"
    assert saved.infer_output_kind(nn.Sequential(nn.Sigmoid(), linear)) == "logits"
    assert saved.infer_output_kind(nn.Sequential(nn.ReLU(), linear, nn.Dropout())) == "logits"
    assert saved.infer_output_kind(nn.Sequential(linear, nn.ReLU())) == "features"
