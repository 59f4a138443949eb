"""What turns an image into a network's input; it is saved with every model.

An image is brought to the network's colours, resized, cropped, scaled to the value range that
the network was trained with, and normalized. Needs numpy and Pillow only (the `torch-…` ways to
resize import torch when they are used).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

from ..t7 import LuaTable
from .errors import PreprocessingError
from .image_scale import output_size
from .resize import RESIZERS, as_image, as_pixels

#: How many colour channels an input has.
COLORS = {"gray": 1, "RGB": 3, "BGR": 3}

#: The largest value of a channel, as the network sees it.
VALUE_RANGES = (1, 255)

#: How the labs that trained AlexNet resized their images, and to what.
_LABS_RESIZE, _LABS_SIZE = "image.scale-bilinear", (224, 224)

#: An image of which any size leaves something.
_LARGE = (2**20, 2**20)


@dataclass(frozen=True)
class Preprocessing:
    """What turns an image into a network's input, in this order.

    Attributes:
        color: `RGB`, `BGR` or `gray`: the order of the channels.
        size: what the image is resized to: (height, width), or the length of the shorter side,
            or a size as Torch7's `image.scale` takes it (`^256`, see `output_size`); None leaves
            it.
        resize: how it is resized, a name of `RESIZERS`; `none` refuses another size.
        crop: (height, width) that is cut from the middle afterwards; None leaves it.
        value_range: 1 or 255: what a white pixel becomes.
        mean: subtracted from each channel (in the order of `color`), on the scale of
            `value_range`; one number stands for all channels, none for no subtraction.
        std: each channel is divided by it; as `mean`.
        round_pixels: whether what resizing gives is rounded to whole pixel values, 0 to 255; only
            `image.scale` gives others.
    """

    color: str = "RGB"
    size: tuple[int, int] | int | str | None = None
    resize: str = "pil-bilinear"
    crop: tuple[int, int] | None = None
    value_range: int = 1
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    round_pixels: bool = False

    def __post_init__(self) -> None:
        _require(self.color in COLORS, f"color is {self.color!r}, expected {_one_of(COLORS)}")
        _require(
            self.resize in RESIZERS, f"resize is {self.resize!r}, expected {_one_of(RESIZERS)}"
        )
        _require(self.value_range in VALUE_RANGES, "value_range must be 1 or 255")
        if isinstance(self.size, str):
            output_size(self.size, *_LARGE)
        else:
            _require_lengths("size", self.size)
        _require_lengths("crop", self.crop)
        for name in ("mean", "std"):
            count = len(getattr(self, name))
            _require(
                count in (0, 1, self.channels),
                f"{name} has {count} numbers, a {self.color} input needs 1 or {self.channels}",
            )
        _require(all(value > 0 for value in self.std), "std must be positive")

    @property
    def channels(self) -> int:
        """Channels of the input: 1 or 3."""
        return COLORS[self.color]

    def __call__(self, images: Any) -> np.ndarray:
        """The input for images, float32 (N, C, H, W).

        Args:
            images: a PIL image or uint8 pixels as `numpy.asarray` takes them from one (H, W, C),
                in a list; or a uint8 array (N, C, H, W) or (N, H, W). Colours are in the order RGB.

        Raises:
            PreprocessingError: when they are something else, or differ in size at the end.
        """
        batch = self._sized(images).astype(np.float32)
        if self.value_range == 1:
            batch /= 255
        if self.mean:
            batch -= np.asarray(self.mean, np.float32).reshape(-1, 1, 1)
        if self.std:
            batch /= np.asarray(self.std, np.float32).reshape(-1, 1, 1)
        return batch

    def pixels(self, images: Any) -> np.ndarray:
        """Images in the network's colours and size, not yet on its scale: uint8 (N, H, W, C).

        What `image.scale` gives is rounded here; `__call__` goes on with it as it is.

        Args:
            images: as `__call__` takes them.

        Raises:
            PreprocessingError: as `__call__`.
        """
        return _rounded(self._sized(images)).transpose(0, 2, 3, 1)

    def resized_by(self, choice: str) -> Preprocessing:
        """The same, but for how images are resized.

        Args:
            choice: a name of `RESIZERS`; or one with a size, such as `image.scale-bicubic:^256`,
                after which the middle is cut out in the network's size.

        Raises:
            PreprocessingError: when there is no such method or size.
        """
        method, _, size = choice.partition(":")
        if not size:
            return replace(self, resize=method)
        inner = self.size if isinstance(self.size, tuple) else None
        return replace(self, resize=method, size=size, crop=self.crop or inner)

    def _sized(self, images: Any) -> np.ndarray:
        """(N, C, H, W) in the network's colours and size: uint8, or float32 from 0 to 255."""
        if isinstance(images, np.ndarray):
            listed: Sequence[np.ndarray] | np.ndarray = _channels_last(images)
        else:
            several = images if isinstance(images, Sequence) else [images]
            listed = [_image(one) for one in several]
        _require(len(listed) > 0, "no images")
        if isinstance(listed, np.ndarray) and self._fits(*listed.shape[1:]):
            return self._crop(self._reorder(listed)).transpose(0, 3, 1, 2).copy()
        resized = [self._crop(self._resize(self._recolor(image))) for image in listed]
        shapes = {image.shape[:2] for image in resized}
        _require(len(shapes) == 1, f"images of different sizes in one batch: {sorted(shapes)}")
        sized = np.stack([image.transpose(2, 0, 1) for image in resized])
        return _rounded(sized) if self.round_pixels else sized

    def _fits(self, height: int, width: int, channels: int) -> bool:
        """Whether such images need no work one by one."""
        return channels == self.channels and self._resized(height, width) == (height, width)

    def _recolor(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 1 or 3) in RGB → (H, W, channels) in the network's order."""
        if image.shape[2] != self.channels:
            mode = "L" if self.channels == 1 else "RGB"
            image = as_pixels(as_image(image).convert(mode))
        return self._reorder(image)

    def _reorder(self, images: np.ndarray) -> np.ndarray:
        return images[..., ::-1] if self.color == "BGR" else images

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """The size that an image gets before it is cropped."""
        if self.size is None:
            return height, width
        if isinstance(self.size, int):
            short = min(height, width)
            return height * self.size // short, width * self.size // short
        if isinstance(self.size, str):
            return output_size(self.size, height, width)
        return self.size

    def _resize(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        size = self._resized(height, width)
        if size == (height, width):
            return image
        return RESIZERS[self.resize](np.ascontiguousarray(image), size)

    def _crop(self, images: np.ndarray) -> np.ndarray:
        if self.crop is None:
            return images
        (height, width), (crop_height, crop_width) = images.shape[-3:-1], self.crop
        _require(
            crop_height <= height and crop_width <= width,
            f"an image of {height}×{width} is too small for a crop of {crop_height}×{crop_width}",
        )
        top, left = (height - crop_height) // 2, (width - crop_width) // 2
        return images[..., top : top + crop_height, left : left + crop_width, :]

    def to_json(self) -> dict[str, Any]:
        """The description as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Preprocessing:
        """The description that `to_json` gave.

        Raises:
            PreprocessingError: when a value is missing its meaning.
        """
        try:
            given: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value
                for key, value in values.items()
            }
            return cls(**given)
        except (TypeError, AttributeError) as error:
            raise PreprocessingError(f"no preprocessing as torchlift writes it: {error}") from error


def preprocessing_of_format_1(values: dict[str, Any]) -> dict[str, Any]:
    """A description that torchlift 0.1.0 wrote, in today's names.

    Its `torch-nearest` was what torch calls `nearest-exact`.
    """
    if values.get("resize") != "torch-nearest":
        return values
    return {**values, "resize": "torch-nearest-exact"}


def from_mean_std(
    value: Any, input_shape: Sequence[int] | None = None
) -> tuple[Preprocessing, str]:
    """The preprocessing that a table `{mean = …, std = …}` stands for, and what was assumed.

    The table of the labs (`digits_meanStd.t7`): lists or tensors with one number for all channels
    or one for each, or plain numbers. The file does not say whether pixels count from 0 to 1 or
    to 255: a mean or std above 1 can only be of the latter. Three of each on the scale to 1 are
    those of AlexNet's lab, which loaded images as floats and resized them by `image.scale`.

    Args:
        value: what `t7.load` gave.
        input_shape: (C, H, W) of the network, which gives the size and the number of channels;
            where it is not known, AlexNet's images are resized to 224×224 and others left.

    Raises:
        PreprocessingError: when mean or std is missing, or does not fit the channels.
    """
    if not isinstance(value, LuaTable) or "mean" not in value or "std" not in value:
        raise PreprocessingError("a table {mean = …, std = …} was expected")
    mean, std = _numbers(value["mean"], "mean"), _numbers(value["std"], "std")
    value_range = 255 if max(*mean, *std) > 1 else 1
    channels, *size = input_shape or (max(len(mean), len(std)),)
    result = Preprocessing(
        color="gray" if channels == 1 else "RGB",
        size=(size[0], size[1]) if size else None,
        value_range=value_range,
        mean=mean,
        std=std,
    )
    note = f"mean and std were taken to be for pixels from 0 to {value_range}"
    if channels == 1:
        return result, note
    note += ", channels in the order RGB"
    if value_range == 255 or (len(mean), len(std)) != (3, 3):
        return result, note
    result = replace(result, size=result.size or _LABS_SIZE, resize=_LABS_RESIZE)
    return result, f"{note}, of images resized by Torch7's image.scale (bilinear)"


def _rounded(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    return np.rint(pixels.clip(0, 255)).astype(np.uint8)


def _numbers(value: Any, name: str) -> tuple[float, ...]:
    """A list, tensor or number of a `.t7` as floats."""
    try:
        values = value.to_list() if isinstance(value, LuaTable) else value
        numbers = tuple(float(item) for item in np.ravel(np.asarray(values, np.float64)))
    except (TypeError, ValueError):
        numbers = ()
    _require(len(numbers) > 0, f"{name} is no list of numbers")
    return numbers


def _channels_last(batch: np.ndarray) -> np.ndarray:
    """(N, C, H, W) or (N, H, W) uint8 → (N, H, W, C)."""
    if batch.dtype != np.uint8:
        raise PreprocessingError(f"pixels must be uint8 (0 to 255), not {batch.dtype}")
    if batch.ndim == 3:
        return batch[..., None]
    if batch.ndim != 4 or batch.shape[1] not in (1, 3):
        raise PreprocessingError(
            f"images have the shape {batch.shape}, (N, 1 or 3, H, W) was expected"
        )
    return batch.transpose(0, 2, 3, 1)


def _image(image: Any) -> np.ndarray:
    """A PIL image, the right way up, or the pixels of one, as (H, W, 1 or 3) uint8."""
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        pixels = image[..., None] if image.ndim == 2 else image
        _require(
            pixels.ndim == 3 and pixels.shape[2] in (1, 3),
            f"an image has the shape {image.shape}, (H, W) or (H, W, 1 or 3) was expected",
        )
        return pixels
    if not isinstance(image, Image.Image):
        raise PreprocessingError(f"an image was expected, not {type(image).__name__}")
    if image.mode.startswith(("I", "F")):
        raise PreprocessingError(f"an image with {image.mode} pixels: save it with 8 bits first")
    try:
        # Both would copy an image that is as it should be.
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
        mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
        return as_pixels(image if image.mode == mode else image.convert(mode))
    except Exception as error:  # Pillow's decoders raise whatever their parsers do.
        raise PreprocessingError(f"an image cannot be read: {error}") from error


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise PreprocessingError(problem)


def _require_lengths(name: str, value: tuple[int, ...] | int | None) -> None:
    lengths = value if isinstance(value, tuple) else (1 if value is None else value,)
    _require(
        len(lengths) in (1, 2) and all(isinstance(n, int) and n > 0 for n in lengths),
        f"{name} is {value!r}, a height and width were expected",
    )


def _one_of(names: Any) -> str:
    return " or ".join(map(repr, names))
