"""A saved model as a folder: `config.json`, `model.safetensors`, `model.py` and a `README.md`."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from ... import __version__
from .. import t7
from ..errors import TorchliftError
from ..files import atomic_path
from ..images.image_to_image import ImageToImage
from ..images.preprocessing import Preprocessing
from ..input_shapes import InputShapes
from ..labels import check_labels
from ..modules.conversion import name_layers_in_errors
from ..modules.errors import ConversionError
from ..modules.notebook import show_in_notebooks
from ..modules.to_torch7 import torch7_skeleton
from ..modules.torch7_source import SKELETON, Torch7Source, source_of
from ..overwriting import FolderKind, check_output_folder
from ..t7 import LuaObject, T7Error
from ..vocabulary import Vocabulary
from . import (  # noqa: F401  # they register layers to build
    timm_network,
    torchvision_network,
    transformers_network,
    up_to_layer,
)
from .card import CARD, is_card, model_card
from .config import CONFIG, FORMAT_VERSION, TORCH7, WEIGHTS, is_saved_model, read_config
from .errors import SavedModelError
from .model import OUTPUT_KINDS, Provenance, SavedModel
from .shapes import output_count
from .standalone import standalone_source
from .structure import Description, build, describe, first_names
from .tensor_files import write_tensors

SOURCE = "model.py"
#: What replacing a saved model may delete: torchlift 0.1.0 wrote a `ruff.toml`, Python and ruff
#: leave their caches beside `model.py`.
SAVED_MODEL = FolderKind(
    "a saved model",
    is_saved_model,
    re.compile(
        r"config\.json|model\.safetensors|model\.py|torch7\.t7|README\.md|ruff\.toml"
        r"|__pycache__(/[^/]+\.pyc)?|\.ruff_cache(/.*)?"
    ),
    lambda file: file.name != CARD or is_card(file),
)


def save(model: SavedModel, folder: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Write a model to a folder, atomically.

    Args:
        model: The model; its module is not changed.
        folder: The folder to write; its parent must exist.
        overwrite: Whether an existing saved model is replaced. Nothing else is ever replaced: if
            the folder holds any other file, an error names it.

    Returns:
        The path of the folder.

    Raises:
        WriteError: If the folder exists and may not be replaced, or cannot be written.
        SavedModelError: If the network contains a layer that cannot be saved.

    Example:
        >>> from tempfile import mkdtemp
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).eval()
        >>> model = SavedModel(network, "logits", input_shape=(1, 28, 28))
        >>> folder = save(model, Path(mkdtemp()) / "digits")
        >>> sorted(path.name for path in folder.iterdir())
        ['README.md', 'config.json', 'model.py', 'model.safetensors']
    """
    path = check_output_folder(folder, SAVED_MODEL, overwrite)
    torch7 = _torch7_object(model)
    structure = describe(model.module)
    tied = _check_described(model.module, structure)
    code = standalone_source(model, structure, tied)
    config = {**metadata(model), "structure": structure, "tied": tied}
    with atomic_path(path) as temporary:
        temporary.mkdir()
        text = json.dumps(config, indent=1, ensure_ascii=False) + "\n"
        (temporary / CONFIG).write_text(text, encoding="utf-8")
        (temporary / SOURCE).write_text(code, encoding="utf-8")
        (temporary / CARD).write_text(model_card(model), encoding="utf-8")
        if torch7 is not None:
            t7.save(torch7, temporary / TORCH7)
        write_tensors(_tensors(model.module), temporary / WEIGHTS)
    return path


def load(folder: str | os.PathLike[str]) -> SavedModel:
    """Read the model in a folder that `save` wrote, in evaluation mode.

    No code from the folder is run.

    Raises:
        SavedModelError: If a file is missing or damaged, or structure and tensors do not fit.

    Example:
        >>> from tempfile import mkdtemp
        >>> model = SavedModel(nn.Linear(4, 2).eval(), "logits", labels=["cat", "dog"])
        >>> folder = save(model, Path(mkdtemp()) / "pets")
        >>> load(folder).labels
        ['cat', 'dog']
    """
    path = Path(folder)
    config = read_config(path)
    try:
        module = build(config["structure"])
        preprocessing, source = config["preprocessing"], config["source"]
        image_to_image = config.get("image_to_image")
        shape, tied = config["input_shape"], config["tied"]
        model = SavedModel(
            module=module,
            output_kind=config["output_kind"],
            input_shape=None if shape is None else (shape[0], shape[1], shape[2]),
            labels=config["labels"],
            preprocessing=None if preprocessing is None else Preprocessing.from_json(preprocessing),
            notes=config["notes"],
            source=None if source is None else Provenance(source["file"], source["sha256"]),
            inputs=_inputs(config),
            vocabularies=[Vocabulary.from_json(one) for one in config.get("vocabularies", [])],
            image_to_image=None
            if image_to_image is None
            else ImageToImage.from_json(image_to_image),
        )
        _check_fit(model)
    except TorchliftError as error:
        raise SavedModelError(f"{path / CONFIG}: {error}") from error
    except RecursionError:
        raise SavedModelError(f"{path / CONFIG}: nested too deeply") from None
    name_layers_in_errors(module)
    show_in_notebooks(module)
    if (path / TORCH7).exists():
        module.torch7_source = _torch7_source(path / TORCH7)  # type: ignore[assignment]  # no tensor or module
    tensors = _read_tensors(path / WEIGHTS)
    try:
        _fill(module, tensors, tied)
    except SavedModelError as error:
        raise SavedModelError(f"{path / WEIGHTS}: {error}") from None
    return model


def _inputs(config: dict[str, Any]) -> InputShapes | None:
    """Return what a network takes that takes no image of a known size."""
    if config["input_shape"] is not None or not config.get("inputs"):
        return None
    return InputShapes.from_json(config["inputs"])


def _check_fit(model: SavedModel) -> None:
    """Check that labels and preprocessing fit the network, which has no values yet.

    Raises:
        LabelsError: If there are more or fewer labels than outputs.
        PreprocessingError: If images would not become inputs of the network.
    """
    if model.preprocessing is not None:
        model.preprocessing.check_fits(model.input_shape)
    outputs = output_count(model.module)
    if model.labels is not None and outputs is not None:
        check_labels(model.labels, outputs)


def _torch7_object(model: SavedModel) -> LuaObject | None:
    """Return what a saved model keeps of the Torch7 object that it was converted from, if any."""
    if source_of(model.module) is None:
        return None
    try:
        return torch7_skeleton(model.module, model.input_shape)
    except ConversionError as error:
        note = f"cannot be written back to .t7: {error}"
        model.notes += [note] if note not in model.notes else []
        return None


def _torch7_source(file: Path) -> Torch7Source:
    try:
        value = t7.load(file, writable=False)
    except T7Error as error:
        raise SavedModelError(str(error)) from error
    if not (isinstance(value, LuaObject) and value.class_name == SKELETON):
        raise SavedModelError(f"{file}: damaged: a {SKELETON} was expected")
    return Torch7Source(value)


def metadata(model: SavedModel) -> dict[str, Any]:
    """Return everything about a model but its network, as JSON values."""
    return {
        "format": "torchlift",
        "format_version": FORMAT_VERSION,
        "torchlift_version": __version__,
        "source": None if model.source is None else asdict(model.source),
        "input_shape": model.input_shape,
        "inputs": None if model.input_shapes is None else model.input_shapes.to_json(),
        "output_kind": _output_kind(model.output_kind),
        "labels": model.labels,
        "vocabularies": [vocabulary.to_json() for vocabulary in model.vocabularies],
        "parameters": sum(parameter.numel() for parameter in model.module.parameters()),
        "preprocessing": None if model.preprocessing is None else model.preprocessing.to_json(),
        "image_to_image": None if model.image_to_image is None else model.image_to_image.to_json(),
        "notes": model.notes,
    }


def _check_described(module: nn.Module, structure: Description) -> dict[str, str]:
    """Check that a description rebuilds all tensors of a module with their names and shapes.

    Returns:
        Name of each tied tensor → the first name of the same tensor.

    Raises:
        SavedModelError: If a layer's tensors do not follow from its constructor's arguments.
    """
    state = module.state_dict()
    unfilled = next((name for name, tensor in state.items() if tensor.is_meta), None)
    if unfilled is not None:
        raise SavedModelError(f"{unfilled} has no values: its layer was never filled")
    actual = {name: tuple(tensor.shape) for name, tensor in state.items()}
    rebuilt = {name: tuple(tensor.shape) for name, tensor in build(structure).state_dict().items()}
    for name in [*actual, *rebuilt]:
        if actual.get(name) != rebuilt.get(name):
            raise SavedModelError(
                f"{name} has the shape {actual.get(name)}, but {rebuilt.get(name)} in a newly "
                "built layer: a layer's tensors must follow from its constructor's arguments"
            )
    return {name: first for name, first in first_names(module).items() if name != first}


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors by their first names; safetensors refuses two that share memory."""
    state = module.state_dict()
    result: dict[str, torch.Tensor] = {}
    used: set[int] = set()
    for name in dict.fromkeys(first_names(module).values()):
        tensor = state[name].detach().cpu().contiguous()
        memory = tensor.untyped_storage().data_ptr()
        result[name] = tensor.clone() if memory in used else tensor
        used.add(memory)
    return result


def _read_tensors(file: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a safetensors file, each into aligned memory of its own.

    Matrix products round differently if their operands are not aligned, and in the file they are
    not.
    """
    try:
        with safe_open(file, framework="pt") as tensors:
            return {name: tensors.get_tensor(name).clone() for name in tensors.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise SavedModelError(f"{file}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise SavedModelError(f"{file}: damaged: {error}") from error


def _fill(module: nn.Module, tensors: dict[str, torch.Tensor], tied: dict[str, str]) -> None:
    """Assign the tensors of a file to a network built on the `meta` device.

    Raises:
        SavedModelError: If a tensor is missing, has no layer, or has another shape or dtype.
    """
    expected = module.state_dict(keep_vars=True)
    values = {
        name: nn.Parameter(tensor, tensor.is_floating_point())
        if isinstance(expected.get(name), nn.Parameter)
        else tensor
        for name, tensor in tensors.items()
    }
    state = {name: values.get(tied.get(name, name)) for name in expected}
    for name, declared in expected.items():
        tensor = state[name]
        if tensor is None:
            raise SavedModelError(f"{tied.get(name, name)} is missing")
        if tensor.shape != declared.shape:
            raise SavedModelError(
                f"{name} has the shape {tuple(tensor.shape)}, {tuple(declared.shape)} was expected"
            )
        if tensor.is_floating_point() != declared.is_floating_point():
            raise SavedModelError(f"{name} is {tensor.dtype}, {declared.dtype} was expected")
    unused = sorted(set(values) - {tied.get(name, name) for name in expected})
    if unused:
        raise SavedModelError(f"no layer has a tensor {unused[0]}")
    module.load_state_dict(state, assign=True)
    unsaved = next((name for name, buffer in module.named_buffers() if buffer.is_meta), None)
    if unsaved is not None:
        raise SavedModelError(f"{unsaved} is not saved (a buffer that is not persistent)")


def _output_kind(value: Any) -> str:
    if value not in OUTPUT_KINDS:
        raise SavedModelError(
            f"output_kind is {value!r}; one of {', '.join(OUTPUT_KINDS)} was expected"
        )
    return str(value)
