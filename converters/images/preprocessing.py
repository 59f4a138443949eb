"""`Preprocessing`: the steps from an image to a network's input, saved with every model.

An image is converted to the network's colors, resized, cropped, scaled to the value range that the
network was trained with, and normalized. This needs numpy and Pillow only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from numbers import Real
from typing import Any, TypeAlias

import numpy as np

from ..validation import Kind, flag, list_of, number, one_of, optional, text, whole
from .errors import PreprocessingError
from .image_scale import output_size
from .json_arguments import checked_arguments
from .pixels import channels_last, pixels_of, rounded
from .resize import RESIZERS, as_image, as_pixels

#: The number of channels of each color order.
COLORS = {"gray": 1, "RGB": 3, "BGR": 3}

#: What the bytes of an image become: 1 stands for 0 to 1, 255 for 0 to 255, a pair for itself.
ValueRange: TypeAlias = int | tuple[float, float]

#: A (height, width) so large that no valid `size` leaves an empty image.
_LARGE = (2**20, 2**20)

#: The longest side of an image after resizing, and the most pixels it may have.
_LONGEST_SIDE, _MOST_PIXELS = 2**14, 2**26

#: How many times as large as the network's input an image may be before it is cropped.
_LARGEST_FACTOR = 8

#: The smallest divisor that leaves float32 inputs finite.
_SMALLEST_STD = 1e-30

#: A length, at most the longest side.
_LENGTH = whole(1, _LONGEST_SIDE)


def _size_kind(value: Any, where: str) -> Any:
    """Check a size as JSON holds it (see `Preprocessing.size`)."""
    kind: Kind = _LENGTH
    if isinstance(value, (list, str)):
        kind = text if isinstance(value, str) else list_of(_LENGTH, 2)
    return kind(value, where)


def value_range_kind(value: Any, where: str) -> Any:
    """Check a range of values as JSON holds it."""
    return (list_of(number, 2) if isinstance(value, list) else one_of(1, 255))(value, where)


#: What each attribute of a `Preprocessing` is as JSON.
_ENTRIES: dict[str, Kind] = {
    "color": one_of(*COLORS),
    "size": optional(_size_kind),
    "resize": one_of(*RESIZERS),
    "crop": optional(list_of(_LENGTH, 2)),
    "value_range": value_range_kind,
    "mean": list_of(number),
    "std": list_of(number),
    "round_pixels": flag,
}


@dataclass(frozen=True)
class Preprocessing:
    """The steps from an image to a network's input: color, size, crop, value range, mean, std.

    Attributes:
        color: The channels that the network takes: `RGB`, `BGR` or `gray`.
        size: The size to resize to: (height, width), or the length of the shorter side, or a size
            argument of Torch7's `image.scale` such as `^256` (see `output_size`); None keeps it.
        resize: The method of resizing, a name of `RESIZERS`; `none` refuses another size.
        crop: (height, width) of a center crop after resizing; None keeps all.
        value_range: What 0 and 255 in the image become: 1 for 0 and 1, 255 for 0 and 255, or a
            pair such as (-1, 1).
        mean: Subtracted from each channel (in the order of `color`, on the scale of
            `value_range`): one number for all channels, one per channel, or none.
        std: Each channel is divided by it; as `mean`.
        round_pixels: Whether resized pixels are rounded to integers from 0 to 255 before the value
            range is applied; only `image.scale` returns other values.

    Raises:
        PreprocessingError: If an attribute is invalid.

    Example:
        >>> from PIL import Image
        >>> imagenet = Preprocessing(
        ...     size=256, crop=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
        ... )
        >>> imagenet([Image.new("RGB", (640, 480))]).shape
        (1, 3, 224, 224)
    """

    color: str = "RGB"
    size: tuple[int, int] | int | str | None = None
    resize: str = "pil-bilinear"
    crop: tuple[int, int] | None = None
    value_range: ValueRange = 1
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    round_pixels: bool = False

    def __post_init__(self) -> None:
        _require(
            self.color in COLORS, f"color is {self.color!r}; {_alternatives(COLORS)} was expected"
        )
        _require(
            self.resize in RESIZERS,
            f"resize={self.resize!r}: {_alternatives(RESIZERS)} was expected",
        )
        object.__setattr__(self, "value_range", as_value_range(self.value_range))
        if isinstance(self.size, str):
            _size_of_form(self.size, *_LARGE)
        else:
            _require(
                self.size is None or _is_length(self.size) or _is_size(self.size),
                f"size is {self.size!r}; a height and width were expected",
            )
        _require(
            self.crop is None or _is_size(self.crop),
            f"crop is {self.crop!r}; a height and width were expected",
        )
        _require(
            self.crop is None or self._leaves_room(*self.crop),
            f"images are resized to {self.size!r}, too small for a crop of {self.crop!r}",
        )
        for name in ("mean", "std"):
            values = getattr(self, name)
            _require(
                all(isinstance(value, Real) and math.isfinite(value) for value in values),
                f"{name} is {values!r}; numbers were expected",
            )
            _require(
                len(values) in (0, 1, self.channels),
                f"{name} has {len(values)} values, but {self.color} images need "
                f"{'1' if self.channels == 1 else f'1 or {self.channels}'}",
            )
        _require(all(value > 0 for value in self.std), "std must be positive")
        _require(
            all(abs(value) < 1 / _SMALLEST_STD for value in self.mean)
            and all(value > _SMALLEST_STD for value in self.std),
            "mean or std is out of the range of float32",
        )

    @property
    def channels(self) -> int:
        """Number of channels of the input: 1 or 3."""
        return COLORS[self.color]

    @property
    def only_decodes(self) -> bool:
        """Whether pixels stay as they are, in RGB or gray: a graph does the rest."""
        return (
            (self.size, self.crop, self.mean, self.std) == (None, None, (), ())
            and self.resize == "none"
            and self.color != "BGR"
            and self.value_range == 255
        )

    @property
    def limits(self) -> tuple[float, float]:
        """What 0 and 255 in the image become, before mean and std."""
        return self.value_range if isinstance(self.value_range, tuple) else (0, self.value_range)

    def __call__(self, images: Any) -> np.ndarray:
        """Return the network's input for images, float32 (N, C, H, W).

        Args:
            images: One image, which is a PIL image or its uint8 pixels (H, W) or (H, W, 1 or 3); a
                list of these; or a uint8 array (N, 1 or 3, H, W). Colors are in the order RGB.

        Raises:
            PreprocessingError: If they are something else, or differ in size after the last step.
        """
        batch = self._sized(images).astype(np.float32)
        if self.value_range == 1:
            batch /= 255
        elif self.value_range != 255:
            low, high = self.limits
            batch *= np.float32((high - low) / 255)
            batch += np.float32(low)
        if self.mean:
            batch -= np.asarray(self.mean, np.float32).reshape(-1, 1, 1)
        if self.std:
            batch /= np.asarray(self.std, np.float32).reshape(-1, 1, 1)
        return batch

    def pixels(self, images: Any) -> np.ndarray:
        """Return resized and cropped images, before value range, mean and std: uint8 (N, H, W, C).

        The floats that `image.scale` returns are rounded here, but not in `__call__`.

        Args:
            images: As for `__call__`.

        Raises:
            PreprocessingError: As for `__call__`.
        """
        return rounded(self._sized(images)).transpose(0, 2, 3, 1)

    def resized_by(self, choice: str) -> Preprocessing:
        """Return a copy with another method of resizing.

        Args:
            choice: A name of `RESIZERS`; or one with a size, such as `image.scale-bicubic:^256`,
                which resizes to that size and then crops the center to the network's input size.

        Raises:
            PreprocessingError: If there is no such method or size.
        """
        method, _, size = choice.partition(":")
        if not size:
            return replace(self, resize=method)
        inner = self.size if isinstance(self.size, tuple) else None
        return replace(self, resize=method, size=size, crop=self.crop or inner)

    def check_fits(self, input_shape: Sequence[int] | None) -> None:
        """Check that images become inputs of a network.

        Args:
            input_shape: (C, H, W), or None if the network leaves it open.

        Raises:
            PreprocessingError: If the channels or the size differ, or images are made much larger
                than the input before they are cropped.

        Example:
            >>> Preprocessing("gray", size=(32, 32)).check_fits((1, 32, 32))
        """
        if input_shape is None:
            return
        channels, height, width = input_shape
        network = f"the network takes {channels}×{height}×{width}"
        _require(self.channels == channels, f"color is {self.color!r}, but {network}")
        final = self.crop or (self.size if isinstance(self.size, tuple) else (height, width))
        _require(final == (height, width), f"images become {final[0]}×{final[1]}, but {network}")
        resized = self.resized_size(height, width)
        _require(
            max(resized) <= _LARGEST_FACTOR * max(height, width),
            f"size is {self.size!r}, but {network}",
        )

    def _sized(self, images: Any) -> np.ndarray:
        """Return (N, C, H, W), recolored, resized and cropped: uint8, or float32 from 0 to 255."""
        if isinstance(images, np.ndarray) and images.ndim == 4:
            batch: Sequence[np.ndarray] | np.ndarray = channels_last(images)
        else:
            listed = images if isinstance(images, (list, tuple)) else [images]
            batch = [pixels_of(image) for image in listed]
        _require(len(batch) > 0, "no images")
        if isinstance(batch, np.ndarray) and self._fits(*batch.shape[1:]):
            self.check_size(*batch.shape[1:3])
            return self._crop(self._reorder(batch)).transpose(0, 3, 1, 2).copy()
        resized = [self._crop(self._resize(self._recolor(image))) for image in batch]
        shapes = {image.shape[:2] for image in resized}
        _require(len(shapes) == 1, f"images of different sizes in one batch: {sorted(shapes)}")
        sized = np.stack([image.transpose(2, 0, 1) for image in resized])
        return rounded(sized) if self.round_pixels else sized

    def _fits(self, height: int, width: int, channels: int) -> bool:
        """Return whether images of this shape need neither recoloring nor resizing."""
        return channels == self.channels and self.resized_size(height, width) == (height, width)

    def _recolor(self, image: np.ndarray) -> np.ndarray:
        """Map (H, W, 1 or 3) in RGB to (H, W, channels) in the network's order."""
        if image.shape[2] != self.channels:
            mode = "L" if self.channels == 1 else "RGB"
            image = as_pixels(as_image(image).convert(mode))
        return self._reorder(image)

    def _reorder(self, images: np.ndarray) -> np.ndarray:
        return images[..., ::-1] if self.color == "BGR" else images

    def resized_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of an image after resizing, before cropping."""
        if self.size is None:
            return height, width
        if isinstance(self.size, int):
            short = min(height, width)
            return height * self.size // short, width * self.size // short
        if isinstance(self.size, str):
            return _size_of_form(self.size, height, width)
        return self.size

    def check_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the `resized_size` of an image that can be resized and cropped.

        Raises:
            PreprocessingError: If it becomes too large, or too small for the crop.
        """
        size = self.resized_size(height, width)
        image, resized = f"an image of {height}×{width}", f"{size[0]}×{size[1]}"
        _require(size[0] * size[1] <= _MOST_PIXELS, f"{image} would be resized to {resized}")
        if self.crop and (self.crop[0] > size[0] or self.crop[1] > size[1]):
            image += "" if size == (height, width) else f", resized to {resized},"
            crop = f"a crop of {self.crop[0]}×{self.crop[1]}"
            raise PreprocessingError(f"{image} is too small for {crop}")
        return size

    def _resize(self, image: np.ndarray) -> np.ndarray:
        if (size := self.check_size(*image.shape[:2])) == image.shape[:2]:
            return image
        return RESIZERS[self.resize](np.ascontiguousarray(image), size)

    def _crop(self, images: np.ndarray) -> np.ndarray:
        if self.crop is None:
            return images
        (height, width), sizes = self.crop, images.shape
        top, left = self._margin(sizes[-3] - height), self._margin(sizes[-2] - width)
        return images[..., top : top + height, left : left + width, :]

    def _leaves_room(self, height: int, width: int) -> bool:
        """Return whether some image, square, wide or tall, can be cropped once it is resized."""
        for old in (_LARGE, (_LARGE[0] // 64, _LARGE[1]), (_LARGE[0], _LARGE[1] // 64)):
            with suppress(PreprocessingError):  # a side may have no pixels left
                new = self.resized_size(*old)
                if height <= new[0] and width <= new[1]:
                    return True
        return False

    def _margin(self, pixels: int) -> int:
        """Return how many of the pixels to cut off come off at the top or the left.

        A half is rounded to the even number, as in `CenterCrop`; with `image.scale`, down.
        """
        return pixels // 2 if self.resize.startswith("image.scale") else round(pixels / 2)

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Preprocessing:
        """Return the preprocessing that `to_json` described.

        Raises:
            PreprocessingError: If an attribute is unknown or its value is invalid.
        """
        return cls(**checked_arguments(values, _ENTRIES, _ENTRIES, "a preprocessing"))


def as_value_range(value: Any) -> ValueRange:
    """Return a range of values in its shortest form.

    Raises:
        PreprocessingError: If it is none.

    Example:
        >>> as_value_range((0, 255)), as_value_range([-1, 1]), as_value_range(1)
        (255, (-1.0, 1.0), 1)
    """
    if isinstance(value, (tuple, list)) and len(value) == 1:
        return as_value_range(value[0])
    pair = value if isinstance(value, (tuple, list)) else (0, value)
    _require(
        len(pair) == 2
        and all(isinstance(one, Real) and math.isfinite(one) for one in pair)
        and pair[0] < pair[1]
        and (value in (1, 255) or isinstance(value, (tuple, list)))
        and max(map(abs, pair)) < 1 / _SMALLEST_STD,
        f"value_range is {value!r}: 1, 255 or two ascending numbers were expected",
    )
    if pair[0] == 0 and pair[1] in (1, 255):
        return int(pair[1])
    return float(pair[0]), float(pair[1])


def _size_of_form(form: str, height: int, width: int) -> tuple[int, int]:
    """Return the size that a form of `image.scale` stands for, also for absurd numbers."""
    try:
        return output_size(form, height, width)
    except (OverflowError, ValueError) as error:
        raise PreprocessingError(f"not a size of image.scale: {form[:40]!r}: {error}") from None


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise PreprocessingError(problem)


def _is_length(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LONGEST_SIDE


def _is_size(value: Any) -> bool:
    """Return whether a value is (height, width)."""
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_length, value))


def _alternatives(names: Iterable[str]) -> str:
    return " or ".join(map(repr, names))
