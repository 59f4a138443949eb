"""Pictures of a dataset with what they are, and what a classifier makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from ..data import Dataset, PictureFiles
from .figures import STRONG, WEAK, fit_texts, new_figure, short, styled

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
        shares: the likeliest classes and their probabilities, the first the likeliest; none
            without a classifier.
        right: the right one of them.
    """

    picture: np.ndarray
    caption: Sequence[str]
    shares: Sequence[tuple[str, float]] = ()
    right: str | None = None


def pictures_of(data: Dataset | PictureFiles) -> list[np.ndarray]:
    """Each picture as (H, W) or (H, W, 3) uint8; inputs are stretched to the range of pixels."""
    if isinstance(data, PictureFiles):
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
    longest = max((len(name) for sample in samples for name, _ in sample.shares), default=0)
    names = min(_NAMES, longest * _LETTER + 0.15)
    beside = names + _BARS + _NUMBER if longest else 0.0
    above = max(len(sample.caption) for sample in samples) * _LINE + 0.08
    across, down = _SIDE + beside + _GAP, _SIDE + above + _GAP * 0.6
    columns = min(len(samples), int(_WIDTH / across))
    rows = -(-len(samples) // columns)
    figure = new_figure(columns * across + _GAP, rows * down + _GAP * 0.6)
    figure.set_layout_engine("none")
    width, height = figure.get_size_inches()
    rooms: dict[Text, float] = {}
    for index, sample in enumerate(samples):
        left = _GAP + index % columns * across
        bottom = height - (index // columns + 1) * down
        axes = figure.add_axes((left / width, bottom / height, _SIDE / width, _SIDE / height))
        axes.imshow(sample.picture, cmap="gray", vmin=0, vmax=255)
        axes.set_axis_off()
        for line, caption in enumerate(sample.caption):
            text = figure.text(
                left / width,
                (bottom + _SIDE + above - (line + 1) * _LINE) / height,
                short(caption, 60),
                va="bottom",
                weight="normal" if line else "bold",
                size=8,
            )
            rooms[text] = across - _GAP
        if sample.shares:
            place = (
                (left + _SIDE + names) / width,
                bottom / height,
                _BARS / width,
                _SIDE / height,
            )
            drawn = _draw_shares(figure.add_axes(place), sample)
            rooms |= dict.fromkeys(drawn, names - 0.1)
    fit_texts(figure, rooms)
    return figure


def _draw_shares(axes: Axes, sample: Sample) -> Sequence[Text]:
    """The likeliest classes as bars, from the top; gives their names."""
    names = [name for name, _ in sample.shares]
    shares = [share for _, share in sample.shares]
    places = range(len(shares))
    axes.barh(places, shares, color=[STRONG if name == sample.right else WEAK for name in names])
    axes.set(xlim=(0, 1), ylim=(max(len(shares), 3) - 0.4, -0.6), xticks=[])
    axes.set_yticks(places, [short(name, 40) for name in names], size=7.5)
    axes.tick_params(length=0, pad=3)
    axes.spines["bottom"].set_visible(False)
    for place, share in zip(places, shares, strict=True):
        axes.text(share + 0.03, place, f"{share:.2f}", va="center", size=7)
    return axes.get_yticklabels()
