"""Commands as one of several processes: all work, and the first one alone refuses and reports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_runs import write_run

from torchlift.cli import extract as extract_file
from torchlift.cli import sweep as sweep_file
from torchlift.cli.data_options import DataOptions
from torchlift.cli.errors import UsageError
from torchlift.cli.extract import extract
from torchlift.cli.model_options import ModelOptions
from torchlift.cli.predict import predict
from torchlift.cli.repeats import repeatable
from torchlift.cli.result import CommandResult
from torchlift.cli.sweep import sweep
from torchlift.cli.training import run_training
from torchlift.converters import inference
from torchlift.converters.inference import processes, result_shards
from torchlift.converters.inference.processes import Process
from torchlift.transfer.data import Dataset, Splits
from torchlift.transfer.data import description as description_file
from torchlift.transfer.features import extraction, files
from torchlift.transfer.training import experiment as experiment_file
from torchlift.transfer.training.options import Experiment, Run


@dataclass(frozen=True)
class Stand(Process):
    """One of two processes; what the other one found is given, and nobody waits."""

    others: Any = ()

    def wait(self) -> None:
        pass

    def gather(self, value: Any) -> list[Any]:
        return [value, self.others]


def stand_as(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def joined() -> Iterator[Process]:
        yield process

    monkeypatch.setattr(processes, "joined_process", joined)


@pytest.mark.parametrize("rank", [0, 1])
def test_features_are_made_one_file_by_the_first_process(
    rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = Dataset(np.zeros((3, 1, 2, 2), np.uint8))
    monkeypatch.setattr(DataOptions, "open", lambda *_: images)
    monkeypatch.setattr(extract_file, "_source", lambda *_: ("source", []))
    settings = SimpleNamespace(dtype="float32")
    plan = SimpleNamespace(
        shapes={"x": (3, 2)}, settings=settings, bytes=24, manifest={"backend": "b"}
    )
    monkeypatch.setattr(extraction, "plan_extraction", lambda *given: plan)
    seen: list[Any] = []

    def run(plan: Any, folder: Path, **given: Any) -> str:
        seen.append(given["process"])
        folder.mkdir()
        return "store"

    monkeypatch.setattr(extraction, "extract", run)
    monkeypatch.setattr(files, "write_features", lambda *given: seen.append(given))
    process = Stand(rank, 2)
    stand_as(process, monkeypatch)
    target = tmp_path / "x.npz"
    if rank == 0:
        assert extract("m", "d", str(target)).data["files"] == [str(target)]
        assert seen == [process, ("store", target, "npz")]
        assert list(tmp_path.iterdir()) == []
        assert capsys.readouterr().err.startswith(f"{target}: x 3×2")
        return
    with pytest.raises(SystemExit) as stopped:
        extract("m", "d", str(target))
    assert stopped.value.code == 0
    # The first one may still read it.
    assert [path.name for path in tmp_path.iterdir()] == [".x.npz.zarr"]
    assert seen == [process]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("rank", [0, 1])
def test_predictions_are_reported_by_the_first_process(
    rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It counts what any of them could not read."""
    broken = {"input": "b.png", "problem": "broken"}
    stand_as(Stand(rank, 2, [broken]), monkeypatch)
    classifier = SimpleNamespace(note="runs on the moon", provider="here")
    predictor = SimpleNamespace(output_kind="logits")
    monkeypatch.setattr(ModelOptions, "predictor", lambda *_: predictor)
    monkeypatch.setattr(inference, "Classifier", lambda *_, **__: classifier)
    opened: list[Any] = []

    def shard(*given: Any, **named: Any) -> Any:
        opened.append((given[0], named["overwrite"], named["resume"]))
        return nullcontext(lambda *image: None)

    monkeypatch.setattr(result_shards, "open_shard", shard)
    found = [("a.png", [], ""), ("b.png", [], ""), ("c.png", [], "cut")]
    source = SimpleNamespace(
        names=[name for name, *_ in found], results=lambda start: found[start:]
    )
    monkeypatch.setattr("torchlift.cli.predict._open_input", lambda *_: source)
    output = tmp_path / "r.csv"
    options: Any = {"output": str(output), "batch_size": 1, "resume": "auto"}
    if rank == 1:
        with pytest.raises(SystemExit) as stopped:
            predict("m.onnx", ["x"], **options)
        assert stopped.value.code == 0
        assert capsys.readouterr().err == "torchlift: cut\n"
    else:
        result = predict("m.onnx", ["x"], **options)
        assert (result.data["count"], result.data["unreadable"]) == (2, [broken])
        assert not result.passed
        assert result.view.renderables == [  # type: ignore[union-attr]  # a group
            f"2 images classified on here: {output}",
            "1 of 3 images could not be read",
        ]
        assert capsys.readouterr().err == "runs on the moon\n"
    assert opened == [(output, False, True)]


def test_several_processes_need_a_file_for_their_results(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_as(Stand(0, 2), monkeypatch)
    with pytest.raises(UsageError, match="several processes need --output FILE"):
        predict("m.onnx", ["x"])


def test_only_the_first_process_reports_a_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor do the others describe the data, which takes a look at every image."""
    part = Dataset(np.zeros((2, 1, 2, 2), np.uint8), np.array([0, 1]))
    asked: list[Any] = []

    def run(*given: Any, **named: Any) -> Any:
        asked.append(named["facts"])
        named["announce"]("a note")
        return SimpleNamespace(evaluation={}, notes=[], history=[])

    monkeypatch.setattr(experiment_file, "run_experiment", run)
    monkeypatch.setattr(description_file, "describe_data", lambda _: pytest.fail("it looks"))
    monkeypatch.setenv("RANK", "1")
    model: Any = SimpleNamespace(notes=[])
    with pytest.raises(SystemExit) as stopped:
        run_training(model, Experiment(Splits(part, part, part)), Path("run"))
    assert stopped.value.code == 0
    assert asked == [{"dataset": None}]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("code", "first", "ends"),
    [(0, True, True), (3, False, True), (0, False, False), (None, False, False)],
)
def test_a_sweep_goes_on_behind_runs_that_have_no_report(
    code: int | None,
    first: bool,
    ends: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    done: list[str] = []

    def run(command: Any, options: dict[str, Any]) -> None:
        done.append(Path(options["output"]).name)
        write_run(Path(options["output"]), [0.5], test=0.5, lr=options["lr"])
        raise SystemExit(code)

    monkeypatch.setattr(sweep_file, "run_command", run)
    monkeypatch.setattr(sweep_file, "is_first_process", lambda: first)
    with pytest.raises(SystemExit) as stopped:
        sweep("train", "softmax", "d.npz", ["lr=0.1,0.2"], output=str(tmp_path / "s"))
    assert done == (["001"] if ends else ["001", "002"])
    assert stopped.value.code == (code if ends else 0)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == ("run 001 of 002: lr=0.1\n" if first else "")


def test_only_the_first_process_looks_whether_repeats_may_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others would see what the first one has begun."""
    write_run(tmp_path / "r" / "seed-0", [0.5])

    def train(network: str, data: str, *, data_options: DataOptions, run: Run) -> CommandResult:
        raise SystemExit(0)

    monkeypatch.setattr("torchlift.cli.repeats.is_first_process", lambda: False)
    settings = replace(Run(), output=str(tmp_path / "r"), repeats=2)
    with pytest.raises(SystemExit) as stopped:
        repeatable(train)(network="n", data="d", data_options=DataOptions(), run=settings)
    assert stopped.value.code == 0
