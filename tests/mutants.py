"""Mutation testing: change the code in one place, and see whether a fast test fails.

`make mutants` draws a seeded sample of changes in `ROOMS`, tries each in a copy of the package, and
prints those that no test notices (docs/mutants.md). A mutant runs the tests of its room that run
the changed line, as coverage's contexts tell; that is measured once and kept in build/mutants.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from compileall import compile_dir
from pathlib import Path
from py_compile import PycInvalidationMode

from mutations import Mutant, mutants_of

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "mutants"
LINES, TIMES = WORK / "coverage", WORK / "times.xml"
#: What is changed, and the files of tests that it concerns.
ROOMS = {
    "converters/t7": "test_t7_* test_dump test_find_model test_to_torch7",
    "converters/modules/layers": "test_layers test_layer_defaults test_criterions test_modules_* "
    "test_fuzz_cases test_missing_fields test_random_networks",
    "converters/onnx/checker": "test_onnx_check* test_onnx_edge_cases test_onnx_bake "
    "test_onnx_quantize test_onnx_tampered test_onnx_locate test_onnx_foreign*",
    "transfer/training": "test_training* test_freezing test_heads test_defaults",
}
#: Imported once: each mutant runs in a fork of this process.
WARM = "torch torchvision onnx onnxruntime onnxscript accelerate sklearn zarr hypothesis rich"
#: Seconds that the tests of a mutant take at most, as measured, and after which it is stopped.
BUDGET, LIMIT = 30.0, 300.0


def copy_package(folder: Path) -> None:
    """Copy the package; what is compiled is valid for its source only, whatever its date."""
    shutil.rmtree(folder, ignore_errors=True)
    ignored = shutil.ignore_patterns(".*", "build", "dist", "__pycache__")
    shutil.copytree(ROOT, folder / "torchlift", ignore=ignored)
    compile_dir(folder, quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH)


def measure() -> None:
    """Run the fast tests of all rooms; keep which lines each one runs, and how long it takes."""
    copy_package(WORK / "0")
    folder = WORK / "0" / "torchlift"
    patterns = " ".join(ROOMS.values()).split()
    tests = sorted({str(file) for name in patterns for file in folder.glob(f"tests/{name}.py")})
    options = ["-q", "-n", "auto", "-m", "not slow", f"--junitxml={TIMES}"]
    options += ["--cov", "--cov-context=test", "--cov-report="]
    environment = os.environ | {"PYTHONPATH": str(WORK / "0"), "COVERAGE_FILE": str(LINES)}
    command = [sys.executable, "-m", "pytest", *options, *tests]
    subprocess.run(command, cwd=folder, env=environment, check=True)


def read_measured() -> tuple[dict[str, dict[int, list[str]]], dict[str, float]]:
    """Return the tests of each line of each file, and the seconds of each test."""
    from coverage import CoverageData

    data = CoverageData(str(LINES))
    data.read()
    lines = {
        name.rpartition("/torchlift/")[2]: data.contexts_by_lineno(name)
        for name in data.measured_files()
    }
    cases = ElementTree.parse(TIMES).iter("testcase")
    names = ((case.attrib["classname"].replace(".", "/"), case.attrib) for case in cases)
    return lines, {f"{file}.py::{case['name']}": float(case["time"]) for file, case in names}


def tests_of(line: int, contexts: dict[int, list[str]], seconds: dict[str, float]) -> list[str]:
    """Return the tests that run a line: the quickest of each file first, within the budget.

    A line that hardly a test runs may run when its file is imported, in whatever test comes first:
    the other tests of the file follow then, or any tests if there are none.
    """
    nearest = max((number for number in contexts if number <= line), default=0)
    found = {name.partition("|")[0] for name in contexts.get(nearest, [])} & seconds.keys()
    others = {name.partition("|")[0] for names in contexts.values() for name in names}
    others = others & seconds.keys() or {*sorted(seconds, key=seconds.__getitem__)[:20]}
    groups = [found, others - found] if len(found) < 3 else [found]
    chosen: list[str] = []
    total = 0.0
    for name in (name for group in groups for name in _quickest_of_each_file(group, seconds)):
        if total + seconds[name] <= BUDGET or not chosen:
            chosen.append(name)
            total += seconds[name]
    return chosen


def _quickest_of_each_file(names: set[str], seconds: dict[str, float]) -> list[str]:
    place: Counter[str] = Counter()
    ranked = []
    for name in sorted(names, key=seconds.__getitem__):
        place[name.partition("::")[0]] += 1
        ranked.append((place[name.partition("::")[0]], seconds[name], name))
    return [name for _, _, name in sorted(ranked)]


def start(folder: Path, tests: list[str]) -> int:
    """Run tests in a process of its own, and return its id; its exit code 0 means they passed."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        os.chdir(folder / "torchlift")
        output = os.open(folder / "output.txt", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        sys.path.insert(0, str(folder))
        sys.dont_write_bytecode = True
        pytest = importlib.import_module("pytest")
        code = int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *tests]))
    finally:
        os._exit(code)


def survivors(cases: Iterator[tuple[Mutant, list[str]]], workers: int) -> Iterator[Mutant]:
    """Try each mutant with its tests; yield those with which all tests pass."""
    free = [WORK / str(number) for number in range(workers)]
    for folder in free:
        copy_package(folder)
    running: dict[int, tuple[Mutant, Path, float]] = {}
    while True:
        while free and (case := next(cases, None)):
            mutant, tests = case
            if not tests:
                yield mutant
                continue
            folder = free.pop()
            (folder / "torchlift" / mutant.file).write_bytes(mutant.source)
            running[start(folder, tests)] = mutant, folder, time.monotonic()
        if not running:
            return
        time.sleep(0.05)
        for pid, (mutant, folder, began) in list(running.items()):
            if late := time.monotonic() - began > LIMIT:
                os.killpg(pid, signal.SIGKILL)
            ended, status = os.waitpid(pid, 0 if late else os.WNOHANG)
            if ended:
                shutil.copy2(ROOT / mutant.file, folder / "torchlift" / mutant.file)
                free.append(folder)
                del running[pid]
            if ended and status == 0:
                yield mutant


def main() -> None:
    """Try a sample of mutants, and print the survivors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", nargs="*", default=[*ROOMS], help="files or folders to change")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if not LINES.exists():
        measure()
    lines, seconds = read_measured()
    named = [ROOT / name for name in options.files]
    files = sorted({file for path in named for file in (path, *path.glob("**/*.py"))})
    mutants = [each for file in files if file.is_file() for each in mutants_of(file, ROOT)]
    sample = random.Random(options.seed).sample(mutants, min(options.count, len(mutants)))
    for name in WARM.split():
        importlib.import_module(name)
    cases = ((each, tests_of(each.line, lines.get(each.file, {}), seconds)) for each in sample)
    noticed = len(sample)
    for mutant in survivors(cases, options.workers):
        noticed -= 1
        print(mutant, flush=True)
    print(f"{noticed} of {len(sample)} mutants were noticed by a test")


if __name__ == "__main__":
    main()
