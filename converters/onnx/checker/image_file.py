"""Checking a file that takes images of any size: its preprocessing, apart from its network.

Behind its preprocessing such a file is an ordinary exported file, and is checked as one. The
preprocessing must give the pixels of the model's own for images of many sizes, and the whole file
the outputs of its network for them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ...errors import TorchliftError, first_line
from ...images.errors import PreprocessingError
from ...images.preprocessing import Preprocessing
from ...inference.errors import InferenceError, ModelInputError
from ...inference.prepare import prepare
from ...inference.providers import open_session
from ...inference.torch_module import as_inputs, run
from ...input_shapes import BATCH_AXIS
from ..errors import OnnxError
from ..exporter.bake_preprocessing import BAKED, NORMALIZED, byte_step
from ..exporter.bake_resize import IMAGE, image_preprocessing
from .check_inputs import count_examples, take_examples
from .pair import ExportPair
from .report import Finding
from .rounding import allowed_rounding

#: The smallest fraction of the pixels that must be the model's.
MIN_EQUAL = 0.999
#: By how much a pixel may be off, of 255: for an image made smaller, and for one made larger.
MAX_OFF = (1, 2)
#: Less than this is no difference: float32 normalizes in another order.
_NO_DIFFERENCE = 0.02
#: The largest difference of the outputs with the preprocessing and without, of the largest one.
_OUTPUTS = 1e-3
#: How many of the given images are taken.
_COUNT = 16
#: Heights and widths of the images that are made when none are given.
_SIZES = ((1, 1), (5, 9), (33, 47), (101, 64), (240, 321), (500, 333), (97, 700), (768, 1023))
#: The part of a given image that is cut out, to have further sizes.
_PARTS = ((1.0, 1.0), (0.71, 0.93), (0.87, 0.39), (0.3, 0.6))


@contextmanager
def network_of(pair: ExportPair) -> Iterator[ExportPair]:
    """Yield the pair itself, or that of the network behind the preprocessing of its file."""
    if not pair.takes_image:
        yield pair
        return
    with tempfile.TemporaryDirectory() as folder:
        network, path = _without_preprocessing(pair.onnx_model), Path(folder) / "network.onnx"
        onnx.save(network, path, save_as_external_data=True, location="network.data")
        metadata = replace(
            pair.metadata,
            preprocessing=pair.metadata.baked_preprocessing,
            baked_preprocessing=None,
        )
        loaded = onnx.load(path)
        yield replace(pair, path=path, onnx_model=loaded, metadata=metadata)


def _without_preprocessing(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph that takes what the preprocessing of another one gives.

    Raises:
        OnnxError: If the graph has no preprocessing of ours.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    baked = [node for node in graph.node if node.name.startswith(BAKED)]
    if not any(NORMALIZED in node.output for node in baked):
        raise OnnxError(f"the graph takes an image, but has no {NORMALIZED} inside")
    for node in baked:
        graph.node.remove(node)
    for tensor in [tensor for tensor in graph.initializer if tensor.name.startswith(BAKED)]:
        graph.initializer.remove(tensor)
    known = [value for value in graph.value_info if value.name == NORMALIZED]
    if not known:
        raise OnnxError(f"the graph does not say what shape {NORMALIZED} has")
    del graph.input[:]
    graph.input.append(known[0])
    graph.input[0].name = "input"
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == NORMALIZED:
                node.input[index] = "input"
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].Clear()
        value.type.tensor_type.shape.dim[0].dim_param = BATCH_AXIS
    return result


def check_images(pair: ExportPair, network: ExportPair, inputs: Any, provider: str) -> Finding:
    """Compare the pixels that a file computes of images with those of the model's preprocessing.

    Args:
        pair: The model and the file.
        network: The same, without the file's preprocessing.
        inputs: As for `check`; images are made where none are given.
        provider: As for `check`.
    """
    preprocessing = pair.model.preprocessing or pair.metadata.baked_preprocessing
    if preprocessing is None:
        return Finding("images", False, "the model has no preprocessing to compare with")
    images = odd_images(inputs, preprocessing.channels)
    try:
        return _compare(pair, network, preprocessing, images, provider)
    except TorchliftError as error:
        return Finding("images", False, first_line(error))


def _compare(
    pair: ExportPair,
    network: ExportPair,
    preprocessing: Preprocessing,
    images: Sequence[np.ndarray],
    provider: str,
) -> Finding:
    step = byte_step(preprocessing)
    equal, total, sizes, farthest = 0, 0, list[tuple[int, int]](), (0.0, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(_with_pixels(pair.onnx_model, Path(folder)), provider)
        behind = open_session(network.path, provider)
        for image in images:
            try:
                expected = preprocessing(image)
            except PreprocessingError:
                continue  # Too small for the crop, for one.
            pixels = np.asarray(prepare([image], image_preprocessing(preprocessing)), np.uint8)[0]
            try:
                *outputs, actual = session.run({IMAGE: pixels.transpose(1, 2, 0)})
                of_network = behind.run({"input": actual})
            except InferenceError:
                if network_takes(network, expected):
                    raise
                continue  # Too small for the network itself.
            if actual.shape != expected.shape:
                return Finding(
                    "images",
                    False,
                    f"an image of {image.shape[0]}×{image.shape[1]} becomes {actual.shape}, "
                    f"{expected.shape} was expected",
                )
            off = _apart(actual, expected) / step
            allowed = MAX_OFF[_is_enlarged(image, preprocessing)]
            farthest = max(farthest, (float(off.max()) / allowed, float(off.max())))
            equal, total = equal + int((off < _NO_DIFFERENCE).sum()), total + off.size
            sizes.append((image.shape[0], image.shape[1]))
            for number, (mine, other) in enumerate(zip(outputs, of_network, strict=True)):
                limit = _OUTPUTS * np.abs(other[np.isfinite(other)]).max(initial=0)
                off = _apart(mine, other)
                if off.max(initial=0) > limit and off.max() > _rounding(network, actual, number):
                    return Finding("images", False, "the outputs are not those of the network")
    if not total:
        return Finding("images", False, "the preprocessing takes none of the images")
    smallest, largest = (f"{height}×{width}" for height, width in (min(sizes), max(sizes)))
    text = (
        f"{equal / total:.4%} of the pixels of {len(sizes)} images, {smallest} to {largest}, are "
        f"those of the model's preprocessing; the others are off by at most {farthest[1]:.3g} of "
        "255"
    )
    passed = equal >= MIN_EQUAL * total and farthest[0] <= 1 + _NO_DIFFERENCE
    return Finding("images", passed, text)


def _apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return how far numbers are apart: infinitely where one of two is NaN or infinite alone."""
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        apart = np.abs(one.astype(np.float64) - other)
    result: np.ndarray = np.where(same, 0, np.nan_to_num(apart, nan=np.inf, posinf=np.inf))
    return result


def network_takes(network: ExportPair, inputs: np.ndarray) -> bool:
    """Return whether the model runs an example (1, C, H, W) at all."""
    try:
        run(network.module, as_inputs(network.module, inputs))
    except ModelInputError:
        return False
    return True


def _rounding(network: ExportPair, inputs: np.ndarray, number: int) -> float:
    """Return the largest error of an output that rounding explains, 0 where it is not known."""
    precision = "fp16" if network.metadata.precision == "fp16" else "fp32-cpu"
    allowed = allowed_rounding(network.module, inputs, precision)
    return allowed[number] if allowed else 0.0


def _is_enlarged(image: np.ndarray, preprocessing: Preprocessing) -> bool:
    """Whether resizing makes an image larger along an axis."""
    height, width = preprocessing.resized_size(*image.shape[:2])
    return bool(height > image.shape[0] or width > image.shape[1])


def _with_pixels(model: onnx.ModelProto, folder: Path) -> Path:
    """Write a graph that also gives what its preprocessing gives, as its last output."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.append(onnx.ValueInfoProto(name=NORMALIZED))
    copy.graph.output[-1].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    path = folder / "pixels.onnx"
    onnx.save(copy, path, save_as_external_data=True, location="pixels.data")
    return path


def odd_images(inputs: Any, channels: int) -> list[np.ndarray]:
    """Return images (H, W, C) of odd sizes: parts of given ones, or generated ones."""
    if inputs is None:
        return [_generated(size, channels) for size in _SIZES]
    count = count_examples(inputs)
    indices = np.linspace(0, count - 1, min(_COUNT, count)).astype(int)
    taken = [_pixels(example) for example in take_examples(inputs, indices)]
    return [
        part(image, _PARTS[index % len(_PARTS)])
        for index, image in enumerate(taken * -(-len(_PARTS) // len(taken)))
    ]


def part(image: np.ndarray, fractions: tuple[float, float]) -> np.ndarray:
    """Return the upper left part of an image (H, W, C).

    Example:
        >>> part(np.zeros((10, 10, 3)), (0.71, 0.93)).shape
        (7, 9, 3)
    """
    height, width = (
        max(1, int(size * fraction))
        for size, fraction in zip(image.shape[:2], fractions, strict=True)
    )
    return image[:height, :width]


def _pixels(example: Any) -> np.ndarray:
    """Return the pixels (H, W, C) of an image: a PIL image or an array (C, H, W)."""
    if isinstance(example, np.ndarray):
        return example.transpose(1, 2, 0)
    pixels = np.asarray(example)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _generated(size: tuple[int, int], channels: int) -> np.ndarray:
    """Return an image of waves and noise."""
    rows, columns, colors = np.ogrid[: size[0], : size[1], :channels]
    waves = 128 + 100 * np.sin(rows / 7 + colors) * np.cos(columns / 11 - colors)
    noise = np.random.default_rng(size[0]).normal(0, 12, (*size, channels))
    return np.clip(waves + noise, 0, 255).astype(np.uint8)
