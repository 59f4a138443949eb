"""Batches for a network: uint8 in memory, augmented and normalised a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.nn import functional

from ...converters.images.preprocessing import Preprocessing
from .augmentation import Augmentation, draw, mixed
from .dataset import Dataset
from .image_files import ImageFiles
from .pixels import pixel_source
from .plan import BatchPlan, Sampling
from .selection import class_count


class Batches:
    """Iterates over a dataset in batches that a network takes.

    `for inputs, targets in batches.epoch(3)` gives float32 (N, C, H, W) and int64 (N,); with mixup
    or cutmix the targets are slices (N, classes) float32, which `cross_entropy` takes as well;
    without labels they are -1. The order and everything random depend on the seed and the epoch
    alone.

    Args:
        data: images, or inputs that are ready (floats).
        preprocessing: the network's; None for inputs that are ready.
        batch_size: of all processes together.
        augmentation: what is done to training images.
        shuffle_seed: of order and augmentation; None keeps the order (and augments by 0).
        sampling: how an epoch's images are drawn by it (see `Sampling`).
        device: where the batches are wanted.
        drop_last: leave out a last batch that is smaller.
        rank: of this process: it gets its batch_slice of each batch. A batch_slice may be empty if a batch
            has fewer images than there are processes.
        world_size: the number of processes.
        keep: decode, resize and crop once and keep the pixels, if they take no more than 2 GB;
            otherwise workers do it each time.
        workers: processes that decode.

    Raises:
        DataError: when images have no preprocessing, or differ in size after it.
        TorchliftError: when an image cannot be read, or does not fit the preprocessing.
    """

    def __init__(
        self,
        data: Dataset | ImageFiles,
        preprocessing: Preprocessing | None,
        batch_size: int,
        *,
        augmentation: Augmentation | None = None,
        shuffle_seed: int | None = None,
        sampling: Sampling = "shuffle",
        device: str | torch.device = "cpu",
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        keep: bool = True,
        workers: int = 2,
    ) -> None:
        self.plan = BatchPlan(
            len(data), batch_size, shuffle_seed, drop_last, rank, world_size, sampling
        )
        self.augmentation = augmentation or Augmentation()
        self._device = torch.device(device)
        self._source = pixel_source(data, preprocessing, keep=keep, workers=workers)
        classes = np.full(len(data), -1) if data.classes is None else data.classes
        self._classes = torch.from_numpy(classes.astype(np.int64))
        self._class_count = class_count(data) if self.augmentation.mixes else 0
        self._normalize = _Normalization(preprocessing, self._device)

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return self.epoch(0)

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The batches of one epoch, from the batch `start` on."""
        order = self.plan.order(number)
        seed = self.plan.shuffle_seed or 0
        random_numbers = draw(seed, number, len(order))
        slices = list(self.plan.slices(start))
        mixes = self.augmentation.mixes
        wanted = [
            batch_slice.with_neighbour() if mixes else batch_slice.positions()
            for batch_slice in slices
        ]
        pixels = self._source([order[positions] for positions in wanted])
        for step, (positions, part) in enumerate(zip(wanted, pixels, strict=True), start):
            part = part.to(self._device, non_blocking=True)
            targets = self._classes[order[positions]].to(self._device, non_blocking=True)
            if len(positions):
                part = self.augmentation(part, random_numbers[positions], self._normalize.bgr)
            inputs = self._normalize(part)
            if mixes:
                one_hot = functional.one_hot(targets, self._class_count).float()
                random = np.random.default_rng([seed, number, 2, step])
                inputs, targets = mixed(inputs, one_hot, self.augmentation, random)
            yield inputs, targets


class _Normalization:
    """Pixels as inputs: the last steps of `Preprocessing`, with the same rounding."""

    def __init__(self, preprocessing: Preprocessing | None, device: torch.device) -> None:
        self.bgr = preprocessing is not None and preprocessing.color == "BGR"
        self._range = 1 if preprocessing is None else preprocessing.value_range
        self._mean = _channels(preprocessing.mean if preprocessing else (), device)
        self._std = _channels(preprocessing.std if preprocessing else (), device)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        if pixels.dtype != torch.uint8:
            return pixels.float()
        inputs = pixels.float()
        if self._range == 1:
            inputs /= 255
        if self._mean is not None:
            inputs -= self._mean
        if self._std is not None:
            inputs /= self._std
        return inputs


def _channels(values: Sequence[float], device: torch.device) -> torch.Tensor | None:
    return torch.tensor(values, device=device).view(-1, 1, 1) if values else None
