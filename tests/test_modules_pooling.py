"""Pooling: Torch7's windows, divisors and indices, compared with loops that follow THNN.

The loops compute in float64, so that a tolerance of 1e-12 covers rounding only.
"""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from layer_support import export_error, layer, lua
from support import relative_error
from torch import nn

from torchlift.converters import convert
from torchlift.converters.modules import convert_recorded
from torchlift.converters.modules.layers import adaptive_pooling


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def count(size: int, kernel: int, stride: int, pad: int, padded: bool, ceil: bool) -> int:
    """Return the number of windows along an axis (`SpatialDilatedMaxPooling.c`)."""
    number = (math.ceil if ceil else math.floor)((size - kernel + 2 * pad) / stride) + 1
    return number - 1 if padded and (number - 1) * stride >= size + pad else number


def windows(
    size: int, kernel: int, stride: int, pad: int, padded: bool, ceil: bool, dilation: int = 1
) -> list[tuple[list[int], int]]:
    """Return the indices in the input and the extent with padding of each window along an axis."""
    extent = dilation * (kernel - 1) + 1
    result = []
    for index in range(count(size, extent, stride, pad, padded, ceil)):
        start = index * stride - pad
        indices = [start + i * dilation for i in range(kernel)]
        inside = [i for i in indices if 0 <= i < size]
        result.append((inside, min(start + kernel, size + pad) - start))
    return result


GEOMETRIES = [
    {"kernel": (kh, kw), "stride": (dh, dw), "pad": (ph, pw), "size": (h, w)}
    for (kh, dh, ph), (kw, dw, pw), (h, w) in itertools.product(
        [(2, 2, 0), (3, 2, 1), (2, 3, 0), (2, 2, 1)],
        [(3, 1, 0), (2, 4, 0), (3, 3, 1)],
        [(7, 9), (9, 8), (11, 10)],
    )
]


def fields(geometry: dict[str, tuple[int, int]], **more: object) -> dict[str, object]:
    (kh, kw), (dh, dw), (ph, pw) = (geometry[key] for key in ("kernel", "stride", "pad"))
    return {"kH": kh, "kW": kw, "dH": dh, "dW": dw, "padH": ph, "padW": pw, **more}


@pytest.mark.covers("nn.SpatialMaxPooling", compared="outputs")
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("ceil", [False, True])
def test_max_pooling_has_thnn_windows(geometry: dict[str, tuple[int, int]], ceil: bool) -> None:
    module = layer("nn.SpatialMaxPooling", **fields(geometry, ceil_mode=ceil))
    image = torch.randn(2, *geometry["size"], dtype=torch.float64)
    padded = any(geometry["pad"])
    rows, columns = (
        windows(*(geometry[key][axis] for key in ("size", "kernel", "stride", "pad")), padded, ceil)
        for axis in (0, 1)
    )
    lowest = torch.finfo(torch.float64).min
    expected = torch.full((2, len(rows), len(columns)), lowest, dtype=torch.float64)
    for (i, (ys, _)), (j, (xs, _)) in itertools.product(enumerate(rows), enumerate(columns)):
        if ys and xs:
            expected[:, i, j] = image[:, ys][:, :, xs].flatten(1).max(1).values
    output = module(image)
    assert torch.equal(output, expected)
    assert torch.equal(module(image.unsqueeze(0)), expected.unsqueeze(0))


@pytest.mark.covers("nn.SpatialAveragePooling", compared="outputs")
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("include", [False, True])
@pytest.mark.parametrize("divide", [False, True])
@pytest.mark.parametrize("ceil", [False, True])
def test_average_pooling_has_thnn_divisors(
    geometry: dict[str, tuple[int, int]], ceil: bool, divide: bool, include: bool
) -> None:
    more = {"ceil_mode": ceil, "count_include_pad": include, "divide": divide}
    module = layer("nn.SpatialAveragePooling", **fields(geometry, **more))
    image = torch.randn(2, *geometry["size"], dtype=torch.float64)
    padded = any(geometry["pad"])
    rows, columns = (
        windows(*(geometry[key][axis] for key in ("size", "kernel", "stride", "pad")), padded, ceil)
        for axis in (0, 1)
    )
    if not all(inside for inside, _ in rows + columns):
        pytest.skip("THNN divides zero by zero in a window outside the input")
    expected = torch.empty(2, len(rows), len(columns), dtype=torch.float64)
    for (i, (ys, height)), (j, (xs, width)) in itertools.product(
        enumerate(rows), enumerate(columns)
    ):
        divisor = height * width if include else len(ys) * len(xs)
        expected[:, i, j] = image[:, ys][:, :, xs].sum((1, 2)) / divisor
    if not divide:
        expected *= math.prod(geometry["kernel"])
    assert relative_error(module(image), expected) < 1e-12
    assert relative_error(module(image.unsqueeze(0)), expected.unsqueeze(0)) < 1e-12


def test_axes_of_volumes_are_in_order() -> None:
    module = layer("nn.VolumetricMaxPooling", kT=1, kW=2, kH=3, dT=1, dW=2, dH=3)
    assert module(torch.randn(2, 5, 6, 8)).shape == (2, 5, 2, 4)
    module = layer("cudnn.VolumetricAveragePooling", kT=1, kW=2, kH=3, dT=1, dW=2, dH=3)
    assert module(torch.randn(1, 2, 5, 6, 8)).shape == (1, 2, 5, 2, 4)


def test_torch_classes_are_used_if_they_agree() -> None:
    sizes = {"kW": 3, "kH": 3, "dW": 2, "dH": 2, "padW": 0, "padH": 0}
    assert type(layer("nn.SpatialMaxPooling", **sizes, ceil_mode=True)) is nn.MaxPool2d
    assert type(layer("cudnn.SpatialMaxPooling", **sizes, ceil_mode=False)) is nn.MaxPool2d
    average = layer("nn.SpatialAveragePooling", **sizes, ceil_mode=False, divide=True)
    assert type(average) is nn.AvgPool2d


def test_missing_fields_have_their_old_meaning_and_are_noted() -> None:
    sizes = {"kW": 2, "kH": 2, "dW": 2, "dH": 2}
    ones = torch.ones(1, 4, 4)
    old = convert_recorded(lua("nn.SpatialAveragePooling", **sizes))
    assert torch.equal(old.module(ones), torch.full((1, 2, 2), 4.0))
    assert ["ceil_mode" in note.text for note in old.notes] == [True, False]
    assert "divide" in old.notes[1].text
    cudnn = convert_recorded(lua("cudnn.SpatialAveragePooling", **sizes))
    assert torch.equal(cudnn.module(ones), torch.ones(1, 2, 2))


def test_older_average_pooling_has_no_padding_whatever_its_fields_say() -> None:
    """`backwardCompatible` of SpatialAveragePooling.lua sets padW and padH to 0."""
    fields = {"kW": 3, "kH": 3, "dW": 1, "dH": 1, "padW": 1, "padH": 1, "divide": True}
    images = torch.randn(2, 3, 5, 4)
    old = convert_recorded(lua("nn.SpatialAveragePooling", **fields))
    assert torch.equal(old.module(images), nn.AvgPool2d(3, 1)(images))
    assert any("padding to 0" in note.text for note in old.notes)
    new = convert(lua("nn.SpatialAveragePooling", ceil_mode=False, **fields))
    assert torch.equal(new(images), nn.AvgPool2d(3, 1, 1)(images))


@pytest.mark.parametrize("dilation", [2, 3])
def test_a_window_that_a_dilation_takes_past_the_input_has_the_lowest_value(dilation: int) -> None:
    """`SpatialDilatedMaxPooling.c` begins with -THInf, the lowest float, where PyTorch has -∞."""
    fields = {"kW": 2, "kH": 1, "dW": 1, "dH": 1, "padW": 1, "padH": 0}
    fields |= {"dilationW": dilation, "dilationH": 1, "ceil_mode": False}
    pool = layer("nn.SpatialDilatedMaxPooling", **fields)
    images = torch.ones(1, 1, 1, dilation - 1)
    # The only window has the column before the image, and the one after it.
    assert pool(images).tolist() == [[[[torch.finfo(torch.float32).min]]]]


@pytest.mark.covers("cudnn.SpatialAveragePooling", compared="outputs")
def test_cudnn_always_includes_the_padding() -> None:
    sizes = {"kW": 2, "kH": 2, "dW": 2, "dH": 2, "padW": 1, "padH": 1}
    module = layer("cudnn.SpatialAveragePooling", **sizes, ceil_mode=False, count_include_pad=False)
    assert module(torch.ones(1, 2, 2))[0, 0, 0] == 0.25


@pytest.mark.covers(
    "nn.SpatialAdaptiveAveragePooling",
    "nn.SpatialAdaptiveMaxPooling",
    compared="outputs",
)
@pytest.mark.parametrize(("size", "windows"), [(21, 7), (25, 5), (45, 9), (10, 4), (3, 7)])
def test_adaptive_pooling_rounds_edges_as_thnn(size: int, windows: int) -> None:
    image = torch.randn(2, 3, size, 6)
    f = np.float32
    # SpatialAdaptiveMaxPooling.c divides first, SpatialAdaptiveAveragePooling.c multiplies first.
    rounded = [
        (math.floor(f(i) / f(windows) * f(size)), math.ceil(f(i + 1) / f(windows) * f(size)))
        for i in range(windows)
    ]
    exact = [(i * size // windows, -(-(i + 1) * size // windows)) for i in range(windows)]
    maxima = torch.stack([image[:, :, a:b].amax((2, 3)) for a, b in rounded], 2)
    means = torch.stack([image[:, :, a:b].mean((2, 3)) for a, b in exact], 2)
    output = layer("nn.SpatialAdaptiveMaxPooling", H=windows, W=1)(image)
    assert torch.equal(output, maxima.unsqueeze(3))
    output = layer("nn.SpatialAdaptiveAveragePooling", H=windows, W=1)(image)
    assert relative_error(output, means.unsqueeze(3)) < 1e-6


def test_float32_edges_differ_from_integer_edges() -> None:
    # 1/7 · 21 is slightly more than 3 in float32, so the first window has four elements.
    image = torch.zeros(1, 21, 1)
    image[0, 3] = 1
    assert layer("nn.SpatialAdaptiveMaxPooling", H=7, W=1)(image)[0, 0, 0] == 1
    assert nn.AdaptiveMaxPool2d((7, 1))(image)[0, 0, 0] == 0


def intervals(sample: float, size: int, count: int, pool: int) -> list[int]:
    """Return the starts of regions (`generateIntervals` of `SpatialFractionalMaxPooling.c`)."""
    alpha = (size - pool) / (count - 1)
    starts = [int((i + sample) * alpha) - int(sample * alpha) for i in range(count - 1)]
    return [*starts, size - pool]


@pytest.mark.covers("nn.SpatialFractionalMaxPooling", compared="outputs")
def test_fixed_fractional_pooling_uses_the_regions_of_the_file() -> None:
    samples = torch.rand(2, 3, 2, dtype=torch.float64)
    sizes = {"poolSizeW": 2, "poolSizeH": 3, "outW": 4, "outH": 5}
    module = layer(
        "nn.SpatialFractionalMaxPooling", **sizes, newRandomPool=True, randomSamples=samples
    )
    image = torch.randn(2, 3, 12, 9, dtype=torch.float64)
    expected = torch.empty(2, 3, 5, 4, dtype=torch.float64)
    for n, c in itertools.product(range(2), range(3)):
        xs = intervals(float(samples[n, c, 0]), 9, 4, 2)
        ys = intervals(float(samples[n, c, 1]), 12, 5, 3)
        for (i, y), (j, x) in itertools.product(enumerate(ys), enumerate(xs)):
            expected[n, c, i, j] = image[n, c, y : y + 3, x : x + 2].max()
    assert torch.equal(module(image), expected)


@pytest.mark.covers("nn.VolumetricFractionalMaxPooling", compared="outputs")
def test_fixed_fractional_pooling_of_volumes_has_time_last() -> None:
    samples = torch.rand(1, 2, 3, dtype=torch.float64)
    sizes = {"poolSizeT": 2, "poolSizeW": 3, "poolSizeH": 2, "outT": 3, "outW": 4, "outH": 5}
    module = layer(
        "nn.VolumetricFractionalMaxPooling", **sizes, newRandomPool=True, randomSamples=samples
    )
    volume = torch.randn(1, 2, 11, 13, 8, dtype=torch.float64)
    expected = torch.empty(1, 2, 5, 4, 3, dtype=torch.float64)
    for c in range(2):
        ts = intervals(float(samples[0, c, 0]), 8, 3, 2)
        ws = intervals(float(samples[0, c, 1]), 13, 4, 3)
        hs = intervals(float(samples[0, c, 2]), 11, 5, 2)
        starts = itertools.product(enumerate(hs), enumerate(ws), enumerate(ts))
        for (i, h), (j, w), (k, t) in starts:
            expected[0, c, i, j, k] = volume[0, c, h : h + 2, w : w + 3, t : t + 2].max()
    assert torch.equal(module(volume), expected)


def test_fractional_pooling_with_a_ratio_draws_new_regions() -> None:
    sizes = {"poolSizeW": 2, "poolSizeH": 2, "ratioW": 0.5, "ratioH": 0.25}
    module = layer("nn.SpatialFractionalMaxPooling", **sizes, newRandomPool=False)
    image = torch.randn(1, 40, 21, 21)
    assert module(image).shape == (1, 40, 5, 10)
    assert not torch.equal(module(image), module(image))


def unpooling(ceil_mode: bool = False, **sizes: int) -> nn.Module:
    """Return a pooling layer, another layer, and an unpooling layer that refers to the first."""
    pooling = lua("nn.SpatialMaxPooling", **sizes, ceil_mode=ceil_mode)
    between = lua("nn.SpatialZeroPadding", pad_l=0, pad_r=0, pad_t=0, pad_b=0)
    back = lua("nn.SpatialMaxUnpooling", pooling=pooling)
    return convert(lua("nn.Sequential", modules=[pooling, between, back]))


@pytest.mark.covers("nn.SpatialMaxUnpooling", compared="outputs")
def test_unpooling_uses_its_own_pooling_layer() -> None:
    model = unpooling(kW=2, kH=3, dW=2, dH=3)
    assert model[2].pooling is model[0]
    images = torch.randn(2, 3, 6, 8)
    pooled, indices = nn.functional.max_pool2d(images, (3, 2), return_indices=True)
    expected = nn.functional.max_unpool2d(pooled, indices, (3, 2), output_size=images.shape)
    assert torch.equal(model(images), expected)
    copied = copy.deepcopy(model)
    assert torch.equal(copied(images.flip(0)), expected.flip(0))
    assert torch.equal(model(images[0]), expected[0])
    # Of several passes of the pooling layer the last one counts, once.
    pooled = [model[0](each) for each in (images.flip(0), images)][1]
    assert torch.equal(model[2](pooled), expected)
    with pytest.raises(RuntimeError, match="run its pooling layer first"):
        model[2](pooled)


@pytest.mark.parametrize(("ceil_mode", "padding"), [(True, 0), (True, 1), (False, 1)])
def test_unpooling_has_the_windows_of_its_pooling_layer(ceil_mode: bool, padding: int) -> None:
    sizes = {"kW": 2, "kH": 2, "dW": 2, "dH": 2, "padW": padding, "padH": padding}
    images = torch.randn(1, 2, 5, 8)
    options = {"padding": padding, "ceil_mode": ceil_mode, "return_indices": True}
    pooled, indices = nn.functional.max_pool2d(images, 2, **options)
    expected = torch.zeros(1, 2, 40).scatter(2, indices.flatten(2), pooled.flatten(2))
    assert torch.equal(unpooling(ceil_mode, **sizes)(images).flatten(2), expected)


def test_feature_lp_pooling_of_zeros_has_no_gradient() -> None:
    module = layer("nn.FeatureLPPooling", width=2, stride=2, power=2, batch_mode=False)
    features = torch.tensor([0.0, 0.0, 3.0, 4.0], requires_grad=True)
    output = module(features)
    assert torch.equal(output, torch.tensor([0.0, 5.0]))
    output.sum().backward()
    assert torch.allclose(features.grad, torch.tensor([0.0, 0.0, 0.6, 0.8]))


@pytest.mark.parametrize("name", ["Sum", "Mean", "Max", "Min"])
def test_dimension_0_of_an_example_is_its_batch(name: str) -> None:
    """Torch7 adds 1 to the dimension of a batch, and counts from 1."""
    images = torch.randn(5, 3, 4)
    reduce = getattr(torch, {"Max": "amax", "Min": "amin"}.get(name, name.lower()))
    module = layer(f"nn.{name}", dimension=0, nInputDims=2)
    torch.testing.assert_close(module(images), reduce(images, 0))
    module = layer(f"nn.{name}", dimension=1, nInputDims=2)
    torch.testing.assert_close(module(images), reduce(images, 1))


def test_features_that_cancel_have_a_norm() -> None:
    """Their sum is zero, the sum of their squares is not."""
    module = layer("nn.FeatureLPPooling", width=2, stride=2, power=2, batch_mode=False)
    features = torch.tensor([-4.0, 4.0, 3.0, -3.0], requires_grad=True)
    output = module(features)
    assert torch.allclose(output, torch.tensor([32.0, 18.0]).sqrt())
    output.sum().backward()
    assert torch.allclose(features.grad, torch.tensor([-1.0, 1.0, 1.0, -1.0]) / 2**0.5)


@pytest.mark.covers("nn.TemporalDynamicKMaxPooling", compared="outputs")
def test_dynamic_k_max_pooling_keeps_temporal_order() -> None:
    module = layer("nn.TemporalDynamicKMaxPooling", minK=2, factor=0.5)
    frames = torch.tensor([[3.0, 1], [5, 9], [4, 8], [1, 7], [0, 2]])
    assert torch.equal(module(frames), torch.tensor([[3.0, 9], [5, 8], [4, 7]]))
    assert torch.equal(module(frames[None])[0], module(frames))


@pytest.mark.covers("nn.SpatialSubSampling", compared="outputs")
def test_subsampling_sums_and_older_files_have_a_weight_per_position() -> None:
    sizes = {"nInputPlane": 2, "kW": 2, "kH": 3, "dW": 1, "dH": 2}
    image, weight, bias = torch.randn(2, 7, 5), torch.randn(2), torch.randn(2)
    current = layer("nn.SpatialSubSampling", **sizes, weight=weight, bias=bias)
    sums = nn.functional.avg_pool2d(image, (3, 2), (2, 1)) * 6
    assert relative_error(current(image), sums * weight[:, None, None] + bias[:, None, None]) < 1e-6
    per_position = weight[:, None, None].expand(2, 3, 2).contiguous()
    old = layer("nn.SpatialSubSampling", **sizes, weight=per_position, bias=bias)
    assert relative_error(old(image), current(image).detach()) < 1e-5


EXPORTED = {
    "CeilMaxPool": (
        "nn.SpatialMaxPooling",
        {"kW": 2, "kH": 3, "dW": 5, "dH": 3, "padW": 0, "padH": 0, "ceil_mode": True},
        (3, 8, 9),
    ),
    "AvgPool": (
        "nn.SpatialAveragePooling",
        {"kW": 3, "kH": 2, "dW": 2, "dH": 2, "padW": 1, "padH": 1, "ceil_mode": True}
        | {"count_include_pad": False, "divide": True},
        (3, 8, 8),
    ),
    "AvgPool as sum": ("nn.SpatialAveragePooling", {"kW": 3, "kH": 2, "dW": 2, "dH": 2}, (3, 8, 8)),
    "AvgPool3d": (
        "cudnn.VolumetricAveragePooling",
        {"kT": 2, "kW": 3, "kH": 3, "dT": 2, "dW": 2, "dH": 2, "padT": 0, "padW": 1, "padH": 1}
        | {"ceil_mode": True},
        (2, 5, 8, 8),
    ),
    "padded nn.AvgPool2d": (
        "nn.SpatialAveragePooling",
        {"kW": 3, "kH": 3, "dW": 2, "dH": 2, "padW": 1, "padH": 1, "ceil_mode": False}
        | {"count_include_pad": True, "divide": True},
        (3, 7, 8),
    ),
    "AdaptiveMaxPool2d": ("nn.SpatialAdaptiveMaxPooling", {"W": 3, "H": 2}, (3, 7, 8)),
    "AdaptiveAvgPool2d": ("nn.SpatialAdaptiveAveragePooling", {"W": 3, "H": 7}, (3, 21, 8)),
    "FeatureLPPool": (
        "nn.FeatureLPPooling",
        {"width": 3, "stride": 2, "power": 2, "batch_mode": True},
        (7, 5),
    ),
    "DynamicKMaxPool": ("nn.TemporalDynamicKMaxPooling", {"minK": 2, "factor": 0.4}, (9, 4)),
    "SubSampling": (
        "nn.SpatialSubSampling",
        {"nInputPlane": 3, "kW": 2, "kH": 2, "dW": 2, "dH": 2}
        | {"weight": torch.randn(3), "bias": torch.randn(3)},
        (3, 6, 6),
    ),
}


@pytest.mark.parametrize("name", ["AdaptiveMaxPool2d", "AdaptiveAvgPool2d"])
def test_windows_of_several_sizes_are_those_that_onnx_has(name: str) -> None:
    """torch.nn's classes cannot be exported, unless the size is 1×1."""
    class_name, fields, _ = EXPORTED[name]
    assert type(layer(class_name, **fields)) is getattr(adaptive_pooling, name)
    assert type(layer(class_name, W=1, H=1)) is getattr(nn, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_layers_export_with_a_dynamic_batch(name: str) -> None:
    class_name, fields, shape = EXPORTED[name]
    assert export_error(layer(class_name, **fields), torch.randn(2, *shape)) < 1e-5


@pytest.mark.slow
def test_unpooling_is_the_same_in_onnx() -> None:
    model = unpooling(kW=2, kH=2, dW=2, dH=2)
    assert export_error(model, torch.randn(2, 3, 8, 8)) < 1e-5
