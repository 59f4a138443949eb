"""Compares torchlift with Torch7 itself: `make oracle TORCH7=…/th` (see `docs/fixtures.md`).

Torch7 draws seeded random modules and networks and records what they compute; torchlift converts
them and must compute the same, and what it writes back must run in Torch7. Exits with 1 on a
difference that `docs/differences.md` does not list.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from recorded_support import compare_with_torch7
from support import FIXTURES, ROOT

from torchlift.converters import TorchliftError, t7
from torchlift.converters.modules import convert_recorded
from torchlift.converters.saved import SavedModel, save_t7

HERE = Path(__file__).resolve().parent

#: Fixtures that only an older Torch7, or one with fast-neural-style, can run.
NOT_COMPUTED_AGAIN = ("legacy", "packages")


def run_lua(torch7: Path, script: str, *arguments: object) -> str:
    """Run a script of this folder in Torch7 and return its output.

    Raises:
        SystemExit: If Torch7 itself ends with an error.
    """
    command = [str(torch7), str(HERE / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1) or "stack traceback" in done.stderr:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def known_classes() -> set[str]:
    """Return the classes in the tables of `docs/differences.md`."""
    rows = re.findall(r"^\| ([^|]+) \|", (ROOT / "docs" / "differences.md").read_text(), re.M)
    return {f"nn.{word}" for row in rows for word in re.findall(r"\b[A-Z]\w+", row)}


class Comparison:
    """Compares recorded cases and counts what comes out.

    Attributes:
        outcomes: How often each outcome occurred.
        unexpected: A line for each difference that no page lists.
        written: The cases whose module torchlift wrote back, for `run_written.lua`.
    """

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.unexpected: list[str] = []
        self.written: list[t7.LuaTable] = []
        self._known = known_classes()
        self._classes: dict[str, set[str]] = {}

    def compare(self, case: t7.LuaTable) -> None:
        """Convert a case, compare it, and write its module back."""
        name = str(case["name"])
        try:
            conversion = convert_recorded(case["module"])
        except TorchliftError as error:
            self._report(name, set(), f"not converted: {error}")
            return
        classes = {layer.source.class_name for layer in conversion.layers}
        self._classes[name] = classes
        try:
            compare_with_torch7(conversion, case)
            self.outcomes["equal"] += 1
        except Exception as error:  # whatever a comparison raises is a difference
            self._report(name, classes, f"{type(error).__name__}: {error}")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "network.t7"
            try:
                save_t7(SavedModel(conversion.module.eval(), "features"), file)
            except TorchliftError as error:
                self._report(name, classes, f"not written back: {error}")
                return
            fields = {"name": name, "module": t7.load(file)}
        fields |= {"input": case["input"], "output": case["output"]}
        self.written.append(t7.LuaTable(fields))

    def run_written(self, torch7: Path, file: Path) -> None:
        """Let Torch7 run what torchlift wrote back."""
        t7.save(t7.LuaTable.from_list(self.written), file)
        output = run_lua(torch7, "run_written.lua", file)
        different = re.findall(r"^different: (\S+): (.*)$", output, re.M)
        for name, problem in different:
            self._report(name, self._classes[name], f"written back: {problem}")
        self.outcomes["written back, equal in Torch7"] += len(self.written) - len(different)

    def _report(self, name: str, classes: set[str], text: str) -> None:
        listed = sorted(classes & self._known)
        if listed:
            self.outcomes[f"different, listed ({', '.join(listed)})"] += 1
        else:
            self.outcomes["different, not listed"] += 1
            self.unexpected.append(f"{name}: {' '.join(text.split())[:300]}")


def main() -> int:
    """Draw, compare and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("torch7", type=Path, help="the script th of a built Torch7")
    parser.add_argument("--modules", type=int, default=200)
    parser.add_argument("--networks", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for kind, count in (("modules", options.modules), ("networks", options.networks)):
            file = Path(folder) / f"{kind}.t7"
            run_lua(options.torch7, f"random_{kind}.lua", options.seed, count, file)
            comparison = Comparison()
            for case in t7.load(file).values():
                comparison.compare(case)
            comparison.run_written(options.torch7, Path(folder) / f"{kind}_written.t7")
            print(f"{count} random {kind}, seed {options.seed}")
            for outcome, number in sorted(comparison.outcomes.items()):
                print(f"  {number:5d} {outcome}")
            for line in comparison.unexpected:
                print(f"  {line}")
            failed = failed or bool(comparison.unexpected)
    files = [
        *(f for f in (FIXTURES / "layers").glob("*.t7") if f.stem not in NOT_COMPUTED_AGAIN),
        *(FIXTURES / "fuzz").glob("*.t7"),
        *(FIXTURES / "models").glob("*_io.t7"),
    ]
    output = run_lua(options.torch7, "recompute.lua", *sorted(files))
    print(f"fixtures: {output.splitlines()[-1]}")
    return int(failed or ", 0 differ" not in output)


if __name__ == "__main__":
    sys.exit(main())
