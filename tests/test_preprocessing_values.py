"""Which numbers the bytes of an image become: ranges of values, then mean and std."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from torchlift.converters.images import Preprocessing, PreprocessingError
from torchlift.converters.images.image_to_image import ImageToImage
from torchlift.converters.images.preprocessing import as_value_range

#: Black, a fifth of white, and white.
PIXELS = np.array([[0, 51, 255]], np.uint8)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 0.2, 1]),
        ({"value_range": 255}, [0, 51, 255]),
        ({"value_range": (-1, 1)}, [-1, -0.6, 1]),
        ({"value_range": (2, 12)}, [2, 4, 12]),
        ({"value_range": (0, 10)}, [0, 2, 10]),
        ({"value_range": (0, 1)}, [0, 0.2, 1]),
        # The mean is subtracted from these values, and the rest divided.
        ({"value_range": (-1, 1), "mean": (0.5,), "std": (0.5,)}, [-3, -2.2, 1]),
        ({"mean": (0.2,)}, [-0.2, 0, 0.8]),
        ({"std": (0.1,)}, [0, 2, 10]),
    ],
)
def test_bytes_become_values_of_the_range(options: dict[str, Any], expected: list[float]) -> None:
    found = Preprocessing("gray", **options)(PIXELS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0, 0, 0], expected, atol=1e-6)


def test_each_channel_has_its_own_mean_and_std_in_the_order_of_the_colors() -> None:
    image = np.array([[[10, 20, 30]]], np.uint8)
    steps = {"value_range": 255, "mean": (1.0, 2.0, 3.0), "std": (1.0, 2.0, 4.0)}
    for color, expected in (("RGB", [9, 9, 6.75]), ("BGR", [29, 9, 1.75])):
        assert Preprocessing(color, **steps)(image).ravel().tolist() == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (1, 1),
        (255, 255),
        ([1], 1),
        ((0, 1), 1),
        ((0, 255.0), 255),
        ([-1, 1], (-1.0, 1.0)),
        ((0, 2), (0.0, 2.0)),
        ((1, 255), (1.0, 255.0)),
    ],
)
def test_a_range_of_values_has_one_form(given: Any, expected: Any) -> None:
    found = as_value_range(given)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("range", [(0, 255), (0.0, 255.0), 255, [255]])
def test_a_range_of_outputs_has_the_same_form(range: Any) -> None:
    assert ImageToImage(range) == ImageToImage(255)
    assert ImageToImage([-1, 1]).limits == (-1.0, 1.0)  # type: ignore[arg-type]  # as in JSON
    with pytest.raises(PreprocessingError, match="value_range is "):
        ImageToImage((1, -1))


@pytest.mark.parametrize(
    ("resize", "margins"),
    [
        *(
            (f"image.scale-{mode}", [0, 1, 1, 2, 2, 3])
            for mode in ("bilinear", "bicubic", "simple")
        ),
        *((name, [0, 1, 2, 2, 2, 3]) for name in ("pil-bilinear", "torch-bilinear", "none")),
    ],
)
def test_what_a_crop_leaves_of_an_odd_rest_is_as_in_torch7_or_in_torchvision(
    resize: str, margins: list[int]
) -> None:
    """Rows and columns from 1 to 6 are cut off: half of them first, rounded down or to even."""
    for rest, margin in enumerate(margins, 1):
        image = np.arange((rest + 1) ** 2, dtype=np.uint8).reshape(rest + 1, rest + 1)
        steps = Preprocessing("gray", resize=resize, crop=(1, 1), value_range=255)
        assert steps(image).item() == image[margin, margin]


def test_only_a_height_and_a_width_are_a_crop_once_images_get_another_size() -> None:
    for size, crop in ((64, None), ("^64", None), (None, None), ((9, 8), (9, 8))):
        resized = Preprocessing(size=size).resized_by("image.scale-bilinear:^72")
        assert (resized.size, resized.crop) == ("^72", crop)


@pytest.mark.parametrize("size", [f"*{'9' * 400}", "9" * 5000, "0", "*1/0", "8x"])
def test_a_size_that_no_image_has_is_refused(size: str) -> None:
    with pytest.raises(PreprocessingError):
        Preprocessing(size=size)


def test_a_line_of_pixels_is_an_image_too() -> None:
    for shape in ((1, 5), (5, 1), (1, 1), (1, 5, 1)):
        steps = Preprocessing("gray", (2, 3), value_range=255)
        assert steps(np.full(shape, 7, np.uint8)).tolist() == [[[[7] * 3] * 2]]


@pytest.mark.parametrize("size", ["^9", 9, (9, 8), None])
def test_a_size_of_each_kind_is_read_as_it_was_written(size: Any) -> None:
    steps = Preprocessing(size=size)
    assert Preprocessing.from_json(json.loads(json.dumps(steps.to_json()))) == steps
