"""`torchlift plot` on the command line: every kind, every source, values and errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import FIXTURES
from torch import nn

from torchlift.cli.main import main
from torchlift.converters import t7
from torchlift.converters.saved import SavedModel, save

DIGITS = FIXTURES / "digits"
MODEL = str(DIGITS / "digits-lenet5.t7")
DATA = str(DIGITS / "digits-test.t7")
NAMES = ["--labels", str(DIGITS / "digits_classes.t7")]
SCALE = ["--mean-std", str(DIGITS / "digits_meanStd.t7")]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved model, an .onnx file, a run and an evaluation, written by the commands."""
    folder = tmp_path_factory.mktemp("plot")
    paths = {name: folder / name for name in ("saved", "model.onnx", "run", "results")}
    assert main(["convert", MODEL, str(paths["saved"]), *NAMES, *SCALE]) == 0
    assert main(["export", str(paths["saved"]), str(paths["model.onnx"])]) == 0
    options = ["--limit", "60", "--epochs", "2", "--tracker", "none", "--output", str(paths["run"])]
    assert main(["train", "lenet5", DATA, *options]) == 0
    evaluated = ["evaluate", str(paths["model.onnx"]), DATA, "--output", str(paths["results"])]
    assert main(evaluated) == 0
    return paths


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plot(capsys: pytest.CaptureFixture[str], *words: str | Path) -> Any:
    code = main(["plot", *map(str, words), "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def refusal(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    assert main(["plot", *map(str, words)]) == 1
    return capsys.readouterr().err


def usage_error(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    assert main(["plot", *map(str, words)]) == 2
    return capsys.readouterr().err


def test_filters_of_a_t7_a_saved_model_and_an_onnx_file(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    result = plot(
        capsys, "filters", MODEL, files["saved"], files["model.onnx"], "--arrays", "filters.npz"
    )
    assert result["files"] == ["filters.png", "filters.npz"]
    assert Image.open("filters.png").format == "PNG"
    weight = t7.load(MODEL)["modules"][1]["weight"]
    assert [layer["title"] for layer in result["layers"]] == ["digits-lenet5", "saved", "model"]
    for layer in result["layers"]:
        assert layer["shape"] == [6, 1, 5, 5]
        assert layer["lowest"] == pytest.approx(float(weight.min()))
        assert layer["deviation"] == pytest.approx(float(weight.std()))
    arrays = np.load("filters.npz")
    assert sorted(arrays) == ["digits-lenet5/0", "model/0", "saved/0"]
    np.testing.assert_array_equal(arrays["model/0"].ravel(), weight.ravel())


def test_arrays_of_models_of_one_name_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    """Arrays are named by their titles: one would take the place of the other without a word."""
    for folder, value in (("a", 1.0), ("b", 2.0)):
        layer = nn.Conv2d(1, 2, 3, bias=False)
        nn.init.constant_(layer.weight, value)
        Path(folder).mkdir()
        save(SavedModel(nn.Sequential(layer), "features"), Path(folder) / "net")
    words = ["filters", "a/net", "b/net", "--arrays", "f.npz"]
    found = plot(capsys, *words)
    assert [layer["title"] for layer in found["layers"]] == ["a/net", "b/net"]
    means = {name: float(array.mean()) for name, array in np.load("f.npz").items()}
    assert means == {"a/net/0": 1.0, "b/net/0": 2.0}
    message = usage_error(capsys, *words, "--overwrite", "--titles", "one,one")
    assert "--arrays names arrays by their titles: give different --titles" in message
    plot(capsys, *words[:3], "--overwrite", "--titles", "one,one")


def test_feature_maps_are_the_same_in_pytorch_and_onnxruntime(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    image = ["--image", DATA, "--index", "7", "--arrays", "maps.npz"]
    of_t7 = plot(capsys, "feature-maps", MODEL, *SCALE, *image, "--layers", "get(1),1,3")
    torch_maps = dict(np.load("maps.npz"))
    of_onnx = plot(
        capsys, "feature-maps", files["model.onnx"], *image, "--layers", "0,relu,3", "--overwrite"
    )
    assert [layer["shape"] for layer in of_t7["layers"]] == [[6, 28, 28], [6, 28, 28], [16, 10, 10]]
    assert [layer["torch_class"] for layer in of_onnx["layers"]] == ["Conv", "Relu", "Conv"]
    assert of_t7["input_shape"] == of_onnx["input_shape"] == [1, 32, 32]
    onnx_maps = dict(np.load("maps.npz"))
    for actual, expected in zip(onnx_maps.values(), torch_maps.values(), strict=True):
        # Two implementations in float32.
        np.testing.assert_allclose(actual, expected, atol=2e-5)
    assert of_t7["layers"][1]["zeros"] == pytest.approx(float((torch_maps["0"] <= 0).mean()))


def test_units_runs_samples_confusion_and_sizes(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    units = plot(capsys, "weights", files["saved"], "--layers", "11", "--shape", "7x12")
    assert units["layers"][0]["shape"] == [10, 84]
    curves = plot(capsys, "curves", files["run"], "--titles", "first", "--output", "a/curves.svg")
    rows = [
        json.loads(line)
        for line in (files["run"] / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert curves["runs"] == [{"name": "first", "rows": rows}]
    assert Path("a/curves.svg").read_text(encoding="utf-8").startswith("<?xml")
    samples = plot(capsys, "samples", DATA, "--limit", "5", "--model", files["saved"])["samples"]
    assert len(samples) == 5
    for sample in samples:
        assert len(sample["predictions"]) == 5
        probabilities = [prediction["probability"] for prediction in sample["predictions"]]
        assert probabilities == sorted(probabilities, reverse=True)
    confusion = plot(capsys, "confusion", files["results"])
    stored = json.loads((files["results"] / "evaluation.json").read_text(encoding="utf-8"))
    assert (confusion["accuracy"], confusion["confusion"]) == (
        stored["accuracy"],
        stored["confusion"],
    )
    evaluated = plot(capsys, "confusion", MODEL, "--data", DATA, *NAMES, *SCALE, "--overwrite")
    assert evaluated["confusion"] == confusion["confusion"]
    assert confusion["labels"][0] == "zero"
    assert plot(capsys, "confusion", files["run"], "--overwrite")["labels"][0] == "1"
    sizes = plot(capsys, "sizes", MODEL)
    assert sizes["bytes"] == Path(MODEL).stat().st_size
    assert sizes["parameters"] == 61_706
    assert plot(capsys, "sizes", files["saved"], "--overwrite")["parameters"] == 61_706
    assert plot(capsys, "sizes", "torchvision:alexnet", "--overwrite")["parameters"] == 61_100_840


def test_the_same_command_gives_the_same_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    # Random weights are the same each time.
    for name in ("a.png", "b.png"):
        plot(capsys, "filters", "torchvision:squeezenet1_1", "--output", name)
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_options_that_do_not_fit_the_kind_are_usage_errors(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    onnx = files["model.onnx"]
    message = usage_error(capsys, "curves", files["run"], "--layers", "0")
    assert "curves takes no --layers, which is for filters and feature-maps and weights" in message
    assert "no --data" in usage_error(capsys, "sizes", MODEL, "--data", DATA)
    assert "2 --titles for 1 sources" in usage_error(capsys, "filters", onnx, "--titles", "a,b")
    assert "this kind of plot takes one" in usage_error(capsys, "sizes", onnx, onnx)
    assert "a.txt: .npz is written" in usage_error(capsys, "filters", onnx, "--arrays", "a.txt")
    assert "need an image: --image FILE" in usage_error(capsys, "feature-maps", onnx)
    assert "--shape: a shape such as" in usage_error(capsys, "weights", onnx, "--shape", "5")
    assert not Path("sizes.png").exists()


def test_sources_that_cannot_be_drawn_are_refused(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    onnx = files["model.onnx"]
    assert ".png or .svg is written" in usage_error(capsys, "sizes", onnx, "--output", "a.gif")
    assert "no value 'nowhere'" in refusal(
        capsys, "feature-maps", onnx, "--image", "china", "--layers", "nowhere"
    )
    message = refusal(capsys, "weights", onnx, "--shape", "7x7")
    assert (
        "inputs do not form an image of 1×7×7; give its shape, such as --shape 1x28x28" in message
    )
    assert "do not apply to an .onnx file" in refusal(capsys, "filters", onnx, *NAMES)
    assert "name the images too: --data" in refusal(capsys, "confusion", MODEL)
    assert "no evaluation" in refusal(capsys, "confusion", _empty(Path("evaluation.json")))


def _empty(file: Path) -> Path:
    file.write_text("{}", encoding="utf-8")
    return file
