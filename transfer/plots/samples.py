"""Pictures of a dataset with what they are, and what a classifier makes of them."""

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

#: Inches of a picture's place, of its caption's lines, between places, of the bars beside it.
_SIDE, _LINE, _GAP, _BARS = 1.3, 0.17, 0.25, 0.75
#: Inches of the bars' names: of a letter, and at most. Of the number behind a bar.
_LETTER, _NAMES, _NUMBER = 0.075, 1.1, 0.35
#: Inches of a whole line of pictures.
_WIDTH = 9.6


@dataclass(frozen=True)
class Sample:
    """One picture.

    Attributes:
        picture: (H, W) or (H, W, 3) uint8.
        caption: lines above it.
        predictions: the likeliest classes and their probabilities, the first the likeliest; none
            without a classifier.
        right: the right one of them.
    """

    image: np.ndarray
    caption: Sequence[str]
    predictions: Sequence[tuple[str, float]] = ()
    right: str | None = None


def images_of(data: Dataset | ImageFiles) -> list[np.ndarray]:
    """Each picture as (H, W) or (H, W, 3) uint8; inputs are stretched to the range of pixels."""
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
    """A grid of pictures; beside each, where there are some, bars of its likeliest classes.

    The right class's bar is dark, the others are light.

    Args:
        samples: at least one.
    """
    longest = max((len(name) for sample in samples for name, _ in sample.predictions), default=0)
    names = min(_NAMES, longest * _LETTER + 0.15)
    beside = names + _BARS + _NUMBER if longest else 0.0
    above = max(len(sample.caption) for sample in samples) * _LINE + 0.08
    across, down = _SIDE + beside + _GAP, _SIDE + above + _GAP * 0.6
    columns = min(len(samples), int(_WIDTH / across))
    rows = math.ceil(len(samples) / columns)
    figure, page = new_page(columns * across + _GAP, rows * down + _GAP * 0.6)
    rooms: dict[Text, float] = {}
    for index, sample in enumerate(samples):
        left = _GAP + index % columns * across
        top = _GAP * 0.6 + index // columns * down
        for line, caption in enumerate(sample.caption):
            weight = "normal" if line else "bold"
            text = page.text(left, top + line * _LINE, short(caption, 60), va="top", weight=weight)
            rooms[text] = across - _GAP
        place = (left, left + _SIDE, top + above + _SIDE, top + above)
        page.imshow(sample.image, cmap="gray", vmin=0, vmax=255, extent=place, aspect="auto")
        if sample.predictions:
            labels = _draw_predictions(page, sample, left + _SIDE + names, top + above)
            rooms |= dict.fromkeys(labels, names - 0.1)
    fit_texts(rooms)
    return figure


def _draw_predictions(page: Axes, sample: Sample, left: float, top: float) -> list[Text]:
    """The likeliest classes as bars, from the top; gives their names."""
    step = _SIDE / max(len(sample.predictions), 3)
    middles = [top + (place + 0.5) * step for place in range(len(sample.predictions))]
    colors = [STRONG if name == sample.right else WEAK for name, _ in sample.predictions]
    lengths = [probability * _BARS for _, probability in sample.predictions]
    page.barh(middles, lengths, 0.8 * step, left, color=colors)
    page.plot([left, left], [top, top + _SIDE], color="black", linewidth=0.8)
    labels = []
    for middle, (name, probability) in zip(middles, sample.predictions, strict=True):
        end = left + probability * _BARS + 0.04
        page.text(end, middle, f"{probability:.2f}", va="center_baseline", size=7)
        labels.append(
            page.text(left - 0.05, middle, short(name, 40), ha="right", va="center", size=7.5)
        )
    return labels
