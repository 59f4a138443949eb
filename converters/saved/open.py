"""Opening a model from a `.t7` file or a saved model's folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from .. import t7
from ..errors import LabelsError
from ..images.errors import PreprocessingError
from ..images.mean_std import describe_resizing, from_mean_std
from ..input_shapes import InputShapes, parse_inputs
from ..labels import check_labels, check_order, labels_in, read_labels
from ..modules import keep_batch_dimension
from ..modules.find import convert_model
from ..t7 import LuaTable
from .errors import SavedModelError
from .folder import load
from .input_trial import input_problem
from .model import Provenance, SavedModel
from .shapes import (
    infer_input_shape,
    infer_inputs,
    infer_output_kind,
    output_shape,
    side_by_side,
)


def open_model(
    path: str | os.PathLike[str],
    *,
    at: str | None = None,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
    mean_std: str | os.PathLike[str] | LuaTable | None = None,
    value_range: int | None = None,
    input_size: tuple[int, int] | None = None,
    input: InputShapes | str | None = None,
    resize: str | None = None,
    dtype: torch.dtype | None = torch.float32,
) -> SavedModel:
    """Open the model in a `.t7` file, or in a folder that `save` wrote.

    The model is in evaluation mode and always keeps its batch dimension, also for a batch of one.
    Class names, mean and std that a checkpoint keeps beside its model are used unless others are
    given.

    Args:
        path: A `.t7` file or a saved model's folder.
        at: The Lua path of the model in the `.t7`, such as `nets[2].encoder`, if it cannot be
            found.
        labels: The class names, or a file of them (a `.t7`, or text with one name per line).
        mean_std: A `.t7` with `{mean = …, std = …}`, or that table.
        value_range: 1 or 255, the range of values that mean and std are for; inferred from them by
            default.
        input_size: (height, width) of the input, if it does not follow from the layers.
        input: The shape of one example for each input, such as "?x20" (see `parse_inputs`), if it
            does not follow from the layers.
        resize: How images are resized (see `Preprocessing.resized_by`), if not by `pil-bilinear`.
        dtype: The dtype of the parameters; None keeps that of the file.

    Raises:
        T7Error: If a `.t7` cannot be read.
        ConversionError: If it holds no model, or one that cannot be converted.
        SavedModelError: If a saved model is damaged, or the network does not take `input_size`.
        LabelsError: If the class names do not fit the number of outputs, or are the model's own in
            another order.
        PreprocessingError: If mean and std do not fit the network or leave the value range open,
            or if `value_range` or `resize` is given for a model without mean and std.

    Example:
        >>> from tempfile import mkdtemp
        >>> weight = torch.ones(2, 4)
        >>> linear = t7.LuaObject("nn.Linear", LuaTable({"weight": weight, "bias": weight[:, 0]}))
        >>> file = Path(mkdtemp()) / "linear.t7"
        >>> t7.save(linear, file)
        >>> model = open_model(file, labels=["cat", "dog"])
        >>> model.module
        Linear(in_features=4, out_features=2, bias=True)
        >>> model.labels, model.output_kind
        (['cat', 'dog'], 'logits')
    """
    file = Path(path)
    checkpoint = None if file.is_dir() else t7.load(file, writable=False)
    model = load(file) if file.is_dir() else _convert(checkpoint, file, at)
    _cast(model, dtype)
    if isinstance(checkpoint, LuaTable):
        if labels is None:
            labels = labels_in(checkpoint)
        else:
            with suppress(LabelsError):  # What is wrong with names that are replaced is no matter.
                model.labels = labels_in(checkpoint)
        if mean_std is None and {"mean", "std"} <= set(checkpoint.keys()):
            mean_std = checkpoint
    apply_overrides(
        model,
        os.fspath(path),
        labels=labels,
        mean_std=mean_std,
        value_range=value_range,
        input_size=input_size,
        input=input,
        resize=resize,
    )
    return model


def apply_overrides(
    model: SavedModel,
    name: str,
    *,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
    mean_std: str | os.PathLike[str] | LuaTable | None = None,
    value_range: int | None = None,
    input_size: tuple[int, int] | None = None,
    input: InputShapes | str | None = None,
    resize: str | None = None,
) -> None:
    """Set what the user specifies about a model, and infer its input shape if it is not known.

    Args:
        model: The model, which is changed.
        name: The name of the model in error messages.
        labels: As for `open_model`.
        mean_std: As for `open_model`.
        value_range: As for `open_model`.
        input_size: As for `open_model`.
        input: As for `open_model`.
        resize: As for `open_model`.

    Raises:
        TorchliftError: If something does not fit the model (see `open_model`).
    """
    if input is not None:
        _set_inputs(model, name, parse_inputs(input) if isinstance(input, str) else input)
    else:
        _set_input_shape(model, name, input_size)
    _set_labels(model, _names(labels))
    if mean_std is not None:
        _set_preprocessing(model, name, mean_std, value_range, resize)
        return
    if value_range is not None:
        _check_value_range(model, name, value_range)
    if resize is not None:
        _set_resizing(model, name, resize)


def _convert(value: Any, file: Path, at: str | None) -> SavedModel:
    conversion = convert_model(value, at, file)
    module = conversion.module.eval()
    keep_batch_dimension(module)
    notes = [f"{note.path} ({note.class_name}): {note.text}" for note in conversion.notes]
    with file.open("rb") as stream:
        source = Provenance(file.name, hashlib.file_digest(stream, "sha256").hexdigest())
    output_kind = infer_output_kind(module)
    count = side_by_side(module)
    if count > 1:
        notes.append(
            f"the outputs are {count} classifiers side by side, whose {output_kind} add up to "
            f"{count} instead of 1: they count as features"
        )
        output_kind = "features"
    return SavedModel(module, output_kind, notes=notes, source=source)


def _cast(model: SavedModel, dtype: torch.dtype | None) -> None:
    """Cast a model's parameters to one dtype, with a note."""
    current = next((p.dtype for p in model.module.parameters() if p.is_floating_point()), dtype)
    if dtype is not None and current != dtype:
        model.module.to(dtype)
        model.notes.append(f"parameters were cast from {_name(current)} to {_name(dtype)}")


def _set_input_shape(model: SavedModel, name: str, size: tuple[int, int] | None) -> None:
    """Set the input shape to the given size, or infer it if it is not known."""
    if size is None:
        if model.inputs is None and model.input_shape is None:
            model.inputs = infer_inputs(model.module)
        if model.inputs is None and model.input_shape is None:
            model.input_shape = infer_input_shape(model.module)
        return
    shape = infer_input_shape(model.module, size)
    if shape is None:
        known = model.input_shape or infer_input_shape(model.module)
        hint = "" if known is None else f"; {known[1]}×{known[2]} fits"
        channels = 3 if known is None else known[0]
        shapes = InputShapes.single((channels, *size))
        reason = input_problem(model.module, shapes) or "it gives no row of outputs for each image"
        raise SavedModelError(
            f"{name}: the network takes no input of {size[0]}×{size[1]}{hint}: {reason}"
        )
    model.inputs = None
    model.input_shape = shape
    if model.preprocessing is not None:
        model.preprocessing = replace(model.preprocessing, size=size, crop=None)


def _set_inputs(model: SavedModel, name: str, shapes: InputShapes) -> None:
    """Set what the network takes, once it has been tried."""
    if problem := input_problem(model.module, shapes):
        raise SavedModelError(f"{name}: the network does not take {shapes}: {problem}")
    model.set_inputs(shapes)
    if model.preprocessing is not None and model.input_shape is not None:
        size = model.input_shape[1], model.input_shape[2]
        if model.preprocessing.size != size:
            model.preprocessing = replace(model.preprocessing, size=size, crop=None)


def _set_labels(model: SavedModel, names: list[str] | None) -> None:
    """Set the class names; their number is checked if the number of outputs is known.

    Raises:
        LabelsError: If the number is wrong, or they are the model's own names in another order.
    """
    if names is None:
        return
    check_order(names, model.labels)
    shape = output_shape(model.module, model.input_shape) if model.input_shape else None
    if shape is not None:
        check_labels(names, shape[1])
    model.labels = names


def _names(labels: str | os.PathLike[str] | Sequence[str] | None) -> list[str] | None:
    if labels is None:
        return None
    return read_labels(labels) if isinstance(labels, (str, os.PathLike)) else list(labels)


def _set_preprocessing(
    model: SavedModel,
    name: str,
    mean_std: str | os.PathLike[str] | LuaTable,
    value_range: int | None,
    resize: str | None,
) -> None:
    """Set the preprocessing that a table `{mean = …, std = …}` or a file of it defines."""
    if isinstance(mean_std, LuaTable):
        table = mean_std
    else:
        table, name = t7.load(mean_std), os.fspath(mean_std)
    try:
        model.preprocessing, note = from_mean_std(table, model.input_shape, value_range, resize)
    except PreprocessingError as error:
        raise PreprocessingError(f"{name}: {error}") from None
    model.notes.append(note)


def _check_value_range(model: SavedModel, name: str, value_range: int) -> None:
    """Check that a value range without mean and std is the one that the model has."""
    if model.preprocessing is None:
        raise PreprocessingError(f"{name}: value_range={value_range} needs mean and std too")
    if model.preprocessing.value_range != value_range:
        raise PreprocessingError(
            f"{name}: value_range={value_range} is not the model's own, which is "
            f"{model.preprocessing.value_range}"
        )


def _set_resizing(model: SavedModel, name: str, choice: str) -> None:
    if model.preprocessing is None:
        raise PreprocessingError(f"{name}: resize={choice} needs mean and std too")
    model.preprocessing = model.preprocessing.resized_by(choice)
    model.notes.append(f"{describe_resizing(model.preprocessing)}, as specified")


def _name(dtype: torch.dtype | None) -> str:
    return str(dtype).removeprefix("torch.")
