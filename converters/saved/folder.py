"""A saved model as a folder: `config.json`, `model.safetensors` and a stand-alone `model.py`."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from ... import __version__
from ..errors import TorchliftError
from ..images.preprocessing import Preprocessing, preprocessing_of_format_1
from .code_writer import WIDTH
from .errors import SavedModelError
from .model import OUTPUT_KINDS, Provenance, SavedModel
from .standalone import standalone_source
from .structure import Description, build, describe, first_names

CONFIG, WEIGHTS, SOURCE = "config.json", "model.safetensors", "model.py"

#: Lets ruff find `model.py` formatted wherever the folder is.
_RUFF = ("ruff.toml", f"line-length = {WIDTH}\n")

#: Counts up when an older torchlift could no longer open what this one writes.
FORMAT_VERSION = 2

#: What format 1, of torchlift 0.1.0, calls differently.
_FORMAT_1 = {"output": "output_kind"}


def save(model: SavedModel, folder: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Write a model to a folder, all of it or nothing.

    Args:
        model: the model; its module is not changed.
        folder: where to; its parent must be there.
        overwrite: replace a saved model that is there already. Nothing else is ever replaced.

    Raises:
        SavedModelError: when the folder is taken, or the model cannot be described.
    """
    path = Path(folder)
    _check_free(path, overwrite)
    structure = describe(model.module)
    tied = _check_described(model.module, structure)
    code = standalone_source(model, structure, tied)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        config = {**facts(model), "structure": structure, "tied": tied}
        text = json.dumps(config, indent=1, ensure_ascii=False) + "\n"
        (temporary / CONFIG).write_text(text, encoding="utf-8")
        (temporary / SOURCE).write_text(code, encoding="utf-8")
        (temporary / _RUFF[0]).write_text(_RUFF[1], encoding="utf-8")
        save_file(_tensors(model.module), temporary / WEIGHTS)
        _replace(path, temporary)
    except OSError as error:
        raise SavedModelError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def load(folder: str | os.PathLike[str]) -> SavedModel:
    """The model of a folder that `save` wrote, in evaluation mode. Runs no code from the folder.

    Raises:
        SavedModelError: when a file is missing or damaged, or structure and tensors do not fit.
    """
    path = Path(folder)
    config = _read_config(path / CONFIG)
    try:
        module = build(config["structure"])
        preprocessing, source = config["preprocessing"], config["source"]
        model = SavedModel(
            module=module,
            output_kind=_one_of(config["output_kind"], OUTPUT_KINDS),
            input_shape=_triple(config["input_shape"]),
            labels=config["labels"] if config["labels"] is None else _strings(config["labels"]),
            preprocessing=None if preprocessing is None else Preprocessing.from_json(preprocessing),
            notes=_strings(config["notes"]),
            source=None if source is None else Provenance(**source),
        )
        tied = dict(config["tied"])
    except (KeyError, TypeError, ValueError) as error:
        raise SavedModelError(f"{path / CONFIG}: damaged: {_said(error)}") from error
    except TorchliftError as error:
        raise SavedModelError(f"{path / CONFIG}: {error}") from error
    except RecursionError:
        raise SavedModelError(f"{path / CONFIG}: nested too deeply") from None
    tensors = _read_tensors(path / WEIGHTS)
    try:
        _fill(module, tensors, tied)
    except SavedModelError as error:
        raise SavedModelError(f"{path / WEIGHTS}: {error}") from None
    return model


def facts(model: SavedModel) -> dict[str, Any]:
    """What travels with a network, as JSON values."""
    return {
        "format": "torchlift",
        "format_version": FORMAT_VERSION,
        "torchlift_version": __version__,
        "source": None if model.source is None else asdict(model.source),
        "input_shape": model.input_shape,
        "output_kind": _one_of(model.output_kind, OUTPUT_KINDS),
        "labels": model.labels,
        "preprocessing": None if model.preprocessing is None else model.preprocessing.to_json(),
        "notes": model.notes,
    }


def is_saved_model(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a saved model."""
    return (Path(folder) / CONFIG).is_file() and (Path(folder) / WEIGHTS).is_file()


def _check_described(module: nn.Module, structure: Description) -> dict[str, str]:
    """Check that the structure alone gives the same tensors; returns the names of tied ones.

    Raises:
        SavedModelError: when a layer's tensors do not follow from its constructor's arguments.
    """
    state = module.state_dict()
    hollow = next((name for name, tensor in state.items() if tensor.is_meta), None)
    if hollow is not None:
        raise SavedModelError(f"{hollow} holds no numbers: its layer was not filled")
    mine = {name: tuple(tensor.shape) for name, tensor in state.items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in build(structure).state_dict().items()}
    for name in [*mine, *theirs]:
        if mine.get(name) != theirs.get(name):
            raise SavedModelError(
                f"{name} has the shape {mine.get(name)}, and {theirs.get(name)} when its layer is "
                "built anew: a layer's tensors must follow from its constructor's arguments"
            )
    return {name: first for name, first in first_names(module).items() if name != first}


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors by their first names; safetensors takes no two from one memory."""
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
    """The tensors of a safetensors file, each in aligned memory of its own.

    Matrix products round differently where their numbers are not aligned, which those in the
    file are not.
    """
    try:
        with safe_open(file, framework="pt") as tensors:
            return {name: tensors.get_tensor(name).clone() for name in tensors.keys()}  # noqa: SIM118 (it is no dict)
    except FileNotFoundError:
        raise SavedModelError(f"{file}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise SavedModelError(f"{file}: damaged: {error}") from error


def _fill(module: nn.Module, tensors: dict[str, torch.Tensor], tied: dict[str, str]) -> None:
    """Give a built network its tensors.

    Raises:
        SavedModelError: when one is missing, left over, or of another shape.
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
        found = state[name]
        if found is None:
            raise SavedModelError(f"{tied.get(name, name)} is missing")
        if found.shape != declared.shape:
            raise SavedModelError(
                f"{name} has the shape {tuple(found.shape)}, {tuple(declared.shape)} was expected"
            )
        if found.is_floating_point() != declared.is_floating_point():
            raise SavedModelError(f"{name} is {found.dtype}, {declared.dtype} was expected")
    left = sorted(set(values) - {tied.get(name, name) for name in expected})
    if left:
        raise SavedModelError(f"no layer has a tensor {left[0]}")
    module.load_state_dict(state, assign=True)
    empty = next((name for name, buffer in module.named_buffers() if buffer.is_meta), None)
    if empty is not None:
        raise SavedModelError(f"{empty} is not saved (a buffer that is not persistent)")


def _read_config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SavedModelError(_no_model(file.parent)) from None
    except OSError as error:
        raise SavedModelError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SavedModelError(f"{file}: no JSON that torchlift wrote: {error}") from None
    if not isinstance(config, dict) or config.get("format") != "torchlift":
        raise SavedModelError(f"{file}: not a model saved by torchlift")
    version = config.get("format_version")
    if version not in (1, FORMAT_VERSION):
        raise SavedModelError(
            f"{file}: format version {version!r}, this torchlift ({__version__}) reads 1 to "
            f"{FORMAT_VERSION}: install the version that wrote it, "
            f"{config.get('torchlift_version')}"
        )
    return _from_format_1(config) if version == 1 else config


def _from_format_1(config: dict[str, Any]) -> dict[str, Any]:
    """A description that torchlift 0.1.0 wrote, in today's words."""
    renamed = {_FORMAT_1.get(key, key): value for key, value in config.items()}
    if renamed.get("preprocessing"):
        renamed["preprocessing"] = preprocessing_of_format_1(renamed["preprocessing"])
    return renamed


def _no_model(folder: Path) -> str:
    if not folder.exists():
        return f"{folder}: no such file or folder"
    if (folder / "model" / CONFIG).exists():
        return f"{folder}: not a saved model; there is one in it: {folder / 'model'}"
    return (
        f"{folder}: not a saved model, for there is no {CONFIG} in it; "
        "`torchlift convert FILE.t7 FOLDER` writes one"
    )


def _check_free(path: Path, overwrite: bool) -> None:
    if not path.parent.is_dir():
        raise SavedModelError(f"{path.parent}: no such folder")
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not overwrite:
        raise SavedModelError(f"{path}: is there already; --overwrite replaces it")
    if not is_saved_model(path):
        raise SavedModelError(f"{path}: is no saved model and is not replaced; choose another name")


def _replace(path: Path, temporary: Path) -> None:
    """Put a finished folder in its place; the one that was there goes last."""
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    if path.exists():
        path.rename(old)
    temporary.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _one_of(value: Any, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise SavedModelError(f"output_kind is {value!r}, one of {', '.join(choices)} was expected")
    return value


def _strings(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"a list of texts was expected, not {value!r}")
    return value


def _triple(value: Any) -> tuple[int, int, int] | None:
    if value is None:
        return None
    channels, height, width = (int(size) for size in value)
    return channels, height, width


def _said(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)
