"""Labeled images: opened by name, split, measured, and batched for a network.

Names are imported on first use: the options of the command line stand in files of this package
that need numpy alone, and only `Batches` needs torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ...converters.requirements import require

if TYPE_CHECKING:
    from .augmentation import Augmentation
    from .batches import Batches
    from .class_matching import match_classes
    from .dataset import Dataset
    from .image_files import ImageFiles
    from .open import open_data
    from .plan import BatchPlan
    from .readers.image_folder import stream_folder
    from .readers.torch7 import dataset_from, read_dataset
    from .selection import class_count, limited, select_classes
    from .splits import Splits, split, test_split
    from .statistics import channel_statistics, class_weights, fingerprint

#: The module of each name.
_LAZY = {
    "Augmentation": "augmentation",
    "Batches": "batches",
    "match_classes": "class_matching",
    "Dataset": "dataset",
    "ImageFiles": "image_files",
    "open_data": "open",
    "BatchPlan": "plan",
    "stream_folder": "readers.image_folder",
    **dict.fromkeys(("dataset_from", "read_dataset"), "readers.torch7"),
    **dict.fromkeys(("class_count", "limited", "select_classes"), "selection"),
    **dict.fromkeys(("Splits", "split", "test_split"), "splits"),
    **dict.fromkeys(("channel_statistics", "class_weights", "fingerprint"), "statistics"),
}

__all__ = [
    "Augmentation",
    "BatchPlan",
    "Batches",
    "Dataset",
    "ImageFiles",
    "Splits",
    "channel_statistics",
    "class_count",
    "class_weights",
    "dataset_from",
    "fingerprint",
    "limited",
    "match_classes",
    "open_data",
    "read_dataset",
    "select_classes",
    "split",
    "stream_folder",
    "test_split",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        require(f"torchlift.transfer.data.{name}", "PIL")
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
