"""Rules of figures that decide what is seen: order of tiles, colors, joined bars, shown layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from matplotlib.text import Text
from PIL import Image
from plots_support import model_of
from torch import nn

from torchlift.converters.saved import SavedModel
from torchlift.transfer.data import Dataset, ImageFiles
from torchlift.transfer.data.augmentation import Augmentation, draw
from torchlift.transfer.errors import LayerError, PlotError
from torchlift.transfer.evaluation import outcomes, summarize
from torchlift.transfer.plots import augmented
from torchlift.transfer.plots.activations import Activation, layers_of_file
from torchlift.transfer.plots.augmented import with_augmented
from torchlift.transfer.plots.color_scales import colored
from torchlift.transfer.plots.confusion import draw_confusion
from torchlift.transfer.plots.evaluation import reliability_of, save_evaluation_figures
from torchlift.transfer.plots.feature_maps import draw_feature_maps
from torchlift.transfer.plots.figures import new_figure, save_figure
from torchlift.transfer.plots.mosaic import Panel, _best_columns, _Mosaic, _with_ranges
from torchlift.transfer.plots.photographs import open_image
from torchlift.transfer.plots.predictions import samples_of
from torchlift.transfer.plots.reliability import draw_reliability
from torchlift.transfer.plots.samples import Sample, images_of
from torchlift.transfer.plots.sizes import LayerSize, draw_sizes
from torchlift.transfer.plots.tensors import weights_of, weights_of_file
from torchlift.transfer.plots.weights import unit_panel


def test_tiles_stand_from_left_to_right_and_from_top_to_bottom() -> None:
    """Six tiles of one value in rows of three, each enlarged to 32 pixels and more."""
    tiles = np.arange(6, dtype=np.float32).reshape(6, 1, 1)
    mosaic = _Mosaic.of(Panel("", tiles, columns=3))
    assert (mosaic.zoom, mosaic.tile) == (32, (32, 32))
    canvas = mosaic.canvas([(0.0, 5.0)] * 6)
    assert canvas.shape[:2] == mosaic.size == (2 * 32 + mosaic.gap, 3 * 32 + 2 * mosaic.gap)
    step = 32 + mosaic.gap
    seen = [[canvas[row * step, column * step, 0] for column in range(3)] for row in range(2)]
    # Gray values without negative ones: 0 is black, the largest white.
    np.testing.assert_allclose(seen, np.arange(6).reshape(2, 3) / 5, atol=1 / 255)
    assert (canvas[:, 32 : 32 + mosaic.gap] == 1).all()
    # The longer side decides how often a value is repeated.
    assert _Mosaic.of(Panel("", np.zeros((1, 4, 16)))).zoom == 2


@pytest.mark.parametrize(
    ("count", "ratio", "columns"),
    [(1, 1, 1), (2, 1, 2), (4, 1, 2), (6, 1, 3), (10, 1, 5), (64, 1, 8), (12, 0.5, 3), (7, 1, 4)],
)
def test_a_grid_is_a_little_wider_than_high_and_its_last_row_full(
    count: int, ratio: float, columns: int
) -> None:
    """Of 64 tiles eight in a row fill the last one; of seven four leave the fewest places."""
    assert _best_columns(count, ratio) == columns


def test_the_range_of_a_tile_is_part_of_its_label() -> None:
    tiles = np.array([[[-1.5, 2.0]], [[0.125, 3.0]]])
    assert _with_ranges(Panel("t", tiles)).labels == ["-1.5 to 2", "0.125 to 3"]
    named = _with_ranges(Panel("t", tiles, labels=["a", "b"], columns=2))
    assert (named.labels, named.columns) == (["a: -1.5 to 2", "b: 0.125 to 3"], 2)
    image = Panel("t", tiles, scale=(0, 255))
    assert _with_ranges(image) is image


def test_what_is_no_number_is_white() -> None:
    for tile in (np.array([[0.0, np.nan, np.inf]]), np.full((1, 1, 3), np.nan)):
        assert (colored(tile, (0.0, 1.0))[0, -1] == 1).all()
    assert colored(np.array([[[0.5, 2.0, -1.0]]]), (0.0, 1.0)).tolist() == [[[0.5, 1.0, 0.0]]]


def test_a_count_is_white_on_a_dark_cell_and_black_on_a_light_one() -> None:
    axes = draw_confusion(np.array([[3, 1], [1, 1]]), ["a", "b"], "").axes[0]
    colors = {text.get_position(): text.get_color() for text in axes.texts}
    assert colors == {(0, 0): "white", (1, 0): "black", (0, 1): "black", (1, 1): "black"}


def test_the_bins_of_a_reliability_diagram_have_their_counts() -> None:
    figure = draw_reliability([0, 0.5, 1], [3, 4], [0.25, 0.9], [0.5, 0.75], "")
    bars = [(bar.get_x(), bar.get_height()) for bar in figure.axes[1].patches]
    assert bars == [(0, 3), (0.5, 4)]
    scores = np.array([[0.9, 0.1], [0.6, 0.4]])
    result = summarize(outcomes(scores, "probabilities", np.array([0, 1])), ["a", "b"])
    edges = [bar.get_x() for bar in reliability_of(result).axes[0].patches]
    np.testing.assert_allclose(edges, np.arange(15) / 15)
    # Two confidences of 0.6 and one of 0.9, of which one and one are right.
    scores = np.array([[0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    result = summarize(outcomes(scores, "probabilities", np.array([0, 1, 1])), ["a", "b"])
    points, diagonal = reliability_of(result).axes[0].lines
    np.testing.assert_allclose(points.get_xydata(), [[0.6, 0.5], [0.9, 1]])
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize(("classes", "names"), [([0, 1], ""), ([0, 0], "mistakes.png")])
def test_mistakes_are_drawn_where_there_are_any(
    classes: list[int], names: str, tmp_path: Path
) -> None:
    data = Dataset(np.zeros((2, 1, 4, 4), np.uint8), np.array(classes))
    result = summarize(outcomes(np.eye(2), "probabilities", np.array(classes)), ["a", "b"])
    files = save_evaluation_figures(result, tmp_path / "new", data)
    expected = ["confusion.png", "reliability.png", *filter(None, [names])]
    assert [file.name for file in files] == expected
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == sorted(expected)


def test_a_figure_has_150_dots_an_inch(tmp_path: Path) -> None:
    with Image.open(save_figure(new_figure(2, 1), tmp_path / "new" / "a.png")) as image:
        assert image.size == (300, 150)


def test_a_layer_without_height_and_width_is_a_row_of_single_tiles() -> None:
    """Of 40 units each is a tile: a grid, not one tile of 40 values."""
    values = np.linspace(-1, 1, 40, dtype=np.float32)
    figure = draw_feature_maps(np.zeros((4, 4, 1), np.uint8), [Activation("fc", "Linear", values)])
    height, width = figure.axes[1].images[0].get_array().shape[:2]
    columns = _best_columns(40, 1)
    assert abs(height / width - (40 / columns) / columns) < 0.1


def test_a_file_of_the_name_of_a_photograph_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "china").mkdir()
    pixels = np.arange(4, dtype=np.uint8).reshape(1, 1, 2, 2)
    assert open_image("china", 0, lambda name: Dataset(pixels)) is not None
    assert np.array_equal(np.asarray(open_image("china", 0, lambda _: Dataset(pixels))), pixels[0])


class Fixed:
    """A classifier of two classes with names of its own."""

    labels = ("dog", "cat")
    preprocessing = None
    output_kind = "probabilities"

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        return np.array([[0.75, 0.25]] * len(inputs), np.float32)


def test_predictions_have_the_names_of_the_classifier() -> None:
    images = np.zeros((2, 1, 2, 2), np.float32)
    named: Any = Fixed()
    samples, notes = samples_of(Dataset(images, np.array([0, 1]), ("cat", "dog")), named)
    assert [sample.caption for sample in samples] == [["cat"], ["dog"]]
    assert samples[0].predictions == [("dog", 0.75), ("cat", 0.25)]
    assert [sample.true_class for sample in samples] == ["cat", "dog"]
    assert notes == ["the data's classes were matched with the model's by name"]
    # Without labels, an image is called what the data calls it.
    unnamed, _ = samples_of(Dataset(images, ids=np.array(["x.png", "y.png"])), named)
    assert [sample.caption for sample in unnamed] == [["x.png"], ["y.png"]]
    assert unnamed[0].predictions == samples[0].predictions
    plain, _ = samples_of(Dataset(images))
    assert [(sample.caption, list(sample.predictions)) for sample in plain] == [
        (["0"], []), (["1"], []),
    ]  # fmt: skip


def test_the_layers_of_the_fewest_bytes_share_a_bar() -> None:
    """Not those of the fewest parameters: a layer may have gradients and buffers too."""
    layers = [LayerSize(f"l{n}", 100 - n, {"weights": n, "buffers": 2 * n}) for n in range(1, 46)]
    figure = draw_sizes(layers, "")
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == [*(f"l{n}" for n in range(7, 46)), "6 smaller layers"]
    # Behind a layer's bar stands the sum of its groups.
    sums = [text.get_text() for text in figure.axes[1].texts]
    assert (sums[0], sums[-2], sums[-1]) == ("21 B", "135 B", "63 B")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["weights 1.0 kB", "buffers 2.1 kB"]


def test_the_filters_of_a_transposed_convolution_are_its_outputs() -> None:
    layer = nn.ConvTranspose2d(2, 5, 3)
    (array,) = weights_of(SavedModel(nn.Sequential(layer), "features")).layers.values()
    assert array.shape == (5, 2, 3, 3)
    assert np.array_equal(array[4, 1], layer.weight.detach().numpy()[1, 4])


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_product_of_a_file_has_a_row_for_each_output(transposed: int, tmp_path: Path) -> None:
    factor = np.arange(12, dtype=np.float32).reshape(3, 4)
    given = factor if transposed else np.ascontiguousarray(factor.T)
    node = onnx.helper.make_node("Gemm", ["x", "head"], ["y"], transB=transposed)
    onnx.save(model_of([node], ["n", 4], head=given), tmp_path / "m.onnx")
    assert np.array_equal(weights_of_file(tmp_path / "m.onnx").layers["head"], factor)


def test_only_products_and_convolutions_have_weights(tmp_path: Path) -> None:
    """A matrix that is added has two axes too."""
    nodes = [
        onnx.helper.make_node("Add", ["x", "shift"], ["z"]),
        onnx.helper.make_node("MatMul", ["z", "w"], ["y"]),
    ]
    shift, w = np.ones((1, 3), np.float32), np.ones((3, 2), np.float32)
    onnx.save(model_of(nodes, ["n", 3], shift=shift, w=w), tmp_path / "m.onnx")
    assert list(weights_of_file(tmp_path / "m.onnx").layers) == ["w"]


def test_the_layer_behind_the_first_convolution_takes_its_output(tmp_path: Path) -> None:
    """Whatever the graph lists between the two, such as the other branch of a network."""
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["c"]),
        onnx.helper.make_node("Neg", ["x"], ["n"]),
        onnx.helper.make_node("Relu", ["c"], ["r"]),
        onnx.helper.make_node("Add", ["r", "n"], ["y"]),
    ]
    weight = np.full((1, 1, 1, 1), -1, np.float32)
    onnx.save(model_of(nodes, ["n", 1, 2, 2], w=weight), tmp_path / "m.onnx")
    opened = layers_of_file(tmp_path / "m.onnx", [])
    assert (opened.extractor.names, list(opened.kinds)) == (["c", "r"], ["Conv", "Relu"])
    assert opened.preprocessing.size == (2, 2)
    # A constant is no layer, unless it is called the weight of one.
    with pytest.raises(LayerError, match="no value 'w' in the ONNX graph"):
        layers_of_file(tmp_path / "m.onnx", ["w"])


def test_units_have_their_names_if_all_of_them_are_shown() -> None:
    rows = np.zeros((1030, 4), np.float32)
    labels = [str(index) for index in range(1030)]
    panel, limit = unit_panel("t", rows, (1, 2, 2), labels)
    assert (panel.labels, limit) == (None, "the first 1024 of 1030 units")
    panel, limit = unit_panel("t", rows[:3], (1, 2, 2), labels[:3])
    assert (panel.labels, limit) == (["0", "1", "2"], "")


def test_each_version_of_an_image_is_that_of_an_epoch() -> None:
    """A training of the same seed draws the same numbers: which epochs mirror the image."""
    image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    shown = with_augmented([Sample(image, ["a"])], Augmentation(flip=True), 3)[1:]
    mirrored = [np.array_equal(sample.image, image[:, ::-1]) for sample in shown]
    assert mirrored == [
        bool(draw(3, epoch, 1)[0, 0] < 0.5) for epoch in range(1, augmented.VERSIONS + 1)
    ]
    assert len(set(mirrored)) == 2


@pytest.mark.parametrize("shape", [(4, 10), (10, 4, 3)])
def test_a_changed_version_has_the_size_of_its_image(shape: tuple[int, ...]) -> None:
    image = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)
    given = Augmentation(resized_crop=0.3, rotation=20, flip=True)
    versions = with_augmented([Sample(image, ["x"])], given, seed=0)
    assert len(versions) == 6
    assert {version.image.shape for version in versions} == {shape}


def test_an_erased_box_of_a_color_image_has_the_mean_of_each_channel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(augmented, "erase", lambda inputs, *_: torch.zeros_like(inputs))
    image = np.zeros((2, 2, 3), np.uint8)
    image[..., 1], image[0, :, 2] = 40, 100
    shown = with_augmented([Sample(image, ["a"])], Augmentation(erasing=1.0), 0)[1]
    assert (shown.image == [0, 40, 50]).all()


def test_a_long_title_of_a_figure_is_shortened_to_its_width() -> None:
    figure = draw_confusion(np.eye(2, dtype=int), ["a", "b"], "an accuracy " * 20)
    titles = [t.get_text() for t in figure.findobj(Text) if t.get_text().startswith("an acc")]
    assert len(titles) == 1
    assert "…" in titles[0]


def test_images_of_files_are_drawn_as_they_are(tmp_path: Path) -> None:
    files = np.empty(2, object)
    for index, (mode, color) in enumerate((("L", 7), ("RGB", (1, 2, 3)))):
        files[index] = tmp_path / f"{index}.png"
        Image.new(mode, (3, 2), color).save(files[index])
    data = ImageFiles(files, np.array([0, 1]), ("a", "b"))
    drawn = images_of(data)
    assert [each.shape[:2] for each in drawn] == [(2, 3), (2, 3)]
    assert drawn[1].tolist() == [[[1, 2, 3]] * 3] * 2
    # The same image of a dataset in memory and in files.
    shown = open_image("d", 1, lambda _: data)
    assert isinstance(shown, Image.Image)
    assert np.array_equal(np.asarray(shown), drawn[1])
    pixels = open_image("d", 1, lambda _: data.take(np.array([1, 1])).in_memory(None))
    assert np.array_equal(pixels, drawn[1].transpose(2, 0, 1))
    for index in (-1, 2):
        with pytest.raises(PlotError, match=f"no image index={index}: they count from 0 to 1"):
            open_image("d", index, lambda _: data)


@pytest.mark.parametrize("axis", [0, 1, None])
def test_quantized_weights_have_the_scale_of_their_axis(axis: int | None, tmp_path: Path) -> None:
    """Without a word it is the second one, as ONNX says."""
    codes = np.array([[1, 2], [3, -4]], np.int8)
    scale, zero = np.array([0.5, 10], np.float32), np.array([1, 0], np.int8)
    given = {} if axis is None else {"axis": axis}
    nodes = [
        onnx.helper.make_node("DequantizeLinear", ["w.weight_quantized", "s", "z"], ["w"], **given),
        onnx.helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    model = model_of(nodes, ["n", 2], **{"w.weight_quantized": codes, "s": scale, "z": zero})
    onnx.save(model, tmp_path / "m.onnx")
    expected = [[0, 0.5], [30, -40]] if axis == 0 else [[0, 20], [1, -40]]
    _, found = weights_of_file(tmp_path / "m.onnx").of("w", 2)
    assert found.T.tolist() == expected


def test_a_product_of_two_results_has_no_weights(tmp_path: Path) -> None:
    """As in attention; nor has one with a bias alone."""
    make = onnx.helper.make_node
    nodes = [
        make("Transpose", ["x"], ["t"], perm=[1, 0]),
        make("MatMul", ["x", "t"], ["s"]),
        make("MatMul", ["s", "vector"], ["v"]),
        make("MatMul", ["x", "w"], ["y"]),
    ]
    constants = {"vector": np.ones(3, np.float32), "w": np.ones((4, 2), np.float32)}
    onnx.save(model_of(nodes, [3, 4], **constants), tmp_path / "m.onnx")
    assert list(weights_of_file(tmp_path / "m.onnx").layers) == ["w"]
