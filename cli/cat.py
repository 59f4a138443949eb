"""`torchlift cat`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rich.markup import escape

from ..converters.errors import TorchliftError
from .result import CommandResult


def cat(
    file: str, path: str, *, output: str | None = None, overwrite: bool = False
) -> CommandResult:
    """Print one value of a .t7, or save it.

    Args:
        file: The .t7 file.
        path: Where the value stands, such as 'model.modules[1].weight'; it begins with [1] for the
            first of several objects in one file.
        output: Save a tensor as .npy, or any value as a .t7 of its own.
        overwrite: Replace a file that is there.
    """
    import numpy as np

    from ..converters import t7
    from ..converters.t7.inspection import describe
    from ..converters.t7.paths import follow
    from ..converters.t7.reading.load import read_file

    value = follow(read_file(file).value, path)
    data = {"path": path, "text": describe(value), "value": _json(value)}
    if output is None:
        text = str(np.asarray(value)) if isinstance(value, np.ndarray) else ""
        return CommandResult(data, escape(f"{path}: {describe(value)}\n{text}".rstrip()))
    target = Path(output)
    if target.exists() and not overwrite:
        raise TorchliftError(f"{target}: is there already; --overwrite replaces it")
    if target.suffix == ".t7":
        t7.save(value, target)
    elif isinstance(value, np.ndarray):
        temporary = target.with_name(f".{target.name}.{os.getpid()}.npy")
        np.save(temporary, np.asarray(value))
        temporary.replace(target)
    else:
        raise TorchliftError(f"{path} is {describe(value)}, no tensor: save it as .t7")
    return CommandResult(
        {"file": str(target), "text": describe(value)}, f"{describe(value)} → {target}"
    )


def _json(value: Any) -> Any:
    """A plain value as JSON has it; None for what has no such form (see the text)."""
    import numpy as np

    if isinstance(value, np.ndarray):
        return np.asarray(value).tolist()
    return value if isinstance(value, (str, int, float, bool)) else None
