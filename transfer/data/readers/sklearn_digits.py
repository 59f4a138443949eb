"""scikit-learn's handwritten digits, which come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ....converters.images.pillow_resize import resize_image
from ..dataset import Dataset
from .registry import ReadOptions, reader

#: The unambiguous name; the short one is a file or folder where one of that name exists.
_NAME, _SHORT_NAME = "sklearn:digits", "digits"


def _accepts(source: str) -> bool:
    return source == _NAME or (source == _SHORT_NAME and not Path(source).exists())


@reader("sklearn:digits", accepts=_accepts, order=10)
def read_digits(source: str, options: ReadOptions) -> Dataset:
    """Return scikit-learn's 1,797 handwritten digits in LeNet-5's size: uint8 (1797, 1, 32, 32).

    8×8 pixels from 0 to 16 become 28×28 from 0 to 255 (bicubic), with a black border of 2 pixels
    as in LeNet-5's version of MNIST. `fixtures/digits` holds the same images.
    """
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    small = np.rint(bunch.images * 255 / 16).astype(np.uint8)
    scaled = [
        resize_image(Image.fromarray(digit), (28, 28), Image.Resampling.BICUBIC) for digit in small
    ]
    images = np.pad(np.stack([np.asarray(digit) for digit in scaled]), ((0, 0), (2, 2), (2, 2)))
    return Dataset(
        images[:, None],
        bunch.target.astype(np.int64),
        tuple(map(str, range(10))),
        ("scikit-learn's digits: 8×8 scaled to 28×28, in a border of 2",),
    )
