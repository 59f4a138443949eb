"""Trying whether a network takes an input, and what its layers say where it does not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from ..errors import first_line
from ..input_shapes import Entry, InputShape, InputShapes
from ..modules.conversion import lua_paths
from ..modules.forward_errors import explain
from ..modules.meta_device import on_meta_device
from ..modules.torch7_source import source_of

#: Sizes of free axes that are tried, for images and volumes, and for sequences.
_IMAGE_SIZES = (64, 128, 224, 256, 32, 16)
_SEQUENCE_SIZES = (12, 32, 64, 128, 256, 512, 1024)
#: How many dimensions a layer of Torch7 takes at most, the batch included; torch's takes more.
_MOST_DIMENSIONS: dict[type[nn.Module], int] = {nn.Linear: 2, nn.BatchNorm1d: 2}


class _RankError(ValueError):
    """A layer got an input of more dimensions than Torch7's takes."""


def example_inputs(
    shapes: InputShapes,
    batch: int = 2,
    free: int = 64,
    draw: Callable[[InputShape, tuple[int, ...]], torch.Tensor] | None = None,
) -> Any:
    """Return inputs of some shapes, as a module is called with them.

    Args:
        shapes: What the network takes.
        batch: How many examples.
        free: The size of every free axis.
        draw: Returns the tensor of a shape and its sizes; by default one of ones, which are an
            index, a mask and a value alike.

    Example:
        >>> from torchlift.converters.input_shapes import parse_inputs
        >>> [value.shape for value in example_inputs(parse_inputs("9,?xN"), free=5)]
        [torch.Size([2, 9]), torch.Size([5, 2])]
    """

    def build(entry: Entry) -> Any:
        if not isinstance(entry, InputShape):
            return [build(inner) for inner in entry]
        sizes = entry.sizes(batch, free)
        return _ones(entry, sizes) if draw is None else draw(entry, sizes)

    return build(shapes.tree)


def _ones(shape: InputShape, sizes: tuple[int, ...]) -> torch.Tensor:
    return torch.ones(sizes, dtype=torch_dtype(shape))


def torch_dtype(shape: InputShape) -> torch.dtype:
    """Return the dtype of an input; an exported network computes in float32."""
    return getattr(torch, shape.dtype) if shape.dtype and shape.is_integer else torch.float32


def refusal(module: nn.Module, inputs: Any) -> str:
    """Return why a network does not take inputs, in the words of the layer; empty if it does.

    Args:
        module: A network in evaluation mode; none of its values is computed, unless that is needed.
        inputs: A tensor, or a list of tensors.

    Example:
        >>> refusal(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.zeros(1, 4))
        ''
        >>> refusal(nn.Sequential(nn.Linear(4, 2)), torch.zeros(1, 5)).partition("(")[0]
        'layer 0, Linear'
    """
    to_meta = partial(pytree.tree_map, lambda tensor: tensor.to("meta"))
    trial = on_meta_device(module)
    # The copy must keep where it was converted from, whose words the message has.
    error = _error_of(trial, to_meta(inputs), ranks=source_of(module) is not None)
    if error is None:
        return ""
    is_empty = any(tensor.is_meta for tensor in module.parameters())
    if not isinstance(error, _RankError) and not is_empty:
        # A layer whose result depends on values cannot run without them.
        error = _error_of(module, _cast_like(module, inputs), ranks=False)
        if error is None:
            return ""
    reason = first_line(error)
    where = explain(error, trial, _paths_of(module)) or explain(error, module, lua_paths)
    return reason if where is None else f"{where}: {reason}"


def free_size(module: nn.Module, shapes: InputShapes) -> int | None:
    """Return a size of the free axes with which a network runs; None if it runs with none."""
    is_image = all(len(leaf.example_axes) > 2 for leaf in shapes.leaves())
    sizes = _IMAGE_SIZES if is_image else _SEQUENCE_SIZES
    for size in sizes if shapes.has_free_axes else sizes[:1]:
        if not refusal(module, example_inputs(shapes, free=size)):
            return size
    return None


def input_problem(module: nn.Module, shapes: InputShapes) -> str:
    """Return why a network does not take inputs of some shapes; empty if it does."""
    if free_size(module, shapes) is not None:
        return ""
    return refusal(module, example_inputs(shapes, free=_IMAGE_SIZES[0]))


def _error_of(module: nn.Module, inputs: Any, ranks: bool) -> Exception | None:
    try:
        with ExitStack() as stack, torch.no_grad():
            for layer in module.modules() if ranks else ():
                most = next((n for c, n in _MOST_DIMENSIONS.items() if isinstance(layer, c)), None)
                if most is not None:
                    hook = partial(_check_rank, most)
                    stack.enter_context(layer.register_forward_pre_hook(hook))
            module(inputs)
    except Exception as error:  # each layer raises its own class for an input that does not fit
        return error
    return None


def _check_rank(most: int, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
    dims = inputs[0].dim() if isinstance(inputs[0], torch.Tensor) else 0
    if dims > most:
        raise _RankError(f"Torch7's layer takes at most {most} dimensions, the batch included")


def _cast_like(module: nn.Module, inputs: Any) -> Any:
    dtype = next((t.dtype for t in module.parameters() if t.is_floating_point()), torch.float32)
    return pytree.tree_map(lambda t: t.to(dtype) if t.is_floating_point() else t, inputs)


def _paths_of(module: nn.Module) -> Callable[[nn.Module], dict[str, str]]:
    """Return the Lua paths of a module for its copy on the `meta` device."""
    return lambda _: lua_paths(module)
