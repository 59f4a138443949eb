"""Python expressions as text, broken over lines as ruff does it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

#: Columns of a line, in our own sources and in what is made of them.
WIDTH = 100


@dataclass(frozen=True)
class Group:
    """Items between brackets: on one line where they fit, otherwise one a line.

    Attributes:
        opening: what stands before the items, such as `nn.Linear(`.
        items: the items.
        closing: the bracket that closes them.
    """

    opening: str
    items: Sequence[Expression]
    closing: str


#: Text that is never broken, or a group.
Expression: TypeAlias = str | Group


def literal(value: Any, tuples: bool = False) -> Expression:
    """A JSON value as an expression.

    Args:
        value: None, a number, text, or lists of them.
        tuples: write lists as tuples.
    """
    if isinstance(value, (list, tuple)):
        items = [literal(item, tuples) for item in value]
        if not tuples:
            return Group("[", items, "]")
        return Group("(", items, ",)" if len(items) == 1 else ")")
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    return repr(value)


def keyword(name: str, value: Expression) -> Expression:
    """`name=value`."""
    if isinstance(value, str):
        return f"{name}={value}"
    return Group(f"{name}={value.opening}", value.items, value.closing)


def render(expression: Expression, indent: int = 0, after: int = 0) -> str:
    """The expression's source; its first line is not indented.

    Args:
        expression: what to write.
        indent: columns before the line that it begins in.
        after: columns of what follows in the line that it ends in.
    """
    flat = _flat(expression)
    if isinstance(expression, str) or indent + len(flat) + after <= WIDTH:
        return flat
    inner = indent + 4
    lines = [f"{' ' * inner}{render(item, inner, after=1)},\n" for item in expression.items]
    return f"{expression.opening}\n{''.join(lines)}{' ' * indent}{expression.closing.lstrip(',')}"


def statement(before: str, expression: Expression, indent: int) -> str:
    """`before` and an expression as one statement, such as `return` or an assignment."""
    whole = (
        f"{before}{expression}"
        if isinstance(expression, str)
        else Group(f"{before}{expression.opening}", expression.items, expression.closing)
    )
    return " " * indent + render(whole, indent)


def _flat(expression: Expression) -> str:
    if isinstance(expression, str):
        return expression
    return f"{expression.opening}{', '.join(map(_flat, expression.items))}{expression.closing}"
