"""LeNets: convolutions, pooling, and two or three linear layers.

The layers stand in the order of the labs, whose last LogSoftMax belongs to the loss here. torch.nn
draws the first weights as Torch7 does: uniform within 1/√(inputs of a unit).
"""

from __future__ import annotations

from torch import nn


def lenet5(channels: int = 3, classes: int = 10) -> nn.Sequential:
    """LeNet-5 as "Deep Learning with Torch: a 60-minute blitz" (S. Chintala, 2015) builds it.

    Max pooling and ReLU in place of LeCun's (1998) subsampling and tanh; 62,006 parameters for
    ten classes of colour images of 32×32.

    Args:
        channels: colours of an image.
        classes: number of outputs.
    """
    return _five_layers(channels, classes, filters=(6, 16))


def convnet(channels: int = 3, classes: int = 10) -> nn.Sequential:
    """The ConvNet of the lab "ConvNets using Torch": 8 and 16 filters of 5×5, 120 and 84 units.

    62,958 parameters for ten classes of colour images of 32×32.

    Args:
        channels: colours of an image.
        classes: number of outputs.
    """
    return _five_layers(channels, classes, filters=(8, 16))


def convnet_bn(channels: int = 3, classes: int = 10) -> nn.Sequential:
    """`convnet` with batch normalization after each convolution; eps is the lab's, 1e-3.

    Args:
        channels: colours of an image.
        classes: number of outputs.
    """
    return _five_layers(channels, classes, filters=(8, 16), batch_norm=True)


def lenet(channels: int = 1, classes: int = 10) -> nn.Sequential:
    """The LeNet of the CNN lab in PyTorch: 20 and 50 filters of 5×5, 500 units, for 28×28.

    It is Caffe's LeNet for MNIST (Jia et al., 2014), with a ReLU after each convolution.

    Args:
        channels: colours of an image.
        classes: number of outputs.
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
    """The network of the lab "visualising weights and features": 4 and 8 filters, for 28×28.

    So few that all their feature maps fit into one image.

    Args:
        channels: colours of an image.
        classes: number of outputs.
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
    """Two convolutions of 5×5 and three linear layers, for 32×32."""
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
