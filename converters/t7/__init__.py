"""The `.t7` file format of Torch7: read files into Python values and write them back.

Needs numpy only; `to_torch` imports torch when it is called.
"""

from .errors import T7Error, T7Warning, TruncatedError
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
    "TruncatedError",
    "dumps",
    "load",
    "load_all",
    "loads",
    "save",
    "to_torch",
]
