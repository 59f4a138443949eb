"""Embeddings: rows of a weight selected by indices from 1 (`LookupTable.lua`)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class LookupTable(nn.Module):
    """`LookupTable.lua`: an embedding whose indices count from 1.

    As in Torch7, rows with a norm above `max_norm` are scaled down in the weight when they are
    looked up in training mode. In evaluation mode only the output is scaled, so that the layer
    does not change; `torch.nn.Embedding` changes its weight in both modes.

    Args:
        num_embeddings: Number of rows.
        embedding_dim: Size of a row.
        padding_idx: Index (from 0) of a row without a gradient.
        max_norm: Largest norm of a row, None for no limit.
        norm_type: Exponent p of that norm.
        scale_grad_by_freq: Whether gradients are divided by the frequency of the index in the
            batch.
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
        """Map indices (…) of any type to (…, embedding_dim)."""
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
        # Torch7 scales the row before it reads it, so its gradient does not contain the factor.
        return rows + (rows * scale - rows).detach()

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.num_embeddings}, {self.embedding_dim}"


@register("nn.LookupTable", ignored=("copiedInput",))
def lookup_table(source: LuaObject, context: Context) -> nn.Module:
    """Convert `LookupTable.lua`: rows of a weight; in early files a row has several dimensions."""
    weight = source["weight"]
    padding = int(source.get("paddingValue") or 0)
    if (source.get("maxOutNorm") or 0) > 0:
        context.note("maxOutNorm is not supported: no limit is applied")
    module = LookupTable(
        weight.shape[0],
        weight[0].size,
        padding - 1 if 1 <= padding <= len(weight) else None,
        source.get("maxNorm"),
        source.get("normType") or 2.0,
        bool(source.get("shouldScaleGradByFreq")),
    )
    context.fill(module, weight=weight)
    if weight.ndim == 2:
        return module
    return nn.Sequential(module, nn.Unflatten(-1, weight.shape[1:]))
