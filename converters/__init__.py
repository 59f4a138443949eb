"""Conversion of Torch7's `.t7` files to PyTorch modules, and of these to ONNX."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import TorchliftError

if TYPE_CHECKING:
    from . import onnx, t7
    from .modules import convert, load_model, register

__all__ = ["TorchliftError", "convert", "load_model", "onnx", "register", "t7"]


def __getattr__(name: str) -> Any:
    # Imported on first use: `t7` needs numpy alone, the others need torch, which takes seconds.
    if name in ("t7", "onnx"):
        return import_module(f".{name}", __name__)
    if name in __all__:
        return getattr(import_module(".modules", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
