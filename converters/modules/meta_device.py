"""Running a network without values: which shapes it computes, and how large they become."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode


def on_meta_device(module: nn.Module) -> nn.Module:
    """Return a copy whose tensors are on the `meta` device; shared tensors stay shared."""
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(tensor): tensor.to("meta") for tensor in tensors})


def largest_result(module: nn.Module, input: Any) -> int:
    """Return the number of elements of the largest tensor in a forward pass.

    That is what any operation returns, a view of a weight or of the input included.

    Args:
        module: The network; it is not changed, and none of its values is computed.
        input: Its input, nested lists and dicts of tensors.

    Returns:
        The number; 0 if the shapes depend on values, so that they are not known before.

    Example:
        >>> largest_result(nn.Sequential(nn.Linear(2, 500), nn.Linear(500, 3)), torch.zeros(4, 2))
        2000
    """
    sizes = _Sizes()
    # Any layer runs here, on any input, and may raise anything.
    with suppress(Exception), torch.no_grad(), sizes:
        on_meta_device(module)(pytree.tree_map_only(torch.Tensor, _to_meta, input))
    return sizes.largest


def _to_meta(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


class _Sizes(TorchDispatchMode):
    """Records the size of the largest tensor that an operation returns."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's class has no annotations
        self.largest: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return result
