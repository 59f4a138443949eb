"""Runs the notebooks of `docs/notebooks/`, and writes the outputs that they show.

A cell is plain Python, so that nothing of Jupyter is needed: it is run as a script is, and what it
prints and the value of its last line are its outputs, as in Jupyter.

python tests/notebooks.py    # runs each and writes its outputs into it
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def read(notebook: Path) -> dict[str, Any]:
    """Return the content of a notebook."""
    content: dict[str, Any] = json.loads(notebook.read_text(encoding="utf-8"))
    return content


def code_cells(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the cells with code."""
    return [cell for cell in content["cells"] if cell["cell_type"] == "code"]


def run(content: dict[str, Any], names: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Run the cells of a notebook in the current folder, and return the outputs of each.

    Args:
        content: The notebook.
        names: Gets the variables.
    """
    names["__name__"] = "__main__"
    cells = code_cells(content)
    return [
        _run("".join(cell["source"]), f"cell {count}", count, names)
        for count, cell in enumerate(cells, 1)
    ]


def text_of(outputs: list[dict[str, Any]]) -> str:
    """Return what the outputs of a cell say."""
    parts = (output.get("text") or output["data"]["text/plain"] for output in outputs)
    return "".join("".join(part) for part in parts)


def _run(source: str, place: str, count: int, names: dict[str, Any]) -> list[dict[str, Any]]:
    tree = ast.parse(source, place)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, place, "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), place, "eval"), names)
    outputs: list[dict[str, Any]] = []
    if text := printed.getvalue():
        outputs.append({"name": "stdout", "output_type": "stream", "text": _lines(text)})
    if value is not None:
        data = {"text/plain": _lines(repr(value))}
        outputs.append(
            {
                "data": data,
                "execution_count": count,
                "metadata": {},
                "output_type": "execute_result",
            }
        )
    return outputs


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main() -> None:
    """Run each notebook in an empty folder, and write its outputs into it."""
    for notebook in NOTEBOOKS:
        content = read(notebook)
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            results = run(content, {})
        for count, (cell, outputs) in enumerate(zip(code_cells(content), results, strict=True), 1):
            cell["outputs"], cell["execution_count"] = outputs, count
        text = json.dumps(content, indent=1, ensure_ascii=False)
        notebook.write_text(text + "\n", encoding="utf-8")
        print(f"{notebook.name}: {len(results)} cells, {Path(notebook).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
