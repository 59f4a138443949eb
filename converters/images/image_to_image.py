"""`ImageToImage`: the steps from the output of a network back to an image, saved with the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ..validation import Kind, flag, list_of, number, one_of, optional, whole
from .errors import PreprocessingError
from .json_arguments import checked_arguments
from .preprocessing import COLORS, Preprocessing, ValueRange, as_value_range, value_range_kind

#: The widest border, and the largest multiple, that a file may ask for.
_LARGEST = 1024

#: What each attribute of an `ImageToImage` is as JSON.
_ENTRIES: dict[str, Kind] = {
    "value_range": value_range_kind,
    "color": optional(one_of(*COLORS)),
    "mean": list_of(number),
    "std": list_of(number),
    "border": whole(0, _LARGEST),
    "multiple": whole(1, _LARGEST),
    "scale": optional(whole(1, 64)),
    "takes_mask": flag,
    "keeps_color": flag,
}


@dataclass(frozen=True)
class ImageToImage:
    """From the output of a network to an image: mean and std, value range, color.

    Attributes:
        value_range: The values that are 0 and 255 in the image, as in `Preprocessing`; what is
            outside is clipped.
        color: `RGB`, `BGR` or `gray`; by default that of the input, or as many channels suggest.
        mean: Added to each channel (in the order of `color`), after `std`, before the value range:
            one number, one per channel, or none.
        std: Each channel is multiplied by it; as `mean`.
        border: By how many pixels an image is extended on each side first, with its border's
            pixels, since the network leaves out as many.
        multiple: Height and width are first extended to multiples of it, right and below, with the
            border's pixels.
        scale: How many times as high and wide as the image the result is, which is cut to that;
            None keeps what the network gives.
        takes_mask: Whether the network takes a mask as one more channel, and fills its holes.
        keeps_color: Whether the network changes the brightness alone: a colored image keeps its
            colors.

    Raises:
        PreprocessingError: If an attribute is invalid.

    Example:
        >>> output = np.array([-1.0, 0.0, 3.0]).reshape(3, 1, 1)
        >>> ImageToImage((-1, 1), "BGR").image(output).tolist()
        [[[255, 128, 0]]]
    """

    value_range: ValueRange
    color: str | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    border: int = 0
    multiple: int = 1
    scale: int | None = None
    takes_mask: bool = False
    keeps_color: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "value_range", as_value_range(self.value_range))
        if self.color is not None and self.color not in COLORS:
            raise PreprocessingError(f"output_color={self.color}: {', '.join(COLORS)} are known")
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (0, 1, 3):
                raise PreprocessingError(f"the output's {name} has neither 1 nor 3 numbers")

    @property
    def limits(self) -> tuple[float, float]:
        """The values that are 0 and 255 in the image."""
        return self.value_range if isinstance(self.value_range, tuple) else (0, self.value_range)

    def image(self, output: np.ndarray, input_color: str = "RGB") -> np.ndarray:
        """Return the pixels of an image: uint8, (H, W) where it is gray, or (H, W, 3) in RGB.

        Args:
            output: (1 or 3, H, W), of the network.
            input_color: The `color` of the network's input.

        Raises:
            PreprocessingError: If the output has another number of channels.
        """
        channels = len(output)
        color = self.color or (input_color if COLORS[input_color] == channels else None)
        color = color or {1: "gray", 3: "RGB"}.get(channels)
        if color is None or COLORS[color] != channels:
            expected = "1 or 3" if color is None else f"{COLORS[color]}, for {color},"
            raise PreprocessingError(
                f"the output has {channels} channels, an image {expected} were expected"
            )
        pixels = output.astype(np.float32)
        if any(one != 1 for one in self.std):
            pixels *= np.asarray(self.std, np.float32).reshape(-1, 1, 1)
        if self.mean:
            pixels += np.asarray(self.mean, np.float32).reshape(-1, 1, 1)
        low, high = self.limits
        if low:
            pixels -= np.float32(low)
        pixels *= np.float32(255 / (high - low))
        result: np.ndarray = np.rint(pixels.clip(0, 255)).astype(np.uint8)
        result = result[::-1] if color == "BGR" else result
        return result[0] if channels == 1 else np.ascontiguousarray(result.transpose(1, 2, 0))

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> ImageToImage:
        """Return what `to_json` described.

        Raises:
            PreprocessingError: If an attribute is unknown or its value is invalid.
        """
        optional = list(_ENTRIES)[1:]
        return cls(**checked_arguments(values, _ENTRIES, optional, "an image output"))


@dataclass(frozen=True)
class SaidOutput:
    """What is said of how outputs become images; what is not said is None or False.

    Attributes:
        range: 1, 255 or (lo, hi): the values that are 0 and 255 in the image.
        color: `RGB`, `BGR` or `gray`.
        mean: Whether the mean and std of the input are undone.
    """

    range: ValueRange | None = None
    color: str | None = None
    mean: bool = False

    @classmethod
    def of(
        cls, range: Sequence[float] | None = None, color: str | None = None, mean: bool = False
    ) -> SaidOutput:
        """Return what numbers, a name and a flag say.

        Raises:
            PreprocessingError: If the range is none.
        """
        if range is None:
            return cls(None, color, mean)
        try:
            return cls(as_value_range(tuple(range)), color, mean)
        except PreprocessingError:
            words = ",".join(f"{one:g}" for one in range)
            raise PreprocessingError(
                f"output_range={words}: 1, 255 or two ascending numbers with a comma between, such "
                "as -1,1, were expected"
            ) from None

    def over(self, known: ImageToImage | None, preprocessing: Preprocessing) -> ImageToImage:
        """Return how outputs become images, with what is said in place of what is known.

        Args:
            known: What the model says; None if it says nothing: outputs are as inputs, without mean
                and std.
            preprocessing: That of the model's input.

        Example:
            >>> vgg = Preprocessing("BGR", value_range=255, mean=(103.9, 116.8, 123.7))
            >>> SaidOutput(mean=True).over(None, vgg).mean
            (103.9, 116.8, 123.7)
        """
        result = known or ImageToImage(preprocessing.value_range)
        if self.range is not None:
            result = replace(result, value_range=self.range, mean=(), std=())
        if self.mean:
            result = replace(result, mean=preprocessing.mean, std=preprocessing.std)
        return result if self.color is None else replace(result, color=self.color)

    def require_same(self, known: ImageToImage | None, preprocessing: Preprocessing) -> None:
        """Check that all that is said holds for what a saved model or an `.onnx` file says.

        Raises:
            PreprocessingError: If it has another value.
        """
        if known is None:
            # The file leaves it open.
            return
        own, said = known, self.over(known, preprocessing)
        named = {"output_range": "value_range", "output_color": "color", "output_mean": "mean"}
        for option, name in named.items():
            given, value = getattr(said, name), getattr(own, name)
            if name == "color":
                value = value or preprocessing.color
                given = given or preprocessing.color
            if given != value:
                raise PreprocessingError(f"{option}=… is not the model's own, which is {value}")


#: Outputs are as inputs, or as the model says.
NO_OUTPUT_SAID = SaidOutput()
