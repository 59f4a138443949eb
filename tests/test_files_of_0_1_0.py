"""Files that torchlift 0.1.0 wrote (`fixtures/0.1.0`) open and give the numbers they gave then.

`expected.json` holds what 0.1.0 itself computed. A saved model, an `.onnx` file, stored features
and a run are contracts with the people who hold them: a rule that changes gets a new name or a
new version, and these stay as they are.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from onnx.reference import ReferenceEvaluator
from onnx.version_converter import convert_version
from support import FIXTURES

from torchlift.cli.main import main
from torchlift.converters import load_model
from torchlift.converters.inference import open_predictor
from torchlift.converters.inference.providers import open_session
from torchlift.converters.saved import load
from torchlift.converters.saved.config import describe_folder
from torchlift.transfer.data import open_data
from torchlift.transfer.features.extractors import network_digest
from torchlift.transfer.features.files import read_features

OLD = FIXTURES / "0.1.0"
DIGITS = FIXTURES / "digits"
EXPECTED: dict[str, Any] = json.loads((OLD / "expected.json").read_text(encoding="utf-8"))

#: Other versions of torch and ONNX Runtime add up in another order.
TOLERANCE = 1e-5


def outputs_of(name: str, images: Any) -> np.ndarray:
    """The scores that a file gives for images that its own preprocessing has been applied to."""
    predictor = open_predictor(OLD / name, "cpu")
    assert predictor.preprocessing is not None
    return predictor(predictor.preprocessing(images))


def assert_as_before(actual: np.ndarray, expected: Any) -> None:
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * scale)


@pytest.mark.parametrize("name", ["model", "model.onnx", "model-baked.onnx"])
def test_a_classifier_gives_the_scores_it_gave(name: str) -> None:
    images = open_data(DIGITS / "digits-test.t7").images[:5]
    assert_as_before(outputs_of(name, images), EXPECTED[name])


def test_an_int8_file_gives_the_scores_of_its_graph() -> None:
    """`expected.json` has others: 8-bit weights overflowed on that processor, without VNNI."""
    images = open_data(DIGITS / "digits-test.t7").images[:5]
    predictor = open_predictor(OLD / "model-int8.onnx", "cpu")
    assert predictor.preprocessing is not None
    inputs = predictor.preprocessing(images)
    # The reference evaluator of onnx has no DequantizeLinear of opset 18.
    graph = convert_version(onnx.load(OLD / "model-int8.onnx"), 21)
    (expected,) = ReferenceEvaluator(graph).run(None, {"input": inputs})
    assert_as_before(predictor(inputs), expected)


def test_sums_of_8_bit_products_are_exact_on_every_processor() -> None:
    """Without VNNI pairs of them are added in 16 bits, unless ONNX Runtime is told to be exact."""
    options = open_session(OLD / "model-int8.onnx", "cpu").runtime.get_session_options()
    assert options.get_session_config_entry("session.x64quantprecision") == "1"


@pytest.mark.parametrize("name", ["nearest", "nearest.onnx", "scaled", "scaled.onnx"])
def test_resizing_gives_the_pixels_it_gave(name: str) -> None:
    """`torch-nearest` of format 1 takes the pixel at each centre; image.scale is cropped after."""
    drawn = EXPECTED["image"]
    generator = np.random.default_rng(drawn["seed"])
    image = generator.integers(0, 256, drawn["shape"], dtype=np.uint8)
    assert_as_before(outputs_of(name, [image]), EXPECTED[name])


def test_the_saved_model_keeps_what_it_says_of_itself() -> None:
    model = load(OLD / "model")
    assert model.output_kind == "log_probabilities"
    assert model.input_shape == (1, 32, 32)
    assert model.labels is not None
    assert model.labels[0] == "zero"
    assert model.source is not None
    assert model.source.file == "digits-lenet5-bn.t7"


@pytest.mark.parametrize("name", ["model.onnx", "model-baked.onnx", "model-int8.onnx"])
def test_an_onnx_file_passes_the_check_against_its_model(name: str) -> None:
    data = str(DIGITS / "digits-test.t7")
    assert main(["check", str(OLD / "model"), str(OLD / name), "--data", data]) == 0


@pytest.mark.parametrize("name", ["model", "model.onnx"])
def test_a_classifier_is_evaluated(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """0.982 is what Lua printed for this network."""
    assert main(["evaluate", str(OLD / name), str(DIGITS / "digits-test.t7"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == 0.982


def test_stored_features_are_read_and_probed(capsys: pytest.CaptureFixture[str]) -> None:
    data = read_features(OLD / "features")["penultimate"]
    expected = EXPECTED["features"]
    assert data.classes is not None
    assert data.classes.tolist() == expected["classes"]
    assert data.images[0].tolist() == expected["first"]
    assert float(data.images.astype(float).sum()) == pytest.approx(expected["sum"])
    assert main(["probe", str(OLD / "features"), "--methods", "logistic", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"]


def as_begun_by_this_torch(store: Path) -> None:
    """Let the torch that is installed complete a store: only the version that began it may.

    What that version printed of the network is part of the model's fingerprint, too.
    """
    file, backend = store / "zarr.json", f"torch {torch.__version__} (cpu)"
    document = json.loads(file.read_text(encoding="utf-8"))
    manifest = document["attributes"]["torchlift_features"]
    if manifest["backend"] != backend:
        digest = network_digest(load_model(DIGITS / "digits-lenet5-bn.t7"))
        manifest.update(backend=backend, model=digest)
        file.write_text(json.dumps(document), encoding="utf-8")


def test_stored_features_that_are_incomplete_are_completed(tmp_path: Path) -> None:
    store = tmp_path / "features"
    shutil.copytree(OLD / "features", store)
    as_begun_by_this_torch(store)
    chunk = store / "features" / "penultimate" / "c" / "0" / "0"
    before = np.frombuffer(chunk.read_bytes(), np.float32)
    chunk.unlink()
    model, scale = (str(DIGITS / name) for name in ("digits-lenet5-bn.t7", "digits_meanStd.t7"))
    data = str(DIGITS / "digits-test.t7")
    words = ["extract", model, data, str(store), "--mean-std", scale, "--limit", "60"]
    assert main(words) == 0
    assert_as_before(np.frombuffer(chunk.read_bytes(), np.float32), before)


def test_the_config_of_a_run_is_taken(tmp_path: Path) -> None:
    config = str(OLD / "run" / "config.yaml")
    words = ["softmax", "digits", "--output"]
    assert main(["train", "--config", config, *words, str(tmp_path / "run")]) == 0
    sweep = ["sweep", "train", *words[:2], "epochs=0", "--base", config]
    assert main([*sweep, "--output", str(tmp_path / "sweep")]) == 0
    for folder in (tmp_path / "run", tmp_path / "sweep" / "001"):
        options = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        assert (options["limit"], options["test_fraction"]) == (300, 0.2)


def test_a_run_goes_on_as_it_would_have_gone_on_then(tmp_path: Path) -> None:
    """Options that have other names today are the same options: nothing starts anew."""
    run = tmp_path / "run"
    shutil.copytree(OLD / "run", run)
    options = ["--epochs", "4", "--limit", "300", "--test-fraction", "0.2", "--resume", "auto"]
    assert main(["train", "softmax", "digits", "--output", str(run), *options]) == 0
    text = (run / "metrics.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    assert len(rows) == len(EXPECTED["run"]) == 4
    for row, expected in zip(rows, EXPECTED["run"], strict=True):
        # Later epochs have more metrics.
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-4)


def test_the_results_of_a_run_are_drawn_and_its_model_is_used(tmp_path: Path) -> None:
    for kind, source in (("curves", "run"), ("confusion", "run"), ("weights", "run/model")):
        target = tmp_path / f"{kind}.png"
        assert main(["plot", kind, str(OLD / source), "--output", str(target)]) == 0
        assert target.stat().st_size > 0
    assert main(["evaluate", str(OLD / "run" / "model"), "digits"]) == 0


def test_statistics_of_a_normalization_are_no_parameters() -> None:
    """The format did not count them; the network has 61,750."""
    assert describe_folder(FIXTURES / "0.1.0" / "model")["parameters"] == 61_750
