"""Predictions as files that grow while they are made: CSV, JSON Lines or Parquet."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .classifier import Prediction
from .errors import InferenceError

#: Takes one image: its name, its likeliest classes, and why it has none (or nothing).
Write = Callable[[str, Sequence[Prediction], str], None]

#: One row a prediction; an image that could not be used is one row with its problem.
COLUMNS = ("input", "rank", "label", "index", "probability", "problem")

#: Rows that are kept until they are written together, as one row group.
_ROWS = 20_000


@contextmanager
def open_results(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Write]:
    """A file for predictions, in the format that its ending says.

    What was written so far is in `FILE.partial`, which gets its name when all went well and stays
    where it is when something stopped it. (A Parquet file can be read once it is closed.)

    Args:
        path: `.csv` and `.parquet` have the columns `COLUMNS`; `.jsonl` has a line
            `{"input": …, "predictions": [{"label", "index", "probability"}, …]}` for each image,
            with `"problem"` where there is one.
        overwrite: replace a file that is there.

    Raises:
        InferenceError: when the ending is unknown, the file is there already, or pyarrow is missing.
    """
    target = Path(path)
    if target.suffix.lower() not in _FORMATS:
        raise InferenceError(f"{target}: results go to files in {', '.join(_FORMATS)}")
    if target.exists() and not overwrite:
        raise InferenceError(f"{target}: is there already; --overwrite replaces it")
    partial, written = target.with_name(f"{target.name}.partial"), 0
    try:
        with _FORMATS[target.suffix.lower()](partial) as write:

            def counted(name: str, predictions: Sequence[Prediction], problem: str = "") -> None:
                nonlocal written
                write(name, predictions, problem)
                written += 1

            yield counted
    except BaseException:
        if not written:
            partial.unlink(missing_ok=True)
        raise
    partial.replace(target)


@contextmanager
def _csv(file: Path) -> Iterator[Write]:
    with file.open("w", encoding="utf-8", newline="", buffering=1) as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        yield lambda *image: writer.writerows(_rows(*image))


@contextmanager
def _jsonl(file: Path) -> Iterator[Write]:
    with file.open("w", encoding="utf-8", buffering=1) as stream:
        yield lambda *image: print(json.dumps(as_json(*image), ensure_ascii=False), file=stream)


@contextmanager
def _parquet(file: Path) -> Iterator[Write]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise InferenceError(
            f"{file.stem}: Parquet needs pyarrow: pip install 'torchlift[parquet]'"
        ) from None
    kinds = dict.fromkeys(COLUMNS, pyarrow.string())
    kinds |= dict.fromkeys(("rank", "index"), pyarrow.int32()) | {"probability": pyarrow.float32()}
    schema = pyarrow.schema(list(kinds.items()))
    rows: list[tuple[Any, ...]] = []

    with parquet.ParquetWriter(file, schema) as writer:

        def flush() -> None:
            columns = [list(column) for column in zip(*rows, strict=True)]
            writer.write_table(pyarrow.table(columns, schema=schema))
            rows.clear()

        def write(*image: Any) -> None:
            rows.extend(_rows(*image))
            if len(rows) >= _ROWS:
                flush()

        try:
            yield write
        finally:
            if rows:
                flush()


#: The format of each ending.
_FORMATS = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}


def as_json(name: str, predictions: Sequence[Prediction], problem: str = "") -> dict[str, Any]:
    """The predictions of one image as JSON values."""
    result = {
        "input": name,
        "predictions": [
            {"label": item.label, "index": item.index, "probability": item.probability}
            for item in predictions
        ],
    }
    return {**result, "problem": problem} if problem else result


def _rows(name: str, predictions: Sequence[Prediction], problem: str) -> list[tuple[Any, ...]]:
    """The predictions of one image as rows of a table."""
    if not predictions:
        return [(name, None, None, None, None, problem)]
    return [
        (name, rank, item.label, item.index, item.probability, None)
        for rank, item in enumerate(predictions, 1)
    ]
