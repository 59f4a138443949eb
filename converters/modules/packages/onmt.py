"""Layers of OpenNMT: networks with a name, and a few layers (`Network.lua`, `LSTM.lua`, …)."""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..layers.embedding import LookupTable
from ..registry import layer, register


@register(
    *("onmt.LSTM", "onmt.GRU", "onmt.WordEmbedding", "onmt.FeaturesEmbedding"),
    *("onmt.GlobalAttention", "onmt.MaskedSoftmax", "onmt.Network"),
    ignored=(
        *("dropout", "numStates", "outputSize", "layers", "inputSize", "residual"),
        *("dropout_input", "dropout_type"),
        *("preTrained", "fix", "preTrainedVecSize", "args", "modules"),
    ),
)
def network(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Network.lua` or a subclass: a network `net`, built by the constructor."""
    return nn.Sequential(context.convert(source["net"], ".net"))


@register("onmt.Bridge", ignored=("modules",))
def bridge(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Bridge.lua`: the states of the encoder become those of the decoder.

    A bridge of kind `none` has no network, and the decoder starts from zeros.
    """
    if source.get("net") is None:
        context.note("a bridge of kind none: the decoder starts from zeros, not from its output")
        return nn.Identity()
    return network(source, context)


@layer
class FirstOfTable(nn.Module):
    """The first entry of a list; a tensor stays as it is."""

    def forward(self, input: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
        """Map (…), or a list that begins with it, to (…)."""
        return input[0] if isinstance(input, list) else input


@register(
    "onmt.Generator", "onmt.FeaturesGenerator", ignored=("version", "rindexLinear", "modules")
)
def generator(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Generator.lua`: log-probabilities of the words, and of their features.

    Files of its first version hold the network of the words alone, and return no list.
    """
    return nn.Sequential(FirstOfTable(), context.convert(source["net"], ".net"))


@layer
class JoinReplicated(nn.Module):
    """`JoinReplicateTable.lua`: concatenates tensors, repeated in one dimension where it is 1.

    Args:
        dim_repeat: The dimension to repeat, as the largest of the tensors has it.
        dim_join: The dimension to concatenate.
        input_dims: Number of dimensions of an example, None to count the dimensions of the batch.
    """

    def __init__(self, dim_repeat: int, dim_join: int, input_dims: int | None = None) -> None:
        super().__init__()
        self.dim_repeat = dim_repeat
        self.dim_join = dim_join
        self.input_dims = input_dims

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map a list of tensors to one."""
        repeat, join = (self._with_batch(dim, input) for dim in (self.dim_repeat, self.dim_join))
        size = max(tensor.shape[repeat] for tensor in input)
        sizes = [-1] * input[0].dim()
        sizes[repeat] = size
        return torch.cat([tensor.expand(sizes) for tensor in input], join)

    def _with_batch(self, dim: int, input: list[torch.Tensor]) -> int:
        has_batch = self.input_dims is not None and input[0].dim() == self.input_dims + 1
        return dim + 1 if dim >= 0 and has_batch else dim

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"dim_repeat={self.dim_repeat}, dim_join={self.dim_join}"


@register("onmt.JoinReplicateTable", ignored=("size",))
def join_replicate_table(source: LuaObject, context: Context) -> nn.Module:
    """Convert `JoinReplicateTable.lua`, whose dimensions count from 1, or from the end."""
    dims = source.get("nInputDims")
    repeat, join = (
        dim - 1 if dim > 0 else dim
        for dim in (int(source["dimensionReplicate"]), int(source["dimensionJoin"]))
    )
    return JoinReplicated(repeat, join, None if dims is None else int(dims))


@register("onmt.VariationalDropout", ignored=("noiseInit", "sharedNoise"))
def variational_dropout(source: LuaObject, context: Context) -> nn.Module:
    """Convert `VariationalDropout.lua`: dropout; Torch7 keeps the noise until the next sequence."""
    context.note("in training mode Torch7 drew the noise once a sequence; here every call draws it")
    return nn.Dropout(float(source.get("p", 0.5)))


@layer
class PositionEmbedding(LookupTable):
    """`PositionEmbedding.lua`: the vectors of positions, counted from the first true step of a row.

    The first row of the table stands for the padding in front, the second one for position 1; the
    last one stands for all positions behind it.

    Args:
        num_embeddings: Number of rows of the table.
        embedding_dim: Size of a row.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        super().__init__(num_embeddings, embedding_dim)

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:  # type: ignore[override]  # a list
        """Map `[steps (N, T, …), lengths (N,)]` to (N, T, embedding_dim)."""
        steps, lengths = input
        time = torch.arange(1, steps.shape[1] + 1, device=steps.device)
        position = time - (steps.shape[1] - lengths.long()[:, None])
        # Torch7's index of the row: 1 for padding, else one more than the position.
        return super().forward(position.clamp(min=0, max=self.num_embeddings - 1) + 1)


@register("onmt.PositionEmbedding", ignored=("input", "max_pos", "nOutput", "copiedInput"))
def position_embedding(source: LuaObject, context: Context) -> nn.Module:
    """Convert `PositionEmbedding.lua`: vectors of the positions in time of left-padded rows."""
    context.choice(source, "dimension", [2, -1])
    weight = source["weight"]
    with torch.device("meta"):
        module = PositionEmbedding(*weight.shape)
    return context.fill(module, weight=weight)
