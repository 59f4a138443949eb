"""Opening a dataset by its name: a file, a folder, or `sklearn:digits`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..errors import DataError
from .class_matching import name_classes
from .dataset import Dataset
from .image_files import ImageFiles
from .readers import ReadOptions, find_reader
from .selection import keep_valid_labels, limited, select_classes


def open_data(
    source: str | os.PathLike[str],
    *,
    classes: Sequence[str] | None = None,
    limit: int | None = None,
    balanced: bool = False,
    first_label: int | None = None,
    class_names: Sequence[str] | None = None,
    default_class_names: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
    split: str | None = None,
    on_error: str = "raise",
    seed: int = 0,
) -> Dataset | ImageFiles:
    """Open labeled images of any kind.

    They are in memory as uint8, except the images of a folder that differ in size or take more
    than 2 GB: these are `ImageFiles`, which work wherever images are read in batches.

    Args:
        source: A `.t7` or `.npz` file; a folder with a subfolder of images for each class, or
            with `train`, `val`, `test` of these; a table of image files; webdataset's archives;
            what Hugging Face's `datasets` saved; the files of CIFAR or MNIST, or their folder;
            `sklearn:digits` for scikit-learn's digits. `digits` is the same, unless there is a
            file or folder of that name; `sklearn:digits` is unambiguous.
        classes: The names of the only classes to use, renumbered in this order.
        limit: At most this many images, drawn by seed.
        balanced: Draw the same number from each class, not in the data's own proportions.
        first_label: For a `.t7` or `.npz`, the label of the first class; by default 0 if that
            label occurs, else 1.
        class_names: The class names of a source without names; the order of the classes of a
            source that has names.
        default_class_names: The class names of a source without names; others stay as they are.
        size: (height, width) that the images of a folder are resized to.
        split: Only the source's own `train`, `val` or `test`.
        on_error: `raise` an error for the first label out of range or unreadable image, or `skip`
            them, counted and named in the notes.
        seed: The seed of the limit's draw.

    Raises:
        TorchliftError: If there is no such dataset, it cannot be read, or it lacks what is asked
            for.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> import numpy as np
        >>> from torchlift.transfer.data import open_data
        >>> file = Path(mkdtemp()) / "data.npz"
        >>> pixels = np.zeros((4, 1, 8, 8), np.uint8)
        >>> np.savez(file, x=pixels, y=[0, 1, 2, 1], classes=["cat", "dog", "owl"])
        >>> data = open_data(file, classes=["owl", "dog"])
        >>> data.images.shape, data.classes.tolist(), data.names
        ((3, 1, 8, 8), [1, 0, 1], ('owl', 'dog'))
        >>> data.ids.tolist()
        [1, 2, 3]
        >>> data.notes
        ('labels 0 to 2, counted from 0 as found', 'classes owl, dog: 3 of 4')
    """
    if on_error not in ("raise", "skip"):
        raise DataError(f"on_error={on_error!r}: expected 'raise' or 'skip'")
    for option, value in (("classes", classes), ("class_names", class_names)):
        if isinstance(value, str):
            raise DataError(f"{option}={value!r}: a list of names was expected")
    name = os.fspath(source)
    options = ReadOptions(first_label=first_label, size=size, split=split, on_error=on_error)
    data = find_reader(name).read(name, options)
    if size is not None and isinstance(data, Dataset) and data.images.shape[2:] != size:
        note = "the images keep their size: only those of a folder are resized"
        data = replace(data, notes=(*data.notes, note))
    if class_names is None and data.names is None:
        class_names = default_class_names
    if class_names is not None:
        data = name_classes(data, class_names)
    data = keep_valid_labels(data, on_error)
    if split is not None:
        data = _take_split(data, split, name)
    if classes is not None:
        data = select_classes(data, classes)
    if limit is not None:
        data = limited(data, limit, balanced=balanced, seed=seed)
    if not len(data):
        raise DataError(f"{name}: no images are left")
    if data.ids is None:
        data = replace(data, ids=np.arange(len(data)))
    return data


def _take_split(data: Dataset | ImageFiles, split: str, source: str) -> Dataset | ImageFiles:
    if data.splits is None or split not in data.splits:
        available = "no splits" if data.splits is None else ", ".join(np.unique(data.splits))
        raise DataError(f"{source}: no split {split}; it has {available}")
    return data.take(np.flatnonzero(data.splits == split))
