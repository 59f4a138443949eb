"""Differences between the entries of two files, the largest first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

#: What is compared: numbers by how far they are apart, everything else by whether it is equal.
Entry: TypeAlias = np.ndarray | str | bytes | bool | int | float | list[Any]

#: Characters of a text that are shown.
_SHOWN = 60


@dataclass(frozen=True)
class Difference:
    """An entry that is not the same in two files.

    Attributes:
        path: Where it is: a Lua path, or the name of a tensor, layer or setting.
        text: How it differs, for people.
        kind: `values`; or `shape`, `dtype`, `setting`, or `missing` in one of the files.
        largest: The largest absolute difference of two numbers; None where that is no number.
        differing: How many numbers differ.
        count: How many numbers there are.
    """

    path: str
    text: str
    kind: str
    largest: float | None = None
    differing: int = 0
    count: int = 0


def differences(first: Mapping[str, Entry], second: Mapping[str, Entry]) -> list[Difference]:
    """Return every difference between two files' entries.

    Those that are no matter of size come first, then those of numbers, the largest first.

    Args:
        first: The entries of one file, by their paths.
        second: Those of the other.

    Example:
        >>> found = differences({"a": 1, "b": np.zeros(2)}, {"a": 1, "b": np.array([0, 0.5])})
        >>> [(each.path, each.text) for each in found]
        [('b', 'differs by up to 0.5, in 1 of 2 numbers')]
    """
    found = [
        difference
        for path in [*first, *(path for path in second if path not in first)]
        if (difference := _of_entry(path, first.get(path), second.get(path)))
    ]
    return sorted(found, key=lambda each: -math.inf if each.largest is None else -each.largest)


def _of_entry(path: str, first: Entry | None, second: Entry | None) -> Difference | None:
    if first is None or second is None:
        present, where = (second, "second") if first is None else (first, "first")
        return Difference(path, f"only in the {where}: {_shown(present)}", "missing")
    if _is_numbers(first) and _is_numbers(second):
        return _of_numbers(path, np.asarray(first), np.asarray(second))
    if _is_same(first, second):
        return None
    return Difference(path, f"{_shown(first)} | {_shown(second)}", "setting")


def _is_same(first: Any, second: Any) -> bool:
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_is_same, first, second))
    if isinstance(first, np.ndarray) or isinstance(second, np.ndarray):
        return False  # The other one holds no numbers.
    # In Python `True == 1`.
    return isinstance(first, bool) is isinstance(second, bool) and bool(first == second)


def _is_numbers(entry: Entry) -> bool:
    if isinstance(entry, np.ndarray):
        return True
    values = entry if isinstance(entry, list) else [entry]
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def _of_numbers(path: str, first: np.ndarray, second: np.ndarray) -> Difference | None:
    if first.shape != second.shape:
        text = f"shape {_sizes(first)} | {_sizes(second)}"
        return Difference(path, text, "shape", count=max(first.size, second.size))
    largest, differing = _distance(first, second)
    if differing:
        text = f"differs by up to {largest:.3g}, in {differing:,} of {first.size:,} numbers"
        if first.size == 1:
            text = f"differs by {largest:.3g}: {first.item()!r} | {second.item()!r}"
        return Difference(path, text, "values", largest, differing, first.size)
    if first.dtype != second.dtype and first.ndim:
        text = f"{first.dtype} | {second.dtype}, with equal values"
        return Difference(path, text, "dtype", 0.0, count=first.size)
    return None


def _distance(first: np.ndarray, second: np.ndarray) -> tuple[float, int]:
    """Return the largest absolute difference, and how many numbers differ; NaN equals NaN."""
    same = first == second
    if first.dtype.kind == "f" and second.dtype.kind == "f":
        same |= np.isnan(first) & np.isnan(second)
    differing = int(same.size - np.count_nonzero(same))
    if not differing:
        return 0.0, 0
    mine, other = (array[~same].astype(np.float64) for array in (first, second))
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(mine - other)
    return float(np.where(np.isnan(apart), np.inf, apart).max()), differing


def _sizes(array: np.ndarray) -> str:
    return "×".join(map(str, array.shape)) or "of one number"


def _shown(entry: Entry | None) -> str:
    """Return an entry in one short line."""
    if isinstance(entry, np.ndarray):
        return f"{entry.dtype} {_sizes(entry)}"
    text = entry if isinstance(entry, str) else repr(entry)
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
