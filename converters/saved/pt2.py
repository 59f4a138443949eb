"""A model as `.pt2`: PyTorch's own exported program, with a dynamic batch."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from torch.export import Dim

from .errors import SavedModelError
from .folder import facts
from .model import SavedModel


def save_pt2(model: SavedModel, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Write a model with `torch.export`, its batch dimension dynamic.

    Labels, preprocessing and notes travel in the extra file `config.json`
    (`torch.export.load(path, extra_files={"config.json": ""})`).

    Args:
        model: a model whose `input_shape` is known.
        path: where to.
        overwrite: replace a file that is there already.

    Raises:
        SavedModelError: when the file is there, the input shape is not known, or the network
            cannot be traced.
    """
    file = Path(path)
    if file.exists() and not overwrite:
        raise SavedModelError(f"{file}: is there already; --overwrite replaces it")
    if model.input_shape is None:
        raise SavedModelError(f"{file}: the size of the input must be known: give --input-size")
    dtype = next((p.dtype for p in model.module.parameters()), torch.float32)
    example = torch.zeros(2, *model.input_shape, dtype=dtype)
    try:
        program = torch.export.export(
            model.module.eval(), (example,), dynamic_shapes=({0: Dim("batch")},)
        )
    except Exception as error:  # torch.export has no error class of its own
        raise SavedModelError(f"{file}: torch.export cannot trace the network: {error}") from error
    temporary = file.with_name(f".{file.stem}.{os.getpid()}.pt2")
    try:
        config = json.dumps(facts(model), ensure_ascii=False)
        torch.export.save(program, temporary, extra_files={"config.json": config})
        temporary.replace(file)
    except OSError as error:
        raise SavedModelError(f"{file}: cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return file
