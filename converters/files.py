"""Writing files and folders: all of it or nothing, whatever ends the process."""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from .errors import WriteError

#: The name of a temporary folder: machine, process, when that started, a number of its own.
_TEMPORARY = re.compile(r"\.torchlift-([0-9a-f]{8})-(\d+)-(\d+)-\d+")
_numbers = itertools.count()
_cleaned: set[Path] = set()

#: `renameat2` of Linux: paths are relative to the current folder; both names change places.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def check_output(
    target: str | os.PathLike[str], overwrite: bool = False, *, folder: bool = False
) -> Path:
    """Check that something can be written to a path, before the work that it takes is done.

    Args:
        target: where to; its folder must exist.
        overwrite: whether what is there may be replaced.
        folder: a folder will be written; an empty one may be there.

    Raises:
        WriteError: when the path is taken, or its folder does not exist.
    """
    path = Path(target)
    if not path.parent.is_dir():
        raise WriteError(f"{path.parent}: no such folder")
    if path.is_dir() and not folder:
        raise WriteError(f"{path} is a folder; a file name was expected")
    empty = folder and path.is_dir() and not any(path.iterdir())
    if os.path.lexists(path) and not overwrite and not empty:
        raise WriteError(f"{path} already exists; overwrite=True replaces it")
    return path


@contextmanager
def atomic_path(target: str | os.PathLike[str], *, durable: bool = True) -> Iterator[Path]:
    """Yield a path to write to, which replaces `target` when the block ends without an error.

    It has the target's name, in a temporary folder beside it. A file or a folder may be written
    there; what else is written into the temporary folder is moved beside the target first. When
    the block raises, nothing is changed and nothing is left behind. What a process that was killed
    left in a folder is removed by the next one that writes there.

    Args:
        target: a file or a folder; what is there is replaced (see `check_output`).
        durable: wait until it is on the disk, so that not even a power failure leaves half of it.

    Raises:
        WriteError: when the disk is full, the folder is read-only, and the like.

    Example:
        >>> from tempfile import mkdtemp
        >>> target = Path(mkdtemp()) / "notes.txt"
        >>> with atomic_path(target) as path:
        ...     _ = path.write_text("all of it", encoding="utf-8")
        >>> target.read_text(encoding="utf-8")
        'all of it'
    """
    path = Path(target)
    remove_abandoned(path.parent)
    temporary = path.parent / f".torchlift-{_process_id()}-{next(_numbers)}"
    written = temporary / path.name
    try:
        temporary.mkdir()
        yield written
        for entry in (*sorted(set(temporary.iterdir()) - {written}), written):
            if durable:
                _sync(entry)
            _move(entry, path.parent / entry.name)
        if durable:
            _sync_one(path.parent)
    except OSError as error:
        # An error about another file, such as one that is read from, is left as it is.
        if error.filename is None or str(error.filename).startswith(str(temporary)):
            raise WriteError(f"{path}: cannot be written: {error.strerror or error}") from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_abandoned(folder: Path) -> None:
    """Remove what processes of this machine that no longer run left in a folder, once a process."""
    if folder in _cleaned:
        return
    _cleaned.add(folder)
    with suppress(OSError):
        for entry in list(folder.iterdir()):
            found = _TEMPORARY.fullmatch(entry.name)
            if not found or found[1] != _machine():
                continue
            if _start_time(int(found[2])) != int(found[3]):
                shutil.rmtree(entry, ignore_errors=True)


def _process_id() -> str:
    """Return what no other process has: its number alone may be given again later."""
    return f"{_machine()}-{os.getpid()}-{_start_time(os.getpid()) or 0}"


def _machine() -> str:
    """Return eight digits for this machine: several may write into one shared folder."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _start_time(process: int) -> int | None:
    """Return when a process started, in ticks of the system; 0 if unknown, None if it is gone."""
    stat = Path("/proc", str(process), "stat")
    if stat.exists():
        # The second field is the program's name in parentheses, which may hold blanks.
        return int(
            stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
        )
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return None
    except OSError:
        return 0
    return 0


def _sync(path: Path) -> None:
    """Wait until a file, or a folder with all that is in it, is on the disk."""
    if path.is_dir():
        for entry in path.iterdir():
            _sync(entry)
    _sync_one(path)


def _sync_one(path: Path) -> None:
    # Not every system opens folders, nor every file system waits for them.
    with suppress(OSError) if path.is_dir() else nullcontext():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _move(source: Path, target: Path) -> None:
    """Give something its final name; a folder that had it gets the source's, to be removed."""
    if target.is_dir() and not target.is_symlink():
        if not _exchange(source, target):
            target.rename(source.with_name(f"{source.name}.old"))
            source.rename(target)
    else:
        source.replace(target)


def _exchange(first: Path, second: Path) -> bool:
    """Let two names change places in one step, where the system can (Linux)."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    paths = os.fsencode(first), os.fsencode(second)
    return int(rename(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE)) == 0
