"""The notebooks of `docs/notebooks/` run, and show what they give today.

`python tests/notebooks.py` writes their outputs again.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from notebooks import NOTEBOOKS, code_cells, read, run, text_of

every_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def without_numbers(text: str) -> str:
    """A processor rounds its own way: words and layout count, digits and their number do not."""
    return " ".join(re.sub(r"\d+", "#", text).split())


@pytest.mark.slow
@every_notebook
def test_a_notebook_runs_and_gives_what_it_shows(
    notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content, names = read(notebook), dict[str, Any]()
    for cell, outputs in zip(code_cells(content), run(content, names), strict=True):
        shown, given = text_of(cell["outputs"]), text_of(outputs)
        assert without_numbers(given) == without_numbers(shown), "".join(cell["source"])
    # What the text around the cells says.
    match notebook.stem:
        case "convert-and-trust":
            assert names["agreement"] == 1
            assert names["result"].correct == 491
        case "features-and-scikit-learn":
            scores = names["search"].cv_results_["mean_test_score"]
            assert max(scores[1:3]) > scores[0] > scores[3]
        case "fine-tune-export-deploy":
            assert names["report"].passed
            assert names["result"].evaluation["accuracy"] > 0.85
            assert names["right"] >= 42


def test_there_are_notebooks() -> None:
    assert len(NOTEBOOKS) == 3


@every_notebook
def test_a_notebook_is_small_and_names_no_machine(notebook: Path) -> None:
    assert notebook.stat().st_size < 20_000
    text = notebook.read_text(encoding="utf-8")
    for place in ("/home", "/root", "/tmp", "/work", "/var", "site-packages", "Users\\", "C:\\"):
        assert place not in text
    content = read(notebook)
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in content["cells"]}) == len(content["cells"])
    assert "".join(content["cells"][0]["source"]).startswith("# ")
    for count, cell in enumerate(code_cells(content), 1):
        assert cell["execution_count"] == count
        assert all(output["output_type"] != "error" for output in cell["outputs"])


@every_notebook
def test_a_cell_is_plain_python_in_lines_that_fit(notebook: Path) -> None:
    for cell in code_cells(read(notebook)):
        source = "".join(cell["source"])
        ast.parse(source)
        assert max(map(len, source.splitlines())) <= 100
