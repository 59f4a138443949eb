"""The file in which results grow, `FILE.partial`: one writer at a time, and a run can resume it.

Beside it, `FILE.partial.json` says with which model and options its results were computed. Without
it, a partial file is somebody else's and is left alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import WriteError
from ..files import atomic_path, check_output
from ..settings import changed_settings

#: What the settings of a run say that they are.
_FORMAT = "torchlift partial results"


@dataclass(frozen=True)
class Done:
    """An image that an earlier run finished.

    Attributes:
        name: Its name.
        problem: Why it has no predictions, or an empty string.
    """

    name: str
    problem: str


@dataclass(frozen=True)
class LineFormat:
    """How images stand in a partial file, one after the other.

    Attributes:
        header: What stands before the first image.
        begins: The first bytes of every such file that holds an image.
        read: Returns the images that are certainly whole, and the offset at which they end.
    """

    header: bytes
    begins: bytes
    read: Callable[[BinaryIO], tuple[list[Done], int]]


@contextmanager
def open_partial(
    target: Path,
    form: LineFormat,
    *,
    overwrite: bool,
    resume: bool,
    facts: Mapping[str, Any] | None,
) -> Iterator[tuple[BinaryIO, list[Done]]]:
    """Open the partial file of a target, at the end of what is done already.

    No other process can open it at the same time. When the block ends with an error, the file is
    removed if it holds no image.

    Args:
        target: The file that the results become.
        form: How they are written.
        overwrite: Drop what an earlier run left.
        resume: Keep what an earlier run left.
        facts: The settings that determine the results, and the `fingerprint` of the model; those
            of an earlier run must be the same.

    Raises:
        WriteError: If an earlier run left results and neither `overwrite` nor `resume` is set, its
            settings were others, another process writes the file, one of the two files is not
            torchlift's, or cannot be written.
    """
    check_output(target, overwrite)
    partial, record = partial_files(target)
    _read_record(record)  # If it is not ours, nothing is made.
    with _locked(partial) as stream:
        before = _read_record(record)
        done, end = _earlier(stream, form, partial, before is not None)
        if done and resume:
            _check_facts(before or {}, facts or {}, partial)
        elif done and not overwrite:
            raise WriteError(
                f"{partial} holds the results of a run that was stopped ({len(done):,} images): "
                "resume='auto' goes on from there, overwrite=True starts again"
            )
        else:
            done, end = [], 0
        try:
            # First the file by which the other is recognized.
            with atomic_path(record, durable=False) as path:
                settings = {"format": _FORMAT, **(facts or {})}
                path.write_text(json.dumps(settings) + "\n", encoding="utf-8")
            stream.truncate(end)
            stream.seek(end)
            if not done:
                stream.write(form.header)
                stream.flush()
            yield stream, done
        except BaseException:
            if os.fstat(stream.fileno()).st_size <= len(form.header):
                remove_partial(target)
            raise


def partial_files(target: Path) -> tuple[Path, Path]:
    """Return the partial file of a target, and the file with its settings.

    Example:
        >>> [path.name for path in partial_files(Path("r.csv"))]
        ['r.csv.partial', 'r.csv.partial.json']
    """
    partial = target.with_name(f"{target.name}.partial")
    return partial, partial.with_name(f"{partial.name}.json")


def remove_partial(target: Path) -> None:
    """Remove the partial file of a target, and the file with its settings."""
    for path in partial_files(target):
        path.unlink(missing_ok=True)


@contextmanager
def _locked(partial: Path) -> Iterator[BinaryIO]:
    """Open a file that exists or not, for this process alone."""
    # Through a link, a file elsewhere would be written.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(partial, flags, 0o666), "r+b") as stream:
        if not _lock(stream) or not _is_at(partial, stream):
            raise WriteError(f"{partial}: another process is writing to it")
        yield stream


def _is_at(path: Path, stream: BinaryIO) -> bool:
    """Return whether a file still has its name: a process that finished has renamed it."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _lock(stream: BinaryIO) -> bool:
    """Lock a file until it is closed; return whether no other process had."""
    try:
        import fcntl
    except ImportError:  # Windows: no other process can rename a file that is open
        return True
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_record(record: Path) -> dict[str, Any] | None:
    """Return the settings of an earlier run, None without one.

    Raises:
        WriteError: If the file is damaged or of another program.
    """
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        content = None
    # 0.1.0 wrote the settings of `predict` without a format.
    if isinstance(content, dict) and (content.get("format") == _FORMAT or "top" in content):
        return content
    raise WriteError(f"{record} exists and holds something else than settings: rename it")


def _earlier(
    stream: BinaryIO, form: LineFormat, partial: Path, is_ours: bool
) -> tuple[list[Done], int]:
    """Return the images that a partial file holds already, and where they end.

    Raises:
        WriteError: If it is the file of another program.
    """
    begin = stream.read(len(form.begins))
    if (begin and not is_ours) or not form.begins.startswith(begin):
        raise WriteError(f"{partial} exists and holds something else than results: rename it")
    stream.seek(0)
    return form.read(stream)


def _check_facts(before: Mapping[str, Any], facts: Mapping[str, Any], partial: Path) -> None:
    earlier = {name: value for name, value in before.items() if name != "format"}
    now = json.loads(json.dumps(dict(facts)))
    # A fingerprint is no setting that a person could give again.
    fingerprints = earlier.pop("fingerprint", None), now.pop("fingerprint", None)
    changes = changed_settings(earlier, now)
    if not changes and fingerprints[0] != fingerprints[1]:
        changes = "another model of that name"
    if changes:
        raise WriteError(
            f"{partial} holds the results of a run with {changes}; overwrite=True starts again"
        )
