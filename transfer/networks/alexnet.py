"""AlexNet with batch normalization, the network of the transfer learning lab, for 224×224."""

from __future__ import annotations

from torch import nn

#: Filters, kernel size, stride, padding, and whether pooling follows.
_CONVOLUTIONS = (
    (64, 11, 4, 2, True),
    (192, 5, 1, 2, True),
    (384, 3, 1, 1, False),
    (256, 3, 1, 1, False),
    (256, 3, 1, 1, True),
)


def alexnet_owt_bn(channels: int = 3, classes: int = 1000) -> nn.Sequential:
    """Build the AlexNet of "One weird trick" with batch normalization, for 224×224.

    Krizhevsky (2014), arXiv:1404.5997; `models/alexnetowtbn_cudnn.lua` of S. Chintala's
    imagenet-multiGPU.torch. As in that file, the network is a sequence of two, features and
    classifier, so that `get(2):get(9)` is its last ReLU.

    Args:
        channels: Channels of an image.
        classes: Number of outputs.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     sum(parameter.numel() for parameter in alexnet_owt_bn().parameters())
        61119528
    """
    features: list[nn.Module] = []
    planes = channels
    for filters, kernel, stride, padding, pooled in _CONVOLUTIONS:
        features += [
            nn.Conv2d(planes, filters, kernel, stride, padding),
            nn.BatchNorm2d(filters, eps=1e-3),
            nn.ReLU(),
        ]
        features += [nn.MaxPool2d(3, 2)] if pooled else []
        planes = filters
    classifier: list[nn.Module] = [nn.Flatten()]
    for inputs, units in ((planes * 6 * 6, 4096), (4096, 4096)):
        classifier += [
            nn.Dropout(0.5),
            nn.Linear(inputs, units),
            nn.BatchNorm1d(units, eps=1e-3),
            nn.ReLU(),
        ]
    classifier += [nn.Linear(4096, classes)]
    return nn.Sequential(nn.Sequential(*features), nn.Sequential(*classifier))
