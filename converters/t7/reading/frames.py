"""The containers that a reader is filling: tables, bodies of instances, functions."""

from __future__ import annotations

from typing import Any

from ..paths import path_step
from ..values import LuaFunction, LuaObject, unwrap_key


class Frame:
    """A container that is being filled: a table, or the parts of an instance or function.

    Parts get the keys 1, 2, …, which are not in the file.

    Args:
        entries: The dict to fill.
        left: Number of entries or parts left.
        result: The container itself.
        key: The key whose value comes next; None if a key comes next.
        numbered: Whether to fill parts rather than entries with keys.
        parts: Letters of all parts (see `ClassLayout`), if some are not objects.
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

    def fills_items(self) -> bool:
        """Return whether the parts are entries of the container, as those of a tds.Vec."""
        return type(self.result) is LuaObject and self.entries is self.result.fields._entries

    def step(self) -> str:
        """Return the step of a path from the container to the value that is being read."""
        if type(self.result) is LuaFunction:
            return ".upvalues"
        if self.key is None or (self.numbered and not self.fills_items()):
            return ""
        return path_step(unwrap_key(self.key))
