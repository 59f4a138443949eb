"""Writes `docs/coverage.md` from the registry and from what the contract tests proved.

python -m pytest --proofs build/proofs.json
python tests/coverage_table.py build/proofs.json            # writes the page
python tests/coverage_table.py build/proofs.json --check    # exits 1 if the page is stale
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from torchlift.converters.modules import registered_classes

PAGE = Path(__file__).resolve().parent.parent / "docs" / "coverage.md"

_HEAD = """\
# What converts

`make coverage` generates this page (tests/coverage_table.py) from the registry of converters and
the results of the tests. Do not edit it.

{count} Torch7 classes have a converter. *Becomes* lists the PyTorch classes that the layers of
the fixtures become: `torch.` is a class of PyTorch, `torchlift.` a class of torchlift. *Outputs*
and *gradients* say whether they are compared with those of Torch7 (relative tolerances 1e-5 and
1e-4), *ONNX* whether the outputs of ONNX Runtime are (1e-4). A field is empty if no fixture has the
class.

| class | becomes | outputs | gradients | ONNX |
|---|---|---|---|---|
"""

_LAST_COLUMN = re.compile(r"\|[^|\n]*\|$", re.MULTILINE)


def table(proofs: list[dict[str, Any]]) -> str:
    """The page for these proofs."""
    becomes: dict[str, set[str]] = defaultdict(set)
    reasons: dict[tuple[str, str], set[str]] = defaultdict(set)
    for entry in proofs:
        for name, cls in entry["layers"].items():
            becomes[name].add(cls)
            reasons[name, entry["kind"]].add(entry["reason"] or "")
    # A class that was proved in one case is proved; a reason stands only alone.
    proved = {key: "yes" if "" in said else min(said) for key, said in reasons.items()}
    names = registered_classes()
    rows = [
        f"| {name} | {', '.join(f'`{cls}`' for cls in sorted(becomes[name]))} | "
        + " | ".join(proved.get((name, kind), "") for kind in ("outputs", "gradients", "onnx"))
        + " |\n"
        for name in names
    ]
    return _HEAD.format(count=len(names)) + "".join(rows)


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("proofs", type=Path)
    parser.add_argument("--check", action="store_true", help="only compare with the page")
    options = parser.parse_args()
    proofs = json.loads(options.proofs.read_text())
    page, written = table(proofs), PAGE.read_text() if options.check else ""
    if not any(entry["kind"] == "onnx" and entry["reason"] is None for entry in proofs):
        # The quick tests export nothing: the page's last column is left to the whole run.
        page, written = (_LAST_COLUMN.sub("|", text) for text in (page, written))
    if not options.check:
        PAGE.write_text(page)
    elif written != page:
        print(f"docs/{PAGE.name} is stale: run `make coverage`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
