"""Which function reads which kind of dataset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...errors import DataError
from ..dataset import Dataset
from ..image_files import ImageFiles


@dataclass(frozen=True)
class ReadOptions:
    """What a reader may need besides the source; each applies to some kinds only.

    Attributes:
        first_label: The label of the first class; None detects it.
        size: (height, width) that the images of a folder are resized to.
        split: The only split that is needed; a reader may still return the others.
        on_error: `raise`, or `skip` to leave out what cannot be read, with a note.

    Example:
        >>> from torchlift.transfer.data.readers import find_reader
        >>> find_reader("sklearn:digits").read("sklearn:digits", ReadOptions()).images.shape
        (1797, 1, 32, 32)
    """

    first_label: int | None = None
    size: tuple[int, int] | None = None
    split: str | None = None
    on_error: str = "raise"


#: Source and options → the labeled images.
ReadFunction = Callable[[str, ReadOptions], Dataset | ImageFiles]


@dataclass(frozen=True)
class Reader:
    """One kind of dataset.

    Attributes:
        kind: What a source of this kind is, as messages list it: "a .t7 file".
        accepts: Whether a source is of this kind; called for sources that do not exist, too.
        read: Reads a source that was accepted.
        order: Readers are asked in ascending order; the first that accepts a source reads it.
    """

    kind: str
    accepts: Callable[[str], bool]
    read: ReadFunction
    order: int


_READERS: list[Reader] = []


def reader(
    kind: str, *, accepts: Callable[[str], bool], order: int
) -> Callable[[ReadFunction], ReadFunction]:
    """Register a function as the reader of a kind of dataset (see `Reader`).

    Raises:
        ValueError: If the kind is registered already.

    Example:
        >>> @reader("a .dots file", accepts=has_suffix(".dots"), order=45)
        ... def read_dots(source: str, options: ReadOptions) -> Dataset: ...
        >>> "a .dots file" in describe_kinds()
        True
        >>> _READERS[:] = [each for each in _READERS if each.read is not read_dots]
    """

    def register(read: ReadFunction) -> ReadFunction:
        if any(known.kind == kind for known in _READERS):
            raise ValueError(f"a reader of {kind} is already registered")
        _READERS.append(Reader(kind, accepts, read, order))
        return read

    return register


def registered_readers() -> list[Reader]:
    """Return every reader, in the order in which they are asked.

    Example:
        >>> from torchlift.transfer.data import readers
        >>> "a .t7 file" in [each.kind for each in readers.registered_readers()]
        True
    """
    return sorted(_READERS, key=lambda each: (each.order, each.kind))


def describe_kinds() -> str:
    """Return what a dataset can be, as part of a sentence.

    Example:
        >>> from torchlift.transfer.data import readers
        >>> ", or " in readers.describe_kinds()
        True
    """
    *kinds, last = (each.kind for each in registered_readers())
    return f"{', '.join(kinds)}, or {last}"


def find_reader(source: str) -> Reader:
    """Return the reader of a source.

    Raises:
        DataError: If there is no such file or folder, or no reader accepts it.

    Example:
        >>> from torchlift.transfer.data import readers
        >>> readers.find_reader("sklearn:digits").kind
        'sklearn:digits'
    """
    for each in registered_readers():
        if each.accepts(source):
            return each
    if not Path(source).exists():
        raise DataError(f"{source}: no such file or folder; a dataset is {describe_kinds()}")
    raise DataError(f"{source}: not a dataset; a dataset is {describe_kinds()}")


def has_suffix(suffix: str) -> Callable[[str], bool]:
    """Return a condition that accepts existing files with this suffix, such as `.npz`.

    Example:
        >>> is_npz = has_suffix(".npz")
        >>> is_npz("nothing-is-here.npz")
        False
    """

    def accepts(source: str) -> bool:
        path = Path(source)
        return path.suffix.lower() == suffix and path.exists() and not path.is_dir()

    return accepts
