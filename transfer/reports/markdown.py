"""A page as Markdown, with links to the files of its figures."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from .page import Figure, Page, Part, Question, Step, Table, Text


def render_markdown(page: Page, folder: Path) -> str:
    """Render a page as Markdown.

    Args:
        page: The report.
        folder: The folder of the Markdown file; paths of figures are relative to it.
    """
    return "\n\n".join(_blocks(page, folder)) + "\n"


def _blocks(page: Page, folder: Path) -> Iterator[str]:
    yield f"# {page.title}"
    yield page.about
    for note in page.notes:
        yield f"> {note}"
    for section in page.sections:
        yield f"## {section.title}"
        yield from _parts(page, section.parts, folder)
    yield "## Commands"
    for number, step in enumerate(page.steps, 1):
        yield (
            f'<a id="command-{number}"></a>{number}. ({step.seconds:.1f} s)\n\n'
            f"```sh\n{step.command}\n```"
        )
    yield "## Settings and versions"
    yield "\n".join(f"- {name}: {value}" for name, value in page.facts.items())


def _parts(page: Page, parts: Sequence[Part], folder: Path) -> Iterator[str]:
    for part in parts:
        match part:
            case Text():
                yield part.markdown.strip()
            case Table():
                yield markdown_table(part.header, part.cells, part.numeric)
                yield f"*{part.caption}*"
            case Figure():
                path = Path(os.path.relpath(part.file, folder)).as_posix()
                yield f"![{part.alt}](<{path}>)"
                yield f"*{part.caption}*"
            case Question():
                yield f"### {part.question}"
                yield from _parts(page, part.answer, folder)
        if not isinstance(part, Question) and part.steps:
            yield _links(page, part.steps)


def _links(page: Page, steps: Sequence[Step]) -> str:
    groups = (
        f"torchlift {name} {', '.join(f'[{number}](#command-{number})' for number in numbers)}"
        for name, numbers in page.numbers_of(steps).items()
    )
    return f"Made by {', '.join(groups)}"


def markdown_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool] | None = None
) -> str:
    r"""Return a table as Markdown, without a line break at its end.

    Args:
        header: The names of the columns.
        rows: The cells as texts.
        right: Whether each column is aligned to the right; by default none is.

    Example:
        >>> markdown_table(["run", "freeze"], [["001", "a|b"]]).splitlines()
        ['| run | freeze |', '| --- | --- |', '| 001 | a\\|b |']
    """
    alignments = ["---:" if numeric else "---" for numeric in right or [False] * len(header)]
    cells = [[_escaped(cell) for cell in row] for row in (header, *rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (cells[0], alignments, *cells[1:]))


def _escaped(cell: str) -> str:
    return cell.replace("|", r"\|").replace("\n", " ")
