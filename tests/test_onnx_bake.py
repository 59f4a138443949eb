"""Baked preprocessing, half precision and images of any size: the files give the same answers.

They are compared with the plain file, or with PyTorch, on inputs that NumPy preprocessed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from support import FIXTURES
from torch import nn

from torchlift.converters.images.image_scale import scale
from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.inference import Classifier, InferenceError
from torchlift.converters.onnx import OnnxError, check, export
from torchlift.converters.onnx.checker.graph_checks import unfolded_nodes
from torchlift.converters.onnx.exporter.bake_preprocessing import normalization_constants
from torchlift.converters.onnx.onnx_file import axes
from torchlift.converters.saved import SavedModel, open_model
from torchlift.transfer.data import read_dataset

DIGITS = FIXTURES / "digits"
DATA = read_dataset(DIGITS / "digits-test.t7")
MEAN, STD = 60.420907472773706, 84.66634636325098


@pytest.fixture(scope="module")
def digits() -> SavedModel:
    return open_model(
        DIGITS / "digits-lenet5-bn.t7",
        labels=DIGITS / "digits_classes.t7",
        mean_std=DIGITS / "digits_meanStd.t7",
    )


@pytest.fixture(scope="module")
def baked(digits: SavedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("baked") / "digits.onnx"
    export(digits, path, bake_preprocessing=True)
    return path


def run_bare(path: Path, inputs: np.ndarray) -> np.ndarray:
    """Return the outputs in ONNX Runtime alone, without torchlift."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": inputs})[0]


def test_a_baked_file_takes_raw_pixels(digits: SavedModel, baked: Path) -> None:
    normalized = (torch.from_numpy(DATA.images).float() - MEAN) / STD
    with torch.no_grad():
        expected = digits.module(normalized).numpy()
    outputs = run_bare(baked, DATA.images)
    # x * scale - shift rounds otherwise than (x - mean) / std, in single precision.
    assert np.abs(outputs - expected).max() < 1e-5 * np.abs(expected).max()
    assert (outputs.argmax(1) == DATA.classes).mean() == 0.982
    operators = [node.op_type for node in onnx.load(baked).graph.node][:4]
    assert operators == ["Cast", "Mul", "Sub", "Conv"]


def test_a_classifier_runs_a_baked_file_like_any_other(
    digits: SavedModel, baked: Path, tmp_path: Path
) -> None:
    export(digits, tmp_path / "plain.onnx")
    expected = Classifier(tmp_path / "plain.onnx").probabilities(DATA.images[:50])
    classifier = Classifier(baked)
    assert np.abs(classifier.probabilities(DATA.images[:50]) - expected).max() < 1e-5
    assert classifier.preprocessing is not None
    assert (classifier.preprocessing.value_range, classifier.preprocessing.mean) == (255, ())
    # Normalized inputs would be normalized again.
    with pytest.raises(InferenceError, match="takes pixels, whole numbers from 0 to 255"):
        classifier(np.zeros((1, 1, 32, 32), np.float32) + 0.5)


def test_channel_order_and_value_range_are_baked_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 7)).eval()
    preprocessing = Preprocessing("BGR", (8, 8), value_range=1, mean=mean, std=std)
    model = SavedModel(network, "logits", (3, 8, 8), preprocessing=preprocessing)
    export(model, tmp_path / "model.onnx", bake_preprocessing=True)
    pixels = np.random.default_rng(0).integers(0, 256, (9, 3, 8, 8), np.uint8)
    shape = (1, 3, 1, 1)
    inputs = (pixels[:, ::-1] / 255 - np.reshape(mean, shape)) / np.reshape(std, shape)
    with torch.no_grad():
        expected = network(torch.from_numpy(inputs).float()).numpy()
    assert np.abs(run_bare(tmp_path / "model.onnx", pixels) - expected).max() < 1e-5
    assert check(model, tmp_path / "model.onnx", pixels).passed


@pytest.mark.parametrize("color", ["RGB", "BGR", "gray"])
@pytest.mark.parametrize("value_range", [1, 255, (-1, 1), (0, 2), (16, 235)])
@pytest.mark.parametrize("numbers", [{}, {"mean": (0.5,), "std": (0.25,)}, {"std": (3.0,)}])
def test_the_constants_of_a_graph_compute_what_the_preprocessing_does(
    color: str, value_range: Any, numbers: dict[str, Any]
) -> None:
    preprocessing = Preprocessing(color, value_range=value_range, **numbers)
    channels = preprocessing.channels
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16).repeat(channels, 1)
    pixels[0, 0] //= 2
    constants = normalization_constants(preprocessing)
    order = constants.get("baked_order", np.arange(channels))
    computed = pixels[:, order] * constants["baked_scale"] - constants.get("baked_shift", 0)
    expected = preprocessing(pixels)
    np.testing.assert_allclose(computed, expected, atol=1e-6 * np.abs(expected).max())


def test_baked_preprocessing_rounds_what_image_scale_returns(tmp_path: Path) -> None:
    """The AlexNet case: Torch7 resized to fractions of a value, the graph takes whole values."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 5 * 7, 4)).eval()
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    preprocessing = Preprocessing("RGB", (5, 7), "image.scale-bilinear", mean=mean, std=std)
    model = SavedModel(network, "logits", (3, 5, 7), preprocessing=preprocessing)
    path = tmp_path / "model.onnx"
    export(model, path, bake_preprocessing=True)

    image = np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)
    resized = scale(image.transpose(2, 0, 1).astype(np.float32), (5, 7))
    assert not np.array_equal(resized, np.rint(resized))
    shape = (3, 1, 1)
    inputs = (np.rint(resized) / 255 - np.reshape(mean, shape)) / np.reshape(std, shape)
    with torch.no_grad():
        expected = network(torch.from_numpy(inputs[None]).float()).softmax(1).numpy()
    outputs = Classifier(path, "cpu").probabilities([image])
    # Other arithmetic in single precision; a wrong rounding changes 1e-4.
    assert np.abs(outputs - expected).max() < 1e-5


def test_check_examines_the_preprocessing_in_the_graph(
    digits: SavedModel, baked: Path, tmp_path: Path
) -> None:
    report = check(digits, baked, DATA.images[:40], classes=DATA.classes[:40], locate=True)
    assert report.passed, list(report.lines())
    assert check(digits, baked).data == "pixels from seed 0 (no data given)"

    stored = onnx.load(baked)
    scale = next(t for t in stored.graph.initializer if t.name == "baked_scale")
    scale.CopyFrom(
        onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(scale) * 1.1, "baked_scale")
    )
    onnx.save(stored, tmp_path / "tampered.onnx")
    report = check(digits, tmp_path / "tampered.onnx", DATA.images[:40], locate=True)
    assert {"weights", "outputs"} <= {f.name for f in report.findings if not f.passed}
    # The first node that diverges is one of the preprocessing.
    assert "baked_" in report.findings[-1].text

    # The metadata is compared as well as the graph.
    other = SavedModel(**{**vars(digits), "preprocessing": Preprocessing("gray", (32, 32))})
    failed = [finding.name for finding in check(other, baked).findings if not finding.passed]
    assert "baked" in failed


def test_preprocessing_that_cannot_be_baked(digits: SavedModel, tmp_path: Path) -> None:
    with pytest.raises(OnnxError, match="no preprocessing to bake"):
        export(digits.module, tmp_path / "m.onnx", input_shape=(1, 32, 32), bake_preprocessing=True)
    with pytest.raises(OnnxError, match="has 3 channels"):
        export(digits, tmp_path / "m.onnx", preprocessing=Preprocessing(), bake_preprocessing=True)
    assert list(tmp_path.iterdir()) == []


def test_half_precision_passes_its_own_limits_and_no_others(
    digits: SavedModel, baked: Path, tmp_path: Path
) -> None:
    export(digits, tmp_path / "half.onnx", fp16=True, bake_preprocessing=True)
    report = check(digits, tmp_path / "half.onnx", DATA.images, classes=DATA.classes)
    assert report.passed, list(report.lines())
    assert report.profile == "fp16"
    # Half the size, and an error that float32 would not have: it is float16 inside.
    sizes = [path.stat().st_size for path in (tmp_path / "half.onnx", baked)]
    assert sizes[0] < 0.55 * sizes[1]
    assert 1e-6 < report.error < 1e-2
    # Its outputs fail by the limits of float32; its numbers are what float16 makes of them.
    strict = check(digits, tmp_path / "half.onnx", DATA.images, profile="fp32-cpu")
    assert "outputs" in {f.name for f in strict.findings if not f.passed}


def test_weights_that_do_not_fit_half_precision(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight[0, 0] = 1e6
    with pytest.raises(OnnxError, match=r"above 65504 do not fit float16: weight"):
        export(model, tmp_path / "model.onnx", inputs=torch.zeros(2, 2), fp16=True)


def test_images_of_any_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()
    path = tmp_path / "model.onnx"
    export(network, path, input_shape=(3, 32, 32), any_size=True)
    assert axes(onnx.load(path).graph.input[0]) == ["batch", 3, "height", "width"]
    image = torch.randn(1, 3, 45, 70)
    with torch.no_grad():
        expected = network(image).numpy()
    assert np.abs(run_bare(path, image.numpy()) - expected).max() < 1e-6
    report = check(network, path, input_shape=(3, 32, 32))
    assert report.passed, list(report.lines())
    assert {comparison.input_shape for comparison in report.comparisons} > {
        (3, 32, 32),
        (3, 48, 64),
    }


def test_a_network_for_one_size_cannot_be_exported_for_any_size(
    digits: SavedModel, tmp_path: Path
) -> None:
    with pytest.raises(OnnxError, match="fixed input size: leave out any_size=True"):
        export(digits, tmp_path / "model.onnx", any_size=True)
    assert list(tmp_path.iterdir()) == []


def test_unfolded_nodes_are_found(baked: Path) -> None:
    stored = onnx.load(baked)
    assert unfolded_nodes(stored) == []
    node = next(n for n in stored.graph.node if n.op_type == "Conv")
    statistics = ["scale", "shift", "mean", "var"]
    for name in statistics:
        stored.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(6, "f4"), name))
    node.output[0], old = "raw", node.output[0]
    norm = onnx.helper.make_node("BatchNormalization", ["raw", *statistics], [old], "norm")
    constant = onnx.helper.make_node("Add", ["scale", "shift"], ["sum"], "constant")
    stored.graph.node.extend([norm, constant])
    assert sorted(unfolded_nodes(stored)) == ["constant", "norm"]
    # Where something else uses the convolution too, its weights cannot absorb the normalization.
    stored.graph.node.append(onnx.helper.make_node("Relu", ["raw"], ["other"], "other"))
    assert unfolded_nodes(stored) == ["constant"]


def test_a_normalization_behind_anything_but_a_linear_layer_stays() -> None:
    """Behind an activation, a pooling or the input there are no weights to absorb it."""
    for before in ("r = Relu (x)", "r = GlobalAveragePool (x)", "r = Conv (x, w)", ""):
        norm = f"y = BatchNormalization ({'r' if before else 'x'}, s, s, s, s)"
        model = onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["": 18]> g (float[1, 1, 2, 2] x) => (float[N] y)'
            " <float[1] s = {1}, float[1, 1, 1, 1] w = {2}> "
            f"{{ {before} {norm} }}"
        )
        model.graph.node[-1].name = "norm"
        assert unfolded_nodes(model) == (["norm"] if "Conv" in before else [])
