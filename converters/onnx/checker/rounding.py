"""How much a model's own arithmetic rounds, which no file of it can fall below.

Logits may be what is left of large terms that cancel: a head that was hardly trained gives 1e-4
from features of 1 and weights of 1e-3. Another order of summation then changes much of the result,
and neither order is wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from ...inference.errors import InferenceError
from ...inference.torch_module import as_inputs, inference_copy, run

#: A file's errors may be so many times the model's own: another order of summation, fused layers.
_ALLOWANCE = 4.0
#: Profile → the arithmetic whose rounding is measured, and a finer one; int8 is judged otherwise.
_ARITHMETIC = {
    "fp32-cpu": (torch.float32, torch.float64),
    "fp32-gpu": (torch.float32, torch.float64),
    "fp16": (torch.float16, torch.float32),
}


def allowed_rounding(module: nn.Module, inputs: Any, profile: str) -> list[float]:
    """Return the largest error of each output that rounding explains, 0 where it is not known.

    The model computes the batch in the arithmetic of a profile and in a finer one; what differs is
    the rounding of the first.

    Args:
        module: The model as it is exported.
        inputs: A batch (N, …) for it.
        profile: Name of the limits that apply, such as `fp32-cpu`; any other allows nothing.

    Example:
        >>> head = nn.Linear(2, 1, bias=False)
        >>> head.weight = nn.Parameter(torch.tensor([[1.0, -1.0]]))
        >>> allowed_rounding(head, np.array([[1e4, 0.1]], np.float32), "fp32-cpu")[0] < 1e-2
        True
    """
    if profile not in _ARITHMETIC:
        return []
    try:
        coarse, fine = (_outputs(module, inputs, dtype) for dtype in _ARITHMETIC[profile])
    except InferenceError:  # An operator that lacks the arithmetic: nothing is known.
        return []
    return [_ALLOWANCE * _largest(a - b) for a, b in zip(coarse, fine, strict=True)]


def _outputs(module: nn.Module, inputs: Any, dtype: torch.dtype) -> list[np.ndarray]:
    copy = inference_copy(module, dtype)
    return [output.double().cpu().numpy() for output in run(copy, as_inputs(copy, inputs))]


def _largest(difference: np.ndarray) -> float:
    finite = np.isfinite(difference)
    return float(np.abs(difference[finite]).max()) if finite.any() else 0.0
