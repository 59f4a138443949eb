"""What `inspect` and a training show of a dataset: classes, counts, sizes and duplicates."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from ..converters.errors import TorchliftError
from .result import table

if TYPE_CHECKING:
    from ..transfer.data.description import DataDescription

#: Images of the largest class for each of the smallest, from which on it is worth a line.
_IMBALANCED = 2.0

#: Classes that a line names.
_NAMED = 20


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


def describe_dataset(source: str) -> DataDescription:
    """Return what a dataset holds.

    Raises:
        TorchliftError: If it cannot be read.
    """
    from ..transfer.data import open_data, stream_folder
    from ..transfer.data.description import describe_data
    from ..transfer.data.readers import find_reader
    from ..transfer.data.readers.image_folder import KIND

    # Of a folder no image is decoded.
    is_folder = find_reader(source).kind == KIND
    return describe_data(stream_folder(source) if is_folder else open_data(source))


def dataset_in(file: str) -> DataDescription | None:
    """Return the description of the dataset in a `.t7`, None if it holds none."""
    with suppress(TorchliftError):
        return describe_dataset(file)
    return None


def dataset_view(found: DataDescription) -> RenderableType:
    """Return the description of a dataset for people."""
    splits, labels = found.named_splits, found.labels
    parts: list[RenderableType] = [f"{found.count:,} images{_sizes(found)}"]
    columns = ("images", *splits)
    view = table("class", *columns, right=columns)
    for index, label in enumerate(labels or []):
        counts = [found.counts[name][index] for name in found.splits]
        view.add_row(label, *(f"{count:,}" for count in _with_sum(counts, splits)))
    view.add_row("all", *(f"{total:,}" for total in _with_sum([*found.splits.values()], splits)))
    if labels is None:
        parts.append("no labels")
    notes = (f"note: {note}" for note in found.notes)
    return Group(*parts, view, *findings(found), *notes)


def summary_lines(found: DataDescription) -> list[str]:
    """Return the description of the splits of a training in a few lines.

    Args:
        found: The description.
    """
    labels = found.labels or []
    each = list(zip(labels, found.counts.get("train", []), strict=False))
    named = ", ".join(f"{label} {count:,}" for label, count in each[:_NAMED])
    more = f", … {len(each) - _NAMED:,} more" if len(each) > _NAMED else ""
    return [
        f"data: {found.count:,} images{_sizes(found)}; {len(labels):,} classes, training images of "
        f"each: {named}{more}",
        *findings(found),
    ]


def findings(found: DataDescription) -> list[str]:
    """Return what is worth a look: classes of very different sizes, and equal images.

    Args:
        found: The description.
    """
    lines = []
    if found.imbalance is not None and found.imbalance >= _IMBALANCED:
        lines.append(
            f"imbalance: {found.imbalance:.3g} images of the largest class for each of the smallest"
        )
    duplicates = found.duplicates
    counts = [
        f"{count:,} repeat an earlier image{f' of {split}' if split else ''}"
        for split, count in duplicates.repeated
    ]
    counts += [
        f"{count:,} of {other} are in {split} too" for split, other, count in duplicates.shared
    ]
    if duplicates.conflicting:
        counts.append(f"{duplicates.conflicting:,} have another class than an equal image")
    some = duplicates.examined < found.count
    looked = f" (looked at {duplicates.examined:,} of {found.count:,})" if some else ""
    if counts:
        pairs = "; ".join(f"{one} = {other}" for one, other in duplicates.examples)
        lines.append(f"duplicates{looked}: {', '.join(counts)} ({pairs})")
    elif some and duplicates.examined:
        lines.append(f"duplicates{looked}: none")
    return lines


def _with_sum(counts: list[int], splits: list[str]) -> list[int]:
    return [sum(counts), *counts] if splits else counts


def _sizes(found: DataDescription) -> str:
    if found.image_shape is not None:
        return f" {'×'.join(map(str, found.image_shape))}"
    if found.sizes is None:
        return ""
    smallest, largest = (
        "×".join(map(str, size)) for size in (found.sizes.smallest, found.sizes.largest)
    )
    some = found.sizes.examined < found.count
    looked = f" (looked at {found.sizes.examined:,})" if some else ""
    if smallest == largest:
        return f" of {smallest}{looked}"
    return f" of {smallest} to {largest}, {found.sizes.different:,} sizes{looked}"
