"""What a report page is made of: sections of text, tables, figures and answered questions.

Nothing but the result of a command stands in a table or a figure: each names the steps whose
results it shows, and the page lists their commands, so that every number can be made again.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ReportError
from .numbers import formatted

#: What may stand in a table; None is an empty cell.
Cell = str | int | float | None


@dataclass(frozen=True)
class Step:
    """A torchlift command that was run.

    Attributes:
        words: the command as typed behind `torchlift`, a word each.
        result: what `--json` prints: dicts, lists, strings, numbers.
        seconds: how long it took.
    """

    words: tuple[str, ...]
    result: Any
    seconds: float

    @property
    def command(self) -> str:
        """The command line, quoted for a shell."""
        return command_line(self.words)


def command_line(words: Sequence[str]) -> str:
    """The line that a person types for these words: `torchlift train lenet5 digits`."""
    return f"torchlift {shlex.join(words)}"


@dataclass(frozen=True)
class Text:
    """Prose.

    Attributes:
        markdown: paragraphs, lists, *emphasis*, `code`, fenced code and links, as in CommonMark;
            HTML is shown as it is written.
        steps: where the numbers in it come from, if there are any.
    """

    markdown: str
    steps: Sequence[Step] = ()


@dataclass(frozen=True)
class Table:
    """Rows of results.

    Attributes:
        caption: what the table shows, in a sentence.
        header: the names of the columns.
        rows: cells; the first column names the row. Columns of numbers are aligned to the right
            and rounded together, to four digits of the largest.
        steps: the commands that the numbers come from.

    Raises:
        ReportError: when a row is not as long as the header, or no step is named.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    steps: Sequence[Step]

    def __post_init__(self) -> None:
        _require_steps(self.steps, self.caption)
        wrong = next((row for row in self.rows if len(row) != len(self.header)), None)
        if wrong is not None:
            raise ReportError(
                f"table {self.caption!r}: a row of {len(wrong)} cells below a header of "
                f"{len(self.header)}: {list(wrong)}"
            )

    @property
    def numeric(self) -> list[bool]:
        """Whether each column holds numbers only."""
        return [
            any(cell is not None for cell in column)
            and all(cell is None or _is_number(cell) for cell in column)
            for column in self._columns()
        ]

    @property
    def cells(self) -> list[list[str]]:
        """The rows as they are shown."""
        shown = [
            formatted(list(column)) if numeric else ["" if c is None else str(c) for c in column]
            for column, numeric in zip(self._columns(), self.numeric, strict=True)
        ]
        return [list(row) for row in zip(*shown, strict=True)]

    def _columns(self) -> list[list[Any]]:
        return [[row[index] for row in self.rows] for index in range(len(self.header))]


@dataclass(frozen=True)
class Figure:
    """A picture.

    Attributes:
        caption: what can be seen in it, in a sentence or two.
        alt: the same for somebody who cannot see it.
        file: a PNG or SVG file, made by one of the steps.
        steps: the commands that the picture comes from.

    Raises:
        ReportError: when the file is not there or is no PNG or SVG, or no step is named.
    """

    caption: str
    alt: str
    file: Path
    steps: Sequence[Step]

    def __post_init__(self) -> None:
        _require_steps(self.steps, self.caption)
        if self.file.suffix not in (".png", ".svg"):
            raise ReportError(f"figure {self.caption!r}: {self.file} is neither .png nor .svg")
        if not self.file.is_file():
            raise ReportError(
                f"figure {self.caption!r}: there is no file {self.file}; if it was deleted, "
                "--overwrite makes everything anew"
            )


@dataclass(frozen=True)
class Question:
    """A question of the lab, answered from results.

    Attributes:
        question: as the lab asks it.
        answer: any parts.
    """

    question: str
    answer: Sequence[Part]


Part = Text | Table | Figure | Question


@dataclass(frozen=True)
class Section:
    """A chapter of a page.

    Attributes:
        title: its heading.
        parts: what stands in it, from top to bottom.
    """

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        title: its heading.
        about: one line about what it is.
        sections: its chapters.
        steps: every command that was run, in order; the parts' own steps are among them.
        facts: settings and versions, by name.
        notes: what the reader must know first, such as which data was taken for want of other.

    Raises:
        ReportError: when a part names a step that is not in the list.
    """

    title: str
    about: str
    sections: Sequence[Section]
    steps: Sequence[Step]
    facts: dict[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        for part in self.parts():
            for step in part.steps:
                self.number_of(step)

    def parts(self) -> Iterator[Text | Table | Figure]:
        """Every part, those in answers too."""
        for section in self.sections:
            yield from _flat(section.parts)

    def numbers_of(self, steps: Sequence[Step]) -> dict[str, list[int]]:
        """The numbers of steps' commands, by what the commands are called: `{"train": [2, 4]}`."""
        found: dict[str, list[int]] = {}
        for step in steps:
            found.setdefault(step.words[0], []).append(self.number_of(step))
        return found

    def number_of(self, step: Step) -> int:
        """The place of a step's command in the page's list, from 1.

        Raises:
            ReportError: when it is not there.
        """
        commands = [each.words for each in self.steps]
        if step.words not in commands:
            raise ReportError(f"{self.title}: {step.command} is not among the page's commands")
        return commands.index(step.words) + 1


def _flat(parts: Sequence[Part]) -> Iterator[Text | Table | Figure]:
    for part in parts:
        if isinstance(part, Question):
            yield from _flat(part.answer)
        else:
            yield part


def _is_number(cell: Cell) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _require_steps(steps: Sequence[Step], caption: str) -> None:
    if not steps:
        raise ReportError(f"{caption!r}: no step is named that its data comes from")
