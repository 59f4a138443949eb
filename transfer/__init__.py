"""Transfer learning with converted models: data, features, heads, training, evaluation, plots.

The names in `__all__` are what a Python program or a notebook needs, and are imported on first use:
this package alone imports neither torch nor scikit-learn nor pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..converters.requirements import require

if TYPE_CHECKING:
    from .data import Dataset, open_data, split
    from .data.augmentation import Augmentation
    from .evaluation import Evaluation, evaluate
    from .features.in_memory import Features, extract_features
    from .features.transformer import FeatureTransformer
    from .freezing import Freezing
    from .network_by_name import load_network
    from .training.experiment import RunResult
    from .training.fit import Callback, fit
    from .training.options import Distillation, Optimization, Run, SplitOptions

#: The module of each name, and the packages that it needs.
_LAZY = {
    **dict.fromkeys(("Dataset", "open_data", "split"), ("data", "PIL")),
    "Augmentation": ("data.augmentation", "torch"),
    **dict.fromkeys(("Evaluation", "evaluate"), ("evaluation", "onnxruntime")),
    **dict.fromkeys(("Features", "extract_features"), ("features.in_memory", "torch")),
    "FeatureTransformer": ("features.transformer", "sklearn"),
    "Freezing": ("freezing", "torch"),
    "load_network": ("network_by_name", "torch"),
    "RunResult": ("training.experiment", "accelerate"),
    **dict.fromkeys(("Callback", "fit"), ("training.fit", "accelerate")),
    **dict.fromkeys(
        ("Distillation", "Optimization", "Run", "SplitOptions"), ("training.options", "torch")
    ),
}

__all__ = [
    "Augmentation",
    "Callback",
    "Dataset",
    "Distillation",
    "Evaluation",
    "FeatureTransformer",
    "Features",
    "Freezing",
    "Optimization",
    "Run",
    "RunResult",
    "SplitOptions",
    "evaluate",
    "extract_features",
    "fit",
    "load_network",
    "open_data",
    "split",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        module, package = _LAZY[name]
        require(f"torchlift.transfer.{name}", package)
        return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
