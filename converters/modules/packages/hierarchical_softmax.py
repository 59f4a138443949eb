"""Hierarchical softmaxes of nnx, fbnn and lstm-char-cnn (`SoftMaxTree.lua`, `HSM.lua`, …).

A class belongs to a group, and its probability is that of the group times its own in the group.
They take the classes that are asked for beside the input, so that a network does not compute all.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..layers.container import Container
from ..layers.criterion_classes import class_index
from ..registry import layer, register


@layer
class SoftmaxTree(nn.Module):
    """`SoftMaxTree.lua`: the log-probabilities of nodes of a tree, a softmax at each parent.

    Args:
        in_features: Size of the input.
        num_children: Number of nodes with a parent, which have a row of the weight each.
        num_parents: Number of nodes with children.
        largest_family: Most children of a parent.
        num_nodes: Largest number of a node.
        depth: Most parents on the way to the root.
    """

    def __init__(
        self,
        in_features: int,
        num_children: int,
        num_parents: int,
        largest_family: int,
        num_nodes: int,
        depth: int,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.num_children = num_children
        self.num_parents = num_parents
        self.largest_family = largest_family
        self.num_nodes = num_nodes
        self.depth = depth
        self.largest_index = num_nodes
        self.weight = nn.Parameter(torch.empty(num_children, in_features))
        self.bias = nn.Parameter(torch.empty(num_children))
        #: The rows of each parent's children; `num_children` where there are no more.
        self.families: torch.Tensor
        self.register_buffer(
            "families", torch.empty(num_parents, largest_family, dtype=torch.int64)
        )
        #: For each node from 1 the places in `families` of the nodes on its way to the root; behind
        #: them the number of places, and for what is no node, or without a way, that plus 1.
        self.paths: torch.Tensor
        self.register_buffer("paths", torch.empty(num_nodes, depth, dtype=torch.int64))

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map `[input (N, in), nodes (N,)]` to (N,): 0 for the root, -inf outside the tree."""
        features, nodes = input
        scores = functional.linear(features, self.weight, self.bias)
        scores = functional.pad(scores, [0, 1], value=-torch.inf)
        families = scores[:, self.families].log_softmax(-1).flatten(1)
        places = functional.pad(functional.pad(families, [0, 1]), [0, 1], value=-torch.inf)
        return places.gather(1, self.paths[nodes.reshape(-1).long() - 1]).sum(1)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.in_features}, {self.num_children}"


#: What Torch7 computes from the tree again, and buffers.
_OF_THE_TREE = (
    "inputSize",
    *("accUpdate", "nChildNode", "nParentNode", "minNodeId", "maxNodeId", "maxParentId"),
    *("maxChildId", "maxFamily", "childIds", "parentIds", "maxFamilyPath", "maxDept", "updates"),
    *("batchSize", "static", "momGradParams", "parentChildrenCuda", "childParentCuda"),
)


@register("nn.SoftMaxTree", ignored=_OF_THE_TREE)
def softmax_tree(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SoftMaxTree.lua`; `childParent` and `parentChildren` hold the tree."""
    weight, root = source["weight"], int(source["rootId"])
    parent_of = np.asarray(source["childParent"]).astype(np.int64)
    children_of = np.asarray(source["parentChildren"]).astype(np.int64)
    parents = [node for node, (start, _) in enumerate(children_of.tolist(), 1) if start > 0]
    largest = max((int(children_of[node - 1, 1]) for node in parents), default=0)
    if not largest:
        raise context.error("the tree has no nodes with children")
    families = np.full((len(parents), largest), len(weight))
    for row, node in enumerate(parents):
        start, count = children_of[node - 1].tolist()
        if start + count - 1 > len(weight):
            raise context.error(f"the children of node {node} have no weights")
        families[row, :count] = np.arange(start - 1, start - 1 + count)
    rows = {node: row for row, node in enumerate(parents)}

    def way(node: int) -> Iterator[int]:
        """Yield the places in `families` of a node and of the parents below the root."""
        for _ in range(len(parents) + 1):
            if node == root:
                return
            parent, place = parent_of[node - 1].tolist() if node <= len(parent_of) else (-1, -1)
            if parent not in rows or not 0 < place <= children_of[parent - 1, 1]:
                yield families.size + 1
                return
            yield rows[parent] * largest + place - 1
            node = parent
        yield families.size + 1

    ways = [list(way(node)) for node in range(1, len(parent_of) + 1)]
    depth = max(1, *map(len, ways))
    paths = np.array([places + [families.size] * (depth - len(places)) for places in ways])
    with torch.device("meta"):
        module = SoftmaxTree(
            weight.shape[1], len(weight), len(parents), largest, len(parent_of), depth
        )
    return context.fill(module, weight=weight, bias=source["bias"], families=families, paths=paths)


@layer
class TreeNLLCriterion(nn.Module):
    """`TreeNLLCriterion.lua`: minus the mean of what nn.SoftMaxTree gives; it needs no target."""

    def forward(self, input: torch.Tensor, target: torch.Tensor | None = None) -> torch.Tensor:
        """Map log-probabilities (N,) to a scalar."""
        return -input.mean()


@register("nn.TreeNLLCriterion", ignored=("_module", "_output_grad"))
def tree_nll_criterion(source: LuaObject, context: Context) -> nn.Module:
    """Convert `TreeNLLCriterion.lua`: minus the mean."""
    return TreeNLLCriterion()


@layer
class ClusterSoftmaxLoss(nn.Module):
    """`HSM.lua`: the loss of a softmax over clusters, and one over the classes of a cluster.

    Args:
        in_features: Size of the input.
        cluster_sizes: How many classes each cluster has.
    """

    def __init__(self, in_features: int, cluster_sizes: list[int]) -> None:
        super().__init__()
        self.in_features = in_features
        self.cluster_sizes = cluster_sizes
        clusters, classes = len(cluster_sizes), sum(cluster_sizes)
        self.largest_index = classes
        self.cluster_weight = nn.Parameter(torch.empty(clusters, in_features))
        self.cluster_bias = nn.Parameter(torch.empty(clusters))
        self.class_weight = nn.Parameter(torch.empty(classes, in_features))
        self.class_bias = nn.Parameter(torch.empty(classes))
        #: For each class its cluster, and its row of `class_weight`, from 0.
        self.places: torch.Tensor
        self.register_buffer("places", torch.empty(classes, 2, dtype=torch.int64))

    def forward(self, input: torch.Tensor, target: torch.Tensor | float) -> torch.Tensor:
        """Return the sum of the losses of (N, in) or (in,) and classes (N,) or one, from 1."""
        rows = input.reshape(-1, input.shape[-1])
        cluster, row = self.places[class_index(target, rows)].unbind(-1)
        clusters = functional.linear(rows, self.cluster_weight, self.cluster_bias)
        classes = functional.linear(rows, self.class_weight, self.class_bias)
        sizes = torch.tensor(self.cluster_sizes, device=rows.device)
        cluster_of_row = torch.arange(len(sizes), device=rows.device).repeat_interleave(sizes)
        inside = classes.masked_fill(cluster_of_row != cluster.unsqueeze(1), -torch.inf)
        return functional.cross_entropy(clusters, cluster, reduction="sum") + (
            functional.cross_entropy(inside, row, reduction="sum")
        )

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.in_features}, {len(self.cluster_sizes)} clusters"


_BUFFERS_OF_HSM = (
    *("n_classes", "n_clusters", "n_class_in_cluster", "n_max_class_in_cluster"),
    *("class_start_indices", "cluster_score", "cluster_logsum", "class_score", "class_logsum"),
    *("tmp_ones", "cluster_grad_weight", "cluster_grad_bias", "class_grad_weight"),
    *("class_grad_bias", "logSMCluster", "logLossCluster", "batch_size"),
)


@register("nn.HSM", ignored=_BUFFERS_OF_HSM)
def hsm(source: LuaObject, context: Context) -> nn.Module:
    """Convert `HSM.lua` of fbnn; `mapping` holds the cluster of each class, and its place there."""
    if source.get("unk_index"):
        raise context.error("HSM.lua computes no loss with an unk_index other than 0")
    clusters, places = np.asarray(source["mapping"]).astype(np.int64).T - 1
    sizes = np.bincount(clusters)
    starts = sizes.cumsum() - sizes
    weight = source["class_weight"]
    with torch.device("meta"):
        module = ClusterSoftmaxLoss(weight.shape[1], sizes.tolist())
    return context.fill(
        module,
        cluster_weight=source["cluster_weight"],
        cluster_bias=source["cluster_bias"],
        class_weight=weight,
        class_bias=source["class_bias"],
        places=np.stack([clusters, starts[clusters] + places], 1),
    )


@layer
class ClusterNetworksLoss(Container):
    """`HLogSoftMax.lua`: the loss of a network of clusters, and of one of a cluster's classes.

    Args:
        modules: The network of clusters, from (N, in) to log-probabilities (N, clusters), and that
            of classes, from `[input (N, in), clusters (N,)]` to (N, classes of a cluster).
        num_classes: Number of classes.
    """

    def __init__(self, *modules: nn.Module, num_classes: int) -> None:
        super().__init__(*modules)
        self.num_classes = num_classes
        #: For each class its cluster, and its number in the cluster, from 1.
        self.mapping: torch.Tensor
        self.register_buffer("mapping", torch.empty(num_classes, 2, dtype=torch.int64))

    def forward(self, input: torch.Tensor, target: torch.Tensor | float) -> torch.Tensor:
        """Return the mean of the losses of (N, in) and classes (N,), from 1."""
        cluster, place = self.mapping[class_index(target, input)].unbind(-1)
        of_cluster = self[0](input).gather(1, (cluster - 1).unsqueeze(1))
        classes = self[1]([input, cluster]).reshape(input.shape[0], -1)
        of_class = classes.gather(1, (place - 1).unsqueeze(1))
        loss: torch.Tensor = -(of_cluster + of_class).mean()
        return loss

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"num_classes={self.num_classes}"


@register(
    "nn.HLogSoftMax",
    ignored=(
        *("input_size", "n_classes", "n_clusters", "n_class_in_cluster", "n_max_class_in_cluster"),
        *("logLossCluster", "logLossClass", "class_bias", "class_weight", "batch_size"),
    ),
)
def h_log_soft_max(source: LuaObject, context: Context) -> nn.Module:
    """Convert `HLogSoftMax.lua` of lstm-char-cnn."""
    mapping = np.asarray(source["mapping"]).astype(np.int64)
    parts = [context.convert(source[name], f".{name}") for name in ("cluster_model", "class_model")]
    module = ClusterNetworksLoss(*parts, num_classes=len(mapping))
    return context.fill(module, mapping=mapping)
