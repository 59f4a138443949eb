"""Mean and std in the tables `{mean = …, std = …}` that Torch7 projects keep beside a model."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import t7
from ..t7 import LuaTable
from ..validation import read_json, read_yaml
from .errors import PreprocessingError
from .normalization import Normalization
from .preprocessing import Preprocessing, ValueRange

#: What reads each kind of text.
_TEXT_READERS: dict[str, Callable[[str], Any]] = {
    ".json": read_json,
    ".yaml": read_yaml,
    ".yml": read_yaml,
}

#: Mean and std, where they stand without names.
_PAIR = 2


def from_mean_std(
    value: Any,
    input_shape: Sequence[int] | None = None,
    value_range: ValueRange | None = None,
    resize: str | None = None,
) -> tuple[Preprocessing, str]:
    """Return the preprocessing that a table `{mean = …, std = …}` defines, and a note about it.

    Channels are taken to be in the order RGB. The range of values follows from the numbers as in
    `Normalization.preprocessing`.

    Args:
        value: What `t7.load` returned: a table whose `mean` and `std` are lists, tensors or
            numbers, each with one number for all channels or one per channel. Without `std` it is
            1; a list of two is {mean, std} too.
        input_shape: (C, H, W) of the network, as for `Normalization.preprocessing`.
        value_range: 1, 255 or (lo, hi); inferred from the numbers by default.
        resize: How images are resized, as `Preprocessing.resized_by` takes it.

    Returns:
        The preprocessing, and one line that says what the table left open.

    Raises:
        PreprocessingError: If mean is missing or does not fit the channels, or if the numbers fit
            any value range and none is given or do not fit the one that is given.

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
    found = read_mean_std(value)
    if found is None:
        raise PreprocessingError("a table {mean = …, std = …} was expected")
    said = Normalization(found.mean, found.std, found.color, value_range)
    return said.preprocessing(input_shape, resize=resize)


def read_mean_std(value: Any) -> Normalization | None:
    """Return the mean and std of a table; None if it has no mean.

    Args:
        value: What `t7.load` returned (see `from_mean_std`).

    Raises:
        PreprocessingError: If they are not lists of numbers.
    """
    if not isinstance(value, LuaTable):
        return None
    if len(value) == _PAIR and value.is_list():
        value = LuaTable({"mean": value[1], "std": value[2]})
    if "mean" not in value:
        return None
    if isinstance(value["mean"], LuaTable) and {"y", "u", "v"} <= set(value["mean"].keys()):
        raise PreprocessingError("mean is of YUV images")
    std = value.get("std")
    return Normalization(
        _numbers(value["mean"], "mean"), None if std is None else _numbers(std, "std")
    )


def read_mean_std_file(file: str | os.PathLike[str]) -> Normalization | None:
    """Return the mean and std in a `.t7`, JSON or YAML file; None if it has no mean.

    Raises:
        T7Error: If a `.t7` cannot be read.
        PreprocessingError: If the file cannot be read, or they are not lists of numbers.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp()) / "pixels.json"
        >>> _ = path.write_text('{"mean": [0.4, 0.5, 0.6], "std": 0.25}')
        >>> read_mean_std_file(path).mean
        (0.4, 0.5, 0.6)
    """
    path = Path(file)
    if path.suffix.lower() not in _TEXT_READERS:
        return read_mean_std(t7.load(path))
    try:
        table = _TEXT_READERS[path.suffix.lower()](path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PreprocessingError(f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise PreprocessingError(f"cannot be read: {error}") from None
    if isinstance(table, list):
        table = dict(zip(("mean", "std"), table, strict=False)) if len(table) == _PAIR else {}
    return read_mean_std(LuaTable(table)) if isinstance(table, dict) else None


def with_table(
    given: Normalization, name: str, mean_std: str | os.PathLike[str] | LuaTable
) -> tuple[Normalization, str]:
    """Return what is said with the numbers of a table or a file of it, and what names them.

    Args:
        given: What is said beside.
        name: What messages call the table.
        mean_std: A table, or a file (see `read_mean_std_file`).

    Raises:
        PreprocessingError: If there is no mean, or mean and std are given twice.
    """
    if given.mean is not None or given.std is not None:
        raise PreprocessingError("mean_std=… holds mean and std: leave out mean=… and std=…")
    try:
        if isinstance(mean_std, LuaTable):
            found = read_mean_std(mean_std)
        else:
            name = os.fspath(mean_std)
            found = read_mean_std_file(mean_std)
    except PreprocessingError as error:
        raise PreprocessingError(f"{name}: {error}") from None
    if found is None:
        raise PreprocessingError(f"{name}: a table {{mean = …, std = …}} was expected")
    return given.over(found), name


def _numbers(value: Any, name: str) -> tuple[float, ...]:
    """Return a list, tensor or number of a `.t7` as floats: one, or one for each channel."""
    try:
        values = value.to_list() if isinstance(value, LuaTable) else value
        numbers = np.ravel(np.asarray(values, np.float64))
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if not numbers.size or not np.isfinite(numbers).all():
        raise PreprocessingError(f"{name} is not a list of numbers")
    if numbers.size not in (1, 3):
        shape = "×".join(map(str, np.shape(values)))
        raise PreprocessingError(f"{name} has {numbers.size} numbers ({shape}), not 1 or 3")
    return tuple(numbers.tolist())
