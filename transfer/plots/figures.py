"""The style of all figures, and writing them to files.

Figures are created without pyplot: no window system, no shared state. Colors are ordered by
lightness, so that figures can be read without color vision and when printed in gray.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from ...converters.files import atomic_path
from ..errors import PlotError

#: The color map of values on both sides of 0: dark blue, gray for 0, yellow.
SIGNED = "cividis"
#: The color map of fractions from 0 to 1: white to dark blue.
FRACTIONS = "Blues"
#: The colors of what a figure is about, and of the rest.
STRONG, WEAK = "#1f4e79", "#a9b8c6"

_DOTS_PER_INCH = 150
#: The metadata that matplotlib would write: with a date and a version, equal figures would have
#: different bytes.
_OMITTED_METADATA = {".png": ("Software",), ".svg": ("Date", "Creator")}
_MARKERS = "osD^vPX*"
_STYLE = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "legend.frameon": False,
    "savefig.facecolor": "white",
    # A class may be named $1: names are no formulas.
    "text.parse_math": False,
    # The names inside an SVG depend on it; by default they are random.
    "svg.hashsalt": "torchlift",
}

_P = ParamSpec("_P")
_R = TypeVar("_R")


def styled(draw: Callable[_P, _R]) -> Callable[_P, _R]:
    """Make a function draw in this style, whatever the settings of matplotlib are."""

    @functools.wraps(draw)
    def in_style(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with style.context(["default", _STYLE]):
            return draw(*args, **kwargs)

    return in_style


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure with constrained layout.

    Args:
        width: Width in inches.
        height: Height in inches.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def new_page(width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty figure, and axes whose coordinates are inches from its left and its top.

    Args:
        width: Width in inches.
        height: Height in inches.
    """
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axes.set_axis_off()
    return figure, axes


def check_figure_name(file: Path) -> None:
    """Check that a figure can be written to a file of this name.

    Raises:
        PlotError: The name does not end in `.png` or `.svg`.
    """
    if file.suffix.lower() not in _OMITTED_METADATA:
        suffixes = " or ".join(_OMITTED_METADATA)
        raise PlotError(f"{file}: the name of a figure ends in {suffixes}")


def save_figure(figure: Figure, file: str | os.PathLike[str]) -> Path:
    """Write a figure as PNG or SVG; equal figures give equal bytes.

    Args:
        figure: A figure that a function of this package drew.
        file: A name in `.png` or `.svg`; an existing file is replaced.

    Raises:
        PlotError: The name does not end in `.png` or `.svg`.
    """
    target = Path(file)
    check_figure_name(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as path:
        write_figure(figure, path, target.suffix.lower())
    return target


@styled
def write_figure(figure: Figure, file: Path | BinaryIO, suffix: str) -> None:
    """Write a figure to a file or a stream of bytes.

    Args:
        figure: A figure that a function of this package drew.
        file: Where to.
        suffix: `.png` or `.svg`.
    """
    metadata = dict.fromkeys(_OMITTED_METADATA[suffix])
    figure.savefig(file, format=suffix[1:], dpi=_DOTS_PER_INCH, metadata=metadata)


def line_colors(count: int) -> list[str]:
    """Return a color for each line, from dark to light."""
    shades = matplotlib.colormaps["viridis"](np.linspace(0.08, 0.78, max(count, 2)))
    return [to_hex(shade) for shade in shades[:count]]


def marker(index: int) -> str:
    """Return the marker of a line, which distinguishes it without color."""
    return _MARKERS[index % len(_MARKERS)]


def short(label: str, length: int = 18) -> str:
    """Return a label on one line; the middle of a long one is replaced by an ellipsis."""
    words = " ".join(label.split())
    if len(words) <= length:
        return words
    end = (length - 1) // 3
    return f"{words[: length - 1 - end]}…{words[len(words) - end :]}"


@styled
def fit_texts(widths: Mapping[Text, float]) -> None:
    """Shorten texts that are wider than the space they have.

    Args:
        widths: The space for each text in inches, in a figure whose layout is final.
    """
    for text, inches in widths.items():
        available = inches * text.figure.dpi
        while (width := text.get_window_extent().width) > available and len(text.get_text()) > 2:
            length = max(2, int(len(text.get_text()) * available / width))
            text.set_text(short(text.get_text().replace("…", ""), length))
