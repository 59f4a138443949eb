"""The fields of an object while it is converted: which ones its converter reads.

A field that a converter does not read could change the numbers in silence, so `Context` makes a
note of each that neither is a buffer nor was registered as one without meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Any

import numpy as np

from ..t7 import LuaObject, LuaTable
from ..t7.values import unwrap_key

#: Fields without meaning for the output of any module.
MEANINGLESS = frozenset(
    {
        # Module.lua and Criterion.lua; the mode is read for every module.
        *("output", "gradInput", "_type", "train"),
        # Memory of the last pass, which several classes keep under one name.
        *("finput", "fgradInput", "addBuffer", "noise", "indices", "save_mean", "save_std"),
        # What cuDNN's layers keep of their last input, also after they became nn's.
        *("iSize", "nElem", "scaleT", "input_offset", "output_offset", "weight_offset"),
        *("extraBufferSizeInBytes", "fmode", "bdmode", "bwmode"),
        # Names and switches that optimizers and projects give to any module.
        *("name", "accUpdate", "shared", "sharedparams", "__shareGradInputKey"),
        *("prealloc", "preallocInputDim", "preallocOutputDim"),
        *("outputSharedIdx", "gradInputSharedIdx", "inputSharedIdx"),
        *("dpnn_typename", "dpnn_serialEmpty", "dpnn_mediumEmpty"),
    }
)

#: Longest text of a value in a message.
_MAX_TEXT = 60


class ReadFields(LuaTable):
    """The fields of an object, with a record of those that were asked for.

    Args:
        fields: The fields; they are shared, not copied.
        check: Is called with each array when it is first asked for.

    Attributes:
        read: The names that were asked for, in the order of their last use, and whether the value
            was an array that was checked.
    """

    __slots__ = ("_check", "read")

    def __init__(self, fields: LuaTable, check: Callable[[np.ndarray], None]) -> None:
        self._entries = fields._entries
        self._check = check
        self.read: dict[Any, bool] = {}

    def __getitem__(self, key: Any) -> Any:
        return self._recorded(key, super().__getitem__(key))

    def __contains__(self, key: Any) -> bool:
        self._recorded(key, None)
        return super().__contains__(key)

    def get(self, key: Any, default: Any = None) -> Any:
        """Return a field, or `default` if there is no such field."""
        return self._recorded(key, super().get(key, default))

    def replaced(self, fields: LuaTable) -> ReadFields:
        """Return other fields, with the same record."""
        other = ReadFields(fields, self._check)
        other.read = self.read
        return other

    def _recorded(self, key: Any, value: Any) -> Any:
        is_checked = self.read.pop(key, False)
        if not is_checked and isinstance(value, np.ndarray):
            self._check(value)
            is_checked = True
        self.read[key] = is_checked
        return value

    def ignore(self, names: Iterable[Any]) -> None:
        """Count fields as read."""
        for name in names:
            self.read.setdefault(name, False)

    def unread(self, converted: Container[int]) -> list[str]:
        """Describe the fields that were not read and could mean something.

        Gradients, private tensors (`_output`), and empty tensors and tables cannot. A name for a
        module that is converted elsewhere in the object does not either.

        Args:
            converted: The ids of the objects that are converted.
        """
        return [
            _describe_field(unwrap_key(name), value)
            for name, value in self._entries.items()
            if name not in MEANINGLESS
            and name not in self.read
            and id(value) not in converted
            and not _is_buffer(name, value)
        ]

    def described_reads(self) -> list[str]:
        """Describe the fields that were asked for, the last one first."""
        return [_describe_field(name, self._entries.get(name)) for name in reversed(self.read)]


def _describe_field(name: Any, value: Any) -> str:
    is_name = isinstance(name, str) and name.isidentifier()
    return f"{name if is_name else repr(name)} = {describe_value(value)}"


def _is_buffer(name: Any, value: Any) -> bool:
    if not isinstance(name, str):
        return False
    is_data = isinstance(value, (np.ndarray, LuaTable))
    is_empty = is_data and not (value.size if isinstance(value, np.ndarray) else len(value))
    return is_empty or name.startswith("grad") or (is_data and name.startswith("_"))


def with_fields(source: LuaObject, class_name: str, **fields: Any) -> LuaObject:
    """Return an object with the fields of another one, some replaced; reads count for both."""
    changed = LuaTable([*source.fields.items(), *fields.items()])
    if isinstance(source.fields, ReadFields):
        changed = source.fields.replaced(changed)
    return LuaObject(class_name, changed, source.version)


def describe_value(value: Any) -> str:
    """Describe a field's value in a few words: its class and size, or the value itself."""
    if isinstance(value, np.ndarray):
        kind = getattr(value, "torch_class", None) or "array"
        return f"{kind} {'×'.join(map(str, value.shape))}".rstrip()
    if isinstance(value, LuaObject):
        return value.class_name
    if isinstance(value, LuaTable):
        return f"table of {len(value)}"
    text = "nil" if value is None else repr(value)
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"
