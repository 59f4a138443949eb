"""The commands `annotate` and `page`: what they refuse, pass on and say."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from torchlift.cli.annotate import annotate
from torchlift.cli.errors import UsageError
from torchlift.cli.onnx_options import OnnxOptions
from torchlift.cli.page import page
from torchlift.converters import onnx


@pytest.mark.parametrize(
    ("model", "output", "options", "problem"),
    [
        ("m.t7", "o.onnx", OnnxOptions(labels="l"), r"m\.t7: an \.onnx file is annotated"),
        ("m.onnx", "o.t7", OnnxOptions(labels="l"), r"\.onnx is written, not \.t7"),
        ("m.onnx", "o", OnnxOptions(labels="l"), r"\.onnx is written, not a folder"),
        ("m.onnx", "o.onnx", OnnxOptions(), "nothing to say of the file"),
    ],
)
def test_what_cannot_be_annotated_is_said_at_once(
    model: str, output: str, options: OnnxOptions, problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        annotate(model, output=output, onnx_options=options)


@pytest.mark.parametrize("overwrite", [True, False])
def test_what_is_said_replaces_what_the_file_says(
    overwrite: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / "o.onnx", tmp_path / "o.onnx.data"]
    asked: list[Any] = []

    def write(*given: Any, **named: Any) -> Any:
        asked.append((given, named["overwrite"], named["said"]))
        for size, file in enumerate(files, 3):
            file.write_bytes(bytes(size))
        return SimpleNamespace(files=files, notes=["a note"])

    monkeypatch.setattr(onnx, "annotate", write)
    monkeypatch.setattr(onnx, "describe_file", lambda file: {"described": Path(file).name})
    options = OnnxOptions(output_kind="logits", mean=[0.5])
    result = annotate("M.ONNX", output=str(files[0]), onnx_options=options, overwrite=overwrite)
    ((given, replaced, said),) = asked
    assert (given, replaced) == (("M.ONNX", str(files[0])), overwrite)
    assert (said.replaces, said.output_kind) == (True, "logits")
    assert result.data == {
        "model": "M.ONNX",
        "files": [str(file) for file in files],
        "described": "o.onnx",
        "bytes": 7,
        "notes": ["a note"],
    }


def test_a_page_is_a_folder_of_an_onnx_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words, problem in (
        (("m.t7", "p"), r"a page needs an \.onnx file"),
        (("m.onnx", "p.html"), r"a folder is written, not \.html"),
    ):
        with pytest.raises(UsageError, match=problem):
            page(*words)
    files = [tmp_path / "index.html", tmp_path / "model.onnx"]
    files[0].write_bytes(bytes(400_000))
    files[1].write_bytes(bytes(1_100_000))
    asked: list[Any] = []

    def write(*given: Any, **named: Any) -> list[Path]:
        asked.append((given, named))
        return files

    monkeypatch.setattr(onnx, "write_page", write)
    result = page("m.onnx", "p", onnxruntime_web="web", overwrite=True)
    assert asked == [(("m.onnx", "p"), {"onnxruntime_web": "web", "overwrite": True})]
    assert result.data == {
        "model": "m.onnx",
        "files": [str(file) for file in files],
        "bytes": 1_500_000,
    }
    assert str(result.view).startswith(f"wrote {files[0]}: 2 files, 1.5 MB; ")
    assert str(result.view).endswith("python -m http.server -d p")
