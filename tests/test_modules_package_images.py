"""Layers of packages on images, where the sizes and values of the usual examples hide a rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from layer_support import lua, rand
from support import relative_error
from torch.nn import functional

from torchlift.converters import convert, t7
from torchlift.converters.modules import convert_recorded

#: float64 against float64: only the order of summation differs.
EXACT = 1e-12


def times(factor: float) -> Any:
    return lua("nn.MulConstant", constant_scalar=factor)


@pytest.mark.covers("nn.SharpMask", compared="outputs")
def test_a_refinement_takes_features_of_the_trunk_and_then_the_mask() -> None:
    """The first mask features come of refs[0]; the branches of DeepMask do not run."""
    subtract = lua("nn.CSubTable")
    fields = {
        "trunk": lua("nn.Sequential", modules=[times(2), times(3), times(5)]),
        "scoreBranch": times(1000),
        "maskBranchDM": times(2000),
        "refs": t7.LuaTable({0: times(7), 1: subtract, 2: subtract}),
        "skpos": [2, 1],
    }
    module = convert(lua("nn.SharpMask", **fields))
    # 30 · 7 after the trunk; 6 minus that; 2 minus that.
    assert module(torch.ones(1)).tolist() == [2 - (6 - 210)]


@pytest.mark.parametrize("rows", [(-1, 2), (2, -1), (-1, -1), (0, -2)])
@pytest.mark.parametrize("columns", [(1, -2), (-2, 1)])
@pytest.mark.covers("nn.SpatialSymmetricPadding", compared="outputs")
def test_a_mirror_image_is_of_what_is_left_after_cropping(
    rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    (top, bottom), (left, right) = rows, columns
    fields = {"pad_l": left, "pad_r": right, "pad_t": top, "pad_b": bottom}
    image = torch.arange(30.0).reshape(1, 1, 5, 6)
    kept = image[..., max(-top, 0) : 5 - max(-bottom, 0), max(-left, 0) : 6 - max(-right, 0)]
    widths = [(max(first, 0), max(last, 0)) for first, last in (rows, columns)]
    output = convert(lua("nn.SpatialSymmetricPadding", **fields))(image).numpy()
    assert np.array_equal(output, np.pad(kept, [(0, 0), (0, 0), *widths], "symmetric"))


def test_a_deformable_convolution_takes_an_image_of_one_column() -> None:
    weight = rand(2, 3, 2, 1)
    sizes = {"nInputPlane": 3, "nOutputPlane": 4, "kW": 1, "kH": 2, "dW": 1, "dH": 1}
    predictor = lua("nn.SpatialConvolution", weight=torch.zeros(4, 3, 2, 1).double(), **sizes)
    fields = {"weightDC": weight, "biasDC": rand(2), "offsetPredictor": predictor}
    module, image = convert(lua("nn.DeformableConvolution", **fields)), rand(1, 3, 4, 1)
    expected = functional.conv2d(image, weight, fields["biasDC"])
    assert relative_error(module(image), expected) < EXACT


@pytest.mark.parametrize("package", ["nn", "cudnn"])
@pytest.mark.covers(
    "nn.SpatialConvolutionUpsample", "cudnn.SpatialConvolutionUpsample", compared="outputs"
)
def test_planes_are_read_as_a_higher_and_wider_image(package: str) -> None:
    """Only cudnn's convolutions have groups."""
    groups = 2 if package == "cudnn" else 1
    weight, image = rand(8, 4 // groups, 1, 1), rand(2, 4, 3, 5)
    fields = {"nInputPlane": 4, "nOutputPlane": 8, "kW": 1, "kH": 1, "dW": 1, "dH": 1}
    fields |= {"weight": weight, "factor": 2, "nOutputPlaneU": 2}
    fields |= {"groups": groups} if groups > 1 else {}
    module = convert(lua(f"{package}.SpatialConvolutionUpsample", **fields))
    planes = functional.conv2d(image, weight, groups=groups)
    assert relative_error(module(image), planes.reshape(2, 2, 6, 10)) < EXACT
    assert relative_error(module(image[1]), planes[1].reshape(2, 6, 10)) < EXACT


@pytest.mark.covers("nn.SpatialPadding", compared="outputs")
def test_a_border_has_the_value_of_the_file() -> None:
    fields = {"pad_l": 1, "pad_r": 0, "pad_t": 0, "pad_b": 1}
    image = torch.ones(1, 1, 1)
    assert convert(lua("nn.SpatialPadding", val=7, **fields))(image).tolist() == [[[7, 1], [7, 7]]]
    assert convert(lua("nn.SpatialPadding", **fields))(image).tolist() == [[[0, 1], [0, 0]]]


@pytest.mark.parametrize("name", ["nn.SpatialReSampling", "nn.SpatialReSamplingEx"])
@pytest.mark.covers("nn.SpatialReSampling", "nn.SpatialReSamplingEx", compared="outputs")
def test_rows_and_columns_have_a_ratio_or_a_size_each(name: str) -> None:
    image, mode = rand(1, 6, 8), {"mode": "bilinear"} if name.endswith("Ex") else {}
    for fields, size in (
        ({"rheight": 0.5, "rwidth": 2}, (3, 16)),
        ({"oheight": 5, "rwidth": 2}, (5, 16)),
        ({"rheight": 2, "owidth": 3}, (12, 3)),
        ({"oheight": 5}, (5, 8)),
    ):
        expected = functional.interpolate(image[None], size, mode="bilinear", align_corners=True)
        assert relative_error(convert(lua(name, **mode, **fields))(image), expected[0]) < EXACT


@pytest.mark.parametrize("mode", ["simple", "average"])
def test_an_image_that_shrinks_leaves_the_pixels_behind_the_last_window_out(mode: str) -> None:
    """Of 7 × 8 pixels 3 × 3 are made by windows of 7 / 3 → 2 rows and 8 / 3 → 2 columns."""
    image = rand(2, 7, 8)
    module = convert(lua("nn.SpatialReSamplingEx", mode=mode, oheight=3, owidth=3))
    windows = image[:, :6, :6].unflatten(1, (3, 2)).unflatten(3, (3, 2))
    expected = windows[:, :, 0, :, 0] if mode == "simple" else windows.mean((2, 4))
    assert relative_error(module(image), expected) < EXACT


def test_modules_behind_a_recurrent_layer_of_deepspeech_run_before_the_sum() -> None:
    """Squares of both directions, added; the modules are named by their place in the file."""
    rnn = lua(
        "cudnn.RNN",
        mode="CUDNN_RNN_TANH",
        inputMode="CUDNN_SKIP_INPUT",
        bidirectional="CUDNN_BIDIRECTIONAL",
        inputSize=3,
        hiddenSize=3,
        numLayers=1,
        weight=torch.cat([torch.zeros(18), torch.arange(12.0)]),
    )
    norm = lua(
        "nn.BatchNormalization", running_mean=torch.zeros(3), running_var=torch.ones(3), eps=0.0
    )
    weight, steps = torch.randn(3, 4), torch.randn(5, 2, 4)
    linear, view = lua("nn.Linear", weight=weight), lua("nn.View", size=torch.tensor([1, 1, -1]))
    modules = [view, linear, norm, view, rnn, lua("nn.Square"), view, lua("nn.Sum", dimension=3)]
    conversion = convert_recorded(lua("cudnn.BatchBRNN", modules=modules, train=False))
    forward, backward = (
        (steps @ weight.T + bias).tanh()
        for bias in (
            torch.arange(3.0) + torch.arange(3.0, 6),
            torch.arange(6.0, 9) + torch.arange(9.0, 12),
        )
    )
    torch.testing.assert_close(conversion.module.eval()(steps), forward**2 + backward**2)
    paths = [layer.path for layer in conversion.layers if layer.source is linear]
    assert paths == ["model.modules[2]"]


@pytest.mark.parametrize(("size", "count"), [(5, 3), (57, 21), (39, 33), (2, 3)])
@pytest.mark.covers("nn.SpatialMaxSampling", compared="outputs")
def test_windows_begin_where_single_precision_puts_them(size: int, count: int) -> None:
    """With 57 / 21 in double precision, the last of 57 values would count too."""
    edges = np.arange(count + 1, dtype="f4") * np.float32(size / count)
    ends = np.maximum(edges[1:].astype(int), edges[:-1].astype(int) + 1)
    image = torch.arange(float(size)).reshape(1, 1, size)
    module = convert(lua("nn.SpatialMaxSampling", oheight=1, owidth=count))
    assert module(image).flatten().tolist() == (ends - 1).tolist()


@pytest.mark.covers("nn.SpatialColorTransform", compared="outputs")
def test_a_color_transform_adds_its_bias() -> None:
    weight, bias, image = rand(2, 3), rand(2), rand(3, 4, 5)
    linear = lua("nn.Linear", weight=weight, bias=bias)
    module = convert(lua("nn.SpatialColorTransform", transform="rgb2yuv", linear=linear))
    expected = torch.einsum("oc,chw->ohw", weight, image) + bias[:, None, None]
    assert relative_error(module(image), expected) < EXACT
    assert not list(module.parameters())


@pytest.mark.covers("nn.SpatialFovea", compared="outputs")
def test_sizes_of_a_fovea_are_rounded_down_and_its_borders_are_zeros() -> None:
    fields = {"ratios": [1.5], "padding": 0, "processors": [times(3)], "bilinear": True}
    image = rand(2, 5, 8)
    # 5 / 1.5 and 8 / 1.5 are 3.3 and 5.3; 3 · 1.5 and 5 · 1.5 are 4.5 and 7.5.
    smaller = functional.interpolate(image[None], (3, 5), mode="bilinear", align_corners=True)
    larger = functional.interpolate(smaller, (4, 7), mode="bilinear", align_corners=True)[0]
    assert relative_error(convert(lua("nn.SpatialFovea", **fields))(image), 3 * larger) < EXACT
    fields = {"ratios": [1.4], "padding": 0, "processors": [times(3)], "bilinear": True}
    # 5 / 1.4 is 3.6.
    assert convert(lua("nn.SpatialFovea", **fields))(image).shape == (2, 4, 7)
    # What comes before the padding does not change it.
    window = {"kW": 3, "kH": 3, "dW": 1, "dH": 1, "divide": False}
    sums = lua("nn.SpatialAveragePooling", **window, padW=0, padH=0, ceil_mode=False)
    add = t7.LuaTable({1: lua("nn.AddConstant", constant_scalar=10)})
    source = lua("nn.SpatialFovea", ratios=[1], padding=2, processors=[sums])
    source.fields["preProcessors"] = add
    expected = functional.avg_pool2d(functional.pad(image + 10, (1,) * 4), 3, 1) * 9
    assert relative_error(convert(source)(image), expected) < EXACT


@pytest.mark.covers("nn.SpatialGlimpse", compared="outputs")
def test_a_glimpse_that_is_wider_than_high() -> None:
    """At the first row and column: 2 × 3 pixels, and means of 4 × 6 behind a border of 1 and 2."""
    images = rand(2, 1, 9, 11)
    module = convert(lua("nn.SpatialGlimpse", height=2, width=3, depth=2, scale=2))
    output = module([images, -torch.ones(2, 2)])
    padded = functional.pad(images, (1, 1, 0, 0))
    assert torch.equal(output[:, :1], padded[..., :2, :3])
    padded = functional.pad(images, (2, 2, 1, 1))
    expected = functional.avg_pool2d(padded[..., :4, :6], 2)
    assert relative_error(output[:, 1:], expected) < EXACT


@pytest.mark.covers("nn.ContextRegion", compared="outputs")
def test_a_region_is_a_row_that_is_multiplied_by_the_matrix() -> None:
    matrix, regions = rand(4, 4), rand(3, 5)
    module = convert(lua("nn.ContextRegion", tr=matrix))
    expected = torch.cat([regions[:, :1], regions[:, 1:] @ matrix], 1)
    assert relative_error(module(regions), expected) < 1e-6
    assert not list(module.parameters())


@pytest.mark.covers("nn.SelectBoxes", compared="outputs")
def test_boxes_with_a_mean_alone_are_not_normalized() -> None:
    scores, boxes = torch.tensor([[0.0, 1.0]]), torch.arange(8.0)[None]
    module = convert(lua("nn.SelectBoxes", mean=torch.ones(4)))
    assert module([scores, boxes]).tolist() == [[4, 5, 6, 7]]
