"""`inspect` of a dataset: the classes and counts, beside those counted in another way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cli_support import shown, typed
from PIL import Image
from support import FIXTURES

from torchlift.cli.dataset import dataset_view, describe_dataset, findings, is_dataset
from torchlift.cli.errors import UsageError
from torchlift.cli.inspect import _described, _shortened, _tree, inspect
from torchlift.cli.main import main
from torchlift.converters import t7
from torchlift.converters.errors import TorchliftError
from torchlift.converters.t7.inspection import Node
from torchlift.transfer.data.description import DataDescription, Duplicates, ImageSizes
from torchlift.transfer.data.readers.image_folder import KIND

TEST = FIXTURES / "digits" / "digits-test.t7"
COUNTS = {"train": {"cat": 3, "dog": 2}, "test": {"cat": 1, "dog": 2}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images with splits, and the same as a .npz."""
    path = tmp_path_factory.mktemp("data")
    arrays: dict[str, Any] = {"classes": ["cat", "dog"]}
    for split, counts in COUNTS.items():
        for name, count in counts.items():
            (path / "images" / split / name).mkdir(parents=True)
            for index in range(count):
                Image.new("RGB", (6, 5), index).save(
                    path / "images" / split / name / f"{index}.png"
                )
        total = sum(counts.values())
        arrays[f"x_{split}"] = np.zeros((total, 3, 5, 6), np.uint8)
        arrays[f"y_{split}"] = np.repeat([0, 1], list(counts.values()))
    np.savez(path / "same.npz", **arrays)
    return path


def inspected(source: object, capsys: pytest.CaptureFixture[str]) -> Any:
    assert main(["inspect", str(source), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", ["images", "same.npz"])
def test_classes_are_counted_in_each_split(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = inspected(folder / name, capsys)
    assert (found["file_kind"], found["count"]) == ("dataset", 8)
    assert found["image_shape"] == (None if name == "images" else [3, 5, 6])
    assert found["splits"] == [{"split": "train", "count": 5}, {"split": "test", "count": 3}]
    assert found["classes"] == [
        {"label": "cat", "count": 4, "train": 3, "test": 1},
        {"label": "dog", "count": 4, "train": 2, "test": 2},
    ]
    assert main(["inspect", str(folder / name)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["cat", "4", "3", "1"] in lines
    assert ["all", "8", "5", "3"] in lines


def test_a_t7_shows_its_dataset_below_its_values(capsys: pytest.CaptureFixture[str]) -> None:
    found = inspected(TEST, capsys)
    labels = np.asarray(t7.load(TEST)["label"])
    assert found["file_kind"] == "t7"
    assert found["dataset"]["classes"] == [
        {"label": str(label), "count": int((labels == label).sum())} for label in range(1, 11)
    ]
    # A file of a model, or of other values, holds none.
    for name in ("digits-lenet5.t7", "digits_classes.t7"):
        assert inspected(TEST.with_name(name), capsys)["dataset"] is None


def test_a_folder_of_neither_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    assert main(["inspect", str(tmp_path)]) == 1
    assert "not a saved model" in capsys.readouterr().err
    # A damaged model is no folder of images, even if there is one in it.
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    Image.new("RGB", (6, 5)).save(tmp_path / "a.png")
    assert main(["inspect", str(tmp_path)]) == 1
    assert "config.json" in capsys.readouterr().err


def test_a_value_of_a_file_is_shown_without_the_dataset_that_is_in_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, _ = typed({}, capsys, "inspect", str(TEST), "--at", "label", "--json")
    assert (code, json.loads(out)["dataset"]) == (0, None)


def test_what_is_left_out_of_a_tree_is_counted_below_what_is_shown() -> None:
    """A value whose entries are too deep says so in its own line."""
    leaf = Node("a", "a", "number", "1")
    deep = Node("b", "b", "table", "table of 9", hidden=9)
    root = Node("value", "value", "table", "table of 3000", None, [leaf, deep], hidden=2998)
    same = Node("c", "c", "tensor", "tensor", same_as="a.b")
    assert shown(_tree(root)) == [
        "value table of 3000",
        "├── a 1",
        "├── b table of 9",
        "└── … 2,998 more",
    ]
    assert shown(_tree(same)) == ["c tensor (the same as a.b)"]


@pytest.mark.parametrize("other", ["net.dat", "NET.T7"])
@pytest.mark.parametrize("name", ["digits-lenet5.t7", "digits-test.t7"])
def test_a_torch7_file_under_another_name_is_shown_as_one(
    name: str, other: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may hold a model, or a dataset beside other values."""
    copied = tmp_path / other
    copied.write_bytes(TEST.with_name(name).read_bytes())
    found = inspected(copied, capsys)
    original = inspected(TEST.with_name(name), capsys)
    assert found["file_kind"] == "t7"
    assert found["parameters"] == original["parameters"]
    assert (found["dataset"] is None) == (original["dataset"] is None)


def test_a_long_path_is_shown_without_its_middle() -> None:
    assert _shortened("a" * 160) == "a" * 160
    assert _shortened("a" * 80 + "b" * 81) == "a" * 80 + "…" + "b" * 80


@pytest.mark.parametrize("name", ["m.onnx", "m.PT2", "w.safetensors", "folder"])
def test_a_path_in_a_file_is_for_a_t7(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=f"{name}: --at is for a .t7 file"):
        inspect(str(tmp_path / name), at="model")


def test_a_saved_model_stays_one_whatever_lies_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as features that somebody has stored in its folder."""
    shutil.copytree(FIXTURES / "0.1.0" / "model", tmp_path / "model")
    (tmp_path / "model" / "zarr.json").write_text("{}", encoding="utf-8")
    assert inspected(tmp_path / "model", capsys)["file_kind"] == "saved_model"


@pytest.mark.parametrize(
    ("error", "is_one"), [(None, True), (TorchliftError("no"), False), (ImportError("no"), False)]
)
def test_what_cannot_be_read_is_no_dataset(
    error: Exception | None, is_one: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader may need a package that is not installed."""

    def find(source: str) -> Any:
        if error is not None:
            raise error
        return SimpleNamespace(kind="a .npz")

    monkeypatch.setattr("torchlift.transfer.data.readers.find_reader", find)
    assert is_dataset("d.npz") is is_one


@pytest.mark.parametrize("kind", [KIND, "a .npz"])
def test_of_a_folder_no_image_is_decoded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = SimpleNamespace(kind=kind)
    monkeypatch.setattr("torchlift.transfer.data.readers.find_reader", lambda source: reader)
    for name in ("open_data", "stream_folder"):
        monkeypatch.setattr(f"torchlift.transfer.data.{name}", lambda source, name=name: name)
    monkeypatch.setattr("torchlift.transfer.data.description.describe_data", lambda data: data)
    found: Any = describe_dataset("d")
    assert found == ("stream_folder" if kind == KIND else "open_data")


@pytest.mark.parametrize(
    ("imbalance", "said"), [(None, []), (1.99, []), (2.0, ["2 images"]), (2.5, ["2.5 images"])]
)
def test_classes_of_very_different_sizes_are_said(imbalance: float | None, said: list[str]) -> None:
    nothing = Duplicates(9, (), (("train", "val", 2),), 0, (("a", "b"),))
    found = DataDescription(None, None, {"": 9}, None, {}, imbalance, nothing, ())
    *imbalanced, duplicates = findings(found)
    assert imbalanced == [
        f"imbalance: {text} of the largest class for each of the smallest" for text in said
    ]
    assert duplicates == "duplicates: 2 of val are in train too (a = b)"


@pytest.mark.parametrize(
    ("largest", "examined", "text"),
    [
        ((8, 9), 9, " of 8×9"),
        ((8, 9), 5, " of 8×9 (looked at 5)"),
        ((80, 90), 9, " of 8×9 to 80×90, 7 sizes"),
        ((80, 90), 5, " of 8×9 to 80×90, 7 sizes (looked at 5)"),
    ],
)
def test_sizes_of_images_are_one_or_a_range(
    largest: tuple[int, int], examined: int, text: str
) -> None:
    sizes = ImageSizes((8, 9), largest, 7, examined)
    nothing = Duplicates(9, (), (), 0, ())
    found = DataDescription(None, sizes, {"": 9}, None, {}, None, nothing, ())
    assert shown(dataset_view(found))[0] == f"9 images{text}"


@pytest.mark.parametrize(
    ("known", "damage"), [(["a note"], ""), (["a note"], "w is nan"), ([], "x")]
)
def test_what_is_damaged_is_noted_beside_the_other_notes(known: list[str], damage: str) -> None:
    found = _described("m.onnx", "onnx", {"notes": known}, damage).data
    more = [f"not all weights are numbers: {damage}"] if damage else []
    assert found == {"file": "m.onnx", "file_kind": "onnx", "notes": [*known, *more]}
