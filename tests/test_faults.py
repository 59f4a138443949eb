"""Kills, signals and full disks at chosen moments of every command that writes.

What is protected: what a command wrote before is there until the new one is whole; an error is one
line that names the file; nothing temporary is left behind, or the next run removes it; and the next
run ends as if nothing had happened. The moments are counted in file system events (see
`fault_support`); `make soak` tries twenty of each, `make test` three of the quick commands.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli_support import DATA, MODEL, SCALE
from fault_support import Fault, Kind, contents, run_command, spread
from support import FIXTURES

#: The trials of each command and kind of fault.
TRIALS = int(os.environ.get("TORCHLIFT_FAULTS", "3"))
PLAIN = str(FIXTURES / "digits" / "digits-lenet5.t7")


@dataclass(frozen=True)
class Case:
    """A command that writes.

    Attributes:
        words: the command; {files} is a folder with a model, its .onnx, features and a run.
        before: the command that wrote what is there before, if anything.
        again: the options of the next run after a fault.
        compared: a pattern of the files that are the same in each run.
    """

    words: str
    before: str = ""
    again: str = ""
    compared: str = r".*"


CASES = {
    "convert": Case(f"convert {PLAIN} m --overwrite", f"convert {MODEL} m"),
    "convert-pt2": Case("convert {files}/base m.pt2 --overwrite", "", "", "none"),
    "convert-t7": Case("convert {files}/base m.t7 --overwrite", f"convert {MODEL} m.t7"),
    "export": Case("export {files}/base m.onnx --overwrite", f"export {MODEL} m.onnx"),
    "quantize": Case(f"quantize {{files}}/base.onnx q.onnx --data {DATA} --limit 64 --overwrite"),
    "split": Case(f"split {DATA} s.npz --overwrite", f"split {DATA} s.npz --seed 1"),
    "extract": Case(f"extract {{files}}/base {DATA} f", compared=r"f/features/.*"),
    "extract-npz": Case(f"extract {{files}}/base {DATA} f.npz", compared="none"),
    "predict": Case(
        f"predict {{files}}/base.onnx {DATA} -o p.csv --overwrite",
        f"predict {{files}}/base.onnx {DATA} -o p.csv --top 1",
    ),
    "evaluate": Case(f"evaluate {{files}}/base.onnx {DATA} --output e", compared=r".*(json|csv)"),
    "train": Case(
        f"train lenet5 {DATA} --epochs 2 --limit 100 --threads 1 --tracker none -o r",
        again="--resume auto",
        compared=r"r/(model|metrics).*",
    ),
    "finetune": Case(
        f"finetune {{files}}/base {DATA} --epochs 2 --limit 100 --threads 1 --tracker none -o r",
        again="--resume auto",
        compared=r"r/(model|metrics).*",
    ),
    "sweep": Case(
        f"sweep train lenet5 {DATA} lr=0.1,0.01 epochs=1 limit=60 threads=1 tracker=none -o s",
        compared=r"s/(results.*|.*/metrics\.csv)",
    ),
    "probe": Case("probe {files}/features -o p.csv --overwrite", compared="none"),
    "plot": Case("plot filters {files}/base -o p.png --overwrite", "plot filters {files}/base -o p.png --columns 2"),
    "cat": Case(f"cat {DATA} label -o a.t7 --overwrite", f"cat {DATA} data -o a.t7"),
    "check": Case("check {files}/base {files}/base.onnx --report", compared="none"),
}
QUICK = ("convert", "predict", "split", "train")
ENDS = {"kill": -9, "terminate": 143, "interrupt": 130, "full": 1, "limit": 1}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, its .onnx and features."""
    folder = tmp_path_factory.mktemp("files")
    for line in (
        f"convert {PLAIN} base --mean-std {SCALE}",
        "export base base.onnx",
        f"extract base {DATA} features --limit 60",
    ):
        outcome = run_command(line.split(), folder)
        assert outcome.code == 0, outcome.err
    return folder


def same_in_each_run(folder: Path, case: Case) -> dict[str, bytes | None]:
    return {
        name: content
        for name, content in contents(folder).items()
        if content is not None and re.fullmatch(case.compared, name)
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ENDS)
@pytest.mark.parametrize("name", CASES)
def test_a_fault_leaves_the_old_or_the_new_and_the_next_run_succeeds(
    name: str, kind: Kind, files: Path, tmp_path: Path
) -> None:
    case = CASES[name]
    words = case.words.format(files=files).split()
    start = tmp_path / "start"
    start.mkdir()
    if case.before:
        assert run_command(case.before.format(files=files).split(), start).code == 0
    old = same_in_each_run(start, case)
    whole = shutil.copytree(start, tmp_path / "whole")
    outcome = run_command(words, whole)
    assert outcome.code == 0, outcome.err
    new, entries = same_in_each_run(whole, case), set(contents(whole))
    last = outcome.events
    if kind == "limit":
        last = max((len(content) for content in contents(whole).values() if content), default=1) - 1
    problems = []
    for moment in spread(last, TRIALS):
        folder = shutil.copytree(start, tmp_path / f"{kind}-{moment}")
        fault = run_command(words, folder, Fault(kind, moment))
        said = fault.err.replace(str(tmp_path), "")
        trial = f"{kind} at {moment}: exit code {fault.code}: {said[-400:]}"
        if fault.code not in (ENDS[kind], 0) or "Traceback" in said:
            problems.append(f"ended badly: {trial}")
        if kind in ("full", "limit") and fault.code and not re.search(r"torchlift: \S+: .*(No space|too large)", said):
            problems.append(f"no sentence: {trial}")
        found = set(contents(folder))
        temporary = {one for one in found if ".torchlift-" in one}
        if kind != "kill" and temporary:
            problems.append(f"left {temporary}: {trial}")
        now = same_in_each_run(folder, case)
        if not case.again and not any(
            all(one.get(file) == content for one in [now])
            for file, content in now.items()
        ) and now not in (old, new, {}):
            problems.append(f"neither old nor new: {trial}")
        for file, content in now.items():
            if content not in (old.get(file), new.get(file)) and not case.again:
                problems.append(f"{file} neither old nor new: {trial}")
        again = run_command([*words, *case.again.split()], folder)
        if again.code:
            problems.append(f"next run {again.code}: {again.err[-300:]}: after {trial}")
        elif same_in_each_run(folder, case) != new:
            problems.append(f"next run gave something else: after {trial}")
        elif extra := {one for one in set(contents(folder)) - entries if "tfevents" not in one}:
            problems.append(f"next run left {sorted(extra)}: after {trial}")
        shutil.rmtree(folder)
    assert not problems, "\n" + "\n".join(problems)
