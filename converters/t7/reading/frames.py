"""The containers that a reader is filling: tables, bodies of instances, functions."""

from __future__ import annotations

from typing import Any

from ..paths import path_step
from ..values import LuaFunction, LuaObject, unwrap


class Frame:
    """A container that is being filled: a table, or the parts of an instance or function.

    The latter have the keys 1, 2, … without their being in the file.
    """

    __slots__ = ("entries", "key", "left", "numbered", "parts", "result")

    def __init__(
        self,
        entries: dict[Any, Any],
        left: int,
        result: Any,
        key: Any = None,
        *,
        numbered: bool = False,
        parts: str = "",
    ) -> None:
        self.entries, self.left, self.result = entries, left, result
        self.numbered, self.parts = numbered, parts
        self.key = 1 if numbered else key

    def is_items(self) -> bool:
        """Whether the objects are entries of their own, as those of a tds.Vec are."""
        return type(self.result) is LuaObject and self.entries is self.result.fields._entries

    def step(self) -> str:
        """How the value that is being read is named from the container's path."""
        if type(self.result) is LuaFunction:
            return ".upvalues"
        if self.key is None or (self.numbered and not self.is_items()):
            return ""
        return path_step(unwrap(self.key))
