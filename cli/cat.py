"""`torchlift cat`."""

from __future__ import annotations

import math
from typing import Any

from rich.markup import escape

from ..converters.errors import TorchliftError
from .result import CommandResult


def cat(
    file: str,
    path: str,
    *,
    output: str | None = None,
    overwrite: bool = False,
    plugin: str | None = None,
) -> CommandResult:
    """Print one value of a .t7, or save it.

    Args:
        file: The .t7 file.
        path: Where the value stands, such as 'model.modules[1].weight'; it begins with [1] for the
            first of several objects in one file.
        output: A file for the value: .npy for a tensor, .t7 for anything.
        overwrite: Replace a file that is there.
        plugin: A Python file with converters for classes of your own; it is run.
    """
    import numpy as np

    from ..converters import t7
    from ..converters.files import atomic_path, check_output
    from ..converters.t7.inspection import describe
    from ..converters.t7.paths import follow
    from ..converters.t7.reading.load import read_file
    from .model_options import run_plugin

    run_plugin(plugin)
    target = None if output is None else check_output(output, overwrite)
    value = follow(read_file(file).value, path)
    text = describe(value)
    if target is None:
        shown = str(np.asarray(value)) if isinstance(value, np.ndarray) else ""
        data = {"file": file, "lua_path": path, "text": text, "value": _json(value)}
        return CommandResult(data, escape(f"{path}: {text}\n{shown}".rstrip()))
    if target.suffix == ".t7":
        t7.save(value, target)
    elif isinstance(value, np.ndarray):
        with atomic_path(target) as temporary:
            np.save(temporary, np.asarray(value))
    else:
        raise TorchliftError(f"{path} is {text}, no tensor: save it as .t7")
    return CommandResult(
        {"file": file, "lua_path": path, "text": text, "files": [str(target)]},
        escape(f"{text} → {target}"),
    )


def _json(value: Any) -> Any:
    """Return a plain value as JSON has it; None for what has no such form (see the text).

    What is not finite is a value of the file here, and not a result: a string names it.
    """
    import numpy as np

    if isinstance(value, np.ndarray):
        return _named(np.asarray(value).tolist())
    return _named(value) if isinstance(value, (str, int, float, bool)) else None


def _named(value: Any) -> Any:
    if isinstance(value, list):
        return [_named(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value
