"""Find the format in which a stream parses to its end.

A `.t7` stores neither its encoding, nor the size of its longs, nor the length of an instance's
body. All of these are guessed, and a guess is accepted only if the whole stream then parses. Until
one does, the most promising of the remaining formats is tried next.
"""

from __future__ import annotations

import gc
import heapq
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..class_layouts import ONE_OBJECT, is_known, possible_layouts
from ..errors import T7Error, TruncatedError
from ..values import LuaFunction, LuaObject, LuaTable, TorchArray
from .classes import Guess
from .legacy_layouts import LEGACY_LAYOUTS
from .reader import Reader
from .stream_format import StreamFormat

#: Number of formats to try before the search fails.
_MAX_ATTEMPTS = 64

#: Number of classes whose layouts are varied after a failure: those last seen before it.
_MAX_VARIED_CLASSES = 16

#: Values that have an index in a stream.
_INDEXED_TYPES = (LuaTable, LuaObject, LuaFunction, TorchArray)


@dataclass
class Attempt:
    """The result of reading a stream in one format.

    Attributes:
        format: The format.
        values: The complete objects.
        ends: Offset after each of them.
        trailing_bytes: Number of bytes after the last of them.
        error: The error that ended the attempt, or None if the stream ends with an object.
        guesses: Class name → guess, for classes that may have other layouts.
        anomalies: Offsets of table entries that Torch is unlikely to have written.
    """

    format: StreamFormat
    values: list[Any]
    ends: list[int]
    trailing_bytes: int
    error: T7Error | None
    guesses: dict[str, Guess]
    anomalies: list[int]

    @property
    def value(self) -> Any:
        """The object of the file, or a table of all of them if there are several."""
        return self.values[0] if len(self.values) == 1 else LuaTable.from_list(self.values)

    @property
    def end(self) -> int:
        """Offset after the last object."""
        return self.ends[-1]

    @property
    def furthest(self) -> int:
        """Largest offset that was read without an error."""
        offset = None if self.error is None else self.error.offset
        return max([*self.ends[-1:], offset or 0])

    @property
    def progress(self) -> int:
        """Estimated offset up to which the format is right, to rank attempts."""
        stop = self.ends[0] if self.values else self.furthest
        if not self.values and isinstance(self.error, TruncatedError):
            # The error does not show where the wrong guess was: assume it was the last class.
            stop = max((guess.first_offset for guess in self.guesses.values()), default=0)
        return min([stop, *self.anomalies[:1]])

    def parses(self, single: bool) -> bool:
        """Return whether the stream parsed to its end, with a plausible result.

        Several objects where one was expected are more likely the body of an instance, unless the
        instance is itself outermost and holds a table, as Torch writes by default.
        """
        if self.error is not None or self._has_repeated_value():
            return False
        varied = dict(self.format.layouts)
        several_are_plausible = not single or all(
            guess.is_table and (is_known(name) or (guess.first_is_outermost and name not in varied))
            for name, guess in self.guesses.items()
        )
        return several_are_plausible or len(self.values) == 1

    def ambiguous_classes(self) -> list[tuple[str, Guess]]:
        """Return the classes whose layouts are doubtful, ordered by their last instance."""
        return [
            (name, guess)
            for name, guess in self.guessed_classes()
            if not (guess.is_table and is_known(name))
        ]

    def guessed_classes(self) -> list[tuple[str, Guess]]:
        """Return the classes that may have other layouts, ordered by their last instance."""
        return sorted(self.guesses.items(), key=lambda item: item[1].last_offset)

    def _has_repeated_value(self) -> bool:
        """Return whether an outermost object occurs twice: the indices more likely restarted."""
        ids = [id(value) for value in self.values if isinstance(value, _INDEXED_TYPES)]
        return len(set(ids)) < len(ids) and not self.format.indices_restart


def find_format(buffer: Any, start: int, formats: list[StreamFormat], *, single: bool) -> Attempt:
    """Read all objects of a stream in the first format in which the whole stream parses.

    If there is no such format, but the first object is complete and its layouts are beyond doubt,
    that is the result; its `trailing_bytes` then belong to no object.

    Args:
        buffer: The whole stream.
        start: Offset of its first object.
        formats: Formats to try first; at least one.
        single: Whether one object is expected.

    Raises:
        T7Error: If the stream parses in no format.
    """
    # Nothing becomes garbage during a read, and garbage collection takes half of the time.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return _search(buffer, start, formats, single)
    finally:
        if was_enabled:
            gc.enable()


def _search(buffer: Any, start: int, formats: list[StreamFormat], single: bool) -> Attempt:
    # Formats derived from the attempt with the most progress come first, then the oldest.
    queue = [(-math.inf, order, format) for order, format in enumerate(formats)]
    orders = itertools.count(len(queue))
    queued = set(formats)
    best: Attempt | None = None
    with_anomalies: list[Attempt] = []
    for _ in range(_MAX_ATTEMPTS):
        if not queue:
            break
        *_, format = heapq.heappop(queue)
        attempt = _read_all(buffer, start, format)
        if attempt.parses(single):
            if format in formats or not attempt.anomalies:
                return attempt
            with_anomalies.append(attempt)
            continue
        if format in formats and (best is None or attempt.furthest > best.furthest):
            best = attempt
        for alternative in _alternatives(attempt):
            if alternative not in queued:
                queued.add(alternative)
                heapq.heappush(queue, (-attempt.progress, next(orders), alternative))
    if with_anomalies:
        return min(with_anomalies, key=lambda attempt: len(attempt.anomalies))
    assert best is not None
    return _accept_incomplete(best, buffer, start)


def _read_all(
    buffer: Any, start: int, format: StreamFormat, stop_offset: int | None = None
) -> Attempt:
    """Read objects in one format until the end of the stream or an error."""
    decoder = format.decoder(buffer, start)
    reader = Reader(decoder, dict(format.layouts), stop_offset)
    values: list[Any] = []
    ends: list[int] = []
    error, trailing_bytes = None, decoder.remaining()
    try:
        while trailing_bytes or not values:
            values.append(reader.read())
            ends.append(decoder.position)
            trailing_bytes = decoder.remaining()
            if format.indices_restart:
                reader.restart_indices()
    except T7Error as caught:
        error = caught
    return Attempt(format, values, ends, trailing_bytes, error, reader.guesses, reader.anomalies)


def _alternatives(attempt: Attempt) -> Iterator[StreamFormat]:
    """Yield further formats to try after a failed attempt, most probable first."""
    format = attempt.format
    if attempt.values and not format.indices_restart:
        yield format._replace(indices_restart=True)
    # Truncated files are common; classes of the known packages with unusual layouts are rare.
    is_truncated = isinstance(attempt.error, TruncatedError)
    if not format.layouts and not is_truncated:
        for layouts in LEGACY_LAYOUTS:
            if layouts.keys() & attempt.guesses.keys():
                yield format._replace(layouts=frozenset(layouts.items()))
    progress = attempt.progress
    before_failure = [
        name for name, guess in attempt.guessed_classes() if guess.first_offset <= progress
    ]
    for name in reversed(before_failure[-_MAX_VARIED_CLASSES:]):
        possible = possible_layouts(name, 1, format.long_size)
        if is_truncated and is_known(name) and possible[0] == ONE_OBJECT:
            continue
        others = dict(format.layouts)
        others.pop(name, None)
        for layout in possible:
            chosen = others if layout == possible[0] else {**others, name: layout}
            yield format._replace(layouts=frozenset(chosen.items()))


def _accept_incomplete(attempt: Attempt, buffer: Any, start: int) -> Attempt:
    """Return an attempt whose first object is beyond doubt, though the rest does not parse.

    Raises:
        T7Error: If there is no such object.
    """
    error = attempt.error
    ambiguous = attempt.ambiguous_classes()
    if error is None or (attempt.values and not ambiguous):
        return attempt
    if not ambiguous:
        raise error
    name, guess = ambiguous[-1]
    # Paths of instances are not recorded while reading: read again, up to this one.
    stopped = _read_all(buffer, start, attempt.format, guess.first_offset).error
    path = None if stopped is None else stopped.path
    if isinstance(error, TruncatedError):
        error.problem += (
            f"; or {name} at {path or 'the root'}, byte {guess.first_offset}, "
            "is written in a way that torchlift does not know"
        )
        raise error
    raise T7Error(
        f"{name} is written in a way that torchlift does not know: the bytes after it do not parse "
        f"({error.problem})",
        offset=guess.first_offset,
        path=path,
    )
