"""The size of the output of a convolution or a pooling layer, as a number and as a formula."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import nn

#: The names of the axes after the channels, by the number of axes.
_AXES = {1: ("L",), 2: ("H", "W"), 3: ("T", "H", "W")}


def window_count(
    size: int,
    kernel: int,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
) -> int:
    """Return the output size of a convolution or a pooling layer along one axis.

    (H + 2p − d(k−1) − 1)/s + 1, rounded down; or up with `ceil_mode`, without a last window that
    would start past the input and its left padding (`torch.nn.MaxPool2d`).

    Args:
        size: Size of the input along the axis.
        kernel: Kernel size.
        stride: Distance between windows.
        padding: Padding on each side.
        dilation: Distance between the elements of a window.
        ceil_mode: Include a last window that extends past the edge.

    Example:
        >>> window_count(224, kernel=11, stride=4, padding=2)
        55
    """
    last_start = size + 2 * padding - dilation * (kernel - 1) - 1
    count = (-(-last_start // stride) if ceil_mode else last_start // stride) + 1
    starts_past_input = ceil_mode and (count - 1) * stride >= size + padding
    return count - starts_past_input


def transposed_size(
    size: int,
    kernel: int,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    output_padding: int = 0,
) -> int:
    """Return the output size of a transposed convolution along one axis.

    (H − 1)s − 2p + d(k−1) + o + 1 (`torch.nn.ConvTranspose2d`).

    Args:
        size: Size of the input along the axis.
        kernel: Kernel size.
        stride: Distance between windows.
        padding: Elements that are removed on each side.
        dilation: Distance between the elements of a window.
        output_padding: Elements that are added on one side.

    Example:
        >>> transposed_size(7, kernel=4, stride=2, padding=1)
        14
    """
    return (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1


def formula(layer: nn.Module, input: Sequence[int], output: Sequence[int]) -> str | None:
    """Return the calculation of the size of a layer's output.

    Args:
        layer: Any layer; convolutions and pooling layers are recognized by their attributes.
        input: Shape of one input, such as (C, H, W).
        output: Shape of the layer's output for it.

    Returns:
        Such as `⌊(224 + 2·2 − 1·(11 − 1) − 1)/4⌋ + 1 = 55`; a product for a layer that flattens
        its input; None if there is nothing to calculate.

    Example:
        >>> formula(nn.Conv2d(3, 64, 11, stride=4, padding=2), (3, 224, 224), (64, 55, 55))
        '⌊(224 + 2·2 − 1·(11 − 1) − 1)/4⌋ + 1 = 55'
    """
    if len(output) == 1 < len(input) and math.prod(input) == output[0]:
        return f"{' × '.join(map(str, input))} = {output[0]}"
    if not hasattr(layer, "kernel_size") or not 1 < len(input) == len(output) <= 4:
        return None
    lines = [_axis(layer, axis, input[1:]) for axis in range(len(input) - 1)]
    texts, sizes = [text for text, _ in lines], [size for _, size in lines]
    if sizes != list(output[1:]):  # the layer follows another rule, such as unpooling
        return None
    if len(set(texts)) == 1:
        return texts[0]
    named = zip(_AXES[len(texts)], texts, strict=True)
    return "; ".join(f"{name}: {text}" for name, text in named)


def _axis(layer: Any, axis: int, sizes: Sequence[int]) -> tuple[str, int]:
    """Return the calculation along one axis, and its result."""

    def setting(name: str, default: int = 0) -> Any:
        value = getattr(layer, name, default)
        return value[axis] if isinstance(value, (list, tuple)) else value

    size, kernel, stride = sizes[axis], setting("kernel_size"), setting("stride")
    padding, dilation = setting("padding"), setting("dilation", 1)
    if padding == "same":
        return f"{size} (padding='same')", size
    padding = 0 if padding == "valid" else padding
    extent = f"{dilation}·({kernel} − 1)"
    if getattr(layer, "transposed", False):
        output_padding = setting("output_padding")
        result = transposed_size(size, kernel, stride, padding, dilation, output_padding)
        terms = f"({size} − 1)·{stride} − 2·{padding} + {extent} + {output_padding} + 1"
        return f"{terms} = {result}", result
    ceil_mode = setting("ceil_mode", False)
    result = window_count(size, kernel, stride, padding, dilation, ceil_mode)
    quotient = f"({size} + 2·{padding} − {extent} − 1)/{stride}"
    if not ceil_mode:
        return f"⌊{quotient}⌋ + 1 = {result}", result
    floor = window_count(size, kernel, stride, padding, dilation)
    exact = (size + 2 * padding - dilation * (kernel - 1) - 1) % stride == 0
    # The last window is left out if it would start past the edge.
    correction = " − 1" if not exact and result == floor else ""
    return f"⌈{quotient}⌉ + 1{correction} = {result}", result
