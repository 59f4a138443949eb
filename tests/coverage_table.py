"""Writes `docs/coverage.md` from the registry and from what the tests proved.

python -m pytest --proofs=build/proofs.json
python tests/coverage_table.py build/proofs.json            # writes the page
python tests/coverage_table.py build/proofs.json --check    # exits 1 if the page is stale
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from torchlift.converters.modules import registered_classes
from torchlift.converters.modules.registry import converters_of

ROOT = Path(__file__).resolve().parent.parent
PAGE, README = ROOT / "docs" / "coverage.md", ROOT / "README.md"

#: What Torch7's recorded numbers are compared in, in the order of the columns.
RECORDED = ("evaluation", "training", "gradients")
#: What tests written by hand compare.
BY_HAND = ("outputs", "training", "gradients")

_HEAD = """\
# What converts

`make coverage` generates this page (tests/coverage_table.py) from the registry of converters and
the results of the tests. Do not edit it.

{registered} Torch7 classes have a converter. For {recorded} of them, numbers that Torch7 computed
for a module of the class itself are compared: a class that only occurs inside such a module does
not count. {otherwise} more are compared with an equal class or by hand-written tests, and
{untested} by none.

- *becomes*: the PyTorch classes that the recorded modules become; `torch.` is a class of PyTorch,
  `torchlift.` a class of torchlift.
- *evaluation*, *training*, *gradients*: `yes` if the outputs in that mode (relative tolerance 1e-5)
  or the gradients (1e-4) are compared with those that Torch7 recorded; `as nn.X` if with those of
  `nn.X` on the same fields, which is what a class of cudnn computes. The losses of criterions stand
  under *evaluation*.
- *by hand*: what tests compare with a formula, a loop or another package.
- *ONNX*: whether the outputs of ONNX Runtime are compared with Torch7's (1e-4).

Each class links to the file of its converter.

| class | becomes | evaluation | training | gradients | by hand | ONNX |
|---|---|---|---|---|---|---|
"""

_LAST_COLUMN = re.compile(r"\|[^|\n]*\|$", re.MULTILINE)
_CLAIM = re.compile(r"Torch7 computed for (\d+)\s+of these (\d+) classes")


class Coverage:
    """What the proofs of a run say about each class."""

    def __init__(self, proofs: list[dict[str, Any]]) -> None:
        self.classes = registered_classes()
        self.becomes: dict[str, set[str]] = defaultdict(set)
        self._reasons: dict[tuple[str, str], set[str]] = defaultdict(set)
        for entry in proofs:
            name, kind = entry["class"], entry["kind"]
            if name not in self.classes:
                raise SystemExit(f"a test covers {name}, which is not a registered class")
            if becomes := entry.get("becomes"):
                self.becomes[name].add(becomes)
            self._reasons[name, kind].add(entry["reason"] or "")

    def proved(self, name: str, kind: str) -> str:
        """Return `yes`, or why the class was compared otherwise or not at all."""
        reasons = self._reasons.get((name, kind))
        # A class that was proved in one case is proved; a reason stands only alone.
        return "" if reasons is None else "yes" if "" in reasons else min(reasons)

    def by_hand(self, name: str) -> str:
        """Return what hand-written tests compare, in the order of `BY_HAND`."""
        said = {word for text in self._reasons.get((name, "by hand"), ()) for word in words(text)}
        return ", ".join(word for word in BY_HAND if word in said)

    def is_recorded(self, name: str) -> bool:
        """Return whether numbers that Torch7 computed for this class are compared."""
        return any(self.proved(name, kind) == "yes" for kind in RECORDED)

    def is_tested(self, name: str) -> bool:
        """Return whether any test compares the class."""
        return bool(self.by_hand(name)) or any(self.proved(name, kind) for kind in RECORDED)


def words(compared: str) -> list[str]:
    """Return the words of a mark's `compared`, such as `outputs, gradients`."""
    found = compared.split(", ")
    if unknown := set(found) - set(BY_HAND):
        raise SystemExit(f"compared={compared!r}: {unknown.pop()!r} is none of {BY_HAND}")
    return found


def converter_link(name: str) -> str:
    """Return a class with a link to the file of its converter."""
    files = sorted({inspect.getsourcefile(converter) or "" for converter in converters_of(name)})
    target = os.path.relpath(files[0], PAGE.parent)
    return f"[{name}]({target})"


def table(coverage: Coverage) -> str:
    """Return the page."""
    rows = []
    for name in coverage.classes:
        cells = [
            converter_link(name),
            ", ".join(f"`{cls}`" for cls in sorted(coverage.becomes[name])),
            *(coverage.proved(name, kind) for kind in RECORDED),
            coverage.by_hand(name),
            coverage.proved(name, "onnx"),
        ]
        rows.append(f"| {' | '.join(cells)} |\n")
    recorded = [name for name in coverage.classes if coverage.is_recorded(name)]
    tested = [name for name in coverage.classes if coverage.is_tested(name)]
    head = _HEAD.format(
        registered=len(coverage.classes),
        recorded=len(recorded),
        otherwise=len(tested) - len(recorded),
        untested=len(coverage.classes) - len(tested),
    )
    return head + "".join(rows)


def false_claim(coverage: Coverage) -> str | None:
    """Return what is wrong with the README's number of tested classes, None if it is right."""
    claim = _CLAIM.search(README.read_text())
    recorded = sum(map(coverage.is_recorded, coverage.classes))
    right = (recorded, len(coverage.classes))
    if claim is None or (int(claim[1]), int(claim[2])) != right:
        return f"README.md must say: Torch7 computed for {right[0]} of these {right[1]} classes"
    return None


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("proofs", type=Path)
    parser.add_argument("--check", action="store_true", help="only compare with the page")
    options = parser.parse_args()
    proofs = json.loads(options.proofs.read_text())
    coverage = Coverage(proofs)
    page, written = table(coverage), PAGE.read_text() if options.check else ""
    if not any(entry["kind"] == "onnx" and entry["reason"] is None for entry in proofs):
        # The quick tests export nothing: the page's last column is left to the whole run.
        page, written = (_LAST_COLUMN.sub("|", text) for text in (page, written))
    if claim := false_claim(coverage):
        print(claim, file=sys.stderr)
        return 1
    if not options.check:
        PAGE.write_text(page)
    elif written != page:
        print(f"docs/{PAGE.name} is stale: run `make coverage`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
