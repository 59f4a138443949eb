"""What a table of mean and std leaves open is inferred, or asked for."""

from __future__ import annotations

import pytest

from torchlift.converters.images import PreprocessingError
from torchlift.converters.images.mean_std import from_mean_std
from torchlift.converters.t7 import LuaTable


def test_numbers_of_pixels_do_not_become_fractions_of_one() -> None:
    """A mean of 120 with images from 0 to 1 would make all images equal."""
    table = LuaTable({"mean": 120.5, "std": 60.0})
    with pytest.raises(PreprocessingError, match="one is above 1: leave out value_range=1"):
        from_mean_std(table, (1, 8, 8), value_range=1)
    assert from_mean_std(table, (1, 8, 8), value_range=255)[0].value_range == 255


def test_the_longer_list_says_how_many_channels_there_are() -> None:
    three = LuaTable.from_list([0.2, 0.3, 0.4])
    for table in (LuaTable({"mean": 0.5, "std": three}), LuaTable({"mean": three, "std": 0.5})):
        preprocessing, note = from_mean_std(table)
        assert (preprocessing.color, preprocessing.size) == ("RGB", None)
        assert "in the order RGB" in note
    gray, note = from_mean_std(LuaTable({"mean": 0.5, "std": 0.25}))
    assert gray.color == "gray"
    assert "RGB" not in note
