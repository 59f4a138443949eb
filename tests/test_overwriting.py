"""Only what torchlift wrote is replaced or deleted, and nothing is written through a link.

Every command that writes is given a target that is somebody else's: a file, a folder with files of
the names that torchlift uses, a folder of its own with a file of somebody else in it, and a link.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli_support import DATA, MODEL, SCALE, typed
from support import FIXTURES

Typed = Callable[..., tuple[int, str, str]]

#: Files that a command wrote, by what they are: copied for each test.
TRAIN = ["train", "softmax", DATA, "--limit", "60", "--epochs", "1", "--tracker", "none"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved model, an .onnx file, a run, a store of features and an evaluation."""
    from torchlift.cli.main import main

    folder = tmp_path_factory.mktemp("written")
    paths = {name: folder / name for name in ("model", "model.onnx", "run", "store", "results")}
    some = ["--limit", "20"]
    # Quicker than an export, and written by torchlift too.
    shutil.copytree(FIXTURES / "0.1.0" / "model", paths["model"])
    shutil.copy(FIXTURES / "0.1.0" / "model.onnx", paths["model.onnx"])
    for words in (
        [*TRAIN, "-o", paths["run"]],
        ["extract", paths["model"], DATA, paths["store"], *some],
        ["evaluate", paths["model.onnx"], DATA, "--output", paths["results"], *some],
    ):
        assert main(list(map(str, words))) == 0
    return paths


@pytest.fixture
def run(
    written: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Typed:
    """Runs a command in a folder with copies of everything in `written`."""
    for name, path in written.items():
        target = tmp_path / name
        shutil.copytree(path, target) if path.is_dir() else shutil.copy(path, target)
    monkeypatch.chdir(tmp_path)
    return lambda *words: typed({}, capsys, *map(str, words))


#: Commands that write one file, of the form `words` + the file + `--overwrite`.
FILES = {
    "plot.png": ["plot", "confusion", "results", "--output"],
    "arrays.npz": ["plot", "filters", "model", "--arrays"],
    "table.csv": ["probe", "store", "--methods", "knn", "--csv"],
    "split.npz": ["split", DATA, "--limit", "60"],
    "value.npy": ["cat", MODEL, "modules[1].weight", "--output"],
    "features.npz": ["extract", "model", DATA, "--limit", "20"],
    "predicted.csv": ["predict", "model.onnx", "sklearn:digits", "--output"],
    "other.t7": ["convert", "model"],
    "other.onnx": ["export", "model"],
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if "onnx" in name else ()) for name in FILES],
)
def test_a_file_is_replaced_only_with_overwrite_and_never_through_a_link(
    name: str, run: Typed, tmp_path: Path
) -> None:
    file, precious = tmp_path / name, tmp_path / "precious"
    file.write_text("mine", encoding="utf-8")
    precious.write_text("mine", encoding="utf-8")
    code, _, err = run(*FILES[name], file)
    assert code == 1
    assert f"{name} already exists; --overwrite replaces it" in err
    assert file.read_text(encoding="utf-8") == "mine"
    code, _, err = run(*FILES[name], file, "--overwrite")
    assert code == 0, err
    assert file.read_bytes() != b"mine"
    file.unlink()
    file.symlink_to(precious)
    code, _, err = run(*FILES[name], file, "--overwrite")
    assert code == 1
    assert "is a symbolic link" in err
    assert precious.read_text(encoding="utf-8") == "mine"


#: Commands that write a folder, with what it is, a file of its own and what another program writes.
FOLDERS = {
    "model": (["convert", MODEL, "--mean-std", SCALE], "config.json"),
    "run": ([*TRAIN, "-o"], "config.yaml"),
    "store": (["extract", "model", DATA, "--limit", "20"], "zarr.json"),
    "results": (
        ["evaluate", "model.onnx", DATA, "--limit", "20", "--output"],
        "evaluation.json",
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_another_program_is_never_replaced(
    name: str, run: Typed, tmp_path: Path
) -> None:
    words, own = FOLDERS[name]
    other = tmp_path / "other"
    other.mkdir()
    for file in (own, "model.safetensors", "thesis.txt"):
        (other / file).write_text("{}", encoding="utf-8")
    for option in ([], ["--overwrite"]):
        code, _, err = run(*words, other, *option)
        assert code == 1, option
        assert str(other) in err
    assert sorted(path.name for path in other.iterdir()) == sorted(
        [own, "model.safetensors", "thesis.txt"]
    )


@pytest.mark.parametrize("name", FOLDERS)
def test_a_file_of_somebody_else_survives_in_a_folder_of_torchlift(
    name: str, run: Typed, tmp_path: Path
) -> None:
    words, own = FOLDERS[name]
    notes = tmp_path / name / "notes.txt"
    notes.write_text("mine", encoding="utf-8")
    code, _, err = run(*words, tmp_path / name, "--overwrite")
    # A run has further files beside it; everything else is replaced as a whole.
    assert code == (0 if name == "run" else 1)
    assert name == "run" or "notes.txt" in err
    assert notes.read_text(encoding="utf-8") == "mine"
    notes.unlink()
    (tmp_path / name / ".DS_Store").write_text("clutter", encoding="utf-8")
    before = (tmp_path / name / own).stat().st_mtime_ns
    code, _, err = run(*words, tmp_path / name, "--overwrite")
    assert code == 0, err
    assert (tmp_path / name / own).stat().st_mtime_ns > before


@pytest.mark.parametrize("name", FOLDERS)
def test_a_link_to_a_folder_is_not_written_through(name: str, run: Typed, tmp_path: Path) -> None:
    words, _ = FOLDERS[name]
    link = tmp_path / "link"
    link.symlink_to(tmp_path / name)
    before = sorted(path.stat().st_mtime_ns for path in (tmp_path / name).rglob("*"))
    code, _, err = run(*words, link, "--overwrite")
    assert code == 1
    assert "link" in err
    assert before == sorted(path.stat().st_mtime_ns for path in (tmp_path / name).rglob("*"))


@pytest.mark.parametrize("part", ["checkpoints", "model", "metrics.csv"])
def test_a_run_is_not_written_through_a_link_in_it(part: str, run: Typed, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.move(tmp_path / "run" / part, photos)
    (tmp_path / "run" / part).symlink_to(photos)
    before = {path: path.stat().st_mtime_ns for path in (photos, *photos.rglob("*"))}
    code, _, err = run(*TRAIN, "-o", tmp_path / "run", "--epochs", "3", "--resume", "auto")
    assert code == 1
    assert f"{part} is a symbolic link" in err
    # What replaces the run takes the link's place.
    code, _, err = run(*TRAIN, "-o", tmp_path / "run", "--overwrite")
    assert code == 0, err
    assert not (tmp_path / "run" / part).is_symlink()
    assert before == {path: path.stat().st_mtime_ns for path in (photos, *photos.rglob("*"))}


def test_only_checkpoints_are_deleted(run: Typed, tmp_path: Path) -> None:
    """A file manager's file is no trouble, and folders with other content are left alone."""
    checkpoints = tmp_path / "run" / "checkpoints"
    (checkpoints / ".DS_Store").write_text("clutter", encoding="utf-8")
    (checkpoints / "epoch-0007").mkdir()
    (checkpoints / "epoch-0007" / "photo.jpg").write_text("mine", encoding="utf-8")
    (checkpoints / "epoch-0008").symlink_to(tmp_path / "store")
    code, _, err = run(*TRAIN, "-o", tmp_path / "run", "--epochs", "3", "--resume", "auto")
    assert code == 1
    assert "epoch-0008 is a symbolic link" in err
    (checkpoints / "epoch-0008").unlink()
    code, _, err = run(*TRAIN, "-o", tmp_path / "run", "--epochs", "3", "--resume", "auto")
    assert code == 0, err
    assert (checkpoints / "epoch-0007" / "photo.jpg").is_file()
    assert (checkpoints / "epoch-0003" / "state.pt").is_file()


def test_a_report_replaces_only_a_report(run: Typed, tmp_path: Path) -> None:
    words = ["check", "model", "model.onnx", "--report"]
    text, values = tmp_path / "model.check.txt", tmp_path / "model.check.json"
    assert run(*words)[0] == run(*words)[0] == 0
    assert json.loads(values.read_text(encoding="utf-8"))["passed"]
    for file, content in ((text, "shopping list"), (values, '{"passed": true}')):
        before = file.read_text(encoding="utf-8")
        file.write_text(content, encoding="utf-8")
        code, _, err = run(*words)
        assert code == 1
        assert f"{file.name} is not the report of a check" in err
        assert file.read_text(encoding="utf-8") == content
        file.write_text(before, encoding="utf-8")
    precious = tmp_path / "precious"
    precious.write_text("mine", encoding="utf-8")
    text.unlink()
    text.symlink_to(precious)
    assert run(*words)[0] == 1
    assert precious.read_text(encoding="utf-8") == "mine"


def test_a_sweep_or_a_demo_does_not_begin_in_another_folder(run: Typed, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "results.csv").write_text("mine", encoding="utf-8")
    words = ["sweep", "train", "softmax", DATA, "lr=0.1", "--output", tmp_path / "other"]
    code, _, err = run(*words)
    assert code == 1
    assert "holds something else than a sweep" in err
    code, _, err = run("demo", tmp_path / "other")
    assert code == 1
    assert "is not a demo" in err
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["results.csv"]


def test_the_features_of_one_file_are_collected_in_a_folder_of_torchlift(
    run: Typed, tmp_path: Path
) -> None:
    """Beside `x.npz` stands `.x.npz.zarr` while it is written, and is deleted afterwards."""
    collected = tmp_path / ".x.npz.zarr"
    shutil.copytree(tmp_path / "store", collected)
    np.savez(collected / "mine.npz", x=1)
    code, _, err = run("extract", "model", DATA, "x.npz", "--limit", "20")
    assert code == 1
    assert "it also contains mine.npz" in err
    assert (collected / "mine.npz").is_file()


@pytest.mark.parametrize(
    "words",
    [
        ["convert", MODEL, "."],
        [*TRAIN, "-o", "."],
        ["calibrate", MODEL, DATA, ".", "--mean-std", SCALE],
    ],
    ids=["convert", "train", "calibrate"],
)
def test_the_folder_that_a_person_stands_in_is_not_replaced(
    words: list[object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A shell in it would be in a folder that is gone; a training lost its files so."""
    here = tmp_path / "here"
    here.mkdir()
    before = here.stat().st_ino
    monkeypatch.chdir(here)
    status, _, err = typed({}, capsys, *map(str, words))
    assert (status, "is the folder that you are in" in err) == (1, True)
    assert here.stat().st_ino == before
    assert not [*here.iterdir()]
