"""`lab cifar2`: its table matches the run folders, its parameter counts those computed by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from torchlift.cli.main import main
from torchlift.converters.saved import load

#: Parameters for gray images of 32×32 and two classes, computed by hand.
_BLOCK = 32 * 32 * 9 + 2 * 32
_HEAD = 32 * 2 + 2
_FIRST = 32 * 9 + 32
_TWO_WIDE = _FIRST + (16 * 32 * 9 + 16) + (16 * 64 * 32 + 32) + _HEAD
_THREE = _FIRST + (16 * 32 * 9 + 16) + (16 * 16 * 9 + 16) + (16 * 16 * 32 + 32) + _HEAD
_PROJECTION = 64 * 32 * 9 + 2 * 64 + 64 * 32
PARAMETERS = {
    "tanhnet": (16 * 9 + 16) + (8 * 16 * 9 + 8) + (8 * 64 * 32 + 32) + _HEAD,
    "net_width": _TWO_WIDE,
    "net_dropout": _TWO_WIDE,
    "net_batch_norm": _TWO_WIDE + 2 * (32 + 16),
    "net_depth": _THREE,
    "net_res": _THREE,
    "net_res_deep_shared": _FIRST + _BLOCK + (32 * 64 * 32 + 32) + _HEAD,
    "net_res_deep": _FIRST + 10 * _BLOCK + (32 * 64 * 32 + 32) + _HEAD,
    "net_res_deep_projected": (
        _FIRST + 5 * _BLOCK + _PROJECTION + 4 * (64 * 64 * 9 + 2 * 64) + (64 * 64 * 32 + 32) + _HEAD
    ),
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lab") / "lab"
    assert main(["lab", "cifar2", "--epochs=2", "--limit=200", f"--output={folder}"]) == 0
    return folder


def rows(lab: Path) -> dict[str, dict[str, str]]:
    """Return the rows of the table of all networks, by network."""
    lines = (lab / "report.md").read_text(encoding="utf-8").splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("| change"))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start:]]
    dicts = [dict(zip(cells[0], row, strict=True)) for row in cells[2:] if len(row) > 1]
    return {row["network"]: row for row in dicts[: len(PARAMETERS)]}


def test_parameter_counts_are_correct(lab: Path) -> None:
    counts = {name: int(row["parameters"].replace(",", "")) for name, row in rows(lab).items()}
    assert counts == PARAMETERS


def test_accuracies_are_those_of_the_saved_networks(lab: Path) -> None:
    with np.load(lab / "data.npz") as data:
        images, labels = data["x_train"], data["y_train"]
    for name, row in rows(lab).items():
        model = load(lab / name / "model")
        assert model.preprocessing is not None
        with torch.no_grad():
            logits = model.module(torch.from_numpy(model.preprocessing(images)))
        # The table has four digits.
        expected = float((logits.argmax(1).numpy() == labels).mean())
        assert float(row["training"]) == pytest.approx(expected, abs=1e-4), name
        with (lab / name / "metrics.csv").open() as file:
            best = max(float(epoch["val_accuracy"]) for epoch in csv.DictReader(file))
        assert float(row["validation"]) == pytest.approx(best, abs=1e-4), name


def test_mistakes_of_the_original_lab_are_listed_with_parameter_counts(lab: Path) -> None:
    text = (lab / "report.md").read_text(encoding="utf-8")
    assert 'bias="False"' in text
    assert f"it has {32 * 32 * 9:,} parameters instead of {32 * 32 * 9 + 32:,}" in text
    assert "conv3d" in text
    assert f"{_BLOCK:,} more for each of nine blocks" in text
