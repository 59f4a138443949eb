"""From a list of encoded images with labels to a dataset, whatever the list was read from."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from ...converters.images.decode import Header, read_header, read_image
from ...converters.images.errors import ImageError
from ..errors import DataError
from .dataset import Dataset
from .image_files import MEMORY_LIMIT, EncodedImage, ImageFiles, name_of, readable
from .remote_files import RemoteFile
from .row_labels import classes_of

if TYPE_CHECKING:
    from .readers.registry import ReadOptions

#: Files that are fetched at the same time.
_REQUESTS = 16

#: How splits are called, in lower case.
SPLITS_BY_NAME: dict[str, str] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


def collect_images(
    sources: Sequence[EncodedImage],
    ids: Sequence[str],
    labels: Sequence[Any],
    options: ReadOptions,
    splits: Sequence[str | None] = (),
    names: Sequence[str] | None = None,
) -> Dataset | ImageFiles:
    """Return encoded images with labels as a dataset.

    Args:
        sources: The images.
        ids: What messages and results call each image.
        labels: The label of each image (see `classes_of`); None where it has none.
        options: How they are read.
        splits: The split of each image, if the source has splits.
        names: The class names, if the source has them.

    Raises:
        DataError: If there are none, or labels or splits are no such.
        ImageError: If an image cannot be read.
    """
    if not len(sources):
        raise DataError("no images")
    classes, class_names, notes = classes_of(labels, options.first_label, names)
    headers, problems = read_headers(sources, ids, options.on_error)
    kept = np.array([index for index, header in enumerate(headers) if header is not None], np.int64)
    if problems:
        notes.append(unreadable_note(problems))
    if not len(kept):
        raise DataError(f"no image can be read: {problems[0]}")
    files = np.empty(len(sources), object)
    for index, source in enumerate(sources):
        files[index] = source
    found = [header for header in headers if header is not None]
    data = ImageFiles(
        files,
        classes,
        class_names,
        tuple(notes),
        np.array([*map(str, ids)]),
        _splits(splits),
        "gray" if all(header.gray for header in found) else "RGB",
    )
    return small_in_memory(data.take(kept), {header.size for header in found}, options.size)


def small_in_memory(
    files: ImageFiles, sizes: set[tuple[int, int]], size: tuple[int, int] | None
) -> Dataset | ImageFiles:
    """Return images decoded if they have one size, or are resized to one, and take at most 2 GB.

    Args:
        files: The images.
        sizes: The sizes (height, width) that occur.
        size: What they are resized to; None if they are not.
    """
    one = size or (next(iter(sizes)) if len(sizes) == 1 else None)
    if one is None or len(files) * 3 * one[0] * one[1] > MEMORY_LIMIT:
        return files
    try:
        return files.in_memory(size)
    except DataError:
        # A PNG may say behind its pixels that it is turned (EXIF): upright, the sizes differ.
        return files


def read_headers(
    sources: Sequence[EncodedImage], ids: Sequence[str], on_error: str
) -> tuple[list[Header | None], list[str]]:
    """Return the header of each image, None for unreadable ones, and what is wrong with these.

    With `raise`, only headers are read. With `skip`, every image is decoded once.

    Raises:
        ImageError: If an image cannot be read and `on_error` is `raise`.
    """

    def header_of(source: EncodedImage, name: str) -> Header | ImageError:
        opened, called = readable(source), name_of(source, name)
        try:
            if on_error == "raise":
                return read_header(opened, called)
            image = read_image(opened, called)
            return Header((image.height, image.width), image.mode == "L")
        except ImageError as error:
            if on_error == "raise":
                raise
            return error

    if any(isinstance(source, RemoteFile) for source in sources):
        # Answers from elsewhere are waited for together.
        with ThreadPoolExecutor(_REQUESTS) as pool:
            found = list(pool.map(header_of, sources, ids))
    else:
        found = [header_of(source, name) for source, name in zip(sources, ids, strict=True)]
    headers = [None if isinstance(each, ImageError) else each for each in found]
    return headers, [str(each) for each in found if isinstance(each, ImageError)]


def unreadable_note(problems: Sequence[str]) -> str:
    """Return the note on images that were left out."""
    examples = "; ".join(problems[:5]) + ("; …" if len(problems) > 5 else "")
    return f"left out, unreadable: {len(problems):,} ({examples})"


def _splits(splits: Sequence[str | None]) -> np.ndarray | None:
    """Return the names of splits, or None if there are none.

    Raises:
        DataError: If one has another name, or only some images have a split.
    """
    if not any(splits):
        return None
    for row, split in enumerate(splits):
        if (split or "").strip().lower() not in SPLITS_BY_NAME:
            raise DataError(f"row {row + 1} has the split {split!r}; train, val or test is one")
    return np.array([SPLITS_BY_NAME[str(split).strip().lower()] for split in splits])
