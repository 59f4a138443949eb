"""Inputs on which a file shows what noise does not: zeros, constants, ties, tiny and huge values.

A constant that the export dropped matters only there: without its `eps` a normalization divides 0
by 0, and of two equal values another one may be chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch.utils import _pytree as pytree

from ...inference.errors import ModelInputError
from .check_inputs import CheckBatch
from .report import Finding
from .rounding import difference, moved_with_inputs

#: The examples of the first batch, which ordinary noise gives its scale.
_KINDS: tuple[tuple[str, Callable[[np.ndarray], np.ndarray]], ...] = (
    ("noise", lambda noise: noise),
    ("zeros", np.zeros_like),
    ("ones", np.ones_like),
    ("a constant", lambda noise: np.full_like(noise, -0.5)),
    ("negative values", lambda noise: -np.abs(noise)),
    ("no negative values", lambda noise: np.maximum(noise, 0)),
    ("ties", lambda noise: np.round(noise)),
)
#: How many times as far from the file as from its own result in float64 a model may be.
_ROUNDINGS = 8
#: Factors of the noise in further batches, of which each has its own largest output.
_SCALES = (1e-6, 1e6)


def check_edge_cases(
    example: Any,
    run_both: Callable[[CheckBatch], list[tuple[np.ndarray, np.ndarray]]],
    tolerance: float,
    scales: bool,
    seed: int,
    batch_axes: Sequence[int] | None = None,
    in_float64: Callable[[Any], list[np.ndarray]] | None = None,
) -> Finding:
    """Run the model and the file on inputs where a dropped constant would show.

    If the model itself does not accept such inputs, the finding says so and passes: floats can be
    indices, as in Torch7. Where a sigmoid sees a small difference of huge values, or a layer
    divides by the deviation of equal values, the rounding of single precision decides the outputs:
    what it may move on this kind of example is allowed.

    Args:
        example: Inputs of the model: an array (N, …), or a list of arrays; only their shapes and
            dtypes are used, except for integers, which are indices and stay as they are.
        run_both: Returns the outputs of the model and of the file for a batch.
        tolerance: Largest error, relative to the largest finite output of a batch, or to 1: on tiny
            values runtimes round eˣ - 1 and the like in ways of their own. 0 allows no rounding.
        scales: Whether to run tiny and huge values too, which float16 cannot represent.
        seed: Seed of the noise.
        batch_axes: The position of the batch in each input; None where it is in front.
        in_float64: Returns the outputs of the model for inputs in double precision; None where
            that is not possible.
    """
    worst, notes = 0.0, ""
    axes = batch_axes or [0] * len(pytree.tree_leaves(example))
    for kinds, batch in _batches(example, axes, scales, np.random.default_rng(seed)):
        try:
            outputs = run_both(batch)
        except ModelInputError as refusal:
            return Finding("edge_cases", True, f"stopped at {kinds[0]}: {refusal}")
        for number, (expected, actual) in enumerate(outputs):
            finite = np.isfinite(expected)
            # Where the model overflows, the file may overflow in another way.
            lost = finite & ~np.isfinite(actual)
            if lost.any():
                kind = kinds[int(np.argwhere(lost)[0][0]) % len(kinds)]
                text = f"on {kind} the file has NaN or infinity where the model has none"
                return Finding("edge_cases", False, text)
            values = np.where(finite, expected, 0).astype(np.float64)
            errors = np.abs(values - np.where(finite, actual, 0))
            largest = max(float(np.abs(values).max(initial=0)), 1.0)
            found = {kind: error / largest for kind, error in _by_kind(errors, kinds).items()}
            above = [kind for kind, error in found.items() if error > tolerance]
            allowed = dict.fromkeys(found, 0.0)
            if above and tolerance and in_float64 is not None:
                allowed = _by_kind(_rounding(values, in_float64, batch.model, number), kinds)
            for kind in above:
                error, rounding = found.pop(kind), allowed[kind] / largest
                if error > rounding:
                    text = f"on {kind} an error of {error:.1e} of the largest output"
                    return Finding("edge_cases", False, f"{text}, {tolerance:g} allowed")
                notes += f"; on {kind} {error:.1e}, where rounding may move {rounding:.1e}"
            worst = max(worst, *found.values(), 0.0)
    names = ", ".join(name for name, _ in _KINDS[1:])
    scaled = f", {_SCALES[0]:g} and {_SCALES[1]:g}" if scales else ""
    text = f"{names}{scaled}: largest error {worst:.1e} of the largest output{notes}"
    return Finding("edge_cases", True, text)


def _by_kind(errors: np.ndarray, kinds: Sequence[str]) -> dict[str, float]:
    """Return the largest error on each kind of example; the kinds follow each other in turn."""
    largest: dict[str, float] = {}
    for number, row in enumerate(errors):
        kind = kinds[number % len(kinds)]
        largest[kind] = max(largest.get(kind, 0.0), float(row.max(initial=0)))
    return largest


def _rounding(
    values: np.ndarray, in_float64: Callable[[Any], list[np.ndarray]], inputs: Any, number: int
) -> np.ndarray:
    """Return by how much rounding may move an output of a model.

    That is some times what it is from the one in double precision, or what that moves by with the
    last digits of the inputs.
    """
    try:
        exact = in_float64(inputs)
    except ModelInputError:  # A layer that keeps a dtype of its own.
        return np.zeros_like(values)
    own = difference(values, exact[number])
    moved = moved_with_inputs(in_float64, inputs, exact)[number]
    result: np.ndarray = np.maximum(_ROUNDINGS * own, moved)
    return result


def _batches(
    example: Any, axes: Sequence[int], scales: bool, generator: np.random.Generator
) -> Iterator[tuple[list[str], CheckBatch]]:
    """Yield batches with the kind of each example."""
    leaves, structure = pytree.tree_flatten(example)

    def batch(count: int, change: Callable[[np.ndarray], np.ndarray]) -> CheckBatch:
        in_front = (np.moveaxis(leaf, axis, 0) for leaf, axis in zip(leaves, axes, strict=True))
        arrays = [
            np.moveaxis(_like(leaf, count, change, generator), 0, axis)
            for leaf, axis in zip(in_front, axes, strict=True)
        ]
        inputs = pytree.tree_unflatten(arrays, structure)
        return CheckBatch(np.arange(count), inputs, inputs, is_real=False)

    def each_kind(noise: np.ndarray) -> np.ndarray:
        return np.stack([change(row) for (_, change), row in zip(_KINDS, noise, strict=True)])

    yield [name for name, _ in _KINDS], batch(len(_KINDS), each_kind)
    for scale in _SCALES if scales else ():
        yield [f"noise of {scale:g}"] * 2, batch(2, partial(np.multiply, np.float32(scale)))


def _like(
    leaf: np.ndarray,
    count: int,
    change: Callable[[np.ndarray], np.ndarray],
    generator: np.random.Generator,
) -> np.ndarray:
    """Return an array of as many examples, of the shape and dtype of another one."""
    if not np.issubdtype(leaf.dtype, np.floating):
        return np.resize(leaf, (count, *leaf.shape[1:]))
    noise = generator.standard_normal((count, *leaf.shape[1:]), np.float32)
    return change(noise).astype(leaf.dtype)
