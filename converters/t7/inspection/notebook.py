"""HTML for notebooks: values as trees that unfold. All text of a file is escaped."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from html import escape
from typing import Any

from .tree import Node, value_tree

#: Levels and entries of a level that are shown.
_DEPTH, _ENTRIES = 5, 50


def value_html(value: Any) -> str:
    """Return the tree of a value as HTML without scripts, styles or links.

    Args:
        value: A value that `load` returned.

    Example:
        >>> from torchlift.converters.t7 import LuaTable
        >>> value_html(LuaTable({"epoch": 3}))
        '<details open><summary>table of 1</summary><ul><li><b>epoch</b> 3</li></ul></details>'
    """
    return _html(value_tree(value, _DEPTH, _ENTRIES), is_root=True)


def _html(node: Node, *, is_root: bool = False) -> str:
    name = "" if is_root else f"<b>{as_html(node.name.removeprefix('.'))}</b> "
    same = f" <i>(is {as_html(node.same_as)})</i>" if node.same_as else ""
    line = f"{name}{as_html(node.text)}{same}"
    inside = [_html(child) for child in node.children]
    if node.hidden:
        inside.append(f"<i>{node.hidden:,} more</i>")
    return unfolding(line, inside, is_open=is_root)


def unfolding(line: str, inside: list[str], *, is_open: bool = False) -> str:
    """Return a line of HTML under which others unfold, or the line alone if there are none."""
    if not inside:
        return line
    items = "".join(f"<li>{each}</li>" for each in inside)
    state = " open" if is_open else ""
    return f"<details{state}><summary>{line}</summary><ul>{items}</ul></details>"


def as_html(text: str) -> str:
    """Return a text as HTML that shows it: markup escaped, control characters by their numbers."""
    shown = (
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
    return escape("".join(shown))


class NotebookView:
    """What a notebook shows of an object, as an attribute `_repr_html_` of it.

    It does not keep the object alive, follows a copy, and is left out of a pickle.

    Args:
        of: The object.
        show: Makes the HTML.
    """

    def __init__(self, of: Any, show: Callable[[Any], str]) -> None:
        self._of = weakref.ref(of)
        self._show = show

    def __call__(self) -> str:
        """Return the HTML."""
        return self._show(self._of())

    def __deepcopy__(self, memo: dict[int, Any]) -> NotebookView:
        of = self._of()
        return NotebookView(memo.get(id(of), of), self._show)

    def __reduce__(self) -> Any:
        return (_nothing, ())


def _nothing() -> None:
    return None
