"""Opening a model from a `.t7` file, a saved model's folder or a repository of the Hub."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from .. import t7
from ..images.normalization import NOTHING_SAID, Normalization, Numbers
from ..images.preprocessing import ValueRange
from ..input_shapes import InputShapes
from ..modules import keep_batch_dimension
from ..modules.find import convert_model
from ..t7 import LuaTable
from .beside import Beside, read_beside
from .errors import SavedModelError
from .folder import load
from .hub import HF, is_of_another_library, is_remote, model_path
from .image_projects import find_image_project
from .model import Provenance, SavedModel
from .overrides import Overrides, first_channels, override
from .shapes import infer_output_kind, side_by_side


def open_model(
    path: str | os.PathLike[str],
    *,
    at: str | None = None,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
    mean_std: str | os.PathLike[str] | LuaTable | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    color: str | None = None,
    value_range: ValueRange | None = None,
    input_size: tuple[int, int] | None = None,
    input: InputShapes | str | None = None,
    resize: str | None = None,
    dtype: torch.dtype | None = torch.float32,
) -> SavedModel:
    """Open the model in a `.t7` file, in a folder that `save` wrote, or in a repository of one.

    The model is in evaluation mode and always keeps its batch dimension, also for a batch of one.
    Class names, mean and std that a checkpoint keeps beside its model are used unless others are
    given; what is not understood there is said in a note.

    Args:
        path: A `.t7` file; a saved model's folder; or `hf:ORG/NAME`, a repository of the Hugging
            Face Hub with such a folder's files, which are downloaded to the Hub's cache;
            `hf:ORG/NAME@REVISION` takes another commit than the newest.
        at: The Lua path of the model in the `.t7`, such as `nets[2].encoder`, if it cannot be
            found.
        labels: The class names, or a file of them (a `.t7`, or text with one name per line).
        mean_std: A `.t7`, JSON or YAML file with `{mean = …, std = …}`, or that table.
        mean: Instead, the mean: one number, one for each channel in the order that the network
            sees, or `imagenet`.
        std: As `mean`.
        color: `RGB`, `BGR` or `gray`: what the network sees.
        value_range: 1, 255 or (lo, hi): what 0 and 255 become before mean and std; inferred from
            them by default.
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
            if a saved model has others, or if `resize` is given for a model without mean and std.

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
    file = model_path(path)
    if is_of_another_library(file):
        raise SavedModelError(
            f"{os.fspath(path)}: a network of timm or transformers, not a model saved by "
            f"torchlift; {HF}{file}, where a network is taken, opens it"
        )
    if file.is_dir():
        model, beside = load(file), Beside()
        if is_remote(os.fspath(path)):
            model.notes.append(f"downloaded from {os.fspath(path)}, commit {file.name}")
    else:
        model, beside = _convert(t7.load(file, writable=False), file, at)
    _cast(model, dtype)
    normalization = Normalization.of(mean, std, color, value_range)
    said = Overrides(labels, mean_std, normalization, input_size, input, resize)
    override(model, os.fspath(path), said, beside)
    return model


def _convert(value: Any, file: Path, at: str | None) -> tuple[SavedModel, Beside]:
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
    beside = read_beside(value, conversion.layers[-1].path if conversion.layers else "")
    if conversion.layers and beside.project is None:
        classes = {layer.source.class_name for layer in conversion.layers}
        beside.project = find_image_project(
            conversion.layers[-1].source, classes, beside.normalization, first_channels(module)
        )
        if beside.project is not None:
            known = beside.normalization or NOTHING_SAID
            beside.normalization = beside.project.normalization.over(known)
    return SavedModel(module, output_kind, notes=notes, source=source), beside


def _cast(model: SavedModel, dtype: torch.dtype | None) -> None:
    """Give a model one floating type, that of its layers' arguments included, with a note."""
    if dtype is None:
        return
    tensors = [*model.module.parameters(), *model.module.buffers()]
    others = {t.dtype for t in tensors if t.is_floating_point()} - {dtype}
    if others:
        model.module.to(dtype)
        names = " and ".join(sorted(map(_name, others)))
        model.notes.append(f"parameters were cast from {names} to {_name(dtype)}")
    for layer in model.module.modules():
        # Layers that make tensors, such as nn.OneHot, keep the name of a type.
        named = getattr(torch, str(vars(layer).get("dtype")), None)
        if isinstance(named, torch.dtype) and named.is_floating_point:
            vars(layer)["dtype"] = _name(dtype)


def _name(dtype: torch.dtype | None) -> str:
    return str(dtype).removeprefix("torch.")
