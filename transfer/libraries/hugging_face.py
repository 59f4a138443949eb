"""`hf:FOLDER`: an image classifier of timm or transformers, from a folder or the hub's cache.

The folder holds `config.json` and `model.safetensors`, as the hub keeps them. Both are data: of the
config only the description of a network that the library itself has is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...converters.images.errors import PreprocessingError
from ...converters.saved import SavedModel, TimmNetwork, TransformersNetwork
from ...converters.saved.transformers_network import stored_config
from ...converters.validation import (
    check_entries,
    entries,
    list_of,
    mapping_of,
    number,
    optional,
    read_json,
    text,
    whole,
)
from ..errors import NetworkError
from .checkpoint import State, fill_from_state, read_state
from .image_processor import preprocessing_of
from .published import REPOSITORY, hub_file
from .timm_models import described_by_timm

#: The file that describes a network, and those of its weights; the first that is there counts.
_CONFIG = "config.json"
_INDEX = "model.safetensors.index.json"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")

_TIMM = {
    "architecture": text,
    "num_classes": whole(1),
    "label_names": optional(list_of(text)),
    "model_args": optional(entries({"img_size": whole(1)}, ("img_size",))),
}
_TIMM_IMAGES = {
    "input_size": list_of(whole(1), 3),
    "mean": list_of(number, 3),
    "std": list_of(number, 3),
    "crop_pct": optional(number),
    "crop_mode": optional(text),
    "interpolation": optional(text),
    "label_names": optional(list_of(text)),
}

#: Finds a file by its name in the folder or the repository; None if it is not there.
_Find = Callable[[str], Path | None]


def open_hugging_face(place: str, download: bool = False) -> SavedModel:
    """Open an image classifier in the format of the Hugging Face hub.

    Args:
        place: A folder; or `owner/name`, a repository in the hub's cache.
        download: Whether files that are not in the cache are fetched.

    Raises:
        NetworkError: It is not there, or not an image classifier of timm or transformers.
        SavedModelError: Its library is missing, or cannot build it.
    """
    find = _finder(place, download)
    config_file = find(_CONFIG)
    if config_file is None:
        hint = "" if Path(place).is_dir() else ", nor is it in the hub's cache: download=True"
        raise NetworkError(f"hf:{place}: there is no {_CONFIG}{hint}")
    state = _read_weights(find, place)
    config = _read(config_file)
    try:
        if "architecture" in config:
            model = _of_timm(config)
        elif "model_type" in config:
            model = _of_transformers(config, find("preprocessor_config.json"))
        else:
            raise ValueError("it is neither of timm (architecture) nor transformers (model_type)")
    except ValueError as error:
        raise NetworkError(f"{config_file}: {error}") from None
    model.module.eval()
    fill_from_state(model, model.module.get_submodule("network"), state, f"hf:{place}")
    return model


def _finder(place: str, download: bool) -> _Find:
    """Return what finds the files of a folder or a repository.

    Raises:
        NetworkError: It is neither.
    """
    folder = Path(place)
    if folder.is_dir():

        def in_folder(name: str) -> Path | None:
            return folder / name if (folder / name).is_file() else None

        return in_folder
    if not REPOSITORY.fullmatch(place):
        raise NetworkError(f"hf:{place}: no such folder, and no owner/name of a repository")
    return lambda name: hub_file(place, name, download)


def _read_weights(find: _Find, place: str) -> State:
    """Return all tensors, which large networks have in several files.

    Raises:
        NetworkError: There are none, or they are damaged.
    """
    files = [file for name in _WEIGHTS if (file := find(name)) is not None][:1]
    if not files and (index := find(_INDEX)) is not None:
        try:
            parts = mapping_of(text)(_read(index).get("weight_map"), "weight_map")
        except ValueError as error:
            raise NetworkError(f"{index}: {error}") from None
        for name in sorted(set(parts.values())):
            # A name of a file, not a path out of the folder.
            found = find(name) if Path(name).name == name else None
            if found is None:
                raise NetworkError(f"{index}: there is no {name}")
            files.append(found)
    if not files:
        raise NetworkError(f"hf:{place}: there is no {' or '.join(_WEIGHTS)}")
    return {name: tensor for file in files for name, tensor in read_state(file)[0].items()}


def _read(file: Path) -> dict[str, Any]:
    try:
        return check_entries(read_json(file.read_text(encoding="utf-8")), {})
    except ValueError as error:
        raise NetworkError(f"{file}: damaged: {error}") from None


def _of_timm(config: dict[str, Any]) -> SavedModel:
    """Return the network that `config.json` of timm describes.

    Raises:
        ValueError: It is damaged, or has arguments that are not known.
    """
    check_entries(config, _TIMM, optional=("label_names", "model_args"))
    images = check_entries(
        config.get("pretrained_cfg"),
        _TIMM_IMAGES,
        "pretrained_cfg",
        ("crop_pct", "crop_mode", "interpolation", "label_names"),
    )
    arguments = config.get("model_args") or {}
    unknown = [name for name in arguments if name != "img_size"]
    if unknown:
        raise ValueError(f"model_args has {unknown[0]}, which is not known")
    module = TimmNetwork(config["architecture"], config["num_classes"], **arguments)
    model = described_by_timm(module, images)
    model.labels = _labels(config.get("label_names") or images.get("label_names"), module)
    return model


def _of_transformers(config: dict[str, Any], processor: Path | None) -> SavedModel:
    """Return the network that `config.json` of transformers describes.

    Args:
        config: The entries of the file.
        processor: The file that says what its images are, if there is one.

    Raises:
        ValueError: It is damaged, or of something else than an image classifier.
    """
    check_entries(config, {"model_type": text, "id2label": mapping_of(text)}, optional=["id2label"])
    names = config.get("id2label")
    if names is None:
        raise ValueError("it names no classes (id2label): it is of no classifier")
    module = TransformersNetwork(stored_config(config), len(names))
    if not names.keys() >= {str(index) for index in range(len(names))}:
        raise ValueError("id2label does not number the classes from 0")
    model = SavedModel(module, "logits")
    ordered = [names[str(index)] for index in range(len(names))]
    # Names that transformers made up are none.
    made_up = ordered == [f"LABEL_{index}" for index in range(len(names))]
    model.labels = None if made_up else _labels(ordered, module)
    size = config.get("image_size")
    if processor is None:
        model.notes.append("there is no preprocessor_config.json: give mean=… and std=…")
    else:
        try:
            model.preprocessing = preprocessing_of(_read(processor))
            size = model.preprocessing.crop or model.preprocessing.size
        except (ValueError, PreprocessingError) as error:
            model.notes.append(f"{processor.name}: {error}: give mean=… and std=…")
    if isinstance(size, int):
        size = (size, size)
    if size is not None:
        model.input_shape = (3, size[0], size[1])
    return model


def _labels(names: list[str] | None, module: TimmNetwork | TransformersNetwork) -> list[str] | None:
    """Return the names of the classes, none where they are not as many as the outputs."""
    return list(names) if names is not None and len(names) == module.num_classes else None
