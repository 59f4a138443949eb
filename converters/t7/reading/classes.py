"""The classes in a stream and the layouts of their instances."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ..class_layouts import ONE_OBJECT, ClassLayout, is_class_name, possible_layouts
from ..types import STORAGE_DTYPES, TENSOR_DTYPES

#: The start of an instance: the version of its class and its name; in old files only the name.
ClassHeader: TypeAlias = tuple[str | bytes, str | bytes | None]

#: The start of nearly all instances in a binary stream of this machine's byte order: the length of
#: a version of one digit, and "V ". The name begins at `_NAME_START`.
_VERSION_PREFIX, _NAME_START = struct.pack("=i2s", 3, b"V "), 11


@dataclass(slots=True)
class Guess:
    """A class whose layout in this stream was guessed.

    Attributes:
        first_offset: Offset of the body of the first instance.
        first_is_outermost: Whether the first instance is an outermost value of the file.
        last_offset: Offset of the body of the last instance.
        is_table: Whether every body holds a table, as `torch.File` writes by default.
    """

    first_offset: int
    first_is_outermost: bool
    last_offset: int
    is_table: bool = True


@dataclass(slots=True)
class LuaClass:
    """A class of the stream.

    Attributes:
        name: `nn.Linear`.
        version: The version in the stream, or 0.
        layout: The layout used for its instances.
        unusual_layout: The same if it is not the most probable one for the class, else None.
        is_certain: Whether no other layout is possible.
        is_table: Whether an instance is most likely one table.
    """

    name: str
    version: int | str
    layout: ClassLayout
    unusual_layout: ClassLayout | None
    is_certain: bool
    is_table: bool


class Classes:
    """The classes in a stream, each resolved once.

    Args:
        layouts: Class name → layout, for classes that do not use the most probable one.
        long_size: Bytes of a C long in the stream.

    Attributes:
        guesses: Class name → the guess about its instances.
    """

    def __init__(self, layouts: Mapping[str, ClassLayout], long_size: int) -> None:
        self._layouts = layouts
        self._long_size = long_size
        self._by_header: dict[ClassHeader, LuaClass] = {}
        self._by_header_bytes: dict[bytes, LuaClass] = {}
        self.guesses: dict[str, Guess] = {}

    def find(self, header: ClassHeader) -> LuaClass | None:
        """Return the class with a header, or None if the header is not that of a class."""
        lua_class = self._by_header.get(header)
        if lua_class is None and (lua_class := self._resolve(*header)) is not None:
            self._by_header[header] = lua_class
        return lua_class

    def find_by_bytes(self, raw: bytes) -> LuaClass | None:
        """Return the class with a header in the stream's bytes.

        Returns:
            The class, or None if the bytes do not have the usual form: written by a 64-bit machine
            of this byte order, with a version of one digit.

        Raises:
            UnicodeDecodeError: If the name is not UTF-8.
        """
        lua_class = self._by_header_bytes.get(raw)
        if lua_class is None and raw.startswith(_VERSION_PREFIX):
            lua_class = self.find((raw[4:7].decode(), raw[_NAME_START:].decode()))
            if lua_class is not None:
                self._by_header_bytes[raw] = lua_class
        return lua_class

    def record_instance(
        self, lua_class: LuaClass, offset: int, *, is_outermost: bool = False
    ) -> None:
        """Record the offset of an instance's body if its layout is a guess."""
        if lua_class.is_certain:
            return
        guess = self.guesses.get(lua_class.name)
        if guess is None:
            self.guesses[lua_class.name] = Guess(offset, is_outermost, offset)
        else:
            guess.last_offset = offset

    def _resolve(self, first: str | bytes, second: str | bytes | None) -> LuaClass | None:
        version: int | str = 0
        name = first
        if second is not None:
            text, name = str(first)[2:], second
            # Lua 5.3 writes "V 1.0".
            digits = text.removesuffix(".0")
            is_number = len(digits) < 10 and digits.isascii() and digits.isdigit()
            version = int(digits) if is_number else text
        if not isinstance(name, str) or not is_class_name(name):
            return None
        possible = possible_layouts(name, version, self._long_size)
        is_certain = len(possible) == 1
        layout = possible[0] if is_certain else self._layouts.get(name, possible[0])
        unusual_layout = None if layout == possible[0] else layout
        is_array = name in TENSOR_DTYPES or name in STORAGE_DTYPES
        is_table = layout is ONE_OBJECT and not is_array
        return LuaClass(name, version, layout, unusual_layout, is_certain, is_table)
