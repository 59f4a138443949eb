"""Writes the recorded part of `docs/projects.md` from the checkpoints of published projects.

What a row names is compared with Torch7 by `test_projects`.

python tests/projects_page.py            # writes the page
python tests/projects_page.py --check    # exits 1 if the page is stale

The checkpoints are those of `project_support`: without the shared folder, only the smaller ones are
there, and the rows of the others stay as they are.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from project_support import Record, records

from torchlift.converters import t7
from torchlift.converters.errors import TorchliftError
from torchlift.converters.modules import find_model
from torchlift.converters.t7 import LuaObject, LuaTable

PAGE = Path(__file__).resolve().parent.parent / "docs" / "projects.md"

_HEADER = "| checkpoint | holds | converted without `--at` | compared with Torch7 |"
_TABLE = re.compile(rf"(?<={re.escape(_HEADER)}\n)\| --- .*?\n(.*?)(?=\n\n|\n*\Z)", re.DOTALL)


def rows() -> dict[str, str]:
    """Return the row of each checkpoint that is here, by its name."""
    by_file: dict[Path, list[Record]] = defaultdict(list)
    for record in records():
        by_file[record.file].append(record)
    return {file.stem: _row(file, listed) for file, listed in sorted(by_file.items())}


def _row(file: Path, listed: list[Record]) -> str:
    value = t7.load(file)
    modules = {
        f"{f'`{record.path}`' if record.path else 'the file'} ({record.values['class']})": None
        for record in listed
        if record.is_forward and record.values["mode"] == "eval"
    }
    return f"| `{file.stem}` | {holds(value)} | {found(value)} | {', '.join(modules) or '-'} |"


def holds(value: Any) -> str:
    """Return what a checkpoint is at the top, in one cell."""
    if isinstance(value, LuaObject):
        return f"{value.class_name}"
    assert isinstance(value, LuaTable)
    if value.is_list():
        return f"a list of {len(value)}"
    names = [str(key) for key in value]
    return "{" + ", ".join(names[:6]) + (", …" if len(names) > 6 else "") + "}"


def found(value: Any) -> str:
    """Return the module that is taken where none is named."""
    try:
        model, path = find_model(value)
    except TorchliftError as error:
        return "several: `--at` says which" if "several" in str(error) else "no network"
    return "the file" if model is value else f"`{path}`"


def renewed(page: str) -> str:
    """Return the page with the rows of the checkpoints that are here; others stay."""
    table = _TABLE.search(page)
    assert table is not None, f"{PAGE} has no table {_HEADER}"
    known = {row.split("`")[1]: row for row in table[1].splitlines() if "`" in row}
    lines = [row for _, row in sorted({**known, **rows()}.items())]
    return page[: table.start(1)] + "\n".join(lines) + page[table.end(1) :]


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="do not write; exit 1 if it is stale")
    options = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    new = renewed(page)
    if options.check:
        return int(new != page)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
