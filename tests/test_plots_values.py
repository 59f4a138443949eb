"""What parts of figures show of odd values: gaps, values beyond a scale, inputs, shared layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_support import linear, sequential

from torchlift.converters import t7
from torchlift.transfer.data import Dataset
from torchlift.transfer.data.augmentation import Augmentation, draw
from torchlift.transfer.data.image_changes import ImageChanges, seeds_of_images, seeds_of_inputs
from torchlift.transfer.errors import PlotError
from torchlift.transfer.plots import augmented
from torchlift.transfer.plots.augmented import with_augmented
from torchlift.transfer.plots.color_scales import colored, scale_of
from torchlift.transfer.plots.confusion import draw_confusion
from torchlift.transfer.plots.curves import Curve, draw_curves, read_curve
from torchlift.transfer.plots.mosaic import Panel, _Block, _Mosaic
from torchlift.transfer.plots.photographs import open_image
from torchlift.transfer.plots.range_test import draw_range_test
from torchlift.transfer.plots.samples import Sample, draw_samples, images_of
from torchlift.transfer.plots.sizes import LayerSize, draw_sizes, sizes_in_t7


def test_a_metric_that_an_epoch_does_not_have_is_a_gap(tmp_path: Path) -> None:
    table = "epoch,train_loss,val_f1\n1,0.5,\n2,0.25,0.75\n"
    (tmp_path / "metrics.csv").write_text(table, encoding="utf-8")
    assert read_curve(tmp_path).rows == [
        {"epoch": 1, "train_loss": 0.5},
        {"epoch": 2, "train_loss": 0.25, "val_f1": 0.75},
    ]
    (tmp_path / "metrics.csv").write_text("epoch,train_loss\n1,low\n", encoding="utf-8")
    with pytest.raises(PlotError, match="not a table of numbers"):
        read_curve(tmp_path)


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ([-1.0, 1.0], "neither"),
        ([-1.1, 1.0], "min"),
        ([-1.0, 1.1], "max"),
        ([-2.0, 2.0], "both"),
        ([np.nan, 0.0], "neither"),
    ],
)
def test_a_color_bar_points_where_values_go_on(values: list[float], ends: str) -> None:
    inside, given = (np.array(each).reshape(2, 1, 1) for each in ([0.5, -0.5], values))
    block = _Block([_Mosaic.of(Panel("", inside)), _Mosaic.of(Panel("", given))], (-1.0, 1.0))
    assert block._extend((-1.0, 1.0)) == ends


def test_inputs_are_shown_from_their_lowest_to_their_highest_value() -> None:
    inputs = np.array([2.0, 3.0, 4.0, 2.5], np.float32).reshape(1, 1, 2, 2)
    (image,) = images_of(Dataset(inputs))
    assert image.tolist() == [[0, 127], [255, 63]]
    # All alike: nothing to divide by.
    assert images_of(Dataset(np.full((1, 1, 2, 2), 7, np.float32)))[0].tolist() == [[0, 0], [0, 0]]
    # Of two channels, which are no colors, the first.
    pairs = np.arange(16, dtype=np.uint8).reshape(2, 2, 2, 2)
    assert [image.tolist() for image in images_of(Dataset(pairs))] == pairs[:, 0].tolist()


def test_a_layer_that_stands_twice_in_a_t7_counts_once(tmp_path: Path) -> None:
    shared = linear(4, 4)
    t7.save(sequential(shared, linear(4, 3), shared), tmp_path / "shared.t7")
    layers = sizes_in_t7(tmp_path / "shared.t7")
    assert sum(layer.parameters for layer in layers) == 4 * 4 + 4 + 4 * 3 + 3
    assert sum(layer.bytes for layer in layers) == (tmp_path / "shared.t7").stat().st_size


def test_weights_that_two_layers_of_a_t7_share_count_once(tmp_path: Path) -> None:
    """As in `inspect`, and in the network that it is converted to."""
    first, second = linear(4, 4), linear(4, 4)
    second.fields["weight"] = first.fields["weight"]
    t7.save(sequential(first, second), tmp_path / "shared.t7")
    sizes = {layer.name: layer for layer in sizes_in_t7(tmp_path / "shared.t7")}
    assert [sizes[f"{name} Linear 4→4"].parameters for name in (0, 1)] == [20, 4]
    assert sum(layer.bytes for layer in sizes.values()) == (tmp_path / "shared.t7").stat().st_size
    found = t7.inspection.inspect(tmp_path / "shared.t7")
    assert (found.parameters, [layer.parameters for layer in found.layers]) == (24, [0, 20, 20])


@pytest.mark.parametrize(("index", "is_there"), [(-1, False), (0, True), (1, True), (2, False)])
def test_an_image_of_a_dataset_is_named_from_0(index: int, is_there: bool, tmp_path: Path) -> None:
    pixels = np.arange(8, dtype=np.uint8).reshape(2, 1, 2, 2)
    data = Dataset(pixels)
    if is_there:
        assert np.array_equal(
            np.asarray(open_image("d.npz", index, lambda name: data)), pixels[index]
        )
        return
    with pytest.raises(PlotError, match=r"no image index=-?\d: they count from 0 to 1"):
        open_image("d.npz", index, lambda name: data)


def test_an_erased_box_has_the_rounded_mean_color(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 0, 0 and 2 (twice over) the mean is 2/3, whose nearest pixel is 1."""
    image = np.array([[0, 0, 2], [0, 0, 2]], np.uint8)

    def erased(inputs: torch.Tensor, probability: float, seeds: np.ndarray) -> torch.Tensor:
        return torch.zeros_like(inputs)

    monkeypatch.setattr(augmented, "erase", erased)
    shown = with_augmented([Sample(image, ["a"])], Augmentation(erasing=1.0), 0)
    assert len(shown) == 1 + augmented.VERSIONS
    assert np.array_equal(shown[0].image, image)
    for sample in shown[1:]:
        assert (sample.image == 1).all()


@pytest.mark.parametrize(
    ("count", "named", "counted"), [(25, 25, 25), (26, 26, 0), (120, 120, 0), (121, 0, 0)]
)
def test_names_and_counts_of_a_confusion_are_shown_where_they_fit(
    count: int, named: int, counted: int
) -> None:
    axes = draw_confusion(np.eye(count, dtype=int), [f"c{n}" for n in range(count)], "").axes[0]
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == [f"c{n}" for n in range(named)]
    assert len(axes.texts) == counted


def test_half_of_a_class_is_no_dark_cell_and_names_lie_where_they_fit() -> None:
    axes = draw_confusion(np.array([[2, 2], [0, 1]]), ["a", "b"], "").axes[0]
    assert {text.get_color() for text in axes.texts if text.get_text() == "2"} == {"black"}
    assert axes.get_xticklabels()[0].get_rotation() == 0
    long = draw_confusion(np.eye(2, dtype=int), ["a long name", "b"], "").axes[0]
    assert long.get_xticklabels()[0].get_rotation() == 90


def rows_of(count: int, *quantities: str) -> list[dict[str, float]]:
    return [
        {"epoch": epoch, **dict.fromkeys(quantities, float(epoch))} for epoch in range(1, count + 1)
    ]


def test_the_legend_of_curves_names_runs_and_what_they_have() -> None:
    """Points of the training are hollow, those of the validation filled, at most 13 of them."""
    both = Curve("first", rows_of(36, "train_loss", "val_loss"))
    figure = draw_curves([both, Curve("second", rows_of(3, "train_loss"))])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "first", "second", "training", "validation",
    ]  # fmt: skip
    training, validation = figure.axes[0].lines[:2]
    assert training.get_markerfacecolor() == "white"
    assert validation.get_markerfacecolor() == validation.get_color()
    assert (training.get_markevery(), figure.axes[0].lines[2].get_markevery()) == (3, 1)
    assert [axes.get_title() for axes in figure.axes] == ["loss", "accuracy"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["epoch", "epoch"]
    (legend,) = draw_curves([Curve("second", rows_of(3, "train_loss", "val_f1"))]).legends
    assert [text.get_text() for text in legend.get_texts()] == ["second", "training"]


def test_a_run_is_called_by_its_folder_or_as_it_is_asked(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("epoch,train_loss\n1,0.5\n", encoding="utf-8")
    assert read_curve(file).name == read_curve(tmp_path).name == tmp_path.name
    assert read_curve(file, "mine").name == "mine"
    file.write_text("epoch,train_loss\n", encoding="utf-8")
    with pytest.raises(PlotError, match="a row for each epoch was expected"):
        read_curve(file)


def test_a_range_test_is_of_rates_by_their_powers() -> None:
    (axes,) = draw_range_test([1e-3, 1e-2], [3.0, 1.0], 0.0025).axes
    assert (axes.get_xscale(), axes.get_title()) == ("log", "found: 0.0025")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("learning rate", "loss")


def test_samples_fill_rows_from_the_left() -> None:
    """Six without predictions beside each other; two with them."""
    plain = [Sample(np.zeros((2, 2), np.uint8), ["a", "b"]) for _ in range(8)]
    extents = [image.get_extent() for image in draw_samples(plain).axes[0].images]
    lefts, tops = [left for left, *_ in extents], [top for *_, top in extents]
    assert lefts[:6] == sorted(set(lefts)) == lefts[:2] + lefts[2:6]
    assert lefts[6:] == lefts[:2]
    assert len(set(tops[:6])) == len(set(tops[6:])) == 1
    assert tops[6] > tops[0]
    # The image is as high as wide, and stands upright.
    left, right, bottom, top = extents[0]
    assert bottom - top == pytest.approx(right - left)
    texts = draw_samples(plain).axes[0].texts
    assert [text.get_weight() for text in texts[:2]] == ["bold", "normal"]


def test_bars_of_predictions_stand_beside_their_image() -> None:
    sample = Sample(np.zeros((2, 2), np.uint8), ["a"], [("a", 1.0), ("bb", 0.5)], "bb")
    page = draw_samples([sample, sample]).axes[0]
    bars = [(bar.get_x(), bar.get_y(), bar.get_width()) for bar in page.patches]
    assert [width for *_, width in bars] == pytest.approx([0.75, 0.375] * 2)
    assert bars[0][0] == bars[1][0] > page.images[0].get_extent()[1]
    assert bars[0][1] < bars[1][1]
    # Two classes are as high as two of three, so that their names have space.
    assert [bar.get_height() for bar in page.patches] == pytest.approx([0.8 * 1.3 / 3] * 4)
    assert "0.50" in [text.get_text() for text in page.texts]


def test_forty_layers_have_a_bar_each() -> None:
    def names(count: int) -> list[str]:
        layers = [LayerSize(str(index), 1, {"weights": 4}) for index in range(count)]
        return [label.get_text() for label in draw_sizes(layers, "").axes[0].get_yticklabels()]

    assert names(40) == [str(index) for index in range(40)]
    assert names(41) == [*(str(index) for index in range(39)), "2 smaller layers"]


def test_each_changed_version_has_the_numbers_of_its_own_image() -> None:
    """As in a batch of a training: the second image those of the second place."""
    images = [np.arange(6, dtype=np.uint8).reshape(2, 3) + 10 * n for n in range(3)]
    shown = with_augmented([Sample(each, ["a"]) for each in images], Augmentation(flip=True), 5)
    count = 1 + augmented.VERSIONS
    for place, image in enumerate(images):
        row = shown[place * count : (place + 1) * count]
        assert (row[0].caption, row[1].caption) == (["a"], [""])
        for epoch, sample in enumerate(row[1:], 1):
            mirrored = draw(5, epoch, 3)[place, 0] < 0.5
            assert np.array_equal(sample.image, image[:, ::-1] if mirrored else image)


def test_each_changed_version_has_the_seeds_of_its_own_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the image for rotations and crops, of the input for what is erased."""
    seeds: list[int] = []
    erased: list[int] = []
    call = ImageChanges.__call__

    def changed(self: ImageChanges, image: Any, seed: int) -> Any:
        seeds.append(seed)
        return call(self, image, seed)

    def erase(inputs: torch.Tensor, probability: float, own: np.ndarray) -> torch.Tensor:
        erased.extend(own.tolist())
        return inputs

    monkeypatch.setattr(ImageChanges, "__call__", changed)
    monkeypatch.setattr(augmented, "erase", erase)
    images = [Sample(np.full((4, 5, 3), n, np.uint8), ["a"]) for n in range(2)]
    with_augmented(images, Augmentation(rotation=10, erasing=0.5), 6)
    epochs = range(1, augmented.VERSIONS + 1)
    assert seeds == [seed for epoch in epochs for seed in seeds_of_images(6, epoch, 2).tolist()]
    assert erased == [seed for epoch in epochs for seed in seeds_of_inputs(6, epoch, 2).tolist()]


def test_layers_stand_from_the_top_and_those_without_parameters_have_no_number() -> None:
    layers = [LayerSize("a", 0, {"structure": 5}), LayerSize("b", 1234, {"weights": 4936})]
    left, right = draw_sizes(layers, "").axes
    assert [text.get_text() for text in left.texts] == ["1,234"]
    assert [text.get_text() for text in right.texts] == ["5 B", "4.9 kB"]
    low, high = left.get_ylim()
    assert low > 1 > 0 > high
    np.testing.assert_allclose(left.get_xlim(), (0, 1234 * 1.3))
    np.testing.assert_allclose(draw_sizes(layers[:1], "").axes[0].get_xlim(), (0, 1.3))


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([0, 1, 2], (0, 2)),
        ([3, 4], (0, 4)),
        ([-1, 2], (-2, 2)),
        ([-3, 2], (-3, 3)),
        ([0, 0], (0, 1)),
        # What is no number has no part in it.
        ([np.nan, np.inf, -np.inf, 2], (0, 2)),
        # The largest half percent has the last color too, unless all others are 0.
        (range(1, 1001), (0, 996)),
        ([*[0] * 999, 5], (0, 5)),
    ],
)
def test_a_scale_of_colors_begins_at_0_or_is_symmetric(
    values: Any, scale: tuple[float, float]
) -> None:
    parts = np.array_split(np.array(values, float), 2)
    assert scale_of(parts) == scale


def test_what_is_no_number_is_white() -> None:
    odd = np.array([[0.0, 1.0, np.nan, np.inf, -np.inf]])
    found = colored(np.stack([odd] * 3, -1), (0.0, 2.0))
    assert found.tolist() == [[[value] * 3 for value in (0.0, 0.5, 1.0, 1.0, 1.0)]]
    assert colored(odd, (0.0, 2.0))[0, 2:].tolist() == [[1.0] * 3] * 3
