"""The index of a folder of images: the order of its classes, and what they are called.

`torchlift dump` writes it, so that a folder of images trains to the same numbers as the dataset
that it was made from: a folder alone orders its classes by name, and its images by class. With an
index the images are in the order of their file names, whatever their class is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...converters.images.errors import ImageError

#: The name of the index in the folder.
INDEX = "dataset.json"

_FORMAT = "torchlift image folder"


@dataclass(frozen=True)
class ClassIndex:
    """The classes of a folder of images.

    Attributes:
        classes: The folder of each class and its label, in order; None for classes without names.

    Example:
        >>> index = ClassIndex({"dog": "dog", "cat-2": "cat"})
        >>> index.ordered({"cat-2", "bird", "dog"}), index.labels(("dog", "cat-2", "bird"))
        (('dog', 'cat-2', 'bird'), ('dog', 'cat', 'bird'))
    """

    classes: Mapping[str, str | None]

    def ordered(self, folders: Iterable[str]) -> tuple[str, ...]:
        """Return the folders of all classes in order; those that are not listed come last."""
        return (*self.classes, *sorted({*folders} - {*self.classes}))

    def labels(self, folders: Iterable[str]) -> tuple[str, ...] | None:
        """Return the labels of folders; None if their classes have no names."""
        labels = [self.classes.get(folder, folder) for folder in folders]
        named = tuple(label for label in labels if label is not None)
        return named if len(named) == len(labels) else None


def write_index(index: ClassIndex, folder: Path) -> None:
    """Write the index of a folder.

    Raises:
        OSError: If it cannot be written.
    """
    classes = [{"folder": name, "label": label} for name, label in index.classes.items()]
    document = {"format": _FORMAT, "version": 1, "classes": classes}
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (folder / INDEX).write_text(text + "\n", encoding="utf-8")


def read_index(folder: Path) -> ClassIndex | None:
    """Return the index of a folder; None if it has none, or a file of that name of another kind.

    Raises:
        ImageError: If the index is damaged.
    """
    file = folder / INDEX
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        return None
    try:
        classes = {entry["folder"]: entry["label"] for entry in document["classes"]}
    except (KeyError, TypeError):
        classes = {1: None}
    if document.get("version") != 1 or not all(
        isinstance(name, str) and isinstance(label, (str, type(None)))
        for name, label in classes.items()
    ):
        raise ImageError(f"{file}: not an index that this version reads; remove it to go without")
    return ClassIndex(classes)
