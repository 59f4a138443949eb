"""Criterions whose targets are class indices, from 1 (`ClassNLLCriterion.lua`, …)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register
from .criterion import Loss, WeightedLoss, like, num_weights, size_average


def class_index(target: torch.Tensor | float, input: torch.Tensor) -> torch.Tensor:
    """Return class indices from 0 in shape (N, …) for an input (N, C, …), or () for (C,)."""
    index = torch.as_tensor(target, device=input.device).long() - 1
    return index.reshape(input.shape[:1] + input.shape[2:] if input.dim() > 1 else ())


@layer
class ClassNLLCriterion(WeightedLoss):
    """`ClassNLLCriterion.lua`, `SpatialClassNLLCriterion.lua`: negative log-likelihood.

    A mean divides by the sum of the targets' weights. If all targets are ignored the loss is 0;
    `torch.nn.NLLLoss` returns NaN.

    Args:
        reduction: "mean" or "sum".
        num_weights: Number of classes if each has a weight, else 0.
        ignore_index: A target, counted from 1, that adds nothing to the loss.
    """

    def __init__(
        self, reduction: str = "mean", num_weights: int = 0, ignore_index: int = -100
    ) -> None:
        super().__init__(reduction, num_weights)
        self.ignore_index = ignore_index

    def forward(self, input: torch.Tensor, target: torch.Tensor | float) -> torch.Tensor:
        """Return the loss for log-probabilities (N, C, …) or (C,) and classes (N, …) or one."""
        index, ignore_index = class_index(target, input), self.ignore_index - 1
        loss = functional.nll_loss(input, index, self.weights, None, ignore_index, reduction="sum")
        if self.reduction == "sum":
            return loss
        counts = index != ignore_index
        if self.weights is None:
            total = counts.sum().to(input.dtype)
        else:
            total = (self.weights[index.masked_fill(~counts, 0)] * counts).sum()
        return loss / total.masked_fill(total == 0, 1)


@register(
    "nn.ClassNLLCriterion",
    "nn.SpatialClassNLLCriterion",
    ignored=("output_tensor", "total_weight_tensor", "target", "outputTensor"),
)
def class_nll(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ClassNLLCriterion.lua` or its spatial variant: negative log-likelihood."""
    return _class_nll(source, context, size_average(source, context))


def _class_nll(source: LuaObject, context: Context, reduction: str) -> nn.Module:
    ignore_index = int(source.get("ignoreIndex", -100))
    module = ClassNLLCriterion(reduction, num_weights(source), ignore_index)
    return context.fill(module, weights=source.get("weights"))


@layer
class CrossEntropyCriterion(nn.Module):
    """`CrossEntropyCriterion.lua`: log-softmax followed by a criterion on log-probabilities.

    Args:
        criterion: The criterion on log-probabilities.
        squeeze: Whether to remove the input's dimensions of size 1 first.
    """

    def __init__(self, criterion: nn.Module, squeeze: bool = True) -> None:
        super().__init__()
        self.criterion = criterion
        self.squeeze = squeeze

    def forward(self, input: torch.Tensor, target: torch.Tensor | float) -> torch.Tensor:
        """Return the loss for logits (N, C, …) or (C,) and classes (N, …) or one."""
        input = input.squeeze() if self.squeeze else input
        log_probabilities = functional.log_softmax(input, 0 if input.dim() == 1 else 1)
        loss: torch.Tensor = self.criterion(log_probabilities, target)
        return loss


@register("nn.CrossEntropyCriterion", ignored=("lsm",))
def cross_entropy(source: LuaObject, context: Context) -> nn.Module:
    """Convert `CrossEntropyCriterion.lua`: negative log-likelihood of a log-softmax.

    Torch7 copies the field `sizeAverage` to the criterion `nll` when it changes; a file may hold a
    change that was not copied yet.
    """
    nll = source["nll"]
    changed = source.get("sizeAverage") != source.get("oldSizeAverage")
    reduction = size_average(source if changed else nll, context)
    return CrossEntropyCriterion(_class_nll(nll, context, reduction))


@register("cudnn.SpatialCrossEntropyCriterion")
def spatial_cross_entropy(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialCrossEntropyCriterion.lua` of cudnn.torch: cross-entropy of each pixel.

    Older versions summed the loss over pixels and divided only the gradient by the batch size.
    """
    nll, reduction = source["nll"], size_average(source, context)
    if nll.class_name == "nn.ClassNLLCriterion":
        context.note(
            "an older version: the loss is a sum over pixels; Torch7 also divided its gradient by "
            "the batch size"
        )
        reduction = "sum"
    return CrossEntropyCriterion(_class_nll(nll, context, reduction), squeeze=False)


@register("cudnn.VolumetricCrossEntropyCriterion")
def volumetric_cross_entropy(source: LuaObject, context: Context) -> nn.Module:
    """Convert `VolumetricCrossEntropyCriterion.lua` of cudnn.torch: cross-entropy of each voxel.

    Torch7 reshapes volumes for its spatial criterion `scec`; `CrossEntropyCriterion` takes both.
    """
    return context.convert(source["scec"], ".scec")


@layer
class MultiMarginCriterion(WeightedLoss):
    """`MultiMarginCriterion.lua`: hinge loss between the true class and every other class.

    Args:
        p: Exponent, 1 or 2.
        margin: The margin.
        reduction: "mean" or "sum" over examples.
        num_weights: Number of classes if each has a weight, else 0.
    """

    def __init__(
        self, p: int = 1, margin: float = 1.0, reduction: str = "mean", num_weights: int = 0
    ) -> None:
        super().__init__(reduction, num_weights)
        self.p = p
        self.margin = margin

    def forward(self, input: torch.Tensor, target: torch.Tensor | float) -> torch.Tensor:
        """Return the loss for (N, C) or (C,) and classes (N,) or one."""
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
    """Convert `MultiMarginCriterion.lua`: hinge loss; older files have no `p` and `margin`."""
    module = MultiMarginCriterion(
        int(source.get("p", 1)),
        source.get("margin", 1.0),
        size_average(source, context),
        num_weights(source),
    )
    return context.fill(module, weights=source.get("weights"))


@layer
class MultiLabelMarginCriterion(Loss):
    """`MultiLabelMarginCriterion.lua`: hinge loss between an example's classes and all others.

    Args:
        reduction: "mean" or "sum" over examples.
    """

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss for (N, C) or (C,) and as many targets: classes, then zeros."""
        index = target.long() - 1
        return functional.multilabel_margin_loss(input, index, reduction=self.reduction)


@register("nn.MultiLabelMarginCriterion")
def multi_label_margin(source: LuaObject, context: Context) -> nn.Module:
    """Convert `MultiLabelMarginCriterion.lua`: hinge loss for examples with several classes."""
    return MultiLabelMarginCriterion(size_average(source, context))


@layer
class ClassSimplexCriterion(Loss):
    """`ClassSimplexCriterion.lua`: squared distance to the class's corner of a regular simplex.

    Args:
        num_classes: Number of classes; the buffer `simplex` holds a corner for each.
        reduction: "mean" or "sum".
    """

    simplex: torch.Tensor

    def __init__(self, num_classes: int, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.num_classes = num_classes
        self.register_buffer("simplex", torch.empty(num_classes, num_classes))

    def forward(self, input: torch.Tensor, target: torch.Tensor | float) -> torch.Tensor:
        """Return the loss for N·C values of any shape and classes (N,) or one."""
        corners = self.simplex[torch.as_tensor(target, device=input.device).long() - 1]
        return functional.mse_loss(input, like(corners, input), reduction=self.reduction)


@register("nn.ClassSimplexCriterion", ignored=("nClasses",))
def class_simplex(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ClassSimplexCriterion.lua`: squared distance to a corner of a simplex."""
    simplex = source["simplex"]
    module = ClassSimplexCriterion(simplex.shape[0], size_average(source, context))
    return context.fill(module, simplex=simplex)
