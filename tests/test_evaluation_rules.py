"""What an evaluation computes in double precision, lists first, notes, and takes back from JSON."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from torchlift.converters.inference import TorchPredictor
from torchlift.converters.saved import SavedModel
from torchlift.transfer.data import Dataset
from torchlift.transfer.errors import DataError
from torchlift.transfer.evaluation import Evaluation, evaluate, outcomes, summarize
from torchlift.transfer.evaluation import run as run_file
from torchlift.transfer.evaluation.outcomes import Outcomes, check_outputs
from torchlift.transfer.evaluation.results import calibration

SCORES = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
CLASSES = np.arange(40) % 3


def of_confidence(*values: float) -> Outcomes:
    """Return mistakes of these confidences: class 1 instead of class 0."""
    confidence = np.array(values)
    zeros = np.zeros(len(values), np.int64)
    return Outcomes(zeros, zeros + 1, zeros + 1, confidence, np.log1p(-confidence / 2))


def test_probabilities_are_in_double_precision() -> None:
    """A float32 near 1 is a multiple of 6e-8: many thousands of images are added up."""
    scores = SCORES - np.logaddexp.reduce(SCORES, axis=1, keepdims=True)
    found = outcomes(scores, "log_probabilities", CLASSES)
    assert found.confidence.dtype == found.log_probability.dtype == np.float64
    exact = np.exp(scores.max(axis=1).astype(np.float64))
    np.testing.assert_allclose(found.confidence, exact, rtol=1e-15)


def test_a_confidence_of_0_and_one_that_rounding_made_larger_than_1_are_in_the_outer_bins() -> None:
    bins = calibration(of_confidence(0.0, 1e-9, 1.0, 1.0 + 1e-7))
    assert [index for index, row in enumerate(bins) if row.count] == [0, 14]
    assert [row.count for row in bins if row.count] == [2, 2]


def test_equal_mistakes_are_listed_in_the_order_of_the_images() -> None:
    """And no more than 25, of which those of the highest confidence are first."""
    mistakes = summarize(of_confidence(*[0.25] * 60, 0.75), ["a", "b"]).mistakes
    assert [mistake.image_index for mistake in mistakes] == [60, *range(24)]
    assert [mistake.input for mistake in mistakes][:3] == ["60", "0", "1"]


@pytest.mark.parametrize(("classes", "named"), [([0, -1, 3], 0), ([0, 3, 5], 4), ([2, 0], None)])
def test_each_class_has_an_output(classes: list[int], named: int | None) -> None:
    if named is None:
        assert check_outputs(np.zeros((2, 3)), np.array(classes)) == 3
        return
    with pytest.raises(DataError, match=rf"class {named} \(counted from 1\), the model 3 outputs"):
        check_outputs(np.zeros((3, 3)), np.array(classes))


def stored(**changed: Any) -> dict[str, Any]:
    return {**summarize(outcomes(SCORES, "logits", CLASSES), ["a", "b", "c"]).to_json(), **changed}


@pytest.mark.parametrize(
    "changed",
    [
        {"confusion": [[1, 0, 0], [0, 1, 0]]},
        {"confusion": [[1, 0], [0, 1], [0, 0]]},
        {"confusion": [[1, 0, 0.5], [0, 1, 0], [0, 0, 1]]},
        {"confusion": [[1, 0, -1], [0, 1, 0], [0, 0, 1]]},
        {"notes": "text"},
        {"notes": ["text", 3]},
        {"classes": [], "confusion": []},
        {"count": 0},
        {"count": "40"},
        {"loss": "0.5"},
    ],
)
def test_results_that_do_not_fit_together_are_none(changed: dict[str, Any]) -> None:
    assert Evaluation.from_json(stored()).to_json() == stored()
    assert math.isnan(Evaluation.from_json(stored(ece=None)).ece)
    with pytest.raises(ValueError):  # noqa: PT011 – of any sentence
        Evaluation.from_json(stored(**changed))


def test_notes_are_those_of_data_that_nobody_has_opened_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who gives a dataset or a predictor knows its notes."""
    data = Dataset(SCORES[:, :, None, None], CLASSES, ("c", "b", "a"), notes=("of the data",))
    model = SavedModel(nn.Flatten(), "logits", (3, 1, 1), ["a", "b", "c"])
    asked: list[str] = []

    def noting(given: SavedModel) -> TorchPredictor:
        predictor = TorchPredictor(given, "cpu")
        predictor.note = "of the provider"
        return predictor

    def opened(given: Any, provider: str) -> Any:
        asked.append(provider)
        if isinstance(given, TorchPredictor):
            return given
        return noting(given)

    monkeypatch.setattr(run_file, "opened_predictor", opened)
    monkeypatch.setattr(run_file, "opened_data", lambda given: data)
    by_name = evaluate(model, "d.npz", provider="cuda:1").notes
    assert by_name[0] == "of the data"
    assert by_name[-1] == "of the provider"
    assert len(by_name) == 3
    assert evaluate(model, Path("d.npz")).notes == by_name
    assert evaluate(model, data).notes == by_name[1:]
    assert evaluate(noting(model), data).notes == by_name[1:-1]
    assert asked == ["cuda:1", "auto", "auto", "auto"]


def test_the_test_split_of_a_name_is_evaluated_and_all_of_a_dataset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = np.array(["train", "test"])[np.arange(40) % 2]
    data = replace(Dataset(SCORES[:, :, None, None], CLASSES), splits=parts)
    model = SavedModel(nn.Flatten(), "logits", (3, 1, 1))
    monkeypatch.setattr(run_file, "opened_data", lambda given: data)
    assert evaluate(model, "d.npz", provider="cpu").count == 20
    assert evaluate(model, data, provider="cpu").count == 40
