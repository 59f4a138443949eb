"""What is measured on a dataset: mean and std of channels, weights of classes, a fingerprint."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from ..errors import DataError
from .dataset import Dataset
from .image_files import ImageFiles
from .selection import class_count, labelled

#: Images that are looked at together; bounds the memory.
_CHUNK = 256


def channel_statistics(
    data: Dataset | ImageFiles, value_range: int = 1
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over all pixels; measure the training part.

    Pixels are counted, not summed in floating point: the result is exact to rounding.

    Args:
        data: uint8 images.
        value_range: what a white pixel is on the scale of the result: 1 or 255.

    Raises:
        DataError: when there are no pixels, but inputs that are ready.
    """
    counts = np.zeros((0, 256), np.int64)
    for images, _ in data.batches(_CHUNK):
        channels = _pixels_by_channel(images)
        if not len(counts):
            counts = np.zeros((len(channels), 256), np.int64)
        counts += np.stack([np.bincount(channel, minlength=256) for channel in channels])
    if not len(counts):
        raise DataError("no images to measure")
    values = np.arange(256)
    total = counts.sum(axis=1)
    mean = counts @ values / total
    # The sum of squares as a whole number loses nothing when the mean's is taken away.
    variance = np.maximum(counts @ values**2 / total - mean**2, 0)
    scale = 255 / value_range
    return tuple((mean / scale).tolist()), tuple((np.sqrt(variance) / scale).tolist())


def _pixels_by_channel(images: object) -> list[np.ndarray]:
    """The values of each channel, one after another."""
    if isinstance(images, np.ndarray):
        if images.dtype != np.uint8:
            raise DataError(f"{images.dtype} values are inputs already, not pixels to measure")
        return list(images.transpose(1, 0, 2, 3).reshape(images.shape[1], -1))
    assert isinstance(images, list)
    flat = [np.atleast_3d(np.asarray(image)) for image in images]
    return list(np.concatenate([pixels.reshape(-1, pixels.shape[2]) for pixels in flat]).T)


def class_weights(data: Dataset | ImageFiles) -> np.ndarray:
    """Weights (classes,) float32 that make every class count alike in a loss.

    N / (classes · images of the class), scikit-learn's `balanced`; 0 for a class without
    images.

    Raises:
        DataError: when there are no labels.
    """
    counts = np.bincount(labelled(data), minlength=class_count(data))
    weights = len(data) / (len(counts) * np.maximum(counts, 1))
    return np.where(counts > 0, weights, 0).astype(np.float32)


def fingerprint(data: Dataset | ImageFiles) -> str:
    """The SHA-256 of images (pixels, or the bytes of their files) and labels, in hexadecimal.

    It changes with any pixel, label, or the order of the images, not with their names or notes.
    """
    digest = hashlib.sha256()
    if isinstance(data, Dataset):
        _add(digest, data.images)
    else:
        for file in data.files:
            digest.update(hashlib.sha256(Path(file).read_bytes()).digest())
    _add(digest, np.zeros(0, np.int64) if data.classes is None else data.classes)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, array: np.ndarray) -> None:
    digest.update(f"{array.dtype.str} {array.shape}".encode())
    for start in range(0, len(array), _CHUNK):
        digest.update(array[start : start + _CHUNK].tobytes())
