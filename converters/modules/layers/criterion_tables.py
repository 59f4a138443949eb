"""Criterions on tables and combinations of criterions (`ParallelCriterion.lua`, …)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...t7 import LuaObject, LuaTable
from ..context import Context
from ..registry import layer, register
from .container import Container
from .criterion import Loss, like, size_average
from .criterion_margin import MarginLoss, hinge
from .distance import cosine_of_rows
from .memory_order import same_shape


def _reduced(losses: torch.Tensor, target: torch.Tensor, reduction: str) -> torch.Tensor:
    """Return the sum of the losses; a mean divides it by the first size of the target."""
    loss = losses.sum()
    return loss / target.size(0) if reduction == "mean" and target.dim() else loss


@layer
class L1HingeEmbeddingCriterion(nn.Module):
    """`L1HingeEmbeddingCriterion.lua`: L1 distance d of a pair, or max(0, margin - d).

    Args:
        margin: Distance from which a pair with target -1 adds no loss.
    """

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, input: list[torch.Tensor], target: torch.Tensor | float) -> torch.Tensor:
        """Return the loss for two tensors of one size and a target: 1 for d, -1 for the hinge."""
        first, second = same_shape(input[:2])
        distance = (first - second).abs().sum()
        dissimilar = torch.as_tensor(target, device=distance.device).reshape(()) == -1
        return torch.where(dissimilar, hinge(self.margin - distance), distance)


@register("nn.L1HingeEmbeddingCriterion")
def l1_hinge_embedding(source: LuaObject, context: Context) -> nn.Module:
    """Convert `L1HingeEmbeddingCriterion.lua`: hinge loss of the L1 distance of a pair."""
    return L1HingeEmbeddingCriterion(source.get("margin", 1.0))


@layer
class CosineEmbeddingCriterion(MarginLoss):
    """`CosineEmbeddingCriterion.lua`: 1 - cos of a pair, or max(0, cos - margin).

    It adds 1e-12 to each squared norm. For any target but 1 and -1 the loss is the cosine.

    Args:
        margin: Cosine up to which a pair with target -1 adds no loss.
        reduction: "mean" over the first dimension of the target, or "sum".
    """

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        super().__init__(margin, reduction)

    def forward(self, input: list[torch.Tensor], target: torch.Tensor | float) -> torch.Tensor:
        """Return the loss for two tensors (N, D) or (D,) and targets (N,) or one, 1 or -1."""
        cosine = cosine_of_rows(input)
        target = torch.as_tensor(target, device=cosine.device)
        label = target.reshape(cosine.shape)
        losses = torch.where(label == 1, 1 - cosine, cosine)
        losses = torch.where(label == -1, (cosine - self.margin).relu(), losses)
        return _reduced(losses, target, self.reduction)


@register("nn.CosineEmbeddingCriterion")
def cosine_embedding(source: LuaObject, context: Context) -> nn.Module:
    """Convert `CosineEmbeddingCriterion.lua`: loss of the cosine of a pair."""
    return CosineEmbeddingCriterion(source.get("margin", 0.0), size_average(source, context))


@layer
class MarginRankingCriterion(MarginLoss):
    """`MarginRankingCriterion.lua`: max(0, margin - y·(x₁ - x₂)).

    A mean divides by the first size of the target; `torch.nn.MarginRankingLoss` divides by the
    number of elements. The gradient where a loss is exactly 0 is that of a larger loss.

    Args:
        margin: The margin.
        reduction: "mean" over the first dimension of the target, or "sum".
    """

    def forward(self, input: list[torch.Tensor], target: torch.Tensor | float) -> torch.Tensor:
        """Return the loss for two tensors of one size and as many targets, 1 or -1.

        A number is the target of the first values; the others are ignored.
        """
        first, second = same_shape(input[:2])
        difference = first - second
        target = torch.as_tensor(target, device=difference.device)
        if target.dim() == 0:
            difference = difference.flatten()[0]
        losses = hinge(self.margin - like(target, difference) * difference)
        return _reduced(losses, target, self.reduction)


@register("nn.MarginRankingCriterion")
def margin_ranking(source: LuaObject, context: Context) -> nn.Module:
    """Convert `MarginRankingCriterion.lua`: hinge loss of a difference."""
    return MarginRankingCriterion(source.get("margin", 1.0), size_average(source, context))


@layer
class DistanceRatioCriterion(Loss):
    """`DistanceRatioCriterion.lua`: -log(e⁻ˣ / (e⁻ˣ + e⁻ʸ)) of two distances.

    Args:
        reduction: "mean" over the first dimension, or "sum".
    """

    def forward(self, input: list[torch.Tensor], target: Any = None) -> torch.Tensor:
        """Return the loss for distances (N, …) of similar and of dissimilar pairs; no target."""
        similar, dissimilar = same_shape(input)
        loss = (similar + torch.logaddexp(-similar, -dissimilar)).sum()
        return loss / similar.size(0) if self.reduction == "mean" else loss


@register("nn.DistanceRatioCriterion")
def distance_ratio(source: LuaObject, context: Context) -> nn.Module:
    """Convert `DistanceRatioCriterion.lua`: log-ratio of the distances of two pairs."""
    return DistanceRatioCriterion(size_average(source, context))


@layer
class MultiCriterion(Container):
    """`MultiCriterion.lua`: a weighted sum of criterions on the same input and target.

    Args:
        modules: The criterions.
        weights: One weight for each criterion.
    """

    def __init__(self, *modules: nn.Module, weights: list[float]) -> None:
        super().__init__(*modules)
        self.weights = weights

    def forward(self, input: Any, target: Any) -> torch.Tensor:
        """Return the weighted sum of the losses."""
        pairs = zip(self, self.weights, strict=True)
        return torch.stack([weight * criterion(input, target) for criterion, weight in pairs]).sum()


@register("nn.MultiCriterion")
def multi(source: LuaObject, context: Context) -> nn.Module:
    """Convert `MultiCriterion.lua`: a weighted sum of criterions on the same input."""
    return MultiCriterion(*context.children(source, "criterions"), weights=_weights(source))


def _entry(target: Any, index: int) -> Any:
    """Return an entry of the target, None for an absent one: some criterions take no target."""
    return target[index] if index < len(target) else None


@layer
class ParallelCriterion(Container):
    """`ParallelCriterion.lua`: a weighted sum of criterions, each on its own entry of the input.

    Args:
        modules: The criterions.
        weights: One weight for each criterion.
        repeat_target: Whether all criterions take the whole target instead of an entry each.
    """

    def __init__(
        self, *modules: nn.Module, weights: list[float], repeat_target: bool = False
    ) -> None:
        super().__init__(*modules)
        self.weights = weights
        self.repeat_target = repeat_target

    def forward(self, input: list[Any], target: Any) -> torch.Tensor:
        """Return the weighted sum of the losses for lists of inputs and targets."""
        losses = []
        for index, (criterion, weight) in enumerate(zip(self, self.weights, strict=True)):
            entry = target if self.repeat_target else _entry(target, index)
            losses.append(weight * criterion(input[index], entry))
        return torch.stack(losses).sum()


@register("nn.ParallelCriterion")
def parallel(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ParallelCriterion.lua`: a weighted sum of criterions on the entries of a table."""
    return ParallelCriterion(
        *context.children(source, "criterions"),
        weights=_weights(source),
        repeat_target=bool(source.get("repeatTarget")),
    )


def _weights(source: LuaObject) -> list[float]:
    """Return the weights of the criterions, which are a table or a storage."""
    weights = source["weights"]
    return weights.to_list() if isinstance(weights, LuaTable) else weights.tolist()


@layer
class CriterionTable(nn.Module):
    """`CriterionTable.lua`: a criterion that takes its input and target as one list.

    Args:
        criterion: The criterion.
    """

    def __init__(self, criterion: nn.Module) -> None:
        super().__init__()
        self.criterion = criterion

    def forward(self, input: list[Any]) -> torch.Tensor:
        """Return the loss for [input, target]."""
        loss: torch.Tensor = self.criterion(*input)
        return loss


@register("nn.CriterionTable")
def criterion_table(source: LuaObject, context: Context) -> nn.Module:
    """Convert `CriterionTable.lua`: a criterion that takes input and target as one table."""
    return CriterionTable(context.convert(source["criterion"], ".criterion"))


@layer
class ModuleCriterion(nn.Module):
    """`ModuleCriterion.lua`: a criterion on an input and a target that pass through modules first.

    Args:
        criterion: The criterion.
        input_module: Module applied to the input.
        target_module: Module applied to the target.
    """

    def __init__(
        self, criterion: nn.Module, input_module: nn.Module, target_module: nn.Module
    ) -> None:
        super().__init__()
        self.criterion = criterion
        self.input_module = input_module
        self.target_module = target_module

    def forward(self, input: Any, target: Any) -> torch.Tensor:
        """Return the loss for inputs of the two modules."""
        loss: torch.Tensor = self.criterion(self.input_module(input), self.target_module(target))
        return loss


@register("nn.ModuleCriterion")
def module_criterion(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ModuleCriterion.lua`: modules before a criterion; either may be missing."""
    modules = [
        context.convert(source[name], f".{name}") if source.get(name) is not None else nn.Identity()
        for name in ("inputModule", "targetModule")
    ]
    return ModuleCriterion(context.convert(source["criterion"], ".criterion"), *modules)
