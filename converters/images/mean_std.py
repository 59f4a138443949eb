"""Preprocessing from the tables `{mean = …, std = …}` that Torch7 projects keep beside a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..t7 import LuaTable
from .errors import PreprocessingError
from .preprocessing import Preprocessing


def from_mean_std(
    value: Any,
    input_shape: Sequence[int] | None = None,
    value_range: int | None = None,
    resize: str | None = None,
) -> tuple[Preprocessing, str]:
    """Return the preprocessing that a table `{mean = …, std = …}` defines, and a note about it.

    The table does not say which range of pixel values it was computed on. A mean or std above 1
    implies 0 to 255, numbers within 0 to 1 imply 0 to 1. A mean of 0 with a std of 1 and negative
    numbers fit any range: then `value_range` must be given. Channels are taken to be in the order
    RGB.

    Args:
        value: What `t7.load` returned: a table whose `mean` and `std` are lists, tensors or
            numbers, each with one number for all channels or one per channel.
        input_shape: (C, H, W) of the network. It sets the number of channels and the size to
            resize to; without it the table sets the number of channels, and images keep their size.
        value_range: 1 or 255; inferred from the numbers by default.
        resize: How images are resized, as `Preprocessing.resized_by` takes it; `pil-bilinear` to
            the size of the network's input by default.

    Returns:
        The preprocessing, and one line that says what the table left open.

    Raises:
        PreprocessingError: If mean or std is missing or does not fit the channels, if the numbers
            fit any value range and none is given or do not fit the one that is given, or if there
            is no such method of resizing.

    Example:
        >>> table = LuaTable({"mean": 0.5, "std": 0.25})
        >>> preprocessing, note = from_mean_std(table, (1, 28, 28))
        >>> preprocessing.mean, preprocessing.std, preprocessing.value_range
        ((0.5,), (0.25,), 1)
        >>> for part in note.split("; "):
        ...     print(part)
        mean 0.5 and std 0.25 fit values from 0 to 1
        images are resized to 28×28 by pil-bilinear
    """
    if not isinstance(value, LuaTable) or "mean" not in value or "std" not in value:
        raise PreprocessingError("a table {mean = …, std = …} was expected")
    mean, std = _numbers(value["mean"], "mean"), _numbers(value["std"], "std")
    subject = f"mean {_abbreviated(mean)} and std {_abbreviated(std)}"
    verb = "fit" if value_range is None else "are used for"
    inferred = _infer_value_range(mean, std)
    if value_range == 1 and inferred == 255:
        raise PreprocessingError(
            f"{subject} are for values from 0 to 255, since one is above 1: leave out value_range=1"
        )
    value_range = value_range or inferred
    if value_range is None:
        raise PreprocessingError(
            f"{subject} fit any range of values: give value_range=1 (0 to 1) or value_range=255 "
            "(0 to 255)"
        )
    channels, *size = input_shape or (max(len(mean), len(std)),)
    result = Preprocessing(
        color="gray" if channels == 1 else "RGB",
        size=(size[0], size[1]) if size else None,
        value_range=value_range,
        mean=mean,
        std=std,
    )
    if resize is not None:
        result = result.resized_by(resize)
    order = "" if channels == 1 else ", with channels in the order RGB"
    values = f"values from 0 to {value_range}{order}"
    return result, f"{subject} {verb} {values}; {describe_resizing(result)}"


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


def _infer_value_range(mean: tuple[float, ...], std: tuple[float, ...]) -> int | None:
    """Return 1 or 255, or None if the numbers fit both."""
    numbers = (*mean, *std)
    if min(numbers) < 0 or (set(mean) == {0} and set(std) == {1}):
        return None
    return 255 if max(numbers) > 1 else 1


def _numbers(value: Any, name: str) -> tuple[float, ...]:
    """Return a list, tensor or number of a `.t7` as floats."""
    try:
        values = value.to_list() if isinstance(value, LuaTable) else value
        numbers = np.ravel(np.asarray(values, np.float64))
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if not numbers.size or not np.isfinite(numbers).all():
        raise PreprocessingError(f"{name} is not a list of numbers")
    return tuple(numbers.tolist())


def _abbreviated(numbers: tuple[float, ...]) -> str:
    return f"{numbers[0]:g}{'…' if len(numbers) > 1 else ''}"
