"""Embeddings: rows of a weight that indices (from 1) select (`LookupTable.lua`)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class LookupTable(nn.Module):
    """`LookupTable.lua`: the row of the weight that each index (from 1) names.

    Rows longer than `max_norm` are shortened when they are looked up: for good in training, as
    Torch7 does, and only in the output in evaluation mode, which so leaves the layer as it is.

    Args:
        num_embeddings: number of rows.
        embedding_dim: size of a row.
        padding_idx: a row, from 0, that is given out but gets no gradient.
        max_norm: greatest norm of a row that is looked up.
        norm_type: the p of that norm.
        scale_grad_by_freq: divide a row's gradient by how often the batch names it.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
    ) -> None:
        super().__init__()
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = padding_idx
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.weight = nn.Parameter(torch.empty(num_embeddings, embedding_dim))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Indices (…) of any type → (…, embedding_dim)."""
        index = input.long() - 1
        if self.max_norm is not None and self.training:
            torch.embedding_renorm_(self.weight.detach(), index, self.max_norm, self.norm_type)
        rows = functional.embedding(
            index, self.weight, self.padding_idx, scale_grad_by_freq=self.scale_grad_by_freq
        )
        if self.max_norm is None or self.training:
            return rows
        norm = torch.linalg.vector_norm(rows, self.norm_type, dim=-1, keepdim=True)
        scale = torch.where(norm > self.max_norm, self.max_norm / (norm + 1e-7), 1.0)
        # Torch7 has changed the row itself by now: the gradient knows of no factor.
        return rows + (rows * scale - rows).detach()

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.num_embeddings}, {self.embedding_dim}"


@register("nn.LookupTable")
def lookup_table(source: LuaObject, context: Context) -> nn.Module:
    """`LookupTable.lua`; rows of early files may have several dimensions."""
    weight = source["weight"]
    padding = int(source.get("paddingValue") or 0)
    module = LookupTable(
        weight.shape[0],
        weight[0].size,
        padding - 1 if padding else None,
        source.get("maxNorm"),
        source.get("normType") or 2.0,
        bool(source.get("shouldScaleGradByFreq")),
    )
    context.fill(module, weight=weight)
    if weight.ndim == 2:
        return module
    return nn.Sequential(module, nn.Unflatten(-1, weight.shape[1:]))
