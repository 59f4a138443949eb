"""Rewrite rules for what torch's translation leaves in a graph: each gives the same numbers.

Rules of onnxscript that compare constants by a tolerance are written anew here, exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir
from onnxscript import rewriter

#: The layout of what `LocalResponseNorm` pools: (N, 1, C, H, W), its channels padded.
_POOLED_AXES, _CHANNELS = 5, 2
#: The axes of images.
_IMAGES = 4


def _array(value: onnx_ir.Value | None) -> np.ndarray | None:
    """Return the numbers of a constant; None of a value that is computed."""
    return None if value is None or value.const_value is None else value.const_value.numpy()


def _product_first(op: Any, x: onnx_ir.Value, weight: onnx_ir.Value, perm: onnx_ir.Attr) -> Any:
    return op.Transpose(op.MatMul(x, weight), perm=perm)


def _is_product_of_rows(
    context: Any, x: onnx_ir.Value, weight: onnx_ir.Value, perm: onnx_ir.Attr
) -> bool:
    """Whether a weight (in, out) multiplies the last axis, which stays where it is."""
    order, constant = list(perm.as_ints()), weight.const_value
    return constant is not None and len(constant.shape) == 2 and order[-1] == len(order) - 1


#: ONNX Runtime 1.23 to 1.32 crashes where LayerNormalization in float16 is transposed and then
#: multiplied, as attention with the batch in front does; the product commutes with the transpose.
TRANSPOSE_BEHIND_PRODUCT = rewriter.pattern.RewriteRule(
    lambda op, x, weight, perm: op.MatMul(op.Transpose(x, perm=perm), weight),
    _product_first,
    _is_product_of_rows,
    name="transpose_behind_product",
    remove_nodes=False,
)


def _unchanged(op: Any, x: onnx_ir.Value, **_: Any) -> Any:
    return op.Identity(x)


def _pads_nothing(context: Any, x: onnx_ir.Value, pads: onnx_ir.Value) -> bool:
    numbers = _array(pads)
    return numbers is not None and not numbers.any()


#: `nn.DepthConcat` of maps of one size pads each by nothing.
NO_PADS = rewriter.pattern.RewriteRule(
    lambda op, x, pads: op.Pad(x, pads, _allow_other_inputs=True, _allow_other_attributes=True),
    _unchanged,
    _pads_nothing,
    name="no_pads",
)


def _is_neutral(number: int) -> Any:
    """Return whether a constant is a number throughout, and the result has the shape of `x`."""

    def is_neutral(context: Any, x: onnx_ir.Value, constant: onnx_ir.Value) -> bool:
        numbers = _array(constant)
        if numbers is None or x.shape is None or not (numbers == number).all():
            return False
        sizes = list(x.shape)[len(x.shape) - numbers.ndim :] if numbers.ndim else []
        return numbers.ndim <= len(x.shape) and all(
            length in (1, size) for length, size in zip(numbers.shape, sizes, strict=True)
        )

    return is_neutral


#: A factor or divisor of exactly 1, and an addend of exactly 0.
NO_NEUTRAL_CONSTANTS = [
    rewriter.pattern.RewriteRule(pattern, _unchanged, _is_neutral(number), name=name)
    for name, number, pattern in (
        ("mul_by_1", 1, lambda op, x, constant: op.Mul(x, constant)),
        ("1_by_mul", 1, lambda op, x, constant: op.Mul(constant, x)),
        ("div_by_1", 1, lambda op, x, constant: op.Div(x, constant)),
        ("add_0", 0, lambda op, x, constant: op.Add(x, constant)),
        ("0_add", 0, lambda op, x, constant: op.Add(constant, x)),
        ("sub_0", 0, lambda op, x, constant: op.Sub(x, constant)),
    )
]


def _response_norm(
    op: Any,
    x: Any,
    two: Any,
    axis: Any,
    pads: Any,
    last_axis: Any,
    alpha: Any,
    k: Any,
    beta: Any,
) -> Any:
    pooled = op.AveragePool(
        op.Pad(
            op.Unsqueeze(op.Pow(x, two), axis),
            pads,
            _allow_other_inputs=True,
            _allow_other_attributes=True,
        ),
        _allow_other_attributes=True,
        _outputs=["pooled"],
    )
    mean = op.Squeeze(pooled, last_axis)
    return op.Div(x, op.Pow(op.Add(op.Mul(mean, alpha), k), beta))


def _as_lrn(op: Any, x: Any, pooled: Any, alpha: Any, k: Any, beta: Any, **_: Any) -> Any:
    node = pooled.producer()
    return op.LRN(
        x,
        alpha=alpha.const_value.numpy().item(),
        beta=beta.const_value.numpy().item(),
        bias=k.const_value.numpy().item(),
        size=int(node.attributes["kernel_shape"].as_ints()[0]),
    )


def _is_lrn(
    context: Any,
    x: Any,
    pooled: Any,
    two: Any,
    axis: Any,
    pads: Any,
    last_axis: Any,
    alpha: Any,
    k: Any,
    beta: Any,
) -> bool:
    """Whether a mean of squares is that over neighboring channels, as ONNX defines it."""
    arrays = [_array(value) for value in (two, axis, pads, last_axis, alpha, k, beta)]
    if x.shape is None or len(x.shape) != _IMAGES or any(array is None for array in arrays):
        return False
    exponent, first, padding, second, *factors = (np.asarray(array) for array in arrays)
    node = pooled.producer()
    padded = node.inputs[0].producer()
    ints = {name: tuple(node.attributes[name].as_ints()) for name in ("kernel_shape", "strides")}
    size, *others = ints["kernel_shape"]
    expected = np.zeros(2 * _POOLED_AXES, np.int64)
    expected[_CHANNELS] = (size - 1) // 2
    expected[_CHANNELS + _POOLED_AXES] = size // 2
    filled = [_array(value) for value in padded.inputs[2:3]]
    return bool(
        exponent == 2
        and first.ravel().tolist() == second.ravel().tolist() == [1]
        and np.array_equal(padding, expected)
        and all(array is not None and not array.any() for array in filled)
        and padded.attributes.get_string("mode", "constant") == "constant"
        # ONNX Runtime takes windows of odd sizes only. From channel to channel it adds and
        # subtracts squares, which loses a small one beside large ones if a window has one alone.
        and size % 2 == 1
        and size > 1
        and others == [1, 1]
        and set(ints["strides"]) == {1}
        and not any(node.attributes.get_ints("pads", [0]))
        and not node.attributes.get_int("ceil_mode", 0)
        and all(factor.size == 1 for factor in factors)
    )


#: `nn.SpatialCrossMapLRN` in one node, which runtimes have code of its own for.
ONE_LRN = rewriter.pattern.RewriteRule(_response_norm, _as_lrn, _is_lrn, name="one_lrn")


#: What a Slice takes behind its input.
_SLICE = ("start", "end", "axis", "step")


def _two_slices(
    op: Any,
    x: Any,
    start: Any,
    end: Any,
    axis: Any,
    step: Any,
    start_2: Any,
    end_2: Any,
    axis_2: Any,
    step_2: Any,
) -> Any:
    inner = op.Slice(x, start, end, axis, step)
    return op.Slice(inner, start_2, end_2, axis_2, step_2)


def _one_slice(op: Any, x: Any, **parts: Any) -> Any:
    joined = [
        np.concatenate([np.asarray(_array(parts[part])).ravel() for part in (name, f"{name}_2")])
        for name in _SLICE
    ]
    return op.Slice(x, *(op.Constant(value=onnx_ir.tensor(one)) for one in joined))


def _are_of_other_axes(context: Any, x: Any, **parts: Any) -> bool:
    """Whether all numbers of two slices are known, and no axis is in both."""
    known = [_array(parts[part]) for name in _SLICE for part in (name, f"{name}_2")]
    if any(array is None for array in known):
        return False
    axes = [set(np.asarray(_array(parts[part])).ravel()) for part in ("axis", "axis_2")]
    return bool(min(axes[0] | axes[1]) >= 0 and not axes[0] & axes[1])


#: `x[:, ::2, ::2]` is two slices of torch, one of ONNX.
ONE_SLICE = rewriter.pattern.RewriteRule(
    _two_slices, _one_slice, _are_of_other_axes, name="one_slice", remove_nodes=False
)


def _reshaped(op: Any, x: Any, shape: Any, **_: Any) -> Any:
    return op.Reshape(x, shape)


def _moves_nothing(context: Any, x: Any, shape: Any, perm: onnx_ir.Attr) -> bool:
    """Whether a transpose moves axes of length 1 only, and no size is taken over from it."""
    sizes = _array(shape)
    if x.shape is None or sizes is None or not sizes.all():
        return False
    moved = [axis for axis in perm.as_ints() if x.shape[axis] != 1]
    return moved == sorted(moved)


#: Windows of a map that is one window wide, as in the last stage of a Swin transformer.
RESHAPE_ALONE = rewriter.pattern.RewriteRule(
    lambda op, x, shape, perm: op.Reshape(op.Transpose(x, perm=perm), shape),
    _reshaped,
    _moves_nothing,
    name="reshape_alone",
    remove_nodes=False,
)
