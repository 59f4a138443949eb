"""`image.scale` and center crops return what Torch7's package `image` returned.

References: Torch7's own results (`fixtures/image`), and its `generic/image.c` transcribed pixel by
pixel into Python, for sizes and dtypes that the fixtures do not contain.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import FIXTURES

from torchlift.converters import t7
from torchlift.converters.images.errors import PreprocessingError
from torchlift.converters.images.image_scale import MODES, output_size, scale, scale_pixels
from torchlift.converters.images.preprocessing import Preprocessing

SCALED = t7.load(FIXTURES / "image" / "image_scale.t7")
CASES = SCALED["cases"].to_list()
CROPS = t7.load(FIXTURES / "image" / "image_crop_flip.t7")

#: Both sides compute in single precision, on values up to 1.
TOLERANCE = 1e-6


def name_of(case: Any) -> str:
    size = case.get("size", f"{case.get('width')}x{case.get('height')}")
    return f"{case['mode']}-{size}{'-gray' if case.get('gray') else ''}"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_scale_equals_torch7(case: Any) -> None:
    image = SCALED["input"]
    # The fixture's gray image is the first channel alone.
    image = image[0] if case.get("gray") else image
    size = case.get("size") or (case["height"], case["width"])
    result = scale(image, size, case["mode"])
    assert result.shape == case["output"].shape
    assert result.dtype == np.float32
    assert np.abs(result - case["output"]).max() < TOLERANCE


def line_in_c(source: np.ndarray, count: int, mode: str) -> list[np.float32]:
    """Resample a line as `scaleLinear_rowcol` and `scaleCubic_rowcol` do, step by step."""
    f32, n = np.float32, len(source)
    if count == n:
        return list(source)
    if mode == "bilinear" and count < n:
        step, result, start, start_fraction = f32(n) / f32(count), [], 0, f32(0)
        for index in range(count):
            end_fraction = f32(index + 1) * step
            end = int(end_fraction)
            end_fraction -= f32(end)
            total = (f32(1) - start_fraction) * source[start]
            weight = f32(1) - start_fraction
            for between in range(start + 1, end):
                total += source[between]
                weight += f32(1)
            if end < n:
                total += end_fraction * source[end]
                weight += end_fraction
            result.append(total / weight)
            start, start_fraction = end, end_fraction
        return result
    step = f32(n - 1) / f32(max(count - 1, 1))
    result = []
    for index in range(count - 1):
        x = f32(index) * step
        left = int(x)
        x -= f32(left)
        p1, p2 = (f32(source[min(left + k, n - 1)]) for k in (0, 1))
        if mode == "bilinear":
            result.append((f32(1) - x) * p1 + x * p2)
            continue
        p0 = f32(source[left - 1]) if left > 0 else 2 * p1 - p2
        p3 = f32(source[left + 2]) if left + 2 < n else 2 * p2 - p1
        a1, a2, a3 = p2 - p0, 2 * p0 - 5 * p1 + 4 * p2 - p3, 3 * (p1 - p2) + p3 - p0
        result.append(p1 + f32(0.5) * x * (a1 + x * (a2 + x * a3)))
    return [*result, source[-1]]


def scale_in_c(image: np.ndarray, height: int, width: int, mode: str) -> np.ndarray:
    """Resample the rows, then the columns; a ByteTensor is rounded after each."""

    def as_tensor(lines: Any) -> np.ndarray:
        values = np.array(lines, np.float32)
        if image.dtype != np.uint8:
            return values
        return (values + np.float32(0.5)).clip(0, 255).astype(np.uint8)

    rows = as_tensor([line_in_c(row, width, mode) for row in image])
    return as_tensor([line_in_c(column, height, mode) for column in rows.T]).T


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize("size", [(7, 5), (1, 3), (40, 9), (13, 29), (12, 17), (11, 2), (2, 33)])
def test_scale_equals_the_c_code(size: tuple[int, int], dtype: Any, mode: str) -> None:
    image = np.random.default_rng(1).integers(0, 256, (12, 17)).astype(dtype)
    result = scale(image, size, mode)
    expected = scale_in_c(image, *size, mode)
    assert result.dtype == dtype
    if dtype == np.uint8:
        # Another order of summation may round a half the other way.
        assert (result != expected).mean() < 0.01
        assert np.abs(result.astype(int) - expected).max() <= 1
    else:
        assert np.abs(result - expected).max() < 255 * TOLERANCE


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("old", "new"), [(1255, 1252), (1252, 1255), (1999, 2003)])
def test_positions_of_long_lines_are_in_single_precision(old: int, new: int, mode: str) -> None:
    """In double precision a weight is another one by 1e-4, which short lines do not show."""
    line = np.random.default_rng(0).random(old, np.float32)
    found = scale(line[None], (1, new), mode)[0]
    assert np.abs(found - line_in_c(line, new, mode)).max() < TOLERANCE


def test_one_pixel_becomes_a_constant_image() -> None:
    one = np.full((3, 1, 1), 0.25, np.float32)
    for mode in MODES:
        assert (scale(one, (4, 6), mode) == np.full((3, 4, 6), 0.25)).all()


def test_float64_stays_float64_and_arrays_need_not_be_contiguous() -> None:
    image = np.asarray(SCALED["input"])
    for mode in MODES:
        expected = scale(image, (31, 44), mode)
        transposed = np.asfortranarray(image)
        assert np.abs(scale(transposed, (31, 44), mode) - expected).max() < TOLERANCE
        double = scale(image.astype(np.float64), (31, 44), mode)
        assert double.dtype == np.float64
        assert np.abs(double - expected).max() < TOLERANCE


@pytest.mark.parametrize(
    ("form", "size"),
    [
        # height = 333 × 256 / 500 = 170.496, which Lua truncates when it creates the tensor.
        ("256", (170, 256)),
        (256, (170, 256)),
        ("^256", (256, 384)),
        ("320x240", (240, 320)),
        ("*1/2", (166, 250)),
        ("*0.3", (99, 150)),
        ("*.5", (166, 250)),
        ("*2", (666, 1000)),
        (100.0, (66, 100)),
    ],
)
def test_forms_of_a_size(form: Any, size: tuple[int, int]) -> None:
    assert output_size(form, 333, 500) == size


@pytest.mark.parametrize("wanted", [1, 7, 224, 256])
def test_a_side_becomes_exactly_as_long_as_is_asked_for(wanted: int) -> None:
    """Lua multiplies before it divides: 49 times 1/49 is below 1 in floating point."""
    for side in range(1, 600):
        assert output_size(wanted, side, side) == (wanted, wanted)
        assert output_size(f"*{wanted}/{side}", side, side) == (wanted, wanted)


def test_an_image_keeps_a_pixel_along_both_sides() -> None:
    for size in ((1, 500), (500, 1)):
        with pytest.raises(PreprocessingError, match="has no pixels"):
            output_size("*1/2", *size)
    assert output_size("*1/2", 2, 500) == (1, 250)


@pytest.mark.parametrize("form", ["", "x", "10x", "^", "*", "*1/0", "-3", "2 5", "*0", "0", "big"])
def test_invalid_sizes_are_refused(form: str) -> None:
    with pytest.raises(PreprocessingError):
        output_size(form, 60, 90)


def test_invalid_arguments_of_scale_are_refused() -> None:
    image = np.zeros((3, 4, 4), np.float32)
    with pytest.raises(PreprocessingError, match="no mode 'lanczos'"):
        scale(image, (2, 2), "lanczos")
    with pytest.raises(PreprocessingError, match="no mode 'lanczos'"):
        scale_pixels(image, (2, 2), "lanczos")
    for dtype in (np.int64, np.float16):
        with pytest.raises(PreprocessingError, match=f"not {np.dtype(dtype)}"):
            scale(image.astype(dtype), (2, 2))
    with pytest.raises(PreprocessingError, match="0×2"):
        scale(image, (0, 2))
    with pytest.raises(PreprocessingError, match=r"\(C, H, W\)"):
        scale(image[None], (2, 2))
    with pytest.raises(PreprocessingError, match=r"\(C, H, W\)"):
        scale(image[:, :0], (2, 2))


def test_a_center_crop_equals_torch7() -> None:
    """`image.crop(src, "c", width, height)`."""
    pixels = np.rint(CROPS["input"] * 255).astype(np.uint8)
    expected = CROPS["center"]
    output = Preprocessing(crop=expected.shape[1:])(pixels[None])[0]
    assert output.shape == expected.shape
    assert np.abs(output - expected).max() < TOLERANCE
    # Odd margins: floor((4 - 1) / 2) = 1 row and floor((5 - 2) / 2) = 1 column are left out first.
    counted = np.arange(20, dtype=np.uint8).reshape(4, 5)
    cropped = Preprocessing("gray", None, "image.scale-bilinear", (1, 2), 255)(counted)
    assert cropped[0, 0].tolist() == [[6, 7]]
    # A crop as large as the image keeps all of it.
    whole = Preprocessing("gray", crop=(4, 5), value_range=255)(counted)
    assert np.array_equal(whole[0, 0], counted)


@pytest.mark.parametrize("case", CASES[:6], ids=name_of)
def test_preprocessing_resizes_as_torch7_does(case: Any) -> None:
    """Image files hold integer pixel values, as did the file that Torch7 read for the fixture."""
    pixels = np.rint(SCALED["input"] * 255).astype(np.uint8)
    image = Image.fromarray(pixels.transpose(1, 2, 0))
    prepare = Preprocessing(
        size=(case["height"], case["width"]), resize=f"image.scale-{case['mode']}"
    )
    assert np.abs(prepare(image)[0] - case["output"]).max() < TOLERANCE
    # `pixels`, which training uses, rounds them to uint8.
    rounded = prepare.pixels(image)
    assert rounded.dtype == np.uint8
    exact = np.clip(case["output"] * 255, 0, 255).transpose(1, 2, 0)
    assert np.abs(rounded[0] - exact).max() < 0.5 + 255 * TOLERANCE


@pytest.mark.parametrize("case", CASES[27:31], ids=name_of)
def test_preprocessing_takes_torch7s_forms_of_a_size(case: Any) -> None:
    pixels = np.rint(SCALED["input"] * 255).astype(np.uint8)
    prepare = Preprocessing(size=case["size"], resize="image.scale-bilinear")
    assert np.abs(prepare(pixels[None])[0] - case["output"]).max() < TOLERANCE
    assert Preprocessing.from_json(prepare.to_json()) == prepare


def test_values_beyond_white_and_black_are_cut_when_they_are_rounded() -> None:
    """`bicubic` overshoots at edges; as bytes, a white of 256 would become black."""
    edge = np.zeros((1, 1, 6, 6), np.uint8)
    edge[..., 3:] = 255
    prepare = Preprocessing("gray", (6, 12), "image.scale-bicubic", value_range=255)
    floats = prepare(edge)
    assert floats.min() < -1
    assert floats.max() > 256
    expected = np.rint(np.minimum(np.maximum(floats, 0), 255))
    assert np.array_equal(prepare.pixels(edge).transpose(0, 3, 1, 2), expected)
    assert np.array_equal(replace(prepare, round_pixels=True)(edge), expected)
