"""Writing a `.t7`: from values to a file."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import T7Error
from ..scalars import Format
from .encoders import AsciiEncoder, BinaryEncoder
from .writer import Writer

_ENCODERS: dict[str, Callable[..., BinaryEncoder | AsciiEncoder]] = {
    "binary": BinaryEncoder,
    "ascii": AsciiEncoder,
}


def save(
    value: Any, path: str | os.PathLike[str], *, format: Format = "binary", long_size: int = 8
) -> None:
    """Write a value to a `.t7` file that Torch7 reads.

    The file appears whole or not at all: until then an older one of that name stays as it is.

    Args:
        value: whatever `t7.load` gives; None, numbers, strings, booleans; dicts, lists and tuples,
            which become tables (None among their values leaves a gap); numpy arrays, and torch
            tensors, which keep sharing their storages.
        path: the file.
        format: `binary` or `ascii`.
        long_size: bytes of a C long on the machine that is to read it: 8, or 4 for Windows and
            32-bit ones.

    Raises:
        T7Error: when Torch7 has nothing for some part of the value (the error names its path), or
            the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("xb", buffering=2**20) as stream:
            _write(value, stream, format, long_size)
            stream.flush()
            os.fsync(stream.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    except OSError as error:
        raise T7Error(f"cannot be written: {error.strerror}", source=str(path)) from error
    except T7Error as error:
        error.source = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def dumps(value: Any, *, format: Format = "binary", long_size: int = 8) -> bytes:
    """The bytes of a `.t7` with the given value, as `torch.serialize` makes them.

    Args:
        value: see `save`.
        format: see `save`.
        long_size: see `save`.

    Raises:
        T7Error: when Torch7 has nothing for some part of the value; the error names its path.
    """
    stream = io.BytesIO()
    _write(value, stream, format, long_size)
    return stream.getvalue()


def _write(value: Any, stream: BinaryIO, format: Format, long_size: int) -> None:
    if format not in _ENCODERS or long_size not in (4, 8):
        raise T7Error(
            f"a .t7 is binary or ascii and its longs have 8 or 4 bytes, not {format}, {long_size}"
        )
    Writer(_ENCODERS[format](stream, long_size)).write(value)
