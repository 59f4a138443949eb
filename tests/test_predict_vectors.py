"""`predict` with a network that gives features: vectors, and how alike two images are."""

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
from torchlift.cli.predict_vectors import gives_features
from torchlift.converters.images import Preprocessing
from torchlift.converters.saved import SavedModel, save


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A network that gives the mean of each channel, as RGB from 0 to 1."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    saved = SavedModel(network, "features", (3, 4, 4), preprocessing=Preprocessing(size=(4, 4)))
    return str(save(saved, tmp_path / "model"))


def images(folder: Path) -> list[str]:
    files = {"red.png": (255, 0, 0), "brown.png": (102, 51, 0), "black.png": (0, 0, 0)}
    for name, color in files.items():
        Image.new("RGB", (8, 6), color).save(folder / name)
    return [str(folder / name) for name in files]


def test_two_images_are_compared(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    red, brown, black = images(tmp_path)
    assert main(["predict", model, red, brown, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    vectors = [result["vector"] for result in document["results"]]
    assert np.allclose(vectors, [[1, 0, 0], [0.4, 0.2, 0]])
    assert document["cosine"] == pytest.approx(0.4 / np.hypot(0.4, 0.2))
    # No angle, and none of three.
    for given in ([red, black], [red, brown, black]):
        assert main(["predict", model, *given, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["cosine"] is None
    assert main(["predict", model, red, brown]) == 0
    assert "cosine 0.894427" in capsys.readouterr().out


def test_results_stand_in_the_order_of_the_inputs_which_may_be_uris(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a b").mkdir()
    red, brown, _ = images(tmp_path / "a b")
    missing = str(tmp_path / "no.png")
    assert main(["predict", model, Path(brown).as_uri(), missing, red, "--json"]) == 1
    results = json.loads(capsys.readouterr().out)["results"]
    assert [result["input"] for result in results] == [brown, missing, red]
    assert [bool(result["vector"]) for result in results] == [True, False, True]


def test_vectors_are_printed_and_written_to_no_table_of_classes(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    red, *_ = images(tmp_path)
    for name in ("out.csv", "out.jsonl"):
        assert main(["predict", model, red, "-o", str(tmp_path / name)]) == 1
        assert "features" in capsys.readouterr().err
        assert not list(tmp_path.glob(f"{name}*"))
    (tmp_path / "empty").mkdir()
    assert main(["predict", model, str(tmp_path / "empty")]) == 1
    assert "no images" in capsys.readouterr().err


def test_an_image_that_cannot_be_read_is_reported(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    red = images(tmp_path)[0]
    assert main(["predict", model, red, str(tmp_path / "no\x1b[2J.png"), "--json"]) == 1
    captured = capsys.readouterr()
    assert r"no\x1b[2J.png" in captured.err
    document = json.loads(captured.out)
    assert [result["problem"] is None for result in document["results"]] == [True, False]
    assert document["cosine"] is None
    # Two of three are no pair either.
    given = [*images(tmp_path)[:2], str(tmp_path / "no.png")]
    assert main(["predict", model, *given, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["cosine"] is None


def test_maps_of_features_are_no_vectors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    network = SavedModel(nn.Conv2d(3, 4, 1).eval(), "features", preprocessing=Preprocessing())
    path = str(save(network, tmp_path / "maps"))
    assert main(["predict", path, images(tmp_path)[0]]) == 1
    assert "red.png: not a classifier: the outputs are features of shape 4×6×8" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("output_kind", "said", "gives"),
    [
        ("features", "features", True),
        # Another program's file, whose outputs are features because nobody said more of them.
        ("features", None, False),
        ("logits", "logits", False),
        ("logits", None, False),
    ],
)
def test_a_file_gives_features_where_it_says_so(
    output_kind: str, said: str | None, gives: bool
) -> None:
    predictor: Any = SimpleNamespace(
        output_kind=output_kind, metadata=SimpleNamespace(output_kind=said)
    )
    assert gives_features(predictor) == gives
    # A network of PyTorch has no metadata: its kind is said.
    plain: Any = SimpleNamespace(output_kind=output_kind)
    assert gives_features(plain) == (output_kind == "features")
