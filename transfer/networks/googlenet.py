"""GoogLeNet with and without batch normalization, for 224×224.

`models/googlenet.lua` and `googlenetbn.lua` of S. Chintala's imagenet-multiGPU.torch: the
architecture of Szegedy et al. (2014), arXiv:1409.4842, with two 3×3 convolutions instead of one
5×5 and strided convolutions instead of two pooling layers, as in Ioffe & Szegedy (2015),
arXiv:1502.03167. (`torchvision:googlenet` is that of the first paper.)

The networks have one output. Those of the Lua files have a second one, an auxiliary classifier
after module 4d, which is used during a training on ImageNet only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from ...converters.modules.layers.container import Concat


@dataclass(frozen=True)
class Inception:
    """An inception module: branches on the same input, concatenated along the channels.

    Attributes:
        one: Filters of the 1×1 branch; 0 for no such branch.
        three: Filters of a 1×1 convolution, and of a 3×3 convolution after it.
        double: Filters of a 1×1 convolution, and of each of two 3×3 convolutions after it.
        pooling: Kind of the 3×3 pooling with stride 1.
        projection: Filters of a 1×1 convolution after the pooling; 0 for none.
    """

    one: int
    three: tuple[int, int]
    double: tuple[int, int]
    pooling: Literal["avg", "max"]
    projection: int

    def outputs(self, inputs: int) -> int:
        """Return the number of output channels for a number of input channels."""
        return self.one + self.three[1] + self.double[1] + (self.projection or inputs)


#: Modules 3a-c, 4a-e and 5a-b; a convolution with stride 2 separates the stages.
STAGES: tuple[tuple[Inception, ...], ...] = (
    (
        Inception(64, (64, 64), (64, 96), "avg", 32),
        Inception(64, (64, 96), (64, 96), "avg", 64),
        Inception(0, (128, 160), (64, 96), "max", 0),
    ),
    (
        Inception(224, (64, 96), (96, 128), "avg", 128),
        Inception(192, (96, 128), (96, 128), "avg", 128),
        Inception(160, (128, 160), (128, 160), "avg", 96),
        Inception(96, (128, 192), (160, 192), "avg", 96),
        Inception(0, (128, 192), (192, 256), "max", 0),
    ),
    (
        Inception(352, (192, 320), (160, 224), "avg", 128),
        Inception(352, (192, 320), (192, 224), "max", 128),
    ),
)


def googlenet(channels: int = 3, classes: int = 1000) -> nn.Sequential:
    """Build GoogLeNet without batch normalization, for 224×224.

    Args:
        channels: Channels of an image.
        classes: Number of outputs.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     sum(parameter.numel() for parameter in googlenet().parameters())
        16708040
    """
    return _googlenet(channels, classes, batch_norm=False)


def googlenet_bn(channels: int = 3, classes: int = 1000) -> nn.Sequential:
    """Build GoogLeNet with batch normalization after every convolution, for 224×224.

    Args:
        channels: Channels of an image.
        classes: Number of outputs.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     sum(parameter.numel() for parameter in googlenet_bn().parameters())
        16731144
    """
    return _googlenet(channels, classes, batch_norm=True)


def _googlenet(channels: int, classes: int, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = [
        *_stem(nn.Conv2d(channels, 64, 7, 2, 3), batch_norm),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        *_stem(nn.Conv2d(64, 64, 1), batch_norm),
        *_stem(nn.Conv2d(64, 192, 3, padding=1), batch_norm),
        nn.MaxPool2d(3, 2, ceil_mode=True),
    ]
    planes = 192
    for number, stage in enumerate(STAGES):
        if number:
            # Without batch normalization, the Lua file has no ReLU here either.
            layers += [nn.Conv2d(planes, planes, 2, 2), *_norm(planes, batch_norm)]
        for module in stage:
            layers += [_inception(planes, module, batch_norm)]
            planes = module.outputs(planes)
    return nn.Sequential(*layers, nn.AvgPool2d(7, 1), nn.Flatten(), nn.Linear(planes, classes))


def _stem(convolution: nn.Conv2d, batch_norm: bool) -> list[nn.Module]:
    if batch_norm:
        return [convolution, *_norm(convolution.out_channels, batch_norm)]
    return [convolution, nn.ReLU()]


def _inception(inputs: int, module: Inception, batch_norm: bool) -> Concat:
    def branch(*layers: nn.Module) -> nn.Sequential:
        return nn.Sequential(*layers)

    def convolution(planes: int, filters: int, kernel: int) -> list[nn.Module]:
        # The Lua file has a ReLU before and after the batch normalization.
        layer = nn.Conv2d(planes, filters, kernel, padding=kernel // 2)
        return [layer, nn.ReLU(), *_norm(filters, batch_norm)]

    pooling = nn.AvgPool2d if module.pooling == "avg" else nn.MaxPool2d
    reduced, last = module.double
    branches = [branch(*convolution(inputs, module.one, 1))] if module.one else []
    branches += [
        branch(*convolution(inputs, module.three[0], 1), *convolution(*module.three, 3)),
        branch(
            *convolution(inputs, reduced, 1),
            *convolution(reduced, last, 3),
            *convolution(last, last, 3),
        ),
        branch(
            pooling(3, 1, 1),
            *(convolution(inputs, module.projection, 1) if module.projection else ()),
        ),
    ]
    return Concat(*branches, dim=1)


def _norm(planes: int, batch_norm: bool) -> list[nn.Module]:
    return [nn.BatchNorm2d(planes, eps=1e-3), nn.ReLU()] if batch_norm else []
