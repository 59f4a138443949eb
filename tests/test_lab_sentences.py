"""What the labs say of results, from results that are made up: which number stands where."""

from __future__ import annotations

from typing import Any

import pytest

from torchlift.transfer.errors import LabError
from torchlift.transfer.labs.blitz import _extremes
from torchlift.transfer.labs.cifar2 import _uncertainty
from torchlift.transfer.labs.cifar2_answers import Run, _gap
from torchlift.transfer.labs.data import LabData
from torchlift.transfer.labs.photographs import _convolutions
from torchlift.transfer.reports import Step


def step(*words: str, **result: Any) -> Step:
    return Step(words, result, 1.0)


def test_the_best_and_the_worst_class_and_the_most_frequent_mistake() -> None:
    accuracies = {"cat": 0.5, "dog": 0.9, "owl": 0.25}
    classes = [{"label": name, "accuracy": value} for name, value in accuracies.items()]
    # Rows are true classes: of ten dogs one is taken for an owl, of twelve owls seven for cats.
    confusion = [[2, 1, 1], [0, 9, 1], [7, 2, 3]]
    assert _extremes({"classes": classes, "confusion": confusion}) == (
        "The best class is *dog* with 90.0%, the worst *owl* with 25.0%. The most frequent mistake "
        "is to classify *owl* as *cat*, 7 times."
    )


def test_the_deviation_of_an_accuracy_is_that_of_a_binomial_proportion() -> None:
    """√(0.9 · 0.1 / n): 0.03 with 100 images, 0.015 with 400."""
    splits = [{"split": "val", "count": 100}, {"split": "test", "count": 400}]
    data = LabData("data.npz", step("split", splits=splits), False)
    run = Run("tanhnet", step("train", evaluation={"accuracy": 0.9}), step("evaluate"))
    text = _uncertainty(data, run).markdown
    assert "is 0.030 with 100 validation images, and 0.015 with 400 test images" in text


def layers(*classes: str) -> list[dict[str, Any]]:
    return [{"torch_class": each, "torch_path": str(at)} for at, each in enumerate(classes)]


def test_the_first_two_convolutions_are_shown_with_their_own_relu() -> None:
    given = layers("Conv2d", "BatchNorm2d", "ReLU", "ReLU", "Conv2d", "LeakyReLU", "Conv2d", "ReLU")
    assert _convolutions(given) == [("0", "2"), ("4", "5")]
    # Of two convolutions in a row the second has the ReLU.
    given = layers("Conv2d", "Conv2d", "ReLU", "Conv2d", "ReLU6")
    assert _convolutions(given) == [("1", "2"), ("3", "4")]
    with pytest.raises(LabError, match="needs a network with two convolutions"):
        _convolutions(layers("Conv2d", "ReLU", "ReLU", "Linear"))


@pytest.mark.parametrize(
    ("history", "text"),
    [
        ([], "not measured"),
        ([{"train_accuracy": 0.5, "val_accuracy": 0.25}], "50.0% and 25.0%"),
        ([{}, {"train_accuracy": 0.75, "val_accuracy": 0.625}], "75.0% and 62.5%"),
    ],
)
def test_accuracies_are_those_of_the_last_epoch(history: list[Any], text: str) -> None:
    assert _gap(Run("net", step("train", history=history), step("evaluate"))) == text
