"""Measurements of a dataset: mean and std of channels, weights of classes, a fingerprint."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from ..errors import DataError
from .dataset import Dataset
from .image_files import ImageFiles, readable
from .selection import class_count, labelled

#: Images that are read at a time, which bounds the memory.
_CHUNK = 256


def channel_statistics(
    data: Dataset | ImageFiles, value_range: int = 1
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and standard deviation of each channel over all pixels.

    Measure the training split only. Pixels are counted by value, not summed in floating point, so
    the result is exact to rounding.

    Args:
        data: uint8 images.
        value_range: The value of a white pixel on the scale of the result: 1 or 255.

    Raises:
        DataError: If there are no images, or they are a network's inputs and not pixels.

    Example:
        >>> import numpy as np
        >>> from torchlift.transfer.data import Dataset, channel_statistics
        >>> pixels = np.array([0, 255, 255, 0], np.uint8).reshape(1, 1, 2, 2)
        >>> channel_statistics(Dataset(pixels))
        ((0.5,), (0.5,))
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
    # As an integer, the sum of squares loses no digits when the squared mean is subtracted.
    variance = np.maximum(counts @ values**2 / total - mean**2, 0)
    scale = 255 / value_range
    return tuple((mean / scale).tolist()), tuple((np.sqrt(variance) / scale).tolist())


def _pixels_by_channel(images: object) -> list[np.ndarray]:
    """Return the values of each channel, flat."""
    if isinstance(images, np.ndarray):
        if images.dtype != np.uint8:
            raise DataError(f"{images.dtype} values are already inputs, not pixels to measure")
        return list(images.transpose(1, 0, 2, 3).reshape(images.shape[1], -1))
    assert isinstance(images, list)
    flat = [np.atleast_3d(np.asarray(image)) for image in images]
    return list(np.concatenate([pixels.reshape(-1, pixels.shape[2]) for pixels in flat]).T)


def class_weights(data: Dataset | ImageFiles) -> np.ndarray:
    """Return weights (classes,) float32 that give every class the same influence on a loss.

    N / (classes · images of the class), scikit-learn's `balanced`; 0 for a class without images.

    Raises:
        DataError: If there are no labels.

    Example:
        >>> import numpy as np
        >>> from torchlift.transfer.data import Dataset, class_weights
        >>> pixels = np.zeros((4, 1, 2, 2), np.uint8)
        >>> class_weights(Dataset(pixels, np.array([0, 0, 0, 1]))).tolist()
        [0.6666666865348816, 2.0]
    """
    counts = np.bincount(labelled(data), minlength=class_count(data))
    weights = len(data) / (len(counts) * np.maximum(counts, 1))
    return np.where(counts > 0, weights, 0).astype(np.float32)


def fingerprint(data: Dataset | ImageFiles) -> str:
    """Return the SHA-256 of images (pixels, or the bytes of their files) and labels, in hex.

    It depends on every pixel and label and on their order, not on names or notes.

    Example:
        >>> import numpy as np
        >>> from torchlift.transfer.data import Dataset, fingerprint
        >>> data = Dataset(np.zeros((2, 1, 2, 2), np.uint8), np.array([0, 1]))
        >>> fingerprint(data)[:16]
        '4025730e01cfbb58'
    """
    digest = hashlib.sha256()
    if isinstance(data, Dataset):
        _update(digest, data.images)
    else:
        for file in data.files:
            encoded = file.read_bytes() if isinstance(file, Path) else readable(file)
            assert isinstance(encoded, (bytes, memoryview))
            digest.update(hashlib.sha256(encoded).digest())
    _update(digest, np.zeros(0, np.int64) if data.classes is None else data.classes)
    return digest.hexdigest()


def _update(digest: hashlib._Hash, array: np.ndarray) -> None:
    digest.update(f"{array.dtype.str} {array.shape}".encode())
    for start in range(0, len(array), _CHUNK):
        digest.update(array[start : start + _CHUNK].tobytes())
