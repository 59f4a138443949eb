"""Predictions as files that grow while images are classified: CSV, JSON Lines or Parquet."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import WriteError
from ..files import check_output
from ..requirements import missing_package
from .classifier import Prediction
from .errors import InferenceError

#: Adds one image: its name, its predictions, and why it has none (or an empty string).
Write = Callable[[str, Sequence[Prediction], str], None]

#: A prediction is one row; an image that could not be read is one row with its problem.
COLUMNS = ("input", "rank", "label", "index", "probability", "problem")

#: Rows that are collected and then written together, as one row group of a Parquet file.
_ROWS = 20_000


@contextmanager
def open_results(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Write]:
    """Open a file for predictions, in the format of its suffix.

    The results so far are in `FILE.partial`, which other programs can read. It gets its final name
    when the block ends, and stays where it is when an error ends the block. (A Parquet file can be
    read once it is closed.)

    Args:
        path: `.csv` and `.parquet` have the columns `COLUMNS`; `.jsonl` has a line
            `{"input", "predictions": [{"label", "index", "probability"}, …], "problem"}` for each
            image.
        overwrite: Whether to replace an existing file.

    Raises:
        InferenceError: If the suffix is unknown.
        MissingPackageError: If pyarrow, which writes Parquet, is not installed.
        WriteError: If the file exists already, or cannot be written.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp()) / "results.csv"
        >>> with open_results(path) as write:
        ...     write("cat.jpg", [Prediction(index=3, label="cat", probability=0.75)], "")
        >>> print(path.read_text(encoding="utf-8").strip())
        input,rank,label,index,probability,problem
        cat.jpg,1,cat,3,0.75,
    """
    target = Path(path)
    if target.suffix.lower() not in _FORMATS:
        raise InferenceError(f"{target}: the suffix must be {' or '.join(_FORMATS)}")
    check_output(target, overwrite)
    partial, count = target.with_name(f"{target.name}.partial"), 0
    caller_error: BaseException | None = None
    try:
        with _FORMATS[target.suffix.lower()](partial) as write:

            def write_and_count(
                name: str, predictions: Sequence[Prediction], problem: str = ""
            ) -> None:
                nonlocal count
                try:
                    write(name, predictions, problem)
                except OSError as error:
                    raise _write_error(target, error) from error
                count += 1

            try:
                yield write_and_count
            except BaseException as error:
                caller_error = error
                raise
        # It stands beside the target and is renamed in one step: a kill loses no results.
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        partial.replace(target)
    except BaseException as error:
        if count == 0:
            with suppress(OSError):
                partial.unlink()
        if isinstance(error, OSError) and error is not caller_error:
            raise _write_error(target, error) from error
        raise


def _write_error(target: Path, error: OSError) -> WriteError:
    return WriteError(f"{target}: cannot be written: {error.strerror or error}")


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
        raise missing_package(f"{file.stem}: Parquet", "pyarrow") from None
    types = dict.fromkeys(COLUMNS, pyarrow.string())
    types |= dict.fromkeys(("rank", "index"), pyarrow.int32()) | {"probability": pyarrow.float32()}
    schema = pyarrow.schema(list(types.items()))
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


#: What writes a file of each suffix.
_FORMATS = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}


def as_json(name: str, predictions: Sequence[Prediction], problem: str = "") -> dict[str, Any]:
    """Return the predictions for one image as JSON values."""
    return {
        "input": name,
        "predictions": [
            {"label": item.label, "index": item.index, "probability": _finite(item.probability)}
            for item in predictions
        ],
        "problem": problem or None,
    }


def _finite(value: float) -> float | None:
    """Return a number as JSON can hold it: None for NaN and infinity."""
    return value if math.isfinite(value) else None


def _rows(name: str, predictions: Sequence[Prediction], problem: str) -> list[tuple[Any, ...]]:
    """Return the predictions for one image as rows of a table."""
    if not predictions:
        return [(name, None, None, None, None, problem)]
    return [
        (name, rank, item.label, item.index, item.probability, None)
        for rank, item in enumerate(predictions, 1)
    ]
