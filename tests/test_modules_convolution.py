"""Convolutions: weight layouts, connection tables and older files, compared with explicit sums."""

from __future__ import annotations

import itertools

import pytest
import torch
from layer_support import export_error, layer, lua
from support import relative_error
from torch import nn
from torch.nn import functional

from torchlift.converters import convert
from torchlift.converters.modules import convert_recorded

#: float32 sums in another order. float64 would hide a loss of precision in the weights.
TOLERANCE = 1e-5

SIZES = {"nInputPlane": 3, "nOutputPlane": 4, "kW": 3, "kH": 2, "dW": 2, "dH": 1}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def plane_fields(**more: object) -> dict[str, object]:
    weight, bias = torch.randn(4, 3, 2, 3), torch.randn(4)
    return {**SIZES, "padW": 1, "padH": 0, "weight": weight, "bias": bias, **more}


@pytest.mark.covers("nn.SpatialConvolution", compared="outputs")
def test_width_is_first_in_torch7_and_last_in_pytorch() -> None:
    fields, images = plane_fields(), torch.randn(2, 3, 6, 9)
    module = layer("nn.SpatialConvolution", **fields)
    assert type(module) is nn.Conv2d
    expected = functional.conv2d(images, fields["weight"], fields["bias"], (1, 2), (0, 1))
    assert torch.equal(module(images), expected)
    assert relative_error(module(images[0]), expected[0]) < TOLERANCE


@pytest.mark.covers("nn.SpatialConvolution", "nn.SpatialConvolutionMM", compared="outputs")
def test_a_weight_of_two_dimensions_and_no_bias() -> None:
    fields, images = plane_fields(bias=None), torch.randn(2, 3, 6, 9)
    flat = layer("nn.SpatialConvolutionMM", **{**fields, "weight": fields["weight"].flatten(1)})
    assert torch.equal(flat(images), layer("nn.SpatialConvolution", **fields)(images))
    old = lua("nn.SpatialConvolution", **{**fields, "weight": fields["weight"].flatten(1)})
    assert "2 dimensions" in convert_recorded(old).notes[0].text
    assert [name for name, _ in flat.named_parameters()] == ["weight"]


def test_float64_weights_stay_float64() -> None:
    fields = plane_fields(weight=torch.randn(4, 3, 2, 3).double(), bias=torch.randn(4).double())
    assert layer("nn.SpatialConvolution", **fields).weight.dtype == torch.float64


@pytest.mark.parametrize(
    ("missing", "note"),
    [({"padW", "padH"}, "padW"), ({"dW", "dH"}, "stride")],
)
def test_missing_fields_are_noted(missing: set[str], note: str) -> None:
    fields = {key: value for key, value in plane_fields().items() if key not in missing}
    conversion = convert_recorded(lua("nn.SpatialConvolutionMM", **fields))
    assert [note in entry.text for entry in conversion.notes] == [True]
    assert conversion.module.padding == ((0, 0) if "padW" in missing else (0, 1))
    assert conversion.module.stride == ((1, 1) if "dW" in missing else (1, 2))


def test_one_padding_for_both_axes() -> None:
    fields = plane_fields(padding=2)
    del fields["padW"]
    conversion = convert_recorded(lua("nn.SpatialConvolution", **fields))
    assert conversion.module.padding == (2, 2)
    assert "padding" in conversion.notes[0].text


def test_a_current_file_has_no_notes() -> None:
    assert convert_recorded(lua("nn.SpatialConvolution", **plane_fields())).notes == []


@pytest.mark.covers("cudnn.SpatialConvolution", compared="outputs")
def test_groups_of_cudnn_convolve_apart() -> None:
    weight, bias, images = torch.randn(4, 2, 2, 3), torch.randn(4), torch.randn(2, 4, 6, 9)
    fields = plane_fields(nInputPlane=4, groups=2, weight=weight, bias=bias)
    expected = functional.conv2d(images, weight, bias, (1, 2), (0, 1), groups=2)
    assert torch.equal(layer("cudnn.SpatialConvolution", **fields)(images), expected)


@pytest.mark.covers("nn.SpatialDepthWiseConvolution", compared="outputs")
@pytest.mark.parametrize("padding", [(0, 0), (1, 1), (2, 1)])
def test_depth_wise_convolution_orders_outputs_by_channel(padding: tuple[int, int]) -> None:
    weight, bias, images = torch.randn(2, 3 * 2 * 3), torch.randn(2, 3), torch.randn(2, 3, 6, 9)
    pads = {"padH": padding[0], "padW": padding[1]}
    fields = plane_fields(weight=weight, bias=bias, nOutputPlane=2, **pads)
    outputs = [
        functional.conv2d(
            images[:, c : c + 1],
            weight[m].reshape(3, 2, 3)[c][None, None],
            bias[m, c : c + 1],
            (1, 2),
            padding,
        )
        for c, m in itertools.product(range(3), range(2))
    ]
    output = layer("nn.SpatialDepthWiseConvolution", **fields)(images)
    assert relative_error(output, torch.cat(outputs, 1)) < TOLERANCE
    del fields["bias"]
    output = layer("nn.SpatialDepthWiseConvolution", **fields)(images)
    shift = bias.T.reshape(1, -1, 1, 1)
    assert relative_error(output + shift, torch.cat(outputs, 1)) < TOLERANCE


@pytest.mark.covers("nn.SpatialFullConvolution", compared="outputs")
def test_transposed_convolution_has_the_size_of_a_reference() -> None:
    weight, bias, images = torch.randn(3, 4, 2, 3), torch.randn(4), torch.randn(2, 3, 5, 6)
    fields = plane_fields(weight=weight, bias=bias, dH=2, adjW=0, adjH=0)
    module = layer("nn.SpatialFullConvolution", **fields)
    for size in ((10, 11), (11, 12)):
        adjustment = (size[0] - 10, size[1] - 11)
        expected = functional.conv_transpose2d(images, weight, bias, 2, (0, 1), adjustment)
        reference = torch.randn(2, 1, *size)
        assert expected.shape[2:] == size
        assert torch.equal(module([images, reference]), expected)
        assert relative_error(module([images[0], reference[0]]), expected[0]) < TOLERANCE


VOLUME = {"nInputPlane": 2, "nOutputPlane": 3, "kT": 2, "kW": 3, "kH": 1}
VOLUME |= {"dT": 2, "dW": 1, "dH": 1}


@pytest.mark.covers("nn.VolumetricFullConvolution", compared="outputs")
def test_volumetric_full_convolution_of_older_files() -> None:
    weight, bias, volumes = torch.randn(2, 3, 2, 1, 3), torch.randn(3), torch.randn(1, 2, 3, 4, 5)
    new = {**VOLUME, "padT": 1, "padW": 0, "padH": 0, "adjT": 0, "adjW": 0, "adjH": 0}
    old = {**VOLUME, "pT": 1, "pW": 0, "pH": 0}
    expected = layer("nn.VolumetricFullConvolution", **new, weight=weight, bias=bias)(volumes)
    transposed = weight.transpose(0, 1).contiguous()
    conversion = convert_recorded(
        lua("nn.VolumetricFullConvolution", **old, weight=transposed, bias=bias)
    )
    assert torch.equal(conversion.module(volumes), expected)
    assert "adjT" in conversion.notes[0].text
    assert expected.shape == (1, 3, 4, 4, 7)


@pytest.mark.parametrize("transposed", [False, True])
def test_only_connected_channels_are_convolved(transposed: bool) -> None:
    pairs = [(1, 1), (3, 1), (2, 2), (3, 2), (3, 2)]
    weight, bias, image = torch.randn(5, 2, 3), torch.randn(2), torch.randn(3, 6, 7)
    fields = {**SIZES, "nOutputPlane": 2, "weight": weight, "bias": bias}
    table = torch.tensor(pairs, dtype=torch.float32)
    name = "nn.SpatialFullConvolutionMap" if transposed else "nn.SpatialConvolutionMap"
    apply = functional.conv_transpose2d if transposed else functional.conv2d
    terms = [
        apply(image[None, i - 1 : i], kernel[None, None], stride=(1, 2))[0, 0]
        for (i, _), kernel in zip(pairs, weight, strict=True)
    ]
    expected = bias[:, None, None] + torch.stack(
        [sum(term for term, pair in zip(terms, pairs, strict=True) if pair[1] == o) for o in (1, 2)]
    )
    module = layer(name, connTable=table, **fields)
    assert relative_error(module(image), expected) < TOLERANCE
    assert relative_error(module(image[None])[0], expected) < TOLERANCE


@pytest.mark.covers("nn.SpatialConvolutionLocal", compared="outputs")
def test_local_convolution_has_a_kernel_at_each_position() -> None:
    weight, bias, image = torch.randn(4, 3, 4, 3, 2, 3), torch.randn(4, 4, 3), torch.randn(3, 5, 5)
    fields = plane_fields(iW=5, iH=5, oW=3, oH=4, padW=1, weight=weight, bias=bias)
    padded = functional.pad(image, [1, 1, 0, 0])
    expected = bias.clone()
    for y, x in itertools.product(range(4), range(3)):
        window = padded[:, y : y + 2, 2 * x : 2 * x + 3]
        expected[:, y, x] += (weight[y, x] * window).sum((1, 2, 3))
    module = layer("nn.SpatialConvolutionLocal", **fields)
    assert relative_error(module(image), expected) < TOLERANCE
    assert relative_error(module(image[None])[0], expected) < TOLERANCE


def temporal_sum(frames: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
    """Return the sum in Torch7's documentation of TemporalConvolution, weight (out, kW, in)."""
    starts = range(0, len(frames) - weight.shape[1] + 1, stride)
    return torch.stack([(weight * frames[t : t + weight.shape[1]]).sum((1, 2)) for t in starts])


@pytest.mark.covers("nn.TemporalConvolution", "cudnn.TemporalConvolution", compared="outputs")
def test_temporal_convolution_of_nn_and_cudnn() -> None:
    weight, bias, frames = torch.randn(4, 3, 5), torch.randn(4), torch.randn(9, 5)
    expected = temporal_sum(frames, weight, 2) + bias
    shared = {"inputFrameSize": 5, "outputFrameSize": 4, "weight": weight.flatten(1), "bias": bias}
    own = layer("nn.TemporalConvolution", **shared, kW=3, dW=2)
    # cudnn's is a convolution of an image: kW is the size of a frame, and time is the height.
    cudnn = layer("cudnn.TemporalConvolution", **shared, kW=5, kH=3, dW=1, dH=2, padW=0, padH=0)
    padded = layer("cudnn.TemporalConvolution", **shared, kW=5, kH=3, dW=1, dH=2, padW=0, padH=1)
    for module in (own, cudnn):
        assert relative_error(module(frames), expected) < TOLERANCE
        assert relative_error(module(frames[None])[0], expected) < TOLERANCE
    wider = functional.pad(frames, [0, 0, 1, 1])
    assert relative_error(padded(frames), temporal_sum(wider, weight, 2) + bias) < TOLERANCE


@pytest.mark.covers("nn.TemporalRowConvolution", compared="outputs")
def test_temporal_row_convolution_is_depthwise() -> None:
    weight, bias, frames = torch.randn(5, 1, 3), torch.randn(5), torch.randn(9, 5)
    expected = bias + torch.stack(
        [(weight[:, 0].T * frames[t : t + 3]).sum(0) for t in range(0, 7, 2)]
    )
    fields = {"inputFrameSize": 5, "kW": 3, "dW": 2, "weight": weight, "bias": bias}
    module = layer("nn.TemporalRowConvolution", **fields, featFirst=False)
    assert relative_error(module(frames), expected) < TOLERANCE
    first = layer("nn.TemporalRowConvolution", **fields, featFirst=True)
    assert relative_error(first(frames.T[None]), expected.T[None]) < TOLERANCE


def test_convolutions_over_time_may_have_no_bias() -> None:
    frames, weight, row = torch.randn(9, 5), torch.randn(4, 3, 5), torch.randn(5, 1, 3)
    sizes = {"inputFrameSize": 5, "kW": 3, "dW": 2}
    full = layer("nn.TemporalConvolution", **sizes, outputFrameSize=4, weight=weight.flatten(1))
    each = layer("nn.TemporalRowConvolution", **sizes, weight=row)
    for module in (full, each):
        assert [name for name, _ in module.named_parameters()] == ["module.weight"]
    assert relative_error(full(frames), temporal_sum(frames, weight, 2)) < TOLERANCE
    sums = torch.stack([(row[:, 0].T * frames[t : t + 3]).sum(0) for t in range(0, 7, 2)])
    assert relative_error(each(frames), sums) < TOLERANCE


@pytest.mark.covers("nn.TemporalMaxPooling", "nn.TemporalSubSampling", compared="outputs")
def test_temporal_pooling_and_subsampling_take_frames_first() -> None:
    frames, weight, bias = torch.randn(2, 9, 4), torch.randn(4), torch.randn(4)
    pooled = layer("nn.TemporalMaxPooling", kW=3, dW=2)(frames)
    expected = torch.stack([frames[:, t : t + 3].amax(1) for t in range(0, 7, 2)], 1)
    assert torch.equal(pooled, expected)
    fields = {"inputFrameSize": 4, "kW": 3, "dW": 2, "weight": weight, "bias": bias}
    sums = torch.stack([frames[0, t : t + 3].sum(0) for t in range(0, 7, 2)])
    output = layer("nn.TemporalSubSampling", **fields)(frames[0])
    assert relative_error(output, sums * weight + bias) < TOLERANCE


def test_weights_stay_tied_across_layouts() -> None:
    weight, bias = torch.randn(4, 15), torch.randn(4)
    fields = {"inputFrameSize": 5, "outputFrameSize": 4, "kW": 3, "dW": 1}
    layers = [
        lua("nn.TemporalConvolution", **fields, weight=weight, bias=bias),
        lua("nn.TemporalConvolution", **fields, weight=weight, bias=bias),
    ]
    model = convert(lua("nn.ConcatTable", modules=layers))
    assert len(list(model.parameters())) == 2


TABLE = torch.tensor([[1.0, 1], [2, 1], [3, 2], [3, 2]])

EXPORTED = {
    "ConvMap2d": (
        "nn.SpatialConvolutionMap",
        {**SIZES, "nOutputPlane": 2, "connTable": TABLE}
        | {"weight": torch.randn(4, 2, 3), "bias": torch.randn(2)},
        (3, 6, 7),
    ),
    "ConvMap2d, transposed": (
        "nn.SpatialFullConvolutionMap",
        {**SIZES, "nOutputPlane": 2, "connTable": TABLE}
        | {"weight": torch.randn(4, 2, 3), "bias": torch.randn(2)},
        (3, 6, 7),
    ),
    "ConvLocal2d": (
        "nn.SpatialConvolutionLocal",
        {**SIZES, "oW": 3, "oH": 4, "padW": 1, "padH": 0}
        | {"weight": torch.randn(4, 3, 4, 3, 2, 3), "bias": torch.randn(4, 4, 3)},
        (3, 5, 5),
    ),
    "ConvTranspose2d": (
        "nn.SpatialFullConvolution",
        {**SIZES, "padW": 1, "padH": 0, "adjW": 1, "adjH": 0}
        | {"weight": torch.randn(3, 4, 2, 3), "bias": torch.randn(4)},
        (3, 5, 6),
    ),
    "FramesFirst": (
        "nn.TemporalConvolution",
        {"inputFrameSize": 5, "outputFrameSize": 4, "kW": 3, "dW": 2}
        | {"weight": torch.randn(4, 15), "bias": torch.randn(4)},
        (9, 5),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_layers_export_with_a_dynamic_batch(name: str) -> None:
    class_name, fields, shape = EXPORTED[name]
    assert export_error(layer(class_name, **fields), torch.randn(2, *shape)) < 1e-5
