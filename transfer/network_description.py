"""What a run knows of a network of somebody's own classes, which cannot be saved as a model.

A saved model runs no code, so it cannot hold such a network. Its run keeps the weights in
`network.safetensors`, and in `network.json` what else is needed to use it again: labels,
preprocessing, the size of the input, and how the network was made.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from .. import __version__
from ..converters.files import atomic_path
from ..converters.images.preprocessing import Preprocessing
from ..converters.saved import SavedModel
from ..converters.saved.model import OUTPUT_KINDS
from ..converters.validation import (
    anything,
    check_entries,
    list_of,
    one_of,
    optional,
    read_json,
    text,
    whole,
)
from .errors import NetworkError
from .heads import replace_head, strip_softmax

#: The files of a run that hold a network.
DESCRIPTION, WEIGHTS = "network.json", "network.safetensors"

_FORMAT = "torchlift network"
#: Increased when an older torchlift could not read what this one writes.
FORMAT_VERSION = 1

_HEADER = {"format": one_of(_FORMAT), "format_version": whole(1), "torchlift_version": text}
_ENTRIES = {
    "arguments": list_of(whole(1)),
    "head": optional(one_of("zeros", "probe", "keep")),
    "classes": whole(1),
    "output_kind": one_of(*OUTPUT_KINDS),
    "labels": optional(list_of(text)),
    "input_shape": optional(list_of(whole(1), length=3)),
    "preprocessing": anything,
}

#: How many folders above its weights a description may be: RUN/checkpoints/epoch-0001/….
_LEVELS = 3


@dataclass(frozen=True)
class NetworkDescription:
    """How a network is made and used.

    Attributes:
        arguments: What the function that returns the network was called with.
        head: What became of its last layer: `zeros` or `probe`, which replaced it; `keep`, which
            took only the softmax away; None if it was trained from scratch.
        classes: The number of outputs.
        output_kind: What they mean.
        labels: The class names of the outputs, or None.
        input_shape: (C, H, W) of one example, or None.
        preprocessing: The steps from an image to an input, or None.
    """

    arguments: Sequence[Any]
    head: str | None
    classes: int
    output_kind: str
    labels: list[str] | None
    input_shape: tuple[int, int, int] | None
    preprocessing: Preprocessing | None

    def apply(self, model: SavedModel) -> None:
        """Give a network that was just made the head of the run, and everything but its weights.

        Raises:
            HeadError: The network has no head like that of the run.
        """
        if self.head == "keep":
            strip_softmax(model.module, model.output_kind)
        elif self.head is not None:
            replace_head(model.module, self.classes, output_kind=model.output_kind)
        model.output_kind, model.labels = self.output_kind, self.labels
        model.input_shape, model.preprocessing = self.input_shape, self.preprocessing


def write_description(description: NetworkDescription, folder: Path) -> None:
    """Write `network.json` into the folder of a run, atomically."""
    preprocessing = description.preprocessing
    values = {
        "format": _FORMAT,
        "format_version": FORMAT_VERSION,
        "torchlift_version": __version__,
        **vars(description),
        "arguments": list(description.arguments),
        "preprocessing": None if preprocessing is None else preprocessing.to_json(),
    }
    with atomic_path(folder / DESCRIPTION) as path:
        path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_weights(network: nn.Module, folder: Path) -> None:
    """Write `network.safetensors` into the folder of a run, atomically."""
    # Tied weights share their memory, which safetensors refuses: each is written by itself.
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in network.state_dict().items()
    }
    with atomic_path(folder / WEIGHTS) as path:
        save_file(tensors, path)


def find_description(weights: str | os.PathLike[str]) -> NetworkDescription | None:
    """Return the description in the folder of the run that weights are in, None without one.

    Args:
        weights: The folder of a run, or a file in it, such as a checkpoint's.

    Raises:
        NetworkError: It is damaged, or a newer torchlift wrote it.
    """
    place = Path(weights)
    folders = [place] if place.is_dir() else list(place.absolute().parents)[:_LEVELS]
    file = next((folder / DESCRIPTION for folder in folders if _is_file(folder)), None)
    if file is None:
        return None
    try:
        values = check_entries(read_json(file.read_text(encoding="utf-8")), _HEADER)
        if values["format_version"] != FORMAT_VERSION:
            raise NetworkError(
                f"{file}: format version {values['format_version']}; torchlift {__version__} reads "
                f"{FORMAT_VERSION}: install the version that wrote it, "
                f"{values['torchlift_version']}"
            )
        values = check_entries(values, _ENTRIES)
    except (OSError, ValueError) as error:
        raise NetworkError(f"{file}: damaged: {error}") from error
    shape, preprocessing = values["input_shape"], values["preprocessing"]
    return NetworkDescription(
        **{
            name: values[name] for name in ("arguments", "head", "classes", "output_kind", "labels")
        },
        input_shape=None if shape is None else tuple(shape),
        preprocessing=None if preprocessing is None else Preprocessing.from_json(preprocessing),
    )


def _is_file(folder: Path) -> bool:
    return (folder / DESCRIPTION).is_file()
