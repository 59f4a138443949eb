"""Where batches get their pixels from: memory, or workers that decode files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from ...converters.errors import TorchliftError
from ...converters.images.preprocessing import Preprocessing
from ...converters.images.resize import as_image, as_pixels
from ..errors import DataError
from .augmentation import Augmentation
from .dataset import Dataset
from .image_changes import ImageChanges
from .image_files import MEMORY_LIMIT, ImageFiles

#: Index arrays, one per batch, and the seeds of these images → the pixels of each batch: uint8
#: (N, C, H, W), or floats unchanged.
PixelSource = Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], Iterator[torch.Tensor]]

#: Images that are decoded at a time when all are kept.
_CHUNK = 64

#: Bytes of pixels in an epoch up to which images are changed in this process: workers would take
#: longer to start.
_FEW_BYTES = 2**24


def pixel_source(
    data: Dataset | ImageFiles,
    preprocessing: Preprocessing | None,
    augmentation: Augmentation,
    *,
    keep: bool = True,
    workers: int = 2,
) -> PixelSource:
    """Return a source of pixels in the colors and the size that a network takes.

    Args:
        data: Images, or floats that are already inputs.
        preprocessing: The network's.
        augmentation: Which images are changed one at a time.
        keep: Hold all pixels in memory, if they take no more than 2 GB.
        workers: The number of processes that decode images.

    Raises:
        DataError: If images have no preprocessing, or differ in size after it.
        TorchliftError: If an image cannot be read, or does not fit the preprocessing.
    """
    if isinstance(data, Dataset) and data.images.dtype != np.uint8:
        if augmentation.changes_single_images:
            raise DataError("resized_crop, rotation and auto_augment need pixels, not floats")
        return _from_memory(torch.from_numpy(np.ascontiguousarray(data.images, np.float32)))
    if preprocessing is None:
        raise DataError("images need a preprocessing (mean and std) to become inputs")
    if not len(data):
        raise DataError("no images")
    prepared = _PreparedImages(data, preprocessing)
    shape = prepared.read(0).shape
    count = len(data) * shape.numel()
    if not augmentation.changes_single_images:
        if not keep or count > MEMORY_LIMIT:
            return _Loader(prepared, shape, workers)
        return _from_memory(_all_pixels(prepared, shape, workers))
    changes = ImageChanges(augmentation, (shape[1], shape[2]))
    if keep and count <= MEMORY_LIMIT and not changes.crops:
        # As they are before the colors are put into the network's order, which is then done again.
        pixels = _all_pixels(prepared, shape, workers)
        images = (pixels.flip(1) if prepared.bgr else pixels).numpy()
        prepared = _PreparedImages(Dataset(images), replace(preprocessing, size=None, crop=None))
    in_memory = isinstance(prepared.data, Dataset)
    needed = 0 if in_memory and count <= _FEW_BYTES else workers
    return _Loader(_ChangedImages(prepared, changes), shape, needed)


def _all_pixels(prepared: _PreparedImages, shape: torch.Size, workers: int) -> torch.Tensor:
    """Return all images, uint8 (N, C, H, W)."""
    data = prepared.data
    pixels = torch.empty(len(data), *shape, dtype=torch.uint8)
    if isinstance(data, Dataset):
        arrays = (prepared.preprocessing.pixels(images) for images, _ in data.batches(_CHUNK))
        chunks: Iterator[torch.Tensor] = (torch.from_numpy(array).movedim(3, 1) for array in arrays)
    else:
        indices = np.array_split(np.arange(len(data)), -(-len(data) // _CHUNK))
        # Workers take longer to start than one chunk takes to decode.
        workers = workers if len(indices) > 1 else 0
        chunks = _Loader(prepared, shape, workers)(indices, indices)
    start = 0
    for chunk in chunks:
        pixels[start : start + len(chunk)] = chunk
        start += len(chunk)
    return pixels


class _PreparedImages:
    """One image at a time in the network's colors and size."""

    def __init__(self, data: Dataset | ImageFiles, preprocessing: Preprocessing) -> None:
        self.data, self.preprocessing = data, preprocessing
        self.bgr = preprocessing.color == "BGR"

    def read(self, index: int, seed: int = 0) -> torch.Tensor:
        """Return the pixels of an image, uint8 (C, H, W)."""
        data = self.data
        image = data.images[index : index + 1] if isinstance(data, Dataset) else [data[index]]
        pixels = self.preprocessing.pixels(image)[0]
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))

    def seen(self, index: int) -> Image.Image:
        """Return what the network sees of an image, in RGB or gray."""
        pixels = self.read(index).permute(1, 2, 0).numpy()
        return as_image(pixels[..., ::-1] if self.bgr else pixels)

    def whole(self, index: int) -> Image.Image:
        """Return an image in its own size, in RGB or gray as the network takes it."""
        data, mode = self.data, "L" if self.preprocessing.channels == 1 else "RGB"
        if isinstance(data, ImageFiles):
            return data[index].convert(mode)
        return as_image(data.images[index].transpose(1, 2, 0)).convert(mode)


class _ChangedImages:
    """One image at a time, changed at random."""

    def __init__(self, images: _PreparedImages, changes: ImageChanges) -> None:
        self._images, self._changes = images, changes

    def read(self, index: int, seed: int) -> torch.Tensor:
        """Return the pixels of an image, uint8 (C, H, W), changed as its seed says."""
        images = self._images
        image = images.whole(index) if self._changes.crops else images.seen(index)
        changed = as_pixels(self._changes(image, seed))
        changed = changed[..., ::-1] if images.bgr else changed
        return torch.from_numpy(changed.transpose(2, 0, 1).copy())


class _OneByOne(TorchDataset[torch.Tensor | TorchliftError]):
    """What a DataLoader reads from: an image or the error that it gives."""

    def __init__(self, images: _PreparedImages | _ChangedImages) -> None:
        self._images = images

    def __getitem__(self, place: tuple[int, int]) -> torch.Tensor | TorchliftError:
        # An error that a worker raises would arrive as the text of a traceback: return it instead.
        try:
            return self._images.read(*place)
        except TorchliftError as error:
            return error


def _from_memory(pixels: torch.Tensor) -> PixelSource:
    return lambda batches, seeds: (
        pixels.index_select(0, torch.from_numpy(indices)) for indices in batches
    )


class _Loader:
    """Reads images one at a time, by worker processes that stay for the next epoch.

    One epoch has to end, or be given up, before the next one begins.
    """

    def __init__(
        self, images: _PreparedImages | _ChangedImages, shape: torch.Size, workers: int
    ) -> None:
        self._places: list[list[tuple[int, int]]] = []
        self._loader = DataLoader(
            _OneByOne(images),
            batch_sampler=self._places,
            num_workers=workers,
            collate_fn=partial(_stack, shape),
            persistent_workers=workers > 0,
            generator=torch.Generator(),
        )

    def __call__(
        self, batches: Sequence[np.ndarray], seeds: Sequence[np.ndarray]
    ) -> Iterator[torch.Tensor]:
        """Yield the pixels of each batch (see `PixelSource`)."""
        self._places[:] = [
            list(zip(indices.tolist(), own.tolist(), strict=True))
            for indices, own in zip(batches, seeds, strict=True)
        ]
        # A DataLoader without a generator of its own would draw this number, but from workers that
        # stay only once: dropout would differ in a run that is resumed.
        torch.empty((), dtype=torch.int64).random_()
        for batch in self._loader:
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
