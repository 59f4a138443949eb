"""How fast a `.t7` opens, beside the other readers: `python benchmarks/t7_load.py`.

Writes three files into a temporary folder, opens each with every reader in processes of their own,
and puts the table into `docs/benchmarks.md` (with `--print` only on the screen).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from measure import (
    installed,
    machine,
    measure,
    megabytes,
    seconds,
    table,
    write_section,
)

T7 = "from torchlift.converters import t7"
TORCHFILE = "import torchfile"
OPENCV = "import cv2"

#: Each writes one file; run in a process of its own, so that this one stays small.
WRITERS = {
    "alexnet": "from networks import save_alexnet; save_alexnet(path)",
    "numbers": (
        "import random; from torchlift.converters import t7;"
        "t7.save([random.random() for _ in range(1_000_000)], path)"
    ),
    "small tables": (
        "from torchlift.converters import t7;"
        "t7.save([{'file': f'image_{i:06}.jpg', 'label': i % 10} for i in range(200_000)], path)"
    ),
}


@dataclass(frozen=True)
class Case:
    """One reader on one file.

    Attributes:
        file: name in `WRITERS`.
        reader: what the table calls it.
        package: what must be installed for it.
        setup: its imports.
        statement: what is measured; `{path!r}` is the file.
    """

    file: str
    reader: str
    package: str
    setup: str
    statement: str


_TOUCH = (
    "from torchlift.converters.t7 import TorchArray\n"
    "def touch(value):\n"
    "    for module in value['modules'].to_list():\n"
    "        if 'modules' in module: touch(module)\n"
    "        for name in ('weight', 'bias'):\n"
    "            if name in module: module[name].sum()"
)

CASES = (
    Case("alexnet", "torchlift", "torchlift", T7, "t7.load({path!r})"),
    Case(
        "alexnet",
        "torchlift, then every weight",
        "torchlift",
        f"{T7}\n{_TOUCH}",
        "touch(t7.load({path!r}))",
    ),
    Case("alexnet", "torchfile", "torchfile", TORCHFILE, "torchfile.load({path!r})"),
    Case(
        "alexnet",
        "OpenCV readNetFromTorch",
        "opencv-python-headless",
        OPENCV,
        "cv2.dnn.readNetFromTorch({path!r})",
    ),
    Case("alexnet", "reading the file", "torchlift", "", "open({path!r}, 'rb').read()"),
    Case("numbers", "torchlift", "torchlift", T7, "t7.load({path!r})"),
    Case("numbers", "torchfile", "torchfile", TORCHFILE, "torchfile.load({path!r})"),
    Case("small tables", "torchlift", "torchlift", T7, "t7.load({path!r})"),
    Case("small tables", "torchfile", "torchfile", TORCHFILE, "torchfile.load({path!r})"),
)


def write(name: str, path: Path) -> None:
    """Write the file of one case."""
    program = f"from pathlib import Path; path = Path({str(path)!r}); {WRITERS[name]}"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parent)


def run(folder: Path, repeats: int) -> list[list[str]]:
    """Measure every case; the rows of the table."""
    rows = []
    for file in WRITERS:
        path = folder / f"{file.replace(' ', '_')}.t7"
        write(file, path)
        cases = [case for case in CASES if case.file == file]
        present = [case for case in cases if installed(case.package)]
        statements = [(case.setup, case.statement.format(path=str(path))) for case in present]
        results = dict(zip(present, measure(statements, repeats), strict=True))
        ours = results[cases[0]].seconds
        for case in cases:
            first = [file, megabytes(path.stat().st_size), case.reader]
            if (result := results.get(case)) is None:
                rows.append([*first, f"skipped: {case.package} is not installed", "", ""])
            else:
                ratio = f"{result.seconds / ours:,.1f}×"
                rows.append([*first, seconds(result.seconds), ratio, megabytes(result.memory)])
    return rows


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    # The least of a few runs of a millisecond still varies by a third.
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--print", action="store_true", help="do not write docs/benchmarks.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = run(Path(folder), options.repeats)
    header = ["file", "size", "reader", "time", "against torchlift", "extra peak memory"]
    text = f"""\
`python benchmarks/t7_load.py`, on {machine("numpy", "torchfile", "opencv-python-headless")}.

Each reader runs in {options.repeats} fresh processes on a file in the page cache. The table
shows the shortest time and the largest memory, without imports. *alexnet* is AlexNet-OWT-BN at
full size with its gradients (61,119,528 parameters); *numbers* is a table of a million random
numbers; *small tables* 200,000 tables of a file name and a label.

{table(header, rows)}
"""
    print(text)
    if not options.print:
        write_section("Opening a .t7", text)


if __name__ == "__main__":
    main()
