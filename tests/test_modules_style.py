"""Layers of fast-neural-style and texture_nets: normalization, borders and noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from layer_support import lua, rand
from support import relative_error
from torch import nn
from torch.nn import functional

from torchlift.converters import convert
from torchlift.converters.modules import convert_recorded

#: float64 against float64: only the order of summation differs.
EXACT = 1e-12


@pytest.mark.covers("nn.InstanceNormalization", compared="outputs, training")
def test_instance_normalization_normalizes_each_image() -> None:
    weight, bias, image = rand(3), rand(3), rand(2, 3, 4, 5)
    fields = {"nOutput": 3, "weight": weight, "bias": bias, "eps": 1e-5, "train": False}
    ran = convert(lua("nn.InstanceNormalization", bn=lua("nn.SpatialBatchNormalization"), **fields))
    expected = functional.instance_norm(image, weight=weight, bias=bias)
    assert relative_error(ran(image), expected) < EXACT
    assert relative_error(ran(image[0]), expected[0]) < EXACT
    never_ran = convert_recorded(lua("nn.InstanceNormalization", **fields))
    assert "never ran" in never_ran.notes[0].text
    # A network that was saved before it ran, in training mode, normalizes.
    for train in ({"train": True}, {"train": None}):
        network = convert_recorded(lua("nn.InstanceNormalization", **(fields | train)))
        assert network.notes == []
        assert relative_error(network.module(image), expected) < EXACT
    assert relative_error(never_ran.module.train()(image), expected) < EXACT


@pytest.mark.parametrize(
    ("fields", "normalizes"),
    [
        ({"train": False}, False),
        ({"train": True}, True),
        ({}, True),
        ({"train": False, "running_mean": torch.zeros(3).double()}, True),
    ],
)
def test_images_are_only_scaled_where_the_layer_never_ran_before_evaluation(
    fields: dict[str, object], normalizes: bool
) -> None:
    """Torch7 makes the normalization inside at the first call, in the mode of that time."""
    weight, bias, image = rand(3), rand(3), rand(2, 3, 4, 5)
    values = {"nOutput": 3, "weight": weight, "bias": bias, "eps": 1e-5, **fields}
    module = convert(lua("nn.InstanceNormalization", **values)).eval()
    scaled = image / (1 + 1e-5) ** 0.5 * weight[:, None, None] + bias[:, None, None]
    normalized = functional.instance_norm(image, weight=weight, bias=bias)
    assert relative_error(module(image), normalized if normalizes else scaled) < EXACT


@pytest.mark.covers("nn.GramMatrix", "nn.ShaveImage", "nn.ContentLoss", compared="outputs")
def test_gram_matrices_borders_and_losses() -> None:
    maps = rand(2, 3, 4, 5)
    flat = maps.reshape(2, 3, 20)
    expected = torch.einsum("nix,njx->nij", flat, flat) / 60
    module = convert(lua("nn.GramMatrix"))
    assert relative_error(module(maps), expected) < EXACT
    assert relative_error(module(maps[0]), expected[0]) < EXACT
    shave = convert(lua("nn.ShaveImage", size=1))
    assert torch.equal(shave(maps), maps[:, :, 1:3, 1:4])
    assert torch.equal(shave(maps[0]), maps[0, :, 1:3, 1:4])
    assert torch.equal(convert(lua("nn.ShaveImage", size=0))(maps), maps)
    watched = convert_recorded(lua("nn.ContentLoss", strength=1, mode="loss"))
    assert torch.equal(watched.module(maps), maps)
    assert "left out" in watched.notes[0].text


@pytest.mark.covers("nn.SpatialCircularPadding", compared="outputs")
def test_circular_padding_equals_numpys_wrap() -> None:
    image = rand(2, 3, 4, 5)
    sides = {"pad_l": 1, "pad_r": 2, "pad_t": 3, "pad_b": 0}
    expected = np.pad(image.numpy(), ((0, 0), (0, 0), (3, 0), (1, 2)), "wrap")
    module = convert(lua("nn.SpatialCircularPadding", **sides))
    assert torch.equal(module(image), torch.from_numpy(expected))
    assert torch.equal(module(image[0]), torch.from_numpy(expected[0]))
    no_padding = convert(lua("nn.SpatialCircularPadding", **dict.fromkeys(sides, 0)))
    # Step by step as the Lua code: pixels next to the opposite border overwrite the border.
    expected = image.clone()
    expected[:, :, 0], expected[:, :, -1] = image[:, :, -2], image[:, :, 1]
    columns = expected.clone()
    expected[..., 0], expected[..., -1] = columns[..., -2], columns[..., 1]
    assert torch.equal(no_padding(image), expected)


@pytest.mark.covers("nn.GenNoise", "nn.NoiseFill", compared="outputs")
def test_noise_replaces_or_follows_channels() -> None:
    torch.manual_seed(0)
    image = torch.full((4, 5, 20, 20), 9.0)
    first = convert(lua("nn.GenNoise"))(image)
    assert torch.equal(first[:, 3:], image[:, 3:])
    last = convert(lua("nn.NoiseFill", num_noise_channels=2, mult=0.5))(image)
    assert torch.equal(last[:, :3], image[:, :3])
    for noise, top in ((first[:, :3], 1.0), (last[:, 3:], 0.5)):
        assert noise.min() >= 0
        assert top * 0.99 < noise.max() <= top
    normal = convert(lua("nn.GenNoise", num_planes=3, mult=2))(image)
    assert normal.shape == (4, 3, 20, 20)
    assert 1.9 < normal.std() < 2.1
    doodle = lua("nn.NoiseFill", num_noise_channels=1, num_mask_noise_times=2, n_colors=5)
    output = convert(doodle)(image)
    assert output.shape == (4, 16, 20, 20)
    assert torch.equal(output[:, :5], image)
    assert output[:, 5:15].max() > 8
    assert 0.9 < output[:, 15:].max() <= 1
    assert output[:, 5:15].std() > 2  # uniform from 0 to 9: 2.6
    doodle.fields["mult_noise_mask"], doodle.fields["mult_noise"] = 0.5, 3.0
    scaled = convert(doodle)(image)
    assert 4.4 < scaled[:, 5:15].max() <= 4.5
    assert 2.9 < scaled[:, 15:].max() <= 3
    assert isinstance(convert(lua("nn.NoiseFill", num_noise_channels=0)), nn.Identity)


@pytest.mark.parametrize("name", ["nn.GenNoise", "nn.NoiseFill", "doodles"])
def test_noise_is_drawn_for_every_value_of_its_own(name: str) -> None:
    """For each image, channel, pixel and copy."""
    image = torch.ones(2, 3, 4, 5)
    if name == "doodles":
        fields = {"num_noise_channels": 2, "num_mask_noise_times": 2, "n_colors": 3}
        noise = convert(lua("nn.NoiseFill", **fields))(image)[:, 3:]
    elif name == "nn.GenNoise":
        noise = convert(lua(name, num_planes=3))(image)
    else:
        noise = convert(lua(name, num_noise_channels=2))(image)[:, 1:]
    assert len(noise.unique()) == noise.numel()


def test_statistics_of_a_layer_that_never_ran_have_the_type_of_its_weight() -> None:
    fields = {"nOutput": 3, "train": False}
    for values, dtype in (({}, torch.float32), ({"weight": rand(3)}, torch.float64)):
        module = convert(lua("nn.InstanceNormalization", **fields, **values))
        assert (module.running_mean.dtype, module.running_var.dtype) == (dtype, dtype)
