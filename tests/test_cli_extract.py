"""The command `extract` before and after the work: what is kept, refused and said."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli_support import shown

from torchlift.cli import extract as file
from torchlift.cli.data_options import DataOptions
from torchlift.cli.errors import UsageError
from torchlift.cli.extract import _announcement, _source, extract
from torchlift.cli.model_options import FILE_DEFAULTS, ModelOptions
from torchlift.converters.errors import TorchliftError
from torchlift.transfer.features import extractors
from torchlift.transfer.features.model_source import ModelSource
from torchlift.transfer.features.settings import AS_THEY_ARE


@pytest.mark.parametrize(
    ("exists", "overwrite", "kept"),
    [
        # A run that was stopped goes on.
        (False, False, True),
        (False, True, True),
        # It was whole when it was killed: only its folder had not been removed.
        (True, False, False),
        # What will be replaced stays until there is something to replace it.
        (True, True, True),
    ],
)
def test_a_folder_beside_the_file_is_kept_as_long_as_it_is_needed(
    exists: bool, overwrite: bool, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise TorchliftError("no such data")

    monkeypatch.setattr(DataOptions, "open", refuse)
    monkeypatch.setattr(file, "check_replaceable", lambda *_: None)
    target, folder = tmp_path / "x.npz", tmp_path / ".x.npz.zarr"
    folder.mkdir()
    (folder / "part").touch()
    if exists:
        target.write_bytes(b"features")
    problem = "already exists" if exists and not overwrite else "no such data"
    with pytest.raises(TorchliftError, match=problem):
        extract("m.t7", "d.t7", str(target), overwrite=overwrite)
    assert folder.exists() == kept
    assert target.exists() == exists


def test_classes_are_matched_by_the_probe() -> None:
    with pytest.raises(UsageError, match="--match-classes is an option of probe"):
        extract("m.t7", "d.t7", "out", data_options=DataOptions(match_classes="position"))


@pytest.mark.parametrize(
    ("backend", "options"),
    [("torch", FILE_DEFAULTS), (None, ModelOptions(at="x")), (None, ModelOptions(labels="l.txt"))],
)
def test_a_graph_runs_in_its_runtime_and_is_opened_as_it_is(
    backend: str | None, options: ModelOptions
) -> None:
    images: Any = None
    with pytest.raises(TorchliftError, match=r"m\.ONNX: an \.onnx file runs in onnxruntime"):
        _source("m.ONNX", images, ["x"], backend, "cpu", options)


def test_a_graph_must_say_of_its_inputs_what_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(ModelOptions, "require_of_onnx", lambda *given: asked.append(given))
    monkeypatch.setattr(extractors, "open_extractor", lambda *given: given)
    options = ModelOptions(mean=[0.5], std=[0.25], color="RGB", value_range=[1])
    images: Any = None
    found = _source("m.onnx", images, ["x", "y"], "onnxruntime", "cuda:1", options)
    assert found == (("m.onnx", ["x", "y"], "cuda:1"), [])
    assert asked == [(options, "m.onnx")]


def test_sizes_are_announced() -> None:
    settings = SimpleNamespace(dtype="float16")
    plan: Any = SimpleNamespace(
        shapes={"1.8": (64, 3, 5), "out": (10,)}, settings=settings, bytes=1_234_560_000
    )
    said = "out.zarr: 1.8 64×3×5, out 10 float16, 1,234.6 MB"
    assert _announcement(plan, Path("out.zarr")) == said


def test_the_result_says_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from torchlift.transfer.features import extraction, files

    images: Any = [None] * 1200
    data = SimpleNamespace(notes=("of the data",), __len__=lambda self: 1200)
    monkeypatch.setattr(DataOptions, "open", lambda *_: type("D", (list,), vars(data))(images))
    monkeypatch.setattr(file, "_source", lambda *_: ("source", ["of the model"]))
    plan = SimpleNamespace(
        shapes={"x": (2, 3)},
        settings=SimpleNamespace(dtype="float32"),
        bytes=24,
        # What was chosen for the file, not what was asked for.
        manifest={"backend": "onnxruntime"},
    )
    monkeypatch.setattr(extraction, "plan_extraction", lambda *given: plan)
    work: list[Any] = []

    def run(plan: Any, folder: Path, **given: Any) -> str:
        folder.mkdir()
        work.append((folder.name, given["workers"], given["overwrite"]))
        return "store"

    monkeypatch.setattr(extraction, "extract", run)
    written: list[Any] = []
    monkeypatch.setattr(files, "write_features", lambda *given: written.append(given))
    target = tmp_path / "x.npz"
    result = extract("m.t7", "d.t7", str(target), workers=3)
    assert work == [(".x.npz.zarr", 3, False)]
    assert written == [("store", target, "npz")]
    assert list(tmp_path.iterdir()) == []
    seconds = result.data.pop("seconds")
    assert result.data == {
        "model": "m.t7",
        "data": "d.t7",
        "files": [str(target)],
        "format": "npz",
        "features": [{"layer": "x", "shape": [2, 3]}],
        "bytes": 24,
        "backend": "onnxruntime",
        "notes": ["of the data", "of the model"],
    }
    first, *notes = shown(result.view)
    assert first == f"{target}: 1,200 examples in {seconds:.1f} s on onnxruntime"
    assert notes == ["note: of the data", "note: of the model"]
    assert capsys.readouterr().err == f"{target}: x 2×3 float32, 0.0 MB\n"
    # A folder is what is written.
    extract("m.t7", "d.t7", str(tmp_path / "y"), workers=3, overwrite=True)
    assert work[1:] == [("y", 3, True)]
    assert len(written) == 1
    assert (tmp_path / "y").is_dir()


@pytest.mark.parametrize(("layers", "names"), [(None, ["penultimate"]), (["a", "b"], ["a", "b"])])
def test_features_are_those_of_the_layers_and_say_where_their_model_is(
    layers: list[str] | None, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`probe --save` opens it again."""
    asked: list[Any] = []

    def stop(*given: Any) -> None:
        asked.append(given)
        raise KeyboardInterrupt

    def source(*given: Any) -> Any:
        asked.append(given)
        return "source", []

    monkeypatch.setattr(DataOptions, "open", lambda *_: "images")
    monkeypatch.setattr(file, "_source", source)
    monkeypatch.setattr("torchlift.transfer.features.extraction.plan_extraction", stop)
    monkeypatch.setattr(ModelSource, "of", lambda *given: given)
    options = ModelOptions(weights="w.pth", at="a.b")
    with pytest.raises(KeyboardInterrupt):
        extract("m.t7", "d.t7", "x", layers=layers, model_options=options, provider="cpu")
    (opened, (_, images, settings, place)) = asked
    assert opened == ("m.t7", "images", names, None, "cpu", options)
    assert (images, place) == ("images", ("m.t7", "w.pth", "a.b"))
    assert settings == AS_THEY_ARE


@pytest.mark.parametrize(("backend", "runs_in"), [(None, "torch"), ("onnxruntime", "onnxruntime")])
def test_a_network_runs_in_what_was_asked_for(
    backend: str | None, runs_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = SimpleNamespace(preprocessing="steps", notes=["a note"])
    monkeypatch.setattr(ModelOptions, "model", lambda *_: opened)
    monkeypatch.setattr(
        "torchlift.transfer.features.extraction.example_of", lambda *given: ("example", *given)
    )
    monkeypatch.setattr(extractors, "build_extractor", lambda *given: given)
    images: Any = "images"
    found, notes = _source("m.t7", images, ["x"], backend, "cuda:1", FILE_DEFAULTS)
    assert found == (opened, ["x"], ("example", "images", "steps"), runs_in, "cuda:1")
    assert notes == ["a note"]


def test_a_folder_of_something_else_beside_the_file_is_kept(tmp_path: Path) -> None:
    """Features are collected in a hidden folder, which may be somebody's."""
    beside = tmp_path / ".x.npz.zarr"
    beside.mkdir()
    (beside / "mine.txt").touch()
    with pytest.raises(TorchliftError, match=r"x\.npz\.zarr"):
        extract("m.t7", "d.t7", str(tmp_path / "x.npz"), overwrite=True)
    assert (beside / "mine.txt").exists()
