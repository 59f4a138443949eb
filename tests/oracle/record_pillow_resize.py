"""Record what Pillow's own resizing gives: `python record_pillow_resize.py OUT.npz`.

`fixtures/image/pillow_resize.npz` was written by Pillow 10.4; 12.3 writes the same arrays.
Version 13 does not, because it begins with the height where that is less work.
"""

from __future__ import annotations

import sys

import numpy as np
import PIL
from PIL import Image, ImageOps

#: Heights and widths, from and to.
SIZES = [(50, 36, 32, 32), (25, 34, 9, 20), (13, 40, 21, 16), (40, 13, 16, 21), (7, 5, 19, 26)]
METHODS = ["NEAREST", "BOX", "BILINEAR", "HAMMING", "BICUBIC", "LANCZOS"]


def main(path: str) -> None:
    """Resize noise, which shows every difference, by each method."""
    if int(PIL.__version__.split(".")[0]) > 12:
        sys.exit("Pillow 12 or older is needed")
    generator, arrays = np.random.default_rng(0), {}
    for height, width, new_height, new_width in SIZES:
        pixels = generator.integers(0, 256, (height, width, 3), np.uint8)
        case = f"{height}x{width}-{new_height}x{new_width}"
        arrays[f"{case}/pixels"] = pixels
        image, size = Image.fromarray(pixels), (new_width, new_height)
        for method in METHODS:
            arrays[f"{case}/{method}"] = np.asarray(image.resize(size, Image.Resampling[method]))
        gray = image.convert("L").resize(size, Image.Resampling.BILINEAR)
        fitted = ImageOps.fit(image, size, Image.Resampling.BILINEAR)
        arrays |= {f"{case}/gray": np.asarray(gray), f"{case}/fit": np.asarray(fitted)}
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
