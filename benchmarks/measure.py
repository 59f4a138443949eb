"""Time and memory of one statement in a fresh process, and tables of results for `docs/`."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"

# The peak so far is taken after the imports: what they cost is not the statement's.
_PROGRAM = """
import json, resource, time
{setup}
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before, start = peak(), time.perf_counter()
{statement}
seconds = time.perf_counter() - start
print(json.dumps([seconds, peak() - before]))
"""


@dataclass(frozen=True)
class Measurement:
    """What a statement took.

    Attributes:
        seconds: wall time, the least of several processes.
        memory: bytes by which it raised the process's peak of resident memory, the most of them.
    """

    seconds: float
    memory: int


def measure(statements: Sequence[tuple[str, str]], repeats: int) -> list[Measurement]:
    """Run statements in fresh processes, each after its setup.

    They take turns, so that a busy moment of the machine meets them all. Files are in the page
    cache after the first turn, so nothing of this measures a disk. The peak of a process that is
    started begins at its parent's, so the caller must stay small.

    Args:
        statements: for each the imports, which are not measured, and what is.
        repeats: number of turns.

    Raises:
        RuntimeError: when a statement fails; with what it wrote.
    """
    turns = [[_run(*statement) for statement in statements] for _ in range(repeats)]
    return [
        Measurement(min(run.seconds for run in runs), max(run.memory for run in runs))
        for runs in zip(*turns, strict=True)
    ]


def _run(setup: str, statement: str) -> Measurement:
    program = _PROGRAM.format(setup=setup, statement=statement)
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(result.stderr.strip())
    return Measurement(*json.loads(result.stdout.splitlines()[-1]))


def in_turn(each: dict[str, Callable[[], float]], images: int, rounds: int) -> dict[str, float]:
    """Images a second of each, at its best, after a run that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in each}
    for counted in [False, *[True] * rounds]:
        for name, run in each.items():
            took = run()
            if counted:
                seconds[name].append(took)
    return {name: images / min(times) for name, times in seconds.items()}


def shortest_times(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the shortest time of each in seconds, after one call that does not count."""
    for function in functions.values():
        function()
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def installed(package: str) -> bool:
    """Whether a package is there to be compared with."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def machine(*packages: str) -> str:
    """Describe this machine and these packages' versions in one sentence."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    versions = [
        f"{name} {importlib.metadata.version(name)}" for name in packages if installed(name)
    ]
    return (
        f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, "
        f"{platform.system()}, Python {platform.python_version()}, {', '.join(versions)}"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def write_section(title: str, text: str) -> None:
    """Put a section into `docs/benchmarks.md`, in place of the one with the same title."""
    document = DOCUMENT.read_text(encoding="utf-8") if DOCUMENT.exists() else "# Benchmarks\n"
    section = f"## {title}\n\n{text.strip()}\n"
    pattern = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
    if pattern.search(document):
        document = pattern.sub(lambda _: section + "\n", document)
    else:
        document = f"{document.rstrip()}\n\n{section}"
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(document.rstrip() + "\n")


def seconds(value: float) -> str:
    """Format a duration with three digits: `4.21 ms`, `1.37 s`."""
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"


def megabytes(value: float) -> str:
    """Format a number of bytes in MB."""
    return f"{value / 1e6:,.0f} MB"
