"""Small changes to a Python file, each of which a test should notice."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

#: Each operator, and what is put in its place.
_SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Add, ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
#: What does not compute: annotations, decorators, and the texts of errors.
_SKIPPED = ("annotation", "returns", "decorator_list", "exc", "cause", "msg")


class Mutant(NamedTuple):
    """A file with one change.

    Attributes:
        file: Its path inside the package.
        line: Where it is changed.
        old: What stood there.
        new: What stands there now.
        source: The whole file.
    """

    file: str
    line: int
    old: str
    new: str
    source: bytes

    def __str__(self) -> str:
        old, new = (" ".join(text.split()) for text in (self.old, self.new))
        return f"{self.file}:{self.line}: {old}  →  {new}"


def mutants_of(file: Path, root: Path) -> Iterator[Mutant]:
    """Yield every change to a file.

    Args:
        file: The file.
        root: The package's folder.
    """
    source = file.read_bytes()
    starts = [0, *(at + 1 for at, byte in enumerate(source) if byte == ord("\n"))]
    for node in _computing(ast.parse(source)):
        for old, new in _changes(node):
            start = starts[old.lineno - 1] + old.col_offset
            stop = starts[old.end_lineno - 1] + old.end_col_offset
            text = ast.unparse(ast.fix_missing_locations(new))
            text = f"({text})" if isinstance(new, ast.expr) else text
            changed = source[:start] + text.encode() + source[stop:]
            name = file.relative_to(root).as_posix()
            yield Mutant(name, old.lineno, source[start:stop].decode(), text, changed)


def _computing(tree: ast.AST) -> Iterator[Any]:
    """Yield the nodes of a tree that compute something; zip's `strict` only guards."""
    yield tree
    for field, value in ast.iter_fields(tree):
        if field not in _SKIPPED:
            for child in value if isinstance(value, list) else [value]:
                guard = isinstance(child, ast.keyword) and child.arg == "strict"
                if (
                    isinstance(child, ast.AST)
                    and not guard
                    and not isinstance(child, ast.JoinedStr)
                ):
                    yield from _computing(child)


def _changes(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what is replaced in a node, and by what."""
    if isinstance(node, (ast.BinOp, ast.BoolOp)) and type(node.op) in _SWAPS:
        yield node, _with(node, op=_SWAPS[type(node.op)]())
    match node:
        case ast.Compare(ops=[operator, *others]):
            yield node, _with(node, ops=[_SWAPS[type(operator)](), *others])
        case ast.Constant(value=bool(value)):
            yield node, ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            yield node, ast.Constant(value + 1)
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield node, operand
        case ast.If(test=test) | ast.IfExp(test=test) | ast.comprehension(ifs=[test, *_]):
            yield test, ast.Constant(True)
            yield test, ast.Constant(False)
        case ast.Return(value=ast.expr()) if not isinstance(node.value, ast.Constant):
            yield node, ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Raise() | ast.Continue():
            yield node, ast.Pass()
        case ast.Call(args=[first, second, *rest]):
            yield node, _with(node, args=[second, first, *rest])
    for keyword in node.keywords if isinstance(node, ast.Call) else []:
        if keyword.arg != "strict":
            rest = [each for each in node.keywords if each is not keyword]
            yield node, _with(node, keywords=rest)


def _with(node: Any, **fields: Any) -> Any:
    """Return a copy of a node with other fields."""
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed
