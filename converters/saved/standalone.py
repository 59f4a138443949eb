"""A saved model's `model.py`: readable source of the network that needs nothing but torch."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from ... import __version__
from . import loader
from .code_writer import Expression, Group, keyword, literal, statement
from .model import SavedModel
from .source_bundle import SourceBundle
from .structure import TORCH, Description, class_of, join

_HEADER = '''\
"""{title}, as PyTorch: written by torchlift {version}, needs only torch.

It takes ({input}) and gives {output}.

    from model import load

    network = load()  # with the tensors of the model.safetensors beside this file
"""

from __future__ import annotations

{imports}

# Tensors that are one and the same: name → the name that it is saved under.
{tied}


{definitions}


def build() -> nn.Module:
    """The network, with tensors that hold nothing yet."""
{body}


def load(folder: str | Path = Path(__file__).parent) -> nn.Module:
    """The network with the tensors of `model.safetensors`, in evaluation mode."""
    with torch.device("meta"):
        network = build()
    return fill(network, read_tensors(Path(folder) / "model.safetensors"), TIED)
'''


def standalone_source(model: SavedModel, structure: Description, tied: dict[str, str]) -> str:
    """The source of a module with `build()` and `load(folder)`, formatted as ruff would.

    The few layers that torch lacks are written into it, from their own source.

    Args:
        model: what is saved.
        structure: the description of its network.
        tied: name of a tensor → the name that it is saved under.

    Raises:
        SavedModelError: when the source of a layer is not at hand.
    """
    excerpt = SourceBundle()
    for name in sorted(set(_class_names(structure))):
        if not name.startswith(TORCH):
            cls = _class(name)
            excerpt.add(cls.__module__, cls.__name__)
    for name in ("read_tensors", "fill"):
        excerpt.add(loader.__name__, name)
    for module, name in (("pathlib", "Path"), ("torch", ""), ("torch", "nn")):
        excerpt.imports[module].add(name)
    pairs = [f"{literal(name)}: {literal(first)}" for name, first in tied.items()]
    shape = ("…",) if model.input_shape is None else map(str, model.input_shape)
    return _HEADER.format(
        # A file's name is somebody else's text, and this is code.
        title=re.sub(r"[^\w.+@-]", "_", model.source.file) if model.source else "A network",
        version=__version__,
        input=", ".join(["N", *shape]),
        output=model.output_kind.replace("_", "-"),
        imports=excerpt.import_lines(),
        tied=statement("TIED: dict[str, str] = ", Group("{", pairs, "}"), indent=0),
        definitions="\n\n\n".join(excerpt.definitions.values()),
        body="\n".join(_Body(structure).statements),
    )


class _Body:
    """The statements of `build`: modules that stand in several places first, each with a name."""

    def __init__(self, structure: Description) -> None:
        self.statements: list[str] = []
        self._shared = {part["same_as"] for part in _walk(structure) if "same_as" in part}
        self._names: dict[str, str] = {}
        self._state("return ", self._expression(structure, ""))

    def _state(self, before: str, expression: Expression) -> None:
        self.statements.append(statement(before, expression, indent=4))

    def _expression(self, description: Description, path: str) -> Expression:
        if "same_as" in description:
            return self._names[description["same_as"]]
        call = self._call(description, path)
        if path not in self._shared:
            return call
        name = f"shared_{len(self._names) + 1}"
        self._names[path] = name
        self._state(f"{name} = ", call)
        return name

    def _call(self, description: Description, path: str) -> Expression:
        """A module's constructor call; arguments that have no default are given by position."""
        name = description["class"]
        given = {
            key: self._argument(value, join(path, key), name.startswith(TORCH))
            for key, value in description.get("arguments", {}).items()
        }
        items = [
            self._expression(child, join(path, str(index)))
            for index, child in enumerate(description.get("children", []))
        ]
        opening = f"{name.replace(TORCH, 'nn.')}("
        if name == f"{TORCH}ModuleList":
            return Group(opening, [Group("[", items, "]")], ")")
        for parameter in inspect.signature(_class(name)).parameters.values():
            if parameter.name in given:
                required = parameter.default is parameter.empty and not description.get("children")
                value = given[parameter.name]
                items.append(value if required else keyword(parameter.name, value))
        return Group(opening, items, ")")

    def _argument(self, value: Any, path: str, tuples: bool) -> Expression:
        return self._expression(value, path) if isinstance(value, dict) else literal(value, tuples)


def _walk(description: Description) -> Iterator[Description]:
    """A description and those of all modules in it."""
    yield description
    inner = [*description.get("arguments", {}).values(), *description.get("children", [])]
    for part in inner:
        if isinstance(part, dict):
            yield from _walk(part)


def _class_names(structure: Description) -> Iterator[str]:
    return (part["class"] for part in _walk(structure) if "class" in part)


def _class(name: str) -> type:
    cls = class_of(name)
    assert cls is not None, f"{name} was described, so it is known"
    return cls
