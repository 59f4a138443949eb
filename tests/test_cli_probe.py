"""The command `probe`: what it refuses before the first fit, its table and its file."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cli_support import shown

from torchlift.cli import probe as file
from torchlift.cli.errors import UsageError
from torchlift.cli.probe import _check_words, _comparison, _Layer, _layers, _networks, _spreads
from torchlift.converters.errors import TorchliftError
from torchlift.transfer import probe as probe_module
from torchlift.transfer.data import Dataset
from torchlift.transfer.errors import DataError
from torchlift.transfer.features import files, store


def result(layer: str, val: float, test: float, runs: int = 1) -> Any:
    def spread(value: float) -> Any:
        return SimpleNamespace(average=value, deviation=value / 4, text=lambda: f"{value:g}")

    values = {"val_accuracy": val, "test_accuracy": test, "test_loss": 3.5}
    return SimpleNamespace(
        layer=layer,
        method="knn",
        setting="k=3",
        dimensions=4096,
        val_accuracy=val,
        test_accuracies=[test] * runs,
        metrics={name: spread(value) for name, value in values.items()}
        | {name: spread(0.5) for name in ("test_f1", "test_ece")},
    )


def test_the_best_by_validation_stands_first_whatever_the_test_says() -> None:
    results = [result("low", 0.5, 0.9), result("high", 0.75, 0.1), result("same", 0.75, 0.2)]
    lines = shown(_comparison(results))
    assert lines == [
        "features dimensions method setting validation test",
        "high 4,096 knn k=3 0.75 0.1",
        "same 4,096 knn k=3 0.75 0.2",
        "low 4,096 knn k=3 0.5 0.9",
    ]
    (_, row) = shown(_comparison([result("one", 0.5, 0.25, runs=3)]))
    assert row == "one 4,096 knn k=3 0.5 0.25 3.5 0.5 0.5"


def test_a_column_has_the_mean_or_the_deviation_of_its_metric() -> None:
    found = _spreads(result("one", 0.5, 0.25))
    assert (found["val_accuracy_mean"], found["val_accuracy_deviation"]) == (0.5, 0.125)
    assert (found["test_loss_mean"], found["test_loss_deviation"]) == (3.5, 0.875)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"model": "m"}, "--model is for --save"),
        ({"plugin": "p.py"}, "--plugin is for --save"),
        ({"save": "m.onnx"}, "a folder is written, not .onnx"),
        ({"save": "m", "methods": ["knn", "network"]}, "--methods must hold logistic"),
        ({"save": "m", "model": "n", "features": ["a", "b"]}, "--model names one model"),
    ],
)
def test_words_that_do_not_fit_are_refused(given: dict[str, Any], problem: str) -> None:
    words = {"features": ["a"], "methods": None, "save": None, "model": None, "plugin": None}
    with pytest.raises(UsageError, match=problem):
        _check_words(**{**words, **given})
    _check_words(**{**words, "save": "m", "model": "n", "methods": ["logistic"]})


def layer(place: str, name: str) -> _Layer:
    data = Dataset(np.zeros((1, 2)), np.array([0]))
    return _Layer(f"{place}:{name}", place, name, data, None)


def test_each_of_the_features_must_say_what_computed_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = [layer("a", "0"), layer("b.npz", "0"), layer("a", "1")]
    monkeypatch.setattr(store, "is_feature_store", lambda place: not place.endswith(".npz"))
    for order in (layers, layers[::-1]):
        with pytest.raises(TorchliftError, match=r"^b\.npz does not say what"):
            _networks(order, str(tmp_path / "m"), None, None, overwrite=False)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "photo.png").touch()
    with pytest.raises(TorchliftError, match="is not a saved model and is not replaced"):
        _networks([layer("a", "0")], str(tmp_path / "m"), None, None, overwrite=True)


def test_each_layer_is_opened_once_and_named_by_its_folder_where_there_are_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def dataset(size: int) -> Dataset:
        return Dataset(np.zeros((2, size)), np.array([0, 1]))

    known = {
        "x/a": {"0": dataset(3), "1": dataset(4)},
        "x/b": {"0": dataset(5)},
        "y/a": {"0": dataset(3)},
        "t/a": {"0": dataset(3), "1": dataset(9)},
    }
    monkeypatch.setattr(files, "read_features", known.__getitem__)
    assert [one.label for one in _layers(["x/a"], None, None)] == ["0", "1"]
    assert [one.label for one in _layers(["x/a", "x/b"], None, ["0"])] == ["a:0", "b:0"]
    # By its label a network is found again, which is saved with the best regression.
    same_name = [one.label for one in _layers(["x/a", "x/b", "y/a"], None, ["0"])]
    assert same_name == ["x/a:0", "b:0", "y/a:0"]
    (only,) = _layers(["x/a"], ["t/a"], ["0"])
    assert only.test_data is known["t/a"]["0"]
    for given, problem in (
        ((["x/a"], ["t/a", "x/b"], None), "--test names 2 for 1 of features"),
        ((["x/a", "x/b"], ["t/a"], None), "--test names 1 for 2 of features"),
        ((["x/a"], ["t/a"], None), "1: 4 numbers an example in x/a, 9 in t/a"),
        ((["x/a"], ["x/b"], ["1"]), "x/b: no layer '1'"),
        ((["x/b"], None, ["1"]), "x/b: no layer '1'"),
    ):
        with pytest.raises(TorchliftError, match=problem):
            _layers(*given)


@pytest.mark.parametrize("place", [0, 1])
def test_features_to_test_on_have_classes_of_each_of_those_to_fit(
    place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said before the first fit, whichever of the layers does not match."""

    def dataset(*names: str) -> Dataset:
        return Dataset(np.zeros((2, 3)), np.array([0, 1]), names)

    pairs = [(dataset("a", "b"), dataset("b", "a")), (dataset("a", "b"), dataset("a", "c"))]
    layers = [_Layer(f"x:{n}", "x", str(n), *pair) for n, pair in enumerate(pairs)]
    monkeypatch.setattr(file, "_layers", lambda *_: layers[:: 1 if place else -1])
    monkeypatch.setattr(probe_module, "probe", lambda *_: pytest.fail("it fits"))
    with pytest.raises(DataError, match="has no class c; it has a, b"):
        file.probe(["x"])


def test_the_best_regression_is_saved_and_the_best_of_all_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracies = {
        ("0", "logistic"): (0.5, 0.9),
        ("0", "knn"): (0.25, 0.125),
        ("1", "logistic"): (0.75, 0.25),
        ("1", "knn"): (0.875, 0.375),
    }
    probed: list[Any] = []
    saved: list[Any] = []

    def probed_layer(label: str, data: Any, method: str, test_data: Any, options: Any) -> Any:
        label = label.removeprefix("x:")
        probed.append((label, method, test_data, options.seed, options.repeats))
        found = result(label, *accuracies[label, method])
        evaluation = SimpleNamespace(classes=[], count=0)
        test = accuracies[label, method][1]
        vars(found).update(
            method=method, test_accuracy=test, evaluation=evaluation, notes=[f"{method} fit"]
        )
        found.to_json = lambda: {"layer": label, "method": method, "val_accuracy": 0.5}
        return found

    monkeypatch.setattr(file, "_layers", lambda *_: [layer("x", "0"), layer("x", "1")])
    monkeypatch.setattr(file, "_networks", lambda *_: {"0": "first", "1": "second"})
    monkeypatch.setattr(file, "_save", lambda *given: saved.append(given))
    monkeypatch.setattr(probe_module, "probe", probed_layer)
    found = file.probe(
        ["x"], methods=["logistic", "knn"], save="out", seed=3, csv=str(tmp_path / "t.csv")
    )
    assert [one[:2] for one in probed] == list(accuracies)
    assert {one[2:] for one in probed} == {(None, 3, 1)}
    # Validation decides, and of regressions alone what is saved.
    assert found.data["best"] == {"layer": "1", "method": "knn"}
    assert found.data["saved"] == {"layer": "1", "method": "logistic", "file": "out"}
    ((kept, network, folder, overwrite),) = saved
    assert (kept.layer, kept.method, network) == ("1", "logistic", "second")
    assert (folder, overwrite) == ("out", False)
    assert found.data["files"] == [str(tmp_path / "t.csv"), "out"]
    assert found.data["notes"] == [
        *(f"{name}, {method}: {method} fit" for name, method in accuracies),
        "saved was 1 with logistic, the best regression: knn is not saved",
    ]
    lines = shown(found.view)
    assert "best by validation: 1 with knn, test accuracy 0.3750" in lines
    assert lines[-2:] == [f"wrote {tmp_path / 't.csv'}", "wrote out"]
    rows = (tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0] == "layer,dimensions,method,setting,val_accuracy,test_accuracy,test_std"
    assert len(rows) == 5


@pytest.mark.parametrize("match", ["name", "position"])
def test_classes_are_matched_as_asked_before_the_first_fit(
    match: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def find(*given: Any) -> None:
        asked.append(given)
        raise DataError("enough")

    layer = SimpleNamespace(data="train", test_data="test")
    monkeypatch.setattr(file, "_layers", lambda *given: [layer])
    monkeypatch.setattr(probe_module, "match_test_features", find)
    with pytest.raises(DataError, match="enough"):
        file.probe(["f"], match_classes=match)
    assert asked == [("test", "train", match)]
