"""One way to open a model, whatever file it is in."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from .. import t7
from ..images.errors import PreprocessingError
from ..images.preprocessing import from_mean_std
from ..labels import check_labels, labels_in, read_labels
from ..modules import keep_batch_dimension
from ..modules.find import convert_model
from ..t7 import LuaTable
from .errors import SavedModelError
from .folder import load
from .model import Provenance, SavedModel
from .shapes import infer_input_shape, infer_output_kind, output_shape


def open_model(
    path: str | os.PathLike[str],
    *,
    at: str | None = None,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
    mean_std: str | os.PathLike[str] | LuaTable | None = None,
    input_size: tuple[int, int] | None = None,
    resize: str | None = None,
    dtype: torch.dtype | None = torch.float32,
) -> SavedModel:
    """The model in a `.t7` file or in a folder that `save` wrote, ready to be used.

    It is in evaluation mode and always keeps its batch dimension, also for a batch of one.
    A checkpoint's own class list, mean and std are taken where no others are given.

    Args:
        path: a `.t7` file or a saved model's folder.
        at: where the model stands in the `.t7`, such as `nets[2].encoder`; found when not given.
        labels: the class names, or a file of them (a `.t7`, or text with one name a line).
        mean_std: a `.t7` with `{mean = …, std = …}`, or that table.
        input_size: (height, width) of the input, where the layers do not tell.
        resize: how images are resized (see `Preprocessing.resized_by`), where it is not as mean
            and std say.
        dtype: number type of the parameters; None keeps the file's.

    Raises:
        T7Error: when a `.t7` cannot be read.
        ConversionError: when it holds no model, or one that cannot be converted.
        SavedModelError: when a saved model is damaged, or does not take the given size.
        LabelsError: when the class names do not fit the number of outputs.
        PreprocessingError: when mean and std do not fit the network, or images are to be
            resized in a way that does not exist, or without mean and std.
    """
    file = Path(path)
    checkpoint = None if file.is_dir() else t7.load(file, writable=False)
    model = load(file) if file.is_dir() else _convert(checkpoint, file, at)
    _cast(model, dtype)
    if isinstance(checkpoint, LuaTable):
        labels = labels_in(checkpoint) if labels is None else labels
        if mean_std is None and {"mean", "std"} <= set(checkpoint.keys()):
            mean_std = checkpoint
    apply_overrides(
        model,
        os.fspath(path),
        labels=labels,
        mean_std=mean_std,
        input_size=input_size,
        resize=resize,
    )
    return model


def apply_overrides(
    model: SavedModel,
    name: str,
    *,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
    mean_std: str | os.PathLike[str] | LuaTable | None = None,
    input_size: tuple[int, int] | None = None,
    resize: str | None = None,
) -> None:
    """Give a model what its user knows of it; its input shape is found out where it can be.

    Args:
        model: is changed.
        name: what errors call it.
        labels: as `open_model` takes them.
        mean_std: the same, or the table itself.
        input_size: as `open_model` takes it.
        resize: the same.

    Raises:
        TorchliftError: when something does not fit the model (see `open_model`).
    """
    _size(model, name, input_size)
    _label(model, _names(labels))
    if isinstance(mean_std, LuaTable):
        _prepare(model, mean_std, name)
    elif mean_std is not None:
        _prepare(model, t7.load(mean_std), mean_std)
    if resize is not None:
        _resize(model, name, resize)


def _convert(value: Any, file: Path, at: str | None) -> SavedModel:
    conversion = convert_model(value, at, file)
    module = conversion.module.eval()
    keep_batch_dimension(module)
    notes = [f"{note.path} ({note.class_name}): {note.text}" for note in conversion.notes]
    with file.open("rb") as stream:
        source = Provenance(file.name, hashlib.file_digest(stream, "sha256").hexdigest())
    return SavedModel(module, infer_output_kind(module), notes=notes, source=source)


def _cast(model: SavedModel, dtype: torch.dtype | None) -> None:
    """Bring a model to one number type, and say so."""
    held = next((p.dtype for p in model.module.parameters() if p.is_floating_point()), dtype)
    if dtype is not None and held != dtype:
        model.module.to(dtype)
        model.notes.append(f"parameters were cast from {_name(held)} to {_name(dtype)}")


def _size(model: SavedModel, name: str, size: tuple[int, int] | None) -> None:
    """Find out what input a model takes, or check that it takes what it should."""
    if size is None:
        model.input_shape = model.input_shape or infer_input_shape(model.module)
        return
    shape = infer_input_shape(model.module, size)
    if shape is None:
        known = model.input_shape or infer_input_shape(model.module)
        fits = "" if known is None else f"; {known[1]}×{known[2]} fits"
        raise SavedModelError(f"{name}: the network takes no input of {size[0]}×{size[1]}{fits}")
    model.input_shape = shape
    if model.preprocessing is not None:
        model.preprocessing = replace(model.preprocessing, size=size, crop=None)


def _label(model: SavedModel, names: list[str] | None) -> None:
    """Give a model its class names, checked against its outputs where they can be counted."""
    if names is None:
        return
    shape = output_shape(model.module, model.input_shape) if model.input_shape else None
    if shape is not None:
        check_labels(names, shape[1])
    model.labels = names


def _names(labels: str | os.PathLike[str] | Sequence[str] | None) -> list[str] | None:
    if labels is None:
        return None
    return read_labels(labels) if isinstance(labels, (str, os.PathLike)) else list(labels)


def _prepare(model: SavedModel, table: Any, file: str | os.PathLike[str]) -> None:
    """Give a model the preprocessing that a table `{mean = …, std = …}` stands for."""
    try:
        model.preprocessing, note = from_mean_std(table, model.input_shape)
    except PreprocessingError as error:
        raise PreprocessingError(f"{os.fspath(file)}: {error}") from None
    model.notes.append(note)


def _resize(model: SavedModel, name: str, choice: str) -> None:
    if model.preprocessing is None:
        raise PreprocessingError(f"{name}: how to resize images needs their mean and std too")
    model.preprocessing = model.preprocessing.resized_by(choice)
    model.notes.append(f"images are resized by {choice}, as was asked for")


def _name(dtype: torch.dtype | None) -> str:
    return str(dtype).removeprefix("torch.")
