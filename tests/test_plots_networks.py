"""Pictures of networks show the numbers that are in them: filters, units, feature maps, sizes."""

from __future__ import annotations

import itertools
from pathlib import Path

import matplotlib
import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_sample_image
from support import FIXTURES
from torch.nn import functional

from torchlift.converters import t7
from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.onnx import export
from torchlift.converters.saved import SavedModel, open_model
from torchlift.transfer.errors import PlotError
from torchlift.transfer.networks.photo_filters import photo_filters
from torchlift.transfer.plots.activations import layers_of, layers_of_file
from torchlift.transfer.plots.figures import SIGNED, save_figure
from torchlift.transfer.plots.mosaic import draw_panels, scale_of
from torchlift.transfer.plots.sizes import (
    LayerSize,
    draw_sizes,
    sizes_in_network,
    sizes_in_onnx,
    sizes_in_t7,
)
from torchlift.transfer.plots.tensors import weights_of, weights_of_file
from torchlift.transfer.plots.weights import filter_panel, image_shape, unit_panel

DIGITS = FIXTURES / "digits"
LENET = DIGITS / "digits-lenet5.t7"


@pytest.fixture(scope="module")
def lenet() -> SavedModel:
    names, scale = DIGITS / "digits_classes.t7", DIGITS / "digits_meanStd.t7"
    return open_model(LENET, labels=names, mean_std=scale)


@pytest.fixture(scope="module")
def exported(lenet: SavedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("onnx") / "lenet.onnx"
    export(lenet, file)
    return file


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def colors_in_order(file: Path) -> list[tuple[float, ...]]:
    """The tiles' colours in a saved picture, from left to right and top to bottom, each once."""
    pixels = np.asarray(Image.open(file).convert("RGB")) / 255
    found: list[tuple[float, ...]] = []
    for row in pixels:
        for color, run in itertools.groupby(map(tuple, row)):
            if len(list(run)) > 40 and min(color) < 1 and color not in found:
                found.append(color)
    return found


def test_the_dots_of_a_file_are_the_filters_numbers(tmp_path: Path) -> None:
    values = np.array([[-0.4, 0.1], [0.2, 0.4]], np.float32)
    file = save_figure(draw_panels([[filter_panel("", values[None, None])[0]]]), tmp_path / "f.png")
    expected = matplotlib.colormaps[SIGNED]((values.ravel() + 0.4) / 0.8)[:, :3]
    # A PNG has 256 steps.
    np.testing.assert_allclose(colors_in_order(file), expected, atol=1 / 255)


def test_three_channels_are_colours_with_grey_for_zero(tmp_path: Path) -> None:
    values = np.array([[[0, 0.5]], [[0, -0.5]], [[0, 0.25]]], np.float32)
    file = save_figure(draw_panels([[filter_panel("", values[None])[0]]]), tmp_path / "f.png")
    expected = [(0.5, 0.5, 0.5), (1.0, 0.0, 0.75)]
    np.testing.assert_allclose(colors_in_order(file)[:2], expected, atol=1.5 / 255)


def test_filters_that_are_compared_have_one_scale() -> None:
    before, after = np.full((1, 1, 1, 1), 0.1), np.array([[[[0.1, -2.0]]]])
    panels = [filter_panel("before", before)[0], filter_panel("after", after)[0]]

    def first_dots(together: bool) -> list[np.ndarray]:
        figure = draw_panels([panels], together)
        return [axes.images[0].get_array()[-1, 0] for axes in figure.axes[:2]]

    same, expected = first_dots(True), matplotlib.colormaps[SIGNED](2.1 / 4)[:3]
    np.testing.assert_array_equal(same[0], same[1])
    np.testing.assert_allclose(same[0], expected)
    apart = first_dots(False)
    assert not np.array_equal(apart[0], apart[1])
    assert scale_of([before, after]) == (-2, 2)
    # What has no negative number begins at 0; NaN and infinity are no part of a scale.
    assert scale_of([np.array([1, 3, np.nan, np.inf])]) == (0, 3)
    assert scale_of([np.zeros(3)]) == (0, 1)
    # Of many numbers the largest half percent share the last colour, unless nothing else is there.
    assert scale_of([np.arange(1, 1001)]) == (0, 996)
    assert scale_of([np.eye(1, 1000) * 7]) == (0, 7)


def test_what_does_not_fit_is_counted() -> None:
    panel, missing = filter_panel("", random(40, 64, 3, 3))
    assert panel.tiles.shape == (32 * 32, 3, 3)
    assert missing == "the first 32 of 40 filters, the first 32 of 64 channels"
    panel, missing = filter_panel("", random(2000, 3, 2, 2))
    assert (len(panel.tiles), missing) == (1024, "the first 1024 of 2000 filters")
    # A row for each filter, a column for each channel.
    filters = random(4, 5, 3, 3)
    panel, missing = filter_panel("", filters)
    assert (panel.columns, missing) == (5, "")
    np.testing.assert_array_equal(panel.tiles[2 * 5 + 3], filters[2, 3])


def test_units_are_cut_into_images_as_the_network_flattens_them() -> None:
    rows = random(10, 2 * 3 * 4)
    panel, _ = unit_panel("", rows, (1, 6, 4), list("abcdefghij"))
    expected = torch.from_numpy(rows).unflatten(1, (6, 4)).numpy()
    np.testing.assert_array_equal(panel.tiles, expected)
    colored, _ = unit_panel("", random(5, 3 * 16), (3, 4, 4))
    np.testing.assert_array_equal(colored.tiles[1, 2, 3], random(5, 3, 4, 4)[1, :, 2, 3])
    assert image_shape(784, (1, 28, 28)) == (1, 28, 28)
    assert image_shape(3072, None) == (3, 32, 32)
    with pytest.raises(PlotError, match="400 inputs are not the network's picture"):
        image_shape(400, (1, 32, 32))
    with pytest.raises(PlotError, match="24 inputs are no picture of 1×5×5"):
        unit_panel("", rows, (1, 5, 5))


def test_weights_are_those_that_lua_wrote(lenet: SavedModel, exported: Path) -> None:
    network = t7.load(LENET)
    lua = {index - 1: layer for index, layer in network["modules"].items()}
    for weights in (weights_of(lenet), weights_of_file(exported)):
        assert weights.input_shape == (1, 32, 32)
        assert weights.labels == lenet.labels
        name, found = weights.of(None, 4)
        assert name == "0"
        np.testing.assert_array_equal(found.ravel(), np.float32(lua[0]["weight"]).ravel())
        linear = [name for name, array in weights.layers.items() if array.ndim == 2]
        for name in linear:
            np.testing.assert_array_equal(
                weights.of(name, 2)[1], np.float32(lua[int(name)]["weight"])
            )
        assert len(linear) == 3
        assert weights.of("3.weight", 4)[0] == "3"
        with pytest.raises(PlotError, match=r"'1?7' is no convolution .* there are: 0, 3"):
            weights.of("7", 4)
    assert weights_of(lenet).of("get(4)", 4)[0] == "3"


def test_the_factor_of_a_matrix_product_stands_the_other_way_round(tmp_path: Path) -> None:
    factor = random(6, 4)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "head.weight"], ["y"])],
        "product",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 6])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 4])],
        [onnx.numpy_helper.from_array(factor, "head.weight")],
    )
    onnx.save(onnx.helper.make_model(graph), tmp_path / "product.onnx")
    name, weight = weights_of_file(tmp_path / "product.onnx").of(None, 2)
    assert name == "head"
    np.testing.assert_array_equal(weight, factor.T)


def test_weights_of_an_int8_file_are_numbers_again(lenet: SavedModel, tmp_path: Path) -> None:
    from torchlift.converters.onnx import quantize

    export(lenet, tmp_path / "float.onnx")
    inputs = random(64, 1, 32, 32)
    quantize(tmp_path / "float.onnx", tmp_path / "int8.onnx", inputs, max_drop=1)
    whole, rounded = (weights_of_file(tmp_path / f"{name}.onnx") for name in ("float", "int8"))
    assert list(whole.layers) == list(rounded.layers)
    for name, array in whole.layers.items():
        # A channel has 255 steps between its extremes.
        step = np.abs(array.reshape(len(array), -1)).max(axis=1) / 127
        error = np.abs(rounded.layers[name] - array).reshape(len(array), -1).max(axis=1)
        assert (error <= step * 0.51 + 1e-7).all()


def test_feature_maps_are_computed_from_luas_weights(lenet: SavedModel, exported: Path) -> None:
    layer = t7.load(LENET)["modules"][1]
    image = t7.load(DIGITS / "digits-test.t7")["data"][3]
    scale = t7.load(DIGITS / "digits_meanStd.t7")
    mean, std = (float(scale[name][1]) for name in ("mean", "std"))
    inputs = torch.from_numpy((image.astype(np.float64) - mean) / std)[None]
    weight, bias = (torch.from_numpy(np.array(layer[name])).double() for name in ("weight", "bias"))
    expected = functional.conv2d(inputs, weight.reshape(6, 1, 5, 5), bias)[0].numpy()
    for opened in (
        layers_of(lenet, []),
        layers_of_file(exported, []),
        layers_of_file(exported, ["0"]),
    ):
        seen, layers = opened.look_at(image)
        np.testing.assert_array_equal(seen[..., 0], image[0])
        # Float32 sums of 25 products.
        np.testing.assert_allclose(layers[0].values, expected, atol=1e-5)
        assert layers[0].title.endswith(": 6×28×28")
    seen, layers = layers_of(lenet, ["get(1)", "1", "penultimate"]).look_at(image)
    assert [one.kind for one in layers] == ["Conv2d", "ReLU", "given"]
    np.testing.assert_array_equal(layers[1].values, np.maximum(layers[0].values, 0))
    assert layers[2].values.shape == (84,)


def test_a_network_without_preprocessing_is_given_pixels_from_0_to_1() -> None:
    model = SavedModel(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1)).eval(), "features")
    with torch.no_grad():
        model.module[0].weight.fill_(2)
        model.module[0].bias.zero_()
    opened = layers_of(model, [])
    pixels = np.array([[[0, 51, 255]]], np.uint8)
    np.testing.assert_allclose(opened.look_at(pixels)[1][0].values, [[[0, 0.4, 2]]], rtol=1e-6)
    assert "pixels from 0 to 1" in opened.note
    with pytest.raises(PlotError, match="no convolution"):
        layers_of(SavedModel(torch.nn.Linear(2, 2), "logits"), [])


def test_the_image_is_shown_in_its_own_colours() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 1, 1))
    model = SavedModel(network, "features", preprocessing=Preprocessing("BGR"))
    pixels = random(3, 4, 5).astype(np.uint8)
    seen, _ = layers_of(model, []).look_at(pixels)
    np.testing.assert_array_equal(seen, pixels.transpose(1, 2, 0))


def test_photo_filters_are_those_of_scipy() -> None:
    names = [name for name, _ in photo_filters().module.named_children()]
    photograph = Image.fromarray(load_sample_image("china.jpg")).resize((161, 107))
    seen, layers = layers_of(photo_filters(), names).look_at(photograph)
    gray = np.asarray(photograph.convert("L"), np.float64)
    np.testing.assert_array_equal(seen[..., 0], gray)
    gray /= 255
    found = {one.name: one.values[0] for one in layers}
    sobel = ndimage.sobel(gray, axis=1, mode="constant")
    inner = (slice(1, -1), slice(1, -1))
    expected = {
        "blur": ndimage.uniform_filter(gray, 3, mode="constant"),
        "outline": 9 * (gray - ndimage.uniform_filter(gray, 3, mode="constant")),
        "sharpen": gray - ndimage.laplace(gray, mode="constant"),
        "horizontal_edges": ndimage.sobel(gray, axis=0, mode="constant"),
        "vertical_edges": sobel,
        "no_padding": sobel[inner],
        "stride_2": sobel[::2, ::2],
        "stride_4": sobel[::4, ::4],
        "max_pool_2": gray[:106, :160].reshape(53, 2, 80, 2).max(axis=(1, 3)),
        "average_pool_8": gray[:104, :160].reshape(13, 8, 20, 8).mean(axis=(1, 3)),
    }
    for name, values in expected.items():
        # Float32.
        np.testing.assert_allclose(found[name], values, atol=1e-5, err_msg=name)
    # Padding 2 adds a ring around padding 1.
    assert found["padding_2"].shape == (109, 163)
    np.testing.assert_allclose(found["padding_2"][inner], found["vertical_edges"], atol=1e-6)


@pytest.mark.parametrize("name", ["digits-lenet5-bn_uncleared.t7", "digits-lenet5.t7"])
def test_the_sizes_in_a_t7_are_the_file(name: str) -> None:
    layers = sizes_in_t7(DIGITS / name)
    whole = sum(sum(layer.bytes.values()) for layer in layers)
    assert whole == (DIGITS / name).stat().st_size
    model = open_model(DIGITS / name)
    counted = sum(parameter.numel() for parameter in model.module.parameters())
    assert sum(layer.parameters for layer in layers) == counted


def test_the_sizes_of_a_network_count_what_is_shared_once(tmp_path: Path) -> None:
    first, second = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
    second.weight = first.weight
    network = torch.nn.Sequential(first, second, torch.nn.BatchNorm1d(8), torch.nn.ReLU())
    layers = sizes_in_network(SavedModel(network, "features"))
    assert [(layer.name, layer.parameters, dict(layer.bytes)) for layer in layers] == [
        ("0 Linear", 72, {"weights": 288}),
        ("1 Linear", 8, {"weights": 32}),
        ("2 BatchNorm1d", 16, {"weights": 64, "buffers": 72}),
    ]


def test_the_sizes_in_an_onnx_file_are_its_constants(exported: Path) -> None:
    layers = {layer.name.split()[0]: layer for layer in sizes_in_onnx(exported)}
    assert layers["0"].name == "0 Conv"
    assert (layers["0"].parameters, dict(layers["0"].bytes)) == (156, {"weights": 624})


def test_the_bars_of_sizes_are_the_sizes() -> None:
    layers = [LayerSize("a", 3, {"weights": 12, "buffers": 5}), LayerSize("b", 0, {"buffers": 7})]
    figure = draw_sizes(layers, "")
    left, right = figure.axes
    assert [bar.get_width() for bar in left.patches] == [3, 0]
    assert [(bar.get_x(), bar.get_width()) for bar in right.patches] == [
        (0, 12), (0, 0), (12, 5), (0, 7),
    ]  # fmt: skip
    # Of very many layers the smallest are one bar, and nothing is lost.
    many = [LayerSize(str(index), index, {"weights": index}) for index in range(1, 100)]
    bars = draw_sizes(many, "").axes[0].patches
    assert len(bars) == 40
    assert sum(bar.get_width() for bar in bars) == sum(range(1, 100))
