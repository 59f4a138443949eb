"""NumPy's `.npz` archives."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO
from zipfile import ZipFile, ZipInfo

import numpy as np
from numpy.lib.format import (
    MAGIC_PREFIX,
    read_array_header_1_0,
    read_array_header_2_0,
    read_magic,
)

from ....converters.errors import NotFiniteError
from ...errors import DataError
from ..array_layout import (
    IMAGE_KEYS,
    LABEL_KEYS,
    NAME_KEYS,
    build_dataset,
    build_dataset_of_splits,
    group_by_split,
)
from ..dataset import Dataset
from ..row_labels import classes_of
from .registry import ReadOptions, has_suffix, reader

#: Images hardly compress: an archive that unpacks to more than so many times its size, and to more
#: than any machine's memory holds, is an attack.
_MAX_EXPANSION, _ALWAYS_ALLOWED = 64, 256 * 2**20


@reader("a .npz file", accepts=has_suffix(".npz"), order=30)
def read_npz(source: str, options: ReadOptions) -> Dataset:
    """Return the labeled images of a `.npz` file.

    Arrays have usual names: `x` and `y`, `x_train` and `y_train`, `test_images`, …. Channels may be
    first (N, C, H, W) or last (N, H, W, C). Labels are numbers, or the names of classes. Pickled
    objects are not loaded.

    Raises:
        DataError: If it cannot be read, or holds no images under a usual name.
        NotFiniteError: If a pixel or a label is NaN or infinite.
    """
    arrays = {name.lower(): array for name, array in load_arrays(source).items()}
    try:
        return _with_source_classes(_dataset(source, arrays, options), arrays)
    except NotFiniteError as error:
        raise NotFiniteError(f"{source}: {error}") from None
    except DataError as error:
        raise DataError(f"{source}: {error}") from None


def _dataset(source: str, arrays: Mapping[str, np.ndarray], options: ReadOptions) -> Dataset:
    names = _names(arrays)
    images, first_label = _images(arrays), options.first_label
    if images is not None:
        labels = {"": _entry(arrays, LABEL_KEYS)}
        numbers, found, label_notes = _numbers(labels, names, first_label)
        data = build_dataset(
            images,
            numbers[""],
            found,
            first_label=first_label,
            are_classes=label_notes is not None,
        )
        data = replace(data, notes=(*data.notes, *(label_notes or ())))
        return _with_note_on_text(data, arrays, labels)
    groups = group_by_split(arrays)
    own_images = {split: _images(group) for split, group in groups.items()}
    labels = {split: _entry(group, LABEL_KEYS) for split, group in groups.items()}
    numbers, found, label_notes = _numbers(labels, names, first_label)
    splits = {split: (own, numbers[split]) for split, own in own_images.items() if own is not None}
    if not splits:
        raise DataError(
            "no images under a usual name (x, data, images, x_train, train_images) "
            f"among: {', '.join(list(arrays)[:8])}"
        )
    own_names = {split: listed for split in splits if (listed := _names(groups[split]))}
    data = build_dataset_of_splits(
        splits,
        found,
        split_names=own_names,
        first_label=first_label,
        are_classes=label_notes is not None,
    )
    data = replace(data, notes=(*data.notes, *(label_notes or ())))
    return _with_note_on_text(data, arrays, labels)


def _with_source_classes(data: Dataset, arrays: Mapping[str, np.ndarray]) -> Dataset:
    """Return data with what `write_npz` says of classes whose names are only numbers.

    Raises:
        DataError: If it is no number for each class.
    """
    listed = arrays.get("source_classes")
    if listed is None:
        return data
    if (
        listed.dtype.kind not in "iu"
        or listed.shape != (len(data.names or ()),)
        or (listed < 0).any()
    ):
        raise DataError("source_classes are no indices from 0, one for each class name")
    return replace(data, source_classes=tuple(listed.tolist()))


def _numbers(
    labels: Mapping[str, np.ndarray | None],
    names: tuple[str, ...] | None,
    first_label: int | None,
) -> tuple[dict[str, np.ndarray | None], tuple[str, ...] | None, list[str] | None]:
    """Return labels that are texts as classes from 0, with notes; numbers as they are, with None.

    Raises:
        DataError: If a text is none of the names, or stands for several.
    """
    given = {split: array for split, array in labels.items() if array is not None}
    if not given or any(array.dtype.kind not in "US" for array in given.values()):
        return dict(labels), names, None
    texts = {split: np.char.decode(a) if a.dtype.kind == "S" else a for split, a in given.items()}
    for split, array in texts.items():
        if array.ndim != 1:
            raise DataError(f"several labels an image ({split or 'labels'} of {array.ndim} axes)")
    rows = np.concatenate([*texts.values()]).tolist()
    classes, found, notes = classes_of(rows, first_label, names)
    if classes is None:
        return dict.fromkeys(labels), names, []
    parts = np.split(classes, np.cumsum([len(array) for array in texts.values()])[:-1])
    return {**labels, **dict(zip(texts, parts, strict=True))}, found, notes


def _names(arrays: Mapping[str, np.ndarray]) -> tuple[str, ...] | None:
    listed = _entry(arrays, NAME_KEYS)
    return None if listed is None else tuple(map(str, np.ravel(listed).tolist()))


def _with_note_on_text(
    data: Dataset, arrays: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray | None]
) -> Dataset:
    """Note the text that could be the class names of data without names."""
    if data.names is not None or data.classes is None:
        return data
    count = int(data.classes.max(initial=-1)) + 1
    notes = [
        f"the array {name} of {count} texts is not used: class names are called {NAME_KEYS[0]}"
        for name, array in arrays.items()
        if array.dtype.kind in "US"
        and array.size == count
        and not any(array is own for own in labels.values())
    ]
    return replace(data, notes=(*data.notes, *notes))


def load_arrays(file: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return the arrays of a `.npz` file by name. Pickled objects are not loaded.

    Raises:
        DataError: If the file does not exist, is damaged, or holds something else.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> file = Path(mkdtemp()) / "arrays.npz"
        >>> np.savez(file, x=np.zeros((2, 3)))
        >>> load_arrays(file)["x"].shape
        (2, 3)
    """
    try:
        _check_sizes(file)
        with np.load(file, allow_pickle=False) as archive:
            # An entry that is no array is given as bytes.
            return {name: x for name, x in archive.items() if isinstance(x, np.ndarray)}
    # Damaged bytes raise errors of zip, of zlib and of NumPy, which share no other base class.
    except Exception as error:
        raise DataError(f"{os.fspath(file)}: cannot be read: {error}") from None


def _check_sizes(file: str | os.PathLike[str]) -> None:
    """Check the sizes that an archive claims before memory is asked for.

    Raises:
        DataError: If the archive unpacks to much more than it is, or an array claims more bytes
            than its entry has.
    """
    packed = Path(file).stat().st_size
    with ZipFile(file) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > max(_ALWAYS_ALLOWED, _MAX_EXPANSION * packed):
            raise DataError(f"{packed:,} bytes would unpack to {unpacked:,}")
        for entry in archive.infolist():
            with archive.open(entry) as stream:
                if stream.read(len(MAGIC_PREFIX)) == MAGIC_PREFIX:
                    stream.seek(0)
                    _check_array(stream, entry)


def _check_array(stream: IO[bytes], entry: ZipInfo) -> None:
    read_header = read_array_header_1_0 if read_magic(stream)[0] == 1 else read_array_header_2_0
    shape, _, dtype = read_header(stream)
    if dtype.hasobject:
        raise DataError(
            f"{entry.filename} holds Python objects, which are not loaded: save numbers or texts, "
            "such as np.array(names, dtype=str)"
        )
    claimed, there = math.prod(shape) * dtype.itemsize, entry.file_size - stream.tell()
    if claimed != there or any(size < 0 for size in shape):
        raise DataError(f"{entry.filename} claims {claimed:,} bytes, it has {there:,}")


def _images(arrays: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Return the images, if there are any, with the channels first."""
    images = _entry(arrays, IMAGE_KEYS)
    if images is None or images.ndim != 4:
        return images
    channels_last = images.shape[1] not in (1, 3) and images.shape[3] in (1, 3)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if channels_last else images


def _entry(arrays: Mapping[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray | None:
    return next((arrays[name] for name in names if name in arrays), None)
