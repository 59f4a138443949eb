"""How the code of layers is copied out of their files, with all that they use there."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from torchlift.converters.modules.registry import unregister_module
from torchlift.converters.saved import SavedModelError
from torchlift.converters.saved.source_bundle import SourceBundle


@pytest.fixture
def module_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Writes the text of a module of somebody's, by its name."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    names: list[str] = []

    def write(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        importlib.invalidate_caches()
        names.append(name)
        return name

    yield write
    for name in names:
        unregister_module(name)
        sys.modules.pop(name, None)


OWN = '''"""Layers of somebody's."""
from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Sized
from typing import Any, final

from torch import nn
from torchlift.converters.modules.registry import layer, register

UNUSED = 5
START = 2
MOST = 9
SIZE: int = 3
DEFAULT = SIZE + 1


def same(function: Any) -> Any:
    return function


@same
def helper(x: Any, most: int = MOST, *, least: int = START) -> float:
    return math.pi * x


class Meta(type):
    pass


class Base(nn.Module, metaclass=Meta):
    pass


# Two lines
# about the layer.
@layer
@final
class Own(Base):
    """A layer."""

    start = DEFAULT

    def forward(self, x: OrderedDict[str, float], size: int = SIZE) -> Sized:
        def inner(y: float) -> float:
            return helper(y)

        return inner(x)
'''


def test_a_definition_is_copied_with_all_that_it_uses_and_nothing_else(module_of: Any) -> None:
    bundle = SourceBundle()
    bundle.add(module_of("somebodys_own", OWN), "Own")
    order = list(bundle.definitions)
    assert set(order) == {
        *("SIZE", "DEFAULT", "MOST", "START", "same", "helper", "Meta", "Base", "Own"),
    }
    assert order[-1] == "Own"
    assert order.index("SIZE") < order.index("DEFAULT")
    text = bundle.definitions["Own"]
    # The comment above it and other decorators stay; what registers it with torchlift does not.
    assert text.startswith("# Two lines\n# about the layer.\n@final\nclass Own(Base):\n")
    assert text.endswith("        return inner(x)")
    assert bundle.definitions["SIZE"] == "SIZE: int = 3"
    assert bundle.definitions["helper"].endswith("-> float:\n    return math.pi * x")
    # The standard library first, and no import of what is not used.
    assert bundle.import_lines() == (
        "import math\nfrom collections import OrderedDict\nfrom collections.abc import Sized\n"
        "from typing import Any, final\n\n"
        "from torch import nn"
    )


def test_definitions_of_one_file_may_use_each_other(module_of: Any) -> None:
    even = "def even(n):\n    return n == 0 or odd(n - 1)\n"
    text = even + "\n\ndef odd(n):\n    return n and even(n - 1)"
    bundle = SourceBundle()
    bundle.add(module_of("somebodys_turns", text), "even")
    names: dict[str, Any] = {}
    exec("\n\n".join(bundle.definitions.values()), names)
    assert names["even"](4)
    assert not names["even"](5)


def test_imports_of_modules_and_of_names_are_sorted_and_grouped() -> None:
    bundle = SourceBundle()
    for module, name in (
        *(("torch", "nn"), ("torch", ""), ("numpy", ""), ("math", "pi"), ("math", "e")),
        *(("os.path", "join"), ("json", "")),
    ):
        bundle.imports[module].add(name)
    assert bundle.import_lines() == (
        "import json\nfrom math import e, pi\nfrom os.path import join\n\n"
        "import numpy\nimport torch\nfrom torch import nn"
    )


def test_of_a_builtin_there_is_no_source() -> None:
    for module in ("itertools", "no_such_module_anywhere"):
        with pytest.raises(SavedModelError, match=f"the source of {module} cannot be found: "):
            SourceBundle().add(module, "chain")
