"""Conversion of Torch7 objects to PyTorch modules: a converter for each class."""

from ..requirements import require

require("torchlift.converters.modules", "torch")

from . import layers, packages
from .context import Context, ConvertedLayer, Note
from .conversion import Conversion, convert, convert_recorded
from .errors import ConversionError, UnknownClassError
from .find import find_model, load_conversion, load_model
from .layers.shape import keep_batch_dimension
from .registry import layer, register, registered_classes

__all__ = [
    "Context",
    "Conversion",
    "ConversionError",
    "ConvertedLayer",
    "Note",
    "UnknownClassError",
    "convert",
    "convert_recorded",
    "find_model",
    "keep_batch_dimension",
    "layer",
    "layers",
    "load_conversion",
    "load_model",
    "packages",
    "register",
    "registered_classes",
]
