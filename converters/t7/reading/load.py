"""Load the values of a `.t7`."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ..errors import T7Error, T7Warning
from ..scalars import ByteOrder, Format
from .byte_stream import ByteStream, File, open_stream
from .format_search import Attempt, find_format
from .sniff import sniff, sniff_text
from .stream_format import possible_formats

#: A text file that parses as a .t7 beyond this offset is a damaged ASCII .t7, not plain text.
_TEXT_LIMIT = 16

#: Number of first bytes that decide which formats are possible.
_HEAD_SIZE = 64


def load(
    file: File,
    *,
    long_size: int | None = None,
    format: Format | None = None,
    byte_order: ByteOrder | None = None,
    writable: bool = True,
) -> Any:
    """Load the first (nearly always the only) object of a `.t7` file.

    Tensors are copy-on-write views of the memory-mapped file: elements are read from disk when they
    are accessed. The file may be compressed (gzip, bzip2, xz).

    Args:
        file: A path, the bytes themselves, or a file opened with "rb" (read from its current
            position).
        long_size: Bytes of a C long on the writer's machine, 8 or 4; detected by default.
        format: `binary` or `ascii`; detected by default.
        byte_order: `little` or `big`; detected by default.
        writable: Whether tensors of a file on disk can be written to (the file does not change).
            Read-only tensors are copied to torch without being in memory twice.

    Raises:
        T7Error: If the file is missing, is not a `.t7`, or is damaged.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from torchlift.converters import t7
        >>> path = Path(tempfile.mkdtemp()) / "checkpoint.t7"
        >>> t7.save({"epoch": 12, "classes": ["cat", "dog"]}, path)
        >>> checkpoint = t7.load(path)
        >>> checkpoint
        <LuaTable of 2: 'epoch', 'classes'>
        >>> checkpoint["epoch"], checkpoint["classes"][1]
        (12, 'cat')
    """
    return read_file(file, long_size, format, byte_order, writable=writable).values[0]


def load_all(
    file: File,
    *,
    long_size: int | None = None,
    format: Format | None = None,
    byte_order: ByteOrder | None = None,
) -> list[Any]:
    """Load all objects of a file that holds several in sequence.

    They may have been written to one open file, or be whole files joined end to end.

    Args:
        file: See `load`.
        long_size: See `load`.
        format: See `load`.
        byte_order: See `load`.

    Raises:
        T7Error: If the file is missing, is not a `.t7`, or is damaged.

    Example:
        >>> from torchlift.converters import t7
        >>> t7.load_all(t7.dumps("first") + t7.dumps("second"))
        ['first', 'second']
    """
    return read_file(file, long_size, format, byte_order, single=False).values


def loads(
    data: str | bytes | bytearray | memoryview | np.ndarray,
    *,
    long_size: int | None = None,
    format: Format | None = None,
    byte_order: ByteOrder | None = None,
) -> Any:
    """Load the object in bytes, or in a string or CharStorage made by `torch.serialize`.

    Args:
        data: The bytes; a string of a `.t7` (`str` or `bytes`); or an array of one-byte elements.
        long_size: See `load`.
        format: See `load`.
        byte_order: See `load`.

    Raises:
        T7Error: If the data is not a `.t7`, or is damaged.

    Example:
        >>> from torchlift.converters import t7
        >>> t7.loads(t7.dumps([10, 20, 30])).to_list()
        [10, 20, 30]
    """
    if isinstance(data, str):
        data = data.encode()
    elif isinstance(data, np.ndarray):
        if data.dtype.itemsize != 1:
            raise T7Error(f"expected an array of one-byte elements, not of {data.dtype}")
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
    """Read all objects of a file, with its format.

    Warns about further objects where one was expected, and about extra bytes at the end.

    Raises:
        T7Error: If the file is missing, is not a `.t7`, or is damaged.
    """
    stream = open_stream(file, writable=writable)
    attempt = _read_stream(stream, long_size, format, byte_order, single=single)
    further = len(attempt.values) - 1
    if single and further:
        _warn(stream, f"{further} more object(s) follow the first; t7.load_all reads them all")
    # The storage of a MemoryFile ends with a NUL (THMemoryFile.c).
    if attempt.trailing_bytes and stream.buffer[attempt.end : attempt.end + 2] != b"\0":
        _warn(stream, f"the last {attempt.trailing_bytes:,} bytes are not a Torch7 object")
    return attempt


def _warn(stream: ByteStream, problem: str) -> None:
    # The stack level is that of the caller of `load`, `load_all` or (in a command) `read_file`.
    warnings.warn(T7Warning(f"{stream.name}: {problem}"), stacklevel=4)


def _read_stream(
    stream: ByteStream,
    long_size: int | None,
    format: Format | None,
    byte_order: ByteOrder | None,
    *,
    single: bool,
) -> Attempt:
    """Read all objects of a stream.

    Raises:
        T7Error: If the stream is not a `.t7`; the message names its file type if it is recognized.
    """
    buffer, start = stream.buffer, stream.start
    head = buffer[start : start + _HEAD_SIZE]
    formats = possible_formats(head, long_size, format, byte_order)
    try:
        if not formats or head == bytes(_HEAD_SIZE):
            raise T7Error(f"expected a type tag from 0 to 8, found {head[:8]!r}", offset=start)
        return find_format(buffer, start, formats, single=single)
    except T7Error as error:
        # Some other formats start like a .t7, for example a text file of numbers.
        problem = sniff(buffer, start)
        if problem is None and (error.offset or 0) - start < _TEXT_LIMIT:
            problem = sniff_text(buffer, start)
        error = error if problem is None else T7Error(problem)
        error.source = stream.name
        raise error from None
