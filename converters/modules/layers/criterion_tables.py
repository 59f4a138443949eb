"""Criterions on tables, and criterions made of criterions (`ParallelCriterion.lua`, …)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...t7 import LuaObject, LuaTable
from ..context import Context
from ..registry import layer, register
from .criterion import reduced, size_average


@layer
class L1HingeEmbeddingCriterion(nn.Module):
    """`L1HingeEmbeddingCriterion.lua`: L1 distance of a pair, or how far it is below the margin.

    Args:
        margin: the least distance of a pair that is apart.
    """

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, input: list[torch.Tensor], target: torch.Tensor | float) -> torch.Tensor:
        """Two tensors of one shape, and -1 where they should be apart, else 1 → ()."""
        distance = (input[0] - input[1]).abs().sum()
        apart = torch.as_tensor(target, device=distance.device).reshape(()) == -1
        return torch.where(apart, (self.margin - distance).relu(), distance)


@register("nn.L1HingeEmbeddingCriterion")
def l1_hinge_embedding(source: LuaObject, context: Context) -> nn.Module:
    """`L1HingeEmbeddingCriterion.lua`."""
    return L1HingeEmbeddingCriterion(source.get("margin", 1.0))


@layer
class CosineEmbeddingCriterion(nn.Module):
    """`CosineEmbeddingCriterion.lua`: 1 - cosine of a pair, or how far that is above the margin.

    Args:
        margin: the greatest cosine of a pair that is apart.
        reduction: `mean` or `sum`.
    """

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        super().__init__()
        self.margin = margin
        self.reduction = reduction

    def forward(self, input: list[torch.Tensor], target: torch.Tensor | float) -> torch.Tensor:
        """Two tensors (N, D) or (D,), and targets (N,) or one, 1 or -1 → ()."""
        first, second = input
        squares = [tensor.square().sum(dim=-1) + 1e-12 for tensor in (first, second)]
        cosine = (first * second).sum(dim=-1) / (squares[0] * squares[1]).sqrt()
        target = torch.as_tensor(target, device=cosine.device).reshape(cosine.shape)
        losses = torch.where(target == 1, 1 - cosine, (cosine - self.margin).relu())
        return reduced(losses, self.reduction)


@register("nn.CosineEmbeddingCriterion")
def cosine_embedding(source: LuaObject, context: Context) -> nn.Module:
    """`CosineEmbeddingCriterion.lua`."""
    return CosineEmbeddingCriterion(source.get("margin", 0.0), size_average(source, context))


@layer
class MarginRankingCriterion(nn.Module):
    """`MarginRankingCriterion.lua`: max(0, margin - y·(x₁ - x₂)).

    Args:
        margin: the margin.
        reduction: `mean` over the first dimension, or `sum`.
    """

    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        super().__init__()
        self.margin = margin
        self.reduction = reduction

    def forward(self, input: list[torch.Tensor], target: torch.Tensor | float) -> torch.Tensor:
        """Two tensors (N, …), and targets of that shape or one number, 1 or -1 → ()."""
        losses = (self.margin - target * (input[0] - input[1])).relu()
        return losses.sum() / losses.size(0) if self.reduction == "mean" else losses.sum()


@register("nn.MarginRankingCriterion")
def margin_ranking(source: LuaObject, context: Context) -> nn.Module:
    """`MarginRankingCriterion.lua`."""
    return MarginRankingCriterion(source.get("margin", 1.0), size_average(source, context))


@layer
class DistanceRatioCriterion(nn.Module):
    """`DistanceRatioCriterion.lua`: -log(e⁻ˣ / (e⁻ˣ + e⁻ʸ)) of two distances, without a target.

    Args:
        reduction: `mean` over the first dimension, or `sum`.
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, input: list[torch.Tensor], target: Any = None) -> torch.Tensor:
        """Distances (N, …) of similar and of different pairs → ()."""
        similar, different = input
        loss = (similar + torch.logaddexp(-similar, -different)).sum()
        return loss / similar.size(0) if self.reduction == "mean" else loss


@register("nn.DistanceRatioCriterion")
def distance_ratio(source: LuaObject, context: Context) -> nn.Module:
    """`DistanceRatioCriterion.lua`."""
    return DistanceRatioCriterion(size_average(source, context))


@layer
class MultiCriterion(nn.ModuleList):
    """`MultiCriterion.lua`: a weighted sum of criterions on the same input and target.

    Args:
        modules: the criterions.
        weights: a factor for each.
    """

    def __init__(self, *modules: nn.Module, weights: list[float]) -> None:
        super().__init__(modules)
        self.weights = weights

    def forward(self, input: Any, target: Any) -> torch.Tensor:
        """What each criterion takes → ()."""
        pairs = zip(self, self.weights, strict=True)
        return torch.stack([weight * criterion(input, target) for criterion, weight in pairs]).sum()


@register("nn.MultiCriterion")
def multi(source: LuaObject, context: Context) -> nn.Module:
    """`MultiCriterion.lua`."""
    return MultiCriterion(*context.children(source, "criterions"), weights=_weights(source))


@layer
class ParallelCriterion(nn.ModuleList):
    """`ParallelCriterion.lua`: a weighted sum of criterions, each on an entry of the table.

    Args:
        modules: the criterions.
        weights: a factor for each.
        repeat_target: give all of them the same target rather than an entry each.
    """

    def __init__(
        self, *modules: nn.Module, weights: list[float], repeat_target: bool = False
    ) -> None:
        super().__init__(modules)
        self.weights = weights
        self.repeat_target = repeat_target

    def forward(self, input: list[Any], target: Any) -> torch.Tensor:
        """An input for each criterion, and a target for each or for all → ()."""
        losses = []
        for index, (criterion, weight) in enumerate(zip(self, self.weights, strict=True)):
            own_target = target if self.repeat_target else target[index]
            losses.append(weight * criterion(input[index], own_target))
        return torch.stack(losses).sum()


@register("nn.ParallelCriterion")
def parallel(source: LuaObject, context: Context) -> nn.Module:
    """`ParallelCriterion.lua`."""
    return ParallelCriterion(
        *context.children(source, "criterions"),
        weights=_weights(source),
        repeat_target=bool(source.get("repeatTarget")),
    )


def _weights(source: LuaObject) -> list[float]:
    """The factors: a table, or a storage."""
    weights = source["weights"]
    return weights.to_list() if isinstance(weights, LuaTable) else weights.tolist()


@layer
class CriterionTable(nn.Module):
    """`CriterionTable.lua`: a criterion as a layer, which takes input and target as a table.

    Args:
        criterion: the criterion.
    """

    def __init__(self, criterion: nn.Module) -> None:
        super().__init__()
        self.criterion = criterion

    def forward(self, input: list[Any]) -> torch.Tensor:
        """[input, target] → ()."""
        return self.criterion(*input)


@register("nn.CriterionTable")
def criterion_table(source: LuaObject, context: Context) -> nn.Module:
    """`CriterionTable.lua`."""
    return CriterionTable(context.convert(source["criterion"], ".criterion"))


@layer
class ModuleCriterion(nn.Module):
    """`ModuleCriterion.lua`: layers on the way to a criterion's input and target.

    Args:
        criterion: the criterion.
        input_module: what the input goes through.
        target_module: what the target goes through.
    """

    def __init__(
        self, criterion: nn.Module, input_module: nn.Module, target_module: nn.Module
    ) -> None:
        super().__init__()
        self.criterion = criterion
        self.input_module = input_module
        self.target_module = target_module

    def forward(self, input: Any, target: Any) -> torch.Tensor:
        """What the two modules take → ()."""
        return self.criterion(self.input_module(input), self.target_module(target))


@register("nn.ModuleCriterion")
def module_criterion(source: LuaObject, context: Context) -> nn.Module:
    """`ModuleCriterion.lua`; either module may be missing."""
    paths = [
        context.convert(source[name], f".{name}") if source.get(name) is not None else nn.Identity()
        for name in ("inputModule", "targetModule")
    ]
    return ModuleCriterion(context.convert(source["criterion"], ".criterion"), *paths)
