"""Batches for a network: uint8 in memory, augmented and normalized a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.nn import functional

from ...converters.images.preprocessing import Preprocessing
from ..errors import DataError
from .augmentation import Augmentation, draw, mix
from .dataset import Dataset
from .image_changes import erase, seeds_of_images, seeds_of_inputs
from .image_files import ImageFiles
from .pixels import pixel_source
from .plan import BatchPlan
from .selection import class_count


class Batches:
    """Iterates over a dataset in batches of inputs and targets.

    `for inputs, targets in batches.epoch(3)` yields float32 (N, C, H, W) and int64 (N,). With mixup
    or cutmix, targets are float32 (N, classes), which `cross_entropy` takes too; without labels,
    they are -1. The order and all random numbers depend on the plan's seed and the epoch alone.

    Args:
        data: Images, or floats that are already inputs.
        preprocessing: The network's; None for floats that are already inputs.
        plan: Which image is in which batch; its `count` is the length of `data`.
        augmentation: Random changes to training images.
        device: The device of inputs and targets.
        keep: Decode, resize and crop each image once and keep the pixels, if they take no more
            than 2 GB; otherwise workers do it in each epoch.
        workers: The number of processes that decode images.

    Raises:
        DataError: If the plan is for another number of images, images have no preprocessing, or
            they differ in size after it.
        TorchliftError: If an image cannot be read, or does not fit the preprocessing.

    Example:
        >>> import numpy as np
        >>> from torchlift.converters.images import Preprocessing
        >>> from torchlift.transfer.data import BatchPlan, Batches, Dataset
        >>> data = Dataset(np.zeros((5, 3, 8, 8), np.uint8), np.array([0, 1, 0, 1, 0]))
        >>> plan = BatchPlan(len(data), batch_size=2, shuffle_seed=0)
        >>> batches = Batches(data, Preprocessing("RGB", mean=(0.5,), std=(0.25,)), plan)
        >>> [tuple(inputs.shape) for inputs, targets in batches.epoch(1)]
        [(2, 3, 8, 8), (2, 3, 8, 8), (1, 3, 8, 8)]
    """

    def __init__(
        self,
        data: Dataset | ImageFiles,
        preprocessing: Preprocessing | None,
        plan: BatchPlan,
        *,
        augmentation: Augmentation | None = None,
        device: str | torch.device = "cpu",
        keep: bool = True,
        workers: int = 2,
    ) -> None:
        if plan.count != len(data):
            raise DataError(f"a plan for {plan.count} images, but {len(data)} images")
        self.plan = plan
        self.augmentation = augmentation or Augmentation()
        self._device = torch.device(device)
        self._source = pixel_source(
            data, preprocessing, self.augmentation, keep=keep, workers=workers
        )
        classes = np.full(len(data), -1) if data.classes is None else data.classes
        self._classes = torch.from_numpy(classes.astype(np.int64))
        self._class_count = class_count(data) if self.augmentation.mixes else 0
        self._normalize = _Normalization(preprocessing, self._device)

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return self.epoch(0)

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the batches of one epoch, beginning with the batch `start`."""
        order = self.plan.order(number)
        seed = self.plan.shuffle_seed or 0
        random_numbers = draw(seed, number, len(order))
        mixes = self.augmentation.mixes
        positions_of_batches = [
            batch_slice.with_neighbor() if mixes else batch_slice.positions()
            for batch_slice in self.plan.slices(start)
        ]
        seeds = seeds_of_images(seed, number, len(order))
        pixels_of_batches = self._source(
            [order[positions] for positions in positions_of_batches],
            [seeds[positions] for positions in positions_of_batches],
        )
        erasing = self.augmentation.erasing
        seeds = seeds_of_inputs(seed, number, len(order)) if erasing else seeds
        for step, (positions, batch) in enumerate(
            zip(positions_of_batches, pixels_of_batches, strict=True), start
        ):
            pixels = batch.to(self._device, non_blocking=True)
            targets = self._classes[order[positions]].to(self._device, non_blocking=True)
            if len(positions):
                pixels = self.augmentation(pixels, random_numbers[positions], self._normalize.bgr)
            inputs = self._normalize(pixels)
            if erasing:
                inputs = erase(inputs, erasing, seeds[positions])
            if mixes:
                one_hot = functional.one_hot(targets, self._class_count).float()
                random = np.random.default_rng([seed, number, 2, step])
                inputs, targets = mix(inputs, one_hot, self.augmentation, random)
            yield inputs, targets


class _Normalization:
    """Turns pixels into inputs: the last steps of `Preprocessing`, with the same rounding."""

    def __init__(self, preprocessing: Preprocessing | None, device: torch.device) -> None:
        self.bgr = preprocessing is not None and preprocessing.color == "BGR"
        self._range = 1 if preprocessing is None else preprocessing.value_range
        self._limits = (0.0, 1.0) if preprocessing is None else preprocessing.limits
        self._mean = _per_channel(preprocessing.mean if preprocessing else (), device)
        self._std = _per_channel(preprocessing.std if preprocessing else (), device)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        inputs = pixels.float()
        if pixels.dtype != torch.uint8:
            return inputs
        if self._range == 1:
            inputs /= 255
        elif self._range != 255:
            low, high = self._limits
            inputs *= (high - low) / 255
            inputs += low
        if self._mean is not None:
            inputs -= self._mean
        if self._std is not None:
            inputs /= self._std
        return inputs


def _per_channel(values: Sequence[float], device: torch.device) -> torch.Tensor | None:
    return torch.tensor(values, device=device).view(-1, 1, 1) if values else None
