"""What a model takes, and an example of it that the exporter traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from ...inference.errors import ModelInputError
from ...inference.torch_module import as_inputs, batch_size, run
from ...input_shapes import BATCH, FREE, InputShape, InputShapes
from ...saved import SavedModel
from ...saved.input_trial import example_inputs, free_size, refusal
from ...saved.shapes import input_hint
from ..errors import OnnxError


def example_of(
    model: SavedModel, module: nn.Module, inputs: Any, any_size: bool, is_saved: bool
) -> tuple[InputShapes, Any]:
    """Return what a model takes, and an example of it.

    Args:
        model: The model.
        module: Its network as it is exported.
        inputs: The example, if one was given.
        any_size: Whether the height and width of an image are free.
        is_saved: Whether it was opened, in whose words an error speaks.

    Raises:
        OnnxError: If it is not known what the model takes, or if it does not take it.
    """
    shapes = model.input_shapes
    if inputs is not None:
        example = as_inputs(module, inputs)
        if shapes is None or len(list(shapes.leaves())) != len(pytree.tree_leaves(example)):
            shapes = shapes_of(example)
        if any_size:
            shapes = _any_size(shapes)
        return shapes, example
    if shapes is None:
        raise OnnxError(_unknown_input(model.module, is_saved))
    example = _trial(module, shapes)
    return (_any_size(shapes) if any_size else shapes), example


def batch_in_front(shapes: InputShapes, example: Any) -> int | None:
    """Return how many examples there are, if the batch is the first axis of every input."""
    if any(leaf.batch_axis for leaf in shapes.leaves()):
        return None
    return int(pytree.tree_leaves(example)[0].shape[0])


def require_any_size(module: nn.Module, example: Any, values: Sequence[torch.Tensor]) -> None:
    """Check that a network takes a larger image, too, and keeps its batch.

    Some versions of torch trace a network with one input size as if it took all.

    Args:
        module: The network.
        example: The image that it was run with.
        values: Its outputs for this image.

    Raises:
        OnnxError: If it does not.
    """
    larger = pytree.tree_map(lambda image: image.repeat(1, 1, 2, 2), example)
    try:
        rows = run(module, larger)[0].shape[:1]
    except ModelInputError:
        rows = None
    if rows != values[0].shape[:1]:
        raise OnnxError("the network has a fixed input size: leave out any_size=True")


def _trial(module: nn.Module, shapes: InputShapes) -> Any:
    """Return an example of inputs that a module takes, once it has been tried."""
    free = free_size(module, shapes)
    example = example_inputs(shapes, free=free or 64)
    # Inputs of fixed sizes are always tried: torch's layers take more dimensions than Torch7's.
    if problem := refusal(module, example):
        sizes = ", ".join(str(tuple(leaf.shape)) for leaf in pytree.tree_leaves(example))
        raise ModelInputError(f"the model does not accept inputs of shape {sizes}: {problem}")
    return as_inputs(module, example)


def _any_size(shapes: InputShapes) -> InputShapes:
    """Return the shapes with the height and width of the only image free."""
    leaves = list(shapes.leaves())
    if len(leaves) != 1 or len(leaves[0].axes) != 4 or leaves[0].batch_axis:
        raise OnnxError(f"any_size=True is for one image, not for {shapes}: write ? for free axes")
    return InputShapes([replace(leaves[0], axes=(*leaves[0].axes[:2], FREE, FREE))])


def shapes_of(example: Any) -> InputShapes:
    """Return the shapes of example inputs whose batch is in front; only the batch is free.

    Raises:
        InferenceError: If they hold different numbers of examples.
    """
    batch_size(example)

    def entry(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            dtype = str(value.dtype).removeprefix("torch.")
            axes = (BATCH, *value.shape[1:])
            return InputShape(axes, None if value.is_floating_point() else dtype)
        return [entry(inner) for inner in value]

    if isinstance(example, torch.Tensor):
        return InputShapes([entry(example)])
    inner = [entry(value) for value in example]
    return InputShapes([inner] if len(inner) == 1 else inner)


def _unknown_input(module: nn.Module, is_saved: bool) -> str:
    """Return that the shape of the input is unknown, and how to give it."""
    hint = input_hint(module)
    example = f"; the first layer suggests input='{hint}'" if hint else ""
    remedy = "open it with input_size=(H, W) or input='SIZE'"
    if not is_saved:
        remedy, example = "pass input_shape=(C, H, W)", example.replace("input=", "input_shape=")
    return f"the input shape of the model is unknown: {remedy}{example}"
