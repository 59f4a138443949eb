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
        assert np.array_equal(found, expected), (image.shape, size)


def test_torch_is_not_imported() -> None:
    code = (
        "import sys, numpy as np\n"
        "from torchlift.converters.images.resize import RESIZERS\n"
        "for name in RESIZERS:\n"
        "    if name != 'none': RESIZERS[name](np.zeros((9, 7, 3), np.uint8), (5, 8))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
