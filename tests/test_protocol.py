"""The scripts of docs/protocol reproduce `predict` with numpy, Pillow and ONNX Runtime alone."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import ROOT
from torch import nn

from torchlift.converters.images.image_to_image import ImageToImage
from torchlift.converters.images.preprocessing import COLORS, Preprocessing
from torchlift.converters.inference import Classifier
from torchlift.converters.inference.metadata import PRECISIONS, Metadata
from torchlift.converters.onnx import export
from torchlift.converters.saved import SavedModel
from torchlift.converters.saved.config import OUTPUT_KINDS
from torchlift.converters.vocabulary import BYTES, UTF_8, Vocabulary

SCRIPTS = ROOT / "docs" / "protocol"
LABELS = ["ant", "bee", "cat", "dog", "eel"]


def steps(**changes: object) -> Preprocessing:
    values = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4), **changes}
    return Preprocessing(**values)  # type: ignore[arg-type]  # tests alone name them


CASES = [
    ("pillow_resize", steps(size=40, crop=(31, 28))),
    ("pillow_resize", steps(size=(31, 28), resize="pil-bicubic", color="BGR", value_range=255)),
    ("torch_resize", steps(size=40, resize="torch-bilinear-antialias", crop=(31, 28))),
    ("torch_resize", steps(size=(31, 28), resize="torch-bicubic")),
    ("torch_resize", steps(size=(31, 28), resize="torch-nearest-exact")),
    ("image_scale", steps(size="^40", resize="image.scale-bilinear", crop=(31, 28))),
    ("image_scale", steps(size=(31, 28), resize="image.scale-bicubic", value_range=(-1, 1))),
    (
        "image_scale",
        Preprocessing("gray", "28x31", "image.scale-simple", mean=(0.5,), std=(0.25,)),
    ),
]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph lying on its side, as its EXIF orientation says."""
    rows, columns, colors = np.ogrid[:57, :83, :3]
    waves = 128 + 100 * np.sin(rows / 7 + colors) * np.cos(columns / 5)
    path = tmp_path_factory.mktemp("protocol") / "image.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(waves.astype(np.uint8)).save(path, exif=exif)
    return path


@pytest.mark.parametrize(("script", "preprocessing"), CASES)
def test_a_script_prints_what_predict_gives(
    script: str, preprocessing: Preprocessing, image: Path, tmp_path: Path
) -> None:
    """The same five classes, and every digit but the last of float32."""
    torch.manual_seed(0)
    shape = (preprocessing.channels, 31, 28)
    network = nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * 31 * 28, 5), nn.LogSoftmax(1)).eval()
    model = SavedModel(network, "log_probabilities", shape, LABELS, preprocessing)
    path = tmp_path / "model.onnx"
    export(model, path)
    predictions = Classifier(path, "cpu").predict(image)[0]
    result = subprocess.run(
        [sys.executable, SCRIPTS / f"{script}.py", path, image],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "", "PYTHONPATH": ""},
    )
    printed = [line.split() for line in result.stdout.splitlines()]
    assert [label for label, _ in printed] == [prediction.label for prediction in predictions]
    expected = [prediction.probability for prediction in predictions]
    assert [float(number) for _, number in printed] == pytest.approx(expected, rel=1e-6)


def test_each_script_is_short() -> None:
    lengths = {
        path.name: len(path.read_text(encoding="utf-8").splitlines())
        for path in SCRIPTS.glob("*.py")
    }
    assert len(lengths) == 3
    assert max(lengths.values()) <= 60


def test_every_entry_that_can_be_written_is_defined() -> None:
    """Names, and the values that are chosen among: what the code can write, the page explains."""
    page = (SCRIPTS.parent / "protocol.md").read_text(encoding="utf-8")
    classes = (Metadata, Preprocessing, ImageToImage)
    names = [field.name for one in classes for field in dataclasses.fields(one)]
    names += Vocabulary("", ("a",)).to_json()
    names += [*OUTPUT_KINDS, *PRECISIONS, *COLORS, UTF_8, BYTES]
    assert len(names) > 40
    assert [name for name in names if f"`{name}`" not in page] == []
