"""Networks of linear layers only: what a convolutional one has to beat."""

from __future__ import annotations

from torch import nn


def softmax(channels: int = 3, classes: int = 10) -> nn.Sequential:
    """The linear classifier of the lab "ConvNets using Torch", for 32×32.

    30,730 parameters for ten classes of colour images.

    Args:
        channels: colours of an image.
        classes: number of outputs.
    """
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * 32 * 32, classes))


def two_layer(channels: int = 3, classes: int = 10) -> nn.Sequential:
    """The two-layer network of the lab "ConvNets using Torch": 500 hidden units, for 32×32.

    Args:
        channels: colours of an image.
        classes: number of outputs.
    """
    return _hidden(channels * 32 * 32, 500, classes)


def logistic(channels: int = 1, classes: int = 10) -> nn.Sequential:
    """The logistic regression of the lab "visualising weights and features", for 28×28.

    Args:
        channels: colours of an image.
        classes: number of outputs.
    """
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * 28 * 28, classes))


def mlp30(channels: int = 1, classes: int = 10) -> nn.Sequential:
    """The multi-layer perceptron of the same lab: 30 hidden units, each seen as an image.

    Args:
        channels: colours of an image.
        classes: number of outputs.
    """
    return _hidden(channels * 28 * 28, 30, classes)


def _hidden(inputs: int, units: int, classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, units), nn.ReLU(), nn.Linear(units, classes)
    )
