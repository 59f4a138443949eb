"""The tables and lines that people see: each number stands in its column, under its name."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cli_support import shown
from rich.table import Table

from torchlift.cli import evaluate as evaluate_file
from torchlift.cli import split as split_file
from torchlift.cli.check import _layers as layers_checked
from torchlift.cli.data_options import DataOptions
from torchlift.cli.dataset import dataset_view
from torchlift.cli.inspect import _view
from torchlift.cli.model_options import ModelOptions
from torchlift.cli.page import page
from torchlift.cli.predict import _table
from torchlift.cli.result import table
from torchlift.cli.runs_view import text_table
from torchlift.cli.summary import _formulas, _layers, _totals
from torchlift.cli.terminal import console
from torchlift.converters import onnx
from torchlift.converters.modules.selfcheck import LayerCheck, SelfCheck
from torchlift.converters.t7.inspection import Bytes, Inspection, Layer, Node
from torchlift.transfer import evaluation
from torchlift.transfer.data import Dataset, Splits
from torchlift.transfer.data.description import DataDescription, Duplicates, ImageSizes
from torchlift.transfer.evaluation import Evaluation
from torchlift.transfer.runs_table import TextTable
from torchlift.transfer.summary.layers import LayerRow, Summary


def on_the_right(view: Any) -> list[list[Any]]:
    """The columns of each table of a view that are aligned to the right, as numbers are."""
    if isinstance(view, Table):
        return [[column.header for column in view.columns if column.justify == "right"]]
    return [found for part in getattr(view, "renderables", ()) for found in on_the_right(part)]


def test_what_a_t7_holds() -> None:
    first = Layer("net.modules[1]", None, "0", 1, "nn.Linear", "3→2", {}, 8, Bytes(weights=32))
    again = Layer("net.modules[2]", None, None, 1, "nn.Linear", "3→2", same_as="net.modules[1]")
    found = Inspection(
        "m.t7",
        1600,
        Node("value", "value", "table", "table of 1"),
        "binary, 8-byte longs, little endian",
        "net",
        [first, again],
        1008,
        Bytes(weights=1200, running_statistics=300, structure=100),
        notes=["a note"],
    )
    lines = [line for line in shown(_view(found)) if line]
    assert lines == [
        "m.t7: 1,600 bytes, binary, 8-byte longs, little endian",
        "value table of 1",
        "2 modules, 1,008 parameters, the model is net",
        "Lua path PyTorch class settings parameters bytes",
        "net.modules[1] 0 nn.Linear 3→2 8 32",
        "net.modules[2] nn.Linear the same as net.modules[1]",
        "bytes by field bytes fraction",
        "weights 1,200 75.0%",
        "running statistics 300 18.8%",
        "structure 100 6.2%",
        "all 1,600",
        "note: a note",
    ]
    assert on_the_right(_view(found))[-1] == ["bytes", "fraction"]
    # Of a file without a model there is neither table.
    empty = Inspection("m.t7", 9, found.tree, "ASCII", bytes=Bytes(other=9))
    assert [line for line in shown(_view(empty)) if line] == [
        "m.t7: 9 bytes, ASCII",
        "value table of 1",
    ]


@pytest.fixture
def summary() -> Summary:
    def row(*begin: Any, formula: str | None = None) -> LayerRow:
        path, lua, name, takes, gives, *numbers = begin
        return LayerRow(path, lua, name, "", None, takes, gives, *numbers, formula=formula)

    rows = [
        row("0", "get(1)", "Conv2d", (3, 8, 8), (4, 6, 6), 112, 448, 576, 3888, formula="8-3+1=6"),
        row("1", "get(2)", "ReLU", (4, 6, 6), (4, 6, 6), 0, 0, 576, 0),
        row("", "", "Net", (4, 6, 6), [(1000,), ()], 1000, 4000, 0, 50_000),
    ]
    return Summary((3, 8, 8), [(1000,), ()], rows, 2)  # type: ignore[arg-type]


def test_the_layers_of_a_network(summary: Summary) -> None:
    assert shown(_layers(summary, lua=True)) == [
        "layer Lua path class output shape parameters weights outputs multiply-adds",
        "input 3×8×8",
        "0 get(1) Conv2d 4×6×6 112 448 B 576 B 3,888",
        "1 get(2) ReLU 4×6×6 576 B",
        "(all of it) Net 1000, 1 1,000 4.0 kB 50,000",
        "all 1,112 4.4 kB 1.2 kB 53,888",
    ]
    numbers = ["parameters", "weights", "outputs", "multiply-adds"]
    assert on_the_right(_layers(summary, lua=True)) == [numbers]
    assert shown(_layers(summary, lua=False))[:3] == [
        "layer class output shape parameters weights outputs multiply-adds",
        "input 3×8×8",
        "0 Conv2d 4×6×6 112 448 B 576 B 3,888",
    ]
    assert _totals(summary) == (
        "2 layers with weights in a row, 1,112 parameters (4,448 bytes with running statistics), "
        "53,888 multiply-adds, 1,152 bytes of outputs"
    )
    assert shown(_formulas(summary)) == [
        "layer class input shape output shape how",
        "0 Conv2d 3×8×8 4×6×6 8-3+1=6",
    ]


def test_the_layers_that_were_compared_with_torch7() -> None:
    layers = [
        LayerCheck("net[1]", "nn.Linear", "equal", 2.5e-7),
        LayerCheck("net[2]", "nn.Tanh", "differs", 0.125),
        LayerCheck("net[3]", "nn.ReLU", "unchecked", None, "its input is not in the file"),
    ]
    assert on_the_right(layers_checked(SelfCheck(layers, 1e-4))) == [["error"]]
    assert shown(layers_checked(SelfCheck(layers, 1e-4)))[1:] == [
        "net[1] nn.Linear 2.5e-07 equal",
        "net[2] nn.Tanh 1.2e-01 DIFFERS",
        "net[3] nn.ReLU unchecked its input is not in the file",
    ]


def test_the_results_of_an_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    result = Evaluation(
        *(2000, 1500, 1750, 0.4321, 0.71, 0.72, 0.73, 0.0625),
        bins=[SimpleNamespace()] * 3,  # type: ignore[list-item]
        classes=[],
        confusion=[],
        mistakes=[],
        notes=["matched by name"],
    )
    predictor = SimpleNamespace(provider="here", note="no GPU")
    images = Dataset(np.zeros((1, 1, 1, 1), np.uint8), np.array([0]))
    asked: list[Any] = []

    def evaluate(*given: Any) -> Evaluation:
        asked.append(given)
        return result

    monkeypatch.setattr(evaluation, "evaluate", evaluate)
    monkeypatch.setattr(ModelOptions, "predictor", lambda *_: predictor)
    monkeypatch.setattr(DataOptions, "open", lambda *_: images)
    monkeypatch.setattr(Evaluation, "to_json", lambda self: {})
    options = DataOptions(match_classes="position")
    found = evaluate_file.evaluate("m.t7", "d", batch_size=7, data_options=options)
    assert asked == [(predictor, images, 7, "position")]
    numbers = ["accuracy", "precision", "F1", "correct", "images"]
    assert on_the_right(evaluate_file.class_table(result)) == [numbers]
    lines = shown(found.view)
    assert lines[:2] == [
        "accuracy 0.75 (1,500 of 2,000), top-5 0.875, loss 0.4321, on here",
        "mean of the classes: precision 0.71, recall 0.72, F1 0.73; "
        "calibration error 0.0625 (3 bins)",
    ]
    assert lines[-2:] == ["note: matched by name", "note: no GPU"]
    assert found.data["notes"] == ["matched by name", "no GPU"]
    assert (found.data["model"], found.data["data"]) == ("m.t7", "d")
    assert (found.data["provider"], found.data["files"]) == ("here", [])


def test_a_page_says_how_to_try_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / name for name in ("index.html", "m.onnx")]
    for file, size in zip(files, (1_000_000, 1_540_000), strict=True):
        file.write_bytes(bytes(size))
    monkeypatch.setattr(onnx, "write_page", lambda *given, **named: files)
    found = page("m.onnx", "site")
    assert shown(found.view) == [
        f"wrote {files[0]}: 2 files, 2.5 MB; try it with: python -m http.server -d site"
    ]
    assert found.data == {
        "model": "m.onnx",
        "files": list(map(str, files)),
        "bytes": 2_540_000,
    }


def test_the_classes_of_a_dataset_and_its_splits() -> None:
    nothing = Duplicates(1600, (), (), 0, ())
    sizes = ImageSizes((8, 9), (80, 90), 7, 1600)
    found = DataDescription(
        *(None, sizes, {"train": 1200, "test": 400}, ["cat", "dog"]),
        *({"train": [1100, 100], "test": [300, 100]}, 11.0, nothing, ("a note",)),
    )
    assert shown(dataset_view(found)) == [
        "1,600 images of 8×9 to 80×90, 7 sizes",
        "class images train test",
        "cat 1,400 1,100 300",
        "dog 200 100 100",
        "all 1,600 1,200 400",
        "imbalance: 11 images of the largest class for each of the smallest",
        "note: a note",
    ]
    assert on_the_right(dataset_view(found)) == [["images", "train", "test"]]
    plain = DataDescription((3, 8, 9), None, {"": 5}, None, {}, None, nothing, ())
    assert shown(dataset_view(plain)) == [
        "5 images 3×8×9",
        "no labels",
        "class images",
        "all 5",
    ]


def test_the_classes_of_each_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def part(*classes: int) -> Dataset:
        return Dataset(np.zeros((len(classes), 1, 2, 3), np.uint8), np.array(classes), ("a", "b"))

    splits = Splits(part(0, 0, 1, 1, 1), part(1, 1), part(0), notes=("a note",))
    monkeypatch.setattr(split_file, "open_splits", lambda *_: splits)
    target = str(tmp_path / "d.npz")
    found = split_file.split("d", target)
    assert shown(found.view) == [
        "class train val test",
        "a 2 0 1",
        "b 3 2 0",
        "all 5 2 1",
        "note: a note",
        f"wrote {target}",
    ]
    assert on_the_right(found.view) == [["train", "val", "test"]]
    assert found.data["image_shape"] == [1, 2, 3]
    assert found.data["splits"] == [
        {"split": name, "count": count} for name, count in (("train", 5), ("val", 2), ("test", 1))
    ]
    assert found.data["classes"] == [
        {"label": "a", "train": 2, "val": 0, "test": 1},
        {"label": "b", "train": 3, "val": 2, "test": 0},
    ]


def test_the_most_probable_classes_of_each_image() -> None:
    def one(label: str, probability: float | None) -> dict[str, Any]:
        return {"label": label, "index": 0, "probability": probability}

    results = [
        {"input": "a.png", "predictions": [one("cat", 0.75), one("dog", 0.25)]},
        {"input": "broken.png", "predictions": []},
        {"input": "b.png", "predictions": [one("dog", None)]},
    ]
    assert on_the_right(_table(results)) == [["probability"]]
    assert shown(_table(results)) == [
        "input label probability",
        "a.png cat 0.7500",
        "dog 0.2500",
        "b.png dog nan",
    ]


def test_a_table_of_runs_has_its_numbers_on_the_right() -> None:
    cells = TextTable(
        ["run", "loss", "note"], [["001", "0.5", "a"], ["002", "12.25", ""]], ["loss"]
    )
    assert on_the_right(text_table(cells)) == [["loss"]]
    assert shown(text_table(cells)) == ["run loss note", "001 0.5 a", "002 12.25"]


def test_what_is_too_long_for_a_page_goes_on_in_the_next_line() -> None:
    """Nothing of a name is left out."""
    view = table("name", "count", right=("count",))
    view.add_row("abcdefghijklmnopqrstuvwxyz", "7")
    page = console()
    page.width = 16
    with page.capture() as captured:
        page.print(view)
    text = "".join(captured.get().split())
    assert text.replace("7", "") == "namecountabcdefghijklmnopqrstuvwxyz"
