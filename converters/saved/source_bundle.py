"""Copying definitions out of source files, together with everything that they use there."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from symtable import SymbolTable, symtable

from ..modules.registry import layer, register
from .errors import SavedModelError

_PACKAGE = __name__.split(".")[0]
#: Decorators that only register a definition with torchlift, which a copy does not need.
_MARKERS = (layer, register)


@dataclass(frozen=True)
class _File:
    """A parsed source file.

    Attributes:
        lines: The lines of its text.
        nodes: Name → top-level definition.
        scopes: Name → symbol table of a function or class.
        imports: Name → (module, name in that module), the latter empty for a module itself.
    """

    lines: list[str]
    nodes: dict[str, ast.stmt]
    scopes: dict[str, SymbolTable]
    imports: dict[str, tuple[str, str]]

    def needs(self, name: str) -> list[str]:
        """Return the names that a definition uses from its file, sorted."""
        used = _outer_names(self.nodes[name])
        if name in self.scopes:
            used |= _global_names(self.scopes[name])
        return sorted(used - {name})

    def text(self, name: str) -> str:
        """Return the source of a definition, with the comment above it and without markers."""
        node = self.nodes[name]
        decorators = getattr(node, "decorator_list", [])
        start = min([node.lineno, *(decorator.lineno for decorator in decorators)]) - 1
        while start and self.lines[start - 1].startswith("#"):
            start -= 1
        omitted = {
            line - 1
            for decorator in decorators
            if isinstance(decorator, ast.Name)
            and _is_marker(*self.imports.get(decorator.id, ("", "")))
            for line in range(decorator.lineno, (decorator.end_lineno or decorator.lineno) + 1)
        }
        kept = (i for i in range(start, node.end_lineno or node.lineno) if i not in omitted)
        return "\n".join(self.lines[i] for i in kept)


@dataclass
class SourceBundle:
    """Definitions from several files, in an order in which they can be executed.

    Attributes:
        reserved: Names that no definition may have.
        definitions: Name → source, after the sources of everything that it uses.
        imports: Module → the names imported from it; an empty name stands for the module itself.
    """

    reserved: Collection[str] = ()
    definitions: dict[str, str] = field(default_factory=dict)
    imports: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _files: dict[str, _File] = field(default_factory=dict)
    _origins: dict[str, str] = field(default_factory=dict)

    def add(self, module: str, name: str) -> None:
        """Add a top-level definition of a module, after everything that it uses.

        Raises:
            SavedModelError: If its source cannot be found, or its name is taken.
        """
        if name in self.reserved:
            raise SavedModelError(f"{module} defines {name!r}, a name that model.py uses itself")
        if self._origins.setdefault(name, module) != module:
            raise SavedModelError(
                f"{self._origins[name]} and {module} both define {name!r}: "
                "model.py cannot contain both"
            )
        if name in self.definitions:
            return
        file = self._file(module)
        if name not in file.nodes:
            raise SavedModelError(f"{module} does not define {name!r} at its top level")
        self.definitions[name] = ""  # a definition may use itself
        for needed in file.needs(name):
            if needed in file.nodes:
                self.add(module, needed)
            elif needed in file.imports:
                self._import(*file.imports[needed], needed)
        del self.definitions[name]
        self.definitions[name] = file.text(name)

    def import_lines(self) -> str:
        """Return the import statements, those of the standard library first."""
        plain = {
            module: f"import {module}" for module, names in self.imports.items() if "" in names
        }
        named = {
            module: f"from {module} import {', '.join(sorted(names - {''}))}"
            for module, names in self.imports.items()
            if names - {""}
        }
        groups: dict[bool, list[str]] = {True: [], False: []}
        for module, line in [*sorted(plain.items()), *sorted(named.items())]:
            groups[module.split(".")[0] in sys.stdlib_module_names].append(line)
        return "\n\n".join("\n".join(lines) for lines in groups.values() if lines)

    def _import(self, module: str, name: str, alias: str) -> None:
        """Copy an import; a definition of torchlift itself is added instead."""
        if _is_marker(module, name):
            return
        if alias not in (name, module):
            raise SavedModelError(f"{module}.{name} is imported under another name: {alias}")
        if name and module.split(".")[0] == _PACKAGE:
            self.add(module, name)
        else:
            self.imports[module].add(name)

    def _file(self, module: str) -> _File:
        if module not in self._files:
            self._files[module] = _read(module)
        return self._files[module]


def _is_marker(module: str, name: str) -> bool:
    """Return whether an import is that of a marker, whichever module it comes from."""
    return getattr(sys.modules.get(module), name, None) in _MARKERS


def _read(module: str) -> _File:
    """Parse a module's source file."""
    try:
        source = inspect.getsource(importlib.import_module(module))
    except (OSError, TypeError, ImportError) as error:
        raise SavedModelError(f"the source of {module} cannot be found: {error}") from error
    nodes: dict[str, ast.stmt] = {}
    imports: dict[str, tuple[str, str]] = {}
    for node in ast.parse(source).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            nodes[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            nodes[node.targets[0].id] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            nodes[node.target.id] = node
        elif isinstance(node, ast.Import):
            imports |= {alias.asname or alias.name: (alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = importlib.util.resolve_name(
                "." * node.level + (node.module or ""), module.rpartition(".")[0]
            )
            imports |= {alias.asname or alias.name: (origin, alias.name) for alias in node.names}
    scopes = {scope.get_name(): scope for scope in symtable(source, module, "exec").get_children()}
    return _File(source.splitlines(), nodes, scopes, imports)


def _global_names(scope: SymbolTable) -> set[str]:
    """Return the global names that a function or class uses, inner scopes included."""
    names = {symbol.get_name() for symbol in scope.get_symbols() if symbol.is_global()}
    return names.union(*map(_global_names, scope.get_children()))


def _outer_names(definition: ast.stmt) -> set[str]:
    """Return the names in the parts of a definition that are evaluated outside its own scope."""
    outer: list[ast.AST | None] = []
    if isinstance(definition, (ast.Assign, ast.AnnAssign)):
        outer += [definition.value]
    for node in ast.walk(definition):
        outer += [getattr(node, "annotation", None), getattr(node, "returns", None)]
    if isinstance(definition, ast.ClassDef):
        outer += [*definition.bases, *definition.keywords, *definition.decorator_list]
    if isinstance(definition, ast.FunctionDef):
        outer += [*definition.args.defaults, *definition.args.kw_defaults]
        outer += definition.decorator_list
    parts = [node for part in outer if part is not None for node in ast.walk(part)]
    return {node.id for node in parts if isinstance(node, ast.Name)}
