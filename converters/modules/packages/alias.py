"""Converting an object with the converter of another class."""

from __future__ import annotations

from typing import Any

from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..fields import ReadFields, with_fields
from ..registry import find_registration


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
    alias = with_fields(source, class_name, **fields)
    found = find_registration(alias)
    if found is None:
        raise context.error(
            f"{source.class_name} is converted like {class_name}, which has no converter"
        )
    if isinstance(alias.fields, ReadFields):
        alias.fields.ignore(found.ignored)
    return found.converter(alias, context)
