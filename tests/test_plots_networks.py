"""Figures of networks show the right values: filters, units, feature maps, sizes."""

from __future__ import annotations

import itertools
from pathlib import Path

import matplotlib
import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
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
from torchlift.transfer.plots.color_scales import scale_of
from torchlift.transfer.plots.figures import SIGNED, save_figure
from torchlift.transfer.plots.mosaic import draw_panels
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
    """Return the distinct colors of the tiles in a file, from left to right, top to bottom."""
    pixels = np.asarray(Image.open(file).convert("RGB")) / 255
    colors: list[tuple[float, ...]] = []
    for row in pixels:
        for color, run in itertools.groupby(map(tuple, row)):
            if len(list(run)) > 40 and min(color) < 1 and color not in colors:
                colors.append(color)
    return colors


def test_the_pixels_of_a_file_are_the_values_of_the_filters(tmp_path: Path) -> None:
    values = np.array([[-0.4, 0.1], [0.2, 0.4]], np.float32)
    file = save_figure(draw_panels([[filter_panel("", values[None, None])[0]]]), tmp_path / "f.png")
    expected = matplotlib.colormaps[SIGNED]((values.ravel() + 0.4) / 0.8)[:, :3]
    # A PNG has 256 steps.
    np.testing.assert_allclose(colors_in_order(file), expected, atol=1 / 255)


def test_three_channels_are_colors_with_gray_for_zero(tmp_path: Path) -> None:
    values = np.array([[[0, 0.5]], [[0, -0.5]], [[0, 0.25]]], np.float32)
    file = save_figure(draw_panels([[filter_panel("", values[None])[0]]]), tmp_path / "f.png")
    expected = [(0.5, 0.5, 0.5), (1.0, 0.0, 0.75)]
    np.testing.assert_allclose(colors_in_order(file)[:2], expected, atol=1.5 / 255)


def test_compared_filters_have_one_scale() -> None:
    before, after = np.full((1, 1, 1, 1), 0.1), np.array([[[[0.1, -2.0]]]])
    panels = [filter_panel("before", before)[0], filter_panel("after", after)[0]]

    def first_pixels(shared_scale: bool) -> list[np.ndarray]:
        figure = draw_panels([panels], shared_scale)
        return [axes.images[0].get_array()[-1, 0] for axes in figure.axes[:2]]

    shared, expected = first_pixels(True), matplotlib.colormaps[SIGNED](2.1 / 4)[:3]
    np.testing.assert_array_equal(shared[0], shared[1])
    np.testing.assert_allclose(shared[0], expected)
    own = first_pixels(False)
    assert not np.array_equal(own[0], own[1])
    assert scale_of([before, after]) == (-2, 2)
    assert scale_of([np.array([-1.0, 4.0])]) == (-4, 4)
    # Without negative values a scale starts at 0; NaN and infinity do not count.
    assert scale_of([np.array([1, 3, np.nan, np.inf])]) == (0, 3)
    assert scale_of([np.zeros(3)]) == (0, 1)
    # The largest half percent of many values have the last color, unless all others are 0.
    assert scale_of([np.arange(1, 1001)]) == (0, 996)
    assert scale_of([np.eye(1, 1000) * 7]) == (0, 7)


def test_omitted_filters_are_counted() -> None:
    panel, limit = filter_panel("", random(40, 64, 3, 3))
    assert panel.tiles.shape == (32 * 32, 3, 3)
    assert limit == "the first 32 of 40 filters, the first 32 of 64 channels"
    panel, limit = filter_panel("", random(2000, 3, 2, 2))
    assert (len(panel.tiles), limit) == (1024, "the first 1024 of 2000 filters")
    # A row for each filter, a column for each channel.
    filters = random(4, 5, 3, 3)
    panel, limit = filter_panel("", filters)
    assert (panel.columns, limit) == (5, "")
    np.testing.assert_array_equal(panel.tiles[2 * 5 + 3], filters[2, 3])


def test_units_are_reshaped_as_the_network_flattens_images() -> None:
    rows = random(10, 2 * 3 * 4)
    panel, _ = unit_panel("", rows, (1, 6, 4), list("abcdefghij"))
    expected = torch.from_numpy(rows).unflatten(1, (6, 4)).numpy()
    np.testing.assert_array_equal(panel.tiles, expected)
    colored, _ = unit_panel("", random(5, 3 * 16), (3, 4, 4))
    np.testing.assert_array_equal(colored.tiles[1, 2, 3], random(5, 3, 4, 4)[1, :, 2, 3])
    assert image_shape(784, (1, 28, 28)) == (1, 28, 28)
    assert image_shape(3072, None) == (3, 32, 32)
    with pytest.raises(PlotError, match="400 inputs are not the network's image"):
        image_shape(400, (1, 32, 32))
    with pytest.raises(PlotError, match="24 inputs do not form an image of 1×5×5"):
        unit_panel("", rows, (1, 5, 5))


def test_weights_are_those_of_the_t7_file(lenet: SavedModel, exported: Path) -> None:
    network = t7.load(LENET)
    lua = {index - 1: layer for index, layer in network["modules"].items()}
    for weights in (weights_of(lenet), weights_of_file(exported)):
        assert weights.input_shape == (1, 32, 32)
        assert weights.labels == lenet.labels
        name, array = weights.of(None, 4)
        assert name == "0"
        np.testing.assert_array_equal(array.ravel(), np.float32(lua[0]["weight"]).ravel())
        linear = [name for name, array in weights.layers.items() if array.ndim == 2]
        for name in linear:
            np.testing.assert_array_equal(
                weights.of(name, 2)[1], np.float32(lua[int(name)]["weight"])
            )
        assert len(linear) == 3
        assert weights.of("3.weight", 4)[0] == "3"
        with pytest.raises(PlotError, match=r"'1?7' is no convolution .* similar names: 0, 3"):
            weights.of("7", 4)
    assert weights_of(lenet).of("get(4)", 4)[0] == "3"


def test_the_constant_of_a_matrix_product_is_transposed(tmp_path: Path) -> None:
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
    # Which values are meant is clear where there is a convolution.
    with pytest.raises(PlotError, match=r"no convolution; name the values with layers=\[…\]"):
        layers_of_file(tmp_path / "product.onnx", [])
    with pytest.raises(PlotError, match="takes no images: an input has 1 axes, not 3"):
        layers_of_file(tmp_path / "product.onnx", ["head"])


def test_the_weights_of_an_int8_file_are_dequantized(lenet: SavedModel, tmp_path: Path) -> None:
    from torchlift.converters.onnx import quantize

    export(lenet, tmp_path / "float.onnx")
    inputs = random(64, 1, 32, 32)
    quantize(tmp_path / "float.onnx", tmp_path / "int8.onnx", inputs, max_drop=1)
    exact, rounded = (weights_of_file(tmp_path / f"{name}.onnx") for name in ("float", "int8"))
    assert list(exact.layers) == list(rounded.layers)
    for name, array in exact.layers.items():
        # Weights have 7 bits (`reduce_range`): 63 quantization steps on each side of 0.
        step = np.abs(array.reshape(len(array), -1)).max(axis=1) / 63
        error = np.abs(rounded.layers[name] - array).reshape(len(array), -1).max(axis=1)
        assert (error <= step * 0.51 + 1e-7).all()


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_weights_with_a_zero_point_are_those_that_onnx_computes(
    axis: int | None, tmp_path: Path
) -> None:
    """As other programs quantize: unsigned numbers, with a scale of all or of each row."""
    numbers = np.random.default_rng(0).integers(0, 256, (4, 6), np.uint8)
    count = 1 if axis is None else numbers.shape[axis]
    scale = np.linspace(0.1, 0.4, count).astype(np.float32)
    zero = (np.arange(count) + 100).astype(np.uint8)
    if axis is None:
        scale, zero = scale[0], zero[0]
    constants = {"w_quantized": numbers, "w_scale": scale, "w_zero_point": zero}
    options = {} if axis is None else {"axis": axis}
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", list(constants), ["w"], **options),
            helper.make_node("Gemm", ["x", "w"], ["y"], transB=1),
        ],
        "quantized",
        [helper.make_tensor_value_info("x", number, ["batch", 6])],
        [helper.make_tensor_value_info("y", number, ["batch", 4])],
        [
            onnx.numpy_helper.from_array(np.asarray(array), name)
            for name, array in constants.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.save(model, tmp_path / "quantized.onnx")
    (weight,) = weights_of_file(tmp_path / "quantized.onnx").layers.values()
    outputs = ReferenceEvaluator(model).run(None, {"x": np.eye(6, dtype=np.float32)})[0]
    np.testing.assert_allclose(weight, outputs.T, rtol=1e-6)


def test_feature_maps_are_those_of_the_weights_in_the_file(
    lenet: SavedModel, exported: Path
) -> None:
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
        pixels, layers = opened.run(image)
        np.testing.assert_array_equal(pixels[..., 0], image[0])
        # Sums of 25 products in float32.
        np.testing.assert_allclose(layers[0].values, expected, atol=1e-5)
        assert layers[0].title.endswith(": 6×28×28")
    pixels, layers = layers_of(lenet, ["get(1)", "1", "penultimate"]).run(image)
    assert [one.kind for one in layers] == ["Conv2d", "ReLU", "input"]
    np.testing.assert_array_equal(layers[1].values, np.maximum(layers[0].values, 0))
    assert layers[2].values.shape == (84,)


def test_a_network_without_preprocessing_takes_pixels_from_0_to_1() -> None:
    model = SavedModel(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1)).eval(), "features")
    with torch.no_grad():
        model.module[0].weight.fill_(2)
        model.module[0].bias.zero_()
    opened = layers_of(model, [])
    pixels = np.array([[[0, 51, 255]]], np.uint8)
    np.testing.assert_allclose(opened.run(pixels)[1][0].values, [[[0, 0.4, 2]]], rtol=1e-6)
    assert "pixels from 0 to 1" in opened.note
    with pytest.raises(PlotError, match="no convolution"):
        layers_of(SavedModel(torch.nn.Linear(2, 2), "logits"), [])
    rows = SavedModel(torch.nn.Sequential(torch.nn.Linear(2, 2)).eval(), "logits", (1, 2))
    with pytest.raises(PlotError, match="takes no images: an input has 2 axes, not 3"):
        layers_of(rows, ["0"])
    rows.input_shape = (1, 2, 2)
    assert layers_of(rows, ["0"]).kinds == ["Linear"]


def test_a_network_that_has_no_such_layers_says_so() -> None:
    model = SavedModel(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1)).eval(), "features", (1, 2, 2))
    weights = weights_of(model)
    assert weights.of(None, 4)[0] == "0"
    for layer in (None, "0"):
        with pytest.raises(PlotError, match=r"the network has no linear layer$"):
            weights.of(layer, 2)
    with pytest.raises(PlotError, match=r"the network has no convolution$"):
        weights_of(SavedModel(torch.nn.Sequential(torch.nn.Linear(2, 2)), "logits")).of(None, 4)


def test_the_image_of_a_bgr_network_is_shown_in_rgb() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 1, 1))
    model = SavedModel(network, "features", preprocessing=Preprocessing("BGR"))
    pixels = random(3, 4, 5).astype(np.uint8)
    shown, _ = layers_of(model, []).run(pixels)
    np.testing.assert_array_equal(shown, pixels.transpose(1, 2, 0))


def test_photo_filters_are_those_of_scipy() -> None:
    names = [name for name, _ in photo_filters().module.named_children()]
    photograph = Image.fromarray(load_sample_image("china.jpg")).resize((161, 107))
    pixels, layers = layers_of(photo_filters(), names).run(photograph)
    gray = np.asarray(photograph.convert("L"), np.float64)
    np.testing.assert_array_equal(pixels[..., 0], gray)
    gray /= 255
    maps = {layer.name: layer.values[0] for layer in layers}
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
        # float32
        np.testing.assert_allclose(maps[name], values, atol=1e-5, err_msg=name)
    # Padding 2 adds one pixel on each side to padding 1.
    assert maps["padding_2"].shape == (109, 163)
    np.testing.assert_allclose(maps["padding_2"][inner], maps["vertical_edges"], atol=1e-6)


@pytest.mark.parametrize("name", ["digits-lenet5-bn_uncleared.t7", "digits-lenet5.t7"])
def test_the_sizes_in_a_t7_add_up_to_the_file(name: str) -> None:
    layers = sizes_in_t7(DIGITS / name)
    assert sum(layer.bytes for layer in layers) == (DIGITS / name).stat().st_size
    model = open_model(DIGITS / name)
    counted = sum(parameter.numel() for parameter in model.module.parameters())
    assert sum(layer.parameters for layer in layers) == counted


def test_the_sizes_of_a_network_count_shared_tensors_once() -> None:
    first, second = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
    second.weight = first.weight
    network = torch.nn.Sequential(first, second, torch.nn.BatchNorm1d(8), torch.nn.ReLU())
    layers = sizes_in_network(SavedModel(network, "features"))
    assert [(layer.name, layer.parameters, dict(layer.bytes_by_group)) for layer in layers] == [
        ("0 Linear", 72, {"weights": 288}),
        ("1 Linear", 8, {"weights": 32}),
        ("2 BatchNorm1d", 16, {"weights": 64, "buffers": 72}),
    ]


def test_the_sizes_in_an_onnx_file_are_those_of_its_constants(exported: Path) -> None:
    layers = {layer.name.split()[0]: layer for layer in sizes_in_onnx(exported)}
    assert layers["0"].name == "0 Conv"
    assert (layers["0"].parameters, dict(layers["0"].bytes_by_group)) == (156, {"weights": 624})


def test_bars_have_the_lengths_of_the_sizes() -> None:
    layers = [LayerSize("a", 3, {"weights": 12, "buffers": 5}), LayerSize("b", 0, {"buffers": 7})]
    figure = draw_sizes(layers, "")
    left, right = figure.axes
    assert [bar.get_width() for bar in left.patches] == [3, 0]
    assert [(bar.get_x(), bar.get_width()) for bar in right.patches] == [
        (0, 12), (0, 0), (12, 5), (0, 7),
    ]  # fmt: skip
    # The smallest of very many layers share one bar; the sum stays the same.
    many = [LayerSize(str(index), index, {"weights": index}) for index in range(1, 100)]
    bars = draw_sizes(many, "").axes[0].patches
    assert len(bars) == 40
    assert sum(bar.get_width() for bar in bars) == sum(range(1, 100))


def test_sizes_as_json() -> None:
    assert LayerSize("a", 3, {"weights": 12, "buffers": 5}).to_json() == {
        "layer": "a",
        "parameters": 3,
        "bytes": 17,
        "bytes_by_group": [
            {"group": "weights", "bytes": 12},
            {"group": "buffers", "bytes": 5},
        ],
    }
