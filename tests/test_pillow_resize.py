"""Resizing through Pillow gives the bytes that Pillow 10 to 12 give, whatever version is installed.

`fixtures/image/pillow_resize.npz` was recorded with Pillow 10.4 and is the same with 12.3
(`tests/oracle/record_pillow_resize.py`). Run with Pillow 13, these tests failed while an image was
resized in one call.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import FIXTURES

from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.images.resize import RESIZERS
from torchlift.transfer.data import ImageFiles

RECORDED = dict(np.load(FIXTURES / "image" / "pillow_resize.npz"))
CASES = sorted({name.split("/")[0] for name in RECORDED})
METHODS = sorted({name.split("/")[1] for name in RECORDED} - {"pixels", "gray", "fit"})


def size_of(case: str) -> tuple[int, int]:
    """The size after resizing: the name of a case is `50x36-32x32`."""
    height, width = case.split("-")[1].split("x")
    return int(height), int(width)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_each_method_gives_the_recorded_bytes(case: str, method: str) -> None:
    resize = RESIZERS[f"pil-{method.lower()}"]
    result = resize(RECORDED[f"{case}/pixels"], size_of(case))
    assert np.array_equal(result, RECORDED[f"{case}/{method}"])


@pytest.mark.parametrize("case", CASES)
def test_preprocessing_gives_the_recorded_bytes(case: str) -> None:
    """What `predict` does: gray images become gray before they are resized."""
    pixels = RECORDED[f"{case}/pixels"]
    color = Preprocessing("RGB", size_of(case), value_range=255)(pixels)
    assert np.array_equal(color[0].transpose(1, 2, 0), RECORDED[f"{case}/BILINEAR"])
    gray = Preprocessing("gray", size_of(case), value_range=255)(pixels)
    assert np.array_equal(gray[0, 0], RECORDED[f"{case}/gray"])


@pytest.mark.parametrize("case", CASES)
def test_a_folder_read_at_one_size_has_the_recorded_bytes(case: str, tmp_path: Path) -> None:
    """`--image-size`: the shorter side is scaled and the center cropped, as by `ImageOps.fit`."""
    file = tmp_path / "1.png"
    Image.fromarray(RECORDED[f"{case}/pixels"]).save(file)
    image = ImageFiles(np.array([file], object)).in_memory(size_of(case)).images[0]
    assert np.array_equal(image.transpose(1, 2, 0), RECORDED[f"{case}/fit"])
