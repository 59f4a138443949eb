"""What a saved model's folder says of itself: `config.json` and the header of its tensors.

Needs neither torch nor an image library: `torchlift inspect` works without them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ... import __version__
from ..errors import TorchliftError
from ..finite import first_not_finite
from ..input_shapes import InputShapes
from ..requirements import is_installed
from ..validation import (
    anything,
    check_entries,
    entries,
    list_of,
    mapping_of,
    one_of,
    optional,
    read_json,
    text,
    whole,
)
from ..vocabulary import check_vocabulary
from .errors import SavedModelError

CONFIG, WEIGHTS = "config.json", "model.safetensors"
#: The Torch7 object that the network was converted from, without the values in WEIGHTS.
TORCH7 = "torch7.t7"

#: The meanings that a model's outputs can have.
OUTPUT_KINDS = ("logits", "log_probabilities", "probabilities", "features")

#: Increased when an older torchlift could not open what this one writes.
FORMAT_VERSION = 2

#: The most numbers of one example: a gigabyte as float32.
_LARGEST_INPUT = 2**28

#: What each entry of `config.json` is. `folder.load` checks the structure, whose classes it builds.
_ENTRIES = {
    "torchlift_version": text,
    "source": optional(entries({"file": text, "sha256": text})),
    "input_shape": optional(list_of(whole(1, _LARGEST_INPUT), 3)),
    "inputs": optional(list_of(anything)),
    "output_kind": one_of(*OUTPUT_KINDS),
    "labels": optional(list_of(text)),
    "vocabularies": list_of(check_vocabulary),
    "parameters": whole(),
    "preprocessing": optional(mapping_of(anything)),
    "image_to_image": optional(mapping_of(anything)),
    "notes": list_of(text),
    "structure": mapping_of(anything),
    "tied": mapping_of(text),
}

#: Keys of format version 1, which torchlift 0.1.0 wrote → their names today.
_FORMAT_1 = {"output": "output_kind"}

#: Tensors of a batch normalization that are no parameters.
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")

#: What `describe_folder` takes from `config.json`, in this order.
_DESCRIBED = (
    *("parameters", "input_shape", "inputs", "output_kind", "labels", "vocabularies"),
    *("preprocessing", "image_to_image", "source"),
    *("torchlift_version", "format_version", "notes"),
)


def read_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the `config.json` of a saved model, with the keys of today's format version.

    Raises:
        SavedModelError: If it is missing, damaged, or not written by torchlift.
    """
    file = Path(folder) / CONFIG
    try:
        config = read_json(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise SavedModelError(_why_no_model(file.parent)) from None
    except OSError as error:
        raise SavedModelError(f"{file}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SavedModelError(f"{file}: not JSON written by torchlift: {error}") from None
    if not isinstance(config, dict) or config.get("format") != "torchlift":
        raise SavedModelError(f"{file}: not a model saved by torchlift")
    version = config.get("format_version")
    if type(version) is not int or version not in (1, FORMAT_VERSION):
        raise SavedModelError(
            f"{file}: format version {version!r}; torchlift {__version__} reads versions 1 to "
            f"{FORMAT_VERSION}: install the version that wrote it, "
            f"{config.get('torchlift_version')}"
        )
    config = _from_format_1(config) if version == 1 else config
    try:
        # Format 1 does not count the parameters.
        left_out = (
            "inputs",
            "vocabularies",
            "image_to_image",
            *(("parameters",) if version == 1 else ()),
        )
        check_entries(config, _ENTRIES, optional=left_out)
        if config.get("inputs"):
            InputShapes.from_json(config["inputs"])
        if math.prod(config["input_shape"] or ()) > _LARGEST_INPUT:
            raise ValueError(f"input_shape is {config['input_shape']}: too large for an example")
    except ValueError as error:
        raise SavedModelError(f"{file}: damaged: {error}") from None
    return config


def _from_format_1(config: dict[str, Any]) -> dict[str, Any]:
    """Return a description that torchlift 0.1.0 wrote, with today's names."""
    renamed = {_FORMAT_1.get(key, key): value for key, value in config.items()}
    if isinstance(renamed.get("preprocessing"), dict):
        renamed["preprocessing"] = preprocessing_of_format_1(renamed["preprocessing"])
    return renamed


def _why_no_model(folder: Path) -> str:
    """Return the message for a folder without a `config.json`."""
    if not folder.exists():
        return f"{folder}: no such file or folder"
    if (folder / "model" / CONFIG).exists():
        return f"{folder}: not a saved model, but it contains one: {folder / 'model'}"
    return (
        f"{folder}: not a saved model: it contains no {CONFIG}; "
        "`torchlift convert FILE.t7 FOLDER` writes one"
    )


def is_saved_model(folder: str | os.PathLike[str]) -> bool:
    """Return whether a folder holds a model that `save` wrote.

    Example:
        >>> is_saved_model(".")
        False
    """
    try:
        read_config(folder)
    except SavedModelError:
        return False
    return (Path(folder) / WEIGHTS).is_file()


def describe_folder(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Describe a saved model as JSON values, without building its network.

    Raises:
        SavedModelError: If the folder holds no saved model, or a damaged one.

    Example:
        >>> from tempfile import mkdtemp
        >>> from torch import nn
        >>> from torchlift.converters.saved import SavedModel, save
        >>> model = SavedModel(nn.Linear(4, 2).eval(), "logits", labels=["cat", "dog"])
        >>> description = describe_folder(save(model, f"{mkdtemp()}/pets"))
        >>> description["labels"], description["parameters"]
        (['cat', 'dog'], 10)
    """
    path = Path(folder)
    config = read_config(path)
    try:
        check_preprocessing(config["preprocessing"], config["input_shape"])
    except TorchliftError as error:
        raise SavedModelError(f"{path / CONFIG}: {error}") from error
    shapes = _tensor_shapes(path / WEIGHTS)
    config.setdefault("vocabularies", [])
    # Format 1 does not count the parameters.
    config.setdefault(
        "parameters",
        sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(_STATISTICS)),
    )
    return {
        "bytes": sum(file.stat().st_size for file in path.iterdir() if file.is_file()),
        **{key: config.get(key) for key in _DESCRIBED},
    }


def first_not_finite_weight(folder: str | os.PathLike[str]) -> str:
    """Return which tensor of a saved model is not finite, and where; empty if all are.

    Raises:
        SavedModelError: If the weights are missing or damaged.
    """
    with _open_tensors(Path(folder) / WEIGHTS) as tensors:
        for name in tensors.keys():  # noqa: SIM118 (it is no dict)
            if place := first_not_finite(tensors.get_tensor(name)):
                return f"{name}{place}"
    return ""


def preprocessing_of_format_1(values: dict[str, Any]) -> dict[str, Any]:
    """Return a description of preprocessing that torchlift 0.1.0 wrote, in today's names.

    Its `torch-nearest` computed what torch calls `nearest-exact`.
    """
    if not isinstance(values, dict) or values.get("resize") != "torch-nearest":
        return values
    return {**values, "resize": "torch-nearest-exact"}


def check_preprocessing(values: Any, input_shape: list[int] | None = None) -> None:
    """Check a description of preprocessing, of either format version; None is none.

    Without Pillow it stays unchecked: nothing can be preprocessed then either.

    Raises:
        PreprocessingError: If it is none, or does not fit the input of a network.
    """
    if values is not None and is_installed("PIL"):
        from ..images.preprocessing import Preprocessing

        Preprocessing.from_json(preprocessing_of_format_1(values)).check_fits(input_shape)


def _tensor_shapes(file: Path) -> dict[str, list[int]]:
    with _open_tensors(file) as tensors:
        return {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118 (it is no dict)


@contextmanager
def _open_tensors(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="np") as tensors:
            yield tensors
    except FileNotFoundError:
        raise SavedModelError(f"{file}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise SavedModelError(f"{file}: damaged: {error}") from error
