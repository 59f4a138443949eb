"""ONNX: exporting a model, checking what was written, and running it.

Running an exported classifier does not import torch; exporting and checking do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .classifier import Classifier, Prediction
from .errors import OnnxError, ProviderError
from .predictors import OnnxPredictor, Predictor, TorchPredictor, open_predictor, prepare
from .profiles import PROFILES, Profile
from .providers import PROVIDERS, provider_problem
from .report import Report, write_report
from .results import open_results
from .stream import FileResult, predict_array, predict_files

if TYPE_CHECKING:
    from .checking import check
    from .exporting import Exported, export
    from .quantization import Quantized, quantize
    from .stored import describe_file

__all__ = [
    "PROFILES",
    "PROVIDERS",
    "Classifier",
    "Exported",
    "FileResult",
    "OnnxError",
    "OnnxPredictor",
    "Prediction",
    "Predictor",
    "Profile",
    "ProviderError",
    "Quantized",
    "Report",
    "TorchPredictor",
    "check",
    "describe_file",
    "export",
    "open_predictor",
    "open_results",
    "predict_array",
    "predict_files",
    "prepare",
    "provider_problem",
    "quantize",
    "write_report",
]

#: What needs torch or onnx, and the file it is in: imported when it is asked for.
_LAZY = {
    "check": "checking",
    "Exported": "exporting",
    "export": "exporting",
    "Quantized": "quantization",
    "quantize": "quantization",
    "describe_file": "stored",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
