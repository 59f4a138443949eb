"""The parts of a report page: sections of text, tables, figures and answered questions.

Every table and figure shows results of commands. It names the steps that gave these results, and
the page lists the commands of all steps, so that a reader can reproduce every number.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ReportError
from .numbers import formatted

#: The content of a table cell; None is an empty cell.
Cell = str | int | float | None


@dataclass(frozen=True)
class Step:
    """A torchlift command that was run.

    Attributes:
        words: The arguments after `torchlift`, the name of the command first.
        result: The document that `--json` prints.
        seconds: The time that the command took.

    Example:
        >>> Step(("plot", "filters", "my run"), {}, 0.5).command
        "torchlift plot filters 'my run'"
    """

    words: tuple[str, ...]
    result: Any
    seconds: float

    @property
    def command(self) -> str:
        """The command line, quoted for a shell."""
        return command_line(self.words)


def command_line(words: Sequence[str]) -> str:
    """Return the shell command line for these words: `torchlift train lenet5 mnist.npz`."""
    return f"torchlift {shlex.join(words)}"


@dataclass(frozen=True)
class Text:
    """Prose.

    Attributes:
        markdown: CommonMark. HTML in it is shown as text.
        steps: The commands that the numbers in the text come from.
    """

    markdown: str
    steps: Sequence[Step] = ()


@dataclass(frozen=True)
class Table:
    """Rows of results.

    Attributes:
        caption: One sentence about the content of the table.
        header: The names of the columns.
        rows: The cells of each row; the first cell names the row. A column of numbers is aligned
            to the right and gets one precision (see `numbers.formatted`).
        steps: The commands that the values come from.

    Raises:
        ReportError: When the length of a row differs from that of the header, or `steps` is empty.

    Example:
        >>> step = Step(("train", "lenet5", "mnist.npz"), {}, 12.3)
        >>> table = Table("Losses.", ["epoch", "loss"], [["1", 2.302585], ["2", 0.04]], [step])
        >>> table.cells
        [['1', '2.303'], ['2', '0.040']]
        >>> table.numeric
        [False, True]
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    steps: Sequence[Step]

    def __post_init__(self) -> None:
        _require_steps(self.steps, self.caption)
        for row in self.rows:
            if len(row) != len(self.header):
                raise ReportError(
                    f"table {self.caption!r}: a row has {len(row)} cells, the header "
                    f"{len(self.header)}: {list(row)}"
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
        """The rows with each cell formatted as text."""
        columns = [
            formatted(list(column)) if numeric else ["" if c is None else str(c) for c in column]
            for column, numeric in zip(self._columns(), self.numeric, strict=True)
        ]
        return [list(row) for row in zip(*columns, strict=True)]

    def _columns(self) -> list[list[Any]]:
        return [[row[index] for row in self.rows] for index in range(len(self.header))]


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        caption: One or two sentences about what the figure shows.
        alt: A description for readers who cannot see it.
        file: A PNG or SVG file that one of the steps wrote.
        steps: The commands that drew the figure.

    Raises:
        ReportError: When the file does not exist or is no PNG or SVG, or `steps` is empty.
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
                f"figure {self.caption!r}: {self.file} does not exist; if it was deleted, "
                "overwrite=True runs every command again"
            )


@dataclass(frozen=True)
class Question:
    """A question with its answer.

    Attributes:
        question: The question; it becomes a heading.
        answer: The parts that answer it.
    """

    question: str
    answer: Sequence[Part]


Part = Text | Table | Figure | Question


@dataclass(frozen=True)
class Section:
    """A chapter of a page.

    Attributes:
        title: The heading.
        parts: The content, from top to bottom.
    """

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        title: The heading.
        about: One line about the subject of the report; Markdown.
        sections: The chapters.
        steps: Every command that was run, in order, including the steps of all parts.
        facts: Settings and versions, by name.
        notes: What the reader must know first, such as a dataset that replaced another.

    Raises:
        ReportError: When a part names a step that is not in `steps`.

    Example:
        >>> train = Step(("train", "lenet5", "mnist.npz"), {}, 12.3)
        >>> plot = Step(("plot", "curves", "run"), {}, 0.5)
        >>> page = Page("LeNet", "Digits.", [Section("Data", [Text("10 classes.")])], [train, plot])
        >>> page.numbers_of([plot])
        {'plot': [2]}
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
        """Iterate over the parts of all sections and of all answers."""
        for section in self.sections:
            yield from _flatten(section.parts)

    def numbers_of(self, steps: Sequence[Step]) -> dict[str, list[int]]:
        """Return the numbers of steps, grouped by command name: `{"train": [2, 4]}`."""
        numbers: dict[str, list[int]] = {}
        for step in steps:
            numbers.setdefault(step.words[0], []).append(self.number_of(step))
        return numbers

    def number_of(self, step: Step) -> int:
        """Return the position of a step's command in the page's list, counted from 1.

        Raises:
            ReportError: When the list does not contain it.
        """
        commands = [other.words for other in self.steps]
        if step.words not in commands:
            raise ReportError(f"{self.title}: {step.command} is not among the page's commands")
        return commands.index(step.words) + 1


def _flatten(parts: Sequence[Part]) -> Iterator[Text | Table | Figure]:
    for part in parts:
        if isinstance(part, Question):
            yield from _flatten(part.answer)
        else:
            yield part


def _is_number(cell: Cell) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _require_steps(steps: Sequence[Step], caption: str) -> None:
    if not steps:
        raise ReportError(f"{caption!r}: steps is empty; name the steps that its data comes from")
