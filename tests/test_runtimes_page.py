"""docs/runtimes.md leaves no cell unexplained: it is a pass with its numbers, or it has a note."""

from __future__ import annotations

import re

from support import ROOT

PAGE = (ROOT / "docs" / "runtimes.md").read_text(encoding="utf-8")

#: A largest error, and the examples with the same class where there are classes.
PASS = re.compile(r"\d\.\de-\d\d(, \d+/\d+)?")


def test_every_cell_is_a_pass_or_has_a_note() -> None:
    lines = [line for line in PAGE.splitlines() if line.startswith("| ")]
    header, _, *files = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    notes = PAGE.partition("## Notes")[2]
    assert header[2:] == ["onnxruntime", "reference", "openvino", "opencv", "web"]
    assert len(files) == 4 * len([row for row in files if row[0]])
    for row in files:
        # A file that was not written has one note for all runtimes.
        cells = [cell for cell in row[2:] if cell]
        assert len(cells) == 5 or cells == [row[2]]
        for cell in cells:
            number = re.search(r"\[(\d+)\]\(#notes\)", cell)
            assert PASS.fullmatch(cell) if number is None else f"\n{number[1]}. " in notes
