"""Grids of images with captions, and with the predictions of a classifier beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from ..data import Dataset, ImageFiles
from .figures import STRONG, WEAK, fit_texts, new_page, short, styled

#: Inches: the side of an image, a line of its caption, the gap between images, a bar of 100%.
_SIDE, _LINE, _GAP, _BAR = 1.3, 0.17, 0.25, 0.75
#: Inches: a letter of the names beside the bars, the longest name, the number after a bar.
_LETTER, _MAX_NAME, _NUMBER = 0.075, 1.1, 0.35
#: Inches: the width of a row of images.
_WIDTH = 9.6


@dataclass(frozen=True)
class Sample:
    """One image.

    Attributes:
        image: (H, W) or (H, W, 3) uint8.
        caption: Lines above the image.
        predictions: The most probable classes and their probabilities, in descending order; empty
            without a classifier.
        true_class: The name of the true class, or None.
    """

    image: np.ndarray
    caption: Sequence[str]
    predictions: Sequence[tuple[str, float]] = ()
    true_class: str | None = None


def images_of(data: Dataset | ImageFiles) -> list[np.ndarray]:
    """Return each image as (H, W) or (H, W, 3) uint8; inputs are scaled to the range of pixels."""
    if isinstance(data, ImageFiles):
        return [np.asarray(data[index]) for index in range(len(data))]
    images = data.images
    if images.dtype != np.uint8:
        low, high = float(images.min()), float(images.max())
        images = ((images - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
    if images.shape[1] not in (1, 3):
        images = images[:, :1]
    return [image[0] if len(image) == 1 else image.transpose(1, 2, 0) for image in images]


@styled
def draw_samples(samples: Sequence[Sample]) -> Figure:
    """Draw a grid of images, with bars of the most probable classes beside them.

    The bar of the true class is dark, the others are light.

    Args:
        samples: At least one sample.
    """
    longest = max((len(name) for sample in samples for name, _ in sample.predictions), default=0)
    name_width = min(_MAX_NAME, longest * _LETTER + 0.15)
    bars_width = name_width + _BAR + _NUMBER if longest else 0.0
    caption_height = max(len(sample.caption) for sample in samples) * _LINE + 0.08
    column_width = _SIDE + bars_width + _GAP
    row_height = _SIDE + caption_height + _GAP * 0.6
    columns = min(len(samples), int(_WIDTH / column_width))
    rows = math.ceil(len(samples) / columns)
    figure, page = new_page(columns * column_width + _GAP, rows * row_height + _GAP * 0.6)
    widths: dict[Text, float] = {}
    for index, sample in enumerate(samples):
        left = _GAP + index % columns * column_width
        top = _GAP * 0.6 + index // columns * row_height
        for line, caption in enumerate(sample.caption):
            weight = "normal" if line else "bold"
            text = page.text(left, top + line * _LINE, short(caption, 60), va="top", weight=weight)
            widths[text] = column_width - _GAP
        image_top = top + caption_height
        extent = (left, left + _SIDE, image_top + _SIDE, image_top)
        page.imshow(sample.image, cmap="gray", vmin=0, vmax=255, extent=extent, aspect="auto")
        if sample.predictions:
            names = _draw_predictions(page, sample, left + _SIDE + name_width, image_top)
            widths |= dict.fromkeys(names, name_width - 0.1)
    fit_texts(widths)
    return figure


def _draw_predictions(page: Axes, sample: Sample, left: float, top: float) -> list[Text]:
    """Draw the most probable classes as bars, from the top, and return the texts of their names."""
    step = _SIDE / max(len(sample.predictions), 3)
    centers = [top + (index + 0.5) * step for index in range(len(sample.predictions))]
    colors = [STRONG if name == sample.true_class else WEAK for name, _ in sample.predictions]
    lengths = [probability * _BAR for _, probability in sample.predictions]
    page.barh(centers, lengths, 0.8 * step, left, color=colors)
    page.plot([left, left], [top, top + _SIDE], color="black", linewidth=0.8)
    names = []
    for center, (name, probability) in zip(centers, sample.predictions, strict=True):
        end = left + probability * _BAR + 0.04
        page.text(end, center, f"{probability:.2f}", va="center_baseline", size=7)
        names.append(
            page.text(left - 0.05, center, short(name, 40), ha="right", va="center", size=7.5)
        )
    return names
