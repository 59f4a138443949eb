"""What a page has to know of a network that turns images into images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...images.class_map import MOST_CLASSES, palette
from ...images.image_to_image import ImageToImage
from ...images.preprocessing import COLORS, Preprocessing
from ...inference.image_model import ImageModel
from ...inference.onnx_predictor import OnnxPredictor
from ..errors import OnnxError

#: Dimensions of a batch of images, and of the pixels of one.
_BATCH, _IMAGE = 4, 3


def gives_image(description: dict[str, Any]) -> bool:
    """Return whether a file, as `describe_file` describes it, gives an image or a map of classes.

    Example:
        >>> output = {"name": "output", "shape": ["batch", 3, "height", "width"]}
        >>> gives_image({"outputs": [output], "image_to_image": None})
        True
    """
    if len(description["outputs"]) != 1:
        return False
    shape = description["outputs"][0]["shape"]
    is_image = len(shape) == _BATCH and shape[2:] != [1, 1]
    return is_image or description["image_to_image"] is not None


def image_card(file: Path, description: dict[str, Any]) -> dict[str, Any]:
    """Return the steps of `apply` with a file, as numbers that a page only has to look up.

    Args:
        file: The model.
        description: What `describe_file` says of it.

    Returns:
        JSON values: `takes_image`, where the graph takes the pixels of one image; `order`, the
        channel of an RGB image that each channel of the input is, empty for gray; `levels`, for
        each channel what its 256 bytes become, None where the graph takes bytes; `border`,
        `multiple`, `scale` and `keeps_color` as in `ImageToImage`; `gives_classes`; `palette`, the
        colors of classes; and for an image `out_order` and, for each channel of it, `gain` and
        `offset`, which make a byte of an output.

    Raises:
        OnnxError: If a page cannot do what `apply` does with the file.
        InferenceError: As `ImageModel`.
    """
    if description["preprocessing"] is None:
        raise OnnxError(
            f"{file}: it does not say what values the network takes: torchlift annotate {file} -o "
            f"{file.stem}-page.onnx --value-range 1 (or 255, or LO,HI)"
        )
    predictor = OnnxPredictor(file, "cpu")
    output = ImageModel(predictor, fixed=True).output
    outside, metadata = predictor.preprocessing, predictor.metadata
    assert outside is not None
    if output.takes_mask:
        raise OnnxError(
            f"{file}: the network fills the holes of a mask, which a page does not take"
        )
    takes_image = _takes_image(file, description, outside)
    if output.keeps_color and output.scale != 1:
        raise OnnxError(
            f"{file}: the network enlarges the brightness alone, and a page does not enlarge the "
            "colors as apply does"
        )
    channels = _output_channels(file, description, outside)
    gives_classes = _gives_classes(channels, description)
    if gives_classes and channels > MOST_CLASSES:
        raise OnnxError(f"{file}: {channels} classes; a map has at most {MOST_CLASSES}")
    takes_bytes = description["inputs"][0]["dtype"] == "uint8"
    inputs_color = (metadata.baked_preprocessing or outside).color
    return {
        "takes_image": takes_image,
        "order": [] if outside.channels == 1 and not takes_image else _order(outside.color),
        "levels": None if takes_bytes else _levels(outside),
        "border": output.border,
        "multiple": output.multiple,
        "scale": output.scale,
        "keeps_color": output.keeps_color,
        "channels": channels,
        "gives_classes": gives_classes,
        "palette": palette()[: 3 * channels] if gives_classes else [],
        **({} if gives_classes else _to_bytes(file, output, channels, inputs_color)),
    }


def _takes_image(file: Path, description: dict[str, Any], outside: Preprocessing) -> bool:
    """Return whether the graph takes one image's pixels, and check that the page can give it any.

    Raises:
        OnnxError: If it takes images of one size, or in an order that the page does not have.
    """
    (one,) = description["inputs"]
    if one["dtype"] == "uint8" and len(one["shape"]) == _IMAGE:
        return True
    sizes = one["shape"][2:]
    if outside.size is not None or any(isinstance(size, int) for size in sizes):
        source = (description["source"] or {}).get("file", "MODEL")
        raise OnnxError(
            f"{file}: it takes images of one size, and a page does not resize: torchlift export "
            f"{source} {file.stem}-page.onnx with --bake-resize, which does it in the graph, or "
            f'with --input "{outside.channels}x?x?" where the network takes any size'
        )
    if len(one["shape"]) != _BATCH or one["shape"][1] != outside.channels:
        raise OnnxError(f"{file}: its input is not batch × channels × height × width")
    if one["dtype"] not in ("uint8", "float32"):
        raise OnnxError(f"{file}: its input is {one['dtype']}; a page gives uint8 or float32")
    return False


def _output_channels(file: Path, description: dict[str, Any], outside: Preprocessing) -> int:
    """Return how many channels the output has; flattened images have those of the input.

    Raises:
        OnnxError: If the graph leaves them open.
    """
    shape = description["outputs"][0]["shape"]
    if len(shape) != _BATCH:
        return outside.channels
    if not isinstance(shape[1], int):
        raise OnnxError(f"{file}: the graph leaves open how many channels its output has")
    return shape[1]


def _gives_classes(channels: int, description: dict[str, Any]) -> bool:
    """Return whether the channels of an output are the scores of classes, as `apply` decides."""
    if channels == 1:
        return False
    has_labels = description["labels"] is not None and len(description["labels"]) == channels
    are_scores = description["output_kind"] in ("probabilities", "log_probabilities")
    return has_labels or are_scores or channels not in (1, 3)


def _levels(preprocessing: Preprocessing) -> list[list[float]]:
    """Return what each byte becomes, (channels, 256), to the last bit of float32."""
    ramp = np.arange(256, dtype=np.uint8)[None, :, None]
    values = preprocessing([ramp.repeat(preprocessing.channels, 2)])[0, :, 0]
    levels: list[list[float]] = values.tolist()
    return levels


def _order(color: str) -> list[int]:
    return [2, 1, 0] if color == "BGR" else [0, 1, 2]


def _to_bytes(file: Path, output: ImageToImage, channels: int, input_color: str) -> dict[str, Any]:
    """Return order, gain and offset of an output's channels.

    Raises:
        OnnxError: If it has others than its color has.
    """
    color = output.color or (input_color if COLORS[input_color] == channels else None)
    if color is not None and COLORS[color] != channels:
        raise OnnxError(f"{file}: its output has {channels} channels, {color} has {COLORS[color]}")
    low, high = output.limits
    std = np.broadcast_to(output.std or 1, channels)
    mean = np.broadcast_to(output.mean or 0, channels)
    return {
        "out_order": _order(color or "RGB") if channels > 1 else [0],
        "gain": (std * 255 / (high - low)).tolist(),
        "offset": ((mean - low) * 255 / (high - low)).tolist(),
    }
