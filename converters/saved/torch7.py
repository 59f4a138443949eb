"""Writing a model as `.t7`, for Torch7."""

from __future__ import annotations

import os
from pathlib import Path

from .. import t7
from ..files import check_output
from ..modules.to_torch7 import to_torch7
from .model import SavedModel


def save_t7(model: SavedModel, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Write a model's network as a `.t7` file, without its labels and preprocessing.

    Args:
        model: A model that was converted from a `.t7`, or whose layers all exist in Torch7.
        path: The file to write.
        overwrite: Whether an existing file is replaced.

    Returns:
        The path of the file.

    Raises:
        WriteError: If the file exists, or cannot be written.
        ConversionError: If Torch7 does not have one of the layers, or the input shape is needed and
            not known.

    Example:
        >>> from tempfile import mkdtemp
        >>> from torch import nn
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).eval()
        >>> model = SavedModel(network, "logits", input_shape=(1, 28, 28))
        >>> file = save_t7(model, Path(mkdtemp()) / "digits.t7")
        >>> t7.load(file).class_name
        'nn.Sequential'
    """
    file = check_output(path, overwrite)
    t7.save(to_torch7(model.module, model.input_shape), file)
    return file
