"""Counting the multiply-adds and the depth of a network while it runs, whatever its layers are."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


class Operations(TorchDispatchMode):
    """Counts the multiply-adds of a forward pass, and the longest chain of layers with weights.

    A multiply-add is one multiplication and addition of a convolution or a matrix product (torch
    counts two floating-point operations). All other operations are cheap in comparison.

    Args:
        input: The input of the network: a tensor, or a list of them.
    """

    def __init__(self, input: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch annotates it in part
        self.multiply_adds = 0
        # The depth of each tensor by its id. The tensors stay alive so that no id is reused.
        self._tensors: list[Any] = tree_leaves(input)
        self._depths = {id(tensor): 0 for tensor in self._tensors}

    def depth(self, output: Any) -> int:
        """Return the number of operations with weights on the longest path to an output."""
        return max((self._depths.get(id(leaf), 0) for leaf in tree_leaves(output)), default=0)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        count = flop_registry.get(func.overloadpacket)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        depths = [self._depths[id(tensor)] for tensor in tensors if id(tensor) in self._depths]
        if count is not None:
            self.multiply_adds += count(*args, **kwargs, out_val=output) // 2
        if depths:
            # A bias is no layer by itself: it has one dimension.
            has_weights = any(t.dim() > 1 for t in tensors if id(t) not in self._depths)
            for leaf in tree_leaves(output):
                self._depths[id(leaf)] = max(depths) + (count is not None and has_weights)
                self._tensors.append(leaf)
        return output
