"""Mutation testing: change the code in one place, and see whether a fast test fails.

`make mutants` prints those of a seeded sample that no test notices (docs/mutants.md).
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import re
import shutil
import signal
import sys
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, chain, zip_longest
from multiprocessing import get_context
from pathlib import Path

import pytest
from coverage import CoverageData
from mutations import Mutant, mutants_of

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "mutants"
LINES, TIMES = WORK / "coverage", WORK / "times.xml"
#: What is changed.
ROOMS = "converters/t7 converters/modules/layers converters/onnx/checker transfer/training"
#: Imported once: each mutant runs in a fork of this process.
WARM = "torch torchvision onnx onnxruntime onnxscript accelerate sklearn zarr hypothesis rich"
#: Seconds of tests at most, and of waiting for them; how many run first (reading files is slow).
BUDGET, LIMIT, FIRST = 30.0, 300.0, 16


def copy_package(folder: Path) -> Path:
    """Copy the package into a folder, with what is compiled, and return the copy."""
    shutil.rmtree(folder, ignore_errors=True)
    ignored = shutil.ignore_patterns(".*", "build", "dist")
    return shutil.copytree(ROOT, folder / "torchlift", ignore=ignored)


def run_tests(package: Path, options: list[str], limit: float | None = None) -> bool:
    """Return whether tests of a copy pass within some seconds; they run in a fork."""
    process = get_context("fork").Process(target=_run_tests, args=(package, options))
    process.start()
    process.join(limit)
    if process.exitcode is None and process.pid:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
    return process.exitcode == 0


def _run_tests(package: Path, options: list[str]) -> None:
    os.setsid()
    os.chdir(package)
    os.environ["PYTHONPATH"] = str(package.parent)
    sys.path.insert(0, str(package.parent))
    os._exit(pytest.main(["-p", "no:cacheprovider", *options]))


def measure() -> None:
    """Run the fast tests if one has changed; keep which lines each runs, and how long it takes."""
    # A test that has another name by now would be an error, which counts as a test that fails.
    changed = max(file.stat().st_mtime for file in (ROOT / "tests").rglob("*.py"))
    if TIMES.exists() and TIMES.stat().st_mtime > changed:
        return
    options = ["-q", "-n", "auto", "-m", "not slow", "--cov", "--cov-context=test", "--cov-report="]
    os.environ["COVERAGE_FILE"] = str(LINES)
    run_tests(copy_package(WORK / "0"), [*options, f"--junitxml={TIMES}", "tests"])


def read_measured() -> tuple[dict[str, dict[int, list[str]]], dict[str, float]]:
    """Return the tests of each line of each file, and the seconds of each test that passed."""
    data = CoverageData(str(LINES))
    data.read()
    files = data.measured_files()
    lines = {file.rpartition("/torchlift/")[2]: data.contexts_by_lineno(file) for file in files}
    cases = ElementTree.parse(TIMES).iter("testcase")
    passed = [case.attrib for case in cases if {part.tag for part in case} <= {"properties"}]
    times = {dotted(f"{case['classname']}.{case['name']}"): float(case["time"]) for case in passed}
    tests = {context.rpartition("|")[0] for context in data.measured_contexts()}
    # A test whose name holds the path of this copy has another one in the next.
    known = [test for test in tests if dotted(test) in times and "torchlift/" not in test]
    return lines, {test: times[dotted(test)] for test in known}


def dotted(test: str) -> str:
    """Return the name of a test as pytest and its report of times would write it alike."""
    return re.sub(r"\.py::|::|/", ".", test)


def tests_of(line: int, contexts: dict[int, list[str]], seconds: dict[str, float]) -> list[str]:
    """Return tests to try, within the budget: those that run a line, then its file's, then any."""
    # A line that no test runs may run when its file is imported, in whatever test comes first.
    nearest = max((number for number in contexts if number <= line), default=0)
    groups = contexts.get(nearest, []), chain(*contexts.values()), seconds
    ranked = [*dict.fromkeys(test for group in groups for test in in_turns(group, seconds))]
    totals = accumulate(seconds[test] for test in ranked)
    return ranked[: max(1, sum(total <= BUDGET for total in totals))]


def in_turns(names: Iterable[str], seconds: dict[str, float]) -> list[str]:
    """Sort tests: the quickest of each file, then the second of each file, and so on."""
    files: defaultdict[str, list[str]] = defaultdict(list)
    tests = {name.partition("|")[0] for name in names} & seconds.keys()
    for test in sorted(tests, key=seconds.__getitem__):
        files[test.partition("::")[0]].append(test)
    return [test for turn in zip_longest(*files.values()) for test in turn if test]


def survivors(number: int, cases: list[tuple[Mutant, list[str]]]) -> int:
    """Try mutants in a copy of the package; print and count those with which all tests pass."""
    package = copy_package(WORK / str(number))
    count = 0
    for mutant, tests in cases:
        (package / mutant.file).write_bytes(mutant.source)
        parts = [part for part in (tests[:FIRST], tests[FIRST:]) if part]
        if all(run_tests(package, ["-x", "-p", "no:terminal", *part], LIMIT) for part in parts):
            print(mutant, flush=True)
            count += 1
        shutil.copy2(ROOT / mutant.file, package / mutant.file)
    return count


def main() -> None:
    """Try a sample of mutants, and print the survivors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    rooms, workers = [*map(ROOT.joinpath, ROOMS.split())], os.cpu_count() or 1
    parser.add_argument("files", nargs="*", type=ROOT.joinpath, default=rooms, help="or folders")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    measure()
    lines, seconds = read_measured()
    files = sorted({file for path in options.files for file in (path, *path.rglob("*.py"))})
    mutants = [each for file in files if file.is_file() for each in mutants_of(file, ROOT)]
    sample = random.Random(options.seed).sample(mutants, min(options.count, len(mutants)))
    cases = [(each, tests_of(each.line, lines.get(each.file, {}), seconds)) for each in sample]
    list(map(importlib.import_module, WARM.split()))
    with ThreadPoolExecutor(workers) as pool:
        tried = pool.map(lambda n: survivors(n, cases[n::workers]), range(workers))
    print(f"{len(cases) - sum(tried)} of {len(cases)} mutants were noticed by a test")


if __name__ == "__main__":
    main()
