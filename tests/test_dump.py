"""`dump`: what it writes is what the file holds, read again by numpy, safetensors, json, Pillow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_support import typed
from data_support import in_memory
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file
from support import FIXTURES

from torchlift.cli.main import main
from torchlift.converters import t7
from torchlift.converters.images.errors import ImageError
from torchlift.converters.t7 import LuaObject, LuaTable
from torchlift.transfer.data import Dataset, ImageFiles, open_data, stream_folder
from torchlift.transfer.data.image_folder_index import read_index
from torchlift.transfer.data.write_image_folder import write_image_folder
from torchlift.transfer.errors import DataError

DIGITS = FIXTURES / "digits"
WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)


def run_json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def table(**entries: object) -> LuaTable:
    return LuaTable(entries)


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A checkpoint with a value of every kind."""
    path = tmp_path / "checkpoint.t7"
    layer = LuaObject("nn.Linear", table(weight=WEIGHT, bias=np.array([np.nan, np.inf])))
    value = table(
        model=LuaObject("nn.Sequential", table(modules=LuaTable.from_list([layer]))),
        epoch=3,
        loss=float("-inf"),
        done=True,
        name="nët",
        raw=b"\xff\x00",
        classes=LuaTable.from_list(["cat", "dog"]),
        mean=LuaTable.from_list([0.5, 2, float("nan")]),
        mixed=LuaTable.from_list([1, "two"]),
        again=layer,
        opt=t7.dumps(table(lr=0.1)),
    )
    value["a b"] = np.array([1, 2])
    t7.save(value, path)
    return str(path)


EXPECTED = {
    "epoch": 3,
    "done": True,
    "mixed[1]": 1,
    "opt.lr": 0.1,
    "loss": -np.inf,
    "mean": [0.5, 2, np.nan],
    "raw": [255, 0],
    "model.modules[1].weight": WEIGHT,
    "model.modules[1].bias": [np.nan, np.inf],
    '["a b"]': [1, 2],
}


def test_an_npz_holds_every_value_under_its_path(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run_json(capsys, "dump", file, str(tmp_path / "out.npz"))
    with np.load(tmp_path / "out.npz", allow_pickle=False) as archive:
        found = dict(archive)
    for path, value in EXPECTED.items():
        np.testing.assert_array_equal(found[path], np.asarray(value))
    assert found["model.modules[1].weight"].dtype == np.float32
    assert found["classes"].tolist() == ["cat", "dog"]
    assert found["name"].item() == "nët"
    assert found.keys() == {*EXPECTED, "classes", "name", "mixed[2]"}
    assert result["count"] == len(found)
    assert result["notes"] == ["written under one path only: 1 (again is model.modules[1])"]


def test_safetensors_hold_tensors_and_texts_under_their_paths(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_json(capsys, "dump", file, str(tmp_path / "out.safetensors"))
    with safe_open(tmp_path / "out.safetensors", "np") as tensors:
        assert {*tensors.keys()} == {*EXPECTED}
        for path, value in EXPECTED.items():
            np.testing.assert_array_equal(tensors.get_tensor(path), np.asarray(value))
        assert tensors.metadata() == {
            "classes": '["cat", "dog"]', "name": "nët", "mixed[2]": "two"
        }  # fmt: skip


@pytest.mark.parametrize("kind", ["npz", "safetensors", "json"])
def test_an_empty_list_is_a_value_of_no_numbers(kind: str, tmp_path: Path) -> None:
    file, target = tmp_path / "lists.t7", tmp_path / f"out.{kind}"
    t7.save({"none": [], "x": [1, 2]}, file)
    assert main(["dump", str(file), str(target)]) == 0
    if kind == "json":
        assert json.loads(target.read_text(encoding="utf-8")) == {"none": [], "x": [1, 2]}
        return
    if kind == "npz":
        with np.load(target) as archive:
            values = dict(archive)
    else:
        values = load_file(target)
    assert {name: value.tolist() for name, value in values.items()} == {"none": [], "x": [1, 2]}


@pytest.mark.parametrize("names", [["cat"], ["cat", "dog"]])
def test_a_list_of_names_is_one_text_of_safetensors(names: list[str], tmp_path: Path) -> None:
    file = tmp_path / "names.t7"
    t7.save({"names": names, "x": np.ones(2)}, file)
    assert main(["dump", str(file), str(tmp_path / "out.safetensors")]) == 0
    with safe_open(tmp_path / "out.safetensors", "np") as tensors:
        assert json.loads(tensors.metadata()["names"]) == names
        assert list(tensors.keys()) == ["x"]


def test_json_agrees_with_cat(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_json(capsys, "dump", file, str(tmp_path / "out.json"))
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert found["loss"] == "-inf"
    assert found["mean"] == [0.5, 2, "nan"]
    assert found["model.modules[1].bias"] == ["nan", "inf"]
    for path in {*found} - {"raw", "opt.lr"}:
        assert run_json(capsys, "cat", file, path)["value"] == found[path]


def test_the_value_itself_and_several_objects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.t7").write_bytes(t7.dumps(WEIGHT))
    (tmp_path / "two.t7").write_bytes(t7.dumps(table(w=WEIGHT)) + t7.dumps("end"))
    for name, paths in (("one", {"value"}), ("two", {"[1].w", "[2]"})):
        target = tmp_path / f"{name}.npz"
        found = run_json(capsys, "dump", str(tmp_path / f"{name}.t7"), str(target))
        assert {*np.load(target)} == paths
        assert (found["count"], found["notes"]) == (len(paths), [])
        assert run_json(capsys, "cat", str(tmp_path / f"{name}.t7"), sorted(paths)[0])


def test_tables_that_hold_themselves_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = table(epoch=1)
    value["self"] = value
    t7.save(value, tmp_path / "cycle.t7")
    result = run_json(capsys, "dump", str(tmp_path / "cycle.t7"), str(tmp_path / "cycle.json"))
    assert json.loads((tmp_path / "cycle.json").read_text()) == {"epoch": 1}
    assert "self is value" in result["notes"][0]


def test_a_tensor_expanded_from_few_numbers_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    t7.save(table(x=np.broadcast_to(np.zeros(1), (2**20, 2**20))), tmp_path / "bomb.t7")
    for name in ("x.npz", "x.safetensors", "x.json"):
        code, _, err = typed({}, capsys, "dump", str(tmp_path / "bomb.t7"), str(tmp_path / name))
        assert code == 1
        assert "bomb.t7" in err
        assert not (tmp_path / name).exists()


def test_what_cannot_be_dumped_is_said(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, code, problem in (
        ([file, str(tmp_path / "out.pt")], 2, "is written"),
        ([file, str(tmp_path / "out.npz"), "--limit", "3"], 2, "--limit selects images"),
        ([file, str(tmp_path / "images")], 1, "no images under a usual name"),
        ([file, file], 2, "is written"),
    ):
        found, _, err = typed({}, capsys, "dump", *words)
        assert (found, problem in err) == (code, True), err
    assert not (tmp_path / "images").exists()


def test_a_folder_of_images_has_the_same_pixels_classes_and_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = in_memory(DIGITS / "digits-test.t7")
    assert main(["dump", str(DIGITS / "digits-test.t7"), f"{tmp_path}/images"]) == 0
    assert np.array_equal(
        np.asarray(Image.open(tmp_path / "images" / f"{data.classes[4] + 1:02}" / "005.png")),
        data.images[4, 0],
    )
    again = in_memory(tmp_path / "images")
    assert np.array_equal(again.images, data.images)
    assert np.array_equal(again.classes, data.classes)
    assert again.names is data.names is None
    assert again.notes == ()


@pytest.mark.parametrize("files", [False, True])
def test_names_splits_and_classes_without_images_are_kept(files: bool, tmp_path: Path) -> None:
    """Names in no alphabetical order, two that no folder can have, some alike, two not used."""
    names = ("zebra", "a/b", "..", "Cat", "cat", "unused", "Zebra")
    classes = np.array([4, 0, 3, 1, 2, 0, 1])
    splits = np.array(["test", "train", "train", "val", "train", "test", "train"])
    pixels = np.random.default_rng(0).integers(0, 256, (7, 3, 5, 4), np.uint8)
    data: Dataset | ImageFiles = Dataset(pixels, classes, names, splits=splits)
    folder = write_image_folder(data, tmp_path / "images")
    if files:
        folder = write_image_folder(stream_folder(folder), tmp_path / "again")
    again = in_memory(folder)
    assert np.array_equal(again.images, pixels)
    assert np.array_equal(again.classes, classes)
    assert np.array_equal(again.splits, splits)
    assert again.names == names
    assert in_memory(folder, split="val").names == names
    # On macOS and Windows folders that differ in case alone are one.
    listed = read_index(folder)
    assert listed is not None
    assert len({name.casefold() for name in listed.classes}) == len(names)


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    for images in (np.zeros((2, 3, 4, 4), np.float32), np.zeros((2, 2, 4, 4), np.uint8)):
        with pytest.raises(DataError, match="are no PNG files"):
            write_image_folder(Dataset(images, np.array([0, 1])), tmp_path / "images")
        assert not (tmp_path / "images").exists()


def test_a_file_of_that_name_of_other_origin_changes_nothing(tmp_path: Path) -> None:
    folder = write_image_folder(
        Dataset(np.zeros((2, 1, 4, 4), np.uint8), np.array([1, 0]), ("owl", "cat")),
        tmp_path / "images",
    )
    assert in_memory(folder).names == ("owl", "cat")
    for text in ("{}", "[]", "\x00", '{"format": "coco"}'):
        (folder / "dataset.json").write_text(text)
        data = open_data(folder)
        assert data.names == ("cat", "owl")
        assert "files of other kinds: 1 (dataset.json)" in data.notes[0]
    index = {"format": "torchlift image folder", "version": 1}
    classes = [{"folder": "owl", "label": "owl"}, {"folder": "cat", "label": None}]
    for damaged in (
        {"classes": 3},
        {"classes": [{"folder": "owl"}]},
        {"classes": [{"folder": 5, "label": "owl"}]},
        {"classes": [{"folder": "owl", "label": 5}]},
        {"classes": classes, "version": 2},
    ):
        (folder / "dataset.json").write_text(json.dumps(index | damaged))
        with pytest.raises(ImageError, match="not an index that this version reads"):
            open_data(folder)
    (folder / "dataset.json").write_text(json.dumps(index | {"classes": classes}))
    assert in_memory(folder).names is None


def test_what_was_odd_about_a_file_and_what_is_not_kept_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cut.t7").write_bytes(t7.dumps(table(x=1)) + b"\x00\x01")
    found = run_json(capsys, "dump", str(tmp_path / "cut.t7"), str(tmp_path / "x.json"))
    assert any("cut.t7" in note for note in found["notes"])
    pixels = np.zeros((2, 1, 4, 4), np.uint8)
    without = Dataset(pixels, notes=("a note",), splits=np.array(["train", "test"]))
    monkeypatch.setattr("torchlift.cli.data_options.DataOptions.open", lambda *given: without)
    found = run_json(capsys, "dump", "data", str(tmp_path / "images"))
    assert found["notes"] == ["a note", "the splits are not kept: the images have no classes"]
    for kept in (
        Dataset(pixels, notes=("a note",)),
        Dataset(pixels, np.array([0, 1]), notes=("a note",), splits=np.array(["train", "test"])),
    ):
        monkeypatch.setattr(
            "torchlift.cli.data_options.DataOptions.open", lambda *given, kept=kept: kept
        )
        found = run_json(capsys, "dump", "data", str(tmp_path / "images"), "--overwrite")
        assert (found["notes"], found["count"]) == (["a note"], 2)
    floats = Dataset(pixels.astype(np.float32), np.array([0, 1]))
    monkeypatch.setattr("torchlift.cli.data_options.DataOptions.open", lambda *given: floats)
    assert main(["dump", "data", str(tmp_path / "floats")]) == 1
    assert "torchlift: data: " in capsys.readouterr().err


@pytest.mark.slow
def test_a_folder_trains_to_the_same_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(DIGITS / "digits-train.t7")
    assert main(["dump", data, f"{tmp_path}/images"]) == 0
    losses = []
    for source in (data, f"{tmp_path}/images"):
        run = tmp_path / f"run{len(losses)}"
        words = ["train", "softmax", source, "--epochs=2", "--limit=200", "-o", str(run)]
        capsys.readouterr()
        losses.append(run_json(capsys, *words)["history"])
        for epoch in losses[-1]:
            epoch.pop("seconds", None)
    assert losses[0] == losses[1]
