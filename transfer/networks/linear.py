"""Networks of linear layers only: baselines for convolutional networks."""

from __future__ import annotations

from torch import nn


def softmax(channels: int = 3, classes: int = 10) -> nn.Sequential:
    """Build the linear classifier of the lab "ConvNets using Torch", for 32×32.

    Args:
        channels: Channels of an image.
        classes: Number of outputs.

    Example:
        >>> sum(parameter.numel() for parameter in softmax().parameters())
        30730
    """
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * 32 * 32, classes))


def two_layer(channels: int = 3, classes: int = 10) -> nn.Sequential:
    """Build the two-layer network of the lab "ConvNets using Torch", for 32×32: 500 hidden units.

    Args:
        channels: Channels of an image.
        classes: Number of outputs.

    Example:
        >>> sum(parameter.numel() for parameter in two_layer().parameters())
        1541510
    """
    return _hidden(channels * 32 * 32, 500, classes)


def logistic(channels: int = 1, classes: int = 10) -> nn.Sequential:
    """Build the logistic regression of the lab "visualising weights and features", for 28×28.

    Args:
        channels: Channels of an image.
        classes: Number of outputs.

    Example:
        >>> sum(parameter.numel() for parameter in logistic().parameters())
        7850
    """
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * 28 * 28, classes))


def mlp30(channels: int = 1, classes: int = 10) -> nn.Sequential:
    """Build the multi-layer perceptron of the lab "visualising weights and features", for 28×28.

    It has 30 hidden units: few enough to look at the weights of each as an image.

    Args:
        channels: Channels of an image.
        classes: Number of outputs.

    Example:
        >>> sum(parameter.numel() for parameter in mlp30().parameters())
        23860
    """
    return _hidden(channels * 28 * 28, 30, classes)


def _hidden(inputs: int, units: int, classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, units), nn.ReLU(), nn.Linear(units, classes)
    )
