"""How every picture looks, and how it becomes a file.

Figures are made without pyplot: no window system, no state that is shared. The colours are ordered
by their lightness, so that a picture says the same to colour-blind eyes and on grey paper.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from ..errors import PlotError

#: Numbers on both sides of 0: dark blue, grey for 0, yellow.
SIGNED = "cividis"
#: Shares from 0 to 1: white to dark blue.
FRACTIONS = "Blues"
#: What is looked at, and what stands beside it.
STRONG, WEAK = "#1f4e79", "#a9b8c6"

_DOTS_PER_INCH = 150
#: What matplotlib would note in a file: date and version would be all that differs between two.
_UNSAID = {".png": ("Software",), ".svg": ("Date", "Creator")}
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
    # A class may be called $1: names are no formulas.
    "text.parse_math": False,
    # What stands in an SVG for random names.
    "svg.hashsalt": "torchlift",
}

_P = ParamSpec("_P")
_R = TypeVar("_R")


def styled(draw: Callable[_P, _R]) -> Callable[_P, _R]:
    """A function that draws in our style, whatever the machine's own settings are."""

    @functools.wraps(draw)
    def in_style(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with style.context(["default", _STYLE]):
            return draw(*args, **kwargs)

    return in_style


def new_figure(width: float, height: float) -> Figure:
    """An empty figure whose parts make room for each other.

    Args:
        width: in inches.
        height: in inches.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def new_page(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure, and a system of coordinates for it: inches from its left and from its top.

    Args:
        width: in inches.
        height: in inches.
    """
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axes.set_axis_off()
    return figure, axes


def check_image_name(file: Path) -> None:
    """Check that a picture can be written under a name.

    Raises:
        PlotError: when it ends in something else than `.png` or `.svg`.
    """
    if file.suffix.lower() not in _UNSAID:
        raise PlotError(f"{file}: a picture's name ends in {' or '.join(_UNSAID)}")


@styled
def save_figure(figure: Figure, file: str | os.PathLike[str]) -> Path:
    """Write a figure as PNG or SVG; the same figure gives the same bytes.

    Args:
        figure: what a function of this package drew.
        file: ends in `.png` or `.svg`; what is there is replaced.

    Raises:
        PlotError: when its name ends in something else.
    """
    target = Path(file)
    check_image_name(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    metadata = dict.fromkeys(_UNSAID[target.suffix.lower()])
    temporary = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    figure.savefig(temporary, dpi=_DOTS_PER_INCH, metadata=metadata)
    return temporary.replace(target)


def line_colors(count: int) -> list[str]:
    """A colour for each of several lines, from dark to light."""
    shades = matplotlib.colormaps["viridis"](np.linspace(0.08, 0.78, max(count, 2)))
    return [to_hex(shade) for shade in shades[:count]]


def marker(index: int) -> str:
    """The marker of a line, so that it is known without its colour."""
    return _MARKERS[index % len(_MARKERS)]


def short(label: str, length: int = 18) -> str:
    """A label on one line, cut in its middle where it is too long: its end tells it from others."""
    words = " ".join(label.split())
    if len(words) <= length:
        return words
    end = (length - 1) // 3
    return f"{words[: length - 1 - end]}…{words[len(words) - end :]}"


@styled
def fit_texts(rooms: Mapping[Text, float]) -> None:
    """Cut texts that are wider than their place.

    Args:
        rooms: how many inches each has, in a figure whose parts are placed already.
    """
    for text, inches in rooms.items():
        room = inches * text.figure.dpi
        while (wide := text.get_window_extent().width) > room and len(text.get_text()) > 2:
            kept = max(2, int(len(text.get_text()) * room / wide))
            text.set_text(short(text.get_text().replace("…", ""), kept))
