"""What `inspect` shows of a dataset: its classes, and how many images each split has of them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group, RenderableType

from ..converters.errors import TorchliftError
from .result import table

if TYPE_CHECKING:
    from ..transfer.data import Dataset, ImageFiles


def is_dataset(source: str) -> bool:
    """Return whether a source that is no model is to be opened as a dataset.

    Any folder could be one of images: it counts if there is an image in it.
    """
    from ..converters.images import find_images
    from ..transfer.data.readers import find_reader
    from ..transfer.data.readers.image_folder import KIND
    from ..transfer.data.readers.torch7 import KIND_BY_CONTENT

    try:
        kind = find_reader(source).kind
        if kind != KIND:
            # A Torch7 file under another suffix may just as well hold a model.
            return kind != KIND_BY_CONTENT
        return bool(find_images([source]))
    except (TorchliftError, ImportError):
        return False


def describe_dataset(source: str) -> dict[str, Any]:
    """Return the classes and counts of a dataset as JSON values.

    Raises:
        TorchliftError: If it cannot be read.
    """
    from ..converters.inference.classifier import class_name
    from ..transfer.data import class_count, open_data, stream_folder
    from ..transfer.data.dataset import SPLIT_NAMES
    from ..transfer.data.readers import find_reader
    from ..transfer.data.readers.image_folder import KIND

    # Of a folder no image is decoded.
    is_folder = find_reader(source).kind == KIND
    data: Dataset | ImageFiles = stream_folder(source) if is_folder else open_data(source)
    given = set() if data.splits is None else set(data.splits.tolist())
    splits = [name for name in SPLIT_NAMES if name in given]
    rows = {name: np.flatnonzero(data.splits == name) for name in splits}
    classes = None
    if data.classes is not None:
        count = class_count(data)
        columns = {
            "count": np.bincount(data.classes, minlength=count).tolist(),
            **{
                name: np.bincount(data.classes[rows[name]], minlength=count).tolist()
                for name in splits
            },
        }
        classes = [
            {
                "label": class_name(data.names, index),
                **{name: counts[index] for name, counts in columns.items()},
            }
            for index in range(count)
        ]
    return {
        "count": len(data),
        "image_shape": _image_shape(data),
        "splits": [{"split": name, "count": len(rows[name])} for name in splits],
        "classes": classes,
        "notes": list(data.notes),
    }


def dataset_in(file: str) -> dict[str, Any] | None:
    """Return the description of the dataset in a `.t7`, None if it holds none."""
    with suppress(TorchliftError):
        return describe_dataset(file)
    return None


def dataset_view(description: dict[str, Any]) -> RenderableType:
    """Return the description of a dataset for people."""
    shape, splits = description["image_shape"], [each["split"] for each in description["splits"]]
    size = "" if shape is None else f" {'×'.join(map(str, shape))}"
    parts: list[RenderableType] = [f"{description['count']:,} images{size}"]
    totals = [description["count"], *(each["count"] for each in description["splits"])]
    columns = ("images", *splits)
    view = table("class", *columns, right=columns)
    for each in description["classes"] or []:
        view.add_row(each["label"], *(f"{each[name]:,}" for name in ["count", *splits]))
    view.add_row("all", *(f"{total:,}" for total in totals))
    if description["classes"] is None:
        parts.append("no labels")
    notes = (f"note: {note}" for note in description["notes"])
    return Group(*parts, view, *notes)


def _image_shape(data: Dataset | ImageFiles) -> list[int] | None:
    """Return the shape (C, H, W) of the images in memory; None of files, which may differ."""
    from ..transfer.data import Dataset

    return list(data.images.shape[1:]) if isinstance(data, Dataset) else None
