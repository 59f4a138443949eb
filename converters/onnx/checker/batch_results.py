"""What running the batches of a check gave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch.utils import _pytree as pytree

from .check_inputs import CheckBatch
from .comparison import Comparison, compare
from .profiles import Profile
from .report import Finding


@dataclass
class BatchResults:
    """What running the batches gave.

    Attributes:
        limits: What passes, on the provider that ran.
        provider: The execution provider that ran the file; empty if it did not run.
        findings: Which provider ran, and why a run failed.
        comparisons: The outputs of each batch, compared.
        edge_cases: What special inputs showed; None if the file needs images, or did not run.
    """

    limits: Profile
    provider: str = ""
    findings: list[Finding] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    edge_cases: Finding | None = None
    _first: tuple[list[np.ndarray], list[np.ndarray]] | None = None
    _inputs_vary: bool = False
    _outputs_vary: bool = False
    _predicted: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)
    _tied: set[int] = field(default_factory=set)

    def add(
        self,
        batch: CheckBatch,
        outputs: list[tuple[np.ndarray, np.ndarray]],
        is_classifier: bool,
        rounding: Callable[[], list[float]],
    ) -> None:
        """Compare the outputs of the model and the file for one batch (see `compare_outputs`)."""
        compared = compare_outputs(batch, outputs, self.limits, is_classifier, rounding)
        self.comparisons += compared
        expected, actual = outputs[0]
        if batch.is_real and expected.ndim == 2 and len(expected) == len(batch.examples):
            self._predicted.append((batch.examples, expected.argmax(1), actual.argmax(1)))
            self._tied.update(tie.example for tie in compared[0].ties)

    def note_variation(self, inputs: list[np.ndarray], outputs: list[np.ndarray]) -> None:
        """Note whether examples (N, …) of a batch, or of those before, go in and come out apart."""
        own = [array[:1] for array in inputs], [array[:1] for array in outputs]
        self._first = self._first or own
        for first in (self._first, own):
            # Batches of other sizes are compared in themselves.
            self._inputs_vary |= _differ(inputs, first[0])
            self._outputs_vary |= _differ(outputs, first[1])

    @property
    def is_constant(self) -> bool:
        """Whether different inputs all gave the same outputs, so that nothing was compared."""
        return self._inputs_vary and not self._outputs_vary

    @property
    def is_classifier(self) -> bool:
        """Whether examples have been classified."""
        return bool(self._predicted) and self.comparisons[0].agreeing is not None

    def predictions(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the predicted class of each example by the model and by the file."""
        both = np.zeros((2, count), np.int64)
        for examples, *predicted in self._predicted:
            both[:, examples] = predicted
        return both[0], both[1]

    def count_ties(self) -> int:
        """Count the examples whose predicted class is a tie."""
        return len(self._tied)


def compare_outputs(
    batch: CheckBatch,
    outputs: Sequence[tuple[np.ndarray, np.ndarray]],
    limits: Profile,
    is_classifier: bool,
    rounding: Callable[[], list[float]],
) -> list[Comparison]:
    """Compare each output of the model with that of a file, for one batch.

    Args:
        batch: The batch.
        outputs: Each output of the model with that of the file.
        limits: What passes.
        is_classifier: Whether the outputs are scores of classes.
        rounding: Returns the error of each output that rounding explains; it is asked only where
            an error is too large.
    """
    input_shape = tuple(pytree.tree_leaves(batch.model)[0].shape[1:])
    tolerance, count = limits.tolerance, len(batch.examples)

    def compared(floors: Sequence[float]) -> list[Comparison]:
        comparisons = []
        for both, floor in zip(outputs, floors, strict=True):
            rows = len(both[0])
            # Where the batch is not in front, a row is a step, or a place of an example.
            examples = batch.examples if rows == count else np.arange(rows)
            comparisons.append(
                compare(*both, examples, tolerance, is_classifier, input_shape, floor)
            )
        return comparisons

    comparisons = compared([limits.floor] * len(outputs))
    if tolerance and any(comparison.error > tolerance for comparison in comparisons):
        floors = [max(limits.floor, allowed / tolerance) for allowed in rounding()]
        comparisons = compared(floors) if floors else comparisons
    return comparisons


def batch_in_front(arrays: Sequence[np.ndarray], axes: Sequence[int]) -> list[np.ndarray]:
    """Return arrays with their batch axis in front; axes beyond those of an array do not count.

    Example:
        >>> [array.shape for array in batch_in_front([np.ones((5, 2)), np.ones((2, 3))], [1, 0])]
        [(2, 5), (2, 3)]
    """
    return [
        np.moveaxis(array, axis, 0) if axis < np.ndim(array) else np.asarray(array)
        for array, axis in zip(arrays, axes, strict=False)
    ]


def _differ(arrays: Sequence[np.ndarray], first: Sequence[np.ndarray]) -> bool:
    """Whether an array (N, …) holds an example that is not the first one."""
    return any(
        array.shape[1:] == other.shape[1:]
        and any(
            not np.array_equal(row, other[0], equal_nan=array.dtype.kind == "f") for row in array
        )
        for array, other in zip(arrays, first, strict=True)
    )
