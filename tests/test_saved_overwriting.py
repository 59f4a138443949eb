"""No folder that is not a saved model is replaced, and none is left half-written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError
from saved_support import tiny
from support import FIXTURES

from torchlift.converters import saved
from torchlift.converters.errors import WriteError


def test_only_saved_models_are_replaced_and_only_with_overwrite(tmp_path: Path) -> None:
    saved.save(tiny(), tmp_path / "m")
    with pytest.raises(WriteError, match=r"m already exists; overwrite=True replaces it"):
        saved.save(tiny(), tmp_path / "m")
    saved.save(tiny(labels=["a", "b", "c"]), tmp_path / "m", overwrite=True)
    assert saved.load(tmp_path / "m").labels == ["a", "b", "c"]
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text.tex").write_text("ten years")
    with pytest.raises(WriteError, match="is not a saved model and is not replaced"):
        saved.save(tiny(), tmp_path / "thesis", overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="is not a saved model and is not replaced"):
        saved.save(tiny(), tmp_path / "file", overwrite=True)
    with pytest.raises(WriteError, match="no such folder"):
        saved.save(tiny(), tmp_path / "missing" / "m")
    (tmp_path / "link").symlink_to(tmp_path / "m")
    with pytest.raises(WriteError, match="link is a symbolic link and is not replaced"):
        saved.save(tiny(), tmp_path / "link", overwrite=True)
    (tmp_path / "empty").mkdir()
    saved.save(tiny(), tmp_path / "empty")
    assert saved.is_saved_model(tmp_path / "empty")


def test_a_folder_of_the_same_file_names_is_not_a_saved_model(tmp_path: Path) -> None:
    """Other programs also write `config.json` beside `model.safetensors`."""
    folder = tmp_path / "other"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_text("{}")
    assert not saved.is_saved_model(folder)
    with pytest.raises(WriteError, match="is not a saved model and is not replaced"):
        saved.save(tiny(), folder, overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_a_saved_model_with_other_files_beside_it_is_not_replaced(tmp_path: Path) -> None:
    folder = saved.save(tiny(), tmp_path / "m")
    (folder / "__pycache__").mkdir()  # as importing model.py leaves it
    saved.save(tiny(), folder, overwrite=True)
    (folder / "notes.txt").write_text("what I tried")
    with pytest.raises(WriteError, match=r"it also contains notes\.txt"):
        saved.save(tiny(), folder, overwrite=True)
    assert (folder / "notes.txt").read_text() == "what I tried"


def test_a_folder_of_0_1_0_opens_and_is_replaced(tmp_path: Path) -> None:
    """It has a `ruff.toml`, which is no longer written."""
    shutil.copytree(FIXTURES / "0.1.0" / "model", tmp_path / "m")
    assert (tmp_path / "m" / "ruff.toml").is_file()
    model = saved.load(tmp_path / "m")
    saved.save(model, tmp_path / "m", overwrite=True)
    names = sorted(path.name for path in (tmp_path / "m").iterdir())
    assert names == ["README.md", "config.json", "model.py", "model.safetensors"]
    assert saved.load(tmp_path / "m").labels == model.labels


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        SafetensorError("No space left on device (os error 28)"),
    ],
)
def test_a_failed_save_keeps_the_old_model(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved.save(tiny(notes=["old"]), tmp_path / "m")

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr("torchlift.converters.saved.tensor_files.save_file", fail)
    with pytest.raises(WriteError, match="No space left"):
        saved.save(tiny(notes=["new"]), tmp_path / "m", overwrite=True)
    assert saved.load(tmp_path / "m").notes == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
