"""Networks to train from scratch, by name, built from layers that a saved model can hold.

Each network takes images of one size, which its docstring names; training resizes others.
"""

from __future__ import annotations

from functools import partial
from typing import Protocol

from ...converters.requirements import require

require("torchlift.transfer.networks", "torch")

from torch import nn

from .alexnet import alexnet_owt_bn
from .cifar2 import (
    net_batch_norm,
    net_depth,
    net_dropout,
    net_res,
    net_res_deep,
    net_res_deep_projected,
    net_res_deep_shared,
    net_width,
    tanhnet,
)
from .googlenet import googlenet, googlenet_bn
from .lenet import convnet, convnet_bn, lenet, lenet5, small_cnn
from .linear import logistic, mlp30, softmax, two_layer
from .vgg import vgg_bn


class Builder(Protocol):
    """A function that builds a network that returns logits.

    Without arguments the network is that of its lab or paper.

    Example:
        >>> NETWORKS["lenet5"](channels=1, classes=4)[-1]
        Linear(in_features=84, out_features=4, bias=True)
    """

    def __call__(self, channels: int = ..., classes: int = ...) -> nn.Module:
        """Return the network.

        Args:
            channels: Channels of an image.
            classes: Number of outputs.
        """


#: The networks that `torchlift train` accepts by name.
NETWORKS: dict[str, Builder] = {
    "softmax": softmax,
    "two_layer": two_layer,
    "convnet": convnet,
    "convnet_bn": convnet_bn,
    "lenet5": lenet5,
    "lenet": lenet,
    "logistic": logistic,
    "mlp30": mlp30,
    "small_cnn": small_cnn,
    "tanhnet": tanhnet,
    "net_width": net_width,
    "net_dropout": net_dropout,
    "net_batch_norm": net_batch_norm,
    "net_depth": net_depth,
    "net_res": net_res,
    "net_res_deep_shared": net_res_deep_shared,
    "net_res_deep": net_res_deep,
    "net_res_deep_projected": net_res_deep_projected,
    "alexnet_owt_bn": alexnet_owt_bn,
    "vgg_bn_a": partial(vgg_bn, "A"),
    "vgg_bn_b": partial(vgg_bn, "B"),
    "vgg_bn_c": partial(vgg_bn, "C"),
    "vgg_bn_d": partial(vgg_bn, "D"),
    "vgg_bn_e": partial(vgg_bn, "E"),
    "googlenet": googlenet,
    "googlenet_bn": googlenet_bn,
}

__all__ = [
    "NETWORKS",
    "Builder",
    "alexnet_owt_bn",
    "convnet",
    "convnet_bn",
    "googlenet",
    "googlenet_bn",
    "lenet",
    "lenet5",
    "logistic",
    "mlp30",
    "net_batch_norm",
    "net_depth",
    "net_dropout",
    "net_res",
    "net_res_deep",
    "net_res_deep_projected",
    "net_res_deep_shared",
    "net_width",
    "small_cnn",
    "softmax",
    "tanhnet",
    "two_layer",
    "vgg_bn",
]
