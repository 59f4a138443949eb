"""LeNets: convolutions, pooling, and two or three linear layers.

The layers have the order of the labs, without their LogSoftMax, which is part of the loss here.
torch.nn initializes weights like Torch7: uniformly within ±1/√(inputs of a unit).
"""

from __future__ import annotations

from torch import nn


def lenet5(channels: int = 3, classes: int = 10) -> nn.Sequential:
    """Build the LeNet-5 of "Deep Learning with Torch: a 60-minute blitz" (S. Chintala, 2015).

    For 32×32, with max pooling and ReLU in place of the subsampling and tanh of LeCun et al.
    (1998).

    Args:
        channels: Channels of an image.
        classes: Number of outputs.

    Example:
        >>> sum(parameter.numel() for parameter in lenet5().parameters())
        62006
    """
    return _five_layers(channels, classes, filters=(6, 16))


def convnet(channels: int = 3, classes: int = 10) -> nn.Sequential:
    """Build the ConvNet of the lab "ConvNets using Torch", for 32×32.

    It has 8 and 16 filters of 5×5, and 120 and 84 units.

    Args:
        channels: Channels of an image.
        classes: Number of outputs.

    Example:
        >>> sum(parameter.numel() for parameter in convnet().parameters())
        62958
    """
    return _five_layers(channels, classes, filters=(8, 16))


def convnet_bn(channels: int = 3, classes: int = 10) -> nn.Sequential:
    """Build `convnet` with batch normalization after each convolution, with the lab's eps of 1e-3.

    Args:
        channels: Channels of an image.
        classes: Number of outputs.

    Example:
        >>> sum(parameter.numel() for parameter in convnet_bn().parameters())
        63006
    """
    return _five_layers(channels, classes, filters=(8, 16), batch_norm=True)


def lenet(channels: int = 1, classes: int = 10) -> nn.Sequential:
    """Build the LeNet of the CNN lab in PyTorch, for 28×28: 20 and 50 filters of 5×5, 500 units.

    It is Caffe's LeNet for MNIST (Jia et al., 2014), with a ReLU after each convolution.

    Args:
        channels: Channels of an image.
        classes: Number of outputs.

    Example:
        >>> sum(parameter.numel() for parameter in lenet().parameters())
        431080
    """
    return nn.Sequential(
        nn.Conv2d(channels, 20, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(50 * 4 * 4, 500),
        nn.ReLU(),
        nn.Linear(500, classes),
    )


def small_cnn(channels: int = 1, classes: int = 10) -> nn.Sequential:
    """Build the network of the lab "visualising weights and features", for 28×28.

    It has 4 and 8 filters of 3×3: so few that one figure shows all of its feature maps.

    Args:
        channels: Channels of an image.
        classes: Number of outputs.

    Example:
        >>> sum(parameter.numel() for parameter in small_cnn().parameters())
        4266
    """
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 7 * 7, classes),
    )


def _five_layers(
    channels: int, classes: int, filters: tuple[int, int], batch_norm: bool = False
) -> nn.Sequential:
    """Build two convolutions of 5×5 and three linear layers, for 32×32."""
    layers: list[nn.Module] = []
    for planes, outputs in ((channels, filters[0]), filters):
        layers += [nn.Conv2d(planes, outputs, 5)]
        layers += [nn.BatchNorm2d(outputs, eps=1e-3)] if batch_norm else []
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(filters[1] * 5 * 5, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, classes),
    )
