"""The head of a classifier, its last linear layer: finding it and replacing it."""

from __future__ import annotations

import torch
from torch import nn

from ..converters.saved import infer_output_kind
from .errors import HeadError

#: Layers that turn logits into probabilities, or their logarithms, at the end of a classifier.
_SOFTMAX = (nn.LogSoftmax, nn.Softmax, nn.Softmax2d, nn.Sigmoid)


def strip_softmax(network: nn.Module, output_kind: str | None = None) -> None:
    """Replace the softmax at the end of a network by `nn.Identity`, so that it returns logits.

    Training needs logits, because `CrossEntropyLoss` includes the logarithm of the softmax.

    Args:
        network: A classifier, changed in place. The other layers keep their names.
        output_kind: What its outputs mean (`SavedModel.output_kind`); by default inferred from its
            last layer.

    Raises:
        HeadError: The last layer is neither linear nor a softmax after a linear layer.
    """
    kind = output_kind or infer_output_kind(network)
    if kind in ("log_probabilities", "probabilities"):
        names = [name for name, layer in network.named_modules() if isinstance(layer, _SOFTMAX)]
        network.set_submodule(names[-1], nn.Identity())
        kind = infer_output_kind(network)
    if kind != "logits":
        raise HeadError(
            "the network does not end in a linear layer (and a softmax), so it has no head to "
            "replace; `extract` and `probe` use its features instead"
        )


def find_head(network: nn.Module) -> str:
    """Return the name of a classifier's last linear layer.

    Raises:
        HeadError: There is none, or it is the whole network.
    """
    layers = network.named_modules()
    names: list[str] = [name for name, layer in layers if isinstance(layer, nn.Linear)]
    if not names or not names[-1]:
        raise HeadError("the network contains no linear layer, so it has no head")
    return names[-1]


def replace_head(
    network: nn.Module,
    classes: int,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    output_kind: str | None = None,
) -> None:
    """Replace the last linear layer of a classifier, and make it return logits.

    The new weights are zero by default, as in Big Transfer (Kolesnikov et al., 2020): all classes
    are equally probable at first, and no noise of a random head reaches the layers before it.

    Args:
        network: A classifier, changed in place.
        classes: Number of outputs.
        weight: (classes, features), such as the coefficients of a probe.
        bias: (classes,).
        output_kind: What the network's outputs mean (see `strip_softmax`).

    Raises:
        HeadError: The network does not end in a linear layer.
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
