"""Writing a model as `.pt2`, PyTorch's exported program, with a dynamic batch size."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from torch.export import Dim
from torch.utils import _pytree as pytree

from ..files import atomic_path, check_output
from .errors import SavedModelError
from .folder import metadata
from .input_trial import example_inputs, free_size
from .model import SavedModel
from .tensor_files import write_buffered


def save_pt2(model: SavedModel, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Write a model with `torch.export`, its batch dimension dynamic.

    Labels, preprocessing and notes are in the extra file `config.json`
    (`torch.export.load(path, extra_files={"config.json": ""})`).

    Args:
        model: A model of which it is known what it takes (`SavedModel.input_shapes`).
        path: The file to write.
        overwrite: Whether an existing file is replaced.

    Returns:
        The path of the file.

    Raises:
        WriteError: If the file exists, or cannot be written.
        SavedModelError: If the input shape is not known, or `torch.export` cannot trace the
            network.

    Example:
        >>> from tempfile import mkdtemp
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10)).eval()
        >>> model = SavedModel(network, "logits", input_shape=(1, 28, 28))
        >>> file = save_pt2(model, Path(mkdtemp()) / "digits.pt2")
        >>> torch.export.load(file).module()(torch.zeros(5, 1, 28, 28)).shape
        torch.Size([5, 10])
    """
    file = check_output(path, overwrite)
    shapes = model.input_shapes
    if shapes is None:
        raise SavedModelError(
            f"{file}: the input size is not known: give input_size=(H, W) or input='SIZE'"
        )
    dtype = next((parameter.dtype for parameter in model.module.parameters()), torch.float32)
    example = pytree.tree_map(
        lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor,
        example_inputs(shapes, free=free_size(model.module, shapes) or 1),
    )
    _, structure = pytree.tree_flatten(example)
    batch = Dim("batch")
    axes = [
        {leaf.batch_axis: batch, **dict.fromkeys(leaf.free_axes, Dim.DYNAMIC)}
        for leaf in shapes.leaves()
    ]
    try:
        program = torch.export.export(
            model.module.eval(),
            (example,),
            dynamic_shapes=(pytree.tree_unflatten(axes, structure),),
        )
    except Exception as error:  # torch.export has no exception class of its own
        raise SavedModelError(f"{file}: torch.export cannot trace the network: {error}") from error
    config = json.dumps(metadata(model), ensure_ascii=False)
    with atomic_path(file) as temporary:
        write_buffered(
            lambda stream: torch.export.save(program, stream, extra_files={"config.json": config}),
            temporary,
        )
    return file
