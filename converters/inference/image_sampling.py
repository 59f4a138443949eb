"""Images from noise: the networks of generative adversarial training, and images side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image

from ..images.image_to_image import ImageToImage
from ..input_shapes import InputShape, parse_inputs
from .errors import InferenceError
from .onnx_predictor import OnnxPredictor
from .predictors import Predictor, TorchPredictor

#: Pixels between two images.
_GAP = 2

#: How many images are computed together.
_BATCH = 16

#: What the last layer of a network bounds its outputs to.
_BOUNDED = {"Tanh": (-1.0, 1.0), "Sigmoid": (0.0, 1.0), "Clip01": (0.0, 1.0)}

#: Layers that take a table.
_OF_SEVERAL = ("CAddTable", "CMulTable", "FlattenTable", "JoinTable", "ParallelTable")


def noise_shape(predictor: Predictor) -> tuple[int, ...]:
    """Return the shape of the noise for one image, as the network's first layer tells.

    Raises:
        InferenceError: If it takes no vector of noise.

    Example:
        >>> from torch import nn
        >>> from torchlift.converters.saved import SavedModel
        >>> generator = nn.Sequential(nn.ConvTranspose2d(100, 3, 4), nn.Tanh())
        >>> noise_shape(TorchPredictor(SavedModel(generator, "features"), "cpu"))
        (100, 1, 1)
    """
    if isinstance(predictor, OnnxPredictor):
        shapes = parse_inputs(predictor.metadata.inputs) if predictor.metadata.inputs else None
        tree = [] if shapes is None else shapes.tree
        if isinstance(tree, InputShape) and all(
            isinstance(axis, int) for axis in tree.example_axes
        ):
            return tuple(int(axis) for axis in tree.example_axes)
        raise InferenceError("the file takes no noise of one size")
    assert isinstance(predictor, TorchPredictor)
    from torch import nn

    begin = predictor.module
    while isinstance(begin, nn.Sequential) and len(begin):
        begin = begin[0]
    if type(begin).__name__ in _OF_SEVERAL:
        raise InferenceError(
            f"the generator begins with {type(begin).__name__}, which takes several inputs, such "
            "as noise and a class, and here noise alone is drawn: run it from Python, or export it "
            "and give each input"
        )
    layers = predictor.module.modules()
    first = next((one for one in layers if any(True for _ in one.parameters(False))), None)
    if isinstance(first, nn.Linear):
        return (first.in_features,)
    if isinstance(first, (nn.ConvTranspose2d, nn.Conv2d)):
        return (first.in_channels, 1, 1)
    name = "has no layer with weights" if first is None else f"begins with {type(first).__name__}"
    raise InferenceError(f"no generator of images: the network {name}, which takes no noise")


def output_of_generator(predictor: Predictor) -> ImageToImage:
    """Return how outputs become images: as the file says, or as its last layer bounds them.

    Raises:
        InferenceError: If neither tells.
    """
    known: ImageToImage | None = getattr(predictor, "image_to_image", None)
    if known is not None:
        return known
    if isinstance(predictor, TorchPredictor):
        leaves = [
            one for one in predictor.module.modules() if not any(True for _ in one.children())
        ]
        bounds = _BOUNDED.get(type(leaves[-1]).__name__) if leaves else None
        if bounds is not None:
            return ImageToImage(bounds)
    raise InferenceError(
        "which values are black and white is not known: give output_range=1, output_range=255 or "
        "output_range=LO,HI"
    )


def sample_images(
    predictor: Predictor,
    count: int,
    output: ImageToImage,
    *,
    seed: int = 0,
    noise: Literal["normal", "uniform"] = "normal",
) -> list[np.ndarray]:
    """Return images that a generator makes of noise, uint8 (H, W) or (H, W, 3).

    Args:
        predictor: The generator.
        count: How many images.
        output: How outputs become images.
        seed: The same seed gives the same noise.
        noise: Normal, with mean 0 and std 1, or uniform from -1 to 1.

    Raises:
        InferenceError: If the network takes no noise, or gives no images.
        PreprocessingError: If its outputs have neither 1 nor 3 channels.
    """
    shape = (count, *noise_shape(predictor))
    numbers = np.random.default_rng(seed)
    drawn = numbers.standard_normal(shape) if noise == "normal" else numbers.uniform(-1, 1, shape)
    images: list[np.ndarray] = []
    for start in range(0, count, _BATCH):
        outputs = predictor(drawn[start : start + _BATCH].astype(np.float32))
        if outputs.ndim != 4:
            given = "×".join(map(str, outputs.shape[1:]))
            raise InferenceError(f"no generator of images: the network gives {given or 'numbers'}")
        images += [output.image(one) for one in outputs]
    return images


def image_grid(images: Sequence[np.ndarray], columns: int) -> Image.Image:
    """Return images of one size in rows, with two black pixels between.

    Example:
        >>> image_grid([np.full((4, 5), 200, np.uint8)] * 6, columns=3).size
        (19, 10)
    """
    rows = -(-len(images) // columns)
    height, width = images[0].shape[:2]
    size = (rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP)
    sheet = np.zeros((*size, *images[0].shape[2:]), np.uint8)
    for number, image in enumerate(images):
        top, left = (number // columns) * (height + _GAP), (number % columns) * (width + _GAP)
        sheet[top : top + height, left : left + width] = image
    return Image.fromarray(sheet)
