"""Padding and upsampling: with and without a batch, negative and inserted paddings, sizes."""

from __future__ import annotations

import pytest
import torch
from layer_support import export_error, layer
from support import relative_error
from torch.nn import functional

#: float32 interpolation in another order.
TOLERANCE = 1e-6


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def pad_with_nines(rows: list[list[float]], **fields: object) -> list[list[float]]:
    result: list[list[float]] = layer("nn.Padding", value=9, **fields)(torch.tensor(rows)).tolist()
    return result


@pytest.mark.covers("nn.Padding", compared="outputs")
def test_padding_position_counts_from_the_front_or_the_back() -> None:
    rows = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    nines = [9.0, 9.0]
    assert pad_with_nines(rows, dim=1, pad=-1) == [nines, *rows]
    assert pad_with_nines(rows, dim=1, pad=2) == [*rows, nines, nines]
    assert pad_with_nines(rows, dim=1, pad=-1, index=2) == [rows[0], nines, *rows[1:]]
    assert pad_with_nines(rows, dim=1, pad=1, index=2) == [*rows[:2], nines, rows[2]]
    assert pad_with_nines(rows, dim=2, pad=-1, index=2) == [[a, 9.0, b] for a, b in rows]


def test_padding_does_not_count_the_batch() -> None:
    module = layer("nn.Padding", dim=1, pad=2, nInputDim=2, value=0, index=1)
    images = torch.randn(5, 3, 4)
    assert torch.equal(module(images), functional.pad(images, [0, 0, 0, 2]))
    assert torch.equal(module(images[0]), functional.pad(images[0], [0, 0, 0, 2]))


PADDING = {"pad_l": 1, "pad_r": 2, "pad_t": 0, "pad_b": 3}


@pytest.mark.covers(
    "nn.SpatialReflectionPadding",
    "nn.SpatialReplicationPadding",
    "nn.SpatialZeroPadding",
    compared="outputs",
)
@pytest.mark.parametrize(
    ("class_name", "mode"),
    [
        ("nn.SpatialZeroPadding", "constant"),
        ("nn.SpatialReflectionPadding", "reflect"),
        ("nn.SpatialReplicationPadding", "replicate"),
    ],
)
def test_each_side_has_its_own_padding(class_name: str, mode: str) -> None:
    images = torch.randn(2, 3, 5, 6)
    expected = functional.pad(images, [1, 2, 0, 3], mode=mode)
    module = layer(class_name, **PADDING)
    assert torch.equal(module(images), expected)
    assert torch.equal(module(images[0]), expected[0])


@pytest.mark.covers("nn.SpatialZeroPadding", compared="outputs")
def test_negative_padding_crops() -> None:
    images = torch.randn(2, 3, 5, 6)
    module = layer("nn.SpatialZeroPadding", pad_l=-1, pad_r=1, pad_t=-2, pad_b=0)
    expected = functional.pad(images[:, :, 2:, 1:], [0, 1, 0, 0])
    assert torch.equal(module(images), expected)


@pytest.mark.covers("nn.VolumetricReplicationPadding", compared="outputs")
def test_volumes_have_six_paddings() -> None:
    sides = {"pleft": 1, "pright": 0, "ptop": 2, "pbottom": 0, "pfront": 3, "pback": 0}
    volumes = torch.randn(2, 2, 3, 4, 5)
    output = layer("nn.VolumetricReplicationPadding", **sides)(volumes)
    assert torch.equal(
        output,
        volumes[:, :, [0] * 3 + [0, 1, 2]][..., [0] * 2 + [0, 1, 2, 3], :][..., [0, 0, 1, 2, 3, 4]],
    )


@pytest.mark.covers("nn.SpatialUpSamplingNearest", "nn.UpSampling", compared="outputs")
def test_nearest_repeats_every_pixel() -> None:
    images = torch.randn(2, 3, 4, 5)
    expected = images.repeat_interleave(3, 2).repeat_interleave(3, 3)
    for class_name in ("nn.SpatialUpSamplingNearest", "nn.UpSampling"):
        module = layer(class_name, scale_factor=3, mode="nearest")
        assert torch.equal(module(images), expected)
    assert torch.equal(layer("nn.SpatialUpSamplingNearest", scale_factor=3)(images[0]), expected[0])
    volumes = torch.randn(1, 2, 2, 3, 4)
    output = layer("nn.UpSampling", scale_factor=2, mode="nearest")(volumes)
    assert torch.equal(output[..., ::2, 1::2, ::2], volumes)


def interpolate(tensor: torch.Tensor, dim: int, size: int) -> torch.Tensor:
    """Interpolate along one dimension with aligned corners (`SpatialUpSamplingBilinear.c`)."""
    positions = torch.arange(size) * ((tensor.shape[dim] - 1) / max(size - 1, 1))
    low = positions.floor().long().clamp(max=tensor.shape[dim] - 1)
    high = (low + 1).clamp(max=tensor.shape[dim] - 1)
    shape = [1] * tensor.dim()
    shape[dim] = size
    fraction = (positions - low).reshape(shape)
    return torch.lerp(tensor.index_select(dim, low), tensor.index_select(dim, high), fraction)


@pytest.mark.covers("nn.SpatialUpSamplingBilinear", compared="outputs")
def test_linear_interpolation_aligns_the_corners() -> None:
    images = torch.randn(2, 3, 4, 5)
    sized = interpolate(interpolate(images, 2, 7), 3, 9)
    scaled = interpolate(interpolate(images, 2, 8), 3, 10)
    to_size = layer("nn.SpatialUpSamplingBilinear", oheight=7, owidth=9)
    assert relative_error(to_size(images), sized) < TOLERANCE
    assert relative_error(to_size(images[0]), sized[0]) < TOLERANCE
    for class_name in ("nn.SpatialUpSamplingBilinear", "nn.UpSampling"):
        by_factor = layer(class_name, scale_factor=2, mode="linear")
        assert relative_error(by_factor(images), scaled) < TOLERANCE
    one = torch.randn(1, 1, 1, 1)
    assert torch.equal(to_size(one), one.expand(1, 1, 7, 9))


def test_up_sampling_takes_images_and_volumes() -> None:
    module = layer("nn.UpSampling", odepth=3, oheight=7, owidth=9, mode="linear")
    volumes, images = torch.randn(1, 2, 2, 3, 4), torch.randn(1, 2, 3, 4)
    expected = interpolate(interpolate(interpolate(volumes, 2, 3), 3, 7), 4, 9)
    assert relative_error(module(volumes), expected) < TOLERANCE
    assert relative_error(module(images), interpolate(interpolate(images, 2, 7), 3, 9)) < TOLERANCE


EXPORTED = {
    "Padding": ("nn.Padding", {"dim": 1, "pad": -2, "nInputDim": 2}, (3, 4)),
    "Padding inside": ("nn.Padding", {"dim": 1, "pad": 2, "nInputDim": 2, "index": 2}, (3, 4)),
    "Upsample": ("nn.SpatialUpSamplingNearest", {"scale_factor": 3}, (3, 4, 5)),
    "Upsample, linear": ("nn.SpatialUpSamplingBilinear", {"oheight": 7, "owidth": 9}, (3, 4, 5)),
    "Upsample, volume": ("nn.UpSampling", {"scale_factor": 2, "mode": "linear"}, (2, 3, 4, 5)),
    "negative nn.ZeroPad2d": (
        "nn.SpatialZeroPadding",
        {"pad_l": -1, "pad_r": 1, "pad_t": 2, "pad_b": -1},
        (3, 4, 4),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_layers_export_with_a_dynamic_batch(name: str) -> None:
    class_name, fields, shape = EXPORTED[name]
    assert export_error(layer(class_name, **fields), torch.randn(2, *shape)) < 1e-5
