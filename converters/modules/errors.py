"""Errors of the conversion of Torch7 objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import TorchliftError
from .fields import MEANINGLESS


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


class MissingFieldError(ConversionError):
    """An object without a field that its class has: a class of another project, of the same name.

    Attributes:
        field: Name of the field.
    """

    def __init__(self, class_name: str, field: str) -> None:
        super().__init__(f"{class_name} has no field {field!r}")
        self.field = field


@dataclass
class UnknownClass:
    """A class without a converter.

    Attributes:
        class_name: The class.
        fields: Names and kinds of the fields of its first object.
        paths: Paths of its objects.
        parts: Names of fields of the first object that hold networks with a converter.
        problem: What its fields lack, if another class of this name has a converter.
    """

    class_name: str
    fields: dict[str, str]
    paths: list[str]
    parts: list[str]
    problem: str = ""

    def __str__(self) -> str:
        reason = f" ({self.problem}: another class of this name)" if self.problem else ""
        return f"{self.class_name} at {', '.join(self.paths)}{reason}"


class UnknownClassError(ConversionError):
    """Classes without a converter.

    Attributes:
        paths: Class name → paths of its objects.
        skeleton: Source code of a converter for the first class, to be completed.

    Example:
        >>> from torchlift.converters import convert, t7
        >>> try:
        ...     convert(t7.LuaObject("my.Scale", t7.LuaTable({"factor": 2})))
        ... except UnknownClassError as error:
        ...     print(error.paths, "my.Scale" in error.skeleton)
        {'my.Scale': ['model']} True
    """

    def __init__(
        self,
        classes: Sequence[UnknownClass],
        is_taken: bool = False,
        others: Sequence[ConversionError] = (),
    ) -> None:
        """Describe the classes.

        Args:
            classes: The classes, in the order in which they were met.
            is_taken: Whether another project's class of the name of the first has a converter.
            others: What is wrong with objects of known classes.
        """
        first = classes[0]
        own = [name for name in first.fields if name not in MEANINGLESS] or [*first.fields]
        register = repr(first.class_name)
        if is_taken:
            register += f", fields={tuple(own[:1])!r}"
        field_list = ", ".join(f"{name}: {kind}" for name, kind in first.fields.items()) or "none"
        inner = f"{first.paths[0]}.{first.parts[0]}" if first.parts else ""
        sentences = [
            f"no converter for {'; '.join(map(str, classes))}",
            *(f"besides, {error.path}: {error.problem}" for error in others),
            f"Fields of the first: {field_list}",
            *([f"The network in it converts alone (at={inner!r})"] if inner else []),
            f"Write a converter with @register({register}) and load its file (plugin=FILE)",
        ]
        super().__init__(". ".join(sentences))
        self.paths = {known.class_name: known.paths for known in classes}
        self.skeleton = _skeleton(register, first.fields)


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
