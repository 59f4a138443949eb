"""`torchlift split`."""

from __future__ import annotations

import numpy as np
from rich.console import Group

from ..transfer.training.options import SPLIT_OPTIONS, SplitOptions
from .data_options import ALL_DATA, DataOptions
from .outputs import output_suffix
from .result import CommandResult, table
from .training import open_splits


def split(
    data: str,
    output: str,
    *,
    overwrite: bool = False,
    data_options: DataOptions = ALL_DATA,
    split_options: SplitOptions = SPLIT_OPTIONS,
) -> CommandResult:
    """Split a dataset into train, val and test, in one file.

    Splits that the data has itself stay as they are. Every other command takes the file and uses
    the same splits.

    Args:
        data: A dataset: a .t7 or .npz file, a folder, CIFAR's or MNIST's files, or
            sklearn:digits.
        output: The .npz file to write.
        overwrite: Replace a file that is there.
        data_options: Which images are used.
        split_options: How many of them go into each split.
    """
    from ..converters.files import check_output
    from ..transfer.data import class_count
    from ..transfer.data.dataset import SPLIT_NAMES
    from ..transfer.data.selection import labelled
    from ..transfer.data.writing import write_npz

    output_suffix(output, [".npz"])
    check_output(output, overwrite)
    splits = open_splits(data, data_options, split_options).in_memory()
    file = write_npz(splits, output)
    count = class_count(splits.train)
    names = splits.train.names or [str(index + 1) for index in range(count)]
    images = {name: getattr(splits, name) for name in SPLIT_NAMES}
    classes = {
        name: np.bincount(labelled(split), minlength=count).tolist()
        for name, split in images.items()
    }
    sizes = {name: sum(counts) for name, counts in classes.items()}
    facts = {
        "data": data,
        "files": [str(file)],
        "image_shape": list(splits.train.images.shape[1:]),
        "splits": [{"split": name, "count": count} for name, count in sizes.items()],
        "classes": [
            {"label": label, **{split: classes[split][index] for split in SPLIT_NAMES}}
            for index, label in enumerate(names)
        ],
        "notes": list(splits.notes),
    }
    view = table("class", *SPLIT_NAMES, right=SPLIT_NAMES)
    for index, label in enumerate(names):
        view.add_row(label, *(f"{classes[split][index]:,}" for split in SPLIT_NAMES))
    view.add_row("all", *(f"{count:,}" for count in sizes.values()))
    notes = (f"note: {note}" for note in splits.notes)
    return CommandResult(facts, Group(view, *notes, f"wrote {file!s}"))
