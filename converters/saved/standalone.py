"""The `model.py` of a saved model: readable source of the network that needs torch alone."""

from __future__ import annotations

import inspect
import math
import re
import textwrap
from collections.abc import Iterator
from typing import Any

from torch import nn

from ... import __version__
from ..modules.torch7_source import submodule_path
from . import loader
from .model import SavedModel
from .source_bundle import SourceBundle
from .structure import TORCH, Description, class_of

#: The length up to which an expression stays on one line; its indentation is not counted.
_WIDTH = 72

_TEMPLATE = '''\
"""{title} as a PyTorch network. Written by torchlift {version}; needs torch alone.

Input: ({input}). Output: {output}.

    from model import load

    network = load()  # reads model.safetensors beside this file
"""

from __future__ import annotations

{imports}

# Tied tensors: name → the name under which the tensor is saved.
TIED: dict[str, str] = {tied}


{definitions}


def build() -> nn.Module:
    """Build the network with uninitialized tensors."""
{body}


def load(folder: str | Path = Path(__file__).parent) -> nn.Module:
    """Load the network with the tensors of `model.safetensors`, in evaluation mode."""
    with torch.device("meta"):
        network = build()
    return fill(network, read_tensors(Path(folder) / "model.safetensors"), TIED)
'''

#: What `_TEMPLATE` defines, which no definition of a layer may be called.
_TEMPLATE_NAMES = ("TIED", "build", "load")


def standalone_source(model: SavedModel, structure: Description, tied: dict[str, str]) -> str:
    """Return the source of a Python module with `build()` and `load(folder)`.

    It contains the definitions of the layers that torch.nn does not have, copied from their source
    files.

    Args:
        model: The model that is saved.
        structure: The description of its network.
        tied: Name of each tied tensor → the name under which it is saved.

    Raises:
        SavedModelError: If the source of a layer cannot be found or copied.
    """
    bundle = SourceBundle(reserved=_TEMPLATE_NAMES)
    for name in sorted({part["class"] for part in _walk(structure) if "class" in part}):
        if not name.startswith(TORCH):
            cls = _class(name)
            bundle.add(cls.__module__, cls.__name__)
    for name in ("read_tensors", "fill"):
        bundle.add(loader.__name__, name)
    for module, name in (("pathlib", "Path"), ("torch", ""), ("torch", "nn")):
        bundle.imports[module].add(name)
    shape = ("…",) if model.input_shape is None else map(str, model.input_shape)
    pairs = [f"{name!r}: {first!r}" for name, first in tied.items()]
    return _TEMPLATE.format(
        # A file's name is text from somebody else, and this is code.
        title=re.sub(r"[^\w.+@-]", "_", model.source.file) if model.source else "A network",
        version=__version__,
        input=", ".join(["N", *shape]),
        output=model.output_kind.replace("_", "-"),
        imports=bundle.import_lines(),
        tied=_bracketed("{", pairs, "}"),
        definitions="\n\n\n".join(bundle.definitions.values()),
        body=textwrap.indent("\n".join(_Body(structure).statements), "    "),
    )


class _Body:
    """The statements of `build()`.

    Modules that occur several times are assigned to variables first.
    """

    def __init__(self, structure: Description) -> None:
        self.statements: list[str] = []
        self._shared = {part["same_as"] for part in _walk(structure) if "same_as" in part}
        self._variables: dict[str, str] = {}
        network = self._expression(structure, "")
        self.statements.append(f"return {network}")

    def _expression(self, description: Description, path: str) -> str:
        if "same_as" in description:
            return self._variables[description["same_as"]]
        call = self._call(description, path)
        if path not in self._shared:
            return call
        variable = f"shared_{len(self._variables) + 1}"
        self._variables[path] = variable
        self.statements.append(f"{variable} = {call}")
        return variable

    def _call(self, description: Description, path: str) -> str:
        """Return a constructor call; arguments without a default are passed by position."""
        cls = _class(description["class"])
        from_torch = description["class"].startswith(TORCH)
        arguments = {
            name: self._expression(value, submodule_path(path, name))
            if isinstance(value, dict)
            else _literal(value, tuples=from_torch)
            for name, value in description.get("arguments", {}).items()
        }
        items = [
            self._expression(child, submodule_path(path, str(index)))
            for index, child in enumerate(description.get("children", []))
        ]
        constructor = f"{'nn.' if from_torch else ''}{cls.__name__}"
        if cls is nn.ModuleList:
            return f"{constructor}({_bracketed('[', items, ']')})"
        for parameter in inspect.signature(cls).parameters.values():
            if parameter.name in arguments:
                value = arguments[parameter.name]
                required = parameter.default is parameter.empty and not description.get("children")
                items.append(value if required else f"{parameter.name}={value}")
        return _bracketed(f"{constructor}(", items, ")")


def _literal(value: Any, tuples: bool) -> str:
    """Return the source of a JSON value; lists become tuples if `tuples` is true."""
    if isinstance(value, (list, tuple)):
        items = [_literal(item, tuples) for item in value]
        if not tuples:
            return _bracketed("[", items, "]")
        return _bracketed("(", items, ",)" if len(items) == 1 else ")")
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    return repr(value)


def _bracketed(opening: str, items: list[str], closing: str) -> str:
    """Return items between brackets, on one line if they fit, otherwise one item per line."""
    line = f"{opening}{', '.join(items)}{closing}"
    if len(line) <= _WIDTH and "\n" not in line:
        return line
    lines = textwrap.indent(",\n".join(items), "    ")
    return f"{opening}\n{lines},\n{closing.lstrip(',')}"


def _walk(description: Description) -> Iterator[Description]:
    """Iterate over a description and those of all modules inside it."""
    yield description
    for inner in (
        *description.get("arguments", {}).values(),
        *description.get("children", []),
    ):
        if isinstance(inner, dict):
            yield from _walk(inner)


def _class(name: str) -> type[nn.Module]:
    cls = class_of(name)
    assert cls is not None, f"{name} was described, so its class exists"
    return cls
