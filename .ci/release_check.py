"""What is checked before a release: `make release-check`.

The wheel is built twice and must be the same bytes. It is installed by uv into clean environments:
with the newest dependencies for each Python that is installed here, with the lowest ones and with
each wheel of ONNX Runtime for the oldest. In each, `torchlift demo` runs the whole workflow. What
came of it is written to docs/support.md; what could not be tried is said there too.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "support.md"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
BEGIN, END = "<!-- make release-check writes what follows -->", "<!-- end -->"

#: Imports what the command line does not, and prints what is installed, as a table's cells.
_VERSIONS = """
import importlib.metadata as found
print(*(found.version(name) for name in ("torch", "numpy", "onnx")), sep=" | ")
import torchlift.cli.serve, torchlift.compat
"""


@dataclass(frozen=True)
class Trial:
    """One environment.

    Attributes:
        python: Its version, such as 3.11.
        resolution: `newest` or `lowest` dependencies.
        extra: The extra that selects the wheel of ONNX Runtime: cpu, gpu or openvino.
    """

    python: str
    resolution: str = "newest"
    extra: str = "cpu"

    @property
    def cells(self) -> str:
        """What the table says of it."""
        runtime = "onnxruntime" if self.extra == "cpu" else f"onnxruntime-{self.extra}"
        return f"{self.python} | {self.resolution} | {runtime}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check; returns 1 if anything that could be tried failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", help="only trials with this text in their row, such as 3.12; writes no page"
    )
    only = parser.parse_args(arguments).only or ""
    if shutil.which("uv") is None:
        print("release-check needs uv: pip install uv", file=sys.stderr)
        return 1
    oldest = PYTHONS[0]
    trials = [
        *(Trial(python) for python in PYTHONS),
        *(Trial(oldest, "lowest"), Trial(oldest, extra="gpu"), Trial(oldest, extra="openvino")),
    ]
    rows, failed = [], False
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_twice(Path(folder))
        for trial in trials:
            if only not in trial.cells:
                continue
            result = run(trial, wheel, Path(folder) / "environment")
            failed |= result.startswith("**failed**")
            rows.append(f"| {trial.cells} | {result} |")
            print(rows[-1], flush=True)
        if not only:
            write_page(rows, wheel.stat().st_size)
    return int(failed)


def build_twice(folder: Path) -> Path:
    """Return the wheel of the last commit, built twice to the same bytes.

    Raises:
        SystemExit: If the two differ.
    """
    commit, stamp = _output("git", "log", "-1", "--format=%H %ct", cwd=ROOT).split()
    wheels = []
    for name in ("first", "second"):
        tree = folder / name / "tree"
        tree.mkdir(parents=True)
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, stdout=-1, check=True).stdout
        subprocess.run(["tar", "-x", "-C", tree], input=archive, check=True)
        command = ["uv", "build", "--quiet", "--wheel", "--out-dir", str(folder / name), str(tree)]
        subprocess.run(command, env={**os.environ, "SOURCE_DATE_EPOCH": stamp}, check=True)
        wheels.append(next((folder / name).glob("*.whl")))
        shutil.rmtree(tree)
    first, second = (wheel.read_bytes() for wheel in wheels)
    if first != second:
        raise SystemExit("the wheel differs from one build to the next")
    print(f"{wheels[0].name}: {len(first):,} bytes, the same twice", flush=True)
    return wheels[0]


def run(trial: Trial, wheel: Path, folder: Path) -> str:
    """Return the cells of what came of a trial: versions, sizes and times, or what went wrong."""
    python = find_python(trial.python)
    if python is None:
        return "| | | | not run: no such Python here"
    shutil.rmtree(folder, ignore_errors=True)
    inside = folder / "bin" / "python"
    resolution = "lowest-direct" if trial.resolution == "lowest" else "highest"
    extras = [f"--extra={name}" for name in (trial.extra, "serve-but-onnxruntime", "data")]
    install = ["uv", "pip", "install", "--quiet", "--python", inside]
    try:
        _output("uv", "venv", "--quiet", "--python", python, folder)
        # Read from pyproject.toml: of a wheel, uv takes the newest dependencies in either case.
        _output(*install, "--resolution", resolution, "-r", ROOT / "pyproject.toml", *extras)
        _output(*install, "--no-deps", wheel)
    except subprocess.CalledProcessError as error:
        return f"| | | | not run: {_last_line(error)}"
    try:
        began = time.monotonic()
        versions = _output(inside, "-P", "-c", _VERSIONS, cwd=folder).strip()
        command = [inside, "-P", "-m", "torchlift.cli"]
        _output(*command, "demo", folder / "demo", cwd=folder)
    except subprocess.CalledProcessError as error:
        return f"| | | | **failed**: {_last_line(error)}"
    megabytes = sum(each.lstat().st_size for each in folder.rglob("*")) // 10**6
    return f"{versions} | {megabytes:,} MB | passed in {time.monotonic() - began:.0f} s"


def find_python(version: str) -> str | None:
    """Return the interpreter of a version that is installed here, by uv, pyenv or the system."""
    kept = Path.home() / ".pyenv" / "versions"
    for candidate in [*map(str, kept.glob(f"{version}.*/bin/python")), f"python{version}"]:
        try:
            found = _output(candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
        except (OSError, subprocess.CalledProcessError):
            continue
        if found.strip() == version:
            return candidate
    return None


def write_page(rows: Sequence[str], size: int) -> None:
    """Write the table between the marks of docs/support.md."""
    system = f"{os.uname().sysname} {os.uname().machine}"
    table = "\n".join(
        [
            f"On {system}, {time.strftime('%Y-%m-%d')}, of a wheel of {size / 1e6:.1f} MB:",
            "",
            "| Python | dependencies | ONNX Runtime | torch | numpy | onnx | installed | `demo` |",
            "|---|---|---|---|---|---|---|---|",
            *rows,
        ]
    )
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")


def _output(*command: str | Path, cwd: Path | None = None) -> str:
    # Nothing of the environment that this runs in may answer for the new one.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def _last_line(error: subprocess.CalledProcessError) -> str:
    lines = [line.strip() for line in (error.stderr or error.stdout or "").splitlines()]
    said = [line for line in lines if line]
    return re.sub(r"\s+", " ", said[-1] if said else str(error)).replace("|", "/")[:200]


if __name__ == "__main__":
    sys.exit(main())
