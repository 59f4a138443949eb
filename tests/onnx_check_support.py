"""An exported classifier of digits, and what a report of `check` says about it."""

from __future__ import annotations

from pathlib import Path

from support import FIXTURES

from torchlift.converters.onnx import CheckReport, export
from torchlift.converters.saved import SavedModel, open_model
from torchlift.transfer.data import read_dataset

DIGITS = FIXTURES / "digits"
DATA = read_dataset(DIGITS / "digits-test.t7")
PIXELS, CLASSES = DATA.images[:40], DATA.classes[:40]


def export_digits(name: str, folder: Path) -> tuple[SavedModel, Path]:
    """Return a network of Torch7 with labels and preprocessing, and its .onnx file."""
    model = open_model(
        DIGITS / f"{name}.t7",
        labels=DIGITS / "digits_classes.t7",
        mean_std=DIGITS / "digits_meanStd.t7",
    )
    path = folder / "digits.onnx"
    export(model, path)
    return model, path


def failed(report: CheckReport) -> list[str]:
    return [finding.name for finding in report.findings if not finding.passed]


def text_of(report: CheckReport, name: str) -> str:
    return next(finding.text for finding in report.findings if finding.name == name)
