"""Files of `export --bake-resize` are classified, evaluated, checked and quantized as any other.

Expected is what the plain file, or the model itself, gives for the same images.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from support import FIXTURES
from torch import nn

from torchlift.cli.main import main
from torchlift.converters.images import Preprocessing, PreprocessingError
from torchlift.converters.inference import (
    Classifier,
    Metadata,
    OnnxPredictor,
    TorchPredictor,
    predict_files,
    providers,
)
from torchlift.converters.inference.image_decoding import preprocessing_outside
from torchlift.converters.onnx import OnnxError, check, describe_file, export, quantize
from torchlift.converters.onnx.checker import image_file
from torchlift.converters.onnx.checker.pair import ExportPair
from torchlift.converters.onnx.runtimes.installed import find_runtimes
from torchlift.converters.saved import SavedModel, open_model
from torchlift.transfer.data import read_dataset
from torchlift.transfer.evaluation import evaluate

DIGITS = FIXTURES / "digits"
DATA = read_dataset(DIGITS / "digits-test.t7")


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
    assert export(digits, path, bake_resize=True).inputs == ["image"]
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Digits of many sizes: gray, colored, with a palette, with alpha, turned by their EXIF."""
    folder = tmp_path_factory.mktemp("images")
    sizes = [(32, 32), (20, 45), (131, 77), (32, 32), (64, 64)]
    kinds = ["L", "RGB", "P", "RGBA", "L"]
    exif = Image.Exif()
    exif[0x0112] = 6
    for index, (size, mode) in enumerate(zip(sizes, kinds, strict=True)):
        image = Image.fromarray(DATA.images[index, 0]).resize(size).convert(mode)
        image.save(folder / f"{index}.png", exif=exif if index == 3 else None)
    return sorted(folder.iterdir())


def test_what_the_file_says_of_itself(baked: Path) -> None:
    described = describe_file(baked)
    assert described["inputs"] == [
        {"name": "image", "shape": ["height", "width", "channels"], "dtype": "uint8"}
    ]
    assert described["outputs"][0]["shape"] == [1, 10]
    assert (described["preprocessing"]["size"], described["preprocessing"]["mean"]) == (None, ())
    assert described["baked_preprocessing"]["size"] == (32, 32)


def test_images_of_all_kinds_are_classified(
    digits: SavedModel, baked: Path, images: list[Path]
) -> None:
    """In one list, one by one, as a stream of files, and by the three lines of the protocol."""
    expected = Classifier(TorchPredictor(digits, "cpu")).probabilities(images)
    classifier = Classifier(baked, "cpu")
    # Float32 is normalized in another order.
    assert np.abs(classifier.probabilities(images) - expected).max() < 1e-5
    assert np.abs(classifier.probabilities(images[1]) - expected[1]).max() < 1e-5
    found = [result.predictions[0].probability for result in predict_files(classifier, images)]
    assert found == pytest.approx(expected.max(axis=1).tolist(), abs=1e-5)


def test_an_image_that_the_graph_cannot_crop_stops_no_other(tmp_path: Path) -> None:
    """The model's own sentence, with the image's own size, and not that of a Reshape."""
    own = Preprocessing("RGB", "16", "image.scale-bilinear", crop=(12, 12))
    network = nn.Sequential(nn.Flatten(), nn.Linear(432, 2)).eval()
    model = SavedModel(network, "logits", (3, 12, 12), None, own)
    export(model, tmp_path / "f.onnx", bake_resize=True)
    files = [tmp_path / f"{name}.png" for name in ("square", "narrow", "wide")]
    for file, size in zip(files, [(40, 40), (10, 40), (40, 36)], strict=True):
        Image.new("RGB", size).save(file)
    problems = [result.problem for result in predict_files(Classifier(tmp_path / "f.onnx"), files)]
    reason = "an image of 40×10, resized to 16×4, is too small for a crop of 12×12"
    assert problems == ["", f"{files[1]}: {reason}", ""]
    with pytest.raises(PreprocessingError, match=reason):
        Classifier(tmp_path / "f.onnx").predict(Image.open(files[1]))


def test_a_dataset_is_evaluated(digits: SavedModel, baked: Path) -> None:
    data = DATA.take(np.arange(100))
    expected = evaluate(TorchPredictor(digits, "cpu"), data)
    result = evaluate(OnnxPredictor(baked, "cpu"), data)
    assert (result.correct, result.confusion) == (expected.correct, expected.confusion)


def test_check_passes_and_finds_a_changed_number(
    digits: SavedModel, baked: Path, tmp_path: Path
) -> None:
    report = check(digits, baked, DATA.images[:40], classes=DATA.classes[:40])
    assert report.passed, list(report.lines())
    found = {finding.name: finding.text for finding in report.findings}
    assert found["images"].startswith("100.0000% of the pixels of 16 images, 9×19 to 32×32")

    model = onnx.load(baked)
    # The half of Pillow's rounding to bytes.
    half = next(
        tensor
        for tensor in model.graph.initializer
        if tensor.name.startswith("baked_")
        and onnx.numpy_helper.to_array(tensor).tolist() == 2.0**21
    )
    half.CopyFrom(onnx.numpy_helper.from_array(np.array(0, np.float32), half.name))
    onnx.save(model, tmp_path / "changed.onnx")
    failed = check(digits, tmp_path / "changed.onnx", DATA.images[:40])
    assert [finding.name for finding in failed.findings if not finding.passed] == ["images"]


def test_a_pixel_may_be_off_by_one_and_of_an_enlarged_image_by_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few there are: rounding to bytes that is shifted moves a pixel by so much."""
    own = Preprocessing("gray", (32, 32))
    network = nn.Sequential(nn.Flatten(), nn.Linear(1024, 2)).eval()
    model = SavedModel(network, "logits", (1, 32, 32), None, own)
    export(model, tmp_path / "f.onnx", bake_resize=True)
    monkeypatch.setattr(image_file, "MIN_EQUAL", 0)
    monkeypatch.setattr(image_file, "_OUTPUTS", 1e9)
    for size, shift, off, passes in (
        ((70, 50), 2.0**19, 1, True),
        ((70, 50), 2.0**20, 2, False),
        ((20, 20), 2.0**20, 2, True),
        ((20, 20), 3 * 2.0**21, 4, False),
    ):
        image = np.random.default_rng(0).integers(0, 256, (*size, 1), np.uint8)
        monkeypatch.setattr(image_file, "odd_images", lambda *_, image=image: [image])
        graph = onnx.load(tmp_path / "f.onnx")
        (half,) = (
            tensor
            for tensor in graph.graph.initializer
            if onnx.numpy_helper.to_array(tensor).tolist() == 2.0**21
        )
        shifted = np.array(2.0**21 + shift, np.float32)
        half.CopyFrom(onnx.numpy_helper.from_array(shifted, half.name))
        onnx.save(graph, tmp_path / "shifted.onnx")
        pair = ExportPair.open(model, tmp_path / "shifted.onnx")
        with image_file.network_of(pair) as behind:
            finding = image_file.check_images(pair, behind, None, "cpu")
        assert f"off by at most {off} of 255" in finding.text
        assert finding.passed is passes, finding.text


def test_the_file_is_quantized(digits: SavedModel, baked: Path, tmp_path: Path) -> None:
    """Resizing stays in float: of the int8 file every pixel is the model's."""
    target = tmp_path / "int8.onnx"
    data: Any = DATA.images[:128]
    quantized = quantize(baked, target, data, classes=DATA.classes[:128])
    assert quantized.after >= quantized.before - 0.01
    report = check(digits, target, data, classes=DATA.classes[:128])
    assert report.passed, list(report.lines())


def test_both_kinds_of_baking_together_are_a_usage_error(
    digits: SavedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OnnxError, match="leave out bake_preprocessing=True"):
        export(digits, tmp_path / "x.onnx", bake_resize=True, bake_preprocessing=True)
    target = str(tmp_path / "x.onnx")
    words = ["export", "missing.t7", target, "--bake-resize", "--bake-preprocessing"]
    assert main(words) == 2
    assert "leave out --bake-preprocessing" in capsys.readouterr().err


def test_images_that_the_network_itself_refuses_are_not_compared(tmp_path: Path) -> None:
    """Reflection needs two pixels, PyTorch's instance normalization refuses one."""
    torch.manual_seed(3)
    layers = nn.ReflectionPad2d(1), nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4)
    own = Preprocessing(resize="none", mean=(0.5,), std=(0.25,))
    model = SavedModel(nn.Sequential(*layers).eval(), "features", (3, 8, 8), None, own)
    export(model, tmp_path / "f.onnx", bake_resize=True, any_size=True)
    report = check(model, tmp_path / "f.onnx", runtimes=find_runtimes(["onnxruntime"]))
    assert report.passed, list(report.lines())
    found = {finding.name: finding.text for finding in report.findings}
    compared = "of 8 images, 1×1 to" if reflects_one_pixel() else "of 7 images, 5×9 to"
    assert f"{compared} 768×1023" in found["images"]


@pytest.mark.parametrize("is_taken", [False, True])
def test_an_image_that_the_model_takes_and_the_file_does_not_is_a_finding(
    is_taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel of 3×3 takes no image of 1×1, which is no fault of the file."""
    own = Preprocessing(resize="none", mean=(0.5,), std=(0.25,))
    model = SavedModel(nn.Sequential(nn.Conv2d(3, 4, 3)).eval(), "features", (3, 8, 8), None, own)
    export(model, tmp_path / "f.onnx", bake_resize=True, any_size=True)
    if is_taken:  # As if the network did take it.
        monkeypatch.setattr(image_file, "network_takes", lambda network, inputs: True)
    report = check(model, tmp_path / "f.onnx", runtimes=find_runtimes(["onnxruntime"]))
    found = {finding.name: finding for finding in report.findings}["images"]
    assert found.passed is not is_taken
    assert ("ONNX Runtime fails on inputs of shape" in found.text) is is_taken


def reflects_one_pixel() -> bool:
    """Whether this ONNX Runtime pads a single pixel by its reflection, as 1.22 does."""
    pad = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]> g (float[1] x) => (float[N] y)'
        ' <int64[2] n = {1, 1}> { y = Pad <mode = "reflect"> (x, n) }'
    )
    session = onnxruntime.InferenceSession(pad.SerializeToString())
    try:
        session.run(None, {"x": np.ones(1, np.float32)})
    except Exception:  # ONNX Runtime's errors share no other base class.
        return False
    return True


def test_rounding_that_normalization_enlarges_is_allowed(tmp_path: Path) -> None:
    """A constant image through zeros around it: PyTorch's mean is exact, another one is not."""
    torch.manual_seed(5)
    layers: list[nn.Module] = []
    for channels in (3, 8):
        layers += [nn.Conv2d(channels, 8, 3, padding=1), nn.InstanceNorm2d(8), nn.ReLU()]
        layers[-3].weight.data *= 100
        layers[-3].bias.data *= 100
    network = nn.Sequential(*layers).eval()
    export(network, tmp_path / "f.onnx", input_shape=(3, 16, 16), output_kind="features")
    report = check(network, tmp_path / "f.onnx", input_shape=(3, 16, 16), output_kind="features")
    assert report.passed, list(report.lines())


@pytest.mark.parametrize(("allowed", "passed"), [([1.5], True), ([0.5], False), ([], False)])
def test_outputs_behind_the_pixels_may_be_off_by_rounding_alone(
    allowed: list[float],
    passed: bool,
    digits: SavedModel,
    baked: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The network alone gives outputs that are 1 larger; how much is rounding is made up."""
    opened: list[Path] = []

    def open_session(path: Path, provider: str) -> Any:
        session = providers.open_session(path, provider)
        opened.append(path)
        if len(opened) == 1:
            return session
        return SimpleNamespace(run=lambda inputs: [one + 1 for one in session.run(inputs)])

    def rounding(module: nn.Module, inputs: np.ndarray, profile: str) -> list[float]:
        assert (profile, inputs.shape[1:]) == ("fp32-cpu", (1, 32, 32))
        return allowed

    monkeypatch.setattr(image_file, "open_session", open_session)
    monkeypatch.setattr(image_file, "allowed_rounding", rounding)
    report = check(digits, baked, DATA.images[:4])
    (found,) = [finding for finding in report.findings if finding.name == "images"]
    assert found.passed == passed, found.text
    assert ("the outputs are not those of the network" in found.text) != passed


def test_preprocessing_that_cannot_be_taken_off_is_an_error(baked: Path) -> None:
    model = onnx.load(baked)
    del model.graph.value_info[:]
    with pytest.raises(OnnxError, match="the graph does not say what shape"):
        image_file._without_preprocessing(model)
    for node in model.graph.node:
        node.name = "other"
    with pytest.raises(OnnxError, match="the graph takes an image, but has no"):
        image_file._without_preprocessing(model)


OUTSIDE = Preprocessing(resize="none", value_range=255)
INSIDE = Preprocessing(crop=(4, 6), mean=(0.5,))


@pytest.mark.parametrize(
    ("outside", "inside", "checks"),
    [
        (OUTSIDE, INSIDE, True),
        (OUTSIDE, None, False),
        (None, INSIDE, False),
        # The graph does the last steps alone.
        (Preprocessing(crop=(4, 6), value_range=255), INSIDE, False),
    ],
)
def test_an_image_that_a_graph_cannot_take_is_refused_before_it(
    outside: Preprocessing | None, inside: Preprocessing | None, checks: bool
) -> None:
    """A graph has no words for it. What is said of the preprocessing is that of the file."""
    found = preprocessing_outside(Metadata(preprocessing=outside, baked_preprocessing=inside))
    if not checks:
        assert found is outside
        return
    assert found is not None
    assert isinstance(found, Preprocessing)
    assert outside is not None
    assert found.to_json() == outside.to_json()
    pixels = np.zeros((4, 6, 3), np.uint8)
    assert found.pixels([pixels]).shape == (1, 4, 6, 3)
    for shape in ((3, 9, 3), (9, 5, 3), (6, 4, 3)):
        with pytest.raises(PreprocessingError, match=rf"{shape[0]}×{shape[1]} is too small for a"):
            found.pixels(np.zeros(shape, np.uint8))
