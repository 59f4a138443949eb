"""Baking all of preprocessing: the graph takes the pixels of one image, whatever its size."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnx_ir

from ...images.image_scale import output_size, parse_size
from ...images.preprocessing import Preprocessing
from ..errors import OnnxError
from .bake_preprocessing import BAKED, image_input, normalize, replace_input
from .expressions import GraphWriter, Tensor
from .resize_planes import Axis, resize_planes

#: The name of the input that takes an image.
IMAGE = "image"

#: A length that is known, or a scalar of the graph.
Length = int | Tensor

#: Pillow's weights of red, green and blue in gray, times 2**16.
_GRAY = (19595, 38470, 7471)

#: Up to this length a factor must give the same size as in floating point.
_LONGEST_SIDE = 2**14


def image_preprocessing(preprocessing: Preprocessing) -> Preprocessing:
    """Return the preprocessing that stays outside a graph that takes images: decoding alone."""
    color = "gray" if preprocessing.channels == 1 else "RGB"
    return Preprocessing(color, resize="none", value_range=255)


def bake_resize(model: onnx_ir.Model, preprocessing: Preprocessing) -> None:
    """Put all of preprocessing in front of a graph, in place; its input becomes one image.

    The input `image` is uint8 (height, width, 3) in RGB, of any size. That of a gray network has 1
    or 3 channels. The outputs are those of this image, a batch of one.

    Args:
        model: A graph with one float32 input (N, C, H, W).
        preprocessing: That of the graph's input so far.

    Raises:
        OnnxError: If the graph has several inputs, or does not take images of these channels; or
            if the resizing has no graph that gives the same pixels.
    """
    graph = model.graph
    input = image_input(graph, preprocessing)
    is_gray = preprocessing.channels == 1
    image = onnx_ir.Value(
        name=IMAGE,
        shape=onnx_ir.Shape(["height", "width", "channels" if is_gray else 3]),
        type=onnx_ir.TensorType(onnx_ir.DataType.UINT8),
    )
    writer = GraphWriter(BAKED)
    pixels = Tensor(writer, image, np.uint8)
    height, width, channels = _lengths(pixels)
    planes = _gray(pixels, channels) if is_gray else pixels.apply("Transpose", perm=[2, 0, 1])
    resized = _resized(planes, height, width, preprocessing)
    assert input.shape is not None
    sizes = input.shape[1:] if preprocessing.crop is None else (input.shape[1], *preprocessing.crop)
    shape = [size for size in sizes if isinstance(size, int)]
    # A shape fails for an image that does not fit, instead of giving the answer for another size.
    batch = resized.reshape([1, *shape]) if len(shape) == 3 else resized.unsqueeze(0)
    replace_input(graph, image, normalize(writer.tape, batch.value, preprocessing), writer.tape)
    for output in graph.outputs:
        if output.shape is not None:
            output.shape = onnx_ir.Shape([1, *output.shape[1:]])


def _lengths(pixels: Tensor) -> list[Tensor]:
    """Return the height, width and number of channels of an image."""
    shape = pixels.apply("Shape", dtype=np.int64)
    return [shape.gather(np.array(index), axis=0) for index in range(3)]


def _gray(pixels: Tensor, channels: Tensor) -> Tensor:
    """Return the gray plane (1, H, W) of an image of 1 or 3 channels, as Pillow computes it."""
    # The first, the middle and the last channel: of one that is the same three times.
    places: list[Tensor | np.ndarray] = [
        np.array(0),
        (channels - 1).apply("Div", 2),
        channels - 1,
    ]
    parts = [
        pixels.gather(place, axis=2).number(np.float32) * weight
        for place, weight in zip(places, _GRAY, strict=True)
    ]
    total = parts[0] + parts[1] + parts[2] + 2**15
    return (total * 2**-16).apply("Floor").unsqueeze(0)


def _resized(planes: Tensor, height: Tensor, width: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return resized and cropped planes (C, h, w), float32."""
    new = _new_size(preprocessing, height, width)
    crop = preprocessing.crop or (None, None)
    rounds_down = preprocessing.resize.startswith("image.scale")
    axes = [
        Axis(old, length, _kept(planes.writer, length, part, rounds_down))
        for old, length, part in zip((height, width), new, crop, strict=True)
    ]
    method = "none" if preprocessing.size is None else preprocessing.resize
    resized = resize_planes(planes, axes[0], axes[1], method)
    if preprocessing.round_pixels and method.startswith("image.scale"):
        resized = resized.clip(0, 255).apply("Round")
    return resized


def _new_size(preprocessing: Preprocessing, height: Tensor, width: Tensor) -> tuple[Length, Length]:
    """Return the height and width after resizing, before cropping."""
    size = preprocessing.size
    if size is None:
        return height, width
    if isinstance(size, tuple):
        return size
    if isinstance(size, int):
        shorter = height.apply("Min", width)
        return height * size // shorter, width * size // shorter
    form = parse_size(size)
    if form.size is not None:
        return form.size
    multiplier = Fraction(form.multiplier)
    if isinstance(form.divisor, int):
        multiplier /= form.divisor
        _require_exact(size, multiplier)
        if multiplier.denominator == 1:
            return height * multiplier.numerator, width * multiplier.numerator
        divisor: Tensor | int = multiplier.denominator
    else:
        if multiplier.denominator != 1:
            raise OnnxError(f"size {size!r} cannot be baked: take a whole number of pixels")
        divisor = height.apply("Max" if form.divisor == "longer" else "Min", width)
    return height * multiplier.numerator // divisor, width * multiplier.numerator // divisor


def _require_exact(form: str, factor: Fraction) -> None:
    """Check that a factor gives the same sizes in whole numbers as in floating point.

    Raises:
        OnnxError: If it does not.
    """
    first = -(-factor.denominator // factor.numerator)
    for length in range(first, _LONGEST_SIDE):
        if output_size(form, length, length)[0] != int(length * factor):
            raise OnnxError(
                f"size {form!r} cannot be baked: image.scale rounds {length} times this factor in "
                "floating point; take a fraction such as *1/2"
            )


def _kept(
    writer: GraphWriter, length: Length, crop: int | None, rounds_down: bool
) -> Tensor | np.ndarray:
    """Return which pixels of a resized axis are kept (see `Preprocessing._margin`)."""
    if crop is None:
        return writer.range(length)
    margin = length - crop
    if not rounds_down:
        margin = margin + margin // 2 % 2 if isinstance(margin, int) else margin + _odd(margin)
    start = margin // 2
    if isinstance(start, int):
        return np.arange(start, start + crop)
    start = start.reshape([1])
    # An image that is too small leaves fewer pixels, which the network's shape then refuses.
    every = writer.range(length)
    assert isinstance(every, Tensor)
    return writer.op("Slice", every, start, start + crop, dtype=np.int64)


def _odd(margin: Tensor) -> Tensor:
    """Return 1 where half of a number is odd, else 0."""
    half = margin // 2
    return half - half // 2 * 2
