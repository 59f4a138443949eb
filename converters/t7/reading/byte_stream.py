"""Where the bytes of a `.t7` come from: a path, bytes, or an open file, compressed or not."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import mmap
import os
import stat
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias

from ..errors import T7Error, TruncatedError

File: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO

#: The bytes of a stream; only no bytes at all are no memory map.
Buffer: TypeAlias = mmap.mmap | bytes

#: Weights hardly shrink at all: what grows more than this, and beyond what every machine can hold,
#: was made to do so.
_GROWTH, _ALWAYS_FINE = 64, 256 * 2**20

_CHUNK = 2**20

_OPENERS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b\x08": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}


@dataclass(frozen=True)
class ByteStream:
    """A stream of bytes and the name to call it by in errors.

    Attributes:
        name: the path, or what stands for it.
        buffer: a memory map: copy-on-write or read-only of a file, or of memory alone.
        start: offset of the first byte to read.
    """

    name: str
    buffer: Buffer
    start: int = 0


def open_stream(file: File, *, writable: bool = True) -> ByteStream:
    """The bytes of a file, memory-mapped where it is one on disk, unpacked where it is compressed.

    An open file is read from its present position on.

    Args:
        file: a path, bytes, or an open file.
        writable: a memory map may be written to (the file stays as it is).

    Raises:
        T7Error: when the file is missing, a folder, or cannot be read.
    """
    if isinstance(file, (bytes, bytearray, memoryview)):
        return _unpacked(ByteStream("<bytes>", _in_memory([bytes(file)])))
    if not isinstance(file, (str, os.PathLike)):
        return _unpacked(_from_open_file(file, writable))
    path = os.fspath(file)
    try:
        with io.FileIO(path) as stream:
            return _unpacked(ByteStream(path, _mapped(stream, writable)))
    except IsADirectoryError:
        raise T7Error("is a folder, not a .t7 file", source=path) from None
    except FileNotFoundError:
        raise T7Error("no such file", source=path) from None
    except OSError as error:
        raise T7Error(f"cannot be read: {error.strerror}", source=path) from error


def _from_open_file(file: BinaryIO, writable: bool) -> ByteStream:
    name = str(getattr(file, "name", "<file>"))
    # A GzipFile has a fileno too, of another file than the one that it reads.
    if isinstance(getattr(file, "raw", file), io.FileIO) and file.seekable():
        file.flush()
        return ByteStream(name, _mapped(file, writable), file.tell())
    data = file.read()
    if not isinstance(data, bytes):
        raise T7Error('was opened as text; open it with "rb"', source=name)
    return ByteStream(name, _in_memory([data]))


def _in_memory(chunks: list[bytes]) -> Buffer:
    """Memory of its own for the bytes in `chunks`, which is emptied on the way."""
    chunks.reverse()
    size = sum(map(len, chunks))
    if size == 0:
        return b""
    memory = mmap.mmap(-1, size)
    while chunks:
        memory.write(chunks.pop())
    return memory


def _mapped(stream: BinaryIO, writable: bool) -> Buffer:
    status = os.fstat(stream.fileno())
    if status.st_size == 0 or not stat.S_ISREG(status.st_mode):
        return _in_memory([stream.read()])
    access = mmap.ACCESS_COPY if writable else mmap.ACCESS_READ
    return mmap.mmap(stream.fileno(), 0, access=access)


def _unpacked(source: ByteStream) -> ByteStream:
    """The source itself, or what a gzip, bzip2 or xz stream holds.

    Raises:
        T7Error: when the stream is damaged, or grows beyond all measure.
    """
    packed = source.buffer
    magic = bytes(packed[source.start : source.start + 6])
    if not magic.startswith(tuple(_OPENERS)):
        return source
    opener = next(opener for start, opener in _OPENERS.items() if magic.startswith(start))
    assert isinstance(packed, mmap.mmap)
    packed.seek(source.start)
    limit = max(_ALWAYS_FINE, _GROWTH * (len(packed) - source.start))
    chunks: list[bytes] = []
    size = 0
    try:
        with opener(packed) as stream:
            while chunk := stream.read(_CHUNK):
                chunks.append(chunk)
                size += len(chunk)
                if size > limit:
                    raise T7Error(
                        f"unpacks to more than {limit:,} bytes, which no .t7 does; "
                        "unpack it yourself if you trust it",
                        source=source.name,
                    )
    except EOFError:
        raise TruncatedError(
            "is a compressed file that ends too early: truncated (download or copy it again)",
            source=source.name,
        ) from None
    except (OSError, zlib.error, lzma.LZMAError) as error:
        raise T7Error(
            f"is a compressed file that is damaged ({error}); download or copy it again",
            source=source.name,
        ) from None
    return ByteStream(source.name, _in_memory(chunks))
