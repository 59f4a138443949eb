"""`torchlift plot` from the command line: every kind, every source, numbers and errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import FIXTURES

from torchlift.cli.main import main
from torchlift.converters import t7

DIGITS = FIXTURES / "digits"
MODEL = str(DIGITS / "digits-lenet5.t7")
DATA = str(DIGITS / "digits-test.t7")
NAMES = ["--labels", str(DIGITS / "digits_classes.t7")]
SCALE = ["--mean-std", str(DIGITS / "digits_meanStd.t7")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved model, an .onnx, a run and an evaluation, made by the commands themselves."""
    folder = tmp_path_factory.mktemp("plot")
    made = {name: folder / name for name in ("saved", "model.onnx", "run", "results")}
    assert main(["convert", MODEL, str(made["saved"]), *NAMES, *SCALE]) == 0
    assert main(["export", str(made["saved"]), str(made["model.onnx"])]) == 0
    options = ["--limit", "60", "--epochs", "2", "--tracker", "none", "--output", str(made["run"])]
    assert main(["train", "lenet5", DATA, *options]) == 0
    evaluated = ["evaluate", str(made["model.onnx"]), DATA, "--output", str(made["results"])]
    assert main(evaluated) == 0
    return made


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


def test_filters_of_a_t7_a_saved_model_and_an_onnx_file(
    made: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    found = plot(
        capsys, "filters", MODEL, made["saved"], made["model.onnx"], "--arrays", "filters.npz"
    )
    assert found["files"] == ["filters.png", "filters.npz"]
    assert Image.open("filters.png").format == "PNG"
    weight = t7.load(MODEL)["modules"][1]["weight"]
    assert [layer["source"] for layer in found["layers"]] == ["digits-lenet5", "saved", "model"]
    for layer in found["layers"]:
        assert layer["shape"] == [6, 1, 5, 5]
        assert layer["lowest"] == pytest.approx(float(weight.min()))
        assert layer["deviation"] == pytest.approx(float(weight.std()))
    arrays = np.load("filters.npz")
    assert sorted(arrays) == ["digits-lenet5/0", "model/0", "saved/0"]
    np.testing.assert_array_equal(arrays["model/0"].ravel(), weight.ravel())


def test_feature_maps_are_the_same_in_pytorch_and_onnxruntime(
    made: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    image = ["--image", DATA, "--index", "7", "--arrays", "maps.npz"]
    of_t7 = plot(capsys, "feature-maps", MODEL, *SCALE, *image, "--layers", "get(1),1,3")
    torchs = dict(np.load("maps.npz"))
    of_onnx = plot(capsys, "feature-maps", made["model.onnx"], *image, "--layers", "0,relu,3")
    assert [layer["shape"] for layer in of_t7["layers"]] == [[6, 28, 28], [6, 28, 28], [16, 10, 10]]
    assert [layer["class"] for layer in of_onnx["layers"]] == ["Conv", "Relu", "Conv"]
    assert of_t7["input"] == of_onnx["input"] == [32, 32, 1]
    onnx = list(dict(np.load("maps.npz")).values())
    for ours, theirs in zip(torchs.values(), onnx, strict=True):
        # Two implementations in float32.
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
    assert of_t7["layers"][1]["zeros"] == pytest.approx(float((torchs["0"] <= 0).mean()))


def test_units_runs_samples_confusion_and_sizes(
    made: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    units = plot(capsys, "weights", made["saved"], "--layers", "11", "--shape", "7x12")
    assert units["layers"][0]["shape"] == [10, 84]
    curves = plot(capsys, "curves", made["run"], "--titles", "first", "--output", "a/curves.svg")
    rows = [json.loads(line) for line in (made["run"] / "metrics.jsonl").read_text().splitlines()]
    assert curves["runs"] == [{"name": "first", "rows": rows}]
    assert Path("a/curves.svg").read_text().startswith("<?xml")
    samples = plot(capsys, "samples", DATA, "--limit", "5", "--model", made["saved"])["samples"]
    assert len(samples) == 5
    for sample in samples:
        assert len(sample["predictions"]) == 5
        assert next(iter(sample["predictions"].values())) == max(sample["predictions"].values())
    drawn = plot(capsys, "confusion", made["results"])
    stored = json.loads((made["results"] / "evaluation.json").read_text())
    assert (drawn["accuracy"], drawn["confusion"]) == (stored["accuracy"], stored["confusion"])
    again = plot(capsys, "confusion", MODEL, "--data", DATA, *NAMES, *SCALE)
    assert again["confusion"] == drawn["confusion"]
    assert drawn["labels"][0] == "zero"
    assert plot(capsys, "confusion", made["run"])["labels"][0] == "1"
    sizes = plot(capsys, "sizes", MODEL)
    assert sizes["bytes"] == Path(MODEL).stat().st_size
    assert sizes["parameters"] == 61_706
    assert plot(capsys, "sizes", made["saved"])["parameters"] == 61_706
    assert plot(capsys, "sizes", "torchvision:alexnet")["parameters"] == 61_100_840


def test_the_same_command_gives_the_same_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    # Random weights are the same ones again, too.
    for name in ("a.png", "b.png"):
        plot(capsys, "filters", "torchvision:squeezenet1_1", "--output", name)
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_what_does_not_go_is_said(
    made: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    onnx = made["model.onnx"]
    said = refusal(capsys, "curves", made["run"], "--layers", "0")
    assert "curves takes no --layers, which is for filters and feature-maps and weights" in said
    assert "no --data" in refusal(capsys, "sizes", MODEL, "--data", DATA)
    assert "2 --titles for 1 sources" in refusal(capsys, "filters", onnx, "--titles", "a,b")
    assert "2 sources: this kind of picture is of one" in refusal(capsys, "sizes", onnx, onnx)
    assert "ends in .png or .svg" in refusal(capsys, "sizes", onnx, "--output", "a.gif")
    assert "--arrays a.txt" in refusal(capsys, "filters", onnx, "--arrays", "a.txt")
    assert "name it, --image FILE" in refusal(capsys, "feature-maps", onnx)
    assert "no value 'nowhere'" in refusal(
        capsys, "feature-maps", onnx, "--image", "china", "--layers", "nowhere"
    )
    assert "--shape 5: a shape such as" in refusal(capsys, "weights", onnx, "--shape", "5")
    assert "an .onnx file is taken as it is" in refusal(capsys, "filters", onnx, *NAMES)
    assert "of a model, name the pictures too" in refusal(capsys, "confusion", MODEL)
    assert "no evaluation" in refusal(capsys, "confusion", _empty(Path("evaluation.json")))
    assert not Path("sizes.png").exists()


def _empty(file: Path) -> Path:
    file.write_text("{}")
    return file
