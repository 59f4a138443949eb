"""The classes of one stream, and how the bodies of their instances are laid out."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ..class_layouts import ONE_OBJECT, ClassLayout, possible_bodies
from ..types import STORAGE_DTYPES, TENSOR_DTYPES

#: How an instance begins: the version of its class and its name; old files only have the name.
ClassHeader: TypeAlias = tuple[str | bytes, str | bytes | None]

#: Characters of a class name; more, or what cannot be printed, is none.
_LONGEST_NAME = 200

#: How nearly all instances begin in a binary stream of this machine's byte order: with the size of
#: a version of one digit; and the bytes up to the name.
_VERSION, _START = struct.pack("=i2s", 3, b"V "), 11


@dataclass(slots=True)
class Guess:
    """A class whose body may have several layouts.

    Attributes:
        offset: where the body of the first instance begins.
        is_outermost: whether the first instance is the value itself.
        last: where the body of the last instance begins.
        is_table: whether all bodies hold a table, as what Torch writes by default does.
    """

    offset: int
    is_outermost: bool
    last: int
    is_table: bool = True


@dataclass(slots=True)
class LuaClass:
    """A class of the stream.

    Attributes:
        name: `nn.Linear`.
        version: that the stream names, or 0.
        body: how its instances are laid out.
        layout: the same where the class does not tell, otherwise `None`.
        is_certain: whether there is no other way.
        is_table: whether its instances most likely are one table.
    """

    name: str
    version: int | str
    body: ClassLayout
    layout: ClassLayout | None
    is_certain: bool
    is_table: bool


class Classes:
    """The classes that a stream names, each looked at once.

    Args:
        bodies: class name → layout of its bodies, where it is not the likeliest.
        long_size: bytes of a C long in the stream.

    Attributes:
        guesses: class name → what is guessed of its instances.
    """

    def __init__(self, bodies: Mapping[str, ClassLayout], long_size: int) -> None:
        self._bodies = bodies
        self._long_size = long_size
        self._by_header: dict[ClassHeader, LuaClass] = {}
        self._by_bytes: dict[bytes, LuaClass] = {}
        self.guesses: dict[str, Guess] = {}

    def of(self, header: ClassHeader) -> LuaClass | None:
        """The class that a header names, `None` where it names none."""
        known = self._by_header.get(header)
        if known is None and (known := self._understand(*header)) is not None:
            self._by_header[header] = known
        return known

    def of_bytes(self, raw: bytes) -> LuaClass | None:
        """The class that the first bytes of an instance name.

        `None` where they do not have the usual form, which is that of a 64-bit machine of this
        byte order and a version of one digit.

        Raises:
            UnicodeDecodeError: when the name is no text.
        """
        known = self._by_bytes.get(raw)
        if known is None and raw.startswith(_VERSION):
            known = self.of((raw[4:7].decode(), raw[_START:].decode()))
            if known is not None:
                self._by_bytes[raw] = known
        return known

    def begin(self, lua_class: LuaClass, offset: int, *, is_outermost: bool = False) -> None:
        """Remember where the body of an instance begins, if its layout is a guess."""
        if lua_class.is_certain:
            return
        guess = self.guesses.get(lua_class.name)
        if guess is None:
            self.guesses[lua_class.name] = Guess(offset, is_outermost, offset)
        else:
            guess.last = offset

    def _understand(self, first: str | bytes, second: str | bytes | None) -> LuaClass | None:
        version: int | str = 0
        name = first
        if second is not None:
            text, name = str(first)[2:], second
            number = text.removesuffix(".0")
            is_number = len(number) < 10 and number.isascii() and number.isdigit()
            version = int(number) if is_number else text
        if not isinstance(name, str) or len(name) > _LONGEST_NAME or not name.isprintable():
            return None
        possible = possible_bodies(name, version, self._long_size)
        body = possible[0] if len(possible) == 1 else self._bodies.get(name, possible[0])
        layout = None if body == possible[0] else body
        is_array = name in TENSOR_DTYPES or name in STORAGE_DTYPES
        is_table = body is ONE_OBJECT and not is_array
        return LuaClass(name, version, body, layout, len(possible) == 1, is_table)
