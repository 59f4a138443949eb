"""How large the output of a convolution or a pooling is, as a number and written out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import nn

#: What the axes after the channels are called, by their number.
_AXES = {1: ("L",), 2: ("H", "W"), 3: ("T", "H", "W")}


def window_count(
    size: int,
    kernel: int,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
) -> int:
    """How many windows of a convolution or pooling fit along one axis: the output's size.

    (H + 2p − d(k−1) − 1)/s + 1, rounded down; or up with `ceil_mode`, where a last window that
    would start past the input and its left padding is left out (`torch.nn.MaxPool2d`).

    Args:
        size: the input's size along the axis.
        kernel: elements of a window.
        stride: from window to window.
        padding: on either side.
        dilation: from one element of a window to the next.
        ceil_mode: count a window that stands over the edge.
    """
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    count = (-(-room // stride) if ceil_mode else room // stride) + 1
    past = ceil_mode and (count - 1) * stride >= size + padding
    return count - past


def transposed_size(
    size: int,
    kernel: int,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    output_padding: int = 0,
) -> int:
    """The output's size along one axis of a transposed convolution.

    (H − 1)s − 2p + d(k−1) + o + 1 (`torch.nn.ConvTranspose2d`).

    Args:
        size: the input's size along the axis.
        kernel: elements of a window.
        stride: from window to window.
        padding: left out on either side.
        dilation: from one element of a window to the next.
        output_padding: added on one side.
    """
    return (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1


def formula(layer: nn.Module, input: Sequence[int], output: Sequence[int]) -> str | None:
    """How a layer's output gets its size, with the numbers put in.

    Args:
        layer: any layer; convolutions and poolings are known by their attributes.
        input: shape of one example, (C, H, W).
        output: shape of what the layer makes of it.

    Returns:
        such as `⌊(224 + 2·2 − 1·(11 − 1) − 1)/4⌋ + 1 = 55`; a product for a layer that only
        flattens; None where there is nothing to work out.
    """
    if len(output) == 1 < len(input) and math.prod(input) == output[0]:
        return f"{' × '.join(map(str, input))} = {output[0]}"
    if not hasattr(layer, "kernel_size") or not 1 < len(input) == len(output) <= 4:
        return None
    lines = [_axis(layer, axis, input[1:]) for axis in range(len(input) - 1)]
    texts, sizes = [text for text, _ in lines], [size for _, size in lines]
    if sizes != list(output[1:]):  # another rule than those above
        return None
    if len(set(texts)) == 1:
        return texts[0]
    named = zip(_AXES[len(texts)], texts, strict=True)
    return "; ".join(f"{name}: {text}" for name, text in named)


def _axis(layer: Any, axis: int, sizes: Sequence[int]) -> tuple[str, int]:
    """The formula along one axis, and what it gives."""

    def setting(name: str, default: int = 0) -> Any:
        value = getattr(layer, name, default)
        return value[axis] if isinstance(value, (list, tuple)) else value

    size, kernel, stride = sizes[axis], setting("kernel_size"), setting("stride")
    padding, dilation = setting("padding"), setting("dilation", 1)
    if padding == "same":
        return f"{size}, padded to stay the same", size
    padding = 0 if padding == "valid" else padding
    reach = f"{dilation}·({kernel} − 1)"
    if getattr(layer, "transposed", False):
        extra = setting("output_padding")
        result = transposed_size(size, kernel, stride, padding, dilation, extra)
        return f"({size} − 1)·{stride} − 2·{padding} + {reach} + {extra} + 1 = {result}", result
    ceil_mode = setting("ceil_mode", False)
    result = window_count(size, kernel, stride, padding, dilation, ceil_mode)
    quotient = f"({size} + 2·{padding} − {reach} − 1)/{stride}"
    if not ceil_mode:
        return f"⌊{quotient}⌋ + 1 = {result}", result
    floor = window_count(size, kernel, stride, padding, dilation)
    exact = (size + 2 * padding - dilation * (kernel - 1) - 1) % stride == 0
    # The last window would start past the edge.
    left_out = " − 1" if not exact and result == floor else ""
    return f"⌈{quotient}⌉ + 1{left_out} = {result}", result
