"""Results that are not finite: null in JSON, `nan` for people, and no traceback.

What is protected: a network whose weights are not numbers is predicted, evaluated, trained and
drawn like any other, and programs that read JSON never see NaN.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from support import FIXTURES, ROOT

from torchlift.cli.main import main
from torchlift.converters.saved import load, save
from torchlift.transfer.evaluation import outcomes, summarize

DATA = str(FIXTURES / "digits" / "digits-test.t7")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The saved model `m`, whose weights are not numbers, and its `m.onnx`."""
    folder = tmp_path_factory.mktemp("weights")
    model = load(FIXTURES / "0.1.0" / "model")
    for parameter in model.module.parameters():
        parameter.data.fill_(float("nan"))
    save(model, folder / "m")
    assert main(["export", str(folder / "m"), str(folder / "m.onnx")]) == 0
    return folder


def refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


@pytest.mark.parametrize(
    "line",
    [
        "predict {}/m.onnx DATA --top 2",
        "predict {}/m DATA --output {}/p.csv",
        "evaluate {}/m.onnx DATA --limit 40 --output {}/results",
        "plot confusion {}/m --data DATA --limit 40 --output {}/confusion.png",
        "plot samples DATA --model {}/m --limit 3 --output {}/samples.png",
        "plot weights {}/m --shape 16x5x5 --output {}/weights.png",
        "plot filters {}/m --output {}/filters.png",
        "plot feature-maps {}/m --image DATA --output {}/maps.png",
        "train convnet_bn sklearn:digits --lr 1e30 --epochs 2 --limit 100 --output {}/run",
        "plot curves {}/run --output {}/curves.png",
        "sweep train convnet_bn sklearn:digits lr=1e30,0.1 epochs=1 limit=100 --output {}/sweep",
    ],
)
def test_what_is_not_finite_is_null_in_json_and_nan_in_text(
    line: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.replace("{}", str(folder)).replace("DATA", DATA) for word in line.split()]
    again = {"train": ["--overwrite"], "predict": ["--overwrite"] * ("--output" in words)}
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out, parse_constant=refuse)
    schema = json.loads((ROOT / "docs" / "schemas" / f"{words[0]}.json").read_text("utf-8"))
    jsonschema.validate(document, schema)
    assert main(words + again.get(words[0], [])) == 0
    captured = capsys.readouterr()
    if words[0] in ("evaluate", "train", "sweep") or "--top" in words:
        assert "nan" in captured.out
    assert "Warning" not in captured.err


def test_quantize_refuses_outputs_that_are_not_numbers(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for flags in ([], ["--dynamic"]):
        words = ["quantize", f"{folder}/m.onnx", f"{folder}/int8.onnx", "--data", DATA]
        assert main([*words, "--limit", "20", *flags]) == 1
        err = capsys.readouterr().err
        assert "m.onnx: the outputs of 20 of 20 examples are not numbers (NaN)" in err
    assert not (folder / "int8.onnx").exists()


def test_a_score_that_is_not_a_number_counts_as_the_highest() -> None:
    scores: Any = np.array([[np.nan, 1, np.inf], [0, 2, 1], [0, np.nan, np.nan]], np.float32)
    images = outcomes(scores, "logits", np.array([2, 1, 2]))
    assert images.predicted.tolist() == [0, 1, 1]
    assert images.rank.tolist() == [1, 0, 1]
    result = summarize(images, ["a", "b", "c"])
    assert [result.correct, sum(one.correct for one in result.classes)] == [1, 1]
    assert sum(each.count for each in result.bins) == 1
    assert np.isnan(result.ece)
    assert result.notes == ["the scores of 2 of 3 images are not numbers"]
    assert result.to_json()["ece"] is None
