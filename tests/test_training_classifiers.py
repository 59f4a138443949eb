"""Which network, head, labels and preprocessing a training begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from training_support import difference

from torchlift.converters.images import Preprocessing
from torchlift.converters.images.errors import PreprocessingError
from torchlift.converters.images.normalization import Normalization
from torchlift.converters.saved import SavedModel
from torchlift.transfer.data import Dataset, ImageFiles
from torchlift.transfer.errors import HeadError, TrainingError
from torchlift.transfer.training import classifiers
from torchlift.transfer.training.classifiers import adapted_classifier, new_classifier

_RANDOM = np.random.default_rng(0)
GRAY = Dataset(
    _RANDOM.integers(0, 256, (30, 1, 28, 28), np.uint8), np.arange(30) % 3, ("a", "b", "c")
)


def trained(outputs: int = 3, *softmax: nn.Module) -> SavedModel:
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 8), nn.Linear(8, outputs), *softmax
    )
    kind = "log_probabilities" if softmax else "logits"
    preprocessing = Preprocessing("gray", mean=(0.25,), std=(0.5,))
    return SavedModel(network.eval(), kind, (1, 28, 28), None, preprocessing)


def test_a_new_network_depends_on_the_seed_alone() -> None:
    torch.manual_seed(5)
    first = new_classifier("logistic", GRAY, seed=3)
    torch.manual_seed(6)
    again = new_classifier("logistic", GRAY, seed=3)
    assert difference(first.module, again.module) == 0
    assert difference(first.module, new_classifier("logistic", GRAY, seed=4).module) > 0


def test_the_preprocessing_is_measured_on_the_training_images() -> None:
    model = new_classifier("logistic", GRAY)
    assert model.labels == ["a", "b", "c"]
    assert model.preprocessing is not None
    pixels = GRAY.images / 255
    assert model.preprocessing.mean == pytest.approx([pixels.mean()])
    assert model.preprocessing.std == pytest.approx([pixels.std()])
    assert (model.preprocessing.color, model.preprocessing.size) == ("gray", (28, 28))
    # A constant channel becomes 0, not NaN.
    black = Dataset(np.zeros((4, 3, 28, 28), np.uint8), np.arange(4) % 2)
    preprocessing = new_classifier("logistic", black).preprocessing
    assert preprocessing is not None
    assert (preprocessing.color, preprocessing.mean, preprocessing.std) == (
        *("RGB", (0.0, 0.0, 0.0)),
        (1.0, 1.0, 1.0),
    )


def test_floats_are_inputs_and_need_no_preprocessing() -> None:
    data = Dataset(GRAY.images.astype(np.float32) - 7, GRAY.classes)
    assert new_classifier("logistic", data).preprocessing is None
    assert adapted_classifier(trained(), data, "zeros").preprocessing is None


def test_a_trained_network_keeps_its_preprocessing_and_takes_the_labels() -> None:
    own = trained().preprocessing
    model = adapted_classifier(trained(9, nn.LogSoftmax(1)), GRAY, "zeros")
    assert (model.preprocessing, model.labels, model.output_kind) == (
        own,
        ["a", "b", "c"],
        "logits",
    )
    inputs = torch.rand(5, 1, 28, 28)
    assert torch.equal(model.module(inputs), torch.zeros(5, 3))
    # Labels of the old head are not those of the new one.
    old = trained(2)
    old.labels = ["old", "older"]
    unnamed = Dataset(GRAY.images, GRAY.classes)
    assert adapted_classifier(old, unnamed, "zeros").labels is None


def test_a_kept_head_loses_its_softmax_and_nothing_else() -> None:
    model, before = trained(3, nn.LogSoftmax(1)), trained(3, nn.LogSoftmax(1))
    model.labels = ["a", "b", "c"]
    inputs = torch.rand(5, 1, 28, 28)
    kept = adapted_classifier(model, GRAY, "keep")
    assert (kept.labels, kept.output_kind) == (["a", "b", "c"], "logits")
    assert torch.equal(kept.module(inputs), before.module[:-1](inputs))


@pytest.mark.parametrize("labels", [["c", "a", "b"], ["a", "b", "x"], ["a", "b"]])
def test_a_kept_head_has_the_classes_of_the_data(labels: list[str]) -> None:
    model = trained(len(labels))
    model.labels = labels
    with pytest.raises(TrainingError, match="the kept head"):
        adapted_classifier(model, GRAY, "keep")
    with pytest.raises(TrainingError, match="the kept head has 4 classes, but the data has 3"):
        adapted_classifier(trained(4), GRAY, "keep")


def test_a_probe_sees_the_features_of_evaluation_mode() -> None:
    """Dropout on would make the head another one in each call."""
    heads = []
    for seed in range(2):
        model = trained()
        model.module.train()
        torch.manual_seed(seed)
        adapted = adapted_classifier(model, GRAY, "probe")
        heads.append([value.detach().clone() for value in adapted.module[3].parameters()])
        features = adapted.module[3].in_features
        note = f"the head began as a logistic regression on {features} features"
        assert adapted.notes[-1] == note
    for first, second in zip(*heads, strict=True):
        assert torch.equal(first, second)
    with pytest.raises(TrainingError, match="needs training images of every class"):
        adapted_classifier(trained(), GRAY.take(np.flatnonzero(GRAY.classes != 1)), "probe")


def test_images_in_files_give_their_colors(tmp_path: Path) -> None:
    for name, mode in (("gray", "L"), ("color", "RGB")):
        Image.new(mode, (40, 30), 100).save(tmp_path / f"{name}.png")
        files = np.array([tmp_path / f"{name}.png"] * 2, object)
        data = ImageFiles(
            files, np.array([0, 1]), ("a", "b"), color="gray" if mode == "L" else mode
        )
        model = new_classifier("logistic", data)
        assert model.input_shape is not None
        assert model.input_shape[0] == (1 if mode == "L" else 3)


def test_statistics_stand_in_the_order_of_the_colors() -> None:
    images = np.zeros((6, 3, 4, 4), np.uint8) + np.array([51, 102, 153], np.uint8)[:, None, None]
    images[::2] += np.array([102, 51, 0], np.uint8)[:, None, None]
    train = Dataset(images, np.arange(6) % 2)
    model = new_classifier("logistic", train, color="BGR")
    assert model.preprocessing is not None
    assert model.preprocessing.mean == pytest.approx((0.6, 0.5, 0.4))
    # A channel that does not vary is divided by 1.
    assert model.preprocessing.std == pytest.approx((1.0, 0.1, 0.2))


def any_size(kernel: int, positions: int) -> SavedModel:
    """Return a network of images of any size, whose head is a convolution."""
    body = (nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(positions))
    return SavedModel(nn.Sequential(*body, nn.Conv2d(4, 3, kernel)).eval(), "logits")


@pytest.mark.parametrize(("kernel", "positions"), [(1, 2), (2, 2)])
def test_a_head_over_several_positions_cannot_begin_as_a_probe(kernel: int, positions: int) -> None:
    with pytest.raises(HeadError, match=r"several positions cannot begin as a probe.*head='zeros'"):
        adapted_classifier(any_size(kernel, positions), GRAY, "probe")
    assert adapted_classifier(any_size(kernel, positions), GRAY, "zeros").labels == ["a", "b", "c"]
    probed = adapted_classifier(any_size(1, 1), GRAY, "probe")
    assert probed.notes[-1] == "the head began as a logistic regression on 4 features"


def test_a_size_is_asked_for_where_neither_images_nor_network_have_one(tmp_path: Path) -> None:
    for index, size in enumerate([(40, 30), (50, 60)]):
        Image.new("L", size, 100).save(tmp_path / f"{index}.png")
    files = np.array([tmp_path / "0.png", tmp_path / "1.png"], object)
    data = ImageFiles(files, np.array([0, 1]), ("a", "b"), color="gray")
    said = r"differ in size and the network accepts any size; give image_size=…"
    with pytest.raises(TrainingError, match=said):
        adapted_classifier(any_size(1, 1), data, "zeros")
    for changes in ({"input_shape": (1, 28, 28)}, {"preprocessing": Preprocessing("gray")}):
        model = any_size(1, 1)
        for name, value in changes.items():
            setattr(model, name, value)
        assert adapted_classifier(model, data, "zeros").labels == ["a", "b"]


COLORS = Dataset(
    _RANDOM.integers(0, 256, (30, 3, 28, 28), np.uint8), np.arange(30) % 3, ("a", "b", "c")
)


@pytest.mark.parametrize(("channels", "color"), [(1, "gray"), (1, "RGB"), (3, "BGR"), (3, "gray")])
def test_a_color_has_as_many_channels_as_the_network(channels: int, color: Any) -> None:
    train = GRAY if channels == 1 else COLORS
    if (color == "gray") == (channels == 1):
        model = new_classifier("logistic", train, color=color)
        assert model.preprocessing is not None
        assert model.preprocessing.color == color
        return
    other = 4 - channels
    said = f"color={color} has {other} channels, but the network takes {channels}"
    with pytest.raises(PreprocessingError, match=said):
        new_classifier("logistic", train, color=color)


@pytest.mark.parametrize(("channels", "train"), [(3, GRAY), (1, COLORS), (3, COLORS)])
def test_images_of_other_colors_than_the_network_have_one_mean(
    channels: int, train: Dataset
) -> None:
    """That of all their pixels: their channels are not those that the network sees."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(channels * 784, 3)).eval()
    model = SavedModel(network, "logits", (channels, 28, 28))
    found = adapted_classifier(model, train, "zeros").preprocessing
    assert found is not None
    assert found.color == ("gray" if channels == 1 else "RGB")
    pixels = train.images.astype(np.float64) / 255
    if channels == train.images.shape[1]:
        assert found.mean == pytest.approx(pixels.mean((0, 2, 3)), abs=1e-6)
        assert found.std == pytest.approx(pixels.std((0, 2, 3)), abs=1e-6)
    else:
        assert found.mean == pytest.approx((pixels.mean(),), abs=1e-6)
        assert found.std == pytest.approx((pixels.std((0, 2, 3)).mean(),), abs=1e-6)


@pytest.mark.parametrize(
    "said", [{"mean": [0.5]}, {"std": [0.25]}, {"value_range": [-1.0, 1.0]}], ids=str
)
def test_what_is_said_of_the_inputs_is_not_measured(said: Any) -> None:
    """Part of it, too: the rest is as usual, and a note says so."""
    model = new_classifier("logistic", GRAY, **said)
    expected, note = Normalization.of(**said).preprocessing((1, 28, 28))
    assert model.preprocessing == expected
    assert model.notes == [note]
    assert not any(layer.training for layer in model.module.modules())


@pytest.mark.parametrize("preprocessing", [Preprocessing("gray"), None])
def test_colors_that_the_network_does_not_take_are_noted(
    preprocessing: Preprocessing | None,
) -> None:
    model = trained()
    model.preprocessing = preprocessing
    notes = adapted_classifier(model, COLORS, "zeros").notes
    assert notes == ["the images are RGB and are converted to gray, which the network takes"]


def test_images_become_as_high_and_wide_as_the_network_takes_them() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(600, 3)).eval()
    model = SavedModel(network, "logits", (1, 20, 30))
    found = adapted_classifier(model, GRAY, "zeros")
    assert found.preprocessing is not None
    assert (found.preprocessing.size, found.input_shape) == ((20, 30), (1, 20, 30))


def test_names_of_classes_stay_where_the_data_has_none() -> None:
    model = trained()
    model.labels = ["x", "y", "z"]
    unnamed = Dataset(GRAY.images, GRAY.classes)
    assert adapted_classifier(model, unnamed, "keep").labels == ["x", "y", "z"]


def test_a_new_head_has_no_temperature_and_keeps_the_other_notes() -> None:
    model = trained()
    model.notes = ["of the file", "calibrated: the logits are divided by the temperature 2"]
    assert adapted_classifier(model, GRAY, "zeros").notes == ["of the file"]
    kept = trained()
    kept.notes = [*model.notes, "calibrated: by something"]
    assert adapted_classifier(kept, GRAY, "keep").notes == kept.notes


def test_the_classes_of_a_kept_head_are_counted_by_their_names() -> None:
    """Where a score is the larger of two numbers, the last weights have twice as many outputs."""
    layers = nn.Flatten(), nn.Linear(784, 6), nn.MaxPool1d(2)
    model = SavedModel(nn.Sequential(*layers).eval(), "logits", (1, 28, 28), ["a", "b", "c"])
    assert adapted_classifier(model, GRAY, "keep").labels == ["a", "b", "c"]
    model.labels = [*"abcdef"]
    with pytest.raises(TrainingError, match="the kept head has 6 classes, but the data has 3"):
        adapted_classifier(model, GRAY, "keep")


def test_the_features_of_a_probe_are_computed_where_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[Any] = []

    def probe(*given: Any) -> int:
        told.extend(given)
        return 1234

    monkeypatch.setattr(classifiers, "_probe_head", probe)
    model = trained()
    adapted = adapted_classifier(model, GRAY, "probe", "cuda")
    assert told == [model, GRAY, "cuda"]
    assert adapted.notes[-1] == "the head began as a logistic regression on 1234 features"
