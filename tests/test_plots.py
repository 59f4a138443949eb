"""Figures show the right values, are readable without color, and no text overlaps another."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from sklearn.datasets import load_sample_image

from torchlift.transfer.data import Dataset
from torchlift.transfer.errors import PlotError
from torchlift.transfer.plots.activations import Activation
from torchlift.transfer.plots.confusion import draw_confusion
from torchlift.transfer.plots.curves import Curve, draw_curves, read_curve
from torchlift.transfer.plots.feature_maps import draw_feature_maps
from torchlift.transfer.plots.figures import FRACTIONS, SIGNED, line_colors, save_figure, short
from torchlift.transfer.plots.mosaic import draw_panels
from torchlift.transfer.plots.photographs import open_image
from torchlift.transfer.plots.predictions import samples_of
from torchlift.transfer.plots.range_test import draw_range_test
from torchlift.transfer.plots.reliability import draw_reliability
from torchlift.transfer.plots.samples import Sample, draw_samples
from torchlift.transfer.plots.sizes import LayerSize, draw_sizes
from torchlift.transfer.plots.weights import filter_panel, unit_panel


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def names(count: int, length: int) -> list[str]:
    letters = "a very long name of a class, as data sets of plants and animals have them, "
    return [f"{letters[:length]}{index}" for index in range(count)]


def units(count: int, length: int) -> Figure:
    panel, _ = unit_panel("units", random(count, 64), (1, 8, 8), names(count, length))
    return draw_panels([[panel, panel]])


def confusion(count: int, length: int) -> Figure:
    counts = np.random.default_rng(0).integers(0, 12345, (count, count))
    return draw_confusion(counts, names(count, length), "accuracy 0.5")


def samples(count: int, length: int) -> Figure:
    labels = names(count, length)
    top = [(label, 1.0 if index == 0 else 0.0) for index, label in enumerate(labels[:5])]
    image = np.zeros((28, 28), np.uint8)
    return draw_samples([Sample(image, [label, label], top, label) for label in labels])


def sizes(count: int, length: int) -> Figure:
    groups = ("weights", "running_statistics", "gradients", "buffers", "other", "structure")
    layers = [
        LayerSize(name, 10**index % 10**8, dict.fromkeys(groups, 10**7))
        for index, name in enumerate(names(count, length))
    ]
    return draw_sizes(layers, "a file with a name")


def curves(count: int, length: int) -> Figure:
    rows = [{"epoch": e, "train_loss": 1 / e, "val_accuracy": 0.5} for e in (1.0, 2.0, 3.0)]
    return draw_curves([Curve(name, rows) for name in names(count, length)])


def filters(count: int, channels: int) -> Figure:
    panel, _ = filter_panel(
        f"{count} filters of {channels} channels", random(count, channels, 3, 3)
    )
    return draw_panels([[panel]])


def each_filter(count: int, channels: int) -> Figure:
    panel, _ = filter_panel("filters", random(count, channels, 7, 7) * 1e-5)
    return draw_panels([[panel, panel], [panel]], shared_scale=False)


def maps(count: int, side: int) -> Figure:
    shape = (count, side, side)
    layers = [Activation(f"features.{i}", "BatchNorm2d", random(*shape)) for i in range(3)]
    layers.append(
        Activation("a_layer_with_a_name_that_is_longer_than_its_maps", "", random(2, 2, 2))
    )
    return draw_feature_maps(np.zeros((28, 28, 1), np.uint8), layers)


@pytest.mark.parametrize(
    ("draw", "count", "other"),
    [
        *itertools.product([units, confusion, samples, sizes], [2, 10, 100], [2, 72]),
        *itertools.product([curves], [1, 2, 9], [2, 72]),
        *itertools.product([filters], [1, 6, 512], [1, 3, 16]),
        *itertools.product([each_filter], [1, 6, 100], [1, 3]),
        pytest.param(each_filter, 512, 1, marks=pytest.mark.slow),
        *itertools.product([maps], [1, 64, 512], [1, 28]),
    ],
)
def test_no_text_overlaps_another_or_the_edge(draw: Any, count: int, other: int) -> None:
    figure = draw(count, other)
    figure.draw_without_rendering()
    # matplotlib keeps ticks beyond the ends of an axis, and does not draw them.
    outside = {text for axes in figure.axes for text in _ticks_outside(axes)}
    shown = [
        text
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and text not in outside
    ]
    assert shown
    boxes = np.array([text.get_window_extent().extents for text in shown])
    low, high = boxes[:, :2], boxes[:, 2:]
    within = (low >= -1).all(axis=1) & (high <= figure.bbox.max + 1).all(axis=1)
    assert [text.get_text() for text, good in zip(shown, within, strict=True) if not good] == []
    overlap = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
    # Half a pixel is no overlap.
    first, second = np.nonzero(np.triu((overlap > 0.5).all(axis=2), 1))
    pairs = zip(first.tolist(), second.tolist(), strict=True)
    assert [(shown[a].get_text(), shown[b].get_text()) for a, b in pairs] == []
    if draw is confusion:
        return  # Its cells contain counts.
    for image in (image for axes in figure.axes for image in axes.images):
        extents = image.get_window_extent().extents
        lower, upper = np.maximum(low, extents[:2]), np.minimum(high, extents[2:])
        over = (upper - lower > 1).all(axis=1) & ~np.isin(shown, _labels_of_tiles(figure))
        assert [text.get_text() for text, hit in zip(shown, over, strict=True) if hit] == []


def _labels_of_tiles(figure: Figure) -> list[Text]:
    """Return the labels of tiles, which are between the tiles of one image."""
    return [] if len(figure.axes) == 1 else [text for axes in figure.axes for text in axes.texts]


def _ticks_outside(axes: Any) -> list[Text]:
    outside = []
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        low, high = sorted((low, high))
        for tick in axis.get_major_ticks():
            if not low <= tick.get_loc() <= high or not axis.get_visible() or not axes.axison:
                outside += [tick.label1, tick.label2]
    return outside


def test_curves_are_the_rows_of_the_runs(tmp_path: Path) -> None:
    rows = [
        {
            "epoch": 1,
            "train_loss": 2.0,
            "train_accuracy": 0.25,
            "val_loss": 2.5,
            "val_accuracy": 0.2,
        },
        {
            "epoch": 2,
            "train_loss": 1.0,
            "train_accuracy": 0.75,
            "val_loss": 1.5,
            "val_accuracy": 0.5,
        },
    ]
    with (tmp_path / "metrics.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    curve = read_curve(tmp_path)
    assert (curve.name, curve.rows) == (tmp_path.name, rows)
    without = Curve("no validation", [{"epoch": 1, "train_loss": 3.0, "train_accuracy": 0.1}])
    loss, accuracy = draw_curves([curve, without]).axes
    lines = [line.get_xydata().tolist() for line in loss.lines]
    assert lines == [[[1, 2], [2, 1]], [[1, 2.5], [2, 1.5]], [[1, 3]], []]
    assert accuracy.lines[1].get_ydata().tolist() == [0.2, 0.5]
    # Without color, markers distinguish the runs and line styles the splits.
    assert loss.lines[0].get_marker() != loss.lines[2].get_marker()
    assert [line.get_linestyle() for line in loss.lines[:2]] == ["--", "-"]
    with pytest.raises(PlotError, match="not the folder of a training"):
        read_curve(tmp_path / "nothing")
    (tmp_path / "metrics.csv").write_text("epoch,train_loss\n1,much\n", encoding="utf-8")
    with pytest.raises(PlotError, match="not a table of numbers"):
        read_curve(tmp_path)
    (tmp_path / "metrics.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(PlotError, match="a row for each epoch"):
        read_curve(tmp_path / "metrics.csv")


def test_a_range_test_is_drawn_with_the_rate_that_was_found() -> None:
    axes = draw_range_test([1e-3, 1e-2, 1e-1], [3.0, 1.0, 2.0], 2e-3).axes[0]
    assert axes.lines[0].get_xydata().tolist() == [[1e-3, 3], [1e-2, 1], [1e-1, 2]]
    assert set(axes.lines[1].get_xdata()) == {2e-3}
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert "0.01" in ticks
    assert not any("$" in text for text in ticks)


def test_the_mean_f1_is_a_panel_of_its_own() -> None:
    rows = [{"epoch": e, "train_loss": 1.0, "val_f1": e / 10} for e in (1.0, 2.0)]
    *_, f1 = draw_curves([Curve("a", rows)]).axes
    assert f1.lines[1].get_ydata().tolist() == [0.1, 0.2]


def test_the_confusion_matrix_has_fractions_and_counts() -> None:
    counts = np.array([[3, 1], [0, 0]])
    axes = draw_confusion(counts, ["a", "b"], "title").axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.75, 0.25], [0, 0]])
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts == {(0, 0): "3", (1, 0): "1"}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]


def test_the_reliability_diagram_has_the_bins() -> None:
    figure = draw_reliability([0, 0.5, 1], [0, 4], [0, 0.9], [0, 0.75], "")
    bars = [(bar.get_x(), bar.get_width(), bar.get_height()) for bar in figure.axes[0].patches]
    assert bars == [(0, 0.5, 0), (0.5, 0.5, 0.75)]
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[0.9, 0.75]]


class Twice:
    """A classifier whose logits are twice the means of the rows of an image."""

    labels: list[str] | None = None
    preprocessing = None
    output_kind = "logits"

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        return inputs[:, 0].mean(axis=2) * 2


def test_samples_have_the_most_probable_classes() -> None:
    images = random(3, 1, 7, 4)
    data = Dataset(images, np.array([6, 0, 2]), tuple("abcdefg"))
    samples, _ = samples_of(data, Twice())
    top = torch.from_numpy(images).mean(dim=3)[:, 0].mul(2).softmax(1).topk(5)
    for index, sample in enumerate(samples):
        assert sample.caption == ["gac"[index]]
        top_classes = ["abcdefg"[output] for output in top.indices[index]]
        assert [name for name, _ in sample.predictions] == top_classes
        assert [probability for _, probability in sample.predictions] == pytest.approx(
            top.values[index].tolist()
        )
    figure = draw_samples(samples)
    bars = np.array([bar.get_width() for bar in figure.axes[0].patches])
    np.testing.assert_allclose(bars / bars[0], top.values.ravel() / top.values[0, 0], rtol=1e-5)


def test_of_equal_probabilities_the_first_classes_are_shown() -> None:
    """As they are predicted: the class of an image is the first of the most probable ones."""
    images = np.zeros((1, 1, 7, 4), np.float32)
    images[0, 0, 5] = 1
    (sample,), _ = samples_of(Dataset(images, np.array([5]), tuple("abcdefg")), Twice())
    assert [name for name, _ in sample.predictions] == list("fabcd")


def test_the_true_class_has_a_dark_bar() -> None:
    sample = Sample(np.zeros((2, 2), np.uint8), ["b"], [("a", 0.6), ("b", 0.4)], "b")
    light, dark = (luminance(bar.get_facecolor()) for bar in draw_samples([sample]).axes[0].patches)
    assert dark < light / 2


def luminance(color: Any) -> float:
    """Return the luminance of an sRGB color (IEC 61966-2-1)."""
    channels = np.array(matplotlib.colors.to_rgb(color))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_colors_are_ordered_by_lightness() -> None:
    for name, direction in ((SIGNED, 1), (FRACTIONS, -1)):
        steps = [luminance(color) for color in matplotlib.colormaps[name](np.linspace(0, 1, 32))]
        assert (np.diff(steps) * direction > 0).all()
    for count in range(1, 9):
        lights = [luminance(color) for color in line_colors(count)]
        assert len(lights) == count
        assert (np.diff(lights) > 0).all()
        # Lines have to be visible on white.
        assert max(lights) < 0.6


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_equal_figures_give_equal_bytes(suffix: str, tmp_path: Path) -> None:
    files = [save_figure(confusion(3, 5), tmp_path / f"{name}.{suffix}") for name in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()
    # There is no date and no version in the file.
    content = files[0].read_bytes()
    assert b"dc:date" not in content
    assert matplotlib.__version__.encode() not in content
    with pytest.raises(PlotError, match=r"ends in \.png or \.svg"):
        save_figure(confusion(2, 1), tmp_path / "a.pdf")


def test_names_are_no_formulas_and_settings_of_matplotlib_have_no_effect(
    tmp_path: Path,
) -> None:
    before = save_figure(curves(2, 5), tmp_path / "a.png").read_bytes()
    with matplotlib.rc_context({"font.size": 20, "axes.grid": True, "text.usetex": True}):
        assert save_figure(curves(2, 5), tmp_path / "b.png").read_bytes() == before
    figure = draw_confusion(np.eye(2, dtype=int), ["$1", "2$"], "$\\frac$")
    save_figure(figure, tmp_path / "c.png")


def test_labels_are_shortened_in_the_middle() -> None:
    assert short("two\n words") == "two words"
    assert short("abcdefghijklmnopqrstuvwxyz", 10) == "abcdef…xyz"
    assert len(short("a" * 50, 18)) == 18


def test_images_come_from_files_datasets_and_scikit_learn(tmp_path: Path) -> None:
    images = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    data = Dataset(images)
    np.testing.assert_array_equal(open_image("data", 1, lambda _: data), images[1])
    with pytest.raises(PlotError, match="has no image index=2: they count from 0 to 1"):
        open_image("data", 2, lambda _: data)
    with pytest.raises(PlotError, match="holds inputs of dtype float32, not images"):
        open_image("data", 0, lambda _: Dataset(images.astype(np.float32)))
    china = open_image("china", 0, lambda _: data)
    np.testing.assert_array_equal(np.asarray(china), load_sample_image("china.jpg"))
    # The EXIF orientation of an image is applied.
    turned = Image.new("RGB", (6, 4))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    upright = open_image(str(tmp_path / "turned.jpg"), 0, lambda _: data)
    assert isinstance(upright, Image.Image)
    assert upright.size == (4, 6)
