"""Save values to a `.t7`."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from ...files import atomic_path, check_output
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
    """Save a value to a `.t7` file that Torch7 can read.

    The file is written atomically: until it is complete, an older file at the path is unchanged. A
    symbolic link and the permissions of an older file are kept.

    Args:
        value: Any value returned by `load`; None, numbers, strings, booleans; dicts, lists and
            tuples, which become tables (None among their values leaves a gap); numpy arrays; and
            torch tensors, which keep sharing their storages.
        path: The file.
        format: `binary` or `ascii`.
        long_size: Bytes of a C long on the machine that will read the file: 8, or 4 for Windows and
            32-bit machines.

    Raises:
        T7Error: If Torch7 has no equivalent of a part of the value; the error has its path.
        WriteError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from torchlift.converters import t7
        >>> path = Path(tempfile.mkdtemp()) / "mean.t7"
        >>> t7.save({"mean": np.array([0.5, 0.25], dtype="float32")}, path)
        >>> t7.load(path)["mean"]
        TorchArray([0.5 , 0.25], dtype=float32)
    """
    target = check_output(Path(path).resolve(), overwrite=True)
    try:
        with atomic_path(target) as temporary:
            with temporary.open("wb", buffering=2**20) as stream:
                _write(value, stream, format, long_size)
            if target.exists():
                shutil.copymode(target, temporary)
    except T7Error as error:
        error.source = str(path)
        raise


def dumps(value: Any, *, format: Format = "binary", long_size: int = 8) -> bytes:
    """Return the bytes of a `.t7` with a value, as `torch.serialize` does.

    Args:
        value: See `save`.
        format: See `save`.
        long_size: See `save`.

    Raises:
        T7Error: If Torch7 has no equivalent of a part of the value; the error has its path.

    Example:
        >>> from torchlift.converters import t7
        >>> t7.dumps({"epoch": 12}, format="ascii").split()
        [b'3', b'1', b'1', b'2', b'5', b'epoch', b'1', b'12']
    """
    stream = io.BytesIO()
    _write(value, stream, format, long_size)
    return stream.getvalue()


def _write(value: Any, stream: BinaryIO, format: Format, long_size: int) -> None:
    if format not in _ENCODERS:
        raise T7Error(f"format must be 'binary' or 'ascii', not {format!r}")
    if long_size not in (8, 4):
        raise T7Error(f"long_size must be 8 or 4, not {long_size!r}")
    Writer(_ENCODERS[format](stream, long_size)).write(value)
