"""`torchlift runs`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Group

from .errors import UsageError
from .outputs import output_suffix
from .result import CommandResult, json_text
from .runs_view import as_json, problem_notes, tables_view, with_typed_options

if TYPE_CHECKING:
    from ..transfer.runs import Configuration, RunSummary

#: The formats of a table, by the suffix of its file.
_FORMATS = {".md": "markdown", ".csv": "csv", ".json": "json", ".html": "html"}

_OF_RUNS = "The runs, with the results of the best epoch."
_OF_SEEDS = "Several seeds of one configuration: mean ± standard deviation of its finished runs."


def runs(
    folder: str,
    *,
    format: Literal["markdown", "csv", "json", "html"] | None = None,
    sort: str | None = None,
    output: str | None = None,
    overwrite: bool = False,
) -> CommandResult:
    """Tabulate the training runs in a folder: options, results, time, and what became of each.

    Runs that differ in their seed alone are a configuration: a second table has its means and
    standard deviations. A run is finished, interrupted (or still training), failed, diverged, or
    its files are damaged.

    Args:
        folder: A folder with runs of train, finetune and sweep in it, at any depth.
        format: Print the table so, in place of columns for people: markdown; csv, a line for each
            run with all options; json, as --json does; html, a page with curves that loads nothing.
        sort: A metric such as val_accuracy or test_loss, seconds or epochs: the best run is first.
            By default runs are in the order of their names.
        output: Write the table to a file, whose suffix .md, .csv, .json or .html is its format.
        overwrite: Replace the file if it exists.
    """
    if output is not None:
        named = _FORMATS[output_suffix(output, list(_FORMATS))]
        if format not in (None, named):
            raise UsageError(f"{output}: its suffix says {named}, --format {format}: leave out one")
        format = named  # type: ignore[assignment]  # a value of _FORMATS
    from ..converters.files import atomic_path, check_output
    from ..transfer.runs import best_first, check_metric, find_runs, group_seeds

    if output is not None:
        check_output(output, overwrite)
    found = with_typed_options(find_runs(folder))
    configurations = group_seeds(found)
    if sort is not None:
        check_metric(found, sort)
        found, configurations = best_first(found, sort), best_first(configurations, sort)
    notes = problem_notes(found)
    data = {
        **as_json(found, configurations),
        "files": [output] if output else [],
        "notes": notes,
    }
    if format is None:
        return CommandResult(data, Group(*tables_view(found, configurations, sort), *_lines(notes)))
    text = _formatted(format, folder, data, found, configurations, sort)
    if output is None:
        return CommandResult(data, stream=[text])
    with atomic_path(output) as path:
        path.write_text(text, encoding="utf-8", errors="replace")
    return CommandResult(data, Group(*_lines(notes), f"wrote {output}: {len(found):,} runs"))


def _lines(notes: Sequence[str]) -> list[str]:
    return [f"note: {note}" for note in notes]


def _formatted(
    name: str,
    folder: str,
    data: dict[str, Any],
    found: Sequence[RunSummary],
    configurations: Sequence[Configuration],
    metric: str | None,
) -> str:
    """Return the tables in a format."""
    from ..transfer.reports.markdown import markdown_table
    from ..transfer.runs_table import configurations_table, runs_csv, runs_table

    if name == "json":
        return json_text(data)
    if name == "csv":
        return runs_csv(configurations, found)
    tables = {_OF_RUNS: runs_table(found, metric)}
    if (seeds := configurations_table(configurations, metric)) is not None:
        tables[_OF_SEEDS] = seeds
    notes = data["notes"]
    title = f"Runs in {Path(folder).resolve().name}"
    if name == "html":
        from ..transfer.reports.runs_page import render_runs

        return render_runs(title, found, tables, notes)
    parts = [f"# {title}"]
    for caption, cells in tables.items():
        parts += [markdown_table(cells.header, cells.rows, cells.numeric), caption]
    parts += [f"- {note}" for note in notes]
    return "\n\n".join(parts) + "\n"
