"""What a network has learnt, as pictures: filters of convolutions, units of linear layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ..errors import PlotError
from .mosaic import Panel, draw_panels

#: Tiles in a row or column of a panel, when there are many.
_MOST = 32


def filter_panel(title: str, filters: np.ndarray) -> tuple[Panel, str]:
    """The filters of a convolution, and what of them is not shown.

    Filters of three channels are read as colours, mid-grey for 0. Of any other number each channel
    is a tile: a row for each filter.

    Args:
        title: stands above them.
        filters: (outputs, inputs, kH, kW).
    """
    outputs, inputs = filters.shape[:2]
    if inputs == 3:
        shown = filters[: _MOST**2]
        return Panel(title, shown.transpose(0, 2, 3, 1)), _left_out(len(shown), outputs, "filters")
    if inputs == 1:
        shown = filters[: _MOST**2, 0]
        return Panel(title, shown), _left_out(len(shown), outputs, "filters")
    shown = filters[:_MOST, :_MOST]
    tiles = shown.reshape(-1, *filters.shape[2:])
    missing = [
        _left_out(shown.shape[0], outputs, "filters"),
        _left_out(shown.shape[1], inputs, "channels"),
    ]
    return Panel(title, tiles, columns=shown.shape[1]), ", ".join(filter(None, missing))


def unit_panel(
    title: str, rows: np.ndarray, shape: tuple[int, int, int], labels: Sequence[str] | None = None
) -> tuple[Panel, str]:
    """The units of a linear layer, each as the picture that excites it most, and what is not shown.

    Args:
        title: stands above them.
        rows: (outputs, inputs).
        shape: (C, H, W) of a picture.
        labels: the name of each unit.

    Raises:
        PlotError: when the inputs are no such picture.
    """
    if math.prod(shape) != rows.shape[1]:
        said = "×".join(map(str, shape))
        raise PlotError(
            f"{rows.shape[1]} inputs are no picture of {said}: name its shape (--shape 1x28x28)"
        )
    filters = rows.reshape(-1, *shape)
    panel, missing = filter_panel(title, filters)
    if labels is None or len(panel.tiles) != len(labels):
        return panel, missing.replace("filters", "units")
    return Panel(title, panel.tiles, labels), missing.replace("filters", "units")


def image_shape(inputs: int, input_shape: tuple[int, int, int] | None) -> tuple[int, int, int]:
    """The (C, H, W) of a picture with so many numbers: the network's own, or else a square.

    Raises:
        PlotError: when there is none.
    """
    if input_shape is not None and math.prod(input_shape) == inputs:
        return input_shape
    for channels in (1, 3) if input_shape is None else ():
        side = math.isqrt(inputs // channels)
        if channels * side * side == inputs:
            return channels, side, side
    raise PlotError(
        f"{inputs} inputs are not the network's picture: name their shape (--shape 16x5x5)"
    )


def draw_weights(panels: Sequence[Panel], together: bool = True) -> Figure:
    """Weights of one or more networks, on one scale; few to a row.

    Args:
        panels: those of each network.
        together: whether all have one scale, or each tile its own.
    """
    return draw_panels([panels], together)


def _left_out(shown: int, count: int, what: str) -> str:
    return "" if shown == count else f"the first {shown} of {count} {what}"
