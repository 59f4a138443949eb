"""The defaults of commands and of the library's public functions change only on purpose.

Scripts rely on them, and results that are compared with earlier ones. `python
tests/test_defaults.py` writes defaults.json anew; the change is then reviewed like any other.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from torchlift.cli.commands import load_commands
from torchlift.cli.parser import arguments_of

_KNOWN = Path(__file__).with_name("defaults.json")

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


KNOWN = json.loads(_KNOWN.read_text(encoding="utf-8")) if _KNOWN.exists() else {}


@pytest.fixture(scope="module")
def current() -> dict[str, dict[str, str]]:
    return defaults()


@pytest.mark.parametrize("name", KNOWN)
def test_a_default_stays(name: str, current: dict[str, dict[str, str]]) -> None:
    """A parameter that is new is no change to who does not use it."""
    assert {key: current.get(name, {}).get(key) for key in KNOWN[name]} == KNOWN[name]


if __name__ == "__main__":
    lines = (f" {json.dumps(name)}: {json.dumps(found)}" for name, found in defaults().items())
    _KNOWN.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
