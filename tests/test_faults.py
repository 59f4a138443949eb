"""Kills, signals and full disks at chosen moments of every command that writes.

What is protected: what a command wrote before is there until the new one is whole; an error is one
line that names the file; nothing temporary stays, or the next run removes it; and the next run ends
as if nothing had happened. The moments are counted in file system events, not in seconds (see
`fault_support`): three of the quick commands here, twenty of all in `make soak`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli_support import DATA, MODEL, SCALE
from fault_support import Fault, Kind, Outcome, contents, run_command, spread
from PIL import Image
from support import FIXTURES
from test_page import RUNTIME
from torch import nn

from torchlift.converters.saved import SavedModel, save

#: The trials of each command and kind of fault.
TRIALS = int(os.environ.get("TORCHLIFT_FAULTS", "3"))
PLAIN = str(FIXTURES / "digits" / "digits-lenet5.t7")
QUICK_RUN = "--limit 100 --threads 1 --tracker none"


@dataclass(frozen=True)
class Case:
    """A command that writes.

    Attributes:
        words: the command; {files} is a folder with a model and its .onnx.
        before: the command that wrote what is there before, if anything.
        again: what the next run after a fault takes besides.
        whole: a pattern of the files that are there whole, or as they were before.
        same: a pattern of the files that hold the same after each run; the others hold times.
        more: a pattern of what the next run may write besides.
    """

    words: str
    before: str = ""
    again: str = ""
    whole: str = r".*"
    same: str = r".*"
    more: str = r""


CASES = {
    "convert": Case(f"convert {PLAIN} m --overwrite", f"convert {MODEL} m"),
    "pt2": Case("convert {files}/base m.pt2 --overwrite", same="none"),
    "t7": Case("convert {files}/base m.t7 --overwrite", f"convert {MODEL} m.t7"),
    "export": Case("export {files}/base m.onnx --overwrite"),
    "quantize": Case(f"quantize {{files}}/base.onnx q.onnx --data {DATA} --overwrite"),
    "split": Case(f"split {DATA} s.npz --overwrite", f"split {DATA} s.npz --seed 1"),
    "extract": Case(f"extract {{files}}/base {DATA} f", whole=r"f/features/.*", same=r"f/.*/c/.*"),
    "extract-npz": Case(f"extract {{files}}/base {DATA} f.npz", whole=r"f\.npz", same="none"),
    "predict": Case(
        f"predict {{files}}/base.onnx {DATA} -o p.csv --overwrite",
        f"predict {{files}}/base.onnx {DATA} -o p.csv --top 1",
        again="--resume auto",
        whole=r"p\.csv",
    ),
    "evaluate": Case(f"evaluate {{files}}/base.onnx {DATA} -o e", same=r".*(json|csv)"),
    "train": Case(
        f"train lenet5 {DATA} --epochs 2 -o r {QUICK_RUN}",
        again="--resume auto",
        whole=r"r/model/.*",
        same=r"r/(model/.*|metrics.*)",
    ),
    "finetune": Case(
        f"finetune {{files}}/base {DATA} --epochs 2 -o r {QUICK_RUN}",
        again="--resume auto",
        whole=r"r/model/.*",
        same=r"r/(model/.*|metrics.*)",
    ),
    "sweep": Case(
        f"sweep train lenet5 {DATA} lr=0.1,0.01 epochs=1 limit=60 threads=1 tracker=none -o s",
        whole=r"s/\d+/model/.*",
        same=r"s/(results.*|\d+/metrics.*)",
    ),
    "probe": Case(
        "probe f --csv p.csv --overwrite",
        f"extract {{files}}/base {DATA} f --limit 60",
        same="none",
    ),
    "plot": Case("plot filters {files}/base -o p.png --overwrite"),
    "cat": Case(
        f"cat {PLAIN} modules[8].weight -o a.npy --overwrite",
        f"cat {PLAIN} modules[1].weight -o a.npy",
    ),
    "check": Case("check {files}/base m.onnx --report", "export {files}/base m.onnx"),
    "annotate": Case(
        "annotate {files}/base.onnx -o a.onnx --mean 0.5 --std 0.2 --overwrite",
        "annotate {files}/base.onnx -o a.onnx --mean 0.4 --std 0.2",
    ),
    "calibrate": Case(
        f"calibrate {{files}}/base {DATA} c --overwrite", f"convert {PLAIN} c --mean-std {SCALE}"
    ),
    "dump": Case(f"dump {PLAIN} d.npz --overwrite", f"dump {MODEL} d.npz"),
    "dump-images": Case(
        f"dump {DATA} d --limit 20 --overwrite", f"dump {DATA} d --limit 10 --seed 1"
    ),
    "apply": Case("apply {files}/colors {files}/images o --value-range 1 --overwrite"),
    "grid": Case(
        "sample {files}/generator --grid 4x4 -o g.png --overwrite",
        "sample {files}/generator --grid 4x4 -o g.png --seed 1",
    ),
    "probe-save": Case(
        "probe f --methods logistic --save p --overwrite",
        f"extract {{files}}/base {DATA} f --layers penultimate --limit 60",
        whole=r"p/.*",
    ),
    "triton": Case(
        "export {files}/base --triton t --name net", same=r"t/net/1/.*", more=r"t/net/2(/.*)?"
    ),
    "page": Case(
        f"page baked.onnx w --onnxruntime-web {RUNTIME} --overwrite",
        "export {files}/base baked.onnx --bake-resize",
    ),
}

#: The exit code after each kind of fault.
ENDS: dict[Kind, int] = {"kill": -9, "terminate": 143, "interrupt": 130, "full": 1, "limit": 1}

#: What runs in `make test`: each takes a second or two.
QUICK = [("convert", "kill"), ("predict", "terminate"), ("cat", "limit"), ("split", "full")]

#: The log of a command may be longer than a small file; sizes below it are not tried.
_SMALLEST = 4096


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and its .onnx."""
    folder = tmp_path_factory.mktemp("files")
    for line in (
        f"convert {PLAIN} base --mean-std {SCALE}",
        "export base base.onnx",
    ):
        outcome = run_command(line.split(), folder)
        assert outcome.code == 0, outcome.err
    save(SavedModel(nn.Conv2d(3, 3, 1).eval(), "features"), folder / "colors")
    noise = nn.Sequential(nn.Linear(6, 192), nn.Unflatten(1, (3, 8, 8)), nn.Tanh())
    save(SavedModel(noise.eval(), "features"), folder / "generator")
    (folder / "images").mkdir()
    for number in range(5):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / "images" / f"{number}.png")
    return folder


def matching(folder: Path, pattern: str) -> dict[str, bytes]:
    return {
        name: content
        for name, content in contents(folder).items()
        if content is not None and ".torchlift-" not in name and re.fullmatch(pattern, name)
    }


def problems_of(
    case: Case, kind: Kind, moment: int, words: list[str], start: Path, finished: Path
) -> Iterator[str]:
    """Yield what is wrong after a fault, and after the run that follows it."""
    folder = shutil.copytree(start, start.with_name(f"{kind}-{moment}"))
    ended = run_command(words, folder, Fault(kind, moment))
    yield from problems_of_the_end(ended, kind)
    if kind != "kill" and any(".torchlift-" in name for name in contents(folder)):
        yield "something temporary is left"
    old, new = matching(start, case.whole), matching(finished, case.whole)
    for name, content in matching(folder, case.whole).items():
        if re.fullmatch(case.same, name) and content not in (old.get(name), new.get(name)):
            yield f"{name} is neither the old nor the new one"
    again = run_command([*words, *case.again.split()], folder)
    # What is complete already cannot be resumed.
    if again.code and matching(folder, case.whole) != new:
        yield f"the next run ends with {again.code}: {again.err[-300:]}"
    if matching(folder, case.same) != matching(finished, case.same):
        yield "the next run gives something else"
    extra = set(contents(folder)) - set(contents(finished))
    if extra := {name for name in extra if not re.fullmatch(case.more, name)}:
        yield f"the next run leaves {sorted(extra)}"
    shutil.rmtree(folder)


def problems_of_the_end(ended: Outcome, kind: Kind) -> Iterator[str]:
    if ended.code not in (ENDS[kind], 0):
        yield f"exit code {ended.code}"
    if "Traceback" in ended.err:
        yield "a traceback"
    if kind in ("full", "limit") and ended.code:
        line = ended.err.strip().splitlines()[-1]
        if not re.match(r"torchlift: (?!None)\S+: .*(No space left|too large|disk full)", line):
            yield "no sentence that names the file"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(name, kind, marks=() if (name, kind) in QUICK else pytest.mark.slow)
        for name in CASES
        for kind in ENDS
    ],
)
def test_a_fault_leaves_the_old_or_the_new_and_the_next_run_succeeds(
    name: str, kind: Kind, files: Path, tmp_path: Path
) -> None:
    if name == "page" and not RUNTIME.is_dir():
        pytest.skip("onnxruntime-web is not there")
    case, start, finished = CASES[name], tmp_path / "start", tmp_path / "finished"
    words = case.words.format(files=files).split()
    start.mkdir()
    if case.before:
        assert run_command(case.before.format(files=files).split(), start).code == 0
    shutil.copytree(start, finished)
    whole = run_command(words, finished)
    assert whole.code == 0, whole.err
    first, last = 1, whole.events
    if kind == "limit":
        first, last = _SMALLEST, max(len(content or b"") for content in contents(finished).values())
    problems = [
        f"{kind} at {moment}: {problem}"
        for moment in spread(first, last - 1, TRIALS)
        for problem in problems_of(case, kind, moment, words, start, finished)
    ]
    assert not problems, "\n".join(problems)
