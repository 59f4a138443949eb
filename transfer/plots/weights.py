"""The weights of a network as tiles: filters of convolutions, units of linear layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..errors import PlotError
from .mosaic import Panel

#: The largest number of tiles in a row or a column of a panel.
_MAX_TILES = 32


def filter_panel(title: str, filters: np.ndarray) -> tuple[Panel, str]:
    """Return the filters of a convolution as tiles, and which of them are left out.

    Filters of three channels are shown in color, with middle gray for 0. For other numbers of
    channels, each filter is a row and each channel a tile.

    Args:
        title: The title of the panel.
        filters: (outputs, inputs, kH, kW).
    """
    outputs, inputs = filters.shape[:2]
    if inputs == 3:
        shown = filters[: _MAX_TILES**2]
        return Panel(title, shown.transpose(0, 2, 3, 1)), _limit(len(shown), outputs, "filters")
    if inputs == 1:
        shown = filters[: _MAX_TILES**2, 0]
        return Panel(title, shown), _limit(len(shown), outputs, "filters")
    shown = filters[:_MAX_TILES, :_MAX_TILES]
    tiles = shown.reshape(-1, *filters.shape[2:])
    limits = [
        _limit(shown.shape[0], outputs, "filters"),
        _limit(shown.shape[1], inputs, "channels"),
    ]
    return Panel(title, tiles, columns=shown.shape[1]), ", ".join(filter(None, limits))


def unit_panel(
    title: str, rows: np.ndarray, shape: tuple[int, int, int], labels: Sequence[str] | None = None
) -> tuple[Panel, str]:
    """Return the weights of each unit of a linear layer as an image, and which are left out.

    Args:
        title: The title of the panel.
        rows: (outputs, inputs).
        shape: (C, H, W) of the images.
        labels: The name of each unit.

    Raises:
        PlotError: The number of inputs does not fit the shape.
    """
    if math.prod(shape) != rows.shape[1]:
        size = "×".join(map(str, shape))
        raise PlotError(
            f"{rows.shape[1]} inputs do not form an image of {size}; give its shape, such as "
            "shape=(1, 28, 28)"
        )
    panel, limit = filter_panel(title, rows.reshape(-1, *shape))
    if labels is None or len(panel.tiles) != len(labels):
        return panel, limit.replace("filters", "units")
    return Panel(title, panel.tiles, labels), limit.replace("filters", "units")


def image_shape(inputs: int, input_shape: tuple[int, int, int] | None) -> tuple[int, int, int]:
    """Return the (C, H, W) of an image with this number of values.

    It is the network's input shape or, if that is not fixed, a square of one or three channels.

    Raises:
        PlotError: Neither fits.
    """
    if input_shape is not None and math.prod(input_shape) == inputs:
        return input_shape
    for channels in (1, 3) if input_shape is None else ():
        side = math.isqrt(inputs // channels)
        if channels * side * side == inputs:
            return channels, side, side
    raise PlotError(
        f"{inputs} inputs are not the network's image; give their shape, such as shape=(16, 5, 5)"
    )


def _limit(shown: int, count: int, name: str) -> str:
    return "" if shown == count else f"the first {shown} of {count} {name}"
