"""Writes scikit-learn's digits as raw bytes for digits.lua: `python digits_images.py FILE`.

Each digit of 8×8 is resized to 28×28 by Pillow's bicubic method and stands in 32×32 pixels. The
order is shuffled. FILE holds 1,797×32×32 pixels, then 1,797 labels from 1.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

digits = load_digits()
order = np.random.RandomState(0).permutation(len(digits.target))
pixels = np.zeros((len(order), 32, 32), np.uint8)
for place, index in enumerate(order):
    image = np.minimum(255, np.rint(digits.images[index] * (255 / 16))).astype(np.uint8)
    resized = Image.fromarray(image).resize((28, 28), Image.Resampling.BICUBIC)
    pixels[place, 2:30, 2:30] = np.asarray(resized)
labels = (digits.target[order] + 1).astype(np.uint8)
Path(sys.argv[1]).write_bytes(pixels.tobytes() + labels.tobytes())
