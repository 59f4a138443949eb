"""What preprocessing may be, how large it may make an image, and which of two wishes wins.

Each table has both sides of a limit, and every attribute by itself.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from torchlift.converters.images import Preprocessing, PreprocessingError
from torchlift.converters.images.image_to_image import ImageToImage, SaidOutput
from torchlift.converters.images.mean_std import from_mean_std, read_mean_std_file, with_table
from torchlift.converters.images.normalization import Normalization, _infer_value_range
from torchlift.converters.images.pixels import rounded
from torchlift.converters.t7 import LuaTable

#: What a graph that takes images leaves outside.
DECODES = Preprocessing(resize="none", value_range=255)


@pytest.mark.parametrize(
    ("change", "only_decodes"),
    [
        ({}, True),
        ({"color": "gray"}, True),
        ({"color": "BGR"}, False),
        ({"size": (4, 4)}, False),
        ({"crop": (4, 4)}, False),
        ({"mean": (1.0,)}, False),
        ({"std": (2.0,)}, False),
        ({"resize": "pil-bilinear"}, False),
        ({"value_range": 1}, False),
    ],
)
def test_images_are_only_decoded_where_nothing_else_is_asked(
    change: dict[str, Any], only_decodes: bool
) -> None:
    assert replace(DECODES, **change).only_decodes is only_decodes


@pytest.mark.parametrize(
    ("options", "is_valid"),
    [
        ({"size": 2**14}, True),
        ({"size": 2**14 + 1}, False),
        ({"crop": (2**14 + 1, 1)}, False),
        ({"size": True}, False),
        ({"size": (4, 0)}, False),
        ({"std": (1e-29,)}, True),
        ({"std": (1e-31,)}, False),
        ({"std": (-1.0,)}, False),
        ({"mean": (1e29,)}, True),
        ({"mean": (-1e31,)}, False),
        ({"mean": (float("nan"),)}, False),
        ({"mean": (None,)}, False),
        ({"color": "gray", "mean": (0.1,) * 3}, False),
        ({"mean": (0.1,) * 2}, False),
        ({"value_range": (-1, 1)}, True),
        ({"value_range": (1, -1)}, False),
        ({"value_range": (0, 0)}, False),
        ({"value_range": 2}, False),
        ({"value_range": (0, 1e31)}, False),
        ({"value_range": (0, float("inf"))}, False),
        # A wide, a tall and a square image: one of them leaves room for the crop.
        ({"size": "^32", "crop": (32, 512)}, True),
        ({"size": "^32", "crop": (512, 32)}, True),
        ({"size": "512", "crop": (512, 512)}, True),
        ({"size": "512", "crop": (513, 1)}, False),
    ],
)
def test_attributes_are_refused_beyond_their_limits(options: Any, is_valid: bool) -> None:
    if is_valid:
        Preprocessing(**options)
        return
    with pytest.raises(PreprocessingError):
        Preprocessing(**options)


def test_an_image_may_become_so_large_and_no_larger() -> None:
    """A file says the size: 2**26 pixels, and 8 times the network's input before the crop."""
    assert Preprocessing(size=(2**13, 2**13)).check_size(5, 5) == (2**13, 2**13)
    with pytest.raises(PreprocessingError, match="would be resized to 8192×8193"):
        Preprocessing(size=(2**13, 2**13 + 1)).check_size(5, 5)
    Preprocessing(size="^80", crop=(10, 10)).check_fits((3, 10, 10))
    with pytest.raises(PreprocessingError, match=r"size is '\^81', but the network takes 3×10×10"):
        Preprocessing(size="^81", crop=(10, 10)).check_fits((3, 10, 10))


def test_so_large_is_measured_by_the_longer_side_of_what_the_network_takes() -> None:
    for shape in ((3, 20, 10), (3, 10, 20)):
        Preprocessing(size="^80", crop=shape[1:]).check_fits(shape)
        with pytest.raises(PreprocessingError, match=r"size is '\^81'"):
            Preprocessing(size="^81", crop=shape[1:]).check_fits(shape)


def test_an_array_of_images_is_cropped_as_images_are_and_stays_as_it_is() -> None:
    """Also where nothing is resized or recolored, which is another way through the code."""
    batch = np.arange(2 * 3 * 5 * 6, dtype=np.uint8).reshape(2, 3, 5, 6)
    whole = Preprocessing().pixels(batch)
    assert np.array_equal(whole, batch.transpose(0, 2, 3, 1))
    assert not np.shares_memory(whole, batch)
    for color, order in (("RGB", slice(None)), ("BGR", slice(None, None, -1))):
        cropped = Preprocessing(color, crop=(3, 2), value_range=255)(batch)
        assert np.array_equal(cropped, batch[:, order, 1:4, 2:4])
    for crop in ((6, 6), (5, 7)):
        with pytest.raises(PreprocessingError, match=r"5×6 is too small for a crop of"):
            Preprocessing(crop=crop)(batch)


@pytest.mark.parametrize(
    ("own", "of_input", "colors"),
    [
        (None, "RGB", [10, 20, 30]),
        (None, "BGR", [30, 20, 10]),
        ("BGR", "RGB", [30, 20, 10]),
        ("RGB", "BGR", [10, 20, 30]),
        # A gray image that becomes a colored one.
        (None, "gray", [10, 20, 30]),
        ("gray", "RGB", 10),
        (None, "gray", 10),
        # A colored one that becomes gray.
        (None, "BGR", 10),
    ],
)
def test_an_output_has_the_colors_that_are_said_or_those_of_the_input(
    own: str | None, of_input: str, colors: Any
) -> None:
    values = colors if isinstance(colors, int) else [10, 20, 30]
    output = np.reshape(values, (-1, 1, 1)).astype(np.float32)
    assert ImageToImage(255, own).image(output, of_input)[0, 0].tolist() == colors


def test_std_comes_before_the_mean_and_the_range_last() -> None:
    """The other way round than for inputs: (x · std + mean - low) · 255 / (high - low)."""
    steps = ImageToImage((-1, 3), "RGB", mean=(0.5, -0.5, 1.0), std=(2.0, 0.5, 1.0))
    output = np.reshape([0.25, 1.0, 9.0], (3, 1, 1)).astype(np.float32)
    assert steps.image(output)[0, 0].tolist() == [round(2 * 63.75), round(63.75), 255]
    # The output is the caller's.
    assert output.ravel().tolist() == [0.25, 1.0, 9.0]
    # One number stands for all colors.
    steps = ImageToImage(255, "RGB", mean=(5.0,), std=(20.0,))
    assert steps.image(output)[0, 0].tolist() == [10, 25, 185]


@pytest.mark.parametrize(
    ("preprocessing", "problem"),
    [
        (Preprocessing("gray", (6, 5)), "color is 'gray'"),
        (Preprocessing(size=(5, 6)), "images become 5×6"),
        (Preprocessing(size=(12, 12), crop=(6, 6)), "images become 6×6"),
        (Preprocessing(size=(6, 5)), ""),
        (Preprocessing(size=(9, 9), crop=(6, 5)), ""),
        (Preprocessing(), ""),
    ],
)
def test_images_must_become_what_the_network_takes(
    preprocessing: Preprocessing, problem: str
) -> None:
    if not problem:
        preprocessing.check_fits((3, 6, 5))
        return
    with pytest.raises(PreprocessingError, match=f"{problem}.* but the network takes 3×6×5"):
        preprocessing.check_fits((3, 6, 5))


#: How the outputs of a network become images, as its file says.
KNOWN = ImageToImage(255, "BGR", mean=(103.9, 116.8, 123.7), std=(2.0,), border=3)
INPUT = Preprocessing("RGB", value_range=1, mean=(0.5,), std=(0.25,))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (SaidOutput(), KNOWN),
        # Mean and std were for the other range.
        (SaidOutput(range=(-1, 1)), replace(KNOWN, value_range=(-1, 1), mean=(), std=())),
        (SaidOutput(mean=True), replace(KNOWN, mean=(0.5,), std=(0.25,))),
        (SaidOutput(color="gray"), replace(KNOWN, color="gray")),
        (SaidOutput(1, "RGB", mean=True), ImageToImage(1, "RGB", (0.5,), (0.25,), border=3)),
    ],
)
def test_what_is_said_of_an_output_wins_over_the_file(
    said: SaidOutput, expected: ImageToImage
) -> None:
    assert said.over(KNOWN, INPUT) == expected


def test_what_is_said_of_an_output_is_said_together() -> None:
    assert SaidOutput.of([-1, 1], "BGR", True) == SaidOutput((-1, 1), "BGR", True)
    assert SaidOutput.of((0, 255), None, False) == SaidOutput(255)
    assert SaidOutput.of([1]) == SaidOutput(1)
    assert SaidOutput.of(None, "gray", True) == SaidOutput(None, "gray", True)


def test_outputs_of_which_nothing_is_known_are_as_inputs_before_mean_and_std() -> None:
    assert SaidOutput().over(None, INPUT) == ImageToImage(1)
    assert SaidOutput(mean=True).over(None, INPUT) == ImageToImage(1, mean=(0.5,), std=(0.25,))


@pytest.mark.parametrize(
    ("said", "differs"),
    [
        (SaidOutput(), ""),
        (SaidOutput(range=1), ""),
        (SaidOutput(range=255), "output_range"),
        (SaidOutput(color="RGB"), ""),
        (SaidOutput(color="BGR"), "output_color"),
        (SaidOutput(mean=True), "output_mean"),
    ],
)
def test_what_is_said_of_an_exported_file_must_be_its_own(said: SaidOutput, differs: str) -> None:
    """The file says no color: that is the input's. What a file leaves open is open."""
    said.require_same(None, INPUT)
    if not differs:
        said.require_same(ImageToImage(1), INPUT)
        return
    with pytest.raises(PreprocessingError, match=f"{differs}=… is not the model's own"):
        said.require_same(ImageToImage(1), INPUT)


def test_mean_and_std_are_given_once() -> None:
    table = LuaTable({"mean": 0.5, "std": 0.25})
    for given in (Normalization(mean=(0.5,)), Normalization(std=(0.25,))):
        with pytest.raises(PreprocessingError, match="leave out mean=… and std=…"):
            with_table(given, "model", table)
    said, name = with_table(Normalization(color="BGR"), "model", table)
    assert (said, name) == (Normalization((0.5,), (0.25,), "BGR"), "model")
    said, _ = with_table(Normalization(value_range=255), "model", table)
    assert said.value_range == 255
    with pytest.raises(PreprocessingError, match=r"^model: a table \{mean = …, std = …\} was"):
        with_table(Normalization(), "model", LuaTable({"std": 0.25}))
    with pytest.raises(PreprocessingError, match=r"^model: mean has 2 numbers"):
        with_table(Normalization(), "model", LuaTable({"mean": LuaTable.from_list([1, 2])}))


def test_a_std_below_zero_is_named() -> None:
    with pytest.raises(PreprocessingError, match=r"mean 0\.5 and std -0\.25: a std below 0"):
        from_mean_std(LuaTable({"mean": 0.5, "std": -0.25}), (1, 4, 4), value_range=1)


@pytest.mark.parametrize(
    ("entry", "is_valid"),
    [
        *(({"scale": 64}, True), ({"scale": 65}, False), ({"scale": 0}, False)),
        *(({"border": 0}, True), ({"border": 1024}, True), ({"border": 1025}, False)),
        *(({"border": -1}, False), ({"multiple": 1}, True), ({"multiple": 0}, False)),
        *(({"multiple": 1024}, True), ({"multiple": 1025}, False), ({"color": "gray"}, True)),
        *(({"color": "YUV"}, False), ({"mean": [0.5, 0.5]}, False), ({"takes_mask": 1}, False)),
        *(({"std": ["a"]}, False), ({"keeps_color": 1}, False), ({"value_range": 2}, False)),
    ],
)
def test_a_file_asks_for_so_wide_a_border_and_no_wider(entry: Any, is_valid: bool) -> None:
    values = {"value_range": 1, **entry}
    if is_valid:
        assert ImageToImage.from_json(values).to_json() == ImageToImage(1, **entry).to_json()
        return
    with pytest.raises(PreprocessingError):
        ImageToImage.from_json(values)


@pytest.mark.parametrize("name", ["mean", "std"])
def test_an_output_has_one_number_or_one_for_each_color(name: str) -> None:
    for count in range(5):
        numbers = [0.5] * count
        if count in (0, 1, 3):
            found = ImageToImage.from_json({"value_range": 1, name: numbers})
            assert found == ImageToImage(1, **{name: tuple(numbers)})  # type: ignore[arg-type]  # two fields alike
            continue
        with pytest.raises(PreprocessingError, match=f"{name} has neither 1 nor 3 numbers"):
            ImageToImage(1, **{name: tuple(numbers)})  # type: ignore[arg-type]  # two fields alike


@pytest.mark.parametrize("suffix", [".json", ".yaml", ".yml", ".YML"])
def test_mean_and_std_are_read_of_text_by_its_suffix(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"pixels{suffix}"
    file.write_text('{"mean": [0.4, 0.5, 0.6], "std": 0.25}', encoding="utf-8")
    found = read_mean_std_file(file)
    assert found == Normalization((0.4, 0.5, 0.6), (0.25,))


def test_pixels_are_rounded_and_cut_where_they_become_bytes() -> None:
    floats = np.array([-3.0, 0.49, 0.51, 1.5, 2.5, 254.6, 255.5, 300.0], np.float32)
    assert rounded(floats).tolist() == [0, 0, 1, 2, 2, 255, 255, 255]
    whole = np.arange(3, dtype=np.uint8)
    assert rounded(whole) is whole


@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        ((0.5,), (0.25,), 1),
        ((1.0,), (1.0,), 1),
        ((0.5,), (1.5,), 255),
        ((120.0,), (60.0,), 255),
        ((-0.5,), (0.25,), None),
        ((0.5,), (-0.25,), None),
        ((-120.0,), (60.0,), None),
        ((0.0,), (1.0,), None),
    ],
)
def test_mean_and_std_tell_the_range_of_values_or_leave_it_open(
    mean: tuple[float, ...], std: tuple[float, ...], expected: int | None
) -> None:
    assert _infer_value_range(mean, std) == expected


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"color": "CMYK"}, "color=CMYK: gray, RGB, BGR are known"),
        ({"mean": "much"}, "mean is not a list of numbers"),
        ({"mean": [0.1, "much", 0.2]}, "mean is not a list of numbers"),
        ({"mean": [[0.1], [0.2]]}, "mean is not a list of numbers"),
        ({"mean": []}, "mean is not a list of numbers"),
        ({"std": math.inf}, "std is not a list of numbers"),
        ({"mean": [0.1, 0.2]}, "mean has 2 numbers: 1 or 3 were expected"),
    ],
)
def test_what_no_channel_has_is_refused_where_it_is_said(
    said: dict[str, Any], problem: str
) -> None:
    with pytest.raises(PreprocessingError, match=re.escape(problem)):
        Normalization.of(**said)
    for name, value in {"mean": "0.5", "std": 2, "color": "BGR"}.items():
        assert getattr(Normalization.of(**{name: value}), name) is not None


@pytest.mark.parametrize(
    ("color", "input_color", "channels", "problem"),
    [
        (None, "RGB", 3, ""),
        (None, "gray", 3, ""),
        (None, "RGB", 1, ""),
        (None, "RGB", 2, "the output has 2 channels, an image 1 or 3 were expected"),
        ("gray", "RGB", 3, "the output has 3 channels, an image 1, for gray, were expected"),
        ("BGR", "RGB", 1, "the output has 1 channels, an image 3, for BGR, were expected"),
    ],
)
def test_an_output_has_the_channels_of_a_color(
    color: str | None, input_color: str, channels: int, problem: str
) -> None:
    steps, output = ImageToImage(1, color), np.zeros((channels, 2, 2), np.float32)
    if problem:
        with pytest.raises(PreprocessingError, match=problem):
            steps.image(output, input_color)
    else:
        output[0] = 1
        made = steps.image(output, input_color)
        # Colors where a gray image went in are red, green and blue.
        assert made[0, 0].tolist() == ([255, 0, 0] if channels == 3 else 255)


def test_an_unknown_color_of_outputs_is_refused() -> None:
    with pytest.raises(PreprocessingError, match="output_color=blue: gray, RGB, BGR are known"):
        ImageToImage(1, "blue")
    with pytest.raises(PreprocessingError, match="the output's mean has neither 1 nor 3 numbers"):
        ImageToImage(1, mean=(0.1, 0.2))


def test_a_file_of_mean_and_std_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(PreprocessingError, match="cannot be read: No such file"):
        read_mean_std_file(tmp_path / "none.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(PreprocessingError, match="cannot be read: Is a directory"):
        read_mean_std_file(tmp_path / "folder.json")
    (tmp_path / "cut.json").write_text('{"mean": [0.5', encoding="utf-8")
    with pytest.raises(PreprocessingError, match=r"^\S+cut\.json: cannot be read: "):
        with_table(Normalization(), "mean_std", tmp_path / "cut.json")


@pytest.mark.parametrize("values", [{}, {"color": "RGB"}, None, [1]])
def test_an_image_output_says_its_range_of_values(values: Any) -> None:
    with pytest.raises(PreprocessingError, match="not an image output of torchlift: "):
        ImageToImage.from_json(values)


def test_pixels_are_rounded_after_resizing_where_that_is_asked() -> None:
    image = np.array([[0, 10]], np.uint8)
    steps = Preprocessing("gray", (1, 4), "image.scale-bilinear", value_range=255)
    np.testing.assert_allclose(steps(image)[0, 0, 0], [0, 10 / 3, 20 / 3, 10], rtol=1e-6)
    assert replace(steps, round_pixels=True)(image)[0, 0, 0].tolist() == [0, 3, 7, 10]
    assert steps.pixels(image)[0, 0, :, 0].tolist() == [0, 3, 7, 10]


def test_an_image_has_a_pixel() -> None:
    for shape in ((0, 4), (4, 0, 3)):
        with pytest.raises(PreprocessingError, match=r"\(H, W\) or \(H, W, 1 or 3\) was expected"):
            Preprocessing()(np.zeros(shape, np.uint8))
