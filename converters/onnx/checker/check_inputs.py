"""The inputs of a check: real examples, or random ones from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from torch.utils import _pytree as pytree

from ...images.preprocessing import Preprocessing
from ...inference.predictors import prepare
from ...inference.torch_module import batch_size
from ..errors import OnnxError
from ..onnx_file import axes
from .pair import ExportPair

#: A network that guesses which axis is the batch gives itself away at one of these sizes.
_FIRST_BATCHES = (1, 2, 7)
#: The size of the batches that follow.
_BATCH = 32
#: Factors for the height and width of other images, for a file that takes any size.
_OTHER_SIZES = ((1.5, 2), (2, 1.3))


@dataclass(frozen=True)
class CheckBatch:
    """One batch, as the model and as the file take it.

    Attributes:
        examples: Index of each example in all the data.
        model: The inputs of the model: an array, or a list of arrays.
        file: The inputs of the file.
        is_real: Whether the examples are those of the check, not random images of another size.
    """

    examples: np.ndarray
    model: Any
    file: Any
    is_real: bool


class CheckInputs:
    """The batches of a check.

    Args:
        pair: The model and the file; images go through the preprocessing of each.
        inputs: Real examples (see `check`); None for random ones.
        seed: Seed of the random ones.

    Attributes:
        description: What the examples are.
        is_random: Whether they are random.

    Raises:
        OnnxError: If random inputs cannot be generated for the file.
        InferenceError: If the real inputs hold different numbers of examples.
    """

    def __init__(self, pair: ExportPair, inputs: Any, seed: int) -> None:
        metadata = pair.metadata
        self._model_preprocessing = pair.model.preprocessing
        self._file_preprocessing = metadata.preprocessing or pair.model.preprocessing
        self._generator = np.random.default_rng(seed)
        self._shapes = [axes(value)[1:] for value in pair.onnx_model.graph.input]
        self._takes_any_size = pair.takes_any_size and len(self._shapes) == 1
        self._input_shape = pair.model.input_shape
        self._needs_images = pair.needs_images
        self.is_random = inputs is None
        if inputs is None:
            if self._needs_images and pair.model.preprocessing is None:
                raise OnnxError(
                    "the file needs images, and the model has no preprocessing for random ones: "
                    "pass real examples, or the preprocessing"
                )
            inputs = self._random(sum(_FIRST_BATCHES))
            kind = "pixels" if self._needs_images else "noise"
            self.description = f"{kind} from seed {seed} (no data given)"
        else:
            inputs = inputs if _is_image_files(inputs) else pytree.tree_map(np.asarray, inputs)
            self.description = f"data given ({count_examples(inputs)})"
        self._inputs = inputs

    @property
    def count(self) -> int:
        """How many examples there are."""
        return count_examples(self._inputs)

    def __iter__(self) -> Iterator[CheckBatch]:
        for indices in batch_indices(self.count):
            yield self._batch(take_examples(self._inputs, indices), indices, is_real=True)
        for size in self._other_sizes():
            yield self._batch(self._random(2, size), np.arange(2), is_real=False)

    def _batch(self, examples: Any, indices: np.ndarray, is_real: bool) -> CheckBatch:
        keep_size = self.is_random or not is_real
        model, file = (
            _to_inputs(examples, preprocessing, keep_size)
            for preprocessing in (self._model_preprocessing, self._file_preprocessing)
        )
        return CheckBatch(indices, model, file, is_real)

    def _other_sizes(self) -> list[tuple[int, int]]:
        """Return further heights and widths to check, if the file leaves them free."""
        if not self._takes_any_size:
            return []
        if self._input_shape is None:
            raise _unknown_size()
        _, height, width = self._input_shape
        return [(int(height * down), int(width * across)) for down, across in _OTHER_SIZES]

    def _random(self, count: int, size: tuple[int, int] | None = None) -> Any:
        """Return random examples of the model's input shape, or else of the file's."""
        shapes = self._shapes
        if self._input_shape is not None:
            shapes = [[self._input_shape[0], *(size or self._input_shape[1:])]]
        if not all(isinstance(axis, int) and axis for shape in shapes for axis in shape):
            raise _unknown_size()
        arrays = [self._draw((count, *map(int, shape))) for shape in shapes]
        return arrays[0] if len(arrays) == 1 else arrays

    def _draw(self, shape: tuple[int, ...]) -> np.ndarray:
        if self._needs_images:
            return self._generator.integers(0, 256, shape, np.uint8)
        return self._generator.standard_normal(shape, np.float32)


def take_examples(inputs: Any, indices: np.ndarray) -> Any:
    """Return some of the examples: of arrays, of lists of arrays, or of images in their files."""
    if _is_image_files(inputs):
        return [inputs[index] for index in indices.tolist()]
    return pytree.tree_map(lambda array: array[indices], inputs)


def count_examples(inputs: Any) -> int:
    """Return how many examples there are."""
    return len(inputs) if _is_image_files(inputs) else batch_size(inputs)


def _is_image_files(inputs: Any) -> bool:
    """Whether images are read one by one, as by `ImageFiles`."""
    return hasattr(inputs, "files")


def _unknown_size() -> OnnxError:
    return OnnxError(
        "the file leaves the size of its input free: pass real examples or input_shape=(C, H, W), "
        "or open the model with input_size=(H, W)"
    )


def batch_indices(count: int) -> Iterator[np.ndarray]:
    """Yield the examples of each batch; the first batches repeat examples if there are too few."""
    edges = [0, *accumulate(_FIRST_BATCHES)]
    edges += [*range(edges[-1] + _BATCH, count, _BATCH), count] if count > edges[-1] else []
    for start, stop in pairwise(edges):
        yield np.arange(start, stop) % count


def _to_inputs(examples: Any, preprocessing: Preprocessing | None, keep_size: bool) -> Any:
    """Preprocess images; anything else is an input already.

    Args:
        examples: Pixels, images, or inputs.
        preprocessing: How an image becomes an input.
        keep_size: Whether to leave out resizing and cropping.
    """
    if keep_size and preprocessing is not None:
        preprocessing = replace(preprocessing, size=None, crop=None)
    first = pytree.tree_leaves(examples)[0]
    is_images = isinstance(examples, np.ndarray) or not isinstance(first, np.ndarray)
    return prepare(examples, preprocessing) if is_images else examples
