"""Finding the way in which a stream makes sense.

A `.t7` names neither its format nor the size of its longs, and not how long the body of an
instance is. All of that is guessed, and a guess is only accepted if the stream then parses to its
end; until one does, the likeliest of the remaining ones is tried.
"""

from __future__ import annotations

import gc
import heapq
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..class_layouts import ONE_OBJECT, is_known, possible_bodies
from ..errors import T7Error, TruncatedError
from ..values import LuaFunction, LuaObject, LuaTable, TorchArray
from .classes import Guess
from .legacy_layouts import LEGACY_LAYOUTS
from .reader import Reader
from .variants import Interpretation

#: How often a stream is parsed before its own error is believed.
_TRIES = 64

#: Classes that are looked at where a stream stops making sense: those that began last before it.
_RECENT = 16

#: What is numbered in a stream.
_INDEXED = (LuaTable, LuaObject, LuaFunction, TorchArray)


@dataclass
class Attempt:
    """What came of reading a stream in one way.

    Attributes:
        how: the way.
        values: the objects that were complete.
        ends: offsets after each of them.
        left: bytes after the last.
        error: why there are no more, or `None` where the stream ends with an object.
        guesses: classes whose bodies may have other layouts.
        oddities: offsets of entries of tables that Torch would hardly have written so.
    """

    how: Interpretation
    values: list[Any]
    ends: list[int]
    left: int
    error: T7Error | None
    guesses: dict[str, Guess]
    oddities: list[int]

    @property
    def value(self) -> Any:
        """The object of the file, or a table of them all where there are several."""
        return self.values[0] if len(self.values) == 1 else LuaTable.from_list(self.values)

    @property
    def end(self) -> int:
        """Offset after the last object."""
        return self.ends[-1]

    @property
    def reach(self) -> int:
        """How far the stream could be read."""
        offset = None if self.error is None else self.error.offset
        return max([*self.ends[-1:], offset or 0])

    @property
    def progress(self) -> int:
        """How far the stream made sense, as far as one can tell."""
        stop = self.ends[0] if self.values else self.reach
        if not self.values and isinstance(self.error, TruncatedError):
            # It swallowed all without a hint of where it went wrong: the last class is as good
            # a guess as any.
            stop = max((guess.offset for guess in self.guesses.values()), default=0)
        return min([stop, *self.oddities[:1]])

    def is_sound(self, single: bool) -> bool:
        """Whether the stream parsed to its end.

        Where one object was expected and several came, an instance has more likely written them,
        unless it is the outermost object itself and wrote a table, as Torch does by default.
        """
        if self.error is not None or self._repeats():
            return False
        tried = dict(self.how.bodies)
        several_are_fine = not single or all(
            guess.is_table and (is_known(name) or (guess.is_outermost and name not in tried))
            for name, guess in self.guesses.items()
        )
        return several_are_fine or len(self.values) == 1

    def suspects(self) -> list[tuple[str, Guess]]:
        """The classes whose layouts are in doubt, the last one seen at the end."""
        return [
            (name, guess)
            for name, guess in self.recent()
            if not (guess.is_table and is_known(name))
        ]

    def recent(self) -> list[tuple[str, Guess]]:
        """The classes whose bodies may have other layouts, the last one seen at the end."""
        return sorted(self.guesses.items(), key=lambda item: item[1].last)

    def _repeats(self) -> bool:
        """Whether an outermost object came twice: more likely, the numbering started anew."""
        objects = [id(value) for value in self.values if isinstance(value, _INDEXED)]
        return len(set(objects)) < len(objects) and not self.how.restarts


def interpret(
    buffer: Any, start: int, interpretations: list[Interpretation], *, single: bool
) -> Attempt:
    """Read all objects of a stream, in the first way that makes sense of all of it.

    Where none does but the outermost object is complete, and nothing in it is in doubt, that is
    the result too; its `left` bytes are then no object.

    Args:
        buffer: the whole stream.
        start: offset of its first object.
        interpretations: what to try first; at least one.
        single: one object is expected.

    Raises:
        T7Error: when nothing makes sense of it.
    """
    # Nothing that is being read can be garbage: looking for it takes half of the time.
    collects = gc.isenabled()
    gc.disable()
    try:
        return _first_sound(buffer, start, interpretations, single)
    finally:
        if collects:
            gc.enable()


def _first_sound(
    buffer: Any, start: int, interpretations: list[Interpretation], single: bool
) -> Attempt:
    # Those that came furthest first, and among these the oldest.
    waiting = [(-math.inf, order, how) for order, how in enumerate(interpretations)]
    orders = itertools.count(len(waiting))
    known = set(interpretations)
    best: Attempt | None = None
    sound: list[Attempt] = []
    for _ in range(_TRIES):
        if not waiting:
            break
        *_, how = heapq.heappop(waiting)
        attempt = _try(buffer, start, how)
        if attempt.is_sound(single):
            if how in interpretations or not attempt.oddities:
                return attempt
            sound.append(attempt)
            continue
        if how in interpretations and (best is None or attempt.reach > best.reach):
            best = attempt
        for alternative in _alternatives(attempt):
            if alternative not in known:
                known.add(alternative)
                heapq.heappush(waiting, (-attempt.progress, next(orders), alternative))
    if sound:
        return min(sound, key=lambda attempt: len(attempt.oddities))
    assert best is not None
    return _unsound(best, buffer, start)


def _try(buffer: Any, start: int, how: Interpretation, stop: int | None = None) -> Attempt:
    decoder = how.decoder(buffer, start)
    reader = Reader(decoder, dict(how.bodies), stop)
    values: list[Any] = []
    ends: list[int] = []
    error, left = None, decoder.remaining()
    try:
        while left or not values:
            values.append(reader.read())
            ends.append(decoder.position)
            left = decoder.remaining()
            if how.restarts:
                reader.forget()
    except T7Error as caught:
        error = caught
    return Attempt(how, values, ends, left, error, reader.guesses, reader.oddities)


def _alternatives(attempt: Attempt) -> Iterator[Interpretation]:
    """What else an attempt that failed leaves to try, the likeliest first."""
    how = attempt.how
    if attempt.values and not how.restarts:
        yield how._replace(restarts=True)
    # Files that were cut off are many, classes of the packages with odd bodies very few.
    is_cut = isinstance(attempt.error, TruncatedError)
    if not how.bodies and not is_cut:
        for era in LEGACY_LAYOUTS:
            if era.keys() & attempt.guesses.keys():
                yield how._replace(bodies=frozenset(era.items()))
    progress = attempt.progress
    passed = [name for name, guess in attempt.recent() if guess.offset <= progress]
    for name in reversed(passed[-_RECENT:]):
        possible = possible_bodies(name, 1, how.long_size)
        if is_cut and is_known(name) and possible[0] == ONE_OBJECT:
            continue
        others = dict(how.bodies)
        others.pop(name, None)
        for body in possible:
            chosen = others if body == possible[0] else {**others, name: body}
            yield how._replace(bodies=frozenset(chosen.items()))


def _unsound(attempt: Attempt, buffer: Any, start: int) -> Attempt:
    """An attempt whose outermost object is beyond doubt, though something follows it.

    Raises:
        T7Error: when there is none.
    """
    error = attempt.error
    suspects = attempt.suspects()
    if error is None or (attempt.values and not suspects):
        return attempt
    if not suspects:
        raise error
    name, guess = suspects[-1]
    # Nobody asks for the path of a class that fits: it is looked for once more where one does not.
    stopped = _try(buffer, start, attempt.how, guess.offset).error
    path = None if stopped is None else stopped.path
    if isinstance(error, TruncatedError):
        error.problem += (
            f"; or {name} at {path or 'the root'}, byte {guess.offset}, "
            "is written in a way that torchlift does not know"
        )
        raise error
    raise T7Error(
        f"{name} is written in a way that torchlift does not know: what follows it makes no sense "
        f"({error.problem})",
        offset=guess.offset,
        path=path,
    )
