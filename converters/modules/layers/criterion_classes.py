"""Criterions whose targets are classes, counted from 1 (`ClassNLLCriterion.lua`, …)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register
from .criterion import like, size_average


def class_index(target: torch.Tensor | float, input: torch.Tensor) -> torch.Tensor:
    """Classes from 0 for an input (N, C, …) or (C,): of shape (N, …) or ()."""
    index = torch.as_tensor(target, device=input.device).long() - 1
    return index.reshape(input.shape[:1] + input.shape[2:] if input.dim() > 1 else ())


@layer
class ClassNLLCriterion(nn.Module):
    """`ClassNLLCriterion.lua`, `SpatialClassNLLCriterion.lua`: negative log-likelihood of a class.

    A mean divides by the sum of the targets' weights; where all are ignored the loss is 0.

    Args:
        reduction: `mean` or `sum`.
        num_weights: number of classes where each has a weight, or 0.
        ignore_index: a target, counted from 1, that does not count.
    """

    weights: torch.Tensor | None

    def __init__(
        self, reduction: str = "mean", num_weights: int = 0, ignore_index: int = -100
    ) -> None:
        super().__init__()
        self.reduction = reduction
        self.num_weights = num_weights
        self.ignore_index = ignore_index
        self.register_buffer("weights", torch.empty(num_weights) if num_weights else None)

    def forward(self, input: torch.Tensor, target: torch.Tensor | float) -> torch.Tensor:
        """Log-probabilities (N, C, …) or (C,), classes (N, …) or one → ()."""
        index, ignored = class_index(target, input), self.ignore_index - 1
        loss = functional.nll_loss(input, index, self.weights, None, ignored, reduction="sum")
        if self.reduction == "sum":
            return loss
        counted = index != ignored
        if self.weights is None:
            total = counted.sum().to(input.dtype)
        else:
            total = (self.weights[index.masked_fill(~counted, 0)] * counted).sum()
        return loss / total.masked_fill(total == 0, 1)


@register("nn.ClassNLLCriterion", "nn.SpatialClassNLLCriterion")
def class_nll(source: LuaObject, context: Context) -> nn.Module:
    """`ClassNLLCriterion.lua`, `SpatialClassNLLCriterion.lua`."""
    return _class_nll(source, context, size_average(source, context))


def _class_nll(source: LuaObject, context: Context, reduction: str) -> nn.Module:
    weights = source.get("weights")
    module = ClassNLLCriterion(
        reduction, 0 if weights is None else weights.size, int(source.get("ignoreIndex", -100))
    )
    return context.fill(module, weights=weights)


@layer
class CrossEntropyCriterion(nn.Module):
    """`CrossEntropyCriterion.lua`: log-softmax and a criterion on log-probabilities.

    Args:
        criterion: the criterion.
        squeeze: leave out the input's dimensions of size 1 first.
    """

    def __init__(self, criterion: nn.Module, squeeze: bool = True) -> None:
        super().__init__()
        self.criterion = criterion
        self.squeeze = squeeze

    def forward(self, input: torch.Tensor, target: torch.Tensor | float) -> torch.Tensor:
        """Logits (N, C, …) or (C,), classes (N, …) or one → ()."""
        input = input.squeeze() if self.squeeze else input
        return self.criterion(functional.log_softmax(input, 0 if input.dim() == 1 else 1), target)


@register("nn.CrossEntropyCriterion")
def cross_entropy(source: LuaObject, context: Context) -> nn.Module:
    """`CrossEntropyCriterion.lua`: a `sizeAverage` that was changed overrules that of `nll`."""
    nll = source["nll"]
    changed = source.get("sizeAverage") != source.get("oldSizeAverage")
    reduction = size_average(source if changed else nll, context)
    return CrossEntropyCriterion(_class_nll(nll, context, reduction))


@register("cudnn.SpatialCrossEntropyCriterion")
def spatial_cross_entropy(source: LuaObject, context: Context) -> nn.Module:
    """`SpatialCrossEntropyCriterion.lua` of cudnn.torch: classes of the pixels of a batch."""
    nll, reduction = source["nll"], size_average(source, context)
    if nll.class_name == "nn.ClassNLLCriterion":
        context.note("an older one: a sum over pixels, whose gradient Torch7 divided by the batch")
        reduction = "sum"
    return CrossEntropyCriterion(_class_nll(nll, context, reduction), squeeze=False)


@register("cudnn.VolumetricCrossEntropyCriterion")
def volumetric_cross_entropy(source: LuaObject, context: Context) -> nn.Module:
    """`VolumetricCrossEntropyCriterion.lua`: the same on volumes, where ours needs no folding."""
    return context.convert(source["scec"], ".scec")


@layer
class MultiMarginCriterion(nn.Module):
    """`MultiMarginCriterion.lua`: the margin between the target's class and all others.

    Args:
        p: exponent, 1 or 2.
        margin: the margin.
        reduction: `mean` or `sum` over examples.
        num_weights: number of classes where each has a weight, or 0.
    """

    weights: torch.Tensor | None

    def __init__(
        self, p: int = 1, margin: float = 1.0, reduction: str = "mean", num_weights: int = 0
    ) -> None:
        super().__init__()
        self.p = p
        self.margin = margin
        self.reduction = reduction
        self.num_weights = num_weights
        self.register_buffer("weights", torch.empty(num_weights) if num_weights else None)

    def forward(self, input: torch.Tensor, target: torch.Tensor | float) -> torch.Tensor:
        """(N, C) or (C,), classes (N,) or one → ()."""
        return functional.multi_margin_loss(
            input,
            class_index(target, input),
            self.p,
            self.margin,
            self.weights,
            reduction=self.reduction,
        )


@register("nn.MultiMarginCriterion")
def multi_margin(source: LuaObject, context: Context) -> nn.Module:
    """`MultiMarginCriterion.lua`; `p` and `margin` came later than the class."""
    weights = source.get("weights")
    module = MultiMarginCriterion(
        int(source.get("p", 1)),
        source.get("margin", 1.0),
        size_average(source, context),
        0 if weights is None else weights.size,
    )
    return context.fill(module, weights=weights)


@layer
class MultiLabelMarginCriterion(nn.Module):
    """`MultiLabelMarginCriterion.lua`: the margin between an example's classes and all others.

    Args:
        reduction: `mean` or `sum` over examples.
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """(N, C) or (C,), and lists of classes of that shape, each ended by a 0 → ()."""
        index = target.long() - 1
        return functional.multilabel_margin_loss(input, index, reduction=self.reduction)


@register("nn.MultiLabelMarginCriterion")
def multi_label_margin(source: LuaObject, context: Context) -> nn.Module:
    """`MultiLabelMarginCriterion.lua`."""
    return MultiLabelMarginCriterion(size_average(source, context))


@layer
class ClassSimplexCriterion(nn.Module):
    """`ClassSimplexCriterion.lua`: squared distance to the corner of a simplex that is the class's.

    Args:
        num_classes: number of classes; the buffer `simplex` holds their corners.
        reduction: `mean` or `sum`.
    """

    simplex: torch.Tensor

    def __init__(self, num_classes: int, reduction: str = "mean") -> None:
        super().__init__()
        self.num_classes = num_classes
        self.reduction = reduction
        self.register_buffer("simplex", torch.empty(num_classes, num_classes))

    def forward(self, input: torch.Tensor, target: torch.Tensor | float) -> torch.Tensor:
        """(N, C) or (C,), classes (N,) or one → ()."""
        corners = self.simplex[class_index(target, input)]
        return functional.mse_loss(input, like(corners, input), reduction=self.reduction)


@register("nn.ClassSimplexCriterion")
def class_simplex(source: LuaObject, context: Context) -> nn.Module:
    """`ClassSimplexCriterion.lua`."""
    simplex = source["simplex"]
    module = ClassSimplexCriterion(simplex.shape[0], size_average(source, context))
    return context.fill(module, simplex=simplex)
