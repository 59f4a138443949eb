"""`ImageModel`: images in, images or class maps out, with a network of any kind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from ..images.class_map import MOST_CLASSES, class_map, class_map_image
from ..images.image_to_image import NO_OUTPUT_SAID, SaidOutput
from ..images.pixels import pixels_of, rounded
from ..images.preprocessing import Preprocessing
from .errors import InferenceError
from .onnx_predictor import OnnxPredictor
from .predictors import Predictor, TorchPredictor
from .prepare import prepare
from .tiles import Tiling, measure_tiling

#: What of white makes a pixel of a mask a hole, as in siggraph2017_inpainting.
_HOLE = 51

#: How far the probabilities of a pixel's classes may add up to something else than 1.
_SUM = 1e-3

#: What red, green and blue give to the brightness, the Y of YUV.
_BRIGHTNESS = (0.299, 0.587, 0.114)

#: The channels of a colored image.
_COLORS = 3

#: The dimensions of images in a batch, and of images that were flattened.
_IMAGES, _FLAT = 4, 2


class ImageModel:
    """A network that turns an image into an image or a map of classes.

    Args:
        predictor: The network (see `open_predictor`).
        said: How its outputs become images, over what the model says.
        tile: Run large images in tiles of so many pixels a side, and what is needed beside them;
            they give what the whole image gives.
        fixed: Whether the model says all itself, as an `.onnx` file does: another value is an
            error.

    Raises:
        InferenceError: If it is not known what values the network takes, or it cannot be run in
            tiles.
        PreprocessingError: If `said` is not what a model with all said itself has.

    Example:
        >>> from torch import nn
        >>> from torchlift.converters.saved import SavedModel
        >>> gray = Preprocessing("gray")
        >>> negative = nn.Conv2d(1, 1, 1).requires_grad_(False)
        >>> _ = negative.weight.fill_(-1), negative.bias.fill_(1)
        >>> network = SavedModel(negative, "features", preprocessing=gray)
        >>> model = ImageModel(TorchPredictor(network, "cpu"))
        >>> model(Image.new("L", (2, 2), 55)).getpixel((0, 0))
        200
    """

    def __init__(
        self,
        predictor: Predictor,
        said: SaidOutput = NO_OUTPUT_SAID,
        *,
        tile: int | None = None,
        fixed: bool = False,
    ) -> None:
        self._predictor, self._tile = predictor, tile
        self._tiling: Tiling | None = None
        self.provider, self.labels = predictor.provider, predictor.labels
        if problem := _misfit(predictor):
            raise InferenceError(problem)
        if predictor.preprocessing is None:
            raise InferenceError(
                "what values the network takes is not known: give value_range=1, "
                f"value_range=255 or value_range=LO,HI{_hint(predictor)}"
            )
        self._preprocessing = predictor.preprocessing
        # Where the graph does a part of the preprocessing, outputs are as the network's inputs.
        inputs = _of_network(predictor)
        self._input_color = inputs.color
        known = getattr(predictor, "image_to_image", None)
        if fixed:
            said.require_same(known, inputs)
        self.output = said.over(known, inputs)
        if inputs.size is not None and tile is not None:
            raise InferenceError("the network takes images of one size: leave out tile=…")
        if inputs.size is not None:
            # Images are resized to what the network takes.
            self.output = replace(self.output, border=0, multiple=1, scale=None)

    def __call__(self, image: Any, mask: Any = None) -> Image.Image:
        """Return what the network makes of an image: gray, RGB, or a palette image of classes.

        Args:
            image: A PIL image, or its uint8 pixels (H, W) or (H, W, 1 or 3).
            mask: White where the image is missing, of the image's size; for networks that take one.

        Raises:
            InferenceError: If the network does not take the image, or gives none.
            NotFiniteError: If an output is not a number.
            PreprocessingError: If image or mask do not fit.
        """
        pixels = pixels_of(image)
        holes = self._holes(mask, pixels.shape[:2])
        extended = self._extended(pixels)
        wide = None if holes is None else self._extended(holes[..., None])[..., 0]
        if self._tile is None:
            made, is_map = self._pixels(self._run(extended, wide))
        else:
            made, is_map = self._in_tiles(self._tile, extended, wide)
        made = self._cut(made, pixels.shape[:2], extended.shape[:2])
        if is_map:
            return class_map_image(made, self.labels)
        if holes is not None:
            made = _fill(pixels, holes, made)
        if self.output.keeps_color and pixels.shape[2] == _COLORS:
            made = _colored(made, pixels)
        return Image.fromarray(made)

    def _in_tiles(
        self, tile: int, pixels: np.ndarray, holes: np.ndarray | None
    ) -> tuple[np.ndarray, bool]:
        """Return what `_pixels` does of the whole image, which is never run at once."""
        if self._tiling is None:
            self._tiling = measure_tiling(
                lambda trial: self._run(trial, None if holes is None else trial[..., 0] > _HOLE),
                pixels.shape[2],
            )
        rows = []
        is_map = False
        for down, kept_down in self._tiling.windows(pixels.shape[0], tile):
            row = []
            for across, kept_across in self._tiling.windows(pixels.shape[1], tile):
                part = None if holes is None else holes[down, across]
                output = self._run(pixels[down, across], part)[:, kept_down, kept_across]
                made, is_map = self._pixels(output)
                row.append(made)
            rows.append(np.concatenate(row, axis=1))
        return np.concatenate(rows), is_map

    def _pixels(self, output: np.ndarray) -> tuple[np.ndarray, bool]:
        """Return an output as bytes, (H, W) or (H, W, 3), and whether they are classes."""
        if self._is_class_map(output):
            return class_map(output), True
        return self.output.image(output, self._input_color), False

    def _holes(self, mask: Any, size: tuple[int, ...]) -> np.ndarray | None:
        """Return where an image is missing (H, W); None for a network that takes no mask."""
        if mask is None:
            if self.output.takes_mask:
                raise InferenceError("the network fills the holes of a mask: give mask=FILE")
            return None
        if not self.output.takes_mask:
            raise InferenceError("the network takes no mask: leave out mask=…")
        holes: np.ndarray = np.asarray(Image.fromarray(_gray(mask))) >= _HOLE
        if holes.shape != size:
            raise InferenceError(
                f"the mask is {holes.shape[0]}×{holes.shape[1]}, the image {size[0]}×{size[1]}"
            )
        return holes

    def _extended(self, pixels: np.ndarray) -> np.ndarray:
        """Return an image with the border and the size that the network needs."""
        border, multiple = self.output.border, self.output.multiple
        margins = [(border, border + -(side + 2 * border) % multiple) for side in pixels.shape[:2]]
        if not any(map(any, margins)):
            return pixels
        return np.pad(pixels, [*margins, (0, 0)], mode="edge")

    def _run(self, pixels: np.ndarray, holes: np.ndarray | None) -> np.ndarray:
        """Return the output (C, H, W) of one image."""
        inputs = prepare([np.ascontiguousarray(pixels)], self._preprocessing)
        if holes is not None:
            inputs = _with_mask(inputs, holes)
        outputs = self._predictor(inputs)
        if outputs.ndim == _FLAT and self.output.scale:
            outputs = self._unflattened(outputs, pixels.shape[:2])
        if outputs.ndim != _IMAGES or not outputs.size:
            shape = "×".join(map(str, outputs.shape[1:]))
            raise InferenceError(f"the network gives no image: its output is {shape or 'a number'}")
        output: np.ndarray = outputs[0]
        return output

    def _unflattened(self, outputs: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
        """Return the images of waifu2x's networks that end in nn.View(-1)."""
        assert self.output.scale is not None
        height, width = (side * self.output.scale for side in size)
        channels = self._preprocessing.channels
        pixels = outputs.shape[1] // channels
        cut = next(
            (n for n in range(min(height, width)) if (height - n) * (width - n) <= pixels), 0
        )
        if (height - cut) * (width - cut) * channels != outputs.shape[1]:
            return outputs
        return outputs.reshape(len(outputs), channels, height - cut, width - cut)

    def _cut(
        self, made: np.ndarray, size: tuple[int, ...], extended: tuple[int, ...]
    ) -> np.ndarray:
        """Return the part of the bytes that belongs to the image as it was."""
        if not self.output.scale:
            return made
        height, width = (side * self.output.scale for side in size)
        if made.shape[0] < height or made.shape[1] < width:
            raise InferenceError(
                f"the network gives {made.shape[0]}×{made.shape[1]} pixels for "
                f"{extended[0]}×{extended[1]}, fewer than the {height}×{width} of the image"
            )
        return made[:height, :width]

    def _is_class_map(self, output: np.ndarray) -> bool:
        """Return whether an output (C, H, W) holds the scores of classes."""
        labels, kind = self._predictor.labels, self._predictor.output_kind
        if labels is not None and len(labels) == len(output) > 1:
            return True
        if len(output) == 1:
            return False
        if kind == "probabilities":
            return bool(np.abs(output.sum(axis=0) - 1).max() < _SUM)
        if len(output) > MOST_CLASSES:
            raise InferenceError(
                f"the network gives {len(output)} channels, an image has 1 or 3 and a map at most "
                f"{MOST_CLASSES} classes"
            )
        return kind == "log_probabilities" or len(output) not in (1, 3)


def _misfit(predictor: Predictor) -> str:
    """Return which layer of a network does not fit those before it; empty if all do."""
    if not isinstance(predictor, TorchPredictor):
        return ""
    from ..modules.channels import channel_misfit

    return channel_misfit(predictor.module)


def _of_network(predictor: Predictor) -> Preprocessing:
    """Return how an image becomes an input of the network, inside a graph or outside."""
    baked = predictor.metadata.baked_preprocessing if isinstance(predictor, OnnxPredictor) else None
    assert predictor.preprocessing is not None
    return baked or predictor.preprocessing


def _hint(predictor: Predictor) -> str:
    """Return what the last layer suggests."""
    if not isinstance(predictor, TorchPredictor):
        return ""
    from torch import nn

    leaves = [one for one in predictor.module.modules() if not any(True for _ in one.children())]
    if leaves and isinstance(leaves[-1], nn.Tanh):
        return " (its last layer, a Tanh, suggests -1,1; pix2pix and CycleGAN take color=BGR too)"
    return ""


def _colored(brightness: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3) with the brightness of one (H, W) and the colors of another."""
    height, width = brightness.shape
    base = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    colors = np.asarray(base).astype(np.float32)
    change = brightness - colors @ np.array(_BRIGHTNESS, np.float32)
    return rounded(colors + change[..., None])


def _gray(mask: Any) -> np.ndarray:
    pixels = pixels_of(mask)
    return (
        pixels[..., 0] if pixels.shape[2] == 1 else np.asarray(Image.fromarray(pixels).convert("L"))
    )


def _with_mask(inputs: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """Return inputs (1, C + 1, H, W) of an image with holes."""
    inputs = np.where(holes, np.float32(0), inputs)
    return np.concatenate([inputs, holes[None, None].astype(np.float32)], axis=1)


def _fill(pixels: np.ndarray, holes: np.ndarray, made: np.ndarray) -> np.ndarray:
    """Return an image whose holes are filled with what the network made."""
    if pixels.shape[2] == 1 and made.ndim == 3:
        pixels = pixels.repeat(3, axis=2)
    pixels = pixels[..., 0] if made.ndim == 2 else pixels
    where = holes if made.ndim == 2 else holes[..., None]
    return np.where(where, made, pixels)
