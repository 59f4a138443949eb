"""torchlift: Torch7 models, alive again in PyTorch and ONNX."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .converters import TorchliftError, convert, load_model, onnx, register, t7

__version__ = "0.2.0"

# ONNX Runtime reports its use to its makers unless this is set before it is imported, which only
# modules of this package do. Whoever wants the reports sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# The same of huggingface_hub, which tells of the program that uses it.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

__all__ = ["TorchliftError", "convert", "load_model", "onnx", "register", "t7"]


def __getattr__(name: str) -> Any:
    # Imported when asked for, so that neither the command line nor `t7` waits for torch.
    if name in __all__:
        return getattr(import_module(".converters", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
