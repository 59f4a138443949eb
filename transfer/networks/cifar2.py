"""The networks of the lab "airplane or bird", for 32×32.

Chapter 8 of "Deep Learning with PyTorch" (Stevens, Antiga, Viehmann, 2020) changes one network in
one way at a time; the names are the book's: `NetWidth` is `net_width`, and `Net` `tanhnet`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from .residual import residual

#: How many residual blocks the book stacks.
_BLOCKS = 10


def tanhnet(channels: int = 3, classes: int = 2) -> nn.Sequential:
    """`Net`: 16 and 8 filters of 3×3, tanh, 32 units; 18,090 parameters.

    Args:
        channels: colours of an image.
        classes: number of outputs.
    """
    return _two_convolutions(channels, classes, width=16)


def net_width(channels: int = 3, classes: int = 2) -> nn.Sequential:
    """`NetWidth`: twice the filters, 32 and 16; 38,386 parameters.

    Args:
        channels: colours of an image.
        classes: number of outputs.
    """
    return _two_convolutions(channels, classes, width=32)


def net_dropout(channels: int = 3, classes: int = 2) -> nn.Sequential:
    """`NetDropout`: `net_width` that leaves out 0.4 of the feature maps after each pooling.

    Args:
        channels: colours of an image.
        classes: number of outputs.
    """
    return _two_convolutions(channels, classes, width=32, after_pooling=lambda: nn.Dropout2d(0.4))


def net_batch_norm(channels: int = 3, classes: int = 2) -> nn.Sequential:
    """`NetBatchNorm`: `net_width` with batch normalization before each tanh.

    Args:
        channels: colours of an image.
        classes: number of outputs.
    """
    return _two_convolutions(channels, classes, width=32, before_tanh=nn.BatchNorm2d)


def net_depth(channels: int = 3, classes: int = 2) -> nn.Sequential:
    """`NetDepth`: a third convolution, and ReLU: what `net_res` is compared with.

    Args:
        channels: colours of an image.
        classes: number of outputs.
    """
    return _three_convolutions(channels, classes, nn.Sequential(_convolution(16, 16), nn.ReLU()))


def net_res(channels: int = 3, classes: int = 2) -> nn.Sequential:
    """`NetRes`: `net_depth` with a skip connection around its third convolution.

    Args:
        channels: colours of an image.
        classes: number of outputs.
    """
    third = residual(_convolution(16, 16), nn.ReLU())
    return _three_convolutions(channels, classes, third)


def net_res_deep(channels: int = 3, classes: int = 2) -> nn.Sequential:
    """`NetResDeep` as it is meant: ten residual blocks, each with weights of its own.

    Args:
        channels: colours of an image.
        classes: number of outputs.
    """
    return _deep(channels, classes, [_block(32) for _ in range(_BLOCKS)])


def net_res_deep_shared(channels: int = 3, classes: int = 2) -> nn.Sequential:
    """`NetResDeep` as it is printed: one residual block, passed through ten times.

    The book multiplies a list of one block (`n_blocks * [ResBlock(…)]`), which repeats the block
    itself: ten layers share the weights of one.

    Args:
        channels: colours of an image.
        classes: number of outputs.
    """
    return _deep(channels, classes, _BLOCKS * [_block(32)])


def net_res_deep_projected(channels: int = 3, classes: int = 2) -> nn.Sequential:
    """`net_res_deep` that doubles its filters halfway, where a 1×1 convolution is the skip.

    The sixth block halves height and width and goes from 32 to 64 filters, so that its input does
    not fit its output: the projection of He et al. (2016, "option B").

    Args:
        channels: colours of an image.
        classes: number of outputs.
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
    """`ResBlock`: convolution, batch normalization and ReLU beside a skip, first weights too.

    Args:
        inputs: feature maps that come in.
        outputs: feature maps that go out, if their number changes: then the skip projects.
        stride: of the convolution, and of the projection.
    """
    planes = outputs or inputs
    convolution = nn.Conv2d(inputs, planes, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    norm = nn.BatchNorm2d(planes)
    nn.init.constant_(norm.weight, 0.5)
    skip = nn.Conv2d(inputs, planes, 1, stride, bias=False) if outputs else None
    return residual(convolution, norm, nn.ReLU(), skip=skip)
