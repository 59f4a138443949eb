"""The inputs of a check: real examples, or random ones from a seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from ...images.preprocessing import Preprocessing
from ...inference.prepare import prepare
from ...inference.torch_module import batch_size
from ...input_shapes import InputShape
from ...saved.input_trial import example_inputs, free_size, refusal, torch_dtype
from ..errors import OnnxError
from .pair import ExportPair

#: A network that guesses which axis is the batch gives itself away at one of these sizes.
_FIRST_BATCHES = (1, 2, 7)
#: The size of the batches that follow.
_BATCH = 32
#: Factors for the free sizes of other examples: of images the height and the width.
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
        self._shapes = pair.shapes
        self._axes = [leaf.batch_axis for leaf in self._shapes.leaves()]
        self._module = pair.module
        self._sizes = _model_sizes(pair)
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
            self.description = f"data given ({count_examples(inputs, self._axes)})"
        self._inputs = inputs

    @property
    def count(self) -> int:
        """How many examples there are."""
        return count_examples(self._inputs, self._axes)

    def __iter__(self) -> Iterator[CheckBatch]:
        for indices in batch_indices(self.count):
            examples = take_examples(self._inputs, indices, self._axes)
            yield self._batch(examples, indices, is_real=True)
        for sizes in self._other_sizes():
            yield self._batch(self._random(2, sizes), np.arange(2), is_real=False)

    def _batch(self, examples: Any, indices: np.ndarray, is_real: bool) -> CheckBatch:
        keep_size = self.is_random or not is_real
        model, file = (
            _to_inputs(examples, preprocessing, keep_size)
            for preprocessing in (self._model_preprocessing, self._file_preprocessing)
        )
        return CheckBatch(indices, model, file, is_real)

    def _other_sizes(self) -> Iterator[list[tuple[int, ...]]]:
        """Yield further sizes of the inputs, if the file leaves them free and the model takes them.

        Networks with skip connections take even sizes, or multiples of 8, 16 or 32.
        """
        if not self._shapes.has_free_axes:
            return
        for factors in _OTHER_SIZES:
            for step in (1, 2, 8, 32):
                sizes = [
                    _scaled(leaf, size, factors, step)
                    for leaf, size in zip(self._shapes.leaves(), self._sizes, strict=True)
                ]
                if sizes != self._sizes and not self._refuses(sizes):
                    yield sizes
                    break

    def _refuses(self, sizes: list[tuple[int, ...]]) -> str:
        waiting = iter(sizes)
        ones = example_inputs(
            self._shapes,
            draw=lambda leaf, _: torch.ones(
                _with_batch(leaf, next(waiting), 2), dtype=self._trial_dtype(leaf)
            ),
        )
        return refusal(self._module, ones)

    def _trial_dtype(self, leaf: InputShape) -> torch.dtype:
        return torch.float32 if self._needs_images else torch_dtype(leaf)

    def _random(self, count: int, sizes: list[tuple[int, ...]] | None = None) -> Any:
        """Return random examples of the sizes that the model and the file take."""
        waiting = iter(self._sizes if sizes is None else sizes)
        indices = indices_of(self._module)

        def draw(leaf: InputShape, _: tuple[int, ...]) -> Any:
            return self._draw(leaf, _with_batch(leaf, next(waiting), count), indices)

        return example_inputs(self._shapes, draw=draw)

    def _draw(self, leaf: InputShape, shape: tuple[int, ...], indices: range) -> np.ndarray:
        if self._needs_images:
            return self._generator.integers(0, 256, shape, np.uint8)
        if leaf.is_integer:
            dtype = np.dtype(leaf.dtype)
            if dtype.kind == "b" or (dtype.name == "uint8" and len(self._axes) > 1):
                # Bytes beside other inputs are a mask.
                return self._generator.integers(0, 2, shape).astype(dtype)
            return self._generator.integers(indices.start, indices.stop, shape).astype(dtype)
        return self._generator.standard_normal(shape, np.float32)


def _model_sizes(pair: ExportPair) -> list[tuple[int, ...]]:
    """Return the shape of one example for each input, the free axes as the model has them.

    Raises:
        OnnxError: If the model runs with no size that is tried.
    """
    leaves = list(pair.shapes.leaves())
    known = pair.model.input_shapes
    of_model = list(known.leaves()) if known is not None else []
    if len(of_model) != len(leaves):
        of_model = leaves
    free: int | None = 0
    if any(leaf.free_axes for leaf in of_model):
        free = free_size(pair.module, pair.shapes.with_leaves(of_model))
        if free is None:
            raise _unknown_size()
    return [
        tuple(axis if isinstance(axis, int) else free or 0 for axis in leaf.example_axes)
        for leaf in of_model
    ]


def _with_batch(leaf: InputShape, size: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Return the shape of a batch of examples."""
    axis = leaf.batch_axis
    return (*size[:axis], count, *size[axis:])


def _scaled(
    leaf: InputShape, size: tuple[int, ...], factors: tuple[float, float], step: int
) -> tuple[int, ...]:
    """Return a size with its free axes larger, in multiples of `step`."""
    factor = iter((*factors, *factors, *factors))
    return tuple(
        max(int(length * next(factor) / step), 1) * step if isinstance(axis, str) else length
        for axis, length in zip(leaf.example_axes, size, strict=True)
    )


def indices_of(module: nn.Module) -> range:
    """Return the indices, from 1, that every table of a network has.

    Without a table, whole numbers are no indices: zero is among them, as where it stands for a
    missing word.

    Example:
        >>> indices_of(nn.Sequential(nn.Embedding(7, 2))), indices_of(nn.Identity())
        (range(1, 8), range(0, 3))
    """
    sizes = [
        getattr(layer, name)
        for layer in module.modules()
        for name in ("largest_index", "num_embeddings", "num_classes")
        if isinstance(getattr(layer, name, None), int)
    ]
    return range(1, max(min(sizes), 1) + 1) if sizes else range(3)


def take_examples(inputs: Any, indices: np.ndarray, axes: Sequence[int] | None = None) -> Any:
    """Return some of the examples: of arrays, of lists of arrays, or of images in their files."""
    if _is_image_files(inputs):
        return [inputs[index] for index in indices.tolist()]
    leaves, structure = pytree.tree_flatten(inputs)
    positions = axes if axes is not None and len(axes) == len(leaves) else [0] * len(leaves)
    taken = [leaf.take(indices, axis) for leaf, axis in zip(leaves, positions, strict=True)]
    return pytree.tree_unflatten(taken, structure)


def count_examples(inputs: Any, axes: Sequence[int] | None = None) -> int:
    """Return how many examples there are."""
    if _is_image_files(inputs):
        return len(inputs)
    leaves = pytree.tree_leaves(inputs)
    if axes is None or len(axes) != len(leaves):
        return batch_size(inputs)
    in_range = all(leaf.ndim > axis for leaf, axis in zip(leaves, axes, strict=True))
    return batch_size(
        [np.moveaxis(leaf, axis, 0) for leaf, axis in zip(leaves, axes, strict=True)]
        if in_range
        else inputs
    )


def _is_image_files(inputs: Any) -> bool:
    """Whether images are read one by one, as by `ImageFiles`."""
    return hasattr(inputs, "files")


def _unknown_size() -> OnnxError:
    return OnnxError(
        "the file leaves the size of its input free, and the model takes none of those that were "
        "tried: pass real examples, or open the model with input_size=(H, W) or input='SIZE'"
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
    is_images = (
        isinstance(examples, np.ndarray) and (examples.ndim == 4 or preprocessing is not None)
    ) or not isinstance(first, np.ndarray)
    return prepare(examples, preprocessing) if is_images else examples
