"""What may be replaced: only what torchlift wrote, and nothing through a symbolic link.

A folder is replaced or emptied only if it is of a known kind, which the content of its files
shows, and only if nothing else is in it. A name alone proves nothing: other programs write a
`config.json` or a `zarr.json` too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import WriteError
from .files import check_elsewhere, check_output, is_temporary

#: Files that file managers leave in every folder that they show.
_CLUTTER = re.compile(r"\.DS_Store|Thumbs\.db|desktop\.ini")
#: What macOS keeps of a file on other file systems is in `._` and its name, and begins so.
_APPLE_DOUBLE = ("._", b"\x00\x05\x16\x07")

#: How many names a message lists.
_LISTED = 3


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder that torchlift writes.

    Attributes:
        name: What messages call one, such as "a saved model".
        is_one: Whether the content of a folder's files shows that it is one.
        files: Matches the path of each of its files, relative to the folder.
        is_ours: Whether a file of such a path is torchlift's, where its name does not tell it.
    """

    name: str
    is_one: Callable[[Path], bool]
    files: re.Pattern[str]
    is_ours: Callable[[Path], bool] = lambda file: True


def check_output_folder(
    target: str | os.PathLike[str], kind: FolderKind, overwrite: bool = False
) -> Path:
    r"""Check that a folder can be written or replaced, before the expensive work starts.

    Args:
        target: The folder; its parent must exist. An empty folder counts as free.
        kind: What will be written, and the only thing that may be replaced.
        overwrite: Whether a folder of this kind may be replaced.

    Raises:
        WriteError: If the folder may not be replaced; the message names what stands in it.

    Example:
        >>> from tempfile import mkdtemp
        >>> kind = FolderKind("a diary", Path.is_dir, re.compile(r".*\.txt"))
        >>> check_output_folder(Path(mkdtemp()) / "new", kind).name
        'new'
    """
    path = check_output(target, overwrite, folder=True)
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        check_replaceable(path, kind)
        check_elsewhere(path)
    return path


def check_replaceable(folder: Path, kind: FolderKind) -> None:
    """Check that a folder is of a kind, and that nothing else stands in it.

    Raises:
        WriteError: If it is something else, or holds more; the message names it.
    """
    if folder.is_symlink() or not folder.is_dir() or not kind.is_one(folder):
        raise WriteError(f"{folder} is not {kind.name} and is not replaced; choose another name")
    others = foreign_entries(folder, kind)
    if others:
        more = ", …" if len(others) > _LISTED else ""
        raise WriteError(
            f"{folder} is not replaced: it also contains {', '.join(others[:_LISTED])}{more}; "
            "move the other files or choose another name"
        )


def foreign_entries(folder: Path, kind: FolderKind) -> list[str]:
    """Return the paths in a folder that do not belong to its kind; a link never does."""
    foreign = []
    for path in _walk(folder):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            foreign.append(name)
        elif path.is_dir():
            foreign += [] if any(path.iterdir()) or kind.files.fullmatch(name) else [name]
        elif kind.files.fullmatch(name):
            foreign += [] if kind.is_ours(path) else [name]
        elif not _is_clutter(path):
            foreign.append(name)
    return foreign


def _is_clutter(file: Path) -> bool:
    prefix, magic = _APPLE_DOUBLE
    if not file.name.startswith(prefix):
        return _CLUTTER.fullmatch(file.name) is not None
    with file.open("rb") as stream:
        return stream.read(len(magic)) == magic


def check_no_links(path: Path) -> None:
    """Check that a file or folder that will be written to is no symbolic link and contains none.

    Raises:
        WriteError: If there is one, which could lead the writing elsewhere.
    """
    entries = _walk(path) if path.is_dir() and not path.is_symlink() else [path]
    link = next((entry for entry in entries if entry.is_symlink()), None)
    if link is not None:
        raise WriteError(f"{link} is a symbolic link, and nothing is written through links")


def _walk(folder: Path) -> Iterator[Path]:
    """Yield everything in a folder, without following links.

    The temporary folders of killed processes are left out: the next writer removes them.
    """
    for path in sorted(folder.iterdir()):
        if is_temporary(path):
            continue
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
