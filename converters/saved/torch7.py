"""A model as `.t7` again, for Torch7."""

from __future__ import annotations

import os
from pathlib import Path

from .. import t7
from ..modules.to_torch7 import to_torch7
from .errors import SavedModelError
from .model import SavedModel


def save_t7(model: SavedModel, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Write a model's network as Torch7 does; labels and preprocessing have no place in it.

    Args:
        model: a model whose `input_shape` is known, of layers that Torch7 has too.
        path: where to.
        overwrite: replace a file that is there already.

    Raises:
        SavedModelError: when the file is there, or the input shape is not known.
        ConversionError: when Torch7 has no such layer.
        T7Error: when the file cannot be written.
    """
    file = Path(path)
    if file.exists() and not overwrite:
        raise SavedModelError(f"{file}: is there already; --overwrite replaces it")
    if model.input_shape is None:
        raise SavedModelError(f"{file}: the size of the input must be known: give --input-size")
    t7.save(to_torch7(model.module, model.input_shape), file)
    return file
