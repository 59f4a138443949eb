"""Images changed at random, a batch of tensors at a time.

Each image has its own random numbers, and each operation is done for the whole batch at once.
The random numbers are drawn beforehand for a whole epoch, by position: they do not depend on how
many processes fraction a batch, or where a run was resumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DataError

if TYPE_CHECKING:
    # The command line takes its options from `Augmentation`, and does not wait for torch.
    import torch

#: Random numbers of an image: flip, top, left, brightness, contrast, saturation.
_DICE = 6


@dataclass(frozen=True)
class Augmentation:
    """What is done to training images.

    Attributes:
        flip: Mirror half of the images.
        crop_padding: Shift by up to so many pixels each way, with black where nothing is.
        brightness: Multiply by a factor from 1 - b to 1 + b (torchvision's ColorJitter).
        contrast: As brightness, about the image's mean grey.
        saturation: As brightness, about each pixel's grey.
        mixup: Mix neighbours with a fraction drawn from Beta(a, a); 0 for none.
        cutmix: Paste a box of the neighbour, its area drawn from Beta(a, a); 0 for none.
    """

    flip: bool = False
    crop_padding: int = 0
    brightness: float = 0
    contrast: float = 0
    saturation: float = 0
    mixup: float = 0
    cutmix: float = 0

    def __post_init__(self) -> None:
        for name in ("crop_padding", "brightness", "contrast", "saturation", "mixup", "cutmix"):
            if getattr(self, name) < 0:
                raise DataError(f"{name} is {getattr(self, name)}: at least 0 was expected")

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with their neighbours."""
        return self.mixup > 0 or self.cutmix > 0

    def __call__(
        self, pixels: torch.Tensor, random_numbers: np.ndarray, bgr: bool = False
    ) -> torch.Tensor:
        """Flip, shift and jitter.

        Args:
            pixels: uint8 (N, C, H, W), or floats if there is no jitter.
            random_numbers: (N, 6) numbers from 0 to 1 (see `draw`).
            bgr: whether three channels are in the order BGR.

        Returns:
            pixels of the same shape and type.

        Raises:
            DataError: when floats are to be jittered.
        """
        import torch

        numbers = torch.from_numpy(random_numbers).to(pixels.device)
        if self.flip:
            mirrored = numbers[:, 0] < 0.5
            pixels = pixels.clone()
            pixels[mirrored] = pixels[mirrored].flip(-1)
        if self.crop_padding:
            pixels = _shifted(pixels, self.crop_padding, numbers[:, 1], numbers[:, 2])
        if self.brightness or self.contrast or self.saturation:
            if pixels.dtype != torch.uint8:
                raise DataError("brightness, contrast and saturation need pixels, not inputs")
            widths = (self.brightness, self.contrast, self.saturation)
            factors = [
                (1 + width * (2 * numbers[:, 3 + place] - 1)).clamp(min=0)
                for place, width in enumerate(widths)
            ]
            pixels = jittered(pixels, factors, bgr)
        return pixels


def draw(seed: int, epoch: int, count: int) -> np.ndarray:
    """The random numbers of an epoch: (count, 6) float32 numbers from 0 to 1, one row a position."""
    return np.random.default_rng([seed, epoch, 1]).random((count, _DICE), np.float32)


def _shifted(
    pixels: torch.Tensor, padding: int, down: torch.Tensor, across: torch.Tensor
) -> torch.Tensor:
    """Random crops of the padded images, of their old size."""
    import torch
    from torch.nn import functional

    count, channels, height, width = pixels.shape
    places = 2 * padding + 1
    top, left = ((numbers * places).long().clamp(max=places - 1) for numbers in (down, across))
    padded = functional.pad(pixels, [padding] * 4)
    # Where each row of each crop starts in memory; rows are copied as a whole.
    plane, row = padded.stride(1), padded.stride(2)
    planes = torch.arange(count * channels, device=pixels.device).view(count, channels, 1) * plane
    rows = (top[:, None, None] + torch.arange(height, device=pixels.device)) * row
    starts = planes + rows + left[:, None, None]
    windows = padded.view(-1).unfold(0, width, 1)
    return windows.index_select(0, starts.view(-1)).view(pixels.shape)


def jittered(
    pixels: torch.Tensor, factors: Sequence[torch.Tensor], bgr: bool = False
) -> torch.Tensor:
    """Brightness, contrast, saturation, in this order, as torchvision's functions compute them.

    Args:
        pixels: uint8 (N, C, H, W).
        factors: three (N,) tensors: 1 changes nothing, 0 leaves black, mean grey, grey.
        bgr: whether three channels are in the order BGR.
    """
    brightness, contrast, saturation = (factor.view(-1, 1, 1, 1) for factor in factors)
    pixels = (pixels * brightness).clamp(0, 255).byte()
    # torchvision takes whole greys for the mean, and blends before it rounds down.
    mean = _grey(pixels, bgr).floor().mean((1, 2, 3), keepdim=True)
    pixels = (pixels * contrast + mean * (1 - contrast)).clamp(0, 255).byte()
    if pixels.shape[1] == 1:
        return pixels
    grey = _grey(pixels, bgr).floor()
    return (pixels * saturation + grey * (1 - saturation)).clamp(0, 255).byte()


def _grey(pixels: torch.Tensor, bgr: bool) -> torch.Tensor:
    """(N, 1, H, W) luminance by ITU-R 601."""
    if pixels.shape[1] == 1:
        return pixels.float()
    import torch

    weights = torch.tensor((0.2989, 0.587, 0.114), device=pixels.device)
    return (pixels * (weights.flip(0) if bgr else weights).view(3, 1, 1)).sum(1, keepdim=True)


def mixed(
    inputs: torch.Tensor,
    targets: torch.Tensor,
    augmentation: Augmentation,
    random: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixup or cutmix of each image with the one before it; one drawn fraction for the batch.

    Zhang et al. 2018, https://arxiv.org/abs/1710.09412; Yun et al. 2019,
    https://arxiv.org/abs/1905.04899.

    Args:
        inputs: (N + 1, C, H, W): a neighbour, then the N images.
        targets: (N + 1, classes), one-hot.
        augmentation: whether by mixup, cutmix or either.
        random: draws which, the fraction and the box: the same for every fraction of a batch.

    Returns:
        inputs (N, C, H, W) and targets (N, classes), which sum to 1.
    """
    paste = bool(augmentation.cutmix) and (not augmentation.mixup or random.random() < 0.5)
    alpha = augmentation.cutmix if paste else augmentation.mixup
    fraction = float(random.beta(alpha, alpha))
    one, other = inputs[1:], inputs[:-1]
    if paste:
        rows, columns = _box(inputs.shape[2], inputs.shape[3], fraction, random)
        result = one.clone()
        result[:, :, rows, columns] = other[:, :, rows, columns]
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        fraction = 1 - area / (inputs.shape[2] * inputs.shape[3])
    else:
        result = one * fraction + other * (1 - fraction)
    return result, targets[1:] * fraction + targets[:-1] * (1 - fraction)


def _box(
    height: int, width: int, fraction: float, random: np.random.Generator
) -> tuple[slice, slice]:
    """A box with 1 - fraction of the area, about a point anywhere, cut off at the edges."""
    half = 0.5 * np.sqrt(1 - fraction)
    y, x = random.integers(height), random.integers(width)
    rows, columns = int(half * height), int(half * width)
    return (
        slice(max(y - rows, 0), min(y + rows, height)),
        slice(max(x - columns, 0), min(x + columns, width)),
    )
