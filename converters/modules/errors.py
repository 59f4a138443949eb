"""Errors of the conversion of Torch7 objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import TorchliftError


class ConversionError(TorchliftError):
    """An object that cannot be converted.

    Attributes:
        problem: What was expected and what was found.
        path: Path of the object in the model, None if unknown.
        source: Name of the model's file, None without a file.
    """

    def __init__(self, problem: str, path: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path = path
        self.source: str | None = None

    def __str__(self) -> str:
        return ": ".join(part for part in (self.source, self.path, self.problem) if part)


class UnknownClassError(ConversionError):
    """Classes without a converter.

    Attributes:
        paths: Class name → paths of its objects.
        skeleton: Source code of a converter for the first class, to be completed.
    """

    def __init__(self, paths: Mapping[str, Sequence[str]], fields: Mapping[str, str]) -> None:
        first = next(iter(paths))
        classes = "; ".join(f"{name} at {', '.join(places)}" for name, places in paths.items())
        field_list = ", ".join(f"{name}: {kind}" for name, kind in fields.items()) or "none"
        super().__init__(
            f"no converter for {classes}. Fields of the first: {field_list}. "
            f'Write a converter with @register("{first}") and load its file (plugin=FILE)'
        )
        self.paths = paths
        self.skeleton = _skeleton(first, fields)


def _skeleton(class_name: str, fields: Mapping[str, str]) -> str:
    """Return the source of a converter to begin with.

    A file's own words stand in it through `repr` only, so that they are data wherever it is pasted.
    """
    lines = [f"    # {name!r}: {kind!r}" for name, kind in fields.items()] or ["    # no fields"]
    return _SKELETON.format(name=repr(class_name), fields="\n".join(lines))


_SKELETON = """\
from torch import nn

from torchlift.converters.modules import Context, register
from torchlift.converters.t7 import LuaObject


@register({name})
def convert_layer(source: LuaObject, context: Context) -> nn.Module:
    # The fields of an object, by name: read one as source["name"].
{fields}
    raise NotImplementedError
"""
