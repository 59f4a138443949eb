"""Values that a string of a file holds: `torch.serialize` writes a whole `.t7` into a string."""

from __future__ import annotations

import warnings
from typing import Any

from .errors import T7Error, T7Warning
from .values import TorchArray

#: How a serialized table or object begins: its type tag, in binary and in ASCII.
_STARTS = (b"\x03\0\0\0", b"\x04\0\0\0", b"3\n", b"4\n")
_TEXT_STARTS = tuple(start.decode() for start in _STARTS)

#: Bytes of the shortest serialized table.
_SHORTEST = 8


def may_embed(value: Any) -> bool:
    r"""Return whether a string or an array of bytes begins as `torch.serialize` begins.

    Example:
        >>> may_embed("epoch"), may_embed("4\n1\n3\nV 1\n")
        (False, True)
    """
    if isinstance(value, str):
        return len(value) >= _SHORTEST and value.startswith(_TEXT_STARTS)
    if isinstance(value, bytes):
        return len(value) >= _SHORTEST and value.startswith(_STARTS)
    is_bytes = isinstance(value, TorchArray) and value.dtype.itemsize == 1 and value.ndim == 1
    return is_bytes and len(value) >= _SHORTEST and value[:4].tobytes().startswith(_STARTS)


def embedded_value(value: Any) -> Any:
    """Return what `torch.serialize` wrote into a string or an array of bytes.

    Args:
        value: Any value of a `.t7`.

    Returns:
        The table or object; None if the value is something else.

    Example:
        >>> from torchlift.converters import t7
        >>> text = t7.dumps({"epoch": 3})
        >>> embedded_value(text)["epoch"], embedded_value("epoch")
        (3, None)
    """
    if not may_embed(value):
        return None
    data = (
        value.encode()
        if isinstance(value, str)
        else value
        if isinstance(value, bytes)
        else value.tobytes()
    )
    # The reader's errors name paths, and paths lead through such strings.
    from .reading.load import loads

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", T7Warning)
            return loads(data)
    except T7Error:
        return None
