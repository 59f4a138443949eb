"""VGG with batch normalization between its linear layers, for 224×224."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

#: The filters and the kernel size of a convolution.
Convolution = tuple[int, int]


def _three(*filters: int) -> list[Convolution]:
    return [(count, 3) for count in filters]


#: Table 1 of the paper: the convolutions before each pooling layer.
CONFIGURATIONS: dict[str, list[list[Convolution]]] = {
    "A": [_three(64), _three(128), *(_three(n, n) for n in (256, 512, 512))],
    "B": [_three(n, n) for n in (64, 128, 256, 512, 512)],
    "C": [
        *(_three(n, n) for n in (64, 128)),
        *([*_three(n, n), (n, 1)] for n in (256, 512, 512)),
    ],
    "D": [*(_three(n, n) for n in (64, 128)), *(_three(n, n, n) for n in (256, 512, 512))],
    "E": [*(_three(n, n) for n in (64, 128)), *(_three(n, n, n, n) for n in (256, 512, 512))],
}


def vgg_bn(configuration: str, channels: int = 3, classes: int = 1000) -> nn.Sequential:
    """Build a VGG (Simonyan & Zisserman, 2014, arXiv:1409.1556) as in Torch7's ImageNet models.

    `models/vggbn.lua` of S. Chintala's imagenet-multiGPU.torch, for 224×224: batch normalization
    follows the two hidden linear layers only, and their threshold returns 1e-6 where ReLU returns
    0. That file has A, B, D and E; C, with 1×1 convolutions, is the paper's.

    Args:
        configuration: A to E, with 11 to 19 layers with weights.
        channels: Channels of an image.
        classes: Number of outputs.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     sum(parameter.numel() for parameter in vgg_bn("A").parameters())
        132879720
    """
    features = _features(channels, CONFIGURATIONS[configuration])
    classifier: list[nn.Module] = [nn.Flatten()]
    for inputs in (512 * 7 * 7, 4096):
        classifier += [
            nn.Linear(inputs, 4096),
            nn.Threshold(0, 1e-6),
            nn.BatchNorm1d(4096, eps=1e-3),
            nn.Dropout(0.5),
        ]
    classifier += [nn.Linear(4096, classes)]
    return nn.Sequential(features, nn.Sequential(*classifier))


def _features(channels: int, blocks: Sequence[Sequence[Convolution]]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for block in blocks:
        for filters, kernel in block:
            layers += [nn.Conv2d(channels, filters, kernel, padding=kernel // 2), nn.ReLU()]
            channels = filters
        layers += [nn.MaxPool2d(2)]
    return nn.Sequential(*layers)
