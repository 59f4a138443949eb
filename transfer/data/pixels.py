"""Where batches get their pixels from: kept in memory, or decoded by workers."""

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
from .image_files import MEMORY, ImageFiles

#: Index arrays, one a batch → the pixels of each, uint8 (N, C, H, W), or floats as they are.
PixelSource = Callable[[Sequence[np.ndarray]], Iterator[torch.Tensor]]

#: Images that are decoded together while they are kept.
_CHUNK = 64


def pixel_source(
    data: Dataset | ImageFiles,
    preprocessing: Preprocessing | None,
    *,
    keep: bool = True,
    workers: int = 2,
) -> PixelSource:
    """The pixels of a dataset in the colours and the size that a network takes.

    Args:
        data: images, or inputs that are ready (floats).
        preprocessing: the network's.
        keep: hold all of them in memory, if they take no more than 2 GB.
        workers: processes that decode those that are not kept.

    Raises:
        DataError: when images have no preprocessing, or differ in size after it.
        TorchliftError: when an image cannot be read, or does not fit.
    """
    if isinstance(data, Dataset) and data.images.dtype != np.uint8:
        return _kept(torch.from_numpy(np.ascontiguousarray(data.images, np.float32)))
    if preprocessing is None:
        raise DataError("images need a preprocessing (mean and std) to become inputs")
    if not len(data):
        raise DataError("no images")
    prepared = _Prepared(data, preprocessing)
    shape = prepared.read(0).shape
    if not keep or len(data) * shape.numel() > MEMORY:
        return lambda batches: _decoded(prepared, shape, batches, workers)
    pixels = torch.empty(len(data), *shape, dtype=torch.uint8)
    if isinstance(data, Dataset):
        parts = (preprocessing.pixels(images) for images, _ in data.batches(_CHUNK))
        arrived: Iterator[torch.Tensor] = (torch.from_numpy(part).movedim(3, 1) for part in parts)
    else:
        chunks = np.array_split(np.arange(len(data)), -(-len(data) // _CHUNK))
        # One chunk is not worth the start of workers.
        arrived = _decoded(prepared, shape, chunks, workers if len(chunks) > 1 else 0)
    start = 0
    for part in arrived:
        pixels[start : start + len(part)] = part
        start += len(part)
    return _kept(pixels)


class _Prepared(TorchDataset[torch.Tensor | TorchliftError]):
    """One image at a time in the network's colours and size: uint8 (C, H, W)."""

    def __init__(self, data: Dataset | ImageFiles, preprocessing: Preprocessing) -> None:
        self._data, self._preprocessing = data, preprocessing

    def read(self, index: int) -> torch.Tensor:
        data = self._data
        image = data.images[index : index + 1] if isinstance(data, Dataset) else [data[index]]
        pixels = self._preprocessing.pixels(image)[0]
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))

    def __getitem__(self, index: int) -> torch.Tensor | TorchliftError:
        # An error that a worker raises arrives as the text of a traceback: it is handed over.
        try:
            return self.read(index)
        except TorchliftError as error:
            return error


def _kept(pixels: torch.Tensor) -> PixelSource:
    return lambda batches: (
        pixels.index_select(0, torch.from_numpy(indices)) for indices in batches
    )


def _decoded(
    prepared: _Prepared, shape: torch.Size, batches: Sequence[np.ndarray], workers: int
) -> Iterator[torch.Tensor]:
    loader = DataLoader(
        prepared,
        batch_sampler=[indices.tolist() for indices in batches],
        num_workers=workers,
        collate_fn=partial(_stacked, shape),
    )
    for part in loader:
        if isinstance(part, TorchliftError):
            raise part
        yield part


def _stacked(
    shape: torch.Size, images: list[torch.Tensor | TorchliftError]
) -> torch.Tensor | TorchliftError:
    """Images as one tensor, or what is wrong with the first that has a problem."""
    batch = torch.empty(len(images), *shape, dtype=torch.uint8)
    for target, image in zip(batch, images, strict=True):
        if isinstance(image, TorchliftError):
            return image
        if image.shape != shape:
            sizes = " and ".join(f"{size[1]}×{size[2]}" for size in (shape, image.shape))
            return DataError(f"images of {sizes}: the preprocessing must give them one size")
        target.copy_(image)
    return batch
