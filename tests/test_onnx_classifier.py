"""Classifiers reproduce Torch7's scores and labels, from arrays, PIL images and files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import FIXTURES, SHARED, relative_error

from torchlift.converters import t7
from torchlift.converters.images import find_images, read_image
from torchlift.converters.images.errors import ImageError
from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.inference import (
    Classifier,
    InferenceError,
    OnnxPredictor,
    TorchPredictor,
    open_predictor,
    predict_files,
)
from torchlift.converters.inference.scores import log_probabilities, probabilities
from torchlift.converters.onnx import export
from torchlift.converters.saved import SavedModel, open_model
from torchlift.transfer.data import read_dataset
from torchlift.transfer.evaluation import evaluate

DIGITS = FIXTURES / "digits"
TEST = read_dataset(DIGITS / "digits-test.t7")


@pytest.fixture(
    scope="module",
    params=["digits-lenet5-bn", pytest.param("digits-lenet5", marks=pytest.mark.slow)],
)
def digits(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """A digits network: its name, the opened model, and the exported file."""
    model = open_model(
        DIGITS / f"{request.param}.t7",
        labels=DIGITS / "digits_classes.t7",
        mean_std=DIGITS / "digits_meanStd.t7",
    )
    path = tmp_path_factory.mktemp("digits") / "digits.onnx"
    export(model, path)
    return request.param, model, path


def test_digits_have_torch7s_log_probabilities_and_accuracy(digits: tuple) -> None:
    name, model, path = digits
    lua = t7.to_torch(t7.load(DIGITS / f"{name}_lua_outputs.t7"))
    expected = lua["log_probabilities"]
    # Torch7 normalized in single precision: (pixel - mean) / std, for pixels from 0 to 255.
    inputs = (TEST.images.astype(np.float32) - np.float32(60.420907472773706)) / np.float32(
        84.66634636325098
    )
    assert np.array_equal(model.preprocessing(TEST.images), inputs)
    for predictor in (TorchPredictor(model), OnnxPredictor(path)):
        scores = torch.from_numpy(predictor(inputs))
        # Relative to the largest, about -30, where single precision has steps of 2e-6.
        assert relative_error(scores, expected) < 1e-5
        assert (scores - expected).abs().max() < 1e-4
        assert evaluate(predictor, TEST).accuracy == lua["test_accuracy"]


def test_cifar_has_torch7s_log_probabilities_and_accuracy(tmp_path: Path) -> None:
    data = SHARED / "data" / "cifar10-small-test.t7"
    if not data.exists():
        pytest.skip("needs the CIFAR-10 images")
    cifar = FIXTURES / "cifar"
    test = read_dataset(data)
    lua = t7.to_torch(t7.load(cifar / "cifar-convnet-bn_lua_outputs.t7"))
    model = open_model(
        cifar / "cifar-convnet-bn.t7",
        labels=cifar / "cifar_classes.t7",
        mean_std=cifar / "cifar_meanStd.t7",
    )
    export(model, tmp_path / "cifar.onnx")
    inputs = model.preprocessing(test.images[: lua["first"]])
    for predictor in (TorchPredictor(model), OnnxPredictor(tmp_path / "cifar.onnx")):
        scores = torch.from_numpy(predictor(inputs))
        assert relative_error(scores, lua["log_probabilities"]) < 1e-5
        assert evaluate(predictor, test).accuracy == lua["test_accuracy_5000"]


def test_a_classifier_opens_every_kind_of_model(digits: tuple) -> None:
    name, model, path = digits
    exported = Classifier(path, provider="cpu", batch_size=3)
    original = Classifier(
        open_predictor(
            DIGITS / f"{name}.t7",
            "cpu",
            labels=DIGITS / "digits_classes.t7",
            mean_std=DIGITS / "digits_meanStd.t7",
        )
    )
    assert exported.labels == original.labels == model.labels
    assert exported.preprocessing == original.preprocessing
    assert exported.output_kind == original.output_kind == "log_probabilities"
    assert exported.input_shape == original.input_shape == (1, 32, 32)
    assert (exported.provider, original.provider) == ("CPUExecutionProvider", "PyTorch (cpu)")
    for classifier in (exported, original):
        values = classifier.probabilities(TEST.images[:8])
        assert values.shape == (8, 10)
        assert np.allclose(values.sum(axis=1), 1, atol=1e-6)
    in_onnx, in_torch = (c.probabilities(TEST.images[:8]) for c in (exported, original))
    assert np.abs(in_onnx - in_torch).max() < 1e-5


def test_files_pil_images_and_pixels_give_the_same_predictions(
    digits: tuple, tmp_path: Path
) -> None:
    _, _, path = digits
    classifier = Classifier(path, provider="cpu", batch_size=2)
    pixels = TEST.images[:5]
    files = []
    for index, (image,) in enumerate(pixels):
        files.append(tmp_path / f"{index}.png")
        Image.fromarray(image).save(files[-1])
    expected = classifier.predict(pixels, top=3)
    # The first test images are the digits 0, 9 and 6.
    assert [row[0].label for row in expected][:3] == ["zero", "nine", "six"]
    assert [row[0].index for row in expected][:3] == [0, 9, 6]
    assert all(len(row) == 3 and row[0].probability > row[1].probability for row in expected)
    assert classifier.predict(files, top=3) == expected
    assert classifier.predict([Image.open(file) for file in files], top=3) == expected
    assert classifier.predict(str(files[1]), top=3) == expected[1:2]
    assert classifier.predict_inputs(classifier.preprocessing(pixels), top=3) == expected


def test_files_that_cannot_be_read_are_reported_and_do_not_stop_the_others(
    digits: tuple, tmp_path: Path
) -> None:
    _, _, path = digits
    classifier = Classifier(path, provider="cpu", batch_size=2)
    for index in (0, 2, 3):
        Image.fromarray(TEST.images[index, 0]).save(tmp_path / f"{index}.png")
    (tmp_path / "1.png").write_text("not an image", encoding="utf-8")
    data = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(data[: len(data) // 2])

    files = find_images([tmp_path])
    results = list(predict_files(classifier, files, top=1))
    assert [result.file for result in results] == files
    assert [bool(result.problem) for result in results] == [False, True, False, True]
    assert results[0].predictions == classifier.predict(TEST.images[0, 0], top=1)[0]
    assert results[2].predictions[0].label == "six"
    assert results[1].problem.startswith(str(tmp_path / "1.png"))
    with pytest.raises(ImageError, match=r"1\.png: not an image"):
        classifier.predict(files)


def test_images_are_found_in_folders(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("b/2.JPG", "b/1.png", "a.bmp", "notes.txt"):
        (tmp_path / name).touch()
    files = find_images([tmp_path, tmp_path / "notes.txt"])
    assert files == [tmp_path / name for name in ("a.bmp", "b/1.png", "b/2.JPG", "notes.txt")]
    with pytest.raises(ImageError, match="nowhere: no such file"):
        find_images([tmp_path / "nowhere"])
    with pytest.raises(ImageError, match="no such file"):
        read_image(tmp_path / "nowhere.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="empty: no images in this folder"):
        find_images([tmp_path / "empty"])


def test_scores_of_every_output_kind_become_the_same_probabilities() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0], [1000.0, 0.0, -1000.0]])
    expected = logits.softmax(1).numpy()
    scores_by_kind = {
        "logits": logits.numpy(),
        "log_probabilities": logits.log_softmax(1).numpy(),
        "probabilities": expected,
    }
    for output_kind, scores in scores_by_kind.items():
        assert np.allclose(probabilities(scores, output_kind), expected, atol=1e-7)
        logs = log_probabilities(scores, output_kind)
        assert np.allclose(logs[0], logits.log_softmax(1)[0], atol=1e-6)
        assert np.isfinite(logs).all()
    with pytest.raises(
        InferenceError, match="not a classifier: the outputs are features of shape 3"
    ):
        probabilities(logits.numpy(), "features")


def test_without_labels_a_class_has_its_number_as_torch7_counts_it_from_1() -> None:
    model = SavedModel(torch.nn.Flatten(), "logits", (1, 1, 3))
    (row,) = Classifier(TorchPredictor(model)).predict_inputs(np.float32([[[[0, 5, 1]]]]), top=2)
    assert [(p.index, p.label) for p in row] == [(1, "2"), (2, "3")]


def test_inputs_that_do_not_fit_are_errors_of_one_sentence(digits: tuple) -> None:
    _, model, path = digits
    for predictor in (OnnxPredictor(path, "cpu"), TorchPredictor(model, "cpu")):
        with pytest.raises(
            InferenceError, match="inputs of shape 1×28×28, the network takes 1×32×32"
        ):
            predictor(np.zeros((2, 1, 28, 28), np.float32))
        classifier = Classifier(predictor)
        with pytest.raises(InferenceError, match="pixels must be uint8"):
            classifier.predict(np.zeros((2, 1, 32, 32), np.float32))
        with pytest.raises(InferenceError, match="no images"):
            classifier.predict([])
    with pytest.raises(InferenceError, match="labels=… is not the file's own"):
        open_predictor(path, labels=["a"])
    without = SavedModel(model.module, model.output_kind, model.input_shape)
    with pytest.raises(InferenceError, match=r"has no preprocessing.*mean_std=FILE"):
        Classifier(TorchPredictor(without)).predict(TEST.images[:1])


def test_a_model_in_double_precision_accepts_single_precision_inputs(digits: tuple) -> None:
    name, model, _ = digits
    double = open_model(DIGITS / f"{name}.t7", dtype=torch.float64)
    inputs = model.preprocessing(TEST.images[:4])
    scores = TorchPredictor(double)(inputs)
    assert scores.dtype == np.float64
    assert np.abs(scores - TorchPredictor(model)(inputs)).max() < 1e-4


def test_running_an_exported_classifier_does_not_import_torch(digits: tuple) -> None:
    _, _, path = digits
    code = (
        "import sys, numpy as np\n"
        "from torchlift.converters.onnx import Classifier\n"
        f"classifier = Classifier({str(path)!r}, 'cpu')\n"
        "classifier.predict(np.zeros((1, 1, 32, 32), np.uint8))\n"
        "assert 'torch' not in sys.modules and 'onnx' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_images_reach_a_network_in_its_channel_order(tmp_path: Path) -> None:
    model = SavedModel(
        torch.nn.Flatten(), "logits", (3, 1, 1), preprocessing=Preprocessing("BGR", (1, 1))
    )
    classifier = Classifier(TorchPredictor(model))
    Image.new("RGB", (4, 4), (255, 0, 102)).save(tmp_path / "pink.png")
    (row,) = classifier.predict(tmp_path / "pink.png", top=3)
    assert [prediction.index for prediction in row] == [2, 0, 1]
