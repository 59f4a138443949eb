"""The head of a classifier: finding it and replacing it.

It is the last linear layer or, in a network without one such as SqueezeNet, the last convolution,
whose outputs are averaged over the image.
"""

from __future__ import annotations

import torch
from torch import nn

from ..converters.modules.layers.arithmetic import MulConstant
from ..converters.saved import infer_output_kind, last_weights
from ..converters.saved.shapes import last_layer
from .errors import HeadError

#: Layers that turn logits into probabilities, or their logarithms, at the end of a classifier.
_SOFTMAX = (nn.LogSoftmax, nn.Softmax, nn.Softmax2d, nn.Sigmoid)


def strip_softmax(network: nn.Module, output_kind: str | None = None) -> None:
    """Replace the softmax at the end of a network by `nn.Identity`, so that it returns logits.

    Training needs logits, because `CrossEntropyLoss` includes the logarithm of the softmax. A
    constant factor on the logits, such as that of `with_temperature`, stays.

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
        scaled = isinstance(last_layer(network), MulConstant)
        kind = "logits" if scaled else infer_output_kind(network)
    if kind != "logits":
        raise HeadError(
            "the network does not end in a linear layer (and a softmax), so it has no head to "
            "replace; `extract` and `probe` use its features instead"
        )


def find_head(network: nn.Module) -> str:
    """Return the name of a classifier's head.

    Raises:
        HeadError: There is none, or it is the whole network.

    Example:
        >>> find_head(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 2)))
        '2'
    """
    name = last_weights(network)
    if name:
        return name
    if name == "":
        raise HeadError(
            f"the network is a single layer ({type(network).__name__}), and no head on others: "
            "put it into an nn.Sequential"
        )
    raise HeadError("the network contains no linear layer and no convolution, so it has no head")


def head_outputs(network: nn.Module) -> int:
    """Return the number of outputs of a classifier's head, which may be the whole network.

    Raises:
        HeadError: There is no head.
    """
    head = network if isinstance(network, nn.Linear) else network.get_submodule(find_head(network))
    return len(head.get_parameter("weight"))


def replace_head(
    network: nn.Module,
    classes: int,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    output_kind: str | None = None,
) -> None:
    """Replace the head of a classifier, and make it return logits.

    The new weights are zero by default, as in Big Transfer (Kolesnikov et al., 2020): all classes
    are equally probable at first, and no noise of a random head reaches the layers before it.
    The biases of a convolution are one, because a ReLU behind it has no gradient at zero.

    Args:
        network: A classifier, changed in place.
        classes: Number of outputs.
        weight: (classes, features), such as the coefficients of a probe; of a convolution
            (classes, features, height, width), height and width being 1 where they are absent.
        bias: (classes,). Without it the head has a bias if the old one has.
        output_kind: What the network's outputs mean (see `strip_softmax`).

    Raises:
        HeadError: The network does not end in a head, or the weight has another number of features.
    """
    strip_softmax(network, output_kind)
    _drop_scale(network)
    head = resize_head(network, classes, bias is not None)
    default_bias = 1.0 if isinstance(head, nn.Conv2d) else 0.0
    with torch.no_grad():
        head.weight.copy_(
            torch.zeros_like(head.weight) if weight is None else _reshaped(weight, head.weight)
        )
        if head.bias is not None:
            head.bias.copy_(torch.full_like(head.bias, default_bias) if bias is None else bias)


def _drop_scale(network: nn.Module) -> None:
    """Replace a constant factor on the logits, which was right for the old head alone."""
    last = last_layer(network)
    names = [name for name, layer in network.named_modules() if layer is last and name]
    if isinstance(last, MulConstant) and names:
        network.set_submodule(names[0], nn.Identity())


def resize_head(
    network: nn.Module, classes: int, needs_bias: bool = False
) -> nn.Linear | nn.Conv2d:
    """Replace the head of a classifier by one with other outputs, and return it.

    Args:
        network: A classifier, changed in place.
        classes: Number of outputs; the weights are torch's random ones.
        needs_bias: Whether the head has a bias even if the old one has none.

    Raises:
        HeadError: There is no head.
    """
    name = find_head(network)
    old = network.get_submodule(name)
    has_bias = needs_bias or getattr(old, "bias", None) is not None
    head = _head_like(old, classes, has_bias).to(old.get_parameter("weight")).train(old.training)
    network.set_submodule(name, head)
    return head


def _head_like(old: nn.Module, classes: int, has_bias: bool) -> nn.Linear | nn.Conv2d:
    """Return a layer with the inputs of an old head."""
    if isinstance(old, nn.Linear):
        return nn.Linear(old.in_features, classes, bias=has_bias)
    assert isinstance(old, nn.Conv2d)
    return nn.Conv2d(
        old.in_channels,
        classes,
        old.kernel_size,  # type: ignore[arg-type]  # as typed in torch: of any length
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        old.dilation,  # type: ignore[arg-type]
        old.groups,
        bias=has_bias,
    )


def _reshaped(weight: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return the weight of a head in the shape of its parameter.

    Raises:
        HeadError: It has another number of features.
    """
    if weight.numel() != like.numel():
        raise HeadError(
            f"the head takes {like[0].numel()} features of each position, not {weight[0].numel()}; "
            "a head that is a convolution cannot begin as a probe: use head='zeros'"
        )
    return weight.reshape(like.shape)
