"""One digits network gives the accuracy that Lua printed, through every command that computes one.

The folders stand in another order than the network's outputs (the alphabet's), in other letters,
and files number their classes in yet another order: only the names say which class is which.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import FIXTURES

from torchlift.cli.evaluate import class_table
from torchlift.cli.main import main
from torchlift.converters import t7
from torchlift.transfer.data import Dataset, open_data
from torchlift.transfer.evaluation import outcomes, summarize

DIGITS = FIXTURES / "digits"
NAMES: list[str] = t7.load(DIGITS / "digits_classes.t7").to_list()
#: What Lua printed for this network on the 500 test digits.
ACCURACY = 0.982

#: Test digits under class names in an order of their own; and without names.
NAMED = ("folder", "named.npz")
NAMELESS = (str(DIGITS / "digits-test.t7"),)
#: The same, for commands that take longer.
FAST_AND_SLOW = [pytest.param("folder", marks=pytest.mark.slow), "named.npz", *NAMELESS]


def digits(part: str) -> Dataset:
    data = open_data(DIGITS / f"digits-{part}.t7")
    assert isinstance(data, Dataset)
    return data


def write_folder(data: Dataset, folder: Path, names: list[str]) -> None:
    assert data.classes is not None
    for index, label in enumerate(data.classes.tolist()):
        file = folder / names[label] / f"{index:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.images[index][0]).save(file)


def write_npz(data: Dataset, file: Path, order: list[int]) -> None:
    """Write images whose class i of the network is number `order[i]`."""
    names = [NAMES[order.index(position)] for position in range(len(order))]
    labels = np.array(order)[data.classes]
    np.savez(file, images=data.images, labels=labels, classes=names)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model `dm`, `dm.onnx`, and datasets that number classes in other orders."""
    place = tmp_path_factory.mktemp("digits")
    order = np.random.default_rng(0).permutation(10).tolist()
    write_folder(digits("test"), place / "folder", [name.title() for name in NAMES])
    write_npz(digits("test"), place / "named.npz", order)
    write_npz(digits("train"), place / "train.npz", order[::-1])
    model = [f"--labels={DIGITS}/digits_classes.t7", f"--mean-std={DIGITS}/digits_meanStd.t7"]
    assert main(["convert", str(DIGITS / "digits-lenet5-bn.t7"), str(place / "dm"), *model]) == 0
    assert main(["export", str(place / "dm"), str(place / "dm.onnx")]) == 0
    return place


@pytest.fixture(autouse=True)
def inside(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)


def run(capsys: pytest.CaptureFixture[str], line: str) -> Any:
    capsys.readouterr()
    code = main([*line.split(), "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    return json.loads(out)


def error(capsys: pytest.CaptureFixture[str], line: str) -> str:
    capsys.readouterr()
    assert main(line.split()) == 1
    return capsys.readouterr().err


@pytest.mark.parametrize("data", [*NAMED, *NAMELESS])
@pytest.mark.parametrize("model", ["dm", "dm.onnx"])
def test_evaluate_and_confusion(
    model: str, data: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = run(capsys, f"evaluate {model} {data}")
    assert found["accuracy"] == ACCURACY
    way = "by position, because the data does not" if data in NAMELESS else "by name"
    assert any(way in note for note in found["notes"])
    drawn = run(capsys, f"plot confusion {model} --data {data} -o {tmp_path}/c.png")
    assert drawn["accuracy"] == ACCURACY
    assert drawn["labels"] == NAMES


@pytest.mark.parametrize("data", FAST_AND_SLOW)
def test_check_matches_the_classes_by_name(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(capsys, f"check dm dm.onnx --data {data}")
    line = next(each["text"] for each in found["findings"] if each["name"] == "accuracy")
    assert line.startswith("0.9820 of the model, 0.9820 of the file")
    assert any("matched" in note for note in found["notes"])


@pytest.mark.parametrize("data", FAST_AND_SLOW)
def test_quantize_matches_the_classes_by_name(
    data: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = run(capsys, f"quantize dm.onnx {tmp_path}/q.onnx --data {data}")
    assert found["float_accuracy"] == ACCURACY
    assert found["accuracy"] > ACCURACY - 0.01
    assert any("matched" in note for note in found["notes"])


@pytest.mark.parametrize("test", [*NAMED, *NAMELESS])
@pytest.mark.parametrize("train", ["train.npz", str(DIGITS / "digits-train.t7")])
def test_a_kept_head(
    train: str, test: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = "--head keep --epochs 0 --tracker none"
    line = f"finetune dm {train} --test-data {test} {options} -o {tmp_path}/run"
    if train.endswith(".t7"):
        line += f" --class-names {DIGITS}/digits_classes.t7"
    found = run(capsys, line)
    assert found["evaluation"]["accuracy"] == ACCURACY
    # The outputs of the saved model still belong to its labels.
    assert run(capsys, f"evaluate {tmp_path}/run/model named.npz")["accuracy"] == ACCURACY
    image = sorted(Path("folder/Eight").iterdir())[0]
    predicted = run(capsys, f"predict {tmp_path}/run/model {image} --top 1")
    assert predicted["results"][0]["predictions"][0]["label"] == "eight"


def test_a_kept_head_on_some_of_the_classes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = "--head keep --epochs 0 --tracker none"
    line = f"finetune dm train.npz --test-data folder {options} -o {tmp_path}/run"
    found = run(capsys, f"{line} --classes nine,two")
    right = run(capsys, "evaluate dm named.npz --classes nine,two")["accuracy"]
    assert found["evaluation"]["accuracy"] == right > 0.97
    assert "8 of 10 classes have no training images" in " ".join(found["notes"])


@pytest.mark.parametrize("test", ["folder", "named.npz", str(DIGITS / "digits-test.t7")])
def test_probe_matches_the_classes_by_name(
    test: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, data in (("train", "train.npz"), ("test", test)):
        assert main(["extract", "dm", data, f"{tmp_path}/{name}"]) == 0
    line = f"probe {tmp_path}/train --test {tmp_path}/test --methods knn"
    found = run(capsys, line)
    if test in NAMED:
        assert found["results"][0]["test_accuracy"] > 0.97
        assert any("by name" in note for note in found["notes"])
    else:
        assert found["results"][0]["test_accuracy"] < 0.3
        assert any("because the test set does not name" in note for note in found["notes"])


def test_a_split_file_keeps_the_names_of_the_classes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run(capsys, f"split train.npz {tmp_path}/all.npz --test-data named.npz")
    assert run(capsys, f"evaluate dm {tmp_path}/all.npz --split test")["accuracy"] == ACCURACY
    run(capsys, f"split {DIGITS}/digits-train.t7 {tmp_path}/b.npz --test-data {NAMELESS[0]}")
    assert run(capsys, f"evaluate dm {tmp_path}/b.npz --split test")["accuracy"] == ACCURACY


def test_class_names_order_classes_that_have_names(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    listed = f"--class-names {DIGITS}/digits_classes.t7"
    assert run(capsys, f"evaluate dm folder {listed}")["accuracy"] == ACCURACY
    found = run(capsys, f"finetune dm folder {listed} --epochs 0 --tracker none -o {tmp_path}/run")
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text(encoding="utf-8"))
    assert config["labels"] == [name.title() for name in NAMES]
    assert found["notes"]
    for name, names, problem in (
        ("twelve", [*NAMES, "ten", "eleven"], "names ten, eleven, which the data does not have"),
        ("nine", NAMES[:-1], "it lacks Nine"),
        ("twice", [*NAMES, "one"], "11 names for 10 classes"),
    ):
        Path(f"{name}.txt").write_text("\n".join(names), encoding="utf-8")
        assert problem in error(capsys, f"finetune dm folder --class-names {name}.txt")
    # Data without names may have fewer classes than the list: that is said.
    found = run(capsys, f"evaluate dm {NAMELESS[0]} --class-names twelve.txt --classes one,two")
    assert "2 of 12 class names have no images: ten, eleven" in found["notes"]


@pytest.mark.parametrize(
    "line",
    [
        "evaluate dm {d}",
        "evaluate dm.onnx {d}",
        "plot confusion dm --data {d} -o c.png",
        "plot samples {d} --model dm -o s.png",
        "check dm dm.onnx --data {d}",
        "quantize dm.onnx q.onnx --data {d}",
        "finetune dm {d} --head keep -o run-other",
        "finetune dm train.npz --test-data {d} -o run-other",
        "train softmax train.npz --test-data {d} -o run-other",
        "split train.npz other-split.npz --test-data {d}",
    ],
)
def test_other_names_are_an_error_before_anything_is_computed(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers, lacking = Path("numbers.npz"), Path("lacking.npz")
    np.savez(numbers, images=digits("test").images[:50], labels=digits("test").classes[:50],
             classes=[f"n{index}" for index in range(10)])  # fmt: skip
    np.savez(lacking, images=digits("test").images[:50], labels=digits("test").classes[:50],
             classes=[*NAMES[:-1], "zzz"])  # fmt: skip
    message = error(capsys, line.format(d=numbers))
    assert "no name in common" in message
    assert "--match-classes position" in message
    assert "--class-names" in message
    message = error(capsys, line.format(d=lacking))
    assert "has no class zzz" in message
    assert not Path("run-other").exists()
    if line.startswith("evaluate"):
        found = run(capsys, line.format(d=lacking) + " --match-classes position")
        assert found["accuracy"] > 0.9
        assert any("as was asked for: zero with zero" in note for note in found["notes"])


def test_names_for_training_data_and_a_named_test_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The list names the data without names; the folder keeps its own, in any order."""
    line = f"finetune dm {DIGITS}/digits-train.t7 --class-names {DIGITS}/digits_classes.t7"
    line += f" --test-data folder --head probe --epochs 0 --tracker none -o {tmp_path}/run"
    found = run(capsys, line)
    assert found["evaluation"]["accuracy"] > 0.97
    assert "the test data's classes were matched with the training data's by name" in found["notes"]


def test_an_option_that_has_no_effect_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", "dm", "folder", "store", "--match-classes", "position"]) == 2
    assert "option of probe" in capsys.readouterr().err


def test_a_long_table_leaves_out_classes_without_images() -> None:
    scores = np.zeros((3, 1000), np.float32)
    scores[[0, 1, 2], [0, 1, 700]] = 1
    result = summarize(
        outcomes(scores, "logits", np.array([0, 1, 1])), [f"c{index}" for index in range(1000)]
    )
    table = class_table(result)
    assert table.row_count == 2
    assert table.caption == "998 classes without images, predicted 1 times"
