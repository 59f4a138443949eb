"""Errors and warnings about `.t7` files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from ..errors import TorchliftError

_Item = TypeVar("_Item")

#: Number of steps shown at each end of a long path; those in the middle are omitted.
_STEPS_AT_EACH_END = 16


class T7Error(TorchliftError):
    """A `.t7` file that cannot be read, or a value that cannot be written to one.

    Attributes:
        problem: What was expected and what was found.
        source: The file's name, or a placeholder such as `<bytes>`.
        offset: Byte offset of the problem in the (decompressed) stream.
        path: Path of the problem inside the value, such as `model.modules[3].weight`.
    """

    def __init__(
        self,
        problem: str,
        *,
        source: str | None = None,
        offset: int | None = None,
        path: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.source = source
        self.offset = offset
        self.path = path

    def __str__(self) -> str:
        places = [] if self.path is None else [f"at {self.path}"]
        places += [] if self.offset is None else [f"byte {self.offset}"]
        suffix = f" ({', '.join(places)})" if places else ""
        prefix = f"{self.source}: " if self.source else ""
        return f"{prefix}{self.problem}{suffix}"


class TruncatedError(T7Error):
    """A `.t7` file that ends before all of its declared contents."""

    @classmethod
    def of(cls, what: str, needed: int, left: int, offset: int) -> TruncatedError:
        """Return the error for something of `needed` bytes at `offset` where only `left` remain."""
        return cls(
            f"{what} needs {needed:,} bytes and {left:,} are left; "
            "the file is truncated or damaged (download or copy it again)",
            offset=offset,
        )


class T7Warning(UserWarning):
    """A `.t7` file that can be read but has an anomaly, such as extra bytes at its end."""


def abbreviated_path(stack: Sequence[_Item], step: Callable[[_Item], str]) -> str | None:
    """Return the path to the innermost of nested containers, without the middle of a long one.

    Args:
        stack: The containers, outermost first.
        step: Returns one container's part of the path, such as `.name` or `[1]`.

    Returns:
        The path, or None for the outermost value itself.
    """
    steps = [step(item) for item in stack[:_STEPS_AT_EACH_END]]
    if len(stack) > 2 * _STEPS_AT_EACH_END:
        steps.append(" … ")
    steps += [step(item) for item in stack[_STEPS_AT_EACH_END:][-_STEPS_AT_EACH_END:]]
    return "".join(steps).removeprefix(".") or None
