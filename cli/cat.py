"""`torchlift cat`."""

from __future__ import annotations

import warnings
from typing import Any

from ..converters.errors import TorchliftError
from .outputs import output_suffix
from .result import CommandResult

#: Numbers, and levels of lists, that `--json` prints.
_MAX_NUMBERS, _MAX_DEPTH = 2**24, 100


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
        path: The path of the value, such as 'model.modules[1].weight'. If the file holds several
            objects, it begins with the number of one: [1] is the first.
        output: A file for the value: .npy for a tensor, .t7 for anything.
        overwrite: Replace a file that is there.
        plugin: A Python file with converters for classes of your own; it is run.
    """
    suffix = "" if output is None else output_suffix(output, [".npy", ".t7"])
    import numpy as np

    from ..converters import t7
    from ..converters.expanded import expanded_elements
    from ..converters.files import atomic_path, check_output
    from ..converters.finite import first_not_finite
    from ..converters.t7.inspection import describe
    from ..converters.t7.paths import follow
    from ..converters.t7.reading.load import read_file
    from .model_options import run_plugin

    run_plugin(plugin)
    target = None if output is None else check_output(output, overwrite)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", t7.T7Warning)
        # All objects of the file: the path says which of them is meant.
        value = follow(read_file(file, single=False).value, path)
    notes = [str(warning.message) for warning in caught]
    if isinstance(value, np.ndarray) and (place := first_not_finite(value)):
        notes.append(f"{path}{'' if place.startswith('[') else ' '}{place}")
    text = describe(value)
    if target is None:
        shown = [str(np.asarray(value))] if isinstance(value, np.ndarray) else []
        lines = [f"{path}: {text}", *shown, *(f"note: {note}" for note in notes)]

        def data() -> dict[str, Any]:
            known = {"file": file, "lua_path": path, "text": text}
            return {**known, "value": _json(value, path), "notes": notes}

        return CommandResult(data, "\n".join(lines))
    if suffix == ".t7":
        t7.save(value, target)
    elif isinstance(value, np.ndarray):
        if expanded_elements(value) > _MAX_NUMBERS:
            raise TorchliftError(
                f"{path} is expanded to {value.size:,} elements from fewer: save it as .t7"
            )
        array = np.asarray(value, order="C")
        header = np.lib.format.header_data_from_array_1_0(array)
        with atomic_path(target) as temporary, temporary.open("wb") as stream:
            # np.save does not notice when the disk is full at the end of the array.
            np.lib.format.write_array_header_1_0(stream, header)
            stream.write(array.data)
    else:
        raise TorchliftError(f"{path} is not a tensor ({text}): save it as .t7")
    return CommandResult(
        {"file": file, "lua_path": path, "text": text, "files": [str(target)], "notes": notes},
        "\n".join([f"{text} → {target}", *(f"note: {note}" for note in notes)]),
    )


def _json(value: Any, path: str) -> Any:
    """Return a value, or a list of values, as JSON; None for others, such as tables with names.

    What is not finite is a value of the file here, and not a result: a string names it.

    Raises:
        TorchliftError: There are too many numbers.
    """
    import numpy as np

    from ..converters.finite import spelled
    from ..converters.t7 import LuaTable

    left = _MAX_NUMBERS

    def convert(item: Any, depth: int) -> Any:
        nonlocal left
        left -= item.size if isinstance(item, np.ndarray) else 1
        if left < 0 or depth > _MAX_DEPTH:
            raise TorchliftError(f"{path} is too large for JSON: save it with output=FILE")
        if isinstance(item, LuaTable) and item.is_list():
            return [convert(entry, depth + 1) for entry in item.to_list()]
        if isinstance(item, np.ndarray):
            return spelled(np.asarray(item).tolist())
        return spelled(item) if isinstance(item, (str, int, float, bool)) else None

    return convert(value, 0)
