"""What a check is run on: real examples, or noise from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import onnx
from torch.utils import _pytree as pytree

from ...images.preprocessing import Preprocessing
from ...inference.metadata import Metadata
from ...inference.predictors import prepare
from ...inference.torch_module import batch_size
from ...saved import SavedModel
from ..errors import OnnxError
from ..exporter.tracing import SIZE_AXES
from ..onnx_file import axes

#: Where a network guesses at the batch, these differ. The rest of the data follows in larger ones.
_FIRST_BATCHES = (1, 2, 7)
_BATCH = 32
#: What the other sizes of images are, of one that is known; an odd one among them.
_OTHER_SIZES = ((1.5, 2), (2, 1.3))


@dataclass(frozen=True)
class CheckBatch:
    """One batch, as each side takes it.

    Attributes:
        examples: index in all the data of each example.
        model: the inputs of the model: an array, or a list of them.
        file: the inputs of the file.
        real: whether they are of the data, and not noise of another size.
    """

    examples: np.ndarray
    model: Any
    file: Any
    real: bool


class CheckInputs:
    """The batches of a check.

    Args:
        model: with its own preprocessing.
        stored: the file.
        metadata: what the file says; its preprocessing is the one that counts for the file.
        inputs: real examples (see `check`); None for noise.
        seed: of the noise.

    Raises:
        OnnxError: when no noise can be made for the file's inputs, or when the inputs given hold
            different numbers of examples.
    """

    def __init__(
        self, model: SavedModel, stored: onnx.ModelProto, metadata: Metadata, inputs: Any, seed: int
    ) -> None:
        self._ours = model.preprocessing
        self._theirs = metadata.preprocessing or model.preprocessing
        self._generator = np.random.default_rng(seed)
        self._shapes = [axes(value)[1:] for value in stored.graph.input]
        self._any_size = [shape[1:] == [*SIZE_AXES] for shape in self._shapes] == [True]
        self._known = model.input_shape
        # A quantized network knows the range of its inputs: noise is made of pixels there too.
        self._pixels = metadata.baked_preprocessing is not None or metadata.precision == "int8"
        if self._pixels and inputs is None and model.preprocessing is None:
            raise OnnxError("noise is nothing for this file: give data, or the preprocessing")
        self._noisy = inputs is None
        kind = "pixels" if self._pixels else "noise"
        self.said = f"{kind} from seed {seed} (no data given)"
        self._inputs = inputs
        if inputs is None:
            count = sum(_FIRST_BATCHES)
            self._inputs = self._noise(count)
        elif not _is_images(inputs):
            self._inputs = pytree.tree_map(np.asarray, inputs)
        if not self._noisy:
            self.said = f"data given ({self.count})"

    @property
    def count(self) -> int:
        """How many examples there are."""
        return count_of(self._inputs)

    def __iter__(self) -> Iterator[CheckBatch]:
        for indices in _batches(self.count):
            yield self._trial(take(self._inputs, indices), indices, resized=False)
        for size in self._other_sizes():
            yield self._trial(self._noise(2, size), np.arange(2), resized=True)

    def _trial(self, batch: Any, indices: np.ndarray, resized: bool) -> CheckBatch:
        as_is = resized or self._noisy
        ours, theirs = (_inputs(batch, side, as_is) for side in (self._ours, self._theirs))
        return CheckBatch(indices, ours, theirs, real=not resized)

    def _other_sizes(self) -> list[tuple[int, int]]:
        """Heights and widths besides the known one, where the file leaves them open."""
        if not self._any_size:
            return []
        height, width = self._size()
        return [(int(height * down), int(width * across)) for down, across in _OTHER_SIZES]

    def _size(self) -> tuple[int, int]:
        if self._known is None:
            raise OnnxError("the file leaves the size of its input open: give input_shape or data")
        return self._known[1], self._known[2]

    def _noise(self, count: int, size: tuple[int, int] | None = None) -> Any:
        """Examples of the model's shape, or else of the file's."""
        shapes = self._shapes
        if self._known is not None:
            shapes = [[self._known[0], *(size or self._known[1:])]]
        if not all(isinstance(n, int) and n for shape in shapes for n in shape):
            raise OnnxError("the file leaves the size of its input open: give input_shape or data")
        noise = [self._draw((count, *map(int, shape))) for shape in shapes]
        return noise[0] if len(noise) == 1 else noise

    def _draw(self, shape: tuple[int, ...]) -> np.ndarray:
        if self._pixels:
            return self._generator.integers(0, 256, shape, np.uint8)
        return self._generator.standard_normal(shape, np.float32)


def take(inputs: Any, indices: np.ndarray) -> Any:
    """Some of the examples: arrays, lists of arrays, or images that are still in their files."""
    if _is_images(inputs):
        return [inputs[index] for index in indices.tolist()]
    return pytree.tree_map(lambda array: array[indices], inputs)


def count_of(inputs: Any) -> int:
    """How many examples there are."""
    return len(inputs) if _is_images(inputs) else batch_size(inputs)


def _is_images(inputs: Any) -> bool:
    """Whether images are read one by one, as `ImageFiles` gives them."""
    return hasattr(inputs, "files")


def _batches(count: int) -> Iterator[np.ndarray]:
    """Indices of the examples of each batch; too few for the first batches come over again."""
    edges = [0, *accumulate(_FIRST_BATCHES)]
    edges += [*range(edges[-1] + _BATCH, count, _BATCH), count] if count > edges[-1] else []
    for start, stop in pairwise(edges):
        yield np.arange(start, stop) % count


def _inputs(batch: Any, preprocessing: Preprocessing | None, as_is: bool) -> Any:
    """Pixels through a preprocessing; anything else is an input already."""
    if as_is and preprocessing is not None:
        preprocessing = replace(preprocessing, size=None, crop=None)
    images = isinstance(batch, np.ndarray) or not isinstance(batch[0], np.ndarray)
    return prepare(batch, preprocessing) if images else batch
