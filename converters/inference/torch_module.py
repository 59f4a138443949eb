"""Running a PyTorch module as it is exported: evaluation mode, arrays in, tensors out."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from ..modules import keep_batch_dimension
from .errors import InferenceError


def inference_copy(model: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """The model as it is exported: evaluation mode, the batch axis kept; the original is untouched.

    Args:
        model: any module.
        dtype: number type of its parameters and buffers; by default they are shared with `model`
            as they are.
    """
    tensors = [*model.parameters(), *model.buffers()]
    as_they_are = all(not t.is_floating_point() or t.dtype == (dtype or t.dtype) for t in tensors)
    result = copy.deepcopy(model, {id(t): t for t in tensors} if as_they_are else {})
    keep_batch_dimension(result)
    return result.eval() if as_they_are else result.eval().to(dtype)


def as_inputs(module: nn.Module, inputs: Any) -> Any:
    """Arrays or tensors, in the number type and on the device of a module's parameters."""
    floating = (tensor for tensor in module.parameters() if tensor.is_floating_point())
    like = next(floating, torch.zeros(0))

    def converted(value: Any) -> torch.Tensor:
        tensor = torch.as_tensor(value)
        return tensor.to(like) if tensor.is_floating_point() else tensor.to(like.device)

    return pytree.tree_map(converted, inputs)


def run(module: nn.Module, inputs: Any) -> list[torch.Tensor]:
    """The module's outputs, tables flattened.

    Raises:
        InferenceError: when the module does not take these inputs, with their shapes.
    """
    try:
        with torch.no_grad():
            return pytree.tree_leaves(module(inputs))
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in pytree.tree_leaves(inputs))
        reason = str(error).splitlines()[0]
        raise InferenceError(
            f"the model does not take inputs of shape {shapes}: {reason}"
        ) from error


def batch_size(inputs: Any) -> int:
    """How many examples inputs hold.

    Args:
        inputs: a tensor or array (N, …), or a list of them.

    Raises:
        InferenceError: when they have no batch axis, or hold different numbers of examples.
    """
    counts = {tuple(value.shape[:1]) for value in pytree.tree_leaves(inputs)}
    if len(counts) != 1 or counts & {(), (0,)}:
        raise InferenceError("every input needs a batch axis in front, and all the same examples")
    return counts.pop()[0]


def resize_batch(inputs: Any, batch: int) -> Any:
    """Inputs with another number of examples: the first ones, over again where they run out."""
    chosen = torch.arange(batch) % batch_size(inputs)
    return pytree.tree_map(lambda tensor: tensor[chosen], inputs)
