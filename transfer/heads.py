"""The last linear layer of a classifier: finding it, and putting another in its place."""

from __future__ import annotations

import torch
from torch import nn

from ..converters.saved import infer_output_kind
from .errors import HeadError

#: The layers that turn logits into something else at the end of a classifier.
_SOFTMAX = (nn.LogSoftmax, nn.Softmax, nn.Softmax2d, nn.Sigmoid)


def strip_softmax(network: nn.Module, output_kind: str | None = None) -> None:
    """Replace a network's last softmax by nothing, so that it gives logits.

    Training needs logits: the loss takes their logarithmic softmax itself (`CrossEntropyLoss`).

    Args:
        network: a classifier; it is changed. The other layers keep their names.
        output_kind: what it gives (`SavedModel.output_kind`); by default it is told by its last layer.

    Raises:
        HeadError: when its last layer is neither linear nor a softmax behind a linear layer.
    """
    kind = output_kind or infer_output_kind(network)
    if kind in ("log_probabilities", "probabilities"):
        named = [name for name, part in network.named_modules() if isinstance(part, _SOFTMAX)]
        network.set_submodule(named[-1], nn.Identity())
        kind = infer_output_kind(network)
    if kind != "logits":
        raise HeadError(
            "the network does not end in a linear layer (and a softmax): it has no head that "
            "could be replaced; `extract` and `probe` work with its features instead"
        )


def find_head(network: nn.Module) -> str:
    """The name of a classifier's last linear layer.

    Raises:
        HeadError: when there is none, or it is the whole network.
    """
    linear = [name for name, part in network.named_modules() if isinstance(part, nn.Linear)]
    if not linear or not linear[-1]:
        raise HeadError("a network with a linear layer among its layers was expected")
    return linear[-1]


def replace_head(
    network: nn.Module,
    classes: int,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    output_kind: str | None = None,
) -> None:
    """Give a classifier a new last linear layer, and logits as its outputs.

    By default its numbers are zero, as in Big Transfer (Kolesnikov et al., 2020): all classes are
    equally likely at first, and no noise of an untrained head reaches the layers before it.

    Args:
        network: a classifier; it is changed.
        classes: number of outputs.
        weight: (classes, features), such as the coefficients of a probe.
        bias: (classes,).
        output_kind: what the network gives (see `strip_softmax`).

    Raises:
        HeadError: when the network does not end in a linear layer.
    """
    strip_softmax(network, output_kind)
    name = find_head(network)
    old = network.get_submodule(name)
    assert isinstance(old, nn.Linear)
    head = nn.Linear(old.in_features, classes).to(old.weight).train(old.training)
    with torch.no_grad():
        for parameter, value in ((head.weight, weight), (head.bias, bias)):
            parameter.copy_(torch.zeros_like(parameter) if value is None else value)
    network.set_submodule(name, head)
