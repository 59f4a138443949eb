"""Rewrite rules for attention: torch's translation transposes keys by way of computed shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnxscript import rewriter

#: What torch reshapes keys to before it exchanges their last two axes.
_FLAT_AXES = 3


def _transposed_keys(op: Any, x: Any, flat: Any, second: Any, last: Any, first: Any) -> Any:
    """Match keys (…, L, D), made (-1, L, D), exchanged, and made (…, D, L)."""
    flattened = op.Reshape(x, op.Concat(flat, second, last, axis=0), _allow_other_attributes=True)
    exchanged = op.Transpose(flattened, perm=[0, 2, 1])
    return op.Reshape(
        exchanged, op.Concat(first, last, second, axis=0), _allow_other_attributes=True
    )


def _is_shape_of(context: Any, x: Any, flat: Any, second: Any, last: Any, first: Any) -> bool:
    """Whether the sizes are those of the keys themselves."""
    if x.shape is None or flat.const_value is None or flat.const_value.numpy().tolist() != [-1]:
        return False
    axes = len(x.shape)
    bounds = ((first, 0, axes - 2), (second, axes - 2, axes - 1), (last, axes - 1, axes))
    return axes >= _FLAT_AXES and all(_is_slice(value, x, *ends) for value, *ends in bounds)


def _is_slice(value: Any, x: Any, start: int, stop: int) -> bool:
    """Whether a value holds some of the sizes of another one."""
    node = value.producer()
    shape = None if node is None or node.op_type != "Slice" else node.inputs[0].producer()
    if shape is None or shape.op_type != "Shape" or shape.inputs[0] is not x:
        return False
    ends = [one.const_value for one in node.inputs[1:3] if one.const_value is not None]
    if len(ends) != len(("start", "end")):
        return False
    first, last = (int(np.ravel(end.numpy())[0]) for end in ends)
    return range(len(x.shape))[first:last] == range(start, stop)


def _exchanged(op: Any, x: Any, **_: Any) -> Any:
    axes = list(range(len(x.shape)))
    return op.Transpose(x, perm=[*axes[:-2], axes[-1], axes[-2]])


#: Keys are transposed by one node.
TRANSPOSED_KEYS = rewriter.pattern.RewriteRule(
    _transposed_keys, _exchanged, _is_shape_of, name="transposed_keys"
)
