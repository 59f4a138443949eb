"""Converting an object with the converter of another class."""

from __future__ import annotations

from typing import Any

from torch import nn

from ...t7 import LuaObject, LuaTable
from ..context import Context
from ..registry import find_converter


def convert_as(class_name: str, source: LuaObject, context: Context, **fields: Any) -> nn.Module:
    """Convert an object with the converter of another class.

    Args:
        class_name: The other class.
        source: The object, which is not changed.
        context: The conversion that the object belongs to.
        fields: Fields to add or to replace before, by name.

    Raises:
        ConversionError: If the other class has no converter.
    """
    changed = LuaTable([*source.fields.items(), *fields.items()])
    alias = LuaObject(class_name, changed, source.version)
    converter = find_converter(alias)
    if converter is None:
        raise context.error(
            f"{source.class_name} is converted like {class_name}, which has no converter"
        )
    return converter(alias, context)
