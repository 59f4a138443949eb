"""What a table of mean and std leaves open is inferred, or asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from torchlift.converters import t7
from torchlift.converters.images import Preprocessing, PreprocessingError
from torchlift.converters.images.mean_std import (
    from_mean_std,
    read_mean_std,
    read_mean_std_file,
    with_table,
)
from torchlift.converters.images.normalization import Normalization
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


def test_a_table_is_read_with_how_images_are_resized() -> None:
    """A size behind a colon is what images are scaled to before the network's own is cut out."""
    table = LuaTable({"mean": 0.5, "std": 0.25})
    found, note = from_mean_std(table, (1, 8, 6), resize="pil-box:^9")
    assert (found.resize, found.size, found.crop) == ("pil-box", "^9", (8, 6))
    assert note.endswith("images are resized to ^9 by pil-box and cropped to 8×6")


def test_two_values_without_names_are_mean_and_std(tmp_path: Path) -> None:
    (tmp_path / "pixels.json").write_text("[[0.4, 0.5, 0.6], 0.25]", encoding="utf-8")
    pair = LuaTable.from_list([LuaTable.from_list([0.4, 0.5, 0.6]), 0.25])
    for found in (read_mean_std(pair), read_mean_std_file(tmp_path / "pixels.json")):
        assert found is not None
        assert (found.mean, found.std) == ((0.4, 0.5, 0.6), (0.25,))
    for other in (LuaTable({"a": 0.5, "b": 0.25}), LuaTable.from_list([0.5, 0.25, 1])):
        assert read_mean_std(other) is None
    for text in ("[0.5, 0.25, 1]", "[0.5]", "0.5", '"mean"', "{}"):
        (tmp_path / "other.json").write_text(text, encoding="utf-8")
        assert read_mean_std_file(tmp_path / "other.json") is None


def test_the_numbers_of_imagenet_are_in_the_order_that_the_network_sees() -> None:
    said = Normalization.of("imagenet", "imagenet", color="BGR")
    assert (said.mean, said.std) == ((0.406, 0.456, 0.485), (0.225, 0.224, 0.229))
    assert said.color == "BGR"
    said = Normalization.of("imagenet", "imagenet")
    assert (said.mean, said.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_what_is_no_mean_of_gray_or_rgb_is_refused() -> None:
    yuv = LuaTable({"y": 0.5, "u": 0.1, "v": 0.1})
    for mean, problem in (
        (yuv, "YUV"),
        (LuaTable({"y": 0.5}), "not a list of numbers"),
        (LuaTable.from_list([0.5, 0.5]), "has 2 numbers"),
        ("0.5 or so", "not a list of numbers"),
        (float("nan"), "not a list of numbers"),
        (LuaTable.from_list([0.5, float("inf"), 0.5]), "not a list of numbers"),
    ):
        with pytest.raises(PreprocessingError, match=problem):
            read_mean_std(LuaTable({"mean": mean, "std": 1.0}))


def test_numbers_that_are_given_take_the_place_of_all_others() -> None:
    """A mean beside the model belongs to its own std and range, not to what is given."""
    beside = Normalization((0.1,), (0.2,), "BGR", 1)
    assert Normalization(std=(60.0,)).over(beside) == Normalization(None, (60.0,), "BGR", None)
    assert Normalization((90.0,)).over(beside) == Normalization((90.0,), None, "BGR", None)
    assert Normalization(color="RGB").over(beside) == Normalization((0.1,), (0.2,), "RGB", 1)
    assert Normalization(value_range=255).over(beside).value_range == 255


@pytest.mark.parametrize(
    ("said", "differs"),
    [
        ({"mean": 0.5, "std": (0.25,) * 3, "color": "RGB", "value_range": 1}, ""),
        ({"mean": (0.5, 0.5, 0.6)}, "mean=0.5,0.5,0.6 is not the model's own, which is 0.5"),
        ({"std": 0.2}, "std=0.2"),
        ({"color": "BGR"}, "color=BGR"),
        ({"value_range": 255}, "value_range=255"),
    ],
)
def test_what_is_given_must_be_the_models_own(said: dict[str, Any], differs: str) -> None:
    own = Preprocessing("RGB", value_range=1, mean=(0.5,), std=(0.25,))
    if not differs:
        Normalization.of(**said).require_same(own)
        return
    with pytest.raises(PreprocessingError, match=differs):
        Normalization.of(**said).require_same(own)


def test_a_std_of_1_and_a_mean_of_0_are_those_of_a_model_without() -> None:
    own = Preprocessing("BGR", value_range=(-1, 1))
    Normalization.of(mean=0, std=(1, 1, 1), color="BGR", value_range=(-1, 1)).require_same(own)
    for said in ({"mean": 0.5}, {"std": 2}):
        with pytest.raises(PreprocessingError, match=r"is not the model's own, which is [01]$"):
            Normalization.of(**said).require_same(own)


@pytest.mark.parametrize(
    ("said", "shape", "note"),
    [
        (
            {"value_range": 1},
            (3, 8, 6),
            "the network takes values from 0 to 1, with channels in the order RGB; "
            "images are resized to 8×6 by pil-bilinear",
        ),
        ({"value_range": (-1, 1)}, (1, 8, 6), "the network takes values from -1 to 1; images are"),
        ({"mean": (9.0,), "value_range": 255}, None, "mean 9 and std 1 are used for values from 0"),
        ({"std": (0.5,) * 3}, None, "mean 0 and std 0.5… fit values from 0 to 1, with channels in"),
    ],
)
def test_a_note_says_what_was_given_and_what_follows(said: Any, shape: Any, note: str) -> None:
    preprocessing, found = Normalization(**said).preprocessing(shape)
    assert found.startswith(note)
    # What nobody said is not done.
    says_numbers = "mean" in said or "std" in said
    assert bool(preprocessing.mean) is bool(preprocessing.std) is says_numbers


@pytest.mark.parametrize(
    ("channels", "color"), [(1, "gray"), (3, "RGB"), (4, None), (2, None), (None, "gray")]
)
def test_colors_are_those_of_so_many_channels(channels: int | None, color: str | None) -> None:
    said = Normalization(value_range=1)
    if color is None:
        with pytest.raises(PreprocessingError, match=f"1 or 3 channels, but .* {channels}$"):
            said.preprocessing(channels=channels)
        return
    assert said.preprocessing(channels=channels)[0].color == color
    if channels == 1:
        for where in ({"channels": 1}, {"input_shape": (1, 8, 8)}):
            with pytest.raises(PreprocessingError, match=r"BGR has 3 channels, but .* takes 1"):
                Normalization(color="BGR", value_range=1).preprocessing(**where)


def test_a_std_of_0_divides_nothing() -> None:
    for std in (0, (0.5, 0.5, 0), -1.0):
        with pytest.raises(PreprocessingError, match="std=… must be positive"):
            Normalization.of(std=std)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"mean": "imagenet"}, "mean=imagenet and std=imagenet belong together"),
        ({"std": "imagenet", "mean": 0.5}, "mean=imagenet and std=imagenet belong together"),
        ({"value_range": 255}, "is for values from 0 to 1: leave out value_range"),
        ({"value_range": (-1, 1)}, "is for values from 0 to 1: leave out value_range"),
        ({"color": "gray"}, "has three channels, color=gray has one"),
        ({"value_range": 1, "color": "RGB"}, ""),
    ],
)
def test_the_numbers_of_imagenet_are_for_colors_from_0_to_1(said: Any, problem: str) -> None:
    both = {"mean": "imagenet", "std": "imagenet"} if {"mean", "std"}.isdisjoint(said) else {}
    if problem:
        with pytest.raises(PreprocessingError, match=problem):
            Normalization.of(**both, **said)
        return
    found = Normalization.of(**both, **said)
    assert found == Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "RGB", 1)


def test_a_table_gives_the_numbers_and_what_is_said_beside_it_the_rest(tmp_path: Path) -> None:
    table = LuaTable({"mean": 0.5, "std": 0.25})
    t7.save(table, tmp_path / "pixels.t7")
    (tmp_path / "PIXELS.JSON").write_text('{"mean": 0.5, "std": 0.25}', encoding="utf-8")
    said = Normalization(color="gray", value_range=1)
    expected = Normalization((0.5,), (0.25,), "gray", 1)
    assert with_table(said, "model.t7", table) == (expected, "model.t7")
    for file in (tmp_path / "pixels.t7", tmp_path / "PIXELS.JSON"):
        assert with_table(said, "model.t7", file) == (expected, str(file))
    for twice in (Normalization((0.5,)), Normalization(std=(0.5,))):
        with pytest.raises(PreprocessingError, match="leave out mean=… and std=…"):
            with_table(twice, "model.t7", table)
    for wrong, problem in (
        (LuaTable({"std": 0.25}), r"a table {mean = …, std = …} was expected"),
        (LuaTable({"mean": "?"}), "mean is not a list of numbers"),
    ):
        with pytest.raises(PreprocessingError, match=f"^model.t7: {problem}"):
            with_table(said, "model.t7", wrong)
        with pytest.raises(PreprocessingError, match=f"^{problem}"):
            from_mean_std(wrong)
    assert read_mean_std(5) is None


def test_a_file_of_yaml_may_end_in_yml(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yml", "c.YML"):
        (tmp_path / name).write_text("mean: [0.1, 0.2, 0.3]\nstd: 0.5\n", encoding="utf-8")
        found = read_mean_std_file(tmp_path / name)
        assert found == Normalization((0.1, 0.2, 0.3), (0.5,))
