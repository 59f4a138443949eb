"""Comparing two files of any kind that torchlift reads."""

from __future__ import annotations

import os
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import TorchliftError
from ..saved.hub import model_path
from .differences import Difference, Entry, differences
from .entries import entries_of_graph, entries_of_model, entries_of_values, floating

if TYPE_CHECKING:
    from ..saved import SavedModel


@dataclass(frozen=True)
class Comparison:
    """What comparing two files showed.

    Attributes:
        differences: The largest first.
        compared: How many entries were compared: values, weights, layers, settings.
        notes: What was left out.
    """

    differences: list[Difference]
    compared: int
    notes: list[str] = field(default_factory=list)


def compare_files(
    first: str | os.PathLike[str], second: str | os.PathLike[str], at: str | None = None
) -> Comparison:
    """Return what differs between two files.

    Two `.t7` files are compared value by value. A `.t7` and a saved model, or two saved models, are
    compared as networks: their weights, layers, labels and preprocessing. A model is compared with
    an `.onnx` file by what its export is; int8 weights count as the numbers that they stand for.

    Args:
        first: A `.t7` file, the folder of a saved model, or an `.onnx` file.
        second: Another one.
        at: The path of the value or model in every `.t7`.

    Raises:
        TorchliftError: If a file cannot be read, or as a model; or if a model cannot be exported
            for the comparison.

    Example:
        >>> from torchlift.converters import t7
        >>> folder = Path(tempfile.mkdtemp())
        >>> t7.save({"epoch": 3}, folder / "a.t7")
        >>> t7.save({"epoch": 4}, folder / "b.t7")
        >>> [each.text for each in compare_files(folder / "a.t7", folder / "b.t7").differences]
        ['differs by 1: 3 | 4']
    """
    kinds = (_kind(first), _kind(second))
    if kinds == ("t7", "t7"):
        mine, my_notes = _values(first, at)
        other, other_notes = _values(second, at)
        return _compared(mine, other, [*my_notes, *other_notes])
    if "onnx" not in kinds:
        mine, other = entries_of_model(_model(first, at)), entries_of_model(_model(second, at))
        return _compared(mine, other)
    if kinds == ("onnx", "onnx"):
        return _compared(_graph(first), _graph(second))
    model, file = (second, first) if kinds[0] == "onnx" else (first, second)
    exported = _exported(_model(model, at), Path(file))
    ours, theirs = floating(exported), floating(_graph(file))
    return _compared(*((theirs, ours) if kinds[0] == "onnx" else (ours, theirs)))


def _compared(
    first: dict[str, Entry], second: dict[str, Entry], notes: list[str] | None = None
) -> Comparison:
    count = len({*first, *second})
    return Comparison(differences(first, second), count, list(dict.fromkeys(notes or [])))


def _kind(file: str | os.PathLike[str]) -> str:
    if model_path(file).is_dir():
        return "saved_model"
    return "onnx" if Path(file).suffix.lower() == ".onnx" else "t7"


def _values(file: str | os.PathLike[str], at: str | None) -> tuple[dict[str, Entry], list[str]]:
    from ..t7 import T7Error, T7Warning
    from ..t7.leaves import leaves_of
    from ..t7.paths import follow
    from ..t7.reading.load import read_file

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", T7Warning)
        value = read_file(os.fspath(file), single=False).value
    try:
        leaves = leaves_of(follow(value, at or ""))
    except T7Error as error:
        error.source = os.fspath(file)
        raise
    return entries_of_values(leaves), [*(str(each.message) for each in caught), *leaves.notes]


def _model(file: str | os.PathLike[str], at: str | None) -> SavedModel:
    from ..saved import open_model

    is_folder = model_path(file).is_dir()
    return open_model(file) if is_folder else open_model(file, at=at or "")


def _graph(file: str | os.PathLike[str]) -> dict[str, Entry]:
    from ..onnx.onnx_file import read_file

    return entries_of_graph(*read_file(file))


def _exported(model: SavedModel, file: Path) -> dict[str, Entry]:
    """Return the entries of a model's export, made as a file was.

    Raises:
        TorchliftError: If the model cannot be exported so.
    """
    from ..onnx.checker.pair import ExportPair
    from ..onnx.exporter import export
    from ..onnx.onnx_file import takes_image

    pair = ExportPair.open(model, file)
    metadata = pair.metadata
    options: dict[str, Any] = {"outputs": metadata.kept_outputs, "columns": metadata.kept_columns}
    if metadata.baked_preprocessing is not None:
        takes_any = takes_image(pair.onnx_model.graph.input[0])
        options["bake_resize" if takes_any else "bake_preprocessing"] = True
    else:
        model.set_inputs(pair.shapes)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model.onnx"
        try:
            export(model, target, **options)
        except TorchliftError as error:
            raise TorchliftError(
                f"{file}: its model cannot be exported as it was: {error}"
            ) from error
        return _graph(target)
