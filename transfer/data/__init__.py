"""Labelled images: opened by one word, split, measured, and fed to networks in batches.

ModelOptions does not import torch; `Batches` and `Augmentation` do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .dataset import Dataset
from .image_files import ImageFiles
from .selection import class_count, limited, select_classes
from .source import open_data, stream_folder
from .splits import Splits, split, test_split
from .statistics import channel_statistics, class_weights, fingerprint
from .torch7 import dataset_from, read_dataset

if TYPE_CHECKING:
    from .augmentation import Augmentation
    from .batches import Batches

__all__ = [
    "Augmentation",
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
    "open_data",
    "read_dataset",
    "select_classes",
    "split",
    "stream_folder",
    "test_split",
]

#: What needs torch, and the file it is in: imported when it is asked for.
_LAZY = {"Augmentation": "augmentation", "Batches": "batches"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
