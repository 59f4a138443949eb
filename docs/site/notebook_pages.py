"""The notebooks of `docs/notebooks/` as pages of the site: their text, code, and what it printed.

Needs neither mkdocs nor Jupyter: a notebook is JSON.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reference import ROOT

NOTEBOOKS = ROOT / "docs" / "notebooks"


def notebook_pages() -> dict[str, str]:
    """Return the Markdown of each notebook, by its path in the site."""
    return {
        f"notebooks/{notebook.stem}.md": as_markdown(notebook)
        for notebook in sorted(NOTEBOOKS.glob("*.ipynb"))
    }


def as_markdown(notebook: Path) -> str:
    """Return a notebook as Markdown."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join(part for cell in cells for part in _parts(cell)) + "\n"


def _parts(cell: dict[str, Any]) -> list[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return [source]
    printed = "".join(
        "".join(output.get("text") or output["data"]["text/plain"]) for output in cell["outputs"]
    )
    shown = [_block("text", printed)] if printed else []
    return [_block("python", source), *shown]


def _block(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"
