"""`torchlift split`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Group
from rich.markup import escape

from ..converters.errors import TorchliftError
from ..transfer.training.options import SplitOptions
from .data_options import ALL_DATA, DataOptions
from .result import CommandResult, table
from .training import DIVISION, open_splits


def split(
    data: str,
    target: str,
    *,
    overwrite: bool = False,
    data_options: DataOptions = ALL_DATA,
    split_options: SplitOptions = DIVISION,
) -> CommandResult:
    """Divide a dataset into a training, a validation and a test part, in one file.

    Parts that the data has itself stay as they are. Every other command takes the file, and sees
    the same parts.

    Args:
        data: A dataset: a .t7 or .npz file, a folder, CIFAR's or MNIST's files, or digits.
        target: The .npz file to write.
        overwrite: Replace a file that is there.
        data_options: Which images are taken.
        split_options: How much of them goes into each part.
    """
    from ..transfer.data import class_count
    from ..transfer.data.dataset import SPLIT_NAMES
    from ..transfer.data.selection import labelled
    from ..transfer.data.writing import write_npz

    if Path(target).exists() and not overwrite:
        raise TorchliftError(f"{target} is there already; --overwrite replaces it")
    parts = open_splits(data, data_options, split_options)
    file = write_npz(parts, target)
    count = class_count(parts.train)
    names = parts.train.names or [str(index + 1) for index in range(count)]
    images = {name: getattr(parts, name) for name in SPLIT_NAMES}
    classes = {
        name: np.bincount(labelled(part), minlength=count).tolist() for name, part in images.items()
    }
    sizes = {name: sum(counts) for name, counts in classes.items()}
    facts = {
        "file": str(file),
        "shape": list(parts.train.images.shape[1:]),
        "classes": list(names),
        "splits": sizes,
        "images": classes,
        "notes": list(parts.notes),
    }
    view = table("class", *SPLIT_NAMES, right=SPLIT_NAMES)
    for index, label in enumerate(names):
        view.add_row(escape(label), *(f"{classes[part][index]:,}" for part in SPLIT_NAMES))
    view.add_row("all", *(f"{count:,}" for count in sizes.values()))
    notes = (f"note: {escape(note)}" for note in parts.notes)
    return CommandResult(facts, Group(view, *notes, f"wrote {escape(str(file))}"))
