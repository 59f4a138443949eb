"""Which images `evaluate` takes, and the rows of its table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import nn

from torchlift.cli.data_options import ALL_DATA
from torchlift.cli.errors import UsageError
from torchlift.cli.evaluate import _write, class_table, evaluate, evaluate_text
from torchlift.cli.model_options import FILE_DEFAULTS, ScoreOptions
from torchlift.converters.errors import TorchliftError, WriteError
from torchlift.converters.images import Preprocessing
from torchlift.converters.saved import SavedModel, save
from torchlift.transfer.data import Dataset
from torchlift.transfer.evaluation.results import ClassResult


@pytest.fixture
def images(tmp_path: Path) -> str:
    """Black images, of class `a`: three to train on and one to test on, with one of class `b`."""
    for name in ("train/a/1", "train/a/2", "train/a/3", "train/b/1", "test/a/4", "test/b/2"):
        file = tmp_path / "images" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (1, 2)).save(file)
    return str(tmp_path / "images")


def test_the_test_split_is_used_unless_another_is_named(images: str, tmp_path: Path) -> None:
    """Of two equal scores the first counts: every image is taken for an `a`."""
    network = SavedModel(nn.Flatten(), "logits", labels=["a", "b"])
    network.preprocessing = Preprocessing("gray")
    model = str(save(network, tmp_path / "model"))
    found = evaluate(model, images, provider="cpu").data
    assert (found["count"], found["correct"]) == (2, 1)
    options = replace(ALL_DATA, split="train")
    found = evaluate(model, images, provider="cpu", data_options=options).data
    assert (found["count"], found["correct"]) == (4, 3)


def row(label: str, count: int, correct: int, predicted: int) -> ClassResult:
    return ClassResult(label, count, correct, predicted, accuracy=0.25, precision=0.5, f1=0.75)


def cells(*rows: ClassResult) -> list[tuple[str, ...]]:
    result: Any = SimpleNamespace(classes=rows, count=sum(each.count for each in rows))
    table = class_table(result)
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    return [*zip(*columns, strict=True), (str(table.caption),)]


def test_a_number_without_images_to_count_is_a_dash() -> None:
    """Recall is of the images of a class, precision of those that are taken for it, F1 of both."""
    assert cells(
        row("all", 4, 1, 2), row("only predicted", 0, 0, 3), row("never predicted", 2, 0, 0)
    ) == [
        ("all", "0.250", "0.500", "0.750", "1", "4"),
        ("only predicted", "–", "0.500", "0.750", "0", "0"),
        ("never predicted", "0.250", "–", "0.750", "0", "2"),
        ("None",),
    ]
    assert cells(row("none", 0, 0, 0))[0] == ("none", "–", "–", "–", "0", "0")


def test_a_long_table_says_how_often_what_it_leaves_out_was_predicted() -> None:
    empty = [row(str(index), 0, 0, index % 2) for index in range(100)]
    assert cells(*empty[1:], row("a", 70, 5, 20))[-2:] == [
        ("a", "0.250", "0.500", "0.750", "5", "70"),
        ("None",),
    ]
    assert cells(*empty, row("a", 70, 5, 20)) == [
        ("a", "0.250", "0.500", "0.750", "5", "70"),
        ("100 classes without images, predicted 50 times",),
    ]


def test_a_text_is_read_by_a_model_of_the_plugin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The plugin is run before the model is opened, which may have classes of it."""
    steps: list[Any] = []

    def opened(*args: Any, **options: Any) -> Any:
        steps.append(options)
        vocabulary = SimpleNamespace(tokens=["a", "b"], encoding="utf-8", is_words=False)
        halves = np.log([0.5, 0.5])
        return SimpleNamespace(
            vocabulary=vocabulary,
            provider="here",
            start=lambda: None,
            read=lambda tokens, states: (np.tile(halves, (len(tokens), 1)), states),
        )

    monkeypatch.setattr("torchlift.cli.evaluate.run_plugin", steps.append)
    monkeypatch.setattr("torchlift.converters.inference.text.open_language_model", opened)
    (tmp_path / "text.txt").write_bytes(b"abba")
    options = replace(FILE_DEFAULTS, plugin="p.py", at="net")
    found = evaluate_text("m.t7", str(tmp_path / "text.txt"), "cpu", "v.t7", options).data
    assert steps == ["p.py", {"vocab": "v.t7", "at": "net"}]
    assert (found["tokens"], found["perplexity"]) == (4, pytest.approx(2.0))


def test_what_is_noted_of_the_data_is_a_part_of_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = SavedModel(nn.Flatten(), "logits", labels=["a", "b"])
    network.preprocessing = Preprocessing("gray")
    model = str(save(network, tmp_path / "model"))
    pixels = np.zeros((2, 1, 1, 2), np.uint8)
    data = Dataset(pixels, np.array([0, 1]), ("a", "b"), notes=("of the data",))
    monkeypatch.setattr("torchlift.cli.data_options.DataOptions.open", lambda *_: data)
    assert evaluate(model, "d", provider="cpu").data["notes"][0] == "of the data"


@pytest.mark.parametrize(
    ("data", "options", "problem"),
    [
        ("d.npz", {"vocab": "v.t7"}, r"--vocab is for a text in \.txt, not for d\.npz"),
        ("t.TXT", {"output": "results"}, "results of a text are printed: leave out --output"),
        ("t.txt", {"score_options": ScoreOptions("logits")}, "leave out --output-kind and"),
        ("t.txt", {"score_options": ScoreOptions(None, "y")}, "leave out --output-kind and"),
        ("t.txt", {"precision": "bf16"}, "--precision is for --provider openvino"),
        ("d.npz", {"precision": "bf16"}, "--precision is for --provider openvino"),
    ],
)
def test_images_and_texts_have_options_of_their_own(
    data: str, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        evaluate("m.t7", data, **options)


def test_results_of_something_else_are_kept_before_a_model_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("the model is opened")

    monkeypatch.setattr("torchlift.cli.model_options.ModelOptions.predictor", fail)
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").touch()
    with pytest.raises(TorchliftError, match="photos"):
        evaluate("m.t7", "d", output=str(folder), overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(TorchliftError, match="file"):
        evaluate("m.t7", "d", output=str(tmp_path / "file"))


def test_a_folder_of_results_is_whole_or_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full leaves no half of it."""

    def half(result: Any, folder: Path) -> list[Path]:
        folder.mkdir()
        (folder / "evaluation.json").write_text("half", encoding="utf-8")
        raise OSError(28, "full")

    monkeypatch.setattr("torchlift.transfer.evaluation.write_evaluation", half)
    nothing: Any = None
    with pytest.raises(WriteError, match="full"):
        _write(nothing, nothing, tmp_path / "results")
    assert not [*tmp_path.iterdir()]
