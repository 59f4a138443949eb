"""Where figures put what they show: sizes of names, room for titles and captions, whole epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from test_plots_rules import Fixed
from test_plots_values import rows_of
from torch import nn

from torchlift.converters.saved import SavedModel
from torchlift.transfer.data import Dataset
from torchlift.transfer.errors import PlotError
from torchlift.transfer.plots import figures
from torchlift.transfer.plots.activations import layers_of
from torchlift.transfer.plots.confusion import draw_confusion
from torchlift.transfer.plots.curves import Curve, draw_curves
from torchlift.transfer.plots.figures import fit_texts, new_figure
from torchlift.transfer.plots.mosaic import Panel, _best_columns, _Mosaic, draw_panels
from torchlift.transfer.plots.predictions import samples_of
from torchlift.transfer.plots.samples import Sample, draw_samples, images_of


def canvas_of(panel: Panel, **options: Any) -> np.ndarray:
    """Return the pixels of a panel that is drawn alone."""
    return np.asarray(draw_panels([[panel]], **options).axes[0].images[0].get_array())


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_tiles_that_are_much_higher_than_wide_stand_side_by_side(count: int) -> None:
    """Filters of 20×1 values: more columns than tiles would leave places empty."""
    assert _best_columns(count, 20.0) == count
    height, width = canvas_of(Panel("t", np.ones((count, 20, 1), np.float32))).shape[:2]
    assert height > width


@pytest.mark.parametrize(
    ("count", "side", "size"), [(2, 2.2, 9.0), (10, 4.5, 9.0), (40, 10, 9.0), (60, 10, 8.0)]
)
def test_a_confusion_matrix_grows_up_to_ten_inches_and_its_names_shrink(
    count: int, side: float, size: float
) -> None:
    """A name takes two thirds of its cell: of 60 classes on 10 inches 8 of 12 points."""
    figure = draw_confusion(np.eye(count, dtype=int), ["n"] * count, "")
    assert figure.get_size_inches().tolist() == pytest.approx([side + 2.4, side + 1.4])
    assert figure.axes[0].get_xticklabels()[0].get_fontsize() == pytest.approx(size)
    assert figure.axes[0].get_yticklabels()[0].get_fontsize() == pytest.approx(size)


@pytest.mark.parametrize(("largest", "size"), [(7, 8.0), (12345, 7.2), (123456789, 4.0)])
def test_counts_of_a_confusion_fit_into_their_cells(largest: int, size: float) -> None:
    """Of 25 classes a cell has 0.4 inches, and a digit 0.8 of its height."""
    counts = np.eye(25, dtype=int)
    counts[0, 0] = largest
    axes = draw_confusion(counts, ["n"] * 25, "").axes[0]
    assert [text.get_fontsize() for text in axes.texts] == pytest.approx([size] * 25)


@pytest.mark.parametrize("count", [1, 2, 3, 30])
def test_epochs_are_whole_numbers(count: int) -> None:
    ticks = draw_curves([Curve("r", rows_of(count, "train_loss"))]).axes[0].get_xticks()
    assert len(ticks) <= 8
    assert (ticks == np.rint(ticks)).all()


def test_a_text_without_any_room_keeps_its_first_letter() -> None:
    text = new_figure(2, 1).text(0, 0, "a long name")
    fit_texts({text: 0.0})
    assert text.get_text() == "a…"


def test_a_title_is_as_wide_as_its_panel_or_shorter() -> None:
    """A long one may be wider than the tiles, up to the largest panel."""
    figure = draw_panels([[Panel("filter " * 40, np.ones((1, 2, 2), np.float32))]])
    title = figure.axes[0].title, figure.axes[0]._left_title  # type: ignore[attr-defined]
    shown = next(each for each in title if each.get_text())
    assert "…" in shown.get_text()
    width = shown.get_window_extent().width / figure.dpi
    assert 3 < width <= 4.6
    short = draw_panels([[Panel("two words", np.ones((1, 2, 2), np.float32))]])
    assert short.axes[0].get_title(loc="left") == "two words"


def test_all_captions_of_a_grid_have_the_lines_of_the_longest() -> None:
    samples = [Sample(np.zeros((2, 2), np.uint8), ["a", "b", "c"][:lines]) for lines in (1, 3, 2)]
    page = draw_samples(samples).axes[0]
    (top,) = {image.get_extent()[3] for image in page.images}
    last = max(text.get_position()[1] for text in page.texts)
    assert last + 0.17 <= top


def test_classes_of_samples_may_be_matched_by_position() -> None:
    """The names of the data in another order stand for the classifier's then."""
    named: Any = Fixed()
    data = Dataset(np.zeros((2, 1, 2, 2), np.float32), np.array([0, 1]), ("cat", "dog"))
    samples, notes = samples_of(data, named, "position")
    assert [sample.true_class for sample in samples] == ["dog", "cat"]
    assert [sample.caption for sample in samples] == [["dog"], ["cat"]]
    assert notes == [
        "classes were matched by position, as was asked for: cat with dog, dog with cat"
    ]


def test_a_metric_of_one_of_several_runs_has_a_panel() -> None:
    runs = [Curve("a", rows_of(2, "train_loss", "val_f1")), Curve("b", rows_of(2, "train_loss"))]
    for given in (runs, runs[::-1]):
        titles = [axes.get_title() for axes in draw_curves(given).axes]
        assert titles == ["loss", "accuracy", "F1, mean of the classes"]


@pytest.mark.parametrize("columns", [1, 2, 6])
def test_a_panel_has_the_columns_that_it_is_given(columns: int) -> None:
    height, width = canvas_of(Panel("", np.ones((6, 1, 1)), columns=columns)).shape[:2]
    step = 32 + 2
    assert (height, width) == (6 // columns * step - 2, columns * step - 2)


def test_each_tile_has_its_own_scale_unless_they_share_one_or_it_is_known() -> None:
    """Values from 0 to 10, 1 and 5: the largest of a scale is white."""
    tiles = np.array([10.0, 1.0, 5.0]).reshape(3, 1, 1) * [[0, 1]]
    step = 64 + 2
    for options, scale, expected in (
        ({"shared_scale": False}, None, [1, 1, 1]),
        ({}, None, [1, 0.1, 0.5]),
        ({"shared_scale": False}, (0.0, 20.0), [0.5, 0.05, 0.25]),
        ({}, (0.0, 20.0), [0.5, 0.05, 0.25]),
    ):
        canvas = canvas_of(Panel("", tiles, columns=1, scale=scale), **options)
        lines = [row for row in canvas if row[0].tolist() == [0, 0, 0]]
        seen = list(dict.fromkeys(tuple(row[-1]) for row in lines))
        assert len(canvas) < 3 * step * 2
        found = [line[0] for line in seen] * (3 if len(seen) == 1 else 1)
        np.testing.assert_allclose(found, expected, atol=0.01)


def test_a_color_bar_is_of_the_values_where_colors_stand_beside_them() -> None:
    """Channels are gray, single values below 0 blue: the bar has both ends of these."""
    colors = Panel("", np.full((1, 2, 2, 3), 0.5))
    signed = Panel("", np.array([[[-1.0, 1.0]]]))
    for group in ([colors, signed], [signed, colors]):
        bar = draw_panels([group]).axes[-1]
        (values,) = bar.findobj(QuadMesh)
        assert values.get_cmap().name == "cividis"
    for tiles in (np.array([[[0.0, 1.0]]]), np.full((1, 2, 2, 3), -0.5)):
        (values,) = draw_panels([[Panel("", tiles)]]).axes[-1].findobj(QuadMesh)
        assert values.get_cmap().name == "gray"


def test_a_gray_image_of_few_values_is_not_stretched() -> None:
    page = draw_samples([Sample(np.array([[100, 101]], np.uint8), ["a"])]).axes[0]
    assert page.images[0].get_clim() == (0, 255)
    assert page.images[0].get_cmap().name == "gray"


def test_a_class_without_images_is_an_empty_row() -> None:
    axes = draw_confusion(np.array([[1, 1], [0, 0]]), ["a", "b"], "").axes[0]
    assert np.asarray(axes.images[0].get_array()).tolist() == [[0.5, 0.5], [0, 0]]
    assert axes.images[0].get_clim() == (0, 1)
    assert len(axes.texts) == 2


@pytest.mark.parametrize(
    ("shape", "width", "height"),
    [((1, 400, 200), 3.0, 6.0), ((1, 200, 400), 4.6, 2.3), ((1, 28, 56), 2.0, 1.0)],
)
def test_a_panel_is_no_larger_than_its_place_and_its_values_are_no_larger_than_they_must(
    shape: tuple[int, ...], width: float, height: float
) -> None:
    """At most 4.6 inches wide, 6 high, and 28 values an inch."""
    mosaic = _Mosaic.of(Panel("", np.zeros(shape)))
    assert (mosaic.width, mosaic.height) == pytest.approx((width, height))


def test_long_names_of_classes_take_no_more_than_their_place() -> None:
    long = Sample(np.zeros((2, 2), np.uint8), ["a"], [("name " * 20, 1.0)], "b")
    page = draw_samples([long]).axes[0]
    right = page.images[0].get_extent()[1]
    (bar,) = page.patches
    assert isinstance(bar, Rectangle)
    assert bar.get_x() - right == pytest.approx(1.1)
    short = Sample(np.zeros((2, 2), np.uint8), ["a"], [("name", 1.0)], "b")
    (bar,) = draw_samples([short]).axes[0].patches
    assert isinstance(bar, Rectangle)
    assert bar.get_x() - right == pytest.approx(4 * 0.075 + 0.15)


def test_a_figure_that_fails_leaves_the_file_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(figure: Any, file: Path, suffix: str) -> None:
        file.write_bytes(b"half")
        raise RuntimeError("no more")

    (tmp_path / "a.png").write_bytes(b"old")
    monkeypatch.setattr(figures, "write_figure", fail)
    with pytest.raises(RuntimeError, match="no more"):
        figures.save_figure(new_figure(1, 1), tmp_path / "a.png")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


def test_images_in_memory_are_drawn_with_their_channels_last() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(1, 3, 2, 4)
    (image,) = images_of(Dataset(pixels))
    assert np.array_equal(image, np.moveaxis(pixels[0], 0, 2))
    (gray,) = images_of(Dataset(pixels[:, :1]))
    assert np.array_equal(gray, pixels[0, 0])
    # Of inputs with other channels the first is shown.
    (first,) = images_of(Dataset(np.concatenate([pixels, pixels[:, :2]], axis=1)))
    assert np.array_equal(first, pixels[0, 0])


def test_a_caption_is_on_one_line() -> None:
    page = draw_samples([Sample(np.zeros((2, 2), np.uint8), ["a\n b"])]).axes[0]
    assert [text.get_text() for text in page.texts] == ["a b"]


def test_the_legend_of_runs_has_the_marker_and_the_color_of_their_points() -> None:
    figure = draw_curves([Curve(name, rows_of(2, "train_loss")) for name in "abc"])
    shown = [line for line in figure.legends[0].findobj(Line2D) if line.get_marker() != "None"]
    points = figure.axes[0].lines[::2]
    assert [line.get_marker() for line in points] == ["o", "s", "D"]
    for legend, drawn in zip(shown, points, strict=True):
        assert (legend.get_marker(), legend.get_color()) == (drawn.get_marker(), drawn.get_color())


@pytest.mark.parametrize("shape", [(4,), (2, 4), (1, 3, 4, 4)])
def test_a_network_of_other_inputs_takes_no_images(shape: tuple[int, ...]) -> None:
    given: Any = shape
    model = SavedModel(nn.Sequential(nn.ReLU(), nn.Flatten()), "features", given)
    with pytest.raises(PlotError, match=f"an input has {len(shape)} axes, not 3"):
        layers_of(model, ["0"])


@pytest.mark.parametrize(("shape", "columns"), [((6, 8, 32), 1), ((6, 32, 8), 6)])
def test_wide_tiles_stand_below_each_other_and_high_ones_beside(
    shape: tuple[int, ...], columns: int
) -> None:
    assert _Mosaic.of(Panel("", np.zeros(shape))).columns == columns


def test_a_group_of_which_one_scale_is_not_known_has_a_bar() -> None:
    image = Panel("", np.full((1, 4, 4), 255.0), scale=(0, 255))
    values = Panel("", np.full((1, 4, 4), -1.0))
    for group, count in (([image, values], 3), ([values, image], 3), ([image, image], 2)):
        axes = draw_panels([group]).axes
        assert len(axes) == count
        # An image has its own scale there too: 255 is white.
        at = [panel is image for panel in group].index(True)
        pixels = np.asarray(axes[at].images[0].get_array())
        assert (pixels == 1).all()
