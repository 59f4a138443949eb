"""What `convert` keeps of a model, and where it writes without being told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from torchlift.cli.convert import convert, write_model
from torchlift.cli.describe import model_metadata
from torchlift.cli.model_options import FILE_DEFAULTS, OutputOptions
from torchlift.converters import t7
from torchlift.converters.errors import TorchliftError
from torchlift.converters.images import Preprocessing
from torchlift.converters.saved import SavedModel, load, save


def test_frozen_parameters_are_counted_like_all_others() -> None:
    model = SavedModel(nn.Linear(3, 2), "logits")
    model.module.weight.requires_grad = False
    assert model_metadata(model)["parameters"] == 8


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A linear layer in double precision; the current folder is its own."""
    monkeypatch.chdir(tmp_path)
    fields = t7.LuaTable({"weight": np.full((2, 3), 0.1), "bias": np.zeros(2)})
    t7.save(t7.LuaTable({"net": t7.LuaObject("nn.Linear", fields)}), tmp_path / "my.net.t7")
    return tmp_path / "my.net.t7"


def test_a_t7_has_the_numbers_of_the_one_before_and_the_network_only(file: Path) -> None:
    Path("names.txt").write_text("a\nb\n", encoding="utf-8")
    options = replace(FILE_DEFAULTS, labels="names.txt")
    result = convert(str(file), "out.t7", model_options=options)
    written = t7.load("out.t7")
    assert written["weight"].dtype == np.float64
    assert (written["weight"] == 0.1).all()
    assert (
        "the .t7 holds the network only, without labels and preprocessing" in result.data["notes"]
    )
    notes = convert(str(file), "none.t7").data["notes"]
    assert not [note for note in notes if "network only" in note]


@pytest.mark.parametrize("details", [{"labels": ["a"]}, {"preprocessing": Preprocessing()}, {}])
def test_what_a_t7_does_not_hold_is_noted(details: dict[str, Any], tmp_path: Path) -> None:
    model = SavedModel(nn.Sequential(nn.Conv2d(3, 1, 1)).eval(), "features", **details)
    found = write_model("m", model, tmp_path / "m.t7", ".t7", overwrite=False)
    assert found["files"] == [str(tmp_path / "m.t7")]
    assert found["bytes"] == (tmp_path / "m.t7").stat().st_size
    assert [note for note in found["notes"] if "the network only" in note] == found["notes"]
    assert len(found["notes"]) == len(details)


def test_the_files_of_a_saved_model_are_listed_with_their_bytes(tmp_path: Path) -> None:
    model = SavedModel(nn.Sequential(nn.Conv2d(3, 1, 1)).eval(), "features")
    found = write_model("m", model, tmp_path / "out", "", overwrite=False)
    names = ("README.md", "config.json", "model.py", "model.safetensors")
    assert found["files"] == [str(tmp_path / "out" / name) for name in names]
    assert found["bytes"] == sum((tmp_path / "out" / name).stat().st_size for name in names)
    assert (found["model"], found["parameters"]) == ("m", 4)


def test_folders_have_the_name_of_the_file(file: Path) -> None:
    convert(str(file))
    assert Path("my.net", "config.json").is_file()
    (file.parent / "all").mkdir()
    assert convert(str(file), "all/every", all=True).data["models"][0]["lua_path"] == "net"
    moved = file.rename(file.with_name("other.t7"))
    convert(str(moved), all=True)
    assert Path("other", "net", "config.json").is_file()


def test_a_folder_that_is_named_as_on_the_hub_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(SavedModel(nn.Conv2d(5, 3, 1).eval(), "features"), tmp_path / "net")
    with pytest.raises(TorchliftError, match=r"^net already"):
        convert("hf:net")
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def test_how_outputs_become_images_is_kept(tmp_path: Path) -> None:
    generator = save(SavedModel(nn.Conv2d(5, 3, 1).eval(), "features"), tmp_path / "generator")
    convert(str(generator), str(tmp_path / "new"), output_options=OutputOptions([-1.0, 1.0]))
    kept = load(tmp_path / "new").image_to_image
    assert kept is not None
    assert kept.value_range == (-1.0, 1.0)


def test_a_parameter_that_is_no_number_is_noted(file: Path) -> None:
    fields = t7.LuaTable({"weight": np.array([[0.0, np.nan]]), "bias": np.zeros(1)})
    t7.save(t7.LuaObject("nn.Linear", fields), "nan.t7")
    notes = convert("nan.t7").data["notes"]
    assert any("not all parameters are numbers: weight" in note for note in notes)


@pytest.mark.parametrize("suffix", [".t7", ".pt2", ".onnx"])
def test_a_folder_in_place_of_a_file_is_said_before_the_model_is_opened(
    suffix: str, tmp_path: Path
) -> None:
    target = tmp_path / f"out{suffix}"
    target.mkdir()
    with pytest.raises(TorchliftError, match="is a folder; a file name was expected"):
        convert(str(tmp_path / "none.t7"), str(target), overwrite=True)
