"""An evaluation agrees with torch and scikit-learn, and with the accuracy that Torch7 computed."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import classification_report, confusion_matrix, top_k_accuracy_score
from support import FIXTURES, SHARED
from torch.nn import functional

from torchlift.cli.main import main
from torchlift.converters import t7
from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.inference import InferenceError, OnnxPredictor, TorchPredictor
from torchlift.converters.onnx import export
from torchlift.converters.saved import SavedModel, open_model
from torchlift.transfer.data import Dataset, open_data, read_dataset, stream_folder
from torchlift.transfer.errors import DataError
from torchlift.transfer.evaluation import (
    Evaluation,
    Outcomes,
    evaluate,
    outcomes,
    read_evaluation,
    summarize,
    write_evaluation,
)
from torchlift.transfer.evaluation.results import calibration
from torchlift.transfer.plots.evaluation import save_evaluation_figures


def scores_as_inputs(output: str, classes: int, labels: list[str] | None = None) -> TorchPredictor:
    """Return a network whose scores are its inputs."""
    return TorchPredictor(SavedModel(torch.nn.Flatten(), output, (classes, 1, 1), labels))


@pytest.mark.parametrize("output", ["logits", "log_probabilities", "probabilities"])
def test_counts_and_loss_equal_torchs(output: str) -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(100, 8), torch.randint(0, 8, (100,))
    scores = {
        "logits": logits,
        "log_probabilities": logits.log_softmax(1),
        "probabilities": logits.softmax(1),
    }[output]
    dataset = Dataset(scores[:, :, None, None].numpy(), target.numpy())
    result = evaluate(scores_as_inputs(output, 8), dataset, batch_size=7)

    correct = logits.argmax(1) == target
    assert result.count == 100
    assert result.correct == int(correct.sum())
    assert result.accuracy == float(correct.double().mean())
    top5 = (logits.topk(5).indices == target[:, None]).any(1)
    assert result.top5_correct == int(top5.sum())
    assert result.loss == pytest.approx(float(functional.cross_entropy(logits, target)), rel=1e-5)
    for index, row in enumerate(result.classes):
        assert row.label == str(index + 1)
        assert row.count == int((target == index).sum())
        assert row.correct == int(correct[target == index].sum())


def random_scores(count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return logits, a little better than chance, and true classes; the last class never occurs."""
    random = np.random.default_rng(1)
    target = random.integers(0, classes - 1, count)
    logits = random.normal(size=(count, classes)).astype(np.float32) * 2
    logits[np.arange(count), target] += 2
    return logits, target


def test_precision_recall_confusion_and_top5_equal_scikit_learns() -> None:
    logits, target = random_scores(400, 9)
    result = evaluate(scores_as_inputs("logits", 9), Dataset(logits[:, :, None, None], target), 64)
    predicted = logits.argmax(1)
    assert result.confusion == confusion_matrix(target, predicted, labels=range(9)).tolist()
    report = classification_report(
        target, predicted, labels=range(9), output_dict=True, zero_division=0
    )
    for index, row in enumerate(result.classes):
        expected = report[str(index)]
        assert row.precision == expected["precision"]
        assert row.accuracy == expected["recall"]
        assert row.f1 == expected["f1-score"]
        assert row.count == expected["support"]
        assert row.predicted == (predicted == index).sum()
    # A class without images does not count in the means.
    present = [report[str(index)] for index in range(8)]
    assert result.precision == pytest.approx(np.mean([row["precision"] for row in present]))
    assert result.recall == pytest.approx(np.mean([row["recall"] for row in present]))
    assert result.f1 == pytest.approx(np.mean([row["f1-score"] for row in present]))
    expected_top5 = top_k_accuracy_score(target, logits, k=5, labels=range(9))
    assert result.top5_accuracy == pytest.approx(expected_top5)


def test_the_calibration_error_is_that_of_guo() -> None:
    logits, target = random_scores(500, 6)
    result = evaluate(scores_as_inputs("logits", 6), Dataset(logits[:, :, None, None], target))
    confidence, predicted = torch.from_numpy(logits).double().softmax(1).max(1)
    correct = (predicted.numpy() == target).astype(float)
    error, edges = 0.0, np.linspace(0, 1, 16)
    for low, high, row in zip(edges[:-1], edges[1:], result.bins, strict=True):
        inside = (confidence.numpy() > low) & (confidence.numpy() <= high)
        assert row.count == inside.sum()
        if inside.any():
            accuracy, mean_confidence = correct[inside].mean(), confidence.numpy()[inside].mean()
            assert row.accuracy == pytest.approx(accuracy)
            assert row.confidence == pytest.approx(mean_confidence, rel=1e-6)
            error += inside.mean() * abs(accuracy - mean_confidence)
    assert result.ece == pytest.approx(error, rel=1e-5)


def test_a_confidence_on_a_bound_belongs_to_the_bin_below() -> None:
    confidence = np.array([11 / 15, 12 / 15, 1.0])
    zeros = np.zeros(3, np.int64)
    bins = calibration(Outcomes(zeros, zeros, zeros, confidence, np.zeros(3)))
    assert [index for index, row in enumerate(bins) if row.count] == [10, 11, 14]


def test_certain_and_correct_predictions_are_calibrated() -> None:
    scores = np.eye(3, dtype=np.float32)[:, :, None, None]
    result = evaluate(scores_as_inputs("probabilities", 3), Dataset(scores, np.arange(3)))
    assert result.ece == 0
    assert result.bins[-1].count == 3
    assert result.mistakes == []
    rotated = evaluate(scores_as_inputs("probabilities", 3), Dataset(scores, np.array([1, 2, 0])))
    assert rotated.ece == 1
    assert rotated.bins[-1].accuracy == 0


def test_the_worst_mistakes_come_first() -> None:
    logits, target = random_scores(300, 5)
    names = np.array([f"file{index}" for index in range(300)])
    data = Dataset(logits[:, :, None, None], target, ids=names)
    result = evaluate(scores_as_inputs("logits", 5, list("vwxyz")), data, 7)
    probabilities = torch.from_numpy(logits).double().softmax(1).numpy()
    wrong = [i for i in range(300) if probabilities[i].argmax() != target[i]]
    expected = sorted(wrong, key=lambda i: -probabilities[i].max())[:25]
    assert [mistake.image_index for mistake in result.mistakes] == expected
    for mistake in result.mistakes:
        scores, true_class = probabilities[mistake.image_index], target[mistake.image_index]
        assert mistake.input == f"file{mistake.image_index}"
        assert mistake.label == "vwxyz"[true_class]
        assert mistake.predicted_label == "vwxyz"[scores.argmax()]
        assert mistake.confidence == pytest.approx(scores.max(), rel=1e-5)
        assert mistake.probability == pytest.approx(scores[true_class], rel=1e-4)


def test_equal_scores_rank_in_their_order() -> None:
    batch = outcomes(np.zeros((3, 4), np.float32), "logits", np.array([0, 1, 3]))
    assert batch.predicted.tolist() == [0, 0, 0]
    assert batch.rank.tolist() == [0, 1, 3]
    assert batch.correct.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("names", "expected", "note"),
    [
        (("owl", "Cat"), [2, 0], "matched with the model's by name"),
        (("cat", "dog", "owl"), [0, 1], None),
        (None, [0, 1], "matched by position, because the data does not name them"),
    ],
)
def test_classes_are_matched_by_name(
    names: tuple[str, ...] | None, expected: list[int], note: str | None
) -> None:
    scores = np.eye(3, dtype=np.float32)[expected][:, :, None, None]
    predictor = scores_as_inputs("probabilities", 3, ["cat", "dog", "owl"])
    result = evaluate(predictor, Dataset(scores, np.array([0, 1]), names))
    assert result.accuracy == 1
    assert (note is None) == (result.notes == [])
    assert note is None or note in result.notes[0]


def test_a_class_that_the_model_lacks() -> None:
    predictor = scores_as_inputs("logits", 3, ["cat", "dog", "owl"])
    data = Dataset(np.zeros((2, 3, 1, 1), np.float32), np.array([0, 1]), ("dog", "emu"))
    with pytest.raises(DataError, match="the model has no class emu; it has cat, dog, owl"):
        evaluate(predictor, data)
    with pytest.raises(DataError, match=r"no name in common. match_classes='position' .*"):
        evaluate(predictor, replace(data, names=("Hund", "Eule")))
    result = evaluate(predictor, replace(data, names=("Hund", "Eule")), match_classes="position")
    assert result.notes == [
        "classes were matched by position, as was asked for: Hund with cat, Eule with dog"
    ]


def test_digits_by_class() -> None:
    digits = FIXTURES / "digits"
    model = open_model(
        digits / "digits-lenet5.t7",
        labels=digits / "digits_classes.t7",
        mean_std=digits / "digits_meanStd.t7",
    )
    result = evaluate(TorchPredictor(model, "cpu"), read_dataset(digits / "digits-test.t7"))
    assert (result.correct, result.count, result.accuracy) == (487, 500, 0.974)
    assert [row.label for row in result.classes] == model.labels
    assert sum(row.correct for row in result.classes) == 487
    values = json.loads(json.dumps(result.to_json()))
    assert values["accuracy"] == 0.974


def test_what_cannot_be_evaluated_is_an_error() -> None:
    scores = np.zeros((2, 3, 1, 1), np.float32)
    with pytest.raises(DataError, match="no labels"):
        evaluate(scores_as_inputs("logits", 3), Dataset(scores))
    empty = Dataset(scores[:0], np.zeros(0, np.int64))
    with pytest.raises(DataError, match="no labels"):
        evaluate(scores_as_inputs("logits", 3), empty)
    with pytest.raises(DataError, match=r"the data has class 4 .*, the model 3 outputs"):
        evaluate(scores_as_inputs("logits", 3), Dataset(scores, np.array([0, 3])))
    with pytest.raises(InferenceError, match="not a classifier"):
        evaluate(scores_as_inputs("features", 3), Dataset(scores, np.array([0, 1])))


@pytest.fixture(scope="module")
def digits_result() -> tuple[Evaluation, Dataset]:
    digits = FIXTURES / "digits"
    model = open_model(
        digits / "digits-lenet5-bn.t7",
        labels=digits / "digits_classes.t7",
        mean_std=digits / "digits_meanStd.t7",
    )
    data = read_dataset(digits / "digits-test.t7")
    return evaluate(TorchPredictor(model, "cpu"), data), data


def test_t7_and_onnx_have_the_same_results(
    digits_result: tuple[Evaluation, Dataset], tmp_path: Path
) -> None:
    digits = FIXTURES / "digits"
    model = open_model(
        digits / "digits-lenet5-bn.t7",
        labels=digits / "digits_classes.t7",
        mean_std=digits / "digits_meanStd.t7",
    )
    export(model, tmp_path / "digits.onnx")
    expected, data = digits_result
    actual = evaluate(OnnxPredictor(tmp_path / "digits.onnx", "cpu"), data)
    assert (actual.correct, expected.correct) == (491, 491)
    assert actual.confusion == expected.confusion
    assert [mistake.image_index for mistake in actual.mistakes] == [
        mistake.image_index for mistake in expected.mistakes
    ]
    # Two implementations in float32.
    assert actual.loss == pytest.approx(expected.loss, rel=1e-4)
    assert actual.ece == pytest.approx(expected.ece, rel=1e-4)


def write_folder(result: Evaluation, folder: Path, data: Dataset) -> list[Path]:
    return [*write_evaluation(result, folder), *save_evaluation_figures(result, folder, data)]


def test_the_folder_of_results(digits_result: tuple[Evaluation, Dataset], tmp_path: Path) -> None:
    result, data = digits_result
    files = write_folder(result, tmp_path / "out" / "here", data)
    assert {file.name for file in files} == {
        "evaluation.json", "classes.csv", "calibration.csv", "mistakes.csv", "confusion.csv",
        "confusion.png", "reliability.png", "mistakes.png",
    }  # fmt: skip
    by_name = {file.name: file for file in files}
    values = json.loads(by_name["evaluation.json"].read_text(encoding="utf-8"))
    assert values == json.loads(json.dumps(result.to_json()))
    assert read_evaluation(by_name["evaluation.json"]) == result

    def rows(name: str) -> list[dict[str, str]]:
        with by_name[name].open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))

    labels = [row.label for row in result.classes]
    assert not any(b"\r" in file.read_bytes() for file in files if file.suffix == ".csv")
    assert [row["label"] for row in rows("classes.csv")] == labels
    assert sum(int(row["correct"]) for row in rows("classes.csv")) == 491
    confusion = [[int(row[label]) for label in labels] for row in rows("confusion.csv")]
    assert confusion == result.confusion
    assert sum(int(row["count"]) for row in rows("calibration.csv")) == 500
    assert len(rows("mistakes.csv")) == 9
    for name in ("confusion.png", "reliability.png", "mistakes.png"):
        with Image.open(by_name[name]) as image:
            assert np.asarray(image.convert("L")).std() > 10
    # Existing files are replaced, never changed in place.
    link = tmp_path / "link.json"
    os.link(by_name["evaluation.json"], link)
    changed = replace(result, notes=["a note"])
    assert write_folder(changed, tmp_path / "out" / "here", data) == files
    assert read_evaluation(link) == result
    assert read_evaluation(by_name["evaluation.json"]) == changed


def test_scores_that_are_not_numbers_leave_the_calibration_unknown() -> None:
    scores = np.array([[0.9, 0.1], [np.nan, 0.5], [0.2, 0.8]])
    batch = outcomes(scores, "probabilities", np.array([0, 0, 1]))
    result = summarize(batch, ["a", "b"], notes=["a note"])
    assert np.isnan(result.ece)
    assert sum(row.count for row in result.bins) == 2
    assert result.notes == ["a note", "the scores of 1 of 3 images are not numbers"]


def test_many_classes_and_inputs_that_are_not_images_can_be_drawn(tmp_path: Path) -> None:
    logits, target = random_scores(150, 120)
    data = Dataset(logits.reshape(150, 120, 1, 1), target)
    result = evaluate(scores_as_inputs("logits", 120), data)
    assert len(write_folder(result, tmp_path, data)) == 8


def test_a_folder_of_images_of_many_sizes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("dark", "light"):
        (tmp_path / name).mkdir()
        for number, size in enumerate([(20, 30), (17, 9), (40, 40)]):
            pixels = random.integers(0, 100, (*size, 3)) + (150 if name == "light" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name / f"{number}.png")
    # The score of `light` is the mean of all pixels, the score of `dark` is 128.
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 2))
    with torch.no_grad():
        module[1].weight.copy_(torch.tensor([[1 / 192], [0.0]]).expand(2, 192))
        module[1].bias.copy_(torch.tensor([0.0, 128.0]))
    model = SavedModel(
        module, "logits", (3, 8, 8), ["light", "dark"],
        Preprocessing("RGB", 10, crop=(8, 8), value_range=255),
    )  # fmt: skip
    result = evaluate(TorchPredictor(model, "cpu"), stream_folder(tmp_path), 4)
    assert result.accuracy == 1
    assert result.notes == ["the data's classes were matched with the model's by name"]
    assert result.confusion == [[3, 0], [0, 3]]


def test_the_command_uses_the_test_split_and_writes_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digits = FIXTURES / "digits"
    splits = {name: read_dataset(digits / f"digits-{name}.t7") for name in ("train", "test")}
    arrays = {
        f"{key}_{name}": array
        for name, data in splits.items()
        for key, array in (("x", data.images), ("y", data.classes))
    }
    np.savez(tmp_path / "digits.npz", **arrays)  # type: ignore[arg-type]  # the stub takes keywords for options
    words = ["evaluate", str(digits / "digits-lenet5.t7"), str(tmp_path / "digits.npz"), "--json"]
    words += ["--labels", str(digits / "digits_classes.t7")]
    words += ["--mean-std", str(digits / "digits_meanStd.t7")]
    assert main([*words, "--output", str(tmp_path / "results")]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["accuracy"], result["count"]) == (0.974, 500)
    assert str(tmp_path / "results" / "confusion.png") in result["files"]
    assert main([*words, "--split", "train", "--limit", "100"]) == 0
    assert json.loads(capsys.readouterr().out)["count"] == 100


def test_cifar_accuracy_equals_luas() -> None:
    file = SHARED / "data" / "cifar10-small-test.t7"
    if not file.exists():
        pytest.skip("needs the CIFAR-10 images")
    cifar = FIXTURES / "cifar"
    model = open_model(
        cifar / "cifar-convnet-bn.t7",
        labels=cifar / "cifar_classes.t7",
        mean_std=cifar / "cifar_meanStd.t7",
    )
    result = evaluate(TorchPredictor(model, "cpu"), open_data(file), 250)
    assert (
        result.accuracy == t7.load(cifar / "cifar-convnet-bn_lua_outputs.t7")["test_accuracy_5000"]
    )


def test_a_score_that_is_no_number_is_the_largest_in_the_rank_too() -> None:
    """As for argmax: the prediction is its class, so that the true class is second at best."""
    found = outcomes(np.array([[np.nan, 1.0], [1.0, np.nan]]), "logits", np.array([1, 1]))
    assert found.predicted.tolist() == [0, 1]
    assert found.rank.tolist() == [1, 0]


def test_more_classes_than_a_confusion_matrix_holds_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before the memory is asked for: 5 GB for 25,000."""
    found = outcomes(np.eye(3), "logits", np.arange(3))
    many = [str(index) for index in range(25_001)]
    with pytest.raises(DataError, match=r"25,001 classes: the confusion .* holds at most 25,000"):
        summarize(found, many)
    monkeypatch.setattr("torchlift.transfer.evaluation.results._MOST_CLASSES", 3)
    assert len(summarize(found, many[:3]).classes) == 3
    with pytest.raises(DataError, match=r"^4 classes: .* at most 3$"):
        summarize(found, many[:4])
