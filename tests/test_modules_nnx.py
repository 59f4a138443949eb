"""Sizes, bounds, scales and tables of nnx's layers, computed by hand or as their Lua files do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from layer_support import lua, rand
from support import relative_error
from torch.nn import functional

from torchlift.converters import convert, t7
from torchlift.converters.modules import ConversionError


@pytest.mark.parametrize(("ratio", "size"), [(0.5, 3), (0.7, 4), (1.5, 8), (1.3, 7)])
@pytest.mark.covers("nn.SpatialReSampling", "nn.SpatialReSamplingEx", compared="outputs")
def test_a_size_from_a_ratio_is_rounded_or_rounded_down(ratio: float, size: int) -> None:
    """Of five rows: 2.5, 3.5, 7.5 and 6.5; `SpatialReSampling.lua` rounds down in C."""
    image = rand(1, 5, 5)
    fields = {"mode": "bilinear", "rheight": ratio, "rwidth": ratio, "yDim": 2, "xDim": 3}
    assert convert(lua("nn.SpatialReSamplingEx", **fields))(image).shape == (1, size, size)
    plain = convert(lua("nn.SpatialReSampling", rheight=ratio, rwidth=ratio))
    assert plain(image).shape == (1, int(5 * ratio), int(5 * ratio))


@pytest.mark.parametrize("mode", ["simple", "average"])
def test_an_image_that_grows_repeats_its_pixels(mode: str) -> None:
    image = torch.arange(4.0).reshape(1, 2, 2)
    fields = {"mode": mode, "oheight": 4, "owidth": 3, "yDim": 2, "xDim": 3}
    rows = [[0, 0, 1], [0, 0, 1], [2, 2, 3], [2, 2, 3]]
    assert convert(lua("nn.SpatialReSamplingEx", **fields))(image)[0].tolist() == rows
    # The rows decide whether it grows: each is repeated, and what is too much cut off.
    wide = torch.arange(24.0).reshape(1, 4, 6)
    taller = convert(lua("nn.SpatialReSamplingEx", **fields | {"oheight": 6, "owidth": 3}))
    assert torch.equal(taller(wide), wide.repeat_interleave(2, 1)[:, :6, :3])
    same = convert(lua("nn.SpatialReSamplingEx", **fields | {"oheight": 2, "owidth": 2}))
    assert torch.equal(same(image), image)


@pytest.mark.covers("nn.SaturatedLU", compared="outputs")
def test_the_bounds_themselves_are_no_values_beyond_them() -> None:
    module = convert(lua("nn.SaturatedLU", threshold=-1.0, val=-5.0, threshold2=1.0, val2=7.0))
    values = torch.tensor([-1.5, -1.0, 0.0, 1.0, 1.5])
    assert module(values).tolist() == [-5, -1, 0, 1, 7]
    # The second bound looks at what the first one has made.
    module = convert(lua("nn.SaturatedLU", threshold=-1.0, val=5.0, threshold2=1.0, val2=7.0))
    assert module(values).tolist() == [7, -1, 0, 1, 7]


def fovea(**fields: Any) -> Any:
    """Return a fovea of two scales, 1 and 2, whose processors add the mean of what they see."""
    processors = [lua("nn.MulConstant", constant_scalar=factor) for factor in (3, 5)]
    return lua("nn.SpatialFovea", ratios=[1, 2], padding=0, processors=processors, **fields)


@pytest.mark.covers("nn.SpatialFovea", compared="outputs")
def test_scales_of_a_fovea_are_made_small_and_large_again() -> None:
    image = rand(2, 4, 6)
    means = functional.avg_pool2d(image, 2).repeat_interleave(2, 1).repeat_interleave(2, 2)
    expected = torch.cat([3 * image, 5 * means])
    assert relative_error(convert(fovea())(image), expected) < 1e-12
    smaller = functional.interpolate(image[None], (2, 3), mode="bilinear", align_corners=True)
    larger = functional.interpolate(smaller, (4, 6), mode="bilinear", align_corners=True)[0]
    expected = torch.cat([3 * image, 5 * larger])
    assert relative_error(convert(fovea(bilinear=True))(image), expected) < 1e-12
    before = t7.LuaTable({2: lua("nn.Square")})
    squares = functional.avg_pool2d(image, 2).square()
    squares = squares.repeat_interleave(2, 1).repeat_interleave(2, 2)
    source = fovea()
    source.fields["preProcessors"] = before
    assert relative_error(convert(source)(image), torch.cat([3 * image, 5 * squares])) < 1e-12


def test_layers_that_look_at_one_place_are_refused() -> None:
    with pytest.raises(ConversionError, match="one place of the image only"):
        convert(fovea(focused=True))


@pytest.mark.covers("nn.SpatialPyramid", compared="outputs")
def test_a_pyramid_takes_sizes_that_are_multiples_of_its_ratios() -> None:
    scales = [lua("nn.MulConstant", constant_scalar=factor) for factor in (1, 2)]
    pipeline = lua("nn.ParallelTable", modules=scales)
    module = convert(lua("nn.SpatialPyramid", unfocused_pipeline=pipeline, ratios=[1, 3]))
    image = rand(2, 3, 6)
    assert relative_error(module(image), [image, 2 * image]) == 0
    assert relative_error(module([image, image + 1]), [image, 2 * image + 2]) == 0
    for size in ((4, 6), (3, 5)):
        with pytest.raises(ValueError, match="must be multiples"):
            module(rand(3, *size))


def test_a_value_is_pulled_once_after_it_was_pushed() -> None:
    push = lua("nn.PushTable", _index=1)
    pull = lua("nn.PullTable", _push=push, _index=2)
    push.fields["_pulls"] = t7.LuaTable.from_list([pull])
    between = lua("nn.SelectTable", index=1)
    network = convert(lua("nn.Sequential", modules=[push, between, pull]))
    first, second = rand(2), rand(3)
    assert [network[2].push is network[0], network.state_dict()] == [True, {}]
    output = network([first, second])
    assert output[0] is second
    assert output[1] is first
    with pytest.raises(RuntimeError, match="run the network's PushTable first"):
        network[2](second)
    short = lua("nn.PullTable", _push=push, _index=3)
    with pytest.raises(RuntimeError, match="index 2 of a table of 1 values"):
        convert(lua("nn.Sequential", modules=[push, between, short]))([first, second])
