"""Reports: pages of text, tables and figures, each of which names the commands behind it.

A report is a `Page` in memory. `write_lab_report` writes it as HTML and as Markdown.
"""

from __future__ import annotations

from pathlib import Path

from ...converters.files import atomic_path
from .page import Cell, Figure, Page, Part, Question, Section, Step, Table, Text

__all__ = [
    "Cell",
    "Figure",
    "Page",
    "Part",
    "Question",
    "Section",
    "Step",
    "Table",
    "Text",
    "write_lab_report",
]


def write_lab_report(page: Page, folder: Path) -> list[Path]:
    """Write a page as `report.html`, which needs no other file, and as `report.md`.

    Args:
        page: The report.
        folder: An existing folder.

    Returns:
        The paths of the two files.

    Raises:
        WriteError: When a file cannot be written.

    Example:
        >>> from tempfile import mkdtemp
        >>> step = Step(("train", "lenet5", "mnist.npz"), {"accuracy": 0.98}, seconds=12.3)
        >>> table = Table("Test accuracy.", ["network", "accuracy"], [["LeNet-5", 0.98]], [step])
        >>> page = Page("LeNet", "Digits.", [Section("Test", [table])], [step])
        >>> [file.name for file in write_lab_report(page, Path(mkdtemp()))]
        ['report.html', 'report.md']
    """
    from .html import render_html
    from .markdown import render_markdown

    contents = {"report.html": render_html(page), "report.md": render_markdown(page, folder)}
    for name, text in contents.items():
        with atomic_path(folder / name) as path:
            path.write_text(text, encoding="utf-8")
    return [folder / name for name in contents]
