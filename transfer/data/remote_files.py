"""Files that are elsewhere: s3://, hf://, https://, zip:// and others, through fsspec.

Nothing is fetched but what an address names that a person typed; an address in a file is refused
where the file is read.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

from ...converters.errors import first_line
from ...converters.requirements import MissingPackageError, require
from ..errors import DataError

#: Bytes that are copied at a time.
_CHUNK = 2**22

#: Held while a member of a tar archive is read: all of them are read through one open file.
_TAR_LOCK = Lock()


def is_address(source: str) -> bool:
    """Return whether a source is an address and no path.

    Example:
        >>> is_address("s3://bucket/data.npz"), is_address("C:/data.npz")
        (True, False)
    """
    return "://" in source


@dataclass(frozen=True)
class RemoteFile:
    """A file or folder at an address, or a part of a file.

    Attributes:
        root: The address that was typed. One without an archive, such as `zip://data.zip`, is that
            of a whole local archive, as `zip://::data.zip`.
        path: Its path in the file system of the root.
        offset: Where the part begins.
        size: How many bytes it has; None for all behind its beginning.
    """

    root: str
    path: str
    offset: int = 0
    size: int | None = None

    @classmethod
    def at(cls, address: str) -> RemoteFile:
        """Return the file or folder at an address.

        Raises:
            MissingPackageError: If fsspec is missing.
            DataError: If there is no such kind of address, its package is missing, or it cannot be
                reached.
        """
        scheme, _, rest = address.partition("://")
        if scheme in ("zip", "tar") and "::" not in rest:
            address = f"{scheme}://::{rest}"
        with _one_sentence(address):
            return cls(address, _file_system(address, os.getpid())[1])

    def __str__(self) -> str:
        scheme, _, rest = self.root.partition("://")
        _, separator, outer = rest.partition("::")
        path = self.path if "://" in self.path else f"{scheme}://{self.path}"
        return path + separator + outer

    @property
    def suffix(self) -> str:
        """The suffix of its name, in lower case."""
        return Path(self.path).suffix.lower()

    @property
    def name(self) -> str:
        """The last part of its path; of a whole archive the archive's name."""
        return self.path.rstrip("/").rpartition("/")[2] or self.root.rpartition("/")[2]

    def beside(self, name: str) -> RemoteFile:
        """Return the file of a name in the folder of this file."""
        folder, separator, _ = self.path.rpartition("/")
        return replace(self, path=f"{folder}{separator}{name}")

    def files(self) -> list[RemoteFile]:
        """Return all files in and below this folder, in the order of their paths.

        Raises:
            DataError: If it cannot be listed, or there are none.
        """
        with _one_sentence(str(self)):
            found = sorted(self._system.find(self.path))
            if not found:
                raise FileNotFoundError(str(self))
        return [replace(self, path=path) for path in found]

    def relative_to(self, folder: RemoteFile) -> str:
        """Return its path relative to a folder."""
        return self.path[len(folder.path) :].lstrip("/")

    def part(self, offset: int, size: int) -> RemoteFile:
        """Return a part of this file."""
        return replace(self, offset=offset, size=size)

    def read(self) -> bytes:
        """Return the bytes.

        Raises:
            DataError: If they cannot be read.
        """
        with _one_sentence(str(self)), _alone(self.root):
            if self.size is None:
                whole: bytes = self._system.cat_file(self.path)
                return whole
            stop = self.offset + self.size
            content: bytes = self._system.cat_file(self.path, start=self.offset, end=stop)
            # A server may give the whole file when it is asked for a part.
            content = content if len(content) <= self.size else content[self.offset : stop]
            if len(content) != self.size:
                raise OSError(f"{len(content)} bytes came, {self.size} were expected")
            return content

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Open it for reading here and there, without reading all of it.

        Raises:
            DataError: If it cannot be opened, or not be read in parts.
        """
        with _one_sentence(str(self)), self._system.open(self.path, "rb") as stream:
            try:
                # Streams of fsspec say that they are seekable and are not.
                stream.seek(1)
                stream.seek(0)
            except (OSError, ValueError):
                raise OSError("no support of range requests") from None
            yield stream

    def copy_to(self, target: Path) -> None:
        """Copy it to a file, some megabytes at a time.

        Raises:
            DataError: If it cannot be read, or there is no space.
        """
        with (
            _one_sentence(str(self)),
            self._system.open(self.path, "rb") as stream,
            target.open("wb") as file,
        ):
            shutil.copyfileobj(stream, file, _CHUNK)

    @property
    def _system(self) -> Any:
        return _file_system(self.root, os.getpid())[0]


def _alone(root: str) -> AbstractContextManager[Any]:
    """Return what a thread holds while it reads a file of an address."""
    return _TAR_LOCK if "tar://" in root else nullcontext()


@lru_cache(maxsize=8)
def _file_system(root: str, process: int) -> tuple[Any, str]:
    """Return the file system of an address, and its path there.

    Args:
        root: The address.
        process: The number of this process: after a fork, connections and open files are the
            parent's.
    """
    require(f"reading {root}", "fsspec")
    import fsspec

    system, path = fsspec.core.url_to_fs(root)
    return system, path


@contextmanager
def _one_sentence(address: str) -> Iterator[None]:
    """Turn what can go wrong with an address into a sentence.

    Raises:
        MissingPackageError: If fsspec is missing.
        DataError: In all other cases.
    """
    try:
        yield
    except (DataError, MissingPackageError):
        raise
    except FileNotFoundError as error:
        if error.__cause__ is None:
            raise DataError(f"{address}: no such file or folder") from error
        # Of HTTP: there is no such file, or no such server.
        raise DataError(f"{address}: cannot be read: {first_line(error.__cause__)}") from error
    # Each file system has exceptions of its own: of aiohttp, botocore, zipfile and others. Where
    # the package of one is missing, fsspec says which.
    except Exception as error:
        reason = first_line(error)
        if "range requests" in reason:
            reason = "the server gives no parts of files, which an archive needs: download it"
        raise DataError(f"{address}: cannot be read: {reason}") from error
