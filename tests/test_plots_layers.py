"""Which layers figures show of a network, in how many panels, and with which scales and texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from plots_support import model_of
from torch import nn

from torchlift.converters.errors import NotFiniteError
from torchlift.converters.saved import SavedModel
from torchlift.transfer.data import Dataset
from torchlift.transfer.errors import PlotError
from torchlift.transfer.evaluation import outcomes, summarize
from torchlift.transfer.plots import feature_maps
from torchlift.transfer.plots.activations import Activation, layers_of, layers_of_file
from torchlift.transfer.plots.evaluation import confusion_of, mistakes_of
from torchlift.transfer.plots.feature_maps import draw_feature_maps
from torchlift.transfer.plots.figures import marker, new_page, short
from torchlift.transfer.plots.mosaic import Panel, _Mosaic, draw_panels
from torchlift.transfer.plots.sizes import sizes_in_onnx
from torchlift.transfer.plots.tensors import weights_of, weights_of_file


def model(*layers: nn.Module, **options: Any) -> SavedModel:
    return SavedModel(nn.Sequential(*layers).eval(), "features", **options)


@pytest.mark.parametrize(
    ("network", "names", "kinds"),
    [
        (model(nn.ReLU(), nn.Conv2d(1, 2, 1)), ["1"], ["Conv2d"]),
        (
            model(nn.ReLU(), nn.Sequential(nn.Conv2d(1, 2, 1)), nn.Tanh(), nn.Conv2d(2, 2, 1)),
            ["1.0", "2"],
            ["Conv2d", "Tanh"],
        ),
        # A layer, and no row of layers, stands behind it.
        (
            model(nn.Conv2d(1, 2, 1), nn.Sequential(nn.Sigmoid(), nn.ReLU())),
            ["0", "1.0"],
            ["Conv2d", "Sigmoid"],
        ),
    ],
)
def test_the_first_convolution_is_shown_and_what_stands_behind_it(
    network: SavedModel, names: list[str], kinds: list[str]
) -> None:
    opened = layers_of(network, [])
    assert (opened.extractor.names, list(opened.kinds)) == (names, kinds)


@pytest.mark.parametrize(
    ("network", "color", "size"),
    [
        (model(nn.Conv2d(1, 2, 1)), "gray", None),
        (model(nn.Conv2d(3, 2, 1)), "RGB", None),
        # Without a convolution nobody knows: most images are in color.
        (model(nn.ReLU(), nn.Flatten()), "RGB", None),
        (model(nn.Flatten(), input_shape=(3, 4, 5)), "RGB", (4, 5)),
        (model(nn.Flatten(), input_shape=(1, 4, 5)), "gray", (4, 5)),
    ],
)
def test_images_get_the_colors_and_the_size_that_the_network_takes(
    network: SavedModel, color: str, size: tuple[int, int] | None
) -> None:
    preprocessing = layers_of(network, ["0"]).preprocessing
    assert (preprocessing.color, preprocessing.size) == (color, size)
    pixels = np.full((1, 4, 5), 51, np.uint8)
    seen, (first,) = layers_of(model(nn.ReLU(), nn.Conv2d(1, 1, 1)), ["0"]).run(pixels)
    assert seen.shape == (4, 5, 1)
    assert first.title == "0 ReLU: 1×4×5"
    np.testing.assert_allclose(first.values, 0.2, rtol=1e-6)


def test_an_output_that_overflows_is_named() -> None:
    network = model(nn.Conv2d(1, 1, (1, 2), bias=False), nn.ReLU())
    nn.init.constant_(network.module.get_parameter("0.weight"), 3e38)
    with pytest.raises(NotFiniteError, match="the output of layer 0"):
        layers_of(network, ["0"]).run(np.full((1, 1, 2), 255, np.uint8))
    assert layers_of(network, ["0"]).run(np.zeros((1, 1, 2), np.uint8))[1][0].values.shape == (
        1, 1, 1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "fixed"),
    [
        (["n", 1, 2, 3], (1, 2, 3)),
        (["n", 1, "h", "w"], None),
        (["n", 1, None, None], None),
        (["n", 4, 5], None),
    ],
)
def test_the_shape_of_images_of_a_file_is_known_if_no_axis_is_free(
    shape: list[Any], fixed: tuple[int, ...] | None, tmp_path: Path
) -> None:
    kernel = np.ones((1, 1, 1, 1) if len(shape) == 4 else (1, 4, 1), np.float32)
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"])
    onnx.save(model_of([node], shape, w=kernel), tmp_path / "m.onnx")
    assert weights_of_file(tmp_path / "m.onnx").input_shape == fixed
    if len(shape) == 4:
        opened = layers_of_file(tmp_path / "m.onnx", [])
        assert (opened.extractor.names, list(opened.kinds)) == (["y"], ["Conv"])
        assert opened.preprocessing.color == "gray"
        assert opened.preprocessing.size == (None if fixed is None else (2, 3))


def test_of_several_operators_behind_a_convolution_the_first_is_shown(tmp_path: Path) -> None:
    make = onnx.helper.make_node
    nodes = [
        make("Conv", ["x", "w"], ["c"]),
        make("Relu", ["c"], ["r"]),
        make("Neg", ["c"], ["n"]),
        make("Add", ["r", "n"], ["y"]),
    ]
    onnx.save(
        model_of(nodes, ["b", 1, 2, 2], w=np.ones((1, 1, 1, 1), np.float32)), tmp_path / "m.onnx"
    )
    opened = layers_of_file(tmp_path / "m.onnx", [])
    assert (opened.extractor.names, list(opened.kinds)) == (["c", "r"], ["Conv", "Relu"])


def test_the_input_of_a_file_is_a_layer_too(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Conv", ["x", "c.weight"], ["y"])
    weight = np.full((1, 1, 1, 1), 2, np.float32)
    onnx.save(model_of([node], ["n", 1, 2, 2], **{"c.weight": weight}), tmp_path / "m.onnx")
    opened = layers_of_file(tmp_path / "m.onnx", ["input", "c"])
    assert list(opened.kinds) == ["input", "Conv"]
    _, (first, second) = opened.run(np.full((1, 2, 2), 255, np.uint8))
    assert (first.values.max(), second.values.max()) == (1, 2)


@pytest.mark.parametrize(
    ("sides", "size"), [((2, 4), (2, 4)), ((2, "w"), None), (("h", 4), None), (("h", "w"), None)]
)
def test_images_are_resized_where_the_graph_fixes_both_sides(
    sides: tuple[Any, Any], size: tuple[int, int] | None, tmp_path: Path
) -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    onnx.save(model_of([node], ["n", 1, *sides]), tmp_path / "m.onnx")
    assert layers_of_file(tmp_path / "m.onnx", ["y"]).preprocessing.size == size


def test_the_bytes_of_a_file_are_those_of_each_dtype(tmp_path: Path) -> None:
    """Constants of one layer are summed; one without a dot in its name is a layer itself."""
    constants: dict[str, np.ndarray] = {
        "a.b.weight": np.ones((2, 3), np.int8),
        "a.b.scale": np.ones(2, np.float16),
        "shift": np.ones((1, 3), np.float64),
    }
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "a.b.weight"], ["z"]),
        onnx.helper.make_node("Add", ["z", "shift"], ["y"]),
    ]
    onnx.save(model_of(nodes, ["n", 2], **constants), tmp_path / "m.onnx")
    found = [
        (layer.name, layer.parameters, dict(layer.bytes_by_group))
        for layer in sizes_in_onnx(tmp_path / "m.onnx")
    ]
    assert found == [
        ("a.b MatMul", 8, {"weights": 6 + 4}),
        ("shift Add", 3, {"weights": 24}),
    ]


def test_similar_names_are_told_or_the_first_ones() -> None:
    network = model(*(nn.Linear(2, 2) for _ in range(7)))
    weights = weights_of(network)
    weights_without_network = type(weights)(weights.layers, None)
    with pytest.raises(PlotError, match=r"'zzz' is no linear layer .* names: 0, 1, 2, 3, 4$"):
        weights_without_network.of("zzz", 2)
    assert weights_without_network.of("5.weight", 2)[0] == "5"


def test_panels_of_a_group_share_a_bar_as_far_as_they_stand_beside_each_other() -> None:
    """Of five panels of 2.3 inches, four fit into a row; each row has a bar."""
    panel = Panel("t", np.linspace(-1, 1, 2 * 64 * 64).reshape(2, 64, 64)[:1])
    figure = draw_panels([[panel] * 5])
    shown = [len(axes.images) for axes in figure.axes]
    assert shown == [1, 1, 1, 1, 0, 1, 0]
    assert figure.get_size_inches()[0] < 11.75
    first, fifth = figure.axes[0].get_position(), figure.axes[5].get_position()
    assert first.x0 == pytest.approx(fifth.x0)
    assert first.y0 > fifth.y1
    # What has a scale of its own needs no bar, and neither do tiles of which each has its own.
    assert len(draw_panels([[Panel("i", panel.tiles, scale=(-1, 1))]]).axes) == 1
    assert len(draw_panels([[panel, panel]], shared_scale=False).axes) == 2


def test_groups_stand_beside_each_other_as_far_as_they_fit() -> None:
    panel = Panel("t", np.linspace(-1, 1, 64 * 64).reshape(1, 64, 64))
    figure = draw_panels([[panel]] * 4)
    places = [axes.get_position() for axes in figure.axes if axes.images]
    assert [round(place.y0, 3) for place in places].count(round(places[0].y0, 3)) == 3
    assert places[3].x0 == pytest.approx(places[0].x0)


def test_layers_of_one_shape_in_a_row_share_a_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those with another between them. Of 513 maps the last is left out."""
    asked: list[Any] = []
    monkeypatch.setattr(feature_maps, "draw_panels", lambda *given: asked.append(given))
    shapes = [(2, 3, 3), (2, 3, 3), (513, 1, 1), (2, 3, 3), (4, 5), (6,)]
    layers = [
        Activation(str(index), "ReLU", np.full(shape, index, np.float32))
        for index, shape in enumerate(shapes)
    ]
    image = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    draw_feature_maps(image, layers, False)
    ((groups, shared),) = asked
    assert shared is False
    assert [[panel.title for panel in group] for group in groups] == [
        ["the image"],
        ["0 ReLU: 2×3×3", "1 ReLU: 2×3×3"],
        ["2 ReLU: 513×1×1"],
        ["3 ReLU: 2×3×3"],
        ["4 ReLU: 4×5"],
        ["5 ReLU: 6"],
    ]
    assert [group[-1].tiles.shape for group in groups] == [
        (1, 2, 3, 3), (2, 3, 3), (512, 1, 1), (2, 3, 3), (1, 4, 5), (6, 1, 1),
    ]  # fmt: skip
    assert groups[0][0].scale == (0, 255)
    assert np.array_equal(groups[0][0].tiles[0, ..., 2], image[..., 0])


def test_mistakes_have_what_was_said_and_what_is_true() -> None:
    """The most confident one first, with its own image."""
    scores = np.array([[0.25, 0.75], [0.1, 0.9], [0.75, 0.25], [1.0, 0.0]])
    classes = np.array([0, 0, 1, 0])
    result = summarize(outcomes(scores, "probabilities", classes), ["cat", "dog"])
    pixels = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1)
    page = mistakes_of(result, Dataset(pixels, classes, ("cat", "dog"))).axes[0]
    texts = [text.get_text() for text in page.texts]
    assert texts[:2] == ["dog 0.90", "true: cat 0.10"]
    assert sorted(texts[2::2]) == ["cat 0.75", "dog 0.75"]
    assert int(page.images[0].get_array()[0, 0]) == 1
    matrix = confusion_of(result).axes[0]
    assert matrix.get_title(loc="left") == "accuracy 0.25"
    assert [label.get_text() for label in matrix.get_xticklabels()] == ["cat", "dog"]
    np.testing.assert_allclose(matrix.images[0].get_array(), [[1 / 3, 2 / 3], [1, 0]])


@pytest.mark.parametrize(
    ("label", "length", "expected"),
    [
        ("abcdefghij", 10, "abcdefghij"),
        ("abcdefghijk", 10, "abcdef…ijk"),
        ("abcdefghijk", 9, "abcdef…jk"),
        (" a\tb \n c ", 5, "a b c"),
    ],
)
def test_a_label_is_as_long_as_it_may_be(label: str, length: int, expected: str) -> None:
    assert short(label, length) == expected


def test_markers_begin_again_and_a_page_is_measured_from_its_top() -> None:
    markers = [marker(index) for index in range(8)]
    assert len(set(markers)) == 8
    assert [marker(index) for index in range(8, 12)] == markers[:4]
    figure, axes = new_page(3, 2)
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 3), (2, 0))
    assert figure.get_size_inches().tolist() == [3, 2]
    assert axes.get_position().bounds == (0, 0, 1, 1)


@pytest.mark.parametrize(
    ("count", "labeled", "width"),
    [(100, False, 4.6), (100, True, 8.0), (1024, False, 38 * 0.2), (4, False, 2.0), (4, True, 2.0)],
)
def test_a_tile_has_the_width_that_its_label_needs(count: int, labeled: bool, width: float) -> None:
    """At least 0.2 inches, and 0.8 with a label; at most 1 for a single value."""
    labels = [str(index) for index in range(count)] if labeled else None
    mosaic = _Mosaic.of(Panel("", np.zeros((count, 1, 1)), labels))
    assert mosaic.width == pytest.approx(width)
    # A label has a strip of its own above each row of tiles, which is a fifth of an inch.
    pixels = mosaic.size[1] / mosaic.width
    assert mosaic.strip == (pytest.approx(0.2 * pixels, rel=0.15) if labeled else 0)
    assert mosaic.corner(mosaic.columns)[0] == 32 + mosaic.gap + 2 * mosaic.strip
