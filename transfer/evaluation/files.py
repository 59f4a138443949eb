"""An evaluation as a folder: JSON and CSV tables."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ...converters.files import atomic_path
from ...converters.overwriting import FolderKind
from ...converters.validation import read_json
from ..errors import DataError
from .results import Bin, ClassResult, Evaluation, Mistake


def _is_evaluation(folder: Path) -> bool:
    """Return whether a folder holds what `write_evaluation` wrote."""
    try:
        read_evaluation(folder / "evaluation.json")
    except (DataError, OSError):
        return False
    return True


#: The folder that `torchlift evaluate --output` writes, with its figures.
EVALUATION = FolderKind(
    "an evaluation",
    _is_evaluation,
    re.compile(
        r"evaluation\.json|(classes|calibration|mistakes|confusion)\.csv"
        r"|(confusion|reliability|mistakes)\.png"
    ),
)


def write_evaluation(result: Evaluation, folder: str | os.PathLike[str]) -> list[Path]:
    """Write `evaluation.json` and CSV tables to a folder; existing files are replaced.

    Args:
        result: The evaluation.
        folder: It is created if it does not exist.

    Returns:
        The files.

    Raises:
        WriteError: If a file cannot be written.

    Example:
        >>> from tempfile import mkdtemp
        >>> import numpy as np
        >>> from torchlift.transfer.evaluation import outcomes, summarize, write_evaluation
        >>> batch = outcomes(np.eye(2), "probabilities", np.array([0, 1]))
        >>> files = write_evaluation(summarize(batch, ["cat", "dog"]), mkdtemp())
        >>> [file.name for file in files][:2]
        ['evaluation.json', 'classes.csv']
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    labels = [row.label for row in result.classes]
    confusion = [[label, *row] for label, row in zip(labels, result.confusion, strict=True)]
    return [
        _write_json(target / "evaluation.json", result.to_json()),
        _write_csv(target / "classes.csv", _names(ClassResult), _rows(result.classes)),
        _write_csv(target / "calibration.csv", _names(Bin), _rows(result.bins)),
        _write_csv(target / "mistakes.csv", _names(Mistake), _rows(result.mistakes)),
        _write_csv(target / "confusion.csv", ["label", *labels], confusion),
    ]


def read_evaluation(file: str | os.PathLike[str]) -> Evaluation:
    """Return an evaluation from the `evaluation.json` of `write_evaluation` or of a training.

    Raises:
        DataError: If the file holds something else.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> import numpy as np
        >>> from torchlift.transfer.evaluation import (
        ...     outcomes, read_evaluation, summarize, write_evaluation,
        ... )
        >>> batch = outcomes(np.eye(2), "probabilities", np.array([0, 1]))
        >>> folder = Path(mkdtemp())
        >>> _ = write_evaluation(summarize(batch, ["cat", "dog"]), folder)
        >>> read_evaluation(folder / "evaluation.json").accuracy
        1.0
    """
    try:
        return Evaluation.from_json(read_json(Path(file).read_text(encoding="utf-8")))
    except KeyError as error:
        raise DataError(f"{os.fspath(file)}: holds no evaluation: no entry {error}") from error
    except ValueError as error:
        raise DataError(f"{os.fspath(file)}: holds no evaluation: {error}") from error


def _names(kind: Any) -> list[str]:
    return [field.name for field in fields(kind)]


def _rows(items: Sequence[Any]) -> Iterable[list[Any]]:
    return (list(asdict(item).values()) for item in items)


def _write_json(file: Path, values: Any) -> Path:
    with atomic_path(file) as path:
        text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
        path.write_text(text + "\n", encoding="utf-8")
    return file


def _write_csv(file: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    with atomic_path(file) as path, path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    return file
