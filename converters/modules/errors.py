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

    def __init__(
        self, paths: Mapping[str, Sequence[str]], fields: Mapping[str, str], is_taken: bool = False
    ) -> None:
        """Describe the classes.

        Args:
            paths: Class name → paths of its objects.
            fields: Names and kinds of the fields of the first object.
            is_taken: Whether another project's class of the name of the first has a converter.
        """
        first = next(iter(paths))
        register = f"{first!r}, fields={tuple(fields)[:1]!r}" if is_taken else repr(first)
        classes = "; ".join(f"{name} at {', '.join(places)}" for name, places in paths.items())
        field_list = ", ".join(f"{name}: {kind}" for name, kind in fields.items()) or "none"
        super().__init__(
            f"no converter for {classes}. Fields of the first: {field_list}. "
            f"Write a converter with @register({register}) and load its file (plugin=FILE)"
        )
        self.paths = paths
        self.skeleton = _skeleton(register, fields)


def _skeleton(arguments: str, fields: Mapping[str, str]) -> str:
    """Return the source of a converter to begin with.

    A file's own words stand in it through `repr` only, so that they are data wherever it is pasted.
    """
    lines = [f"    # {name!r}: {kind!r}" for name, kind in fields.items()] or ["    # no fields"]
    return _SKELETON.format(arguments=arguments, fields="\n".join(lines))


_SKELETON = """\
from torch import nn

from torchlift.converters.modules import Context, register
from torchlift.converters.t7 import LuaObject


@register({arguments})
def convert_layer(source: LuaObject, context: Context) -> nn.Module:
    # The fields of an object, by name: read one as source["name"].
{fields}
    raise NotImplementedError
"""
