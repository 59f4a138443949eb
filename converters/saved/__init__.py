"""Our own saved model: structure, tensors, labels and preprocessing in a folder, without code."""

from .errors import SavedModelError
from .folder import is_saved_model, load, save
from .model import OUTPUT_KINDS, Provenance, SavedModel
from .open import apply_overrides, open_model
from .pt2 import save_pt2
from .shapes import infer_input_shape, infer_output_kind, output_shape
from .torch7 import save_t7
from .torchvision_network import TorchvisionNetwork

__all__ = [
    "OUTPUT_KINDS",
    "Provenance",
    "SavedModel",
    "SavedModelError",
    "TorchvisionNetwork",
    "apply_overrides",
    "infer_input_shape",
    "is_saved_model",
    "load",
    "open_model",
    "infer_output_kind",
    "output_shape",
    "save",
    "save_pt2",
    "save_t7",
]
