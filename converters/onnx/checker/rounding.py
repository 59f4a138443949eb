"""How much a model's own arithmetic rounds, which no file of it can fall below.

Logits may be what is left of large terms that cancel: a head that was hardly trained gives 1e-4
from features of 1 and weights of 1e-3. Another order of summation then changes much of the result,
and neither order is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from ...inference.errors import InferenceError, ModelInputError
from ...inference.torch_module import as_inputs, inference_copy, run

#: A file's errors may be so many times the model's own: another order of summation, fused layers.
_ALLOWANCE = 4.0
#: By how many last digits of single precision one number, and a sum of some hundred, may be off.
_DIGITS = (1.0, 32.0)
#: A part of such a step that is so small that what is continuous hardly moves.
_SMALL_PART = 2.0**-12
#: Profile → the arithmetic whose rounding is measured, and a finer one; int8 is judged otherwise.
_ARITHMETIC = {
    "fp32-cpu": (torch.float32, torch.float64),
    "fp32-gpu": (torch.float32, torch.float64),
    "fp16": (torch.float16, torch.float32),
}


def allowed_rounding(module: nn.Module, inputs: Any, profile: str) -> list[float]:
    """Return the largest error of each output that rounding explains, 0 where it is not known.

    The model computes the batch in the arithmetic of a profile and in a finer one; what differs is
    the rounding of the first. In single precision it may also be what the outputs move by with the
    last digits of the inputs (see `moved_with_inputs`): where a constant image is normalized by its
    deviation, PyTorch may be right to the last digit by chance.

    Args:
        module: The model as it is exported.
        inputs: A batch (N, …) for it.
        profile: Name of the limits that apply, such as `fp32-cpu`; any other allows nothing.

    Example:
        >>> head = nn.Linear(2, 1, bias=False)
        >>> head.weight = nn.Parameter(torch.tensor([[1.0, -1.0]]))
        >>> allowed_rounding(head, np.array([[1e4, 0.1]], np.float32), "fp32-cpu")[0] < 0.1
        True
    """
    if profile not in _ARITHMETIC:
        return []
    try:
        coarse, fine = (_outputs(module, inputs, dtype) for dtype in _ARITHMETIC[profile])
    except InferenceError:  # An operator that lacks the arithmetic: nothing is known.
        return []
    allowed = [_ALLOWANCE * _largest(a - b) for a, b in zip(coarse, fine, strict=True)]
    if _ARITHMETIC[profile][1] == torch.float64:
        moved = moved_with_inputs(partial(_outputs, module, dtype=torch.float64), inputs, fine)
        allowed = [max(one, _largest(other)) for one, other in zip(allowed, moved, strict=True)]
    return allowed


def moved_with_inputs(
    in_float64: Callable[[Any], list[np.ndarray]], inputs: Any, exact: list[np.ndarray]
) -> list[np.ndarray]:
    """Return by how much outputs move where inputs move by the last digits of single precision.

    A layer that divides by the deviation of equal values makes much of the little that another
    order of summation leaves. A jump, as of an index, is none of this: it is as large for a small
    part of the step, and counts as 0.

    Args:
        in_float64: Returns the outputs (N, …) of a model for inputs in double precision.
        inputs: A batch for it.
        exact: Its outputs for the batch.
    """
    result = [np.zeros(output.shape) for output in exact]
    for digits in _DIGITS:
        try:
            far, near = (in_float64(_moved(inputs, part * digits)) for part in (1.0, _SMALL_PART))
        except ModelInputError:  # A layer that keeps a dtype of its own.
            return result
        for number, output in enumerate(exact):
            steps, parts = difference(far[number], output), difference(near[number], output)
            for row, (step, part) in enumerate(zip(steps, parts, strict=True)):
                if step.max(initial=0) > 2 * part.max(initial=0):
                    result[number][row] = np.maximum(result[number][row], step)
    return result


def difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return how far two arrays are apart, 0 where either is not finite."""
    both = np.isfinite(one) & np.isfinite(other)
    with np.errstate(invalid="ignore"):
        result: np.ndarray = np.abs(np.where(both, one - other, 0))
    return result


def _moved(inputs: Any, step: float) -> Any:
    """Return inputs in double precision, moved by so many last digits of single precision."""
    signs = np.random.default_rng(0)

    def move(leaf: np.ndarray) -> np.ndarray:
        leaf = np.asarray(leaf)
        if not np.issubdtype(leaf.dtype, np.floating):
            return leaf
        size = np.finfo(np.float32).eps * step * np.maximum(np.abs(leaf), 1)
        moved: np.ndarray = leaf.astype(np.float64) + signs.choice((-1.0, 1.0), leaf.shape) * size
        return moved

    return pytree.tree_map(move, inputs)


def _outputs(module: nn.Module, inputs: Any, dtype: torch.dtype) -> list[np.ndarray]:
    copy = inference_copy(module, dtype)
    return [output.double().cpu().numpy() for output in run(copy, as_inputs(copy, inputs))]


def _largest(difference: np.ndarray) -> float:
    finite = np.isfinite(difference)
    return float(np.abs(difference[finite]).max()) if finite.any() else 0.0
