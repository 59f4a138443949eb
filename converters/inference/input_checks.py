"""Whether arrays can be inputs of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..finite import require_finite
from .errors import InferenceError


def check_inputs(inputs: np.ndarray, expected: Sequence[int] | None, dtype: np.dtype[Any]) -> None:
    """Check the shape and the numbers of inputs, before they are converted to a dtype.

    Args:
        inputs: (N, …).
        expected: The shape of one example, or None if it is open.
        dtype: What the network takes.

    Raises:
        InferenceError: If they have another shape, or numbers beyond the dtype.
        NotFiniteError: If a number is not finite.
    """
    if inputs.dtype.kind not in "biuf":
        raise InferenceError(f"inputs are of type {inputs.dtype}; real numbers were expected")
    if expected is not None and inputs.shape[1:] != tuple(expected):
        raise InferenceError(
            f"inputs of shape {'×'.join(map(str, inputs.shape[1:]))}, the network takes "
            f"{'×'.join(map(str, expected))}"
        )
    require_finite(inputs, "inputs")
    if dtype.kind == "f" and inputs.dtype.itemsize > dtype.itemsize and inputs.size:
        largest = max(float(inputs.max()), -float(inputs.min()))
        if largest > float(np.finfo(dtype).max):
            raise InferenceError(f"inputs reach {largest:.4g}, which is beyond {dtype}")
