"""ONNX files: exporting a model, checking the exported file, quantizing it.

`Classifier` and `open_predictor` run a file (see `converters.inference`). Names that need torch or
onnx are imported on first use.
"""

from __future__ import annotations

from ..requirements import require

require("torchlift.converters.onnx", "onnxruntime", "PIL")

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..inference import Classifier, open_predictor
from .errors import OnnxError

if TYPE_CHECKING:
    from .annotator import Annotated, annotate
    from .checker import PROFILES, CheckReport, Profile, write_check_report
    from .checker.check import check
    from .exporter import Exported, export
    from .onnx_file import describe_file
    from .page import write_page
    from .quantizer.quantize import Quantized, quantize
    from .runtimes.installed import InstalledRuntime, find_runtimes
    from .triton import next_version, triton_version

__all__ = [
    "PROFILES",
    "Annotated",
    "CheckReport",
    "Classifier",
    "Exported",
    "InstalledRuntime",
    "OnnxError",
    "Profile",
    "Quantized",
    "annotate",
    "check",
    "describe_file",
    "export",
    "find_runtimes",
    "next_version",
    "open_predictor",
    "quantize",
    "triton_version",
    "write_check_report",
    "write_page",
]

#: The module of each name that needs torch or onnx.
_LAZY = {
    **dict.fromkeys(("Annotated", "annotate"), "annotator"),
    **dict.fromkeys(
        ("PROFILES", "CheckReport", "Profile", "check", "write_check_report"), "checker"
    ),
    **dict.fromkeys(("Exported", "export"), "exporter"),
    "describe_file": "onnx_file",
    **dict.fromkeys(("Quantized", "quantize"), "quantizer"),
    **dict.fromkeys(("InstalledRuntime", "find_runtimes"), "runtimes.installed"),
    "write_page": "page",
    **dict.fromkeys(("next_version", "triton_version"), "triton"),
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
