"""Where batches get their pixels from: memory, or workers that decode files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from ...converters.errors import TorchliftError
from ...converters.images.preprocessing import Preprocessing
from ..errors import DataError
from .dataset import Dataset
from .image_files import MEMORY_LIMIT, ImageFiles

#: Index arrays, one per batch → the pixels of each: uint8 (N, C, H, W), or floats unchanged.
PixelSource = Callable[[Sequence[np.ndarray]], Iterator[torch.Tensor]]

#: Images that are decoded at a time when all are kept.
_CHUNK = 64


def pixel_source(
    data: Dataset | ImageFiles,
    preprocessing: Preprocessing | None,
    *,
    keep: bool = True,
    workers: int = 2,
) -> PixelSource:
    """Return a source of pixels in the colors and the size that a network takes.

    Args:
        data: Images, or floats that are already inputs.
        preprocessing: The network's.
        keep: Hold all pixels in memory, if they take no more than 2 GB.
        workers: The number of processes that decode images.

    Raises:
        DataError: If images have no preprocessing, or differ in size after it.
        TorchliftError: If an image cannot be read, or does not fit the preprocessing.
    """
    if isinstance(data, Dataset) and data.images.dtype != np.uint8:
        return _from_memory(torch.from_numpy(np.ascontiguousarray(data.images, np.float32)))
    if preprocessing is None:
        raise DataError("images need a preprocessing (mean and std) to become inputs")
    if not len(data):
        raise DataError("no images")
    prepared = _PreparedImages(data, preprocessing)
    shape = prepared.read(0).shape
    if not keep or len(data) * shape.numel() > MEMORY_LIMIT:
        return lambda batches: _from_workers(prepared, shape, batches, workers)
    pixels = torch.empty(len(data), *shape, dtype=torch.uint8)
    if isinstance(data, Dataset):
        arrays = (preprocessing.pixels(images) for images, _ in data.batches(_CHUNK))
        chunks: Iterator[torch.Tensor] = (torch.from_numpy(array).movedim(3, 1) for array in arrays)
    else:
        indices = np.array_split(np.arange(len(data)), -(-len(data) // _CHUNK))
        # Workers take longer to start than one chunk takes to decode.
        chunks = _from_workers(prepared, shape, indices, workers if len(indices) > 1 else 0)
    start = 0
    for chunk in chunks:
        pixels[start : start + len(chunk)] = chunk
        start += len(chunk)
    return _from_memory(pixels)


class _PreparedImages(TorchDataset[torch.Tensor | TorchliftError]):
    """One image at a time in the network's colors and size: uint8 (C, H, W)."""

    def __init__(self, data: Dataset | ImageFiles, preprocessing: Preprocessing) -> None:
        self._data, self._preprocessing = data, preprocessing

    def read(self, index: int) -> torch.Tensor:
        data = self._data
        image = data.images[index : index + 1] if isinstance(data, Dataset) else [data[index]]
        pixels = self._preprocessing.pixels(image)[0]
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))

    def __getitem__(self, index: int) -> torch.Tensor | TorchliftError:
        # An error that a worker raises would arrive as the text of a traceback: return it instead.
        try:
            return self.read(index)
        except TorchliftError as error:
            return error


def _from_memory(pixels: torch.Tensor) -> PixelSource:
    return lambda batches: (
        pixels.index_select(0, torch.from_numpy(indices)) for indices in batches
    )


def _from_workers(
    prepared: _PreparedImages, shape: torch.Size, batches: Sequence[np.ndarray], workers: int
) -> Iterator[torch.Tensor]:
    loader = DataLoader(
        prepared,
        batch_sampler=[indices.tolist() for indices in batches],
        num_workers=workers,
        collate_fn=partial(_stack, shape),
    )
    for batch in loader:
        if isinstance(batch, TorchliftError):
            raise batch
        yield batch


def _stack(
    shape: torch.Size, images: list[torch.Tensor | TorchliftError]
) -> torch.Tensor | TorchliftError:
    """Return the images as one tensor, or the first error among them."""
    batch = torch.empty(len(images), *shape, dtype=torch.uint8)
    for target, image in zip(batch, images, strict=True):
        if isinstance(image, TorchliftError):
            return image
        if image.shape != shape:
            sizes = " and ".join(f"{size[1]}×{size[2]}" for size in (shape, image.shape))
            return DataError(f"images of {sizes}: the preprocessing must give them one size")
        target.copy_(image)
    return batch
