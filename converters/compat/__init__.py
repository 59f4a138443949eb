"""The readers that scripts used before: torchfile, PyTorch's `load_lua`, OpenCV's importer.

Also importable as `torchlift.compat`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import torchfile
    from .legacy_pytorch import load_lua
    from .opencv import readNetFromTorch, readTorchBlob

__all__ = ["load_lua", "readNetFromTorch", "readTorchBlob", "torchfile"]

_MODULES = {
    "load_lua": ".legacy_pytorch",
    "readNetFromTorch": ".opencv",
    "readTorchBlob": ".opencv",
}


def __getattr__(name: str) -> Any:
    # Imported on first use: `torchfile` needs numpy alone, the others need torch.
    if name == "torchfile":
        return import_module(".torchfile", __name__)
    if name in _MODULES:
        return getattr(import_module(_MODULES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
