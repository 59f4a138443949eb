"""The networks of the lab "airplane or bird", for 32×32.

Chapter 8 of "Deep Learning with PyTorch" (Stevens, Antiga, Viehmann, 2020) changes one network in
one way at a time. The names are those of the book: `NetWidth` is `net_width`, and `Net` is
`tanhnet`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from ...converters.modules.layers.container import ConcatTable
from ...converters.modules.layers.table_arithmetic import CAddTable

#: The number of residual blocks in the book.
_BLOCKS = 10


def tanhnet(channels: int = 3, classes: int = 2) -> nn.Sequential:
    """Build `Net`: 16 and 8 filters of 3×3, tanh, and 32 units.

    Args:
        channels: Channels of an image.
        classes: Number of outputs.

    Example:
        >>> sum(parameter.numel() for parameter in tanhnet().parameters())
        18090
    """
    return _two_convolutions(channels, classes, width=16)


def net_width(channels: int = 3, classes: int = 2) -> nn.Sequential:
    """Build `NetWidth`: `tanhnet` with twice the filters, 32 and 16.

    Args:
        channels: Channels of an image.
        classes: Number of outputs.

    Example:
        >>> sum(parameter.numel() for parameter in net_width().parameters())
        38386
    """
    return _two_convolutions(channels, classes, width=32)


def net_dropout(channels: int = 3, classes: int = 2) -> nn.Sequential:
    """Build `NetDropout`: `net_width` with 40% dropout of feature maps after each pooling.

    Args:
        channels: Channels of an image.
        classes: Number of outputs.

    Example:
        >>> sum(parameter.numel() for parameter in net_dropout().parameters())
        38386
    """
    return _two_convolutions(channels, classes, width=32, after_pooling=lambda: nn.Dropout2d(0.4))


def net_batch_norm(channels: int = 3, classes: int = 2) -> nn.Sequential:
    """Build `NetBatchNorm`: `net_width` with batch normalization before each tanh.

    Args:
        channels: Channels of an image.
        classes: Number of outputs.

    Example:
        >>> sum(parameter.numel() for parameter in net_batch_norm().parameters())
        38482
    """
    return _two_convolutions(channels, classes, width=32, before_tanh=nn.BatchNorm2d)


def net_depth(channels: int = 3, classes: int = 2) -> nn.Sequential:
    """Build `NetDepth`, the baseline of `net_res`: a third convolution, and ReLU.

    Args:
        channels: Channels of an image.
        classes: Number of outputs.

    Example:
        >>> sum(parameter.numel() for parameter in net_depth().parameters())
        16130
    """
    return _three_convolutions(channels, classes, nn.Sequential(_convolution(16, 16), nn.ReLU()))


def net_res(channels: int = 3, classes: int = 2) -> nn.Sequential:
    """Build `NetRes`: `net_depth` with a skip connection around its third convolution.

    Args:
        channels: Channels of an image.
        classes: Number of outputs.

    Example:
        >>> sum(parameter.numel() for parameter in net_res().parameters())
        16130
    """
    third = _residual(_convolution(16, 16), nn.ReLU())
    return _three_convolutions(channels, classes, third)


def net_res_deep(channels: int = 3, classes: int = 2) -> nn.Sequential:
    """Build `NetResDeep` as the book describes it: ten residual blocks with their own weights.

    Args:
        channels: Channels of an image.
        classes: Number of outputs.

    Example:
        >>> sum(parameter.numel() for parameter in net_res_deep().parameters())
        159330
    """
    return _deep(channels, classes, [_block(32) for _ in range(_BLOCKS)])


def net_res_deep_shared(channels: int = 3, classes: int = 2) -> nn.Sequential:
    """Build `NetResDeep` as the book's code builds it: one residual block that runs ten times.

    The code multiplies a list of one block (`n_blocks * [ResBlock(…)]`), which repeats the block
    itself: ten layers share their weights.

    Args:
        channels: Channels of an image.
        classes: Number of outputs.

    Example:
        >>> sum(parameter.numel() for parameter in net_res_deep_shared().parameters())
        75810
    """
    return _deep(channels, classes, _BLOCKS * [_block(32)])


def net_res_deep_projected(channels: int = 3, classes: int = 2) -> nn.Sequential:
    """Build `net_res_deep` with 32 filters in the first half and 64 in the second.

    The sixth block halves height and width and doubles the filters. Its skip connection is a 1×1
    convolution with stride 2, the projection of He et al. (2016, "option B").

    Args:
        channels: Channels of an image.
        classes: Number of outputs.

    Example:
        >>> sum(parameter.numel() for parameter in net_res_deep_projected().parameters())
        347042
    """
    before, after = _BLOCKS // 2, _BLOCKS - _BLOCKS // 2 - 1
    blocks = [_block(32) for _ in range(before)]
    blocks += [_block(32, 64, stride=2)]
    blocks += [_block(64) for _ in range(after)]
    return nn.Sequential(
        _convolution(channels, 32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Sequential(*blocks),
        *_classifier(64 * 8 * 8, classes, nn.ReLU),
    )


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _classifier(features: int, classes: int, activation: Callable[[], nn.Module]) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(features, 32), activation(), nn.Linear(32, classes)
    )


def _two_convolutions(
    channels: int,
    classes: int,
    width: int,
    before_tanh: Callable[[int], nn.Module] | None = None,
    after_pooling: Callable[[], nn.Module] | None = None,
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in ((channels, width), (width, width // 2)):
        layers += [_convolution(inputs, outputs)]
        layers += [before_tanh(outputs)] if before_tanh else []
        layers += [nn.Tanh(), nn.MaxPool2d(2)]
        layers += [after_pooling()] if after_pooling else []
    return nn.Sequential(*layers, *_classifier(width // 2 * 8 * 8, classes, nn.Tanh))


def _three_convolutions(channels: int, classes: int, third: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        _convolution(channels, 32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        _convolution(32, 16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        third,
        nn.MaxPool2d(2),
        *_classifier(16 * 4 * 4, classes, nn.ReLU),
    )


def _deep(channels: int, classes: int, blocks: list[nn.Sequential]) -> nn.Sequential:
    return nn.Sequential(
        _convolution(channels, 32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Sequential(*blocks),
        nn.MaxPool2d(2),
        *_classifier(32 * 8 * 8, classes, nn.ReLU),
    )


def _block(inputs: int, outputs: int | None = None, stride: int = 1) -> nn.Sequential:
    """Build the book's `ResBlock`, initial weights included.

    It has a convolution, batch normalization and ReLU, and a skip connection.

    Args:
        inputs: Feature maps of the input.
        outputs: Feature maps of the output; None if there are as many. Otherwise the skip
            connection is a projection.
        stride: Stride of the convolution and of the projection.
    """
    planes = outputs or inputs
    convolution = nn.Conv2d(inputs, planes, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    norm = nn.BatchNorm2d(planes)
    nn.init.constant_(norm.weight, 0.5)
    skip = nn.Conv2d(inputs, planes, 1, stride, bias=False) if outputs else None
    return _residual(convolution, norm, nn.ReLU(), skip=skip)


def _residual(*layers: nn.Module, skip: nn.Module | None = None) -> nn.Sequential:
    """Build a residual block as Torch7 does, so that a saved model can hold it.

    Args:
        layers: The layers of the block, in order.
        skip: The projection of the skip connection; None for the identity.
    """
    branches = ConcatTable(nn.Sequential(*layers), skip or nn.Identity())
    return nn.Sequential(branches, CAddTable())
