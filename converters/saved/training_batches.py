"""Layers in which the batch of the training stands as a size, and which take any batch here."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from ..input_shapes import InputShapes
from ..modules.conversion import lua_paths
from ..modules.layers.shape import Reshape, View
from ..modules.meta_device import on_meta_device
from .input_trial import example_inputs, free_size
from .shapes import some_image_shape


def training_batch_notes(module: nn.Module, shapes: InputShapes | None) -> list[str]:
    """Return a note for each layer whose first size is the batch that the network was trained with.

    DeepMask's `nn.View(config.batch, …)` is one. No value is computed.

    Args:
        module: A network in evaluation mode that keeps its batch (`keep_batch_dimension`).
        shapes: What it takes; None if that is not known.

    Example:
        >>> from torchlift.converters.input_shapes import parse_inputs
        >>> view = View([32, 12], keep_batch=True)
        >>> training_batch_notes(view, parse_inputs("3x2x2"))
        ['(View): 32 is the batch of its training; here the batch is free']
    """
    layers = [
        name
        for name, one in module.named_modules()
        if isinstance(one, (View, Reshape)) and len(one.size) > 1 and one.size[0] > 1
    ]
    if not layers:
        return []
    if shapes is None and (image := some_image_shape(module)) is not None:
        shapes = InputShapes.single(image)
    size = None if shapes is None else free_size(module, shapes)
    if shapes is None or size is None:
        return []
    trial = on_meta_device(module)
    found: dict[str, int] = {}

    def watch(name: str, layer: View | Reshape, inputs: tuple[Any, ...]) -> None:
        if layer.holds_batch(inputs[0]):
            found[name] = layer.size[0]

    with ExitStack() as stack, torch.no_grad():
        for name in layers:
            layer: Any = trial.get_submodule(name)
            hook = layer.register_forward_pre_hook(
                lambda layer, inputs, name=name: watch(name, layer, inputs)
            )
            stack.enter_context(hook)
        inputs = example_inputs(shapes, free=size)
        # A layer that needs values raises any error; what was seen before it counts.
        with suppress(Exception):
            trial(pytree.tree_map(lambda tensor: tensor.to("meta"), inputs))
    paths = lua_paths(module) if found else {}
    return [
        f"{paths.get(name, name)} ({type(module.get_submodule(name)).__name__}): {batch} is the "
        "batch of its training; here the batch is free".lstrip()
        for name, batch in found.items()
    ]
