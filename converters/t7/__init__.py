"""The `.t7` file format of Torch7: files to values and back. Needs numpy only."""

from .errors import T7Error, T7Warning
from .reading.load import load, load_all, loads
from .tensors import to_torch
from .values import LuaFunction, LuaObject, LuaTable, TorchArray
from .writing.save import dumps, save

__all__ = [
    "LuaFunction",
    "LuaObject",
    "LuaTable",
    "T7Error",
    "T7Warning",
    "TorchArray",
    "dumps",
    "load",
    "load_all",
    "loads",
    "save",
    "to_torch",
]
