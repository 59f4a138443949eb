"""An evaluation as a folder: JSON, CSV tables and images."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ..data import Dataset, ImageFiles
from ..errors import DataError
from .results import Bin, ClassResult, Evaluation, Mistake


def write_evaluation(
    result: Evaluation,
    folder: str | os.PathLike[str],
    data: Dataset | ImageFiles | None = None,
) -> list[Path]:
    """Write `evaluation.json`, tables as CSV and images as PNG; what is there is replaced.

    Args:
        result: the evaluation.
        folder: made if it is not there.
        data: what was evaluated; draws the worst mistakes.

    Returns:
        the files.

    Raises:
        OSError: when the folder cannot be written.
    """
    from ..plots.evaluation import confusion_of, mistakes_of, reliability_of
    from ..plots.figures import save_figure

    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    labels = [part.label for part in result.classes]
    whole = target / "evaluation.json"
    whole.write_text(json.dumps(result.to_json(), indent=2, ensure_ascii=False) + "\n")
    counted = [[label, *row] for label, row in zip(labels, result.confusion, strict=True)]
    written = [
        whole,
        _table(target / "classes.csv", _names(ClassResult), _rows(result.classes)),
        _table(target / "calibration.csv", _names(Bin), _rows(result.bins)),
        _table(target / "mistakes.csv", _names(Mistake), _rows(result.mistakes)),
        _table(target / "confusion.csv", ["label", *labels], counted),
        save_figure(confusion_of(result), target / "confusion.png"),
        save_figure(reliability_of(result), target / "reliability.png"),
    ]
    if data is not None and result.mistakes:
        written.append(save_figure(mistakes_of(result, data), target / "mistakes.png"))
    return written


def read_evaluation(file: str | os.PathLike[str]) -> Evaluation:
    """An evaluation that was written down, by `write_evaluation` or by a training.

    Raises:
        DataError: when the file holds something else.
    """
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
        kinds = {"bins": Bin, "classes": ClassResult, "mistakes": Mistake}
        values = {field.name: content[field.name] for field in fields(Evaluation)}
        parts = {name: [kind(**part) for part in values[name]] for name, kind in kinds.items()}
        return Evaluation(**values | parts)
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{os.fspath(file)}: no evaluation: {error}") from error


def _names(kind: Any) -> list[str]:
    return [field.name for field in fields(kind)]


def _rows(items: Sequence[Any]) -> Iterable[list[Any]]:
    return (list(asdict(item).values()) for item in items)


def _table(file: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    return file
