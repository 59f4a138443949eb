"""`hf:FOLDER`: an image classifier of timm or transformers, in the layout of the Hub.

The folder holds `config.json` and `model.safetensors`, as the Hub keeps them. Both are data: of the
config only the description of a network that the library itself has is taken.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...converters.images.errors import PreprocessingError
from ...converters.saved import SavedModel, TimmNetwork, TransformersNetwork
from ...converters.saved.config import CONFIG, WEIGHTS
from ...converters.saved.hub import PREPROCESSOR, is_of_another_library
from ...converters.saved.transformers_network import stored_config, with_current_names
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
from .timm_models import described_by_timm

#: The files of weights, the first that is there; large networks have an index of several.
_WEIGHTS = (WEIGHTS, "pytorch_model.bin")
_INDEX = f"{WEIGHTS}.index.json"

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


def open_hugging_face(folder: Path) -> SavedModel:
    """Open an image classifier of timm or transformers.

    Args:
        folder: It has `config.json` and `model.safetensors`.

    Raises:
        NetworkError: It is damaged, or holds something else.
        SavedModelError: Its library is missing, or cannot build it.
    """
    if not (folder / CONFIG).is_file():
        raise NetworkError(f"{folder}: there is no {CONFIG}, which describes a network")
    if not is_of_another_library(folder):
        raise NetworkError(
            f"{folder}: its {CONFIG} is neither that of a saved model nor of timm (architecture) "
            "nor of transformers (model_type)"
        )
    state = _read_weights(folder)
    config = _read(folder / CONFIG)
    try:
        build = _of_timm if "architecture" in config else _of_transformers
        model = build(config, folder)
    except ValueError as error:
        raise NetworkError(f"{folder / CONFIG}: {error}") from None
    model.module.eval()
    if isinstance(model.module, TransformersNetwork):
        state = with_current_names(model.module, state)
    fill_from_state(model, model.module.get_submodule("network"), state, str(folder))
    return model


def _read_weights(folder: Path) -> State:
    """Return all tensors, which large networks have in several files.

    Raises:
        NetworkError: There are none, or they are damaged.
    """
    files = [folder / name for name in _WEIGHTS if (folder / name).is_file()][:1]
    index = folder / _INDEX
    if not files and index.is_file():
        try:
            parts = mapping_of(text)(_read(index).get("weight_map"), "weight_map")
        except ValueError as error:
            raise NetworkError(f"{index}: {error}") from None
        files = [folder / name for name in sorted(set(parts.values()))]
        # A name of a file, not a path out of the folder.
        absent = [file for file in files if file.parent != folder or not file.is_file()]
        if absent:
            raise NetworkError(f"{index}: there is no {absent[0]}")
    if not files:
        raise NetworkError(f"{folder}: there is no {' or '.join(_WEIGHTS)}")
    return {name: tensor for file in files for name, tensor in read_state(file)[0].items()}


def _read(file: Path) -> dict[str, Any]:
    try:
        return check_entries(read_json(file.read_text(encoding="utf-8")), {})
    except ValueError as error:
        raise NetworkError(f"{file}: damaged: {error}") from None


def _of_timm(config: dict[str, Any], _folder: Path) -> SavedModel:
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


def _of_transformers(config: dict[str, Any], folder: Path) -> SavedModel:
    """Return the network that `config.json` of transformers describes.

    Args:
        config: The entries of the file.
        folder: Where the file is that says what its images are, if there is one.

    Raises:
        ValueError: It is damaged, or of something else than an image classifier.
    """
    kinds = {"architectures": list_of(text), "model_type": text, "id2label": mapping_of(text)}
    check_entries(config, kinds, optional=["id2label"])
    if not any(name.endswith("ForImageClassification") for name in config["architectures"]):
        raise ValueError(
            f"it is of no image classifier with one head: {', '.join(config['architectures'])}"
        )
    # transformers leaves out what it takes by default: two classes.
    names = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    module = TransformersNetwork(stored_config(config), len(names))
    if not names.keys() >= {str(index) for index in range(len(names))}:
        raise ValueError("id2label does not number the classes from 0")
    model = SavedModel(module, "logits")
    ordered = [names[str(index)] for index in range(len(names))]
    # Names that transformers made up are none.
    made_up = ordered == [f"LABEL_{index}" for index in range(len(names))]
    model.labels = None if made_up else _labels(ordered, module)
    size = config.get("image_size")
    processor = folder / PREPROCESSOR
    if not processor.is_file():
        model.notes.append(f"there is no {PREPROCESSOR}: give mean=… and std=…")
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
