"""Pickles that are data: no name in them is imported, and no code of theirs runs.

A pickle may call any function. The ones in CIFAR's Python version need only three of NumPy's to
build an array of bytes. Stand-ins replace these and record their arguments, from which the array
is built afterwards. Any other name in a pickle is refused.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError


def read_pickle(file: Path) -> dict[str, Any]:
    """Return the dictionary in a pickle of numbers, strings, lists, dictionaries and byte arrays.

    Raises:
        DataError: If the file is not such a pickle, or contains any other name.
    """
    try:
        with file.open("rb") as stream:
            # Pickles of Python 2 hold bytes where Python 3 has strings; latin-1 keeps each byte.
            value = _Unpickler(stream, encoding="latin1").load()
        if not isinstance(value, dict):
            raise DataError(f"expected a pickled dictionary, not {type(value).__name__}")
        return {_to_text(key): _plain(entry) for key, entry in value.items()}
    except DataError as error:
        raise DataError(f"{file}: {error}") from None
    # Damaged bytes may raise more than pickle's own error.
    except Exception as error:
        raise DataError(f"{file}: not a readable pickle: {error}") from None


class _DtypeStandIn:
    """Replaces `numpy.dtype`: records its name."""

    def __init__(self, name: Any = None, *_: Any) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        """Ignore byte order and alignment, which do not matter for bytes."""


class _ArrayStandIn:
    """Replaces `numpy.ndarray`: records (version, shape, dtype, order, bytes)."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _reconstruct(*_: Any) -> _ArrayStandIn:
    return _ArrayStandIn()


def _encode(text: Any, *_: Any) -> bytes:
    """Replace `_codecs.encode`, with which Python 3 writes bytes for Python 2."""
    return str(text).encode("latin1")


_STAND_INS = {
    ("numpy", "ndarray"): _ArrayStandIn,
    ("numpy", "dtype"): _DtypeStandIn,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise DataError(
                f"this pickle would run {module}.{name} and is not read; "
                "use the binary version of the files (*.bin)"
            )
        return _STAND_INS[module, name]


def _plain(value: Any) -> Any:
    """Return a value with arrays built, and strings for bytes."""
    if isinstance(value, _ArrayStandIn):
        return _byte_array(value.state)
    if isinstance(value, list):
        return [_to_text(item) for item in value]
    return _to_text(value)


def _to_text(value: Any) -> Any:
    return value.decode("latin1") if isinstance(value, bytes) else value


def _byte_array(state: Any) -> np.ndarray:
    try:
        _, shape, dtype, is_fortran, values = state
        if dtype.name not in ("u1", "uint8"):
            raise DataError(f"an array of {dtype.name}, expected bytes (u1)")
        raw = values.encode("latin1") if isinstance(values, str) else values
        return np.frombuffer(raw, np.uint8).reshape(shape, order="F" if is_fortran else "C")
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"a damaged array: {error}") from None
