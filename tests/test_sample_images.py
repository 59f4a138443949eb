"""`sample --grid`: images that a generator makes of noise.

What is protected: the noise's size is the network's, the seed decides the images, values become
bytes as the last layer bounds them, and a grid has its rows and columns in order.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from torchlift.cli.main import main
from torchlift.cli.model_options import ModelOptions, OutputOptions
from torchlift.cli.sample import sample
from torchlift.cli.sample_images import sample_images
from torchlift.converters.images.image_to_image import ImageToImage
from torchlift.converters.inference import InferenceError, OnnxPredictor, TorchPredictor
from torchlift.converters.inference.image_sampling import (
    image_grid,
    noise_shape,
    output_of_generator,
)
from torchlift.converters.inference.image_sampling import sample_images as draw_images
from torchlift.converters.inference.metadata import Metadata
from torchlift.converters.input_shapes import parse_inputs
from torchlift.converters.modules.layers.container import ParallelTable
from torchlift.converters.modules.layers.table_arithmetic import CAddTable
from torchlift.converters.modules.packages.waifu2x import Clip01
from torchlift.converters.saved import SavedModel, save


def generator(folder: Path, last: nn.Module) -> str:
    """Write a network that turns 6 numbers into 3×2×4 pixels."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 24), nn.Unflatten(1, (3, 2, 4)), last).eval()
    return str(save(SavedModel(network, "features"), folder / "generator"))


def expected(model: str, seed: int, count: int) -> np.ndarray:
    """The outputs of the same noise, computed apart."""
    from torchlift.converters.saved import open_model

    noise = np.random.default_rng(seed).standard_normal((count, 6)).astype(np.float32)
    with torch.no_grad():
        output: np.ndarray = open_model(model).module(torch.as_tensor(noise)).numpy()
        return output


def test_images_stand_in_rows_with_two_pixels_between(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, target = generator(tmp_path, nn.Tanh()), tmp_path / "out.png"
    words = ["sample", model, "--grid", "2x3", "--seed", "7", "-o", str(target)]
    assert main([*words, "--json"]) == 0
    captured = capsys.readouterr()
    assert "-1 is black and 1 white" in captured.err
    assert json.loads(captured.out)["count"] == 6
    sheet = np.asarray(Image.open(target)).astype(float)
    assert sheet.shape == (2 + 2 + 2, 4 + 2 + 4 + 2 + 4, 3)
    outputs = 255 * (expected(model, 7, 6) + 1) / 2
    for number, output in enumerate(outputs):
        top, left = number // 3 * 4, number % 3 * 6
        image = sheet[top : top + 2, left : left + 4]
        assert np.abs(image - output.transpose(1, 2, 0)).max() <= 0.51
    assert main(words) == 1
    first = target.read_bytes()
    capsys.readouterr()
    assert main([*words, "--overwrite"]) == 0
    assert target.read_bytes() == first
    captured = capsys.readouterr()
    assert "1 white" in captured.err
    assert captured.out == f"6 images → {target}\n"
    assert main([*words, "--overwrite", "--seed", "8"]) == 0
    assert target.read_bytes() != first


def test_an_unbounded_output_needs_a_range(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, target = generator(tmp_path, nn.Identity()), tmp_path / "out.png"
    words = ["sample", model, "--grid", "1x1", "-o", str(target)]
    assert main(words) == 1
    assert "--output-range" in capsys.readouterr().err
    assert not target.exists()
    assert main([*words, "--output-range=-2,2", "--output-color=BGR"]) == 0
    outputs = 255 * np.clip((expected(model, 0, 1)[0] + 2) / 4, 0, 1)
    image = np.asarray(Image.open(target))[..., ::-1]
    assert np.abs(image - outputs.transpose(1, 2, 0)).max() <= 0.51


def test_other_networks_are_no_generators(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = nn.Sequential(nn.Linear(6, 24), nn.Tanh()).eval()
    model = str(save(SavedModel(network, "features"), tmp_path / "vector"))
    assert main(["sample", model, "--grid", "1x1", "-o", str(tmp_path / "o.png")]) == 1
    assert "no generator of images: the network gives 24" in capsys.readouterr().err
    for words in (["--grid", "1x1"], ["-o", "o.png"], ["--grid=1x1", "-oo.png", "--prime=a"]):
        assert main(["sample", model, *words]) == 2


@pytest.mark.slow
def test_an_exported_generator_makes_the_same_images(tmp_path: Path) -> None:
    model, onnx = generator(tmp_path, nn.Tanh()), str(tmp_path / "g.onnx")
    assert main(["export", model, onnx, "--input=6", "--output-range=-1,1"]) == 0
    made = []
    for name in (model, onnx):
        target = tmp_path / f"{len(made)}.png"
        assert main(["sample", name, "--grid", "3x3", "-o", str(target)]) == 0
        made.append(np.asarray(Image.open(target)).astype(int))
    assert np.abs(made[0] - made[1]).max() <= 1


def test_a_generator_of_noise_and_a_class_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = ParallelTable(nn.Linear(6, 24), nn.Linear(3, 24))
    network = nn.Sequential(both, CAddTable(), nn.Unflatten(1, (3, 2, 4)), nn.Tanh()).eval()
    model = str(save(SavedModel(network, "features", inputs=parse_inputs("[6,3]")), tmp_path / "m"))
    target = tmp_path / "out.png"
    assert main(["sample", model, "--grid", "1x1", "-o", str(target)]) == 1
    assert "begins with ParallelTable, which takes several inputs" in capsys.readouterr().err
    assert not target.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--grid", "2x2"], "images need both"),
        (["-o", "x.png"], "images need both"),
        (["--grid", "2x2", "-o", "x.png", "--prime", "a"], "are for texts"),
        (["--grid", "2x2", "-o", "x.png", "--vocab", "v.t7"], "are for texts"),
        (["--grid", "2x2", "-o", "x.jpg"], ".png"),
        (["--grid", "2x2", "-o", "x.png", "--output-mean"], "noise has no mean"),
    ],
)
def test_options_of_texts_and_of_images_exclude_each_other(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", "model", *words]) == 2
    assert message in capsys.readouterr().err


def test_images_get_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(
        "torchlift.cli.sample.sample_images", lambda *given, **named: seen.append((given, named))
    )
    options: dict[str, Any] = {
        "seed": 7,
        "noise": "uniform",
        "provider": "cuda",
        "overwrite": True,
        "output_options": OutputOptions(output_color="BGR"),
    }
    sample("m.t7", grid=(2, 3), output="x.png", at="netG", plugin="p.py", **options)
    opened = {"model_options": ModelOptions(at="netG", plugin="p.py")}
    assert seen == [(("m.t7", "x.png", (2, 3)), options | opened)]


def sampled(network: nn.Module, folder: Path, **options: Any) -> tuple[Any, np.ndarray]:
    """Return what `sample --grid` says and writes with a network that is not in a file."""
    said = OutputOptions(**{name: options.pop(name) for name in [*options] if "output" in name})
    model = SavedModel(network.eval(), "features", image_to_image=options.pop("known", None))
    predictor = TorchPredictor(model, "cpu")
    given: dict[str, Any] = {"seed": 3, "noise": "normal", "provider": "cpu", "overwrite": False}
    opened: Any = SimpleNamespace(predictor=lambda model, provider: predictor)
    result = sample_images(
        "net",
        str(folder / "x.png"),
        (1, 2),
        **given | options,
        model_options=opened,
        output_options=said,
    )
    return result, np.asarray(Image.open(folder / "x.png"))


def test_noise_and_outputs_are_as_asked(tmp_path: Path) -> None:
    """The network gives its noise: three numbers are the colors of one pixel."""
    network = nn.Sequential(nn.ConvTranspose2d(3, 3, 1, bias=False))
    network[0].weight.data = torch.eye(3)[:, :, None, None]
    draw = np.random.default_rng(3)
    noise = draw.uniform(-1, 1, (2, 3))
    for color, order in (("RGB", [0, 1, 2]), ("BGR", [2, 1, 0])):
        options = {"output_range": [-1.0, 1.0], "output_color": color, "noise": "uniform"}
        result, sheet = sampled(network, tmp_path, **options, overwrite=True)
        pixels = sheet[0, [0, 3]].astype(float)
        assert np.abs(pixels - 255 * (noise[:, order] + 1) / 2).max() <= 0.51
        assert (result.data["width"], result.data["height"]) == (4, 1)
    with pytest.raises(InferenceError, match="net: which values are black"):
        sampled(network, tmp_path, overwrite=True)
    with pytest.raises(InferenceError, match="no generator of images: the network gives 6"):
        sampled(nn.Sequential(nn.Linear(3, 6), nn.Sigmoid()), tmp_path, overwrite=True)


@pytest.mark.parametrize(
    ("said", "limits", "order"),
    [
        ({}, (-1, 1), [2, 1, 0]),
        ({"output_color": "RGB"}, (-1, 1), [0, 1, 2]),
        ({"output_range": [-2.0, 2.0]}, (-2, 2), [2, 1, 0]),
        ({"output_range": [-2.0, 2.0], "output_color": "RGB"}, (-2, 2), [0, 1, 2]),
    ],
)
def test_what_is_said_of_images_from_noise_wins_over_the_file_and_the_rest_of_it_holds(
    said: dict[str, Any], limits: tuple[float, float], order: list[int], tmp_path: Path
) -> None:
    """A file of BGR from -1 to 1, and a network that gives its noise."""
    network = nn.Sequential(nn.ConvTranspose2d(3, 3, 1, bias=False))
    network[0].weight.data = torch.eye(3)[:, :, None, None]
    _, sheet = sampled(
        network, tmp_path, known=ImageToImage((-1, 1), "BGR"), noise="uniform", **said
    )
    noise = np.random.default_rng(3).uniform(-1, 1, (2, 3))[:, order]
    low, high = limits
    expected = 255 * (noise - low) / (high - low)
    assert np.abs(sheet[0, [0, 3]].astype(float) - expected).max() <= 0.51


def test_a_file_that_says_its_range_needs_no_last_layer() -> None:
    known: Any = SimpleNamespace(image_to_image=ImageToImage((0, 255)))
    assert output_of_generator(known) is known.image_to_image
    for last, limits in ((nn.Tanh(), (-1, 1)), (nn.Sigmoid(), (0, 1))):
        network = SavedModel(nn.Sequential(nn.Linear(2, 2), last), "features")
        assert output_of_generator(TorchPredictor(network, "cpu")).limits == limits
    first = nn.Sequential(nn.ReLU(), nn.Conv2d(5, 7, 1))
    assert noise_shape(TorchPredictor(SavedModel(first, "features"), "cpu")) == (5, 1, 1)


def test_images_fill_rows_from_the_left() -> None:
    images = [np.full((1, 2), 10 * number, np.uint8) for number in range(1, 6)]
    sheet = np.asarray(image_grid(images, 2))
    assert sheet.shape == (1 + 2 + 1 + 2 + 1, 2 + 2 + 2)
    assert sheet[::3, ::4].tolist() == [[10, 20], [30, 40], [50, 0]]


class Recorded(OnnxPredictor):
    """Gives its inputs, and keeps their shapes and types."""

    given: list[Any]

    def __call__(self, inputs: Any) -> Any:
        self.given.append((inputs.shape, inputs.dtype))
        return inputs


def test_noise_is_in_single_precision() -> None:
    predictor: Any = object.__new__(Recorded)
    predictor.metadata, predictor.given = Metadata(inputs="3x2x2"), []
    draw_images(predictor, 17, ImageToImage((-4, 4)))
    assert predictor.given == [((16, 3, 2, 2), np.float32), ((1, 3, 2, 2), np.float32)]


def test_more_images_than_a_batch_have_noise_of_their_own() -> None:
    """Seventeen images of a network that gives its noise."""
    network = nn.Sequential(nn.ConvTranspose2d(1, 1, 1, bias=False))
    network[0].weight.data.fill_(1)
    predictor = TorchPredictor(SavedModel(network, "features"), "cpu")
    images = draw_images(predictor, 17, ImageToImage((-4, 4)), seed=1)
    noise = np.random.default_rng(1).standard_normal(17)
    assert np.abs(np.ravel(images) - (noise + 4) / 8 * 255).max() <= 0.51
    # The seed is 0 where nobody says another one.
    images = draw_images(predictor, 3, ImageToImage((-4, 4)))
    noise = np.random.default_rng(0).standard_normal(3)
    assert np.abs(np.ravel(images) - (noise + 4) / 8 * 255).max() <= 0.51


@pytest.mark.parametrize(
    ("inputs", "shape"),
    [("6", (6,)), ("6x1x1", (6, 1, 1)), ("?", None), ("3x?", None), ("6,2", None), (None, None)],
)
def test_the_noise_of_a_file_has_the_size_that_its_metadata_say(
    inputs: str | None, shape: tuple[int, ...] | None
) -> None:
    predictor = object.__new__(OnnxPredictor)
    predictor.metadata = Metadata(inputs=inputs)
    if shape is None:
        with pytest.raises(InferenceError, match="the file takes no noise of one size"):
            noise_shape(predictor)
    else:
        assert noise_shape(predictor) == shape


@pytest.mark.parametrize(
    ("last", "limits"),
    [(nn.Tanh(), (-1, 1)), (nn.Sigmoid(), (0, 1)), (Clip01(), (0, 1)), (nn.ReLU(), None)],
)
def test_the_last_layer_bounds_what_is_black_and_white(last: nn.Module, limits: Any) -> None:
    network = nn.Sequential(nn.Tanh(), nn.Linear(2, 2), nn.Sequential(last))
    predictor = TorchPredictor(SavedModel(network, "features"), "cpu")
    if limits is None:
        with pytest.raises(InferenceError, match="which values are black and white is not known"):
            output_of_generator(predictor)
        return
    assert output_of_generator(predictor).limits == limits


@pytest.mark.parametrize(
    ("layers", "problem"),
    [
        ([nn.ReLU()], "the network has no layer with weights, which takes no noise"),
        ([nn.Tanh(), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)], "the network begins with BatchNorm2d"),
        *(
            ([nn.Sequential(type(name, (nn.ReLU,), {})()), nn.Linear(3, 3)], f"with {name}, which")
            for name in ("CAddTable", "CMulTable", "FlattenTable", "JoinTable", "ParallelTable")
        ),
    ],
)
def test_what_does_not_begin_with_a_vector_of_noise_is_no_generator(
    layers: list[nn.Module], problem: str
) -> None:
    predictor = TorchPredictor(SavedModel(nn.Sequential(*layers), "features"), "cpu")
    with pytest.raises(InferenceError, match=problem):
        noise_shape(predictor)
