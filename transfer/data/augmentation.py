"""Random changes to images, a batch of tensors at a time; the others are in `image_changes`.

Each image has its own random numbers, and each operation is done for the whole batch at once. The
numbers of an epoch are drawn in advance, by position: they do not depend on how many processes
share a batch, or where a run was resumed.

For these, torchvision.transforms.v2 would be slower: its flips, crops and `ColorJitter` draw one
value per call, `MixUp` and `CutMix` draw from torch's global generator, and its functions applied
to one image at a time take 5 to 10 times as long.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..errors import DataError, check_choices

if TYPE_CHECKING:
    # The command line takes its options from `Augmentation`, and does not wait for torch.
    import torch

#: Random numbers per image: flip, top, left, brightness, contrast, saturation.
_NUMBERS_PER_IMAGE = 6

#: The lowest and the highest value of options.
_LIMITS = (("rotation", 0, 180), ("magnitude", 0, 30), ("erasing", 0, 1))


@dataclass(frozen=True)
class Augmentation:
    """Random changes to training images.

    Attributes:
        flip: Mirror half of the images.
        crop_padding: Shift by up to this many pixels in each direction; the border is black.
        brightness: Multiply by a factor from 1 - b to 1 + b (torchvision's ColorJitter).
        contrast: Like brightness, relative to the image's mean gray.
        saturation: Like brightness, relative to each pixel's gray.
        mixup: Mix each image with its neighbor, by a fraction drawn from Beta(a, a); 0 for none.
        cutmix: Paste a box of the neighbor, its area drawn from Beta(a, a); 0 for none.
        resized_crop: Cut out a part of the image with at least this fraction of its area, such as
            0.08 or 0.5, and resize it (torchvision's RandomResizedCrop).
        rotation: Rotate by up to so many degrees in either direction; the corners are black.
        auto_augment: A policy of torchvision's: randaugment, two random changes an image, or
            trivialaugment, one of random strength.
        magnitude: Strength of randaugment, from 0 to 30.
        erasing: Probability of erasing a random box, which becomes the mean color (torchvision's
            RandomErasing).

    Example:
        >>> import torch
        >>> from torchlift.transfer.data.augmentation import Augmentation, draw
        >>> pixels = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
        >>> augment = Augmentation(flip=True, crop_padding=4)
        >>> tuple(augment(pixels, draw(seed=0, epoch=1, count=8)).shape)
        (8, 3, 32, 32)
    """

    flip: bool = False
    crop_padding: int = 0
    brightness: float = 0
    contrast: float = 0
    saturation: float = 0
    mixup: float = 0
    cutmix: float = 0
    resized_crop: float | None = None
    rotation: float = 0
    auto_augment: Literal["randaugment", "trivialaugment"] | None = None
    magnitude: int = 9
    erasing: float = 0

    def __post_init__(self) -> None:
        check_choices(self, DataError)
        for name in ("crop_padding", "brightness", "contrast", "saturation", "mixup", "cutmix"):
            if not 0 <= getattr(self, name) < math.inf:
                raise DataError(f"{name}={getattr(self, name)}: expected at least 0")
        for name, lowest, highest in _LIMITS:
            if not lowest <= (value := getattr(self, name)) <= highest:
                raise DataError(f"{name}={value}: expected {lowest} to {highest}")
        part = self.resized_crop
        if part is not None and not 0 < part <= 1:
            raise DataError(f"resized_crop={part}: expected above 0 and at most 1")
        if self.auto_augment != "randaugment" and self.magnitude != Augmentation.magnitude:
            raise DataError(f"magnitude={self.magnitude}: it is for auto_augment='randaugment'")

    @property
    def changes_single_images(self) -> bool:
        """Whether images are changed one at a time, by `ImageChanges`."""
        return bool(self.resized_crop is not None or self.rotation or self.auto_augment)

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with their neighbors."""
        return self.mixup > 0 or self.cutmix > 0

    def __call__(
        self, pixels: torch.Tensor, random_numbers: np.ndarray, bgr: bool = False
    ) -> torch.Tensor:
        """Flip, shift and jitter a batch.

        Args:
            pixels: uint8 (N, C, H, W), or floats if there is no jitter.
            random_numbers: (N, 6) numbers from 0 to 1 (see `draw`).
            bgr: Whether three channels are in the order BGR.

        Returns:
            Pixels of the same shape and dtype.

        Raises:
            DataError: If floats would be jittered.
        """
        import torch

        numbers = torch.from_numpy(random_numbers).to(pixels.device)
        if self.flip:
            mirrored = numbers[:, 0] < 0.5
            pixels = pixels.clone()
            pixels[mirrored] = pixels[mirrored].flip(-1)
        if self.crop_padding:
            pixels = _shift(pixels, self.crop_padding, numbers[:, 1], numbers[:, 2])
        if self.brightness or self.contrast or self.saturation:
            if pixels.dtype != torch.uint8:
                raise DataError("brightness, contrast and saturation need pixels, not floats")
            widths = (self.brightness, self.contrast, self.saturation)
            factors = [
                (1 + width * (2 * numbers[:, 3 + column] - 1)).clamp(min=0)
                for column, width in enumerate(widths)
            ]
            pixels = jitter(pixels, factors, bgr)
        return pixels


def draw(seed: int, epoch: int, count: int) -> np.ndarray:
    """Return the random numbers of an epoch: (count, 6) float32 from 0 to 1, a row per position."""
    return np.random.default_rng([seed, epoch, 1]).random((count, _NUMBERS_PER_IMAGE), np.float32)


def _shift(
    pixels: torch.Tensor, padding: int, down: torch.Tensor, across: torch.Tensor
) -> torch.Tensor:
    """Return crops of the padded images, in their original size.

    Raises:
        DataError: If the padding is larger than the images: most crops would be black.
    """
    import torch
    from torch.nn import functional

    count, channels, height, width = pixels.shape
    if padding > max(height, width):
        raise DataError(
            f"crop_padding={padding}: at most the larger side of the images, "
            f"{max(height, width)}, was expected"
        )
    places = 2 * padding + 1
    top, left = ((numbers * places).long().clamp(max=places - 1) for numbers in (down, across))
    padded = functional.pad(pixels, [padding] * 4)
    # The offset of each row of each crop in memory: rows are copied as a whole.
    plane, row = padded.stride(1), padded.stride(2)
    planes = torch.arange(count * channels, device=pixels.device).view(count, channels, 1) * plane
    rows = (top[:, None, None] + torch.arange(height, device=pixels.device)) * row
    starts = planes + rows + left[:, None, None]
    windows = padded.view(-1).unfold(0, width, 1)
    return windows.index_select(0, starts.view(-1)).view(pixels.shape)


def jitter(
    pixels: torch.Tensor, factors: Sequence[torch.Tensor], bgr: bool = False
) -> torch.Tensor:
    """Change brightness, contrast and saturation, in this order, like torchvision's functions.

    Args:
        pixels: uint8 (N, C, H, W).
        factors: Three (N,) tensors; 1 changes nothing, 0 gives black, the mean gray, gray.
        bgr: Whether three channels are in the order BGR.
    """
    brightness, contrast, saturation = (factor.view(-1, 1, 1, 1) for factor in factors)
    pixels = (pixels * brightness).clamp(0, 255).byte()
    # torchvision rounds grays down before the mean, and results down after the blending.
    mean = _gray(pixels, bgr).floor().mean((1, 2, 3), keepdim=True)
    pixels = (pixels * contrast + mean * (1 - contrast)).clamp(0, 255).byte()
    if pixels.shape[1] == 1:
        return pixels
    gray = _gray(pixels, bgr).floor()
    return (pixels * saturation + gray * (1 - saturation)).clamp(0, 255).byte()


def _gray(pixels: torch.Tensor, bgr: bool) -> torch.Tensor:
    """Return the luminance (N, 1, H, W) by ITU-R 601."""
    if pixels.shape[1] == 1:
        return pixels.float()
    import torch

    weights = torch.tensor((0.2989, 0.587, 0.114), device=pixels.device)
    return (pixels * (weights.flip(0) if bgr else weights).view(3, 1, 1)).sum(1, keepdim=True)


def mix(
    inputs: torch.Tensor,
    targets: torch.Tensor,
    augmentation: Augmentation,
    random: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Apply mixup or cutmix to each image and the one before it, with one fraction for the batch.

    Mixup: Zhang et al. 2018, https://arxiv.org/abs/1710.09412. Cutmix: Yun et al. 2019,
    https://arxiv.org/abs/1905.04899.

    Args:
        inputs: (N + 1, C, H, W): a neighbor, then the N images.
        targets: (N + 1, classes), one-hot.
        augmentation: With both mixup and cutmix, one of them is drawn.
        random: Draws the operation, the fraction and the box: the same for every slice of a batch.

    Returns:
        Inputs (N, C, H, W) and targets (N, classes), whose rows sum to 1.
    """
    paste = bool(augmentation.cutmix) and (not augmentation.mixup or random.random() < 0.5)
    alpha = augmentation.cutmix if paste else augmentation.mixup
    fraction = float(random.beta(alpha, alpha))
    images, neighbors = inputs[1:], inputs[:-1]
    if paste:
        rows, columns = _box(inputs.shape[2], inputs.shape[3], fraction, random)
        result = images.clone()
        result[:, :, rows, columns] = neighbors[:, :, rows, columns]
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        fraction = 1 - area / (inputs.shape[2] * inputs.shape[3])
    else:
        result = images * fraction + neighbors * (1 - fraction)
    return result, targets[1:] * fraction + targets[:-1] * (1 - fraction)


def _box(
    height: int, width: int, fraction: float, random: np.random.Generator
) -> tuple[slice, slice]:
    """Return a box with 1 - fraction of the area around a random center, clipped at the edges."""
    half = 0.5 * np.sqrt(1 - fraction)
    y, x = random.integers(height), random.integers(width)
    rows, columns = int(half * height), int(half * width)
    return (
        slice(max(y - rows, 0), min(y + rows, height)),
        slice(max(x - columns, 0), min(x + columns, width)),
    )
