"""Defaults, limits, tolerances and other constants change only on purpose.

Scripts rely on the defaults of commands and public functions, and so do results that are compared
with earlier ones. A constant is often a limit that a damaged file meets, which no ordinary test
comes near. `python tests/test_defaults.py` writes defaults.json and constants.json anew; the change
is then reviewed like any other.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import walk_packages
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from torch import __version__ as torch_version

from torchlift.cli.commands import load_commands
from torchlift.cli.parser import arguments_of

_KNOWN = Path(__file__).with_name("defaults.json")
_KNOWN_CONSTANTS = Path(__file__).with_name("constants.json")

#: Whose constants are widths and colors, or the settings of one lab.
_SHOWN_ONLY = ("torchlift.transfer.plots", "torchlift.transfer.reports", "torchlift.transfer.labs")

#: The packages whose `__all__` is the library's interface.
_PACKAGES = (
    *("converters", "converters.images", "converters.inference", "converters.modules"),
    *("converters.onnx", "converters.saved", "converters.t7", "transfer.data"),
    *("transfer.evaluation", "transfer.features.extraction", "transfer.features.extractors"),
    *("transfer.features.settings", "transfer.features.store", "transfer.freezing"),
    *("transfer.networks", "transfer.probe", "transfer.training.options"),
)


def defaults() -> dict[str, dict[str, str]]:
    """Return the defaults of all commands and public functions, as Python writes them."""
    commands = {
        f"torchlift {command.__name__}": {
            argument.name: repr(argument.default)
            for argument in arguments_of(command)
            if argument.default is not inspect.Parameter.empty
        }
        for command in load_commands([])
    }
    functions = {
        f"{package}.{name}": _defaults_of(function)
        for package in _PACKAGES
        for name, function in _public(import_module(f"torchlift.{package}"))
    }
    return commands | {name: found for name, found in sorted(functions.items()) if found}


def _public(module: ModuleType) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The names that a package exports, or that a module defines itself."""
    exported = getattr(module, "__all__", None)
    for name in exported or vars(module):
        value = getattr(module, name)
        own = exported or getattr(value, "__module__", "") == module.__name__
        if callable(value) and own and not name.startswith("_"):
            yield name, value


def _defaults_of(function: Callable[..., Any]) -> dict[str, str]:
    if isinstance(function, type) and issubclass(function, np.ndarray):
        return {}  # They are numpy's, and only its newer versions tell them.
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return {}
    # What Python writes with an address, or as a whole object, is no value to rely on.
    plain = (bool, int, float, str, tuple, type(None))
    return {
        parameter.name: repr(parameter.default)
        for parameter in parameters
        if isinstance(parameter.default, plain)
        and not parameter.name.startswith(("_", "torchlift_version"))
    }


def constants() -> dict[str, str]:
    """Return the numbers and texts that stand at the top of a module, as Python writes them."""
    found = {}
    for place in ("converters", "transfer", "cli"):
        package = import_module(f"torchlift.{place}")
        for each in walk_packages(package.__path__, f"{package.__name__}."):
            if each.name.startswith(_SHOWN_ONLY) or each.name.endswith("__main__"):
                continue
            source = ast.parse(Path(str(find_spec(each.name).origin)).read_text(encoding="utf-8"))  # type: ignore[union-attr]  # it was just found
            own = {name for node in source.body for name in _assigned(node) if name.upper() == name}
            for name in sorted(own):
                text = _shown(getattr(import_module(each.name), name, None))
                if text is not None:
                    found[f"{each.name.removeprefix('torchlift.')}.{name}"] = text
    return found


def _assigned(node: ast.stmt) -> list[str]:
    """Return the names that a statement at the top of a module gives a value."""
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
    parts = [
        part for one in targets for part in (one.elts if isinstance(one, ast.Tuple) else [one])
    ]
    return [part.id for part in parts if isinstance(part, ast.Name)]


def _shown(value: Any) -> str | None:
    """Return a constant as text; None of what is no number, no text, and no collection of them."""
    if isinstance(value, re.Pattern):
        return repr(value.pattern)
    if isinstance(value, (set, frozenset)):
        return None if any(_shown(one) is None for one in value) else repr(sorted(value, key=repr))
    plain = isinstance(value, (bool, int, float, str, type(None)))
    if isinstance(value, (tuple, list)):
        plain = all(_shown(one) is not None for one in value)
    if isinstance(value, dict):
        plain = all(_shown(one) is not None for one in (*value, *value.values()))
    # Prose, and what is installed.
    changes = isinstance(value, str) and (value.count(" ") > 3 or torch_version in value)
    return repr(value) if plain and not changes and len(repr(value)) < 2000 else None


KNOWN = json.loads(_KNOWN.read_text(encoding="utf-8")) if _KNOWN.exists() else {}


@pytest.fixture(scope="module")
def current() -> dict[str, dict[str, str]]:
    return defaults()


@pytest.mark.parametrize("name", KNOWN)
def test_a_default_stays(name: str, current: dict[str, dict[str, str]]) -> None:
    """A parameter that is new is no change to who does not use it."""
    assert {key: current.get(name, {}).get(key) for key in KNOWN[name]} == KNOWN[name]


def test_constants_stay_as_they_were() -> None:
    """One that is new, or has gone to another file, is no change."""
    known, current = json.loads(_KNOWN_CONSTANTS.read_text(encoding="utf-8")), constants()
    there = known.keys() & current.keys()
    changed = {name: (known[name], current[name]) for name in there if known[name] != current[name]}
    assert not changed, f"run python tests/{Path(__file__).name} if that is on purpose"
    assert len(there) > 0.9 * len(known)


def _write(file: Path, entries: dict[str, Any]) -> None:
    lines = (f" {json.dumps(name)}: {json.dumps(found)}" for name, found in entries.items())
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    _write(_KNOWN, defaults())
    _write(_KNOWN_CONSTANTS, constants())
