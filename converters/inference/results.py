"""Predictions as files that grow while images are classified: CSV, JSON Lines or Parquet."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal

from ..errors import WriteError
from ..files import atomic_path
from ..requirements import is_installed, missing_package
from .classifier import Prediction
from .errors import InferenceError
from .partial_results import Done, LineFormat, open_partial, partial_files, remove_partial

#: Returns the bytes of one image: its name, its predictions, and why it has none (or "").
Encode = Callable[[str, Sequence[Prediction], str], bytes]

#: A prediction is one row; an image that could not be read is one row with its problem.
COLUMNS = ("input", "rank", "label", "index", "probability", "problem")

#: Rows that are collected and then written together, as one row group of a Parquet file.
_ROWS = 20_000


class ResultWriter:
    """Adds images to a file of predictions; call it with a name, predictions and a problem.

    Attributes:
        done: The images that an earlier run had finished, in order; they stand in the file.
    """

    def __init__(self, target: Path, stream: BinaryIO, encode: Encode, done: list[Done]) -> None:
        self.done = done
        self._target, self._stream, self._encode = target, stream, encode

    def __call__(self, name: str, predictions: Sequence[Prediction], problem: str = "") -> None:
        """Write one image.

        Args:
            name: Its name.
            predictions: The most probable classes.
            problem: Why it has none, or an empty string.

        Raises:
            WriteError: If the disk is full, or the like.
        """
        try:
            self._stream.write(self._encode(plain_name(name), predictions, plain_name(problem)))
            # Other programs can read it now, and a kill leaves it there.
            self._stream.flush()
        except OSError as error:
            raise _write_error(self._target, error) from error


@contextmanager
def open_results(
    path: str | os.PathLike[str],
    overwrite: bool = False,
    *,
    resume: Literal["never", "auto"] = "never",
    facts: Mapping[str, Any] | None = None,
) -> Iterator[ResultWriter]:
    """Open a file for predictions, in the format of its suffix.

    The results so far are in `FILE.partial`, which other programs can read (of a Parquet file they
    are there as JSON lines). It gets its final name when the block ends. When an error or a kill
    ends the block, it stays, and can be resumed. One process at a time writes it.

    Args:
        path: `.csv` and `.parquet` have the columns `COLUMNS`; `.jsonl` has a line
            `{"input", "predictions": [{"label", "index", "probability"}, …], "problem"}` for each
            image.
        overwrite: Whether to replace an existing file, and what a run that was stopped has left.
        resume: Whether to keep what a run that was stopped has left; the writer's `done` lists it.
        facts: What determines the results besides the images, as JSON values: settings by name, and
            the `fingerprint` of the model. It is an error to resume a run with other facts.

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
    suffix = check_suffix(target)
    form, encode = (_CSV, _csv_bytes) if suffix == ".csv" else (JSONL, jsonl_bytes)
    caller_error: BaseException | None = None
    try:
        with open_partial(
            target, form, overwrite=overwrite, resume=resume == "auto", facts=facts
        ) as (stream, done):
            try:
                yield ResultWriter(target, stream, encode, done)
            except BaseException as error:
                caller_error = error
                raise
            os.fsync(stream.fileno())
            if suffix == ".parquet":
                with atomic_path(target) as file:
                    stream.seek(0)
                    _write_parquet(stream, file)
            else:
                # It stands beside the target and is renamed in one step: a kill loses no results.
                partial_files(target)[0].replace(target)
            remove_partial(target)
    except OSError as error:
        if error is caller_error:
            raise
        raise _write_error(target, error) from error


def check_suffix(target: Path) -> str:
    """Return the suffix of a file for predictions, in lower case.

    Raises:
        InferenceError: If there is no such format.
        MissingPackageError: If pyarrow, which writes Parquet, is not installed.
    """
    suffix = target.suffix.lower()
    if suffix not in _SUFFIXES:
        raise InferenceError(f"{target}: the suffix must be {' or '.join(_SUFFIXES)}")
    if suffix == ".parquet" and not is_installed("pyarrow"):
        raise missing_package(f"{target.name}: Parquet", "pyarrow")
    return suffix


def write_lines(lines: Iterable[bytes], target: Path) -> None:
    """Write predictions that are JSON lines to a file, in the format of its suffix.

    Args:
        lines: A line for each image, as `jsonl_bytes` makes them.
        target: The file, which appears complete or not at all.

    Raises:
        WriteError: If it cannot be written.
    """
    suffix = check_suffix(target)
    with atomic_path(target) as file:
        if suffix == ".parquet":
            _write_parquet(lines, file)
            return
        with file.open("wb") as stream:
            if suffix == ".csv":
                stream.write(_HEADER)
            for line in lines:
                stream.write(_csv_lines(json.loads(line)) if suffix == ".csv" else line)


def _csv_lines(image: dict[str, Any]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(_rows_of_json(image))
    return text.getvalue().encode()


def _write_error(target: Path, error: OSError) -> WriteError:
    return WriteError(f"{target}: cannot be written: {error.strerror or error}")


def _csv_bytes(*image: Any) -> bytes:
    return _csv_lines(as_json(*image))


def jsonl_bytes(*image: Any) -> bytes:
    """Return the line of JSON for an image: its name, its predictions, and why it has none."""
    return (json.dumps(as_json(*image), ensure_ascii=False) + "\n").encode()


def plain_name(name: str) -> str:
    r"""Return the name of a file as results have it: bytes that are no text are spelled out.

    Example:
        >>> print(plain_name("cat-\udcff.png"))
        cat-\udcff.png
    """
    return name.encode("utf-8", "backslashreplace").decode()


def _read_csv(content: BinaryIO) -> tuple[list[Done], int]:
    """Return the images of a partial CSV but for the last two, of which rows may be missing."""
    consumed = 0

    def lines() -> Iterator[str]:
        nonlocal consumed
        for line in content:
            consumed += len(line)
            yield line.decode("utf-8", "replace")

    images: list[Done] = []
    starts: list[int] = []
    begin = 0
    for row in csv.reader(lines()):
        if len(row) != len(COLUMNS) or row[1] in ("", "1"):
            images.append(Done(row[0] if row else "", row[-1] if len(row) == len(COLUMNS) else ""))
            starts.append(begin)
        begin = consumed
    # A row that was cut off may look like one more image.
    kept = max(len(images) - 2, 0)
    return images[:kept], starts[kept] if kept else 0


def _read_jsonl(content: BinaryIO) -> tuple[list[Done], int]:
    """Return the images of a partial file of JSON lines, up to a line that was cut off."""
    images: list[Done] = []
    end = 0
    for line in content:
        try:
            image = json.loads(line)
            done = Done(image["input"], image["problem"] or "")
        except (ValueError, KeyError, TypeError):
            break
        if not line.endswith(b"\n"):
            break
        images.append(done)
        end += len(line)
    return images, end


def _write_parquet(lines: Iterable[bytes], file: Path) -> None:
    """Write JSON lines as Parquet, a row group for every so many rows."""
    import pyarrow
    from pyarrow import parquet

    types = dict.fromkeys(COLUMNS, pyarrow.string())
    types |= dict.fromkeys(("rank", "index"), pyarrow.int32()) | {"probability": pyarrow.float32()}
    schema = pyarrow.schema(list(types.items()))
    rows = (row for line in lines for row in _rows_of_json(json.loads(line)))
    with parquet.ParquetWriter(file, schema) as writer:
        while group := list(islice(rows, _ROWS)):
            columns = [list(column) for column in zip(*group, strict=True)]
            writer.write_table(pyarrow.table(columns, schema=schema))


_SUFFIXES = (".csv", ".jsonl", ".parquet")
_HEADER = f"{','.join(COLUMNS)}\r\n".encode()
_CSV = LineFormat(_HEADER, _HEADER, _read_csv)
JSONL = LineFormat(b"", b'{"input": ', _read_jsonl)


def document(model: str, provider: str, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what `predict --json` prints, and the server answers, as JSON values.

    Args:
        model: The model's name.
        provider: What ran it (`Predictor.provider`).
        results: What `as_json` returned for each image.
    """
    return {"model": model, "provider": provider, "results": results}


def as_json(
    name: str | None, predictions: Sequence[Prediction], problem: str = ""
) -> dict[str, Any]:
    """Return the predictions for one image, which may have no name, as JSON values."""
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


def _rows_of_json(image: dict[str, Any]) -> list[tuple[Any, ...]]:
    if not image["predictions"]:
        return [(image["input"], None, None, None, None, image["problem"])]
    return [
        (image["input"], rank, item["label"], item["index"], item["probability"], None)
        for rank, item in enumerate(image["predictions"], 1)
    ]
