"""Converting an object of one class by the converter of another."""

from __future__ import annotations

from typing import Any

from torch import nn

from ...t7 import LuaObject, LuaTable
from ..context import Context
from ..registry import converter_for


def convert_as(class_name: str, source: LuaObject, context: Context, **fields: Any) -> nn.Module:
    """What another class's converter makes of an object's fields.

    Args:
        class_name: the class whose converter is asked.
        source: the object; it stays as it is.
        context: the run that the object belongs to.
        fields: fields to set before, by name.

    Raises:
        ConversionError: when that class has no converter.
    """
    converter = converter_for(class_name)
    if converter is None:
        raise context.error(f"{source.class_name} is converted as {class_name}, which is unknown")
    changed = LuaTable([*source.fields.items(), *fields.items()])
    return converter(LuaObject(class_name, changed, source.version), context)
