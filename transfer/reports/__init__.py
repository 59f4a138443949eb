"""Reports: pages of text, tables and pictures, each with the command that makes it.

page = Page("LeNet", "What it learns.", [Section("Training", [Text("…"), Table(…)])], steps)
write_lab_report(page, Path("labs/lenet"))  # report.html, report.md
"""

from __future__ import annotations

from pathlib import Path

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
        page: the report.
        folder: an existing folder.

    Returns:
        the two files.
    """
    from .html import render_html
    from .markdown import render_markdown

    written = {"report.html": render_html(page), "report.md": render_markdown(page, folder)}
    for name, text in written.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in written]
