"""Open the bytes of a `.t7`: from a path, bytes or an open file, compressed or not."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import mmap
import os
import stat
import weakref
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias

from ..errors import T7Error, TruncatedError

File: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO

#: The bytes of a stream: a memory map, except that an empty stream is an empty `bytes`.
Buffer: TypeAlias = mmap.mmap | bytes

#: Weights hardly compress: a file that expands by more than this factor, and beyond a size that
#: fits into any machine's memory, is an attack.
_MAX_EXPANSION, _ALWAYS_ALLOWED = 64, 256 * 2**20

_CHUNK = 2**20


def _chunks(stream: Any) -> Iterator[bytes]:
    return iter(lambda: stream.read(_CHUNK), b"")


def _xz_chunks(packed: Any) -> Iterator[bytes]:
    """Decompress xz in bounded memory: a dictionary of gigabytes takes a few bytes of the file."""
    decompressor = lzma.LZMADecompressor(memlimit=_ALWAYS_ALLOWED)
    data = b""
    while True:
        if decompressor.eof:
            # Another stream may follow, after zeros.
            data = (decompressor.unused_data + data).lstrip(b"\0")
            while data == b"" and (data := packed.read(_CHUNK)):
                data = data.lstrip(b"\0")
            if not data:
                return
            decompressor = lzma.LZMADecompressor(memlimit=_ALWAYS_ALLOWED)
        elif decompressor.needs_input and not data and not (data := packed.read(_CHUNK)):
            raise EOFError
        yield decompressor.decompress(data, _CHUNK)
        data = b""


#: The first bytes of a compressed file → a function that returns its contents in chunks.
_DECOMPRESSORS: dict[bytes, Callable[[Any], Iterator[bytes]]] = {
    b"\x1f\x8b\x08": lambda file: _chunks(gzip.GzipFile(fileobj=file)),
    b"BZh": lambda file: _chunks(bz2.BZ2File(file)),
    b"\xfd7zXZ\x00": _xz_chunks,
}


class FileMap(mmap.mmap):
    """A read-only map of a file that can be read without the map.

    Attributes:
        descriptor: The file, open as long as the map.
        copies: Copies of parts that are under way, by offset and number of bytes (see `copying`).
    """

    descriptor: int
    copies: dict[tuple[int, int], Any]

    @classmethod
    def of(cls, stream: BinaryIO) -> FileMap:
        """Map an open file, which may be closed afterwards."""
        mapped = cls(stream.fileno(), 0, access=mmap.ACCESS_READ)
        mapped.descriptor = os.dup(stream.fileno())
        mapped.copies = {}
        weakref.finalize(mapped, os.close, mapped.descriptor)
        return mapped


@dataclass(frozen=True)
class ByteStream:
    """The bytes of a file and a name for error messages.

    Attributes:
        name: The path, or a placeholder such as `<bytes>`.
        buffer: A memory map: of a file, copy-on-write or read-only, or of anonymous memory.
        start: Offset of the first byte to read.
    """

    name: str
    buffer: Buffer
    start: int = 0


def open_stream(file: File, *, writable: bool = True) -> ByteStream:
    """Map a file on disk into memory, or read it from elsewhere; decompress it if necessary.

    An open file is read from its current position.

    Args:
        file: A path, bytes, or an open file.
        writable: Whether the memory map can be written to (the file does not change).

    Raises:
        T7Error: If the file is missing, is a folder, or cannot be read.
    """
    if isinstance(file, (bytes, bytearray, memoryview)):
        return _decompress(ByteStream("<bytes>", _join_in_memory([bytes(file)])))
    if not isinstance(file, (str, os.PathLike)):
        return _decompress(_read_open_file(file, writable))
    path = os.fspath(file)
    try:
        with io.FileIO(path) as stream:
            return _decompress(ByteStream(path, _map_file(stream, writable)))
    except IsADirectoryError:
        raise T7Error(
            "is a folder, not a .t7 file; torchlift.converters.saved.open_model opens the folder "
            "of a saved model",
            source=path,
        ) from None
    except FileNotFoundError:
        raise T7Error("no such file", source=path) from None
    except OSError as error:
        raise T7Error(f"cannot be read: {error.strerror}", source=path) from error


def _read_open_file(file: BinaryIO, writable: bool) -> ByteStream:
    name = str(getattr(file, "name", "<file>"))
    # A GzipFile has a fileno too, but that is the compressed file.
    if isinstance(getattr(file, "raw", file), io.FileIO) and file.seekable():
        file.flush()
        return ByteStream(name, _map_file(file, writable), file.tell())
    data = file.read()
    if not isinstance(data, bytes):
        raise T7Error('was opened as text; open it with "rb"', source=name)
    return ByteStream(name, _join_in_memory([data]))


def _join_in_memory(chunks: list[bytes]) -> Buffer:
    """Copy chunks into anonymous memory; the list is emptied on the way."""
    chunks.reverse()
    size = sum(map(len, chunks))
    if size == 0:
        return b""
    memory = mmap.mmap(-1, size)
    while chunks:
        memory.write(chunks.pop())
    return memory


def _map_file(stream: BinaryIO, writable: bool) -> Buffer:
    status = os.fstat(stream.fileno())
    if status.st_size == 0 or not stat.S_ISREG(status.st_mode):
        return _join_in_memory([stream.read()])
    if writable:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
    return FileMap.of(stream)


def _decompress(stream: ByteStream) -> ByteStream:
    """Decompress a gzip, bzip2 or xz stream; return any other stream unchanged.

    Raises:
        T7Error: If the compressed data is damaged or expands beyond the limit.
    """
    packed = stream.buffer
    magic = bytes(packed[stream.start : stream.start + 6])
    known = (unpack for start, unpack in _DECOMPRESSORS.items() if magic.startswith(start))
    decompress = next(known, None)
    if decompress is None:
        return stream
    assert isinstance(packed, mmap.mmap)
    packed.seek(stream.start)
    limit = max(_ALWAYS_ALLOWED, _MAX_EXPANSION * (len(packed) - stream.start))
    chunks: list[bytes] = []
    size = 0
    try:
        for chunk in decompress(packed):
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise T7Error(
                    f"decompresses to more than {limit:,} bytes, far more than any .t7; "
                    "decompress it yourself if you trust it",
                    source=stream.name,
                )
    except EOFError:
        raise TruncatedError(
            "is a compressed file that ends too early: truncated (download or copy it again)",
            source=stream.name,
        ) from None
    except (OSError, zlib.error, lzma.LZMAError) as error:
        raise T7Error(
            f"is a damaged compressed file ({error}); download or copy it again",
            source=stream.name,
        ) from None
    return ByteStream(stream.name, _join_in_memory(chunks))
