"""Decoding images for a graph that resizes and crops them itself."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from ..images.preprocessing import Preprocessing
from .metadata import Metadata


@dataclass(frozen=True)
class ImageDecoding(Preprocessing):
    """Preprocessing that only decodes, and refuses images that the graph behind it cannot take.

    A graph has no words for that: it fails, and with it the images that run beside this one.

    Attributes:
        inside: What the graph does to an image.
    """

    inside: Preprocessing = field(default_factory=Preprocessing, compare=False, repr=False)

    def pixels(self, images: Any) -> np.ndarray:
        """Return the images as they are, uint8 (N, H, W, C).

        Raises:
            PreprocessingError: As `Preprocessing.pixels`, and as `Preprocessing.check_size`.
        """
        found = super().pixels(images)
        self.inside.check_size(found.shape[1], found.shape[2])
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as JSON values, without those of the graph."""
        return {name: value for name, value in super().to_json().items() if name != "inside"}


def preprocessing_outside(metadata: Metadata) -> Preprocessing | None:
    """Return how an image becomes an input of a file's graph."""
    outside, inside = metadata.preprocessing, metadata.baked_preprocessing
    if outside is None or inside is None or not outside.only_decodes:
        return outside
    values = {one.name: getattr(outside, one.name) for one in fields(Preprocessing)}
    return ImageDecoding(**values, inside=inside)
