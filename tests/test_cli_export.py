"""The command `export`: names of files, what excludes what, and that each option is passed on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import FIXTURES

from torchlift.cli.errors import UsageError
from torchlift.cli.export import _name_of, export
from torchlift.cli.model_options import ModelOptions, OutputOptions
from torchlift.cli.values import ColumnRange
from torchlift.converters import onnx
from torchlift.converters.errors import WriteError

#: Every option of the graph, with another value than its usual one.
OPTIONS: dict[str, Any] = {
    "bake_resize": True,
    "fp16": True,
    "any_size": True,
    "outputs": ["a", "2"],
    "columns": ColumnRange(2, 5),
}
PASSED = {**OPTIONS, "bake_preprocessing": False, "columns": (2, 5)}


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """What the library was asked to export; a file of a few bytes is written."""
    asked: list[Any] = []

    def write(model: Any, target: Path, **options: Any) -> Any:
        asked.append((Path(target), options))
        Path(target).write_bytes(b"12345")
        return SimpleNamespace(files=[Path(target)])

    opened = SimpleNamespace(notes=["a note"])
    monkeypatch.setattr(ModelOptions, "model", lambda *_: opened)
    monkeypatch.setattr(onnx, "export", write)
    monkeypatch.setattr(onnx, "describe_file", lambda file: {"described": Path(file).name})
    monkeypatch.chdir(tmp_path)
    return asked


def test_a_file_gets_every_option(exported: list[Any]) -> None:
    result = export("nets/m.t7", **OPTIONS)
    assert exported == [(Path("m.onnx"), {**PASSED, "overwrite": False})]
    assert result.data == {
        "model": "nets/m.t7",
        "files": ["m.onnx"],
        "described": "m.onnx",
        "bytes": 5,
        "notes": ["a note"],
    }
    with pytest.raises(WriteError, match=r"m\.onnx already exists"):
        export("nets/m.t7")
    export("nets/m.t7", "x.onnx", bake_preprocessing=True)
    export("nets/m.t7", "m.onnx", overwrite=True)
    assert [(target.name, given["overwrite"]) for target, given in exported[1:]] == [
        ("x.onnx", False),
        ("m.onnx", True),
    ]
    assert exported[1][1]["bake_preprocessing"] is True


def test_a_version_gets_every_option_and_the_first_one_lists_the_configuration(
    exported: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from contextlib import contextmanager

    @contextmanager
    def version(folder: Path) -> Any:
        folder.mkdir(parents=True)
        yield folder / "model.onnx"
        # The weights of a large model stand beside it.
        (folder / "model.onnx.data").write_bytes(b"890")
        (folder.parent / "config.pbtxt").write_bytes(b"67")

    monkeypatch.setattr(onnx, "triton_version", version)
    places = iter([tmp_path / "r/m/1", tmp_path / "r/other/2"])
    named: list[Any] = []

    def next_version(repository: str, name: str) -> Path:
        named.append((repository, name))
        return next(places)

    monkeypatch.setattr(onnx, "next_version", next_version)
    result = export("nets/m.t7", triton="r", **OPTIONS)
    assert exported == [(tmp_path / "r/m/1/model.onnx", PASSED)]
    names = ("1/model.onnx", "1/model.onnx.data", "config.pbtxt")
    files = [str(tmp_path / "r/m" / name) for name in names]
    assert (result.data["files"], result.data["bytes"]) == (files, 10)
    # What was changed by hand there is not written again.
    result = export("nets/m.t7", triton="r", name="other")
    assert result.data["files"] == [
        str(tmp_path / "r/other" / f"2/{name[2:]}") for name in names[:2]
    ]
    assert named == [("r", "m"), ("r", "other")]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"bake_preprocessing": True, "bake_resize": True}, "leave out --bake-preprocessing"),
        ({"name": " ", "triton": "r"}, "--name: a name was expected"),
        ({"name": "m"}, "--triton names the repository"),
        ({"triton": "r", "output": "m.onnx"}, "leave out OUTPUT"),
        ({"triton": "r", "overwrite": True}, "leave out --overwrite"),
        ({"output": "m.t7"}, r"\.onnx is written, not \.t7"),
        ({"output": "m"}, r"\.onnx is written, not a folder"),
    ],
)
def test_what_does_not_go_together_is_refused_before_the_model_is_opened(
    options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        export("none.t7", **options)


def test_the_name_is_that_of_the_file_folder_repository_or_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model-1.5").mkdir()
    (tmp_path / "a:b.t7").touch()
    for model, name in (
        (str(FIXTURES / "digits" / "digits-lenet5.t7"), "digits-lenet5"),
        ("a:b.t7", "a:b"),
        ("model-1.5", "model-1.5"),
        ("model-1.5/", "model-1.5"),
        (".", tmp_path.name),
        ("hf:org/net", "net"),
        ("hf:model-1.5", "model-1.5"),
        ("torchvision:alexnet", "alexnet"),
        ("timm:resnet18", "resnet18"),
        ("python:nets.small:make", "make"),
    ):
        assert _name_of(model) == name


def test_how_outputs_become_images_is_set_on_the_model_before_it_is_written(
    exported: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = OutputOptions(output_range=[-1.0, 1.0])
    seen: list[Any] = []
    monkeypatch.setattr(
        OutputOptions, "set_on", lambda *given: seen.append((*given, len(exported)))
    )
    export("nets/m.t7", output_options=said)
    ((options, model, name, written),) = seen
    assert (options, model.notes, name, written) == (said, ["a note"], "nets/m.t7", 0)
