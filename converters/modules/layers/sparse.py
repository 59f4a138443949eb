"""Layers that take indices, all counted from 1 (`LookupTable.lua`, `SparseLinear.lua`, …)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer as layer_of_ours
from ..registry import register


@layer_of_ours
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


@layer_of_ours
class SparseLinear(nn.Module):
    """`SparseLinear.lua`: a linear layer on sparse vectors, given as (index from 1, value) pairs.

    Args:
        in_features: size of a vector.
        out_features: size of the output.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features))

    def forward(self, input: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
        """(nnz, 2) → (out,); (N, nnz, 2) or a table of N tensors (nnz, 2) → (N, out)."""
        if isinstance(input, list):
            return torch.stack([self.forward(pairs) for pairs in input]) if input else self.bias
        index, value = input[..., 0].long() - 1, input[..., 1]
        # Pairs of value 0 fill up a batch; Torch7 does not look at their index.
        columns = functional.embedding(index.masked_fill(value == 0, 0), self.weight.t())
        return (columns * value.unsqueeze(-1)).sum(dim=-2) + self.bias

    def extra_repr(self) -> str:
        """Sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


@layer_of_ours
class IndexLinear(nn.Module):
    """`IndexLinear.lua`: a linear layer on sparse vectors, given as keys and values.

    With `normalize` the weight has four more columns in front: a feature's largest absolute
    value so far (updated in training), its inverse, a factor of the learning rate that is 1, and
    a bias. Values are divided by that largest one and cut at ±1.

    Args:
        in_features: number of features.
        out_features: size of the output.
        offset: added to a key to get its row of the weight; -1 for keys from 1.
        normalize: divide by each feature's largest value.
    """

    def __init__(
        self, in_features: int, out_features: int, offset: int = -1, normalize: bool = False
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.offset = offset
        self.normalize = normalize
        columns = out_features + (4 if normalize else 0)
        self.weight = nn.Parameter(torch.empty(in_features, columns))
        self.bias = nn.Parameter(torch.empty(out_features))

    def forward(self, input: list[Any]) -> torch.Tensor:
        """Keys and values of one example or of a batch.

        [(nnz,), (nnz,)] → (out,); [N tensors of keys, N tensors of values] → (N, out); keys and
        values of all examples one after the other, with the number of each, → (N, out).
        """
        keys, values = input[:2]
        if len(input) == 3:
            return self._flat(keys, values, torch.as_tensor(input[2], device=keys.device).view(-1))
        if isinstance(keys, list):
            pairs = zip(keys, values, strict=True)
            return torch.stack([self._terms(*pair).sum(dim=0) + self.bias for pair in pairs])
        return self._terms(keys, values).sum(dim=0) + self.bias

    def _flat(self, keys: torch.Tensor, values: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        position = torch.arange(keys.size(0), device=keys.device)
        example = (position.unsqueeze(1) >= sizes.cumsum(0)).sum(dim=1)
        output = self.bias.expand(sizes.size(0), self.out_features)
        return output.index_add(0, example, self._terms(keys, values))

    def _terms(self, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """(nnz,), (nnz,) → (nnz, out): what each pair adds to its example's output."""
        index = keys.long() + self.offset
        if not self.normalize:
            return functional.embedding(index, self.weight) * values.unsqueeze(1)
        if self.training:
            self._update_largest(index, values)
        rows = functional.embedding(index, self.weight)
        largest, inverse = rows[:, 0].detach(), rows[:, 1].detach()
        values = torch.where(values.abs() > largest, values.sign(), values * inverse) + rows[:, 3]
        return rows[:, 4:] * values.unsqueeze(1)

    @torch.no_grad()
    def _update_largest(self, index: torch.Tensor, values: torch.Tensor) -> None:
        largest = self.weight[:, 0].scatter_reduce(0, index, values.abs(), "amax")
        grown = largest > self.weight[:, 0]
        self.weight[:, 1] = torch.where(grown, 1 / largest, self.weight[:, 1])
        self.weight[:, 0] = largest
        self.weight[index, 2] = 1.0

    def extra_repr(self) -> str:
        """Sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


@register("nn.LookupTable")
def lookup_table(layer: LuaObject, context: Context) -> nn.Module:
    """`LookupTable.lua`; rows of early files may have several dimensions."""
    weight = layer["weight"]
    padding = int(layer.get("paddingValue") or 0)
    module = LookupTable(
        weight.shape[0],
        weight[0].size,
        padding - 1 if padding else None,
        layer.get("maxNorm"),
        layer.get("normType") or 2.0,
        bool(layer.get("shouldScaleGradByFreq")),
    )
    context.fill(module, weight=weight)
    if weight.ndim == 2:
        return module
    return nn.Sequential(module, nn.Unflatten(-1, weight.shape[1:]))


@register("nn.SparseLinear")
def sparse_linear(layer: LuaObject, context: Context) -> nn.Module:
    """`SparseLinear.lua`."""
    n_out, n_in = layer["weight"].shape
    _note_weight_decay(layer, context)
    return context.fill(SparseLinear(n_in, n_out), weight=layer["weight"], bias=layer["bias"])


@register("nn.IndexLinear")
def index_linear(layer: LuaObject, context: Context) -> nn.Module:
    """`IndexLinear.lua`: the weight is (in, out), with four more columns to normalise."""
    weight, bias = layer["weight"], layer["bias"]
    normalize = weight.shape[1] > bias.size
    module = IndexLinear(weight.shape[0], bias.size, layer.get("offset", -1), normalize)
    _note_weight_decay(layer, context)
    return context.fill(module, weight=weight, bias=bias)


def _note_weight_decay(layer: LuaObject, context: Context) -> None:
    if decay := layer.get("weightDecay"):
        context.note(f"weightDecay {decay}: give it to the optimizer, the layer does not add it")
