"""What augmentation makes of images: each one beside some of its changed versions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ...converters.images.resize import as_image, as_pixels
from ..data.augmentation import Augmentation, draw
from ..data.image_changes import ImageChanges, erase, seeds_of_images, seeds_of_inputs
from .samples import Sample

#: Changed versions of an image: with itself, they fill a row of the sheet.
VERSIONS = 5


def with_augmented(
    samples: Sequence[Sample], augmentation: Augmentation, seed: int
) -> list[Sample]:
    """Return each sample, and behind it what the first epochs of a training might make of it.

    Args:
        samples: Images of any sizes.
        augmentation: How they are changed; nothing is mixed.
        seed: Seed of the changes.

    Raises:
        DataError: If the changes do not fit the images.
    """
    versions = [
        _changed([sample.image for sample in samples], augmentation, seed, epoch)
        for epoch in range(1, VERSIONS + 1)
    ]
    rows = zip(samples, *versions, strict=True)
    return [
        each
        for sample, *images in rows
        for each in (sample, *(Sample(image, [""]) for image in images))
    ]


def _changed(
    images: Sequence[np.ndarray], augmentation: Augmentation, seed: int, epoch: int
) -> list[np.ndarray]:
    count = len(images)
    seeds, numbers = seeds_of_images(seed, epoch, count), draw(seed, epoch, count)
    of_inputs = seeds_of_inputs(seed, epoch, count)
    results = []
    for index, image in enumerate(images):
        pixels = np.atleast_3d(image)
        changes = ImageChanges(augmentation, (pixels.shape[0], pixels.shape[1]))
        changed = as_pixels(changes(as_image(pixels), int(seeds[index])))
        batch = torch.from_numpy(changed.transpose(2, 0, 1).copy())[None]
        batch = augmentation(batch, numbers[index : index + 1])
        if augmentation.erasing:
            # The mean color of the image stands for that of the training images.
            mean = batch.float().mean((2, 3), keepdim=True)
            inputs = erase(batch - mean, augmentation.erasing, of_inputs[index : index + 1])
            batch = (inputs + mean).round().byte()
        shown = batch[0].permute(1, 2, 0).numpy()
        results.append(shown[..., 0] if image.ndim == 2 else shown)
    return results
