"""Random changes of torchvision.transforms.v2, one image at a time.

They draw from torch's global generator. It is seeded anew for each image, by the seed, the epoch
and the position of the image: the result does not depend on the number of processes or workers, or
on where a run was resumed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image

from .augmentation import Augmentation

#: What seeds of the same image are distinguished by: changes of the image, and of the input.
_OF_IMAGES, _OF_INPUTS = 3, 4


class ImageChanges:
    """Crops, rotations and policies for single images.

    Args:
        augmentation: Which.
        size: (height, width) of the result.

    Example:
        >>> from PIL import Image
        >>> changes = ImageChanges(Augmentation(resized_crop=0.5, rotation=10), (8, 8))
        >>> changes(Image.new("L", (20, 16)), seed=1).size
        (8, 8)
    """

    def __init__(self, augmentation: Augmentation, size: tuple[int, int]) -> None:
        from torchvision.transforms import InterpolationMode, v2

        bilinear = InterpolationMode.BILINEAR
        steps: list[torch.nn.Module] = []
        if augmentation.resized_crop is not None:
            scale = (augmentation.resized_crop, 1.0)
            steps.append(v2.RandomResizedCrop(size, scale, interpolation=bilinear))
        if augmentation.rotation:
            steps.append(v2.RandomRotation(augmentation.rotation, interpolation=bilinear))
        if augmentation.auto_augment == "randaugment":
            steps.append(v2.RandAugment(magnitude=augmentation.magnitude, interpolation=bilinear))
        if augmentation.auto_augment == "trivialaugment":
            steps.append(v2.TrivialAugmentWide(interpolation=bilinear))
        #: Whether it needs the whole image, not the part that the network sees.
        self.crops = augmentation.resized_crop is not None
        self._steps = steps

    def __call__(self, image: Image.Image, seed: int) -> Image.Image:
        """Return an image, RGB or gray, changed as its seed says."""
        with _seeded():
            torch.default_generator.manual_seed(seed)
            for step in self._steps:
                image = step(image)
        return image


def erase(inputs: torch.Tensor, probability: float, seeds: np.ndarray) -> torch.Tensor:
    """Set a box of some inputs to 0, the mean (torchvision's RandomErasing).

    Args:
        inputs: (N, C, H, W).
        probability: How likely an image is to get a box.
        seeds: (N,) a seed for each image.
    """
    from torchvision.transforms import v2

    erasing = v2.RandomErasing(probability)
    with _seeded():
        changed = []
        for image, seed in zip(inputs, seeds.tolist(), strict=True):
            torch.default_generator.manual_seed(seed)
            changed.append(erasing(image))
    return torch.stack(changed) if changed else inputs


def seeds_of_images(seed: int, epoch: int, count: int) -> np.ndarray:
    """Return the seeds of an epoch for `ImageChanges`: (count,) int64, by position."""
    return _seeds(seed, epoch, count, _OF_IMAGES)


def seeds_of_inputs(seed: int, epoch: int, count: int) -> np.ndarray:
    """Return the seeds of an epoch for `erase`: (count,) int64, by position."""
    return _seeds(seed, epoch, count, _OF_INPUTS)


def _seeds(seed: int, epoch: int, count: int, kind: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch, kind]).integers(2**63 - 1, size=count)


@contextmanager
def _seeded() -> Iterator[None]:
    """Leave torch's generator as it was: a network's dropout draws from it, too."""
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)
