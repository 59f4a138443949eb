"""What the layers of a network make of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from matplotlib.figure import Figure

from .activations import Activation
from .mosaic import Panel, draw_panels

#: Maps of a layer that are shown, when there are more.
_MOST = 512


def draw_feature_maps(
    image: np.ndarray, layers: Sequence[Activation], together: bool = True
) -> Figure:
    """A picture and the feature maps of each layer.

    Layers of one shape that follow each other have one scale, as a convolution and the activation
    after it.

    Args:
        picture: (H, W, 1) or (H, W, 3) uint8, as the network sees it.
        layers: what they gave, in order.
        together: whether the maps of such layers have one scale, or each its own.
    """
    seen = np.broadcast_to(image, (*image.shape[:2], 3))[None]
    groups = [[Panel("the picture", seen, scale=(0, 255))]]
    for _, same in groupby(layers, key=lambda layer: layer.values.shape):
        groups.append([Panel(layer.title, _tiles(layer.values)[:_MOST]) for layer in same])
    return draw_panels(groups, together)


def _tiles(values: np.ndarray) -> np.ndarray:
    """(C, H, W) as it is, (H, W) as one tile, (features,) as tiles of one number each."""
    if values.ndim == 3:
        return values
    return values[None] if values.ndim == 2 else values.reshape(-1, 1, 1)
