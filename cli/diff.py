"""`torchlift diff`."""

from __future__ import annotations

from ..converters.errors import TorchliftError
from .errors import UsageError
from .result import CommandResult, table


def diff(
    first: str, second: str, *, at: str | None = None, plugin: str | None = None
) -> CommandResult:
    """Show what differs between two files; exit code 1 if something does, 2 for an error.

    Two .t7 files are compared value by value, models by their weights, layers, labels and
    preprocessing. The largest difference is first.

    Args:
        first: A .t7 file, a saved model's folder, or an .onnx file.
        second: Another one, of any of these kinds.
        at: The path of the value or model in every .t7, such as protos.cnn.
        plugin: A Python file with converters for classes of your own; it is run.
    """
    try:
        from ..converters.comparing import compare_files
        from .model_options import run_plugin

        run_plugin(plugin)
        found = compare_files(first, second, at)
    except (TorchliftError, OSError) as error:
        # As diff(1): 1 is for files that differ.
        place = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"{place}{text}") from error
    data = {
        "first_file": first,
        "second_file": second,
        "same": not found.differences,
        "compared": found.compared,
        "differences": [
            {
                "entry": each.path,
                "text": each.text,
                "difference_kind": each.kind,
                "largest_difference": each.largest,
                "differing": each.differing,
                "numbers": each.count,
            }
            for each in found.differences
        ],
        "notes": found.notes,
    }
    view = table("", "")
    view.show_header = False
    for each in found.differences:
        view.add_row(each.path, each.text)
    for note in found.notes:
        view.add_row("note", note)
    return CommandResult(data, view, passed=not found.differences)
