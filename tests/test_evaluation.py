"""An evaluation counts as torch and scikit-learn count, and gives the accuracy of Torch7."""

from __future__ import annotations

import csv
import json
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
from torchlift.transfer.evaluation import Evaluation, evaluate, outcomes, write_evaluation


def scores_as_inputs(output: str, classes: int, labels: list[str] | None = None) -> TorchPredictor:
    """A network whose scores are its inputs."""
    return TorchPredictor(SavedModel(torch.nn.Flatten(), output, (classes, 1, 1), labels))


@pytest.mark.parametrize("output", ["logits", "log_probabilities", "probabilities"])
def test_counts_and_loss_are_those_of_torch(output: str) -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(100, 8), torch.randint(0, 8, (100,))
    scores = {
        "logits": logits,
        "log_probabilities": logits.log_softmax(1),
        "probabilities": logits.softmax(1),
    }[output]
    dataset = Dataset(scores[:, :, None, None].numpy(), target.numpy())
    result = evaluate(scores_as_inputs(output, 8), dataset, batch_size=7)

    right = logits.argmax(1) == target
    assert result.count == 100
    assert result.correct == int(right.sum())
    assert result.accuracy == float(right.double().mean())
    top5 = (logits.topk(5).indices == target[:, None]).any(1)
    assert result.correct_top5 == int(top5.sum())
    assert result.loss == pytest.approx(float(functional.cross_entropy(logits, target)), rel=1e-5)
    for index, part in enumerate(result.classes):
        assert part.label == str(index + 1)
        assert part.count == int((target == index).sum())
        assert part.correct == int(right[target == index].sum())


def random_scores(count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits, a little better than chance, and the right classes; the last class never occurs."""
    random = np.random.default_rng(1)
    target = random.integers(0, classes - 1, count)
    logits = random.normal(size=(count, classes)).astype(np.float32) * 2
    logits[np.arange(count), target] += 2
    return logits, target


def test_precision_recall_confusion_and_top5_are_scikit_learns() -> None:
    logits, target = random_scores(400, 9)
    result = evaluate(scores_as_inputs("logits", 9), Dataset(logits[:, :, None, None], target), 64)
    predicted = logits.argmax(1)
    assert result.confusion == confusion_matrix(target, predicted, labels=range(9)).tolist()
    report = classification_report(
        target, predicted, labels=range(9), output_dict=True, zero_division=0
    )
    for index, part in enumerate(result.classes):
        expected = report[str(index)]
        assert part.precision == expected["precision"]
        assert part.recall == expected["recall"]
        assert part.f1 == expected["f1-score"]
        assert part.count == expected["support"]
        assert part.predicted == (predicted == index).sum()
    # A class without images has no say in the mean.
    there = [report[str(index)] for index in range(8)]
    assert result.precision == pytest.approx(np.mean([part["precision"] for part in there]))
    assert result.recall == pytest.approx(np.mean([part["recall"] for part in there]))
    assert result.f1 == pytest.approx(np.mean([part["f1-score"] for part in there]))
    expected_top5 = top_k_accuracy_score(target, logits, k=5, labels=range(9))
    assert result.top5_accuracy == pytest.approx(expected_top5)


def test_calibration_error_is_the_formula_of_guo() -> None:
    logits, target = random_scores(500, 6)
    result = evaluate(scores_as_inputs("logits", 6), Dataset(logits[:, :, None, None], target))
    confidence, predicted = torch.from_numpy(logits).double().softmax(1).max(1)
    right = (predicted.numpy() == target).astype(float)
    error, edges = 0.0, np.linspace(0, 1, 16)
    for low, high, part in zip(edges[:-1], edges[1:], result.bins, strict=True):
        inside = (confidence.numpy() > low) & (confidence.numpy() <= high)
        assert part.count == inside.sum()
        if inside.any():
            assert part.accuracy == pytest.approx(right[inside].mean())
            assert part.confidence == pytest.approx(confidence.numpy()[inside].mean(), rel=1e-6)
            error += inside.mean() * abs(right[inside].mean() - confidence.numpy()[inside].mean())
    assert result.ece == pytest.approx(error, rel=1e-5)


def test_certainty_that_is_right_is_calibrated() -> None:
    scores = np.eye(3, dtype=np.float32)[:, :, None, None]
    result = evaluate(scores_as_inputs("probabilities", 3), Dataset(scores, np.arange(3)))
    assert result.ece == 0
    assert result.bins[-1].count == 3
    assert result.mistakes == []
    turned = evaluate(scores_as_inputs("probabilities", 3), Dataset(scores, np.array([1, 2, 0])))
    assert turned.ece == 1
    assert turned.bins[-1].accuracy == 0


def test_the_worst_mistakes_come_first() -> None:
    logits, target = random_scores(300, 5)
    names = np.array([f"file{index}" for index in range(300)])
    data = Dataset(logits[:, :, None, None], target, ids=names)
    result = evaluate(scores_as_inputs("logits", 5, list("vwxyz")), data, 7)
    shares = torch.from_numpy(logits).double().softmax(1).numpy()
    wrong = [i for i in range(300) if shares[i].argmax() != target[i]]
    expected = sorted(wrong, key=lambda i: -shares[i].max())[:25]
    assert [mistake.index for mistake in result.mistakes] == expected
    for mistake in result.mistakes:
        share = shares[mistake.index]
        assert mistake.id == f"file{mistake.index}"
        assert mistake.label == "vwxyz"[target[mistake.index]]
        assert mistake.predicted == "vwxyz"[share.argmax()]
        assert mistake.confidence == pytest.approx(share.max(), rel=1e-5)
        assert mistake.probability == pytest.approx(share[target[mistake.index]], rel=1e-4)


def test_equal_scores_count_in_their_order() -> None:
    found = outcomes(np.zeros((3, 4), np.float32), "logits", np.array([0, 1, 3]))
    assert found.predicted.tolist() == [0, 0, 0]
    assert found.rank.tolist() == [0, 1, 3]
    assert found.correct.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("names", "expected", "note"),
    [
        (("owl", "Cat"), [2, 0], "matched with the model's by name"),
        (("cat", "dog", "owl"), [0, 1], None),
        (("Katze", "Hund", "Eule"), [0, 1], "name their classes differently"),
        (None, [0, 1], None),
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


def test_a_class_that_the_model_does_not_know() -> None:
    predictor = scores_as_inputs("logits", 3, ["cat", "dog", "owl"])
    data = Dataset(np.zeros((2, 3, 1, 1), np.float32), np.array([0, 1]), ("dog", "emu"))
    with pytest.raises(DataError, match="the model has no class emu; it has cat, dog, owl"):
        evaluate(predictor, data)
    # Two of the classes in another language: there is no telling which two.
    with pytest.raises(DataError, match="the model has no class Eule, Hund"):
        evaluate(predictor, replace(data, names=("Hund", "Eule")))


def test_digits_by_class() -> None:
    digits = FIXTURES / "digits"
    model = open_model(
        digits / "digits-lenet5.t7",
        labels=digits / "digits_classes.t7",
        mean_std=digits / "digits_meanStd.t7",
    )
    result = evaluate(TorchPredictor(model, "cpu"), read_dataset(digits / "digits-test.t7"))
    assert (result.correct, result.count, result.accuracy) == (487, 500, 0.974)
    assert [part.label for part in result.classes] == model.labels
    assert sum(part.correct for part in result.classes) == 487
    values = json.loads(json.dumps(result.to_json()))
    assert values["accuracy"] == 0.974


def test_what_cannot_be_evaluated_is_said() -> None:
    scores = np.zeros((2, 3, 1, 1), np.float32)
    with pytest.raises(DataError, match="no labels"):
        evaluate(scores_as_inputs("logits", 3), Dataset(scores))
    with pytest.raises(DataError, match="class 4 in the data, 3 in the model"):
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


def test_t7_saved_model_and_onnx_give_the_same_numbers(
    digits_result: tuple[Evaluation, Dataset], tmp_path: Path
) -> None:
    digits = FIXTURES / "digits"
    model = open_model(
        digits / "digits-lenet5-bn.t7",
        labels=digits / "digits_classes.t7",
        mean_std=digits / "digits_meanStd.t7",
    )
    export(model, tmp_path / "digits.onnx")
    ours, data = digits_result
    theirs = evaluate(OnnxPredictor(tmp_path / "digits.onnx", "cpu"), data)
    assert (ours.correct, theirs.correct) == (491, 491)
    assert ours.confusion == theirs.confusion
    assert [mistake.index for mistake in ours.mistakes] == [
        mistake.index for mistake in theirs.mistakes
    ]
    # Two implementations in float32.
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-4)
    assert ours.ece == pytest.approx(theirs.ece, rel=1e-4)


def test_the_folder_of_results_holds_what_was_found(
    digits_result: tuple[Evaluation, Dataset], tmp_path: Path
) -> None:
    result, data = digits_result
    written = write_evaluation(result, tmp_path / "out" / "here", data)
    assert {file.name for file in written} == {
        "evaluation.json", "classes.csv", "calibration.csv", "mistakes.csv", "confusion.csv",
        "confusion.png", "reliability.png", "mistakes.png",
    }  # fmt: skip
    files = {file.name: file for file in written}
    assert json.loads(files["evaluation.json"].read_text()) == json.loads(
        json.dumps(result.to_json())
    )

    def rows(name: str) -> list[dict[str, str]]:
        with files[name].open(newline="") as stream:
            return list(csv.DictReader(stream))

    labels = [part.label for part in result.classes]
    assert [row["label"] for row in rows("classes.csv")] == labels
    assert sum(int(row["correct"]) for row in rows("classes.csv")) == 491
    counted = [[int(row[label]) for label in labels] for row in rows("confusion.csv")]
    assert counted == result.confusion
    assert sum(int(row["count"]) for row in rows("calibration.csv")) == 500
    assert len(rows("mistakes.csv")) == 9
    for name in ("confusion.png", "reliability.png", "mistakes.png"):
        with Image.open(files[name]) as image:
            assert np.asarray(image.convert("L")).std() > 10
    # Written once more it replaces itself.
    assert write_evaluation(result, tmp_path / "out" / "here", data) == written


def test_many_classes_and_inputs_that_are_no_images_can_be_drawn(tmp_path: Path) -> None:
    logits, target = random_scores(150, 120)
    data = Dataset(logits.reshape(150, 120, 1, 1), target)
    result = evaluate(scores_as_inputs("logits", 120), data)
    assert len(write_evaluation(result, tmp_path, data)) == 8


def test_a_folder_of_images_of_many_sizes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("dark", "light"):
        (tmp_path / name).mkdir()
        for number, size in enumerate([(20, 30), (17, 9), (40, 40)]):
            pixels = random.integers(0, 100, (*size, 3)) + (150 if name == "light" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name / f"{number}.png")
    # The mean of all pixels is the score of `light`, 128 that of `dark`.
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


def test_the_command_takes_the_test_part_and_writes_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digits = FIXTURES / "digits"
    parts = {name: read_dataset(digits / f"digits-{name}.t7") for name in ("train", "test")}
    arrays = {
        f"{what}_{name}": array
        for name, part in parts.items()
        for what, array in (("x", part.images), ("y", part.classes))
    }
    np.savez(tmp_path / "digits.npz", **arrays)  # type: ignore[arg-type]  # its stub knows one flag
    words = ["evaluate", str(digits / "digits-lenet5.t7"), str(tmp_path / "digits.npz"), "--json"]
    words += ["--labels", str(digits / "digits_classes.t7")]
    words += ["--mean-std", str(digits / "digits_meanStd.t7")]
    assert main([*words, "--output", str(tmp_path / "results")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["accuracy"], found["count"]) == (0.974, 500)
    assert str(tmp_path / "results" / "confusion.png") in found["files"]
    assert main([*words, "--split", "train", "--limit", "100"]) == 0
    assert json.loads(capsys.readouterr().out)["count"] == 100


def test_cifar_as_lua_counted_it() -> None:
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
