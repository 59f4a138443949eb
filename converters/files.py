"""Atomic writes of files and folders: completely or not at all, whatever ends the process."""

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

#: The beginning of the name of a temporary folder.
TEMPORARY_PREFIX = ".torchlift-"
#: Then follow machine, process, start time of the process, and a counter.
_TEMPORARY = re.compile(rf"{re.escape(TEMPORARY_PREFIX)}([0-9a-f]{{8}})-(\d+)-(\d+)-\d+")
_numbers = itertools.count()
_cleaned: set[Path] = set()
_process_ids: dict[int, str] = {}

#: Arguments of Linux's `renameat2`: paths relative to the current folder; exchange both names.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def check_output(
    target: str | os.PathLike[str], overwrite: bool = False, *, folder: bool = False
) -> Path:
    """Check that a path can be written to, before the expensive work starts.

    Args:
        target: The path; its parent folder must exist.
        overwrite: Whether an existing file or folder may be replaced.
        folder: Whether a folder will be written; it may exist if it is empty.

    Raises:
        WriteError: If the path exists already or is a symbolic link, or its parent folder does not
            exist; or if it is the folder that the process works in.
    """
    path = Path(target)
    if not path.name:
        path = path.resolve()
    if path.is_symlink():
        raise WriteError(
            f"{path} is a symbolic link and is not replaced; name {path.resolve()} itself, or "
            "choose another name"
        )
    if not path.parent.is_dir():
        raise WriteError(f"{path.parent}: no such folder")
    remove_abandoned(path.parent)
    if path.is_dir() and not folder:
        raise WriteError(f"{path} is a folder; a file name was expected")
    empty = folder and path.is_dir() and not any(path.iterdir())
    if os.path.lexists(path) and not overwrite and not empty:
        raise WriteError(f"{path} already exists; overwrite=True replaces it")
    if empty:
        check_elsewhere(path)
    return path


def check_elsewhere(folder: Path) -> None:
    """Check that a folder that will be replaced is not the one that the process works in.

    Whoever stands in it, this process or a shell, would stand in a folder that is gone.

    Raises:
        WriteError: If it is.
    """
    if Path.cwd().is_relative_to(folder.resolve()):
        raise WriteError(
            f"{folder.resolve()} is the folder that you are in, and would be replaced as a whole: "
            "name a new one"
        )


@contextmanager
def atomic_path(target: str | os.PathLike[str], *, durable: bool = True) -> Iterator[Path]:
    """Yield a path to write to, which replaces `target` when the block ends without an error.

    The path is in a temporary folder beside the target and has the target's name. A file or a
    folder may be written there; other files in the temporary folder are moved beside the target
    first. If the block raises an error, nothing is changed and nothing is left behind. The
    temporary folders of a killed process are removed by the next process that writes to the same
    parent folder.

    Args:
        target: A file or a folder, which is replaced if it exists (see `check_output`).
        durable: Whether to wait until the disk has the data, so that even a power failure cannot
            leave a part of it.

    Raises:
        WriteError: If the disk is full, the folder is read-only, and the like.

    Example:
        >>> from tempfile import mkdtemp
        >>> target = Path(mkdtemp()) / "notes.txt"
        >>> with atomic_path(target) as path:
        ...     _ = path.write_text("all of it", encoding="utf-8")
        >>> target.read_text(encoding="utf-8")
        'all of it'
    """
    path = Path(target)
    path = path if path.name else path.resolve()
    with temporary_folder(path) as temporary, write_errors(path, temporary):
        written = temporary / path.name
        yield written
        for entry in (*sorted(set(temporary.iterdir()) - {written}), written):
            if durable:
                _sync(entry)
            _move(entry, path.parent / entry.name)
        if durable:
            _sync_one(path.parent)


@contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside a target; it is removed with what is still in it.

    Args:
        target: What is written, as errors name it.

    Raises:
        WriteError: If the disk is full, the folder is read-only, and the like.
    """
    remove_abandoned(target.parent)
    temporary = _temporary_beside(target)
    try:
        with write_errors(target, temporary):
            temporary.mkdir()
        yield temporary
    finally:
        _remove(temporary)


@contextmanager
def write_errors(target: Path, temporary: Path) -> Iterator[None]:
    """Raise errors of writing to a temporary folder as errors of the target.

    Errors about another file, such as one that is read from, are left as they are.

    Raises:
        WriteError: If the disk is full, the folder is read-only, and the like.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None or str(error.filename).startswith(str(temporary)):
            raise WriteError(f"{target}: cannot be written: {error.strerror or error}") from error
        raise


def discard(folder: Path) -> None:
    """Remove a folder; what a kill leaves of it goes with the temporary folders.

    Raises:
        OSError: If it cannot be moved.
    """
    temporary = _temporary_beside(folder)
    temporary.mkdir()
    folder.rename(temporary / folder.name)
    _remove(temporary)


def _temporary_beside(path: Path) -> Path:
    return path.parent / f"{TEMPORARY_PREFIX}{_process_id()}-{next(_numbers)}"


def _remove(folder: Path) -> None:
    """Remove a temporary folder, even if a signal interrupts the removal."""
    try:
        folder.rmdir()  # What was written has been moved away, as a rule.
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        if folder.exists():
            shutil.rmtree(folder, ignore_errors=True)


def is_temporary(path: Path) -> bool:
    """Return whether a path is a temporary folder of `atomic_path`."""
    is_folder = path.is_dir() and not path.is_symlink()
    return is_folder and _TEMPORARY.fullmatch(path.name) is not None


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary folders of processes that no longer run; once for each folder."""
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
    """Return a unique name for this process; a process number alone is reused."""
    process = os.getpid()
    if process not in _process_ids:  # One that was forked is another.
        _process_ids[process] = f"{_machine()}-{process}-{_start_time(process) or 0}"
    return _process_ids[process]


def _machine() -> str:
    """Return eight digits that identify this machine, because folders can be shared."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _start_time(process: int) -> int | None:
    """Return the start time of a process in clock ticks; 0 if unknown, None if it has ended."""
    stat = Path("/proc", str(process), "stat")
    if stat.exists():
        # The second field is the program's name in parentheses, which may contain blanks.
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
    """Wait until the disk has a file, or a folder with its contents."""
    if path.is_dir():
        for entry in path.iterdir():
            _sync(entry)
    _sync_one(path)


def _sync_one(path: Path) -> None:
    # Not every system can open folders, and not every file system can sync them.
    with suppress(OSError) if path.is_dir() else nullcontext():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _move(source: Path, target: Path) -> None:
    """Move a file or folder to its final name; an existing folder takes the temporary name."""
    if target.is_dir() and not target.is_symlink():
        if not _exchange(source, target):
            old = target.rename(source.with_name(f"{source.name}.old"))
            try:
                source.rename(target)
            except BaseException:
                old.rename(target)
                raise
    else:
        source.replace(target)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one step, on systems that can (Linux)."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    paths = os.fsencode(first), os.fsencode(second)
    return int(rename(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE)) == 0
