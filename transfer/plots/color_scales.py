"""Values as colors, on a scale that figures can be compared by."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.colors import Colormap

from .figures import SIGNED

#: The fraction of the values that a color scale covers.
_COVERED = 0.995


def scale_of(arrays: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the values of the first and the last color for some arrays together.

    A scale starts at 0 if no value is negative; otherwise it is symmetric about 0. The largest
    half percent of the values have the last color, so that a few do not make all others gray.
    """
    values = np.concatenate([array[np.isfinite(array)].ravel() for array in arrays])
    if not values.any():
        return 0.0, 1.0
    sizes = np.abs(values)
    limit = float(np.quantile(sizes, _COVERED, method="higher") or sizes.max())
    return (-limit if values.min() < 0 else 0.0), limit


def colored(tile: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """Return values as colors (H, W, 3) from 0 to 1; NaN and infinity are white."""
    low, high = scale
    fractions = (tile.astype(np.float64) - low) / (high - low)
    if tile.ndim == 2:
        colors: np.ndarray = color_map(tile.ndim, scale)(np.ma.masked_invalid(fractions))
        return colors[..., :3]
    return np.clip(np.where(np.isfinite(fractions), fractions, 1.0), 0, 1)


def color_map(axes: int, scale: tuple[float, float]) -> Colormap:
    """Return the color map of (H, W) values; for the channels of (H, W, 3) it is always gray."""
    name = SIGNED if scale[0] < 0 and axes == 2 else "gray"
    return matplotlib.colormaps[name].with_extremes(bad="white")
