"""Rules of the layers of packages where the usual values make two of them equal."""

from __future__ import annotations

import pytest
import torch
from layer_support import lua

from torchlift.converters import convert


@pytest.mark.parametrize(
    ("fields", "scales"),
    [
        ({"size": 3, "depth": 1, "scale": 3}, [1]),
        ({"size": 3, "depth": 4, "scale": 3}, [1, 3, 6, 9]),
        ({"height": 3, "width": 3, "depth": 4, "scale": 3}, [1, 3, 9, 27]),
        ({"height": 3, "width": 5, "depth": 3, "scale": 1.5}, [[3, 5], [4, 7], [6, 10]]),
    ],
)
def test_the_crops_of_a_glimpse_grow_by_the_rule_of_its_version(
    fields: dict[str, float], scales: list[object]
) -> None:
    """With a scale of 2 and a depth of 3 both versions have 1, 2 and 4."""
    assert convert(lua("nn.SpatialGlimpse", **fields)).scales == scales


@pytest.mark.parametrize(
    ("size", "first"), [(3, 0), (4, 0), (5, 0), (6, 1), (7, 1), (8, 2), (9, 2)]
)
def test_a_center_crop_begins_at_half_the_margin_rounded_up_from_1(size: int, first: int) -> None:
    """`math.ceil(margin / 2)` is Lua's index; of no margin it would be 0."""
    module = convert(lua("nn.SpatialUniformCrop", oheight=3, owidth=2)).eval()
    image = torch.arange(size)[:, None].expand(size, 2)[None]
    assert module(image)[0, :, 0].tolist() == [first, first + 1, first + 2]
    assert module(image).shape == (1, 3, 2)
