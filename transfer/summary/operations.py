"""Counting what a network computes while it runs, whatever its layers are."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


class Operations(TorchDispatchMode):
    """Watches the operations of a pass: their multiply-adds, and how many stand in a row.

    A multiply-add is a product in a convolution or between matrices, with the sum it goes into
    (torch counts it as two floating-point operations). Everything else costs little beside them.

    Args:
        input: what the network is given.
    """

    def __init__(self, input: torch.Tensor) -> None:
        super().__init__()
        self.multiply_adds = 0
        # By identity; the tensors are kept so that no identity is used twice.
        self._depths = {id(input): 0}
        self._kept: list[Any] = [input]

    def depth(self, output: Any) -> int:
        """How many operations with weights stand in the longest way from the input to here."""
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
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        known = [self._depths[id(tensor)] for tensor in given if id(tensor) in self._depths]
        if count is not None:
            self.multiply_adds += count(*args, **kwargs, out_val=output) // 2
        if known:
            # A bias alone is no layer: it has one dimension.
            weights = (t for t in given if id(t) not in self._depths and t.dim() > 1)
            layer = count is not None and any(True for _ in weights)
            for leaf in tree_leaves(output):
                self._depths[id(leaf)] = max(known) + layer
                self._kept.append(leaf)
        return output
