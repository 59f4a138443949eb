"""Saved models: a network's structure, tensors, labels and preprocessing in one folder.

`save` writes a folder and `load` reads it; opening one runs no code from it. `open_model` opens a
`.t7` file, such a folder, or a repository of the Hugging Face Hub with one. `save_pt2` and
`save_t7` write the other formats of a network.
What needs torch is imported when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..requirements import require
from .config import describe_folder, is_saved_model
from .errors import SavedModelError

if TYPE_CHECKING:
    from .folder import load, save
    from .model import OUTPUT_KINDS, Provenance, SavedModel
    from .named_network import NamedNetwork, last_weights
    from .open import open_model
    from .overrides import apply_overrides
    from .pt2 import save_pt2
    from .shapes import infer_input_shape, infer_output_kind, output_shape
    from .timm_network import TimmNetwork
    from .torch7 import save_t7
    from .torchvision_network import TorchvisionNetwork
    from .transformers_network import TransformersNetwork
    from .up_to_layer import UpToLayer

__all__ = [
    "OUTPUT_KINDS",
    "NamedNetwork",
    "Provenance",
    "SavedModel",
    "SavedModelError",
    "TimmNetwork",
    "TorchvisionNetwork",
    "TransformersNetwork",
    "UpToLayer",
    "apply_overrides",
    "describe_folder",
    "infer_input_shape",
    "infer_output_kind",
    "is_saved_model",
    "last_weights",
    "load",
    "open_model",
    "output_shape",
    "save",
    "save_pt2",
    "save_t7",
]

#: The module of each name that needs torch.
_LAZY = {
    **dict.fromkeys(("load", "save"), "folder"),
    **dict.fromkeys(("OUTPUT_KINDS", "Provenance", "SavedModel"), "model"),
    **dict.fromkeys(("NamedNetwork", "last_weights"), "named_network"),
    "open_model": "open",
    "apply_overrides": "overrides",
    "save_pt2": "pt2",
    **dict.fromkeys(("infer_input_shape", "infer_output_kind", "output_shape"), "shapes"),
    "save_t7": "torch7",
    "TimmNetwork": "timm_network",
    "TorchvisionNetwork": "torchvision_network",
    "TransformersNetwork": "transformers_network",
    "UpToLayer": "up_to_layer",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        require(f"torchlift.converters.saved.{name}", "torch")
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
