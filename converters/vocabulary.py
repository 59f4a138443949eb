"""Vocabularies: the characters, words or symbols that the numbers of a network stand for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .numbered_names import numbered_names
from .validation import check_entries, list_of, one_of, optional, text, whole

#: How the bytes of tokens become the texts that files hold.
UTF_8, BYTES = "utf-8", "latin-1"

#: The fewest tokens of a vocabulary.
_FEWEST = 2


@dataclass(frozen=True)
class Vocabulary:
    r"""What the numbers of a network's inputs or outputs stand for.

    Attributes:
        lua_path: Where it stands in the `.t7`.
        tokens: The tokens in the order of their numbers; None for a number without one.
        first_index: The number of the first token: 1 in Torch7, sometimes 0.
        encoding: `utf-8`; or `latin-1`, where tokens are bytes that are no text of their own, such
            as parts of a character: each character of `tokens` is then a byte.

    Example:
        >>> vocabulary = Vocabulary("vocab", ("a", "\xe2"), 1, "latin-1")
        >>> vocabulary.as_bytes(2)
        b'\xe2'
    """

    lua_path: str
    tokens: tuple[str | None, ...]
    first_index: int = 1
    encoding: str = UTF_8

    def as_bytes(self, number: int) -> bytes:
        """Return the bytes of the token with a number.

        Raises:
            KeyError: If there is none.
        """
        place = number - self.first_index
        token = self.tokens[place] if 0 <= place < len(self.tokens) else None
        if token is None:
            raise KeyError(number)
        return token.encode(self.encoding)

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as JSON values."""
        return {
            "lua_path": self.lua_path,
            "first_index": self.first_index,
            "encoding": self.encoding,
            "entries": list(self.tokens),
        }

    @classmethod
    def from_json(cls, values: Any) -> Vocabulary:
        """Return the vocabulary that `to_json` described.

        Raises:
            ValueError: If it is none.
        """
        check_vocabulary(values, "it")
        return cls(
            values["lua_path"], tuple(values["entries"]), values["first_index"], values["encoding"]
        )


def read_vocabulary(value: Any, path: str) -> Vocabulary | None:
    """Return the vocabulary in a value of a `.t7`; None if it is none.

    Args:
        value: The value (see `numbered_names`).
        path: Its path.

    Example:
        >>> from torchlift.converters.t7 import LuaTable
        >>> read_vocabulary(LuaTable({"b": 2, "a": 1}), "vocab").tokens
        ('a', 'b')
    """
    by_number = numbered_names(value)
    if by_number is None or not all(isinstance(name, (str, bytes)) for name in by_number.values()):
        return None
    first, last = next(iter(by_number)), next(reversed(by_number))
    if len(by_number) < _FEWEST or first < 0 or last > 2 * len(by_number):
        return None
    encoding = BYTES if any(isinstance(name, bytes) for name in by_number.values()) else UTF_8
    tokens = [by_number.get(number) for number in range(first, last + 1)]
    return Vocabulary(path, tuple(_spelled(token, encoding) for token in tokens), first, encoding)


def check_vocabulary(value: Any, where: str) -> None:
    """Check what a file says of a vocabulary.

    Raises:
        ValueError: If it is none.
    """
    check_entries(value, _ENTRIES, where)
    is_bytes = value["encoding"] == BYTES
    if is_bytes and any(token and max(token) > "\xff" for token in value["entries"]):
        raise ValueError(f"{where}.entries holds a character that is no byte")


def without_repetitions(vocabularies: Iterable[Vocabulary]) -> list[Vocabulary]:
    """Leave out vocabularies whose tokens stand a second time in the same table.

    Projects keep the numbers of the tokens beside the tokens of the numbers.
    """
    kept = dict[tuple[object, ...], Vocabulary]()
    for one in vocabularies:
        table = re.sub(r"(\.[^.\[]+|\[[^\[]*\])$", "", f".{one.lua_path}")
        kept.setdefault((table, one.tokens, one.first_index, one.encoding), one)
    return list(kept.values())


def _spelled(token: str | bytes | None, encoding: str) -> str | None:
    """Return a token as text: with `latin-1`, a character for each of its bytes."""
    if token is None or (isinstance(token, str) and encoding == UTF_8):
        return token
    data = token.encode() if isinstance(token, str) else token
    return data.decode(encoding)


_ENTRIES = {
    "lua_path": text,
    "entries": list_of(optional(text)),
    "first_index": whole(),
    "encoding": one_of(UTF_8, BYTES),
}
