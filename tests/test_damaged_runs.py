"""A damaged run, evaluation or file of weights is refused in one line, and no code in it is run."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_support import typed
from support import FIXTURES

from torchlift.converters.errors import WriteError
from torchlift.transfer.errors import (
    DataError,
    LabError,
    NetworkError,
    SweepError,
    TrainingError,
)
from torchlift.transfer.evaluation import read_evaluation
from torchlift.transfer.labs.steps import Steps
from torchlift.transfer.network_by_name import load_network
from torchlift.transfer.sweep import Sweep
from torchlift.transfer.training.run_folder import RunFolder

RUN = FIXTURES / "0.1.0" / "run"
TRAIN = ["train", "softmax", "sklearn:digits", "--limit", "60", "--tracker", "none"]


def pickled(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


class Evil:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return open, ("PWNED", "w")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from torchlift.cli.main import main

    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main([*TRAIN, "--epochs", "1", "-o", str(folder)]) == 0
    return folder


#: What a checkpoint says of its only epoch.
_ROWS = {"history": [{"epoch": 1}], "seconds": [1.0]}
_STATE, _WEIGHTS = "checkpoints/epoch-0001/state.pt", "checkpoints/epoch-0001/model.safetensors"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (_STATE, b"garbage", "state.pt: the checkpoint is damaged"),
        (_STATE, b"", "state.pt: the checkpoint is damaged"),
        (_STATE, pickled(Evil()), "state.pt: the checkpoint is damaged, or holds more than"),
        (_STATE, pickled([1]), "state.pt: the checkpoint is damaged"),
        (_STATE, pickled({"history": [], "seconds": []}), "it is of epoch 0"),
        (_STATE, pickled({"history": [1], "seconds": [1.0]}), r"history\[0\] is 1"),
        (_STATE, pickled({"history": "x", "seconds": [1.0]}), "history is 'x'"),
        (_STATE, pickled(_ROWS | {"history": [{"val_loss": 1.0}]}), r"history\[0\] has no epoch"),
        (_STATE, pickled(_ROWS | {"history": [{"epoch": "1"}]}), r"history\[0\] is "),
        (_STATE, pickled(_ROWS | {"seconds": ["1.0"]}), r"seconds\[0\] is '1.0'"),
        (_STATE, pickled(_ROWS | {"seconds": [1.0, 1.0]}), "it is of epoch 1"),
        (_STATE, pickled(_ROWS | {"class_counts": {1: torch.zeros(2, 10)}}), "are no counts"),
        (_STATE, pickled(_ROWS | {"class_counts": {1: 5}}), "are no counts"),
        (_STATE, None, "state.pt: the checkpoint is damaged"),
        (_WEIGHTS, b"garbage", "model.safetensors: the checkpoint is damaged"),
        (_WEIGHTS, b"\xff" * 8 + b"{}", "model.safetensors: the checkpoint is damaged"),
        (_WEIGHTS, None, "model.safetensors: the checkpoint is damaged"),
        ("run.json", b"{", "holds something else than a run, or a damaged one"),
        ("run.json", b"[" * 100_000, "holds something else than a run, or a damaged one"),
        ("run.json", b'{"torchlift": "1", "inputs": 5}', "or a damaged one"),
        ("config.yaml", b"- 1", "config.yaml: damaged: it is a list of 1"),
        ("config.yaml", b"\xff\xfe", "config.yaml: damaged: 'utf-8' codec"),
        ("config.yaml", b"a: !!python/object/apply:os.system [id]", "config.yaml: damaged"),
        ("config.yaml", b"a: &a [1]\nb: *a", "config.yaml: damaged: aliases"),
    ],
)
def test_a_damaged_run_is_not_resumed(
    name: str,
    content: bytes | None,
    said: str,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, tmp_path / "run")
    file = tmp_path / "run" / name
    file.unlink() if content is None else file.write_bytes(content)
    code, _, err = typed({}, capsys, *TRAIN, "--epochs", "2", "-o", "run", "--resume", "auto")
    assert code == 1
    (line,) = [line for line in err.splitlines() if line.startswith("torchlift: ")]
    assert said.replace("\\", "") in line
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize("text", ["{", "5", '{"epoch": "x"}', '{"loss": 1}', "[" * 100_000])
def test_damaged_metrics_are_an_error_that_names_the_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(TrainingError, match=r"metrics\.jsonl: damaged"):
        RunFolder(tmp_path).read_metrics()


@pytest.mark.parametrize(
    "changes",
    [
        {"confusion": 5},
        {"confusion": [[1]]},
        {"confusion": [["a"] * 10] * 10},
        {"classes": 5},
        {"classes": []},
        {"classes": [5]},
        {"bins": [{}]},
        {"count": 0},
        {"count": "x"},
        {"loss": "x"},
        {"notes": [1]},
    ],
)
def test_a_damaged_evaluation(changes: dict[str, Any], tmp_path: Path) -> None:
    values = json.loads((RUN / "evaluation.json").read_text(encoding="utf-8"))
    file = tmp_path / "evaluation.json"
    file.write_text(json.dumps(values), encoding="utf-8")
    read_evaluation(file)
    file.write_text(json.dumps({**values, **changes}), encoding="utf-8")
    with pytest.raises(DataError, match=r"evaluation\.json: holds no evaluation"):
        read_evaluation(file)
    for text in ("[", "[" * 100_000, "5", "\x00"):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match="holds no evaluation"):
            read_evaluation(file)


@pytest.mark.parametrize(
    "content",
    [
        pickled([1, 2]),
        pickled({"state_dict": 5, "model": {"a": 1}}),
        pickled({1: 2}),
        pickled(torch.zeros(3)),
        pickled(Evil()),
        b"garbage",
        b"",
    ],
)
def test_weights_that_are_no_state_dict(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pth").write_bytes(content)
    source = "python:torchlift.transfer.networks.photo_filters:photo_filters"
    with pytest.raises(NetworkError, match=r"^w\.pth: "):
        load_network(source, "w.pth")
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize(
    "record", ["", "{\n", '{"settings": 5}\n', '{"a": 1}\n', "[" * 9999 + "\n"]
)
def test_the_record_of_a_lab_that_is_none(record: str, tmp_path: Path) -> None:
    (tmp_path / "steps.jsonl").write_text(record, encoding="utf-8")
    for overwrite in (False, True):
        with pytest.raises(LabError, match=r"steps\.jsonl: not the record of a lab, or damaged"):
            Steps(tmp_path, lambda words: {}, {"seed": 0}, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["steps.jsonl"]


def test_a_lab_is_not_written_through_a_link(tmp_path: Path) -> None:
    Steps(tmp_path / "lab", lambda words: {}, {"seed": 0})
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "lab")
    with pytest.raises(WriteError, match="is a symbolic link"):
        Steps(link, lambda words: {}, {"seed": 0}, overwrite=True)
    record = tmp_path / "lab" / "steps.jsonl"
    record.rename(tmp_path / "precious")
    record.symlink_to(tmp_path / "precious")
    with pytest.raises(WriteError, match="is a symbolic link"):
        Steps(tmp_path / "lab", lambda words: {}, {"seed": 0})


@pytest.mark.parametrize("text", ["{", "5", '{"split": 5}', '{"split": "test", "accuracy": "x"}'])
def test_a_sweep_with_a_damaged_run(text: str, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, [{"lr": "0.1"}], {})
    shutil.copytree(RUN, tmp_path / "001")
    assert len(sweep.rows()) == 1
    (tmp_path / "001" / "evaluation.json").write_text(text, encoding="utf-8")
    with pytest.raises(SweepError, match=r"001/evaluation\.json: damaged"):
        sweep.rows()
