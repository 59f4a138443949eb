"""`convert --all`: every model of a file in a folder of its own, and nothing outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_support import (
    convolution,
    image_network,
    linear,
    lua,
    lua_list,
    module,
    sequential,
    write,
)
from cli_support import typed

from torchlift.cli.convert_all import convert_all, folder_names
from torchlift.cli.model_options import FILE_DEFAULTS, ModelOptions
from torchlift.converters import load_model, saved
from torchlift.converters.errors import TorchliftError
from torchlift.converters.t7 import LuaObject, LuaTable


def test_each_model_computes_what_its_path_computes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    networks = {"encoder": linear(4, 3), "decoder": lua(modules=lua_list(linear(3, 2)))}
    file = write(lua(models=LuaTable(networks), epoch=3), tmp_path)
    code, out, err = typed({}, capsys, "convert", str(file), f"{tmp_path}/all", "--all", "--json")
    assert code == 0, err
    paths = ["models.encoder", "models.decoder.modules[1]"]
    assert [one["lua_path"] for one in json.loads(out)["models"]] == paths
    assert sorted(folder.name for folder in (tmp_path / "all").iterdir()) == sorted(paths)
    for path, width in zip(paths, (4, 3), strict=True):
        inputs = torch.rand(2, width)
        expected = load_model(file, at=path)(inputs)
        assert torch.equal(saved.open_model(tmp_path / "all" / path).module(inputs), expected)


def test_what_cannot_be_converted_is_named_and_the_others_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = sequential(module("my.Layer", weight=linear(2, 2)["weight"]))
    file = write(lua(a=broken, b=image_network()), tmp_path)
    for words in ([], ["--overwrite"]):
        code, out, _ = typed({}, capsys, "convert", str(file), f"{tmp_path}/all", "--all", *words)
        assert code == 1
        assert out.splitlines()[-1].startswith("not converted: a: ")
        assert "no converter for my.Layer" in out.splitlines()[-1]
        assert [folder.name for folder in (tmp_path / "all").iterdir()] == ["b"]
    code, out, err = typed({}, capsys, "convert", str(file), f"{tmp_path}/all", "--all")
    assert (code, out) == (1, "")
    assert "all/b already exists; --overwrite replaces it" in err


def test_how_outputs_become_images_is_kept_with_each_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(lua(day=convolution(3, 3, 1), night=convolution(3, 3, 1)), tmp_path)
    words = ["--all", "--value-range", "1", "--output-range=-1,1", "--output-color", "BGR"]
    code, _, err = typed({}, capsys, "convert", str(file), f"{tmp_path}/all", *words)
    assert code == 0, err
    for name in ("day", "night"):
        kept = saved.load(tmp_path / "all" / name).image_to_image
        assert kept is not None
        assert (kept.value_range, kept.color) == ((-1, 1), "BGR")


def test_problems_are_said_in_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: str, options: Any) -> Any:
        raise TorchliftError(f"{file}: give value_range=1, not at={options.at}")

    file = write(lua(a=linear(2, 2)), tmp_path)
    monkeypatch.setattr("torchlift.cli.convert_all.open_compared", refuse)
    result = convert_all(str(file), tmp_path / "all", FILE_DEFAULTS)
    assert result.data["unconverted"] == [
        {"lua_path": "a", "problem": f"{file}: give --value-range 1, not --at a"}
    ]
    assert not result.passed


@pytest.mark.parametrize("target", ["there", "missing"])
def test_nothing_is_written_through_a_link(target: str, tmp_path: Path) -> None:
    file = write(lua(a=linear(2, 2)), tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "all").symlink_to(tmp_path / target)
    with pytest.raises(TorchliftError, match="is not a folder; choose another name"):
        convert_all(str(file), tmp_path / "all", FILE_DEFAULTS)
    with pytest.raises(TorchliftError, match="nowhere: no such folder"):
        convert_all(str(file), tmp_path / "nowhere" / "all", FILE_DEFAULTS)
    assert not [*(tmp_path / "there").iterdir()]


def test_nothing_is_converted_where_one_of_the_folders_is_somebody_elses(tmp_path: Path) -> None:
    file = write(lua(a=linear(2, 2), b=linear(2, 2)), tmp_path)
    (tmp_path / "all" / "b").mkdir(parents=True)
    (tmp_path / "all" / "b" / "photo.png").touch()
    for overwrite in (False, True):
        with pytest.raises(TorchliftError, match="b"):
            convert_all(str(file), tmp_path / "all", FILE_DEFAULTS, overwrite)
        assert [entry.name for entry in (tmp_path / "all").iterdir()] == ["b"]
        assert [entry.name for entry in (tmp_path / "all" / "b").iterdir()] == ["photo.png"]


def test_names_from_the_file_stay_inside_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["../../out", "..", "/etc/x", "a b", "a?b", "A b", "n.pth", "x" * 400]
    file = write(LuaTable({name: linear(2, 2) for name in names}), tmp_path)
    inner = tmp_path / "inner"
    inner.mkdir()
    code, _, err = typed({}, capsys, "convert", str(file), str(inner / "all"), "--all")
    assert code == 0, err
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["checkpoint.t7", "inner"]
    assert [entry.name for entry in inner.iterdir()] == ["all"]
    folders = [entry.name for entry in (inner / "all").iterdir()]
    assert len(folders) == len(names)
    assert {"[_a_b_]", "[_a_b_]-2", "[_A_b_]-3"} <= set(folders)


def test_two_paths_of_one_name() -> None:
    assert folder_names(["a b", "a?b", "a_b", ".", "..."]) == [
        "a_b",
        "a_b-2",
        "a_b-3",
        "_.",
        "_...",
    ]


def test_a_file_of_one_model_and_a_value_of_several(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = write(linear(2, 2), tmp_path, "one.t7")
    assert typed({}, capsys, "convert", str(one), f"{tmp_path}/one", "--all")[0] == 0
    assert [folder.name for folder in (tmp_path / "one").iterdir()] == ["model"]
    pair = LuaObject("my.Pair", lua(g=linear(2, 2), d=linear(2, 1)))
    several = write(lua(pair=pair, other=linear(3, 3)), tmp_path, "several.t7")
    words = ["convert", str(several), f"{tmp_path}/s", "--all", "--at", "pair"]
    assert typed({}, capsys, *words)[0] == 0
    assert sorted(folder.name for folder in (tmp_path / "s").iterdir()) == ["pair.d", "pair.g"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["x.t7", "y.onnx", "--all"], "--all writes folders"),
        (["torchvision:alexnet", "y", "--all"], "--all is for a .t7 file"),
        ([".", "y", "--all"], "--all is for a .t7 file"),
    ],
)
def test_words_that_do_not_go_together(
    words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = typed({}, capsys, "convert", *words)
    assert (code, out) == (2, "")
    assert problem in err


def test_classes_of_ones_own_are_converted_by_the_plugin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is run before the models of the file are looked for."""
    file = write(lua(a=linear(2, 2)), tmp_path)
    plugin = tmp_path / "plugin.py"
    plugin.write_text("raise RuntimeError('it ran')", encoding="utf-8")
    with pytest.raises(Exception, match="it ran"):
        convert_all(str(file), tmp_path / "all", ModelOptions(plugin=str(plugin)))
    assert not (tmp_path / "all").exists()
    code, out, err = typed({}, capsys, "convert", str(file), f"{tmp_path}/all", "--all")
    assert code == 0, err
    # The file is named on the command line, and each path once.
    assert str(file) not in out
    assert f"{tmp_path}/all/a/config.json" in out
