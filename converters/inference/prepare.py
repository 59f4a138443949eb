"""From images to the inputs of a network."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..images.preprocessing import Preprocessing
from .errors import InferenceError

#: Inputs of a network: (N, …), or a list of such arrays where their sizes differ.
Inputs = np.ndarray | list[np.ndarray]


def prepare_all(images: Any, preprocessing: Preprocessing | None) -> Inputs:
    """Turn images into inputs of a network as `prepare` does, also images that keep their sizes.

    Where these differ, the inputs are a list of arrays (1, C, H, W).

    Args:
        images: As for `prepare`.
        preprocessing: That of the network.

    Raises:
        InferenceError: As `prepare`.
        PreprocessingError: As `prepare`.
    """
    keeps_sizes = preprocessing is not None and preprocessing.only_decodes
    if keeps_sizes and isinstance(images, (list, tuple)) and len(images) > 1:
        inputs = [prepare([image], preprocessing) for image in images]
        same_size = len({array.shape for array in inputs}) == 1
        return np.concatenate(inputs) if same_size else inputs
    return prepare(images, preprocessing)


def prepare(images: Any, preprocessing: Preprocessing | None) -> np.ndarray:
    """Turn images into inputs of a network; arrays that are not uint8 are returned unchanged.

    Args:
        images: PIL images or uint8 pixels (see `Preprocessing`), or an array (N, …) of another
            dtype, which counts as preprocessed.
        preprocessing: That of the network.

    Raises:
        InferenceError: If the network has no preprocessing for its images.
        PreprocessingError: If the images do not fit the preprocessing.

    Example:
        >>> pixels = np.full((1, 1, 2, 2), 255, np.uint8)
        >>> prepare(pixels, Preprocessing("gray", mean=(0.5,), std=(0.5,))).tolist()
        [[[[1.0, 1.0], [1.0, 1.0]]]]
    """
    if isinstance(images, np.ndarray) and images.dtype != np.uint8:
        return images
    if preprocessing is None:
        raise InferenceError(
            "the model has no preprocessing, so it cannot read images: give mean=… and std=…, or "
            "mean_std=FILE, or pass preprocessed inputs (floats)"
        )
    if preprocessing.only_decodes:
        # Bytes stay bytes: an image of 24 million pixels would take 300 MB in float32.
        return preprocessing.pixels(images).transpose(0, 3, 1, 2)
    return preprocessing(images)


def to_input_dtype(inputs: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Convert inputs to the dtype of a graph's input.

    Raises:
        InferenceError: If the graph takes pixels, and the inputs are not whole numbers from 0 to
            255.
    """
    if dtype == np.uint8 and inputs.dtype != np.uint8:
        pixels: np.ndarray = np.clip(inputs, 0, 255).astype(np.uint8)
        if not np.array_equal(pixels, inputs):
            raise InferenceError(
                "the network takes pixels, whole numbers from 0 to 255: its preprocessing is in "
                "the graph"
            )
        return pixels
    return np.ascontiguousarray(inputs, dtype=dtype)
