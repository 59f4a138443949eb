"""Tables of image files: `path,label[,split]` as CSV, TSV, JSON Lines or Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ....converters.requirements import require
from ...errors import DataError
from ..collect_images import collect_images
from ..dataset import Dataset
from ..image_files import EncodedImage, ImageFiles
from .registry import ReadOptions, reader

#: The suffixes of tables.
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")

#: Usual names of the columns, in lower case.
PATH_COLUMNS = (
    *("path", "file", "filename", "file_name", "filepath", "file_path"),
    *("image", "image_path", "img", "img_path"),
)
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "category", "target", "y")
SPLIT_COLUMNS = ("split", "subset", "fold", "partition")

#: What is read of a table.
_WANTED = (*PATH_COLUMNS, *LABEL_COLUMNS, *SPLIT_COLUMNS)

#: A table: the values of each column, by its name.
Table = dict[str, list[Any]]


def _accepts(source: str) -> bool:
    path = Path(source)
    return path.suffix.lower() in TABLE_SUFFIXES and path.is_file()


@reader("a table of image files (CSV, TSV, JSON Lines, Parquet)", accepts=_accepts, order=40)
def read_table(source: str, options: ReadOptions) -> Dataset | ImageFiles:
    """Return the images that a table lists, with their labels.

    The columns are `path`, `label` and, if there are splits, `split`, or other usual names of
    these. A path that is not absolute begins at the folder of the table.

    Raises:
        DataError: If it is no such table, or an image has several labels or a real number.
        ImageError: If an image cannot be read.
    """
    path = Path(source)
    try:
        return dataset_of_table(read_rows(path), lambda name: path.parent / name, options)
    except DataError as error:
        raise DataError(f"{source}: {error}") from None


def dataset_of_table(
    table: Table, place: Callable[[str], EncodedImage], options: ReadOptions
) -> Dataset | ImageFiles:
    """Return the images that a table lists.

    Args:
        table: It has a column of paths, perhaps one of labels and one of splits.
        place: Returns the image that a path of the table names.
        options: How images are read.

    Raises:
        DataError: If a column is missing, a path is none, or a label or split is no such.
    """
    paths = column(table, PATH_COLUMNS)
    if paths is None:
        raise DataError(
            f"no column of image files ({', '.join(PATH_COLUMNS[:4])}, …) among: "
            f"{', '.join(list(table)[:8])}"
        )
    labels = column(table, LABEL_COLUMNS)
    if labels is None:
        others = [name for name in table if _spelled(name) not in (*PATH_COLUMNS, *SPLIT_COLUMNS)]
        if others:
            raise DataError(
                f"no column of labels ({', '.join(LABEL_COLUMNS[:4])}, …) among: "
                f"{', '.join(list(table)[:8])}; one column has the one class of each image"
            )
        labels = [None] * len(paths)
    _check_paths(paths, labels)
    files = [place(str(path)) for path in paths]
    splits = column(table, SPLIT_COLUMNS) or ()
    return collect_images(files, [*map(str, paths)], labels, options, splits)


def column(table: Table, names: Sequence[str]) -> list[Any] | None:
    """Return the first column with one of some names, whatever the case of their letters."""
    by_name = {_spelled(name): values for name, values in table.items()}
    return next((by_name[name] for name in names if name in by_name), None)


def _spelled(name: str) -> str:
    return name.strip().lower()


def _check_columns(names: Sequence[str]) -> None:
    """Check that no column that is read is there twice.

    Raises:
        DataError: If one is.
    """
    counts = Counter(map(_spelled, names))
    for name in _WANTED:
        if counts[name] > 1:
            raise DataError(f"{counts[name]} columns are called {name}: which one counts?")


def _check_paths(paths: Sequence[Any], labels: Sequence[Any]) -> None:
    """Check that each row names one file, and no file has two labels.

    Raises:
        DataError: If not.
    """
    seen: dict[str, Any] = {}
    for row, (path, label) in enumerate(zip(paths, labels, strict=True)):
        if not isinstance(path, str) or not path.strip():
            raise DataError(f"row {row + 1} names no file")
        if "://" in path:
            raise DataError(f"row {row + 1} is an address, {path}: nothing is fetched; download it")
        if str(seen.setdefault(path, label)) != str(label):  # NaN differs from itself
            raise DataError(
                f"several labels an image ({path} has {seen[path]} and {label}): torchlift trains "
                "classifiers with one class an image"
            )


def read_rows(path: Path) -> Table:
    """Return the columns of a table.

    Raises:
        DataError: If it cannot be read as what its suffix says.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _read_parquet(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        return _read_lines(text) if suffix in (".jsonl", ".ndjson") else _read_csv(text, suffix)
    except UnicodeError as error:
        at = f" (byte {error.start:,})" if isinstance(error, UnicodeDecodeError) else ""
        raise DataError(f"is not UTF-8 text{at}: save it as UTF-8") from None
    except (OSError, csv.Error, RecursionError) as error:
        raise DataError(f"cannot be read: {error}") from None


def _read_csv(text: str, suffix: str) -> Table:
    first = text.partition("\n")[0]
    # Where a comma is the decimal point, programs write semicolons.
    delimiter = "\t" if suffix == ".tsv" else max(",;\t", key=first.count)
    # Not by splitlines: a label may hold a separator of Unicode, or in quotes a line's end.
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    if not rows:
        raise DataError("an empty file; a line of column names was expected")
    header, *body = rows
    _check_columns(header)
    for number, row in enumerate(body, 1):
        if len(row) != len(header):
            raise DataError(f"row {number} has {len(row)} columns, the first line {len(header)}")
    return {name: [row[index] for row in body] for index, name in enumerate(header)}


def _read_lines(text: str) -> Table:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise DataError(f"line {number} is no JSON: {error}") from None
            if not isinstance(rows[-1], dict):
                raise DataError(f"line {number} is no object with a path and a label")
    names = dict.fromkeys(name for row in rows for name in row)
    _check_columns([*names])
    return {name: [row.get(name) for row in rows] for name in names}


def _read_parquet(path: Path) -> Table:
    require(f"reading {path}", "pyarrow")
    from pyarrow import ArrowException, parquet

    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            chosen = [name for name in names if _spelled(name) in _WANTED]
            table = file.read(columns=chosen or names[:8])
        _check_columns(table.column_names)
        values: Table = table.to_pydict()
        return values
    except (ArrowException, OSError) as error:
        raise DataError(f"cannot be read: {error}") from None
