"""`lab mnist-features`: its networks reach the lab's accuracy, its figures show what they claim."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab_support import finished_steps
from PIL import Image
from support import FIXTURES, SHARED

from torchlift.cli.main import main
from torchlift.converters.saved import load

ALEXNET = FIXTURES / "models" / "alexnetowtbn_small.t7"
_MNIST = SHARED / "data" / "t10k-images-idx3-ubyte.gz"


def results(folder: Path, *words: str) -> list[Any]:
    """Return the results of the lab's commands that start with these words."""
    steps = finished_steps(folder)
    return [step["result"] for step in steps if step["words"][: len(words)] == list(words)]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the lab on a few digits, with a photograph and an AlexNet that Torch7 wrote."""
    folder = tmp_path_factory.mktemp("lab")
    pixels = np.random.default_rng(0).integers(0, 256, (45, 60, 3), dtype=np.uint8)
    photo = folder / "photo.png"
    Image.fromarray(pixels).save(photo)
    words = ["--limit", "300", "--epochs", "1", "--photo", str(photo), "--model", str(ALEXNET)]
    mean_std = ["--mean-std", str(FIXTURES / "cifar" / "cifar_meanStd.t7")]
    assert main(["lab", "mnist-features", "--output", str(folder / "lab"), *words, *mean_std]) == 0
    return folder / "lab"


@pytest.mark.slow
class TestReport:
    def test_shapes_on_the_photograph_follow_the_formula(self, done: Path) -> None:
        filters = "python:torchlift.transfer.networks.photo_filters:photo_filters"
        plots = results(done, "plot", "feature-maps", filters)
        layers = [layer for plot in plots for layer in plot["layers"]]
        shapes = {layer["layer"]: tuple(layer["shape"]) for layer in layers}
        assert shapes == {
            **dict.fromkeys(("blur", "sharpen", "outline"), (1, 45, 60)),
            **dict.fromkeys(("horizontal_edges", "vertical_edges"), (1, 45, 60)),
            "no_padding": (1, 43, 58),
            "padding_2": (1, 47, 62),
            "stride_2": (1, 23, 30),
            "stride_4": (1, 12, 15),
            **dict.fromkeys(("max_pool_2", "average_pool_2"), (1, 22, 30)),
            **dict.fromkeys(("max_pool_8", "average_pool_8"), (1, 5, 7)),
        }
        summary = next(
            result for result in results(done, "summary") if result["input_shape"][1] == 45
        )
        assert {
            row["torch_path"]: tuple(row["output_shape"]) for row in summary["layers"]
        } == shapes

    def test_untrained_weights_follow_torchs_initialization(self, done: Path) -> None:
        before, after = results(done, "plot", "weights")[1]["layers"]
        assert (before["title"], after["title"]) == ("before", "after")
        # Uniform within 1/√784.
        assert 0.99 / 28 < before["highest"] <= 1 / 28
        assert before["deviation"] == pytest.approx(1 / 28 / 3**0.5, rel=0.02)
        assert after["highest"] > before["highest"]
        # The figure shows the weights of the saved model.
        weight = load(done / "mlp30" / "model").module[1].weight
        assert after["highest"] == pytest.approx(float(weight.detach().max()))

    def test_feature_maps_of_alexnet_are_before_and_after_the_relu(self, done: Path) -> None:
        first, second = (
            plot["layers"]
            for plot in results(done, "plot", "feature-maps")
            if plot["layers"][0]["shape"][0] in (8, 24)
        )
        for convolution, relu in (first, second):
            assert (convolution["torch_class"], relu["torch_class"]) == ("Conv2d", "ReLU")
            assert convolution["shape"] == relu["shape"]
            assert convolution["lowest"] < 0 == relu["lowest"]
            assert convolution["zeros"] < 0.01 < relu["zeros"]
        assert [first[0]["layer"], second[0]["layer"]] == ["0.0", "0.4"]
        assert "No pretrained AlexNet" not in (done / "report.md").read_text(encoding="utf-8")

    def test_alexnet_gets_images_resized_by_image_scale(self, done: Path) -> None:
        commands = [step["words"] for step in finished_steps(done)]
        opened = [words for words in commands if str(ALEXNET) in words]
        assert len(opened) == 4
        for words in opened:
            assert words[words.index("--resize") + 1] == "image.scale-bilinear"


@pytest.mark.slow
def test_a_model_without_two_convolutions_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--limit", "60", "--epochs", "1", "--model", "torchvision:vit_b_16"]
    assert main(["lab", "mnist-features", "--output", str(tmp_path / "lab"), *words]) == 1
    assert "the lab needs a network with two convolutions" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not _MNIST.is_file(), reason="needs the test split of MNIST")
def test_accuracy_on_2000_digits_of_mnist(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    words = ["--data", str(_MNIST), "--epochs", "8", "--output", str(folder)]
    assert main(["lab", "mnist-features", *words]) == 0
    counts = {row["split"]: row["count"] for row in results(folder, "split")[0]["splits"]}
    assert counts == {"train": 2000, "val": 2000, "test": 1000}
    required = {"logistic": 0.85, "mlp30": 0.87, "small_cnn": 0.92}
    for network, accuracy in required.items():
        history = results(folder, "train", network)[0]["history"]
        best = max(row["val_accuracy"] for row in history)
        assert best >= accuracy, network
