"""What is said of a network's inputs: the order of colors, the range of values, mean and std."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .errors import PreprocessingError
from .preprocessing import COLORS, Preprocessing, ValueRange, as_value_range

#: Numbers of a mean or std: one for all channels, or one for each.
Numbers: TypeAlias = Sequence[float] | float | Literal["imagenet"]

#: What `imagenet` stands for: mean and std of RGB values from 0 to 1.
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

#: The word for these numbers.
IMAGENET = "imagenet"


@dataclass(frozen=True)
class Normalization:
    """What is said of a network's inputs; what is not said is None.

    Attributes:
        mean: One number for all channels or one for each, in the order that the network sees.
        std: As `mean`.
        color: `RGB`, `BGR` or `gray`.
        value_range: What 0 and 255 become (see `Preprocessing.value_range`).

    Raises:
        PreprocessingError: If something is wrong in itself.

    Example:
        >>> Normalization.of(mean="imagenet", std="imagenet", color="BGR").mean
        (0.406, 0.456, 0.485)
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    color: str | None = None
    value_range: ValueRange | None = None

    @classmethod
    def of(
        cls,
        mean: Numbers | None = None,
        std: Numbers | None = None,
        color: str | None = None,
        value_range: ValueRange | None = None,
    ) -> Normalization:
        """Return what numbers, names of colors and a range say.

        Args:
            mean: One number, one for each channel, or `imagenet`.
            std: As `mean`; `imagenet` stands in both or in none.
            color: `RGB`, `BGR` or `gray`.
            value_range: 1, 255, or what 0 and 255 become.

        Raises:
            PreprocessingError: If something is wrong in itself.
        """
        if color is not None and color not in COLORS:
            raise PreprocessingError(f"color={color}: {', '.join(COLORS)} are known")
        if value_range is not None:
            try:
                value_range = as_value_range(value_range)
            except PreprocessingError:
                raise PreprocessingError(
                    f"value_range={_words(value_range)}: 1, 255 or two ascending numbers with a "
                    "comma between, such as -1,1, were expected"
                ) from None
        if IMAGENET in (mean, std):
            if mean != std:
                raise PreprocessingError("mean=imagenet and std=imagenet belong together")
            if value_range not in (None, 1):
                raise PreprocessingError(
                    "mean=imagenet is for values from 0 to 1: leave out value_range=…"
                )
            if color == "gray":
                raise PreprocessingError("mean=imagenet has three channels, color=gray has one")
            order = -1 if color == "BGR" else 1
            return cls(_IMAGENET_MEAN[::order], _IMAGENET_STD[::order], color or "RGB", 1)
        result = cls(_numbers(mean, "mean"), _numbers(std, "std"), color, value_range)
        if result.std is not None and min(result.std) <= 0:
            raise PreprocessingError("std=… must be positive")
        return result

    @property
    def is_empty(self) -> bool:
        """Whether nothing is said."""
        return self == NOTHING_SAID

    def over(self, other: Normalization) -> Normalization:
        """Return both together; of what both say, this one's counts."""
        has_numbers = self.mean is not None or self.std is not None
        numbers = self if has_numbers else other
        return Normalization(
            numbers.mean,
            numbers.std,
            self.color or other.color,
            self.value_range or (None if has_numbers else other.value_range),
        )

    def preprocessing(
        self,
        input_shape: Sequence[int] | None = None,
        channels: int | None = None,
        resize: str | None = None,
    ) -> tuple[Preprocessing, str]:
        """Return the preprocessing that this defines, and a note about what it left open.

        Without a value range a mean or std above 1 implies 0 to 255, numbers within 0 to 1 imply 0
        to 1. A mean of 0 with a std of 1 and negative numbers fit any range.

        Args:
            input_shape: (C, H, W) of the network. It sets the number of channels and the size to
                resize to; without it images keep their size.
            channels: The number of channels, where only that is known.
            resize: How images are resized, as `Preprocessing.resized_by` takes it; `pil-bilinear`
                to the size of the network's input by default.

        Raises:
            PreprocessingError: If the numbers fit any value range and none is given, or something
                does not fit the channels.
        """
        mean, std = self.mean or (0.0,), self.std or (1.0,)
        says_numbers = self.mean is not None or self.std is not None
        subject = f"mean {_abbreviated(mean)} and std {_abbreviated(std)}"
        inferred = _infer_value_range(mean, std)
        if self.value_range == 1 and inferred == 255:
            raise PreprocessingError(
                f"{subject} are for values from 0 to 255, since one is above 1: "
                "leave out value_range=1"
            )
        if min(std) < 0:
            raise PreprocessingError(f"{subject}: a std below 0 is none")
        value_range = self.value_range or inferred
        if value_range is None:
            raise PreprocessingError(
                f"{subject} fit any range of values: give value_range=1 (0 to 1) or "
                "value_range=255 (0 to 255), or value_range=LO,HI"
            )
        if input_shape is not None:
            channels = input_shape[0]
        color = self.color or _color(channels or max(len(mean), len(std)))
        if channels is not None and COLORS[color] != channels:
            raise PreprocessingError(
                f"color={color} has {COLORS[color]} channels, but the network takes {channels}"
            )
        result = Preprocessing(
            color=color,
            size=None if input_shape is None else (input_shape[1], input_shape[2]),
            value_range=value_range,
            mean=mean if says_numbers else (),
            std=std if says_numbers else (),
        )
        if resize is not None:
            result = result.resized_by(resize)
        order = "" if color == "gray" else f", with channels in the order {color}"
        low, high = result.limits
        values = f"values from {low:g} to {high:g}{order}"
        if says_numbers:
            verb = "fit" if self.value_range is None else "are used for"
            values = f"{subject} {verb} {values}"
        else:
            values = f"the network takes {values}"
        return result, f"{values}; {describe_resizing(result)}"

    def require_same(self, preprocessing: Preprocessing) -> None:
        """Check that all that is said holds for a preprocessing.

        Raises:
            PreprocessingError: If it has another value.
        """
        own = {
            "mean": preprocessing.mean or (0.0,),
            "std": preprocessing.std or (1.0,),
            "color": preprocessing.color,
            "value_range": preprocessing.value_range,
        }
        for name, value in own.items():
            said = getattr(self, name)
            if said is None:
                continue
            channels = preprocessing.channels
            if _per_channel(said, channels) != _per_channel(value, channels):
                raise PreprocessingError(
                    f"{name}={_words(said)} is not the model's own, which is {_words(value)}"
                )


#: Everything is open.
NOTHING_SAID = Normalization()


def describe_resizing(preprocessing: Preprocessing) -> str:
    """Return how images are resized and cropped, in words for a note.

    Example:
        >>> describe_resizing(Preprocessing(size="^256", crop=(224, 224)))
        'images are resized to ^256 by pil-bilinear and cropped to 224×224'
    """
    size, crop = preprocessing.size, preprocessing.crop
    sentence = "images keep their size"
    if size is not None:
        target = f"{size[0]}×{size[1]}" if isinstance(size, tuple) else f"{size}"
        sentence = f"images are resized to {target} by {preprocessing.resize}"
    return sentence if crop is None else f"{sentence} and cropped to {crop[0]}×{crop[1]}"


def _color(channels: int) -> str:
    """Return the usual order of so many channels."""
    if channels not in COLORS.values():
        raise PreprocessingError(f"images have 1 or 3 channels, but the network takes {channels}")
    return "gray" if channels == 1 else "RGB"


def _infer_value_range(mean: tuple[float, ...], std: tuple[float, ...]) -> int | None:
    """Return 1 or 255, or None if the numbers fit both."""
    numbers = (*mean, *std)
    if min(numbers) < 0 or (set(mean) == {0} and set(std) == {1}):
        return None
    return 255 if max(numbers) > 1 else 1


def _numbers(value: Numbers | None, name: str) -> tuple[float, ...] | None:
    """Return one number or several as a tuple."""
    if value is None:
        return None
    try:
        numbers = tuple(map(float, value if isinstance(value, (list, tuple)) else [value]))
    except (TypeError, ValueError):
        numbers = ()
    if not numbers or not all(map(math.isfinite, numbers)):
        raise PreprocessingError(f"{name} is not a list of numbers")
    if len(numbers) not in (1, 3):
        raise PreprocessingError(f"{name} has {len(numbers)} numbers: 1 or 3 were expected")
    return numbers


def _per_channel(value: object, channels: int) -> object:
    return value * channels if isinstance(value, tuple) and len(value) == 1 else value


def _words(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return ",".join(_words(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _abbreviated(numbers: tuple[float, ...]) -> str:
    return f"{numbers[0]:g}{'…' if len(numbers) > 1 else ''}"
