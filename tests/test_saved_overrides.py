"""What is said of a model, over what it has and what stands beside it: each sentence and note."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_support import (
    convolution,
    linear,
    lua,
    lua_list,
    module,
    sequential,
    view,
    write,
)
from saved_support import tiny
from torch import nn

from torchlift.converters import t7
from torchlift.converters.errors import LabelsError
from torchlift.converters.images import Preprocessing, PreprocessingError
from torchlift.converters.images.image_to_image import ImageToImage
from torchlift.converters.images.normalization import Normalization
from torchlift.converters.input_shapes import parse_inputs
from torchlift.converters.modules.layers.shape import View
from torchlift.converters.saved import (
    SavedModel,
    SavedModelError,
    apply_overrides,
    open_model,
    save,
)
from torchlift.converters.saved import load as load_saved
from torchlift.converters.saved.beside import Beside, ClassNames
from torchlift.converters.saved.image_projects import FAST_NEURAL_STYLE, INPAINTING
from torchlift.converters.saved.overrides import Overrides, first_channels, override
from torchlift.converters.saved.training_batches import training_batch_notes
from torchlift.converters.vocabulary import Vocabulary


def override_of(model: SavedModel, beside: Beside | None = None, **said: Any) -> SavedModel:
    override(model, "net", Overrides(**said), beside or Beside())
    return model


def test_notes_and_vocabularies_beside_a_model_are_added_to_its_own() -> None:
    own, other = Vocabulary("own", ("a", "b")), Vocabulary("other", ("c", "d"))
    model = tiny(notes=["first"], vocabularies=[own])
    override_of(model, Beside(vocabularies=[other], notes=["second"]))
    assert model.notes == ["first", "second"]
    assert model.vocabularies == [own, other]


def test_a_size_that_does_not_fit_is_refused_with_one_that_does() -> None:
    with pytest.raises(SavedModelError) as caught:
        override_of(tiny(), input_size=(9, 7))
    begin = "net: the network takes no input of 9×7; 8×8 fits: layer 3, Linear("
    assert str(caught.value).startswith(begin)
    # Also where nobody had said yet which one.
    with pytest.raises(SavedModelError) as caught:
        override_of(SavedModel(tiny().module, "logits"), input_size=(9, 7))
    assert str(caught.value).startswith(begin)
    unknown = SavedModel(nn.Sequential(nn.Flatten(), nn.Linear(75, 3)).eval(), "logits")
    with pytest.raises(SavedModelError, match=r"^net: the network takes no input of 4×4: layer 1"):
        override_of(unknown, input_size=(4, 4))
    assert override_of(unknown, input_size=(5, 5)).input_shape == (3, 5, 5)


def test_a_network_without_a_row_for_each_image_is_said_to_have_none() -> None:
    rows = SavedModel(View([-1, 4]).eval(), "features")
    with pytest.raises(SavedModelError, match=r"4×4: it gives no row of outputs for each image$"):
        override_of(rows, input_size=(4, 4))


def test_inputs_that_are_said_are_tried_and_kept_as_they_are() -> None:
    model = SavedModel(nn.Sequential(nn.Linear(9, 4)).eval(), "logits", (3, 8, 8))
    with pytest.raises(
        SavedModelError, match=r"^net: the network does not take 8: layer 0, Linear"
    ):
        override_of(model, input="8")
    assert model.input_shape == (3, 8, 8)
    override_of(model, input=parse_inputs("board=9"))
    assert (model.input_shape, str(model.inputs)) == (None, "board=9")
    # Of a size that is known already nothing is changed: no crop is taken away.
    own = Preprocessing("gray", (8, 8), "pil-box")
    assert override_of(tiny(preprocessing=own), input="1x8x8").preprocessing is own


def test_labels_beside_a_model_are_taken_in_their_order_and_others_noted() -> None:
    beside = Beside(
        labels=[
            ClassNames("few", ["a"]),
            ClassNames("classes", ["a", "b", "c"]),
            ClassNames("same", ["a", "b", "c"]),
            ClassNames("other", ["x", "y", "z"]),
        ]
    )
    model = override_of(tiny(), beside)
    assert model.labels == ["a", "b", "c"]
    assert model.notes == [
        "few beside the model is left out: 1 class names for 3 outputs: the list belongs to "
        "another model",
        "other beside the model is left out: it has other names",
    ]


def test_names_that_are_said_are_as_many_as_the_outputs(tmp_path: Path) -> None:
    for labels in (["a", "b"], ["a", "b", "c", "d"]):
        with pytest.raises(LabelsError, match=f"{len(labels)} class names for 3 outputs"):
            override_of(tiny(), labels=labels)
    (tmp_path / "names.txt").write_text("x\ny\nz\n", encoding="utf-8")
    for given in (tmp_path / "names.txt", str(tmp_path / "names.txt"), ("x", "y", "z")):
        assert override_of(tiny(), labels=given).labels == ["x", "y", "z"]
    # Without a shape the last layer tells how many there are.
    unknown = SavedModel(nn.Sequential(nn.Linear(4, 2), nn.LogSoftmax(1)), "log_probabilities")
    with pytest.raises(LabelsError, match="3 class names for 2 outputs"):
        override_of(unknown, labels=["a", "b", "c"])


def test_a_size_is_refused_with_what_the_layers_say_of_images_with_their_channels() -> None:
    with pytest.raises(SavedModelError, match=r"^net: .* no input of 2×2; 8×8 fits: ") as caught:
        override_of(tiny(), input_size=(2, 2))
    assert "channels" not in str(caught.value)


def test_outputs_are_counted_by_a_trial_where_the_last_layers_do_not_tell() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with pytest.raises(LabelsError, match="3 class names for 4 outputs"):
        override_of(SavedModel(network, "logits", (1, 8, 8)), labels=["a", "b", "c"])
    model = override_of(SavedModel(network, "logits", (1, 8, 8)), labels=["a", "b", "c", "d"])
    assert model.labels == ["a", "b", "c", "d"]


def test_a_file_of_numbers_that_do_not_fit_is_named(tmp_path: Path) -> None:
    file = tmp_path / "numbers.json"
    file.write_text('{"mean": 0, "std": 1}', encoding="utf-8")
    with pytest.raises(PreprocessingError, match=r"numbers\.json: mean 0 and std 1 fit any range"):
        override_of(tiny(), mean_std=file)


def test_one_floating_type_is_that_of_statistics_and_of_layers_that_name_a_type(
    tmp_path: Path,
) -> None:
    """Whole numbers stay as they are."""
    statistics = {"running_mean": np.zeros(3), "running_var": np.ones(3)}
    norm = module("nn.BatchNormalization", eps=1e-5, momentum=0.1, affine=False, **statistics)
    kinds = {"gradInput": np.float32, "output": np.int64}
    empty = {name: t7.loads(t7.dumps(np.zeros(0, kind))) for name, kind in kinds.items()}
    file = write(sequential(norm, module("nn.Copy", **empty)), tmp_path)
    model = open_model(file)
    assert model.module[0].running_mean.dtype == torch.float32
    assert any("cast from float64 to float32" in note for note in model.notes)
    assert model.module[1].dtype == "int64"


MEAN = Normalization((0.5,), (0.25,), "gray", 1)


@pytest.mark.parametrize(
    ("given", "replaced"),
    [
        ({"mean": (0.4,)}, "mean as given"),
        ({"mean": (0.5,), "std": (0.25,)}, None),
        ({"mean": (0.4,), "std": (0.2,)}, "mean, std as given"),
        ({"value_range": (0.0, 2.0)}, "value_range as given"),
        ({}, None),
    ],
)
def test_what_takes_the_place_of_something_beside_the_model_is_noted(
    given: dict[str, Any], replaced: str | None
) -> None:
    model = override_of(tiny(), Beside(normalization=MEAN), normalization=Normalization(**given))
    (note,) = model.notes
    expected = f"; {replaced}, not as beside the model"
    assert note.endswith(expected) if replaced else "as given" not in note
    assert model.preprocessing is not None
    assert model.preprocessing.mean == given.get("mean", (0.5,))


def test_what_is_said_of_images_is_refused_where_it_does_not_fit_and_beside_only_noted() -> None:
    colors = Normalization((0.1, 0.2, 0.3), (0.5,), "RGB", 1)
    with pytest.raises(PreprocessingError, match=r"^net: color=RGB has 3 channels"):
        override_of(tiny(), normalization=colors)
    model = override_of(tiny(), Beside(normalization=colors))
    assert model.preprocessing is None
    assert model.notes[0].startswith("mean and std beside the model are left out: color=RGB has 3")
    with pytest.raises(PreprocessingError, match=r"^net: resize=pil-box needs mean and std too$"):
        override_of(tiny(), resize="pil-box")


def test_layers_that_do_not_fit_each_other_are_the_problem_whatever_images_are_said() -> None:
    network = nn.Sequential(nn.Conv2d(5, 16, 3), nn.BatchNorm2d(8)).eval()
    model = SavedModel(network, "features")
    with pytest.raises(PreprocessingError, match=r"^net: the layers do not fit each other: 1 "):
        override_of(model, normalization=Normalization((0.5,), (0.25,)))


def test_a_model_has_its_own_preprocessing_unless_a_file_is_given() -> None:
    own = Preprocessing("gray", (8, 8), mean=(0.5,), std=(0.25,))
    model = override_of(tiny(preprocessing=own), normalization=Normalization((0.5,)))
    assert model.preprocessing == own
    with pytest.raises(PreprocessingError, match=r"^net: mean=0\.4 is not the model's own"):
        override_of(tiny(preprocessing=own), normalization=Normalization((0.4,)))
    resized = override_of(
        tiny(preprocessing=own), normalization=Normalization((0.5,)), resize="pil-box"
    )
    assert resized.preprocessing == Preprocessing(
        "gray", (8, 8), "pil-box", mean=(0.5,), std=(0.25,)
    )
    assert resized.notes == ["images are resized to 8×8 by pil-box, as specified"]
    replaced = override_of(tiny(preprocessing=own), mean_std=lua(mean=0.25, std=0.5)).preprocessing
    assert replaced == Preprocessing("gray", (8, 8), mean=(0.25,), std=(0.5,))


@pytest.mark.parametrize(
    ("inputs", "is_refused"),
    # One image among several inputs is an image.
    [("9", True), ("?x9", True), ("9,?x9", True), ("3x?x?", False), ("9,3x?x?", False)],
)
def test_a_mean_is_for_images_of_a_known_or_a_free_size(inputs: str, is_refused: bool) -> None:
    model = SavedModel(nn.Tanh().eval(), "features")
    model.set_inputs(parse_inputs(inputs))
    said = Normalization((0.5,), (0.25,))
    if is_refused:
        match = f"^net: the network takes {re.escape(inputs)}, no images: leave out what is said"
        with pytest.raises(PreprocessingError, match=match):
            override_of(model, normalization=said)
        # How images are resized is said of images, too.
        with pytest.raises(PreprocessingError, match=match):
            override_of(model, Beside(normalization=said), resize="pil-box")
        return
    found = override_of(model, normalization=said).preprocessing
    assert found is not None
    assert found.size is None


@pytest.mark.parametrize(
    ("channels", "project", "expected"),
    [
        (3, None, None),
        # One channel more than images have is for a mask.
        (4, None, ImageToImage(1, scale=1, takes_mask=True)),
        (2, None, ImageToImage(1, scale=1, takes_mask=True)),
        (4, INPAINTING, INPAINTING.output),
        (
            4,
            FAST_NEURAL_STYLE,
            ImageToImage(1, mean=(0.5,), std=(0.25,), scale=1, takes_mask=True),
        ),
    ],
)
def test_a_network_of_one_more_channel_than_images_have_takes_a_mask(
    channels: int, project: Any, expected: ImageToImage | None
) -> None:
    model = SavedModel(nn.Conv2d(channels, 3, 1).eval(), "features")
    color = "gray" if channels == 2 else "RGB"
    known = Normalization((0.5,), (0.25,), color, 1)
    found = override_of(model, Beside(normalization=known, project=project))
    assert found.preprocessing is not None
    assert found.preprocessing.color == color
    assert found.image_to_image == expected
    named = [note for note in found.notes if note.startswith("images are prepared and written as")]
    assert named == ([f"images are prepared and written as in {project.name}"] if project else [])


def test_the_first_layer_with_weights_tells_channels_if_it_is_a_convolution_of_images() -> None:
    assert first_channels(nn.Sequential(nn.ReLU(), nn.Conv2d(5, 2, 1), nn.Conv2d(2, 9, 1))) == 5
    assert first_channels(nn.Sequential(nn.Linear(4, 3), nn.Conv2d(5, 2, 1))) is None
    assert first_channels(nn.Conv1d(5, 2, 1)) is None
    assert first_channels(nn.Tanh()) is None


class Positive(nn.Module):
    """A layer that must see a value."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input if input.sum().item() > 0 else -input


def test_a_batch_of_the_training_is_noted_once() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), View([5, 6], keep_batch=True)).eval()
    model = SavedModel(network, "features", (1, 2, 2))
    note = "2 (View): 5 is the batch of its training; here the batch is free"
    for _ in range(2):
        apply_overrides(model, "net")
        assert model.notes == [note]
    # Of images of any size, whichever runs.
    view = View([5, 8], keep_batch=True)
    pooled = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(2), view).eval()
    assert training_batch_notes(pooled, None) == [note]
    # What is behind it may need values, which the trial has not.
    pooled.append(Positive())
    assert training_batch_notes(pooled, parse_inputs("3x4x4")) == [note]
    # The sizes of one example alone, a size of 1, and a View that may be of anything are none.
    for other in (View([6], keep_batch=True), View([1, 6], keep_batch=True), View([-1, 6])):
        parts = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), other).eval()
        assert training_batch_notes(parts, parse_inputs("1x2x2")) == []
    assert training_batch_notes(nn.Sequential(View([5, 6], keep_batch=True)), None) == []


def test_a_file_is_opened_at_rest_with_its_digest_and_the_notes_of_its_layers(
    tmp_path: Path,
) -> None:
    dropout = module("nn.Dropout", p=0.5, train=True, mystery=3)
    network = sequential(linear(4, 3), dropout, view(3))
    network.fields["train"] = True
    file = write(lua(nets=lua_list(linear(2, 2), network)), tmp_path)
    model = open_model(file, at="nets[2]")
    assert not any(layer.training for layer in model.module.modules())
    assert model.source is not None
    assert model.source.file == "checkpoint.t7"
    assert model.source.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert str(model.input_shapes) == "4"
    noted = [note for note in model.notes if "mystery" in note]
    assert noted
    assert noted[0].startswith("nets[2].modules[2] (nn.Dropout): ")
    with pytest.raises(Exception, match=r"nets\[1\]|several|at="):
        open_model(file)
    assert open_model(file, at="nets[1]").module.in_features == 2


def test_another_size_than_the_layers_find_is_taken_from_the_file(tmp_path: Path) -> None:
    network = sequential(convolution(3, 4, 3, 1), module("nn.ReLU", threshold=0, val=0))
    network.fields["gradInput"] = torch.zeros(2, 3, 20, 24).numpy()
    model = open_model(write(network, tmp_path))
    assert (model.input_shape, model.inputs) == ((3, 20, 24), None)
    assert model.notes == ["the input is 3x20x24, as the file's gradInput tells"]


def test_a_file_tells_which_of_the_sizes_that_fit_its_input_has(tmp_path: Path) -> None:
    """Where pooling leaves pixels out, several sizes fit: 32×32 is found first."""
    window = {"kW": 4, "kH": 4, "dW": 4, "dH": 4, "padW": 0, "padH": 0, "ceil_mode": False}
    pool = module("nn.SpatialMaxPooling", **window)
    network = sequential(convolution(3, 2, 3, 1), pool, view(128), linear(128, 3))
    assert open_model(write(network, tmp_path)).input_shape == (3, 32, 32)
    network.fields["gradInput"] = torch.zeros(2, 3, 34, 33).numpy()
    model = open_model(write(network, tmp_path))
    assert model.input_shape == (3, 34, 33)
    assert model.notes == ["the input is 3x34x33, as the file's gradInput tells"]


def test_names_of_the_model_in_another_order_are_refused() -> None:
    """Each output would be called by the name of another class."""
    own = ["a", "b", "c"]
    for model, beside in (
        (tiny(labels=own), Beside()),
        (tiny(), Beside(labels=[ClassNames("classes", own)])),
    ):
        with pytest.raises(LabelsError, match=r"output 2 is 'b', not 'c'"):
            override_of(model, beside, labels=["a", "c", "b"])
        assert override_of(model, beside, labels=["x", "b", "c"]).labels == ["x", "b", "c"]


def test_the_project_of_a_file_tells_what_its_numbers_leave_open(tmp_path: Path) -> None:
    """siggraph2017_inpainting subtracts its mean from values of 0 to 1, whatever the mean is."""
    file = write(lua(model=sequential(convolution(4, 3, 1)), mean=lua_list(0, 0, 0)), tmp_path)
    model = open_model(file)
    assert model.preprocessing == Preprocessing("RGB", mean=(0, 0, 0), std=(1,), value_range=1)
    assert model.image_to_image == INPAINTING.output


def test_a_project_that_the_options_name_is_kept(tmp_path: Path) -> None:
    options = lua(preprocessing="vgg")
    model = open_model(write(lua(model=sequential(convolution(3, 3, 1)), opt=options), tmp_path))
    assert "images are prepared and written as in fast-neural-style" in model.notes
    assert model.image_to_image is not None
    assert model.image_to_image.mean == (103.939, 116.779, 123.68)


def test_what_is_converted_is_mapped_from_its_file_and_not_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tensors of a large file are in memory once, as those of the network."""
    read: list[Any] = []
    reader = t7.load

    def load(file: Path, **options: Any) -> Any:
        read.append(options)
        return reader(file, **options)

    monkeypatch.setattr(t7, "load", load)
    file = write(sequential(linear(4, 3)), tmp_path)
    save(open_model(file), tmp_path / "m")
    load_saved(tmp_path / "m")
    assert read == [{"writable": False}] * 2
