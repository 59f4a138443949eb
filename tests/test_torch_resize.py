"""Resizing as torch does it, without torch.

What is protected: the names `torch-…` are contracts. A server that has no torch gives the network
the bytes that it was trained with.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional

from torchlift.converters.images.resize import RESIZERS

#: torch 2.9 adds the terms of a bicubic value in another order than 2.14, with which the names were
#: defined: a value in some ten thousand is rounded the other way.
_EARLIER_SUMS = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 14)

_METHODS = [name for name in RESIZERS if name.startswith("torch-")]


def by_torch(image: np.ndarray, size: tuple[int, int], method: str) -> np.ndarray:
    mode = method.removeprefix("torch-").removesuffix("-antialias")
    pixels = torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32))
    corners = None if mode.startswith("nearest") else False
    # With several threads torch sums in another order: some values of a hundred thousand differ.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        result = functional.interpolate(
            pixels, size=size, mode=mode, align_corners=corners, antialias="antialias" in method
        )
    finally:
        torch.set_num_threads(threads)
    return result[0].clamp(0, 255).round().byte().numpy().transpose(1, 2, 0)


@pytest.mark.parametrize("method", _METHODS)
def test_the_bytes_are_torchs(method: str) -> None:
    rng = np.random.default_rng(0)
    for largest in [60] * 30 + [250] * 10:
        # Torch has no rule for a width or height of one with `antialias`: it reads wrong strides.
        height, width, *size = (int(number) for number in rng.integers(2, largest, 4))
        image = rng.integers(0, 256, (height, width, rng.choice([1, 3])), np.uint8)
        found = RESIZERS[method](image, (size[0], size[1]))
        expected = by_torch(image, (size[0], size[1]), method)
        assert found.dtype == np.uint8
        if method == "torch-bicubic" and _EARLIER_SUMS:
            differences = np.abs(found.astype(int) - expected)
            assert differences.max() <= 1, (image.shape, size)
            assert np.count_nonzero(differences) <= 1 + found.size / 10_000, (image.shape, size)
            continue
        assert np.array_equal(found, expected), (image.shape, size)


@pytest.mark.parametrize(("old", "new"), [((210, 250), (238, 300)), ((378, 147), (277, 258))])
def test_large_gray_images_have_a_loop_of_their_own(
    old: tuple[int, int], new: tuple[int, int]
) -> None:
    """Torch sums them in another order than colors, which some bytes tell."""
    image = np.random.default_rng(0).integers(0, 256, (*old, 1), np.uint8)
    resize = RESIZERS["torch-bilinear"]
    found, color = resize(image, new), resize(image.repeat(3, axis=2), new)
    assert np.array_equal(found, by_torch(image, new, "torch-bilinear"))
    assert np.array_equal(color, by_torch(image.repeat(3, axis=2), new, "torch-bilinear"))
    assert 0 < np.count_nonzero(found != color[..., :1]) < 100


@pytest.mark.parametrize(
    ("old", "new", "is_large"), [((264, 228), (56, 72), False), ((61, 36), (33, 96), True)]
)
def test_a_gray_result_is_large_if_its_sides_add_up_to_more_than_128(
    old: tuple[int, int], new: tuple[int, int], is_large: bool
) -> None:
    """A byte of each differs between the two loops, and is torch's."""
    image = np.random.default_rng(0).integers(0, 256, (*old, 1), np.uint8)
    resize = RESIZERS["torch-bilinear"]
    found, color = resize(image, new), resize(image.repeat(3, axis=2), new)
    assert np.array_equal(found, by_torch(image, new, "torch-bilinear"))
    assert bool((found != color[..., :1]).any()) is is_large


def test_torch_is_not_imported() -> None:
    code = (
        "import sys, numpy as np\n"
        "from torchlift.converters.images.resize import RESIZERS\n"
        "for name in RESIZERS:\n"
        "    if name != 'none': RESIZERS[name](np.zeros((9, 7, 3), np.uint8), (5, 8))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
