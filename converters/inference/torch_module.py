"""Running a PyTorch module as it is exported: evaluation mode, arrays in, tensors out."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from ..errors import first_line
from ..modules import keep_batch_dimension
from ..modules.conversion import lua_paths
from ..modules.forward_errors import explain
from .errors import InferenceError, ModelInputError


def inference_copy(
    model: nn.Module,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
) -> nn.Module:
    """Return a copy of a model in evaluation mode that keeps the batch axis.

    The copy shares the memory of its parameters and buffers with the model unless they must be
    converted; the model itself is never changed, nor if the copy is moved.

    Args:
        model: Any module.
        dtype: Floating-point dtype of the copy; that of the model by default.
        device: Device of the copy; that of the model by default.
    """
    device = None if device is None else torch.device(device)
    tensors = [*model.parameters(), *model.buffers()]
    shared = all(_has_dtype(t, dtype) and _is_on(t, device) for t in tensors)
    result = copy.deepcopy(model, {id(t): _alias(t) for t in tensors} if shared else {})
    keep_batch_dimension(result)
    result.eval()
    return result if shared else result.to(device=device, dtype=dtype)


def _alias(tensor: torch.Tensor) -> torch.Tensor:
    """Return another object with the same memory: `nn.Module.to` changes parameters in place."""
    if isinstance(tensor, nn.Parameter) and type(tensor) is nn.Parameter:
        return nn.Parameter(tensor.detach(), tensor.requires_grad)
    return tensor


def _has_dtype(tensor: torch.Tensor, dtype: torch.dtype | None) -> bool:
    return dtype is None or not tensor.is_floating_point() or tensor.dtype == dtype


def _is_on(tensor: torch.Tensor, device: torch.device | None) -> bool:
    """Whether a tensor is on a device; `cuda` without an index is any GPU."""
    if device is None:
        return True
    return tensor.device.type == device.type and device.index in (None, tensor.device.index)


def as_inputs(module: nn.Module, inputs: Any) -> Any:
    """Convert arrays or tensors to the dtype and device of a module's parameters and buffers."""
    tensors = itertools.chain(module.parameters(), module.buffers())
    like = next((tensor for tensor in tensors if tensor.is_floating_point()), torch.zeros(0))

    def convert(value: Any) -> torch.Tensor:
        tensor = torch.as_tensor(value)
        return tensor.to(like) if tensor.is_floating_point() else tensor.to(like.device)

    return pytree.tree_map(convert, inputs)


def run(module: nn.Module, inputs: Any) -> list[torch.Tensor]:
    """Return the outputs of a module; tables are flattened.

    Raises:
        ModelInputError: If the module does not accept these inputs; the message has their shapes.
        InferenceError: If the GPU has too little memory.
    """
    try:
        with torch.no_grad():
            outputs: list[torch.Tensor] = pytree.tree_leaves(module(inputs))
            return outputs
    except torch.OutOfMemoryError as error:
        raise InferenceError(
            f"the GPU has too little memory for a batch of {batch_size(inputs)}; "
            "run smaller batches"
        ) from error
    except (RuntimeError, ValueError, TypeError, ArithmeticError, LookupError) as error:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in pytree.tree_leaves(inputs))
        reason = "; ".join(filter(None, [first_line(error), explain(error, module, lua_paths)]))
        raise ModelInputError(
            f"the model does not accept inputs of shape {shapes}: {reason}"
        ) from error


def batch_size(inputs: Any) -> int:
    """Return how many examples a batch holds.

    Args:
        inputs: A tensor or array (N, …), or a list of them.

    Raises:
        InferenceError: If an input has no batch axis, or the inputs disagree about its size.
    """
    sizes = {tuple(value.shape[:1]) for value in pytree.tree_leaves(inputs)}
    if len(sizes) != 1 or sizes & {(), (0,)}:
        raise InferenceError(
            "every input needs a batch axis in front, of the same size in all of them"
        )
    return int(sizes.pop()[0])


def resize_batch(inputs: Any, batch: int) -> Any:
    """Return the first examples of a batch, repeated from the start where there are too few."""
    indices = torch.arange(batch) % batch_size(inputs)
    return pytree.tree_map(lambda tensor: tensor[indices], inputs)
