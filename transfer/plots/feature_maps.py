"""The feature maps of a network's layers for one image."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from matplotlib.figure import Figure

from .activations import Activation
from .mosaic import Panel, draw_panels

#: The largest number of maps of a layer that are shown.
_MAX_MAPS = 512


def draw_feature_maps(
    image: np.ndarray, layers: Sequence[Activation], shared_scale: bool = True
) -> Figure:
    """Draw an image and the feature maps of each layer.

    Consecutive layers of one shape, such as a convolution and its activation, have one scale.

    Args:
        image: (H, W, 1) or (H, W, 3) uint8, as the network sees it.
        layers: The outputs of the layers, in order.
        shared_scale: Whether the maps of such layers have one scale, or each map its own.
    """
    pixels = np.broadcast_to(image, (*image.shape[:2], 3))[None]
    groups = [[Panel("the image", pixels, scale=(0, 255))]]
    for _, group in groupby(layers, key=lambda layer: layer.values.shape):
        groups.append([Panel(layer.title, _tiles(layer.values)[:_MAX_MAPS]) for layer in group])
    return draw_panels(groups, shared_scale)


def _tiles(values: np.ndarray) -> np.ndarray:
    """Return (C, H, W) as it is, (H, W) as one tile, (features,) as tiles of 1×1."""
    if values.ndim == 3:
        return values
    return values[None] if values.ndim == 2 else values.reshape(-1, 1, 1)
