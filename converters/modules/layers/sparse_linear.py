"""Linear layers on sparse vectors, with indices from 1 (`SparseLinear.lua`, `IndexLinear.lua`)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class SparseLinear(nn.Module):
    """`SparseLinear.lua`: a linear layer on sparse vectors of (index from 1, value) pairs.

    Args:
        in_features: Size of a vector.
        out_features: Size of the output.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features))

    def forward(self, input: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
        """Map (nnz, 2) to (out,), and (N, nnz, 2) or a list of N tensors (nnz, 2) to (N, out)."""
        if isinstance(input, list):
            return torch.stack([self.forward(pairs) for pairs in input]) if input else self.bias
        index, value = input[..., 0].long() - 1, input[..., 1]
        # Pairs with value 0 pad a batch; Torch7 does not read their index, which may be invalid.
        columns = functional.embedding(index.masked_fill(value == 0, 0), self.weight.t())
        return (columns * value.unsqueeze(-1)).sum(dim=-2) + self.bias

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


@layer
class IndexLinear(nn.Module):
    """`IndexLinear.lua`: a linear layer on sparse vectors of keys and values.

    With `normalize` the weight has four more columns in front: the largest absolute value of each
    feature so far (updated in training mode, pair by pair), its inverse, a factor of the learning
    rate, which is 1, and a bias. Values are divided by the largest one and clipped to [-1, 1].

    Args:
        in_features: Number of features.
        out_features: Size of the output.
        offset: Value added to a key to get its row of the weight; -1 for keys from 1.
        normalize: Whether values are divided by the feature's largest absolute value.
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
        """Return the output for keys and values of one example or of a batch.

        Args:
            input: [keys (nnz,), values (nnz,)] of one example; or [N tensors of keys, N tensors of
                values]; or [keys of all examples, values of all examples, number of each example];
                pairs behind the last example are not used.

        Returns:
            (out,) for one example, (N, out) for a batch.
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
        output = self.bias.expand(sizes.size(0) + 1, self.out_features)
        return output.index_add(0, example, self._terms(keys, values))[:-1]

    def _terms(self, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Return the term (nnz, out) that each pair adds to its example's output."""
        index = keys.long() + self.offset
        if not self.normalize:
            return functional.embedding(index, self.weight) * values.unsqueeze(1)
        if self.training:
            scales = self._update_scales(index, values)
        rows = functional.embedding(index, self.weight)
        largest, inverse = (scales if self.training else rows[:, :2].detach()).unbind(1)
        values = torch.where(values.abs() > largest, values.sign(), values * inverse) + rows[:, 3]
        return rows[:, 4:] * values.unsqueeze(1)

    @torch.no_grad()
    def _update_scales(self, index: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Update the largest values and their inverses, and return those that each pair meets.

        A pair meets what the pairs before it have left. Each round takes one pair of every feature.
        """
        scales = torch.empty(len(index), 2, dtype=self.weight.dtype, device=self.weight.device)
        order = index.argsort(stable=True)
        ordered = index[order]
        rounds = torch.arange(len(index), device=index.device) - torch.searchsorted(
            ordered, ordered
        )
        for count in range(int(rounds.max()) + 1 if len(index) else 0):
            pairs = order[rounds == count]
            row, size = index[pairs], values[pairs].abs()
            largest = self.weight[row, 0]
            self.weight[row, 1] = torch.where(size > largest, 1 / size, self.weight[row, 1])
            self.weight[row, 0] = torch.maximum(size, largest)
            scales[pairs] = self.weight[row, :2]
        self.weight[index, 2] = 1.0
        return scales

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


@register("nn.SparseLinear", ignored=("doGradInput", "sparseUpdate"))
def sparse_linear(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SparseLinear.lua`: a linear layer on (index, value) pairs."""
    n_out, n_in = source["weight"].shape
    _note_weight_decay(source, context)
    return context.fill(SparseLinear(n_in, n_out), weight=source["weight"], bias=source["bias"])


@register(
    "nn.IndexLinear", ignored=("inputSize", "outputSize", "running", "normalize", "doGradInput")
)
def index_linear(source: LuaObject, context: Context) -> nn.Module:
    """Convert `IndexLinear.lua`: weight (in, out), or (in, 4 + out) if it normalizes its input."""
    weight, bias = source["weight"], source["bias"]
    normalize = weight.shape[1] > bias.size
    module = IndexLinear(weight.shape[0], bias.size, source.get("offset", -1), normalize)
    _note_weight_decay(source, context)
    return context.fill(module, weight=weight, bias=bias)


def _note_weight_decay(source: LuaObject, context: Context) -> None:
    if decay := source.get("weightDecay"):
        context.note(f"weightDecay {decay} is not applied: pass weight_decay to the optimizer")
