"""Opening a `.t7`: from a file to its values."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ..errors import T7Error, T7Warning
from ..scalars import ByteOrder, Format
from .byte_stream import ByteStream, File, open_stream
from .format_search import Attempt, interpret
from .sniff import sniff, sniff_text
from .variants import likely_interpretations

#: A file that is understood for longer than this is a damaged .t7, and not plain text.
_TEXT = 16

#: Bytes that show which formats a file may have.
_HEAD = 64


def load(
    file: File,
    *,
    long_size: int | None = None,
    format: Format | None = None,
    byte_order: ByteOrder | None = None,
    writable: bool = True,
) -> Any:
    """The first (nearly always the only) object of a `.t7` file.

    Tensors are copy-on-write views of the memory-mapped file: opening costs nothing for the
    numbers that nobody looks at. The file may be compressed (gzip, bzip2, xz).

    Args:
        file: a path, the bytes themselves, or a file opened with "rb" (read from its position on).
        long_size: bytes of a C long on the writer's machine, 8 or 4; found out by default.
        format: `binary` or `ascii`; found out by default.
        byte_order: `little` or `big`; found out by default.
        writable: tensors of a file on disk may be written to (the file stays as it is). Those that
            may not are copied to torch without ever being in memory twice.

    Raises:
        T7Error: when the file is missing, is no `.t7`, or is damaged.
    """
    return read_file(file, long_size, format, byte_order, writable=writable).values[0]


def load_all(
    file: File,
    *,
    long_size: int | None = None,
    format: Format | None = None,
    byte_order: ByteOrder | None = None,
) -> list[Any]:
    """All objects of a file that holds several, one after the other.

    They may have been written to one open file, or be whole files that were joined.

    Args:
        file: see `load`.
        long_size: see `load`.
        format: see `load`.
        byte_order: see `load`.

    Raises:
        T7Error: when the file is missing, is no `.t7`, or is damaged.
    """
    return read_file(file, long_size, format, byte_order, single=False).values


def loads(
    data: str | bytes | bytearray | memoryview | np.ndarray,
    *,
    long_size: int | None = None,
    format: Format | None = None,
    byte_order: ByteOrder | None = None,
) -> Any:
    """The object in a string or CharStorage that `torch.serialize` made, or in bytes.

    Args:
        data: a string of a `.t7` (which may be `str` or `bytes`), or an array of one-byte elements.
        long_size: see `load`.
        format: see `load`.
        byte_order: see `load`.

    Raises:
        T7Error: when it is no `.t7`, or is damaged.
    """
    if isinstance(data, str):
        data = data.encode()
    elif isinstance(data, np.ndarray):
        if data.dtype.itemsize != 1:
            raise T7Error(f"an array of bytes was expected, not of {data.dtype}")
        data = data.tobytes()
    return read_file(data, long_size, format, byte_order).values[0]


def read_file(
    file: File,
    long_size: int | None = None,
    format: Format | None = None,
    byte_order: ByteOrder | None = None,
    *,
    single: bool = True,
    writable: bool = True,
) -> Attempt:
    """All objects of a file and how they are written, for `load`, `load_all` and `inspection`.

    There is a warning where somebody ought to know about the rest of the file.

    Raises:
        T7Error: when the file is missing, is no `.t7`, or is damaged.
    """
    source = open_stream(file, writable=writable)
    attempt = _interpret(source, long_size, format, byte_order, single=single)
    further = len(attempt.values) - 1
    if single and further:
        _warn(source, f"{further} more object(s) follow the first: t7.load_all reads them all")
    # The storage of a MemoryFile ends with a NUL (THMemoryFile.c).
    if attempt.left and source.buffer[attempt.end : attempt.end + 2] != b"\0":
        _warn(source, f"{attempt.left:,} bytes at the end are no Torch7 object")
    return attempt


def _warn(source: ByteStream, problem: str) -> None:
    # Whoever called `load`, `load_all` or `read_file` for a command is to be named.
    warnings.warn(T7Warning(f"{source.name}: {problem}"), stacklevel=4)


def _interpret(
    source: ByteStream,
    long_size: int | None,
    format: Format | None,
    byte_order: ByteOrder | None,
    *,
    single: bool,
) -> Attempt:
    """What makes sense of a file's bytes, or what they are instead.

    Raises:
        T7Error: when they are no `.t7`.
    """
    buffer, start = source.buffer, source.start
    head = buffer[start : start + _HEAD]
    ways = likely_interpretations(head, long_size, format, byte_order)
    try:
        if not ways or head == bytes(_HEAD):
            raise T7Error(f"a type tag from 0 to 8 was expected, not {head[:8]!r}", offset=start)
        return interpret(buffer, start, ways, single=single)
    except T7Error as error:
        # Some other formats begin like a .t7, as a text of numbers does.
        what = sniff(buffer, start)
        if what is None and (error.offset or 0) - start < _TEXT:
            what = sniff_text(buffer, start)
        error = error if what is None else T7Error(what)
        error.source = source.name
        raise error from None
