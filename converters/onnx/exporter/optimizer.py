"""Optimization of a traced graph: constants and batch normalization are folded, shapes merged.

The optimizer of `torch.onnx.export` takes every addend up to 1e-8 for 0 and every factor within
1e-5 of 1 for 1: without its `eps` a normalization divides 0 by 0. So the graph is exported as it
was traced, and optimized here by the rules that keep what it computes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir
from onnx_ir import convenience, traversal
from onnx_ir.passes import PassManager, Sequential, common
from onnxscript import rewriter
from onnxscript.optimizer import fold_constants
from onnxscript.rewriter.rules import common as rules

from .attention_rules import TRANSPOSED_KEYS
from .graph_rules import (
    NO_NEUTRAL_CONSTANTS,
    NO_PADS,
    ONE_LRN,
    ONE_SLICE,
    RESHAPE_ALONE,
    TRANSPOSE_BEHIND_PRODUCT,
)
from .weight_names import name_weights, transposed_weights

#: onnxscript's default rules in their order, without those that compare constants by a tolerance
#: (`add_0`, `sub_0`, `mul_by_1`, `div_by_1`), and without `slice_split`, which gives the middle of
#: an odd size to the wrong half.
_RULES = (
    rules.dropout_zero_rule,
    rules.dropout_inference_rule,
    rules.two_reshapes_matmul_reshape_rule,
    rules.one_reshape_matmul_reshape_rule,
    rules.cast_constant_of_shape_rule,
    rules.cast_constant_of_shape_without_value_rule,
    rules.collapse_slice_rule,
    rules.collapse_slice2_rule,
    rules.materialize_reshape_shape_rule,
    rules.min_min_rule,
    rules.max_max_rule,
    rules.min_max_rule,
    rules.max_min_rule,
    rules.successive_clip_relu_rule,
    rules.successive_relu_clip_rule,
    rules.successive_relu_rule,
    rules.successive_clip_rule,
    rules.cast_cast_rule,
    rules.no_op_cast_rule,
    rules.no_op_expand_rule,
    rules.flatten_to_reshape_rule,
    ONE_SLICE,
    RESHAPE_ALONE,
    rules.reshape_reshape_rule,
    rules.no_op_transpose_rule,
    rules.transpose_transpose_rule,
    rules.unsqueeze_unsqueeze_rule,
    rules.squeeze_reshape_1d_rule,
    rules.no_op_dynamic_scatter_nd_rule,
    rules.no_op_static_scatter_nd_rule,
    rules.normalize_pad_format_conv_rule,
    rules.fuse_pad_into_conv_rule,
    rules.fuse_batchnorm_into_conv_rule,
    rules.fuse_batchnorm_into_conv_transpose_rule,
    rules.fuse_batchnorm_into_gemm_rule,
    rules.remove_optional_bias_from_conv_rule,
    rules.remove_optional_bias_from_conv_transpose_rule,
    rules.remove_optional_bias_from_gemm_rule,
    TRANSPOSE_BEHIND_PRODUCT,
    TRANSPOSED_KEYS,
    NO_PADS,
    *NO_NEUTRAL_CONSTANTS,
)

#: Operators whose output can be much larger than their inputs.
EXPANDING = ("ConstantOfShape", "Expand", "Range", "Tile")
#: How many numbers such an operator may give to be computed ahead; a file need not contain more.
_LARGEST = 2**16


def is_large(operator: str, inputs: Sequence[np.ndarray | None]) -> bool:
    """Return whether an operator makes so much of constants that a file need not contain it.

    Args:
        operator: Its name in ONNX.
        inputs: What it is given; None where that is unknown.
    """
    if operator not in EXPANDING:
        return False
    if any(array is None for array in inputs):
        return True
    arrays = [array.astype(np.float64) for array in inputs if array is not None]
    if operator == "Range":
        start, limit, step = (array.item() for array in arrays)
        return bool(step == 0 or (limit - start) / step > _LARGEST)
    size = float(np.prod(arrays[-1])) * (arrays[0].size if operator != "ConstantOfShape" else 1)
    return size > _LARGEST


def optimize(model: onnx_ir.Model) -> dict[str, str]:
    """Optimize a graph in place; it computes the same values on every input.

    Returns:
        Which constants were named after the weights that they are (see `name_weights`).
    """
    common.InlinePass()(model)
    weights = transposed_weights(model)
    Sequential(
        PassManager([_FoldConstants(), _Rewrite()], steps=2, early_stop=True),
        common.RemoveUnusedNodesPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.LiftSubgraphInitializersToMainGraphPass(),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        _PlainReshapes(),
        _FlatConcats(),
        common.OutputFixPass(),
        common.NameFixPass(),
    )(model)
    return name_weights(model, weights)


class _FoldConstants(onnx_ir.passes.InPlacePass):
    """Computes what depends on constants only, weights included."""

    def call(self, model: onnx_ir.Model) -> Any:
        """Fold the constants of a graph."""
        return fold_constants(
            model,
            onnx_shape_inference=True,
            output_size_limit=2**31,
            should_fold=_is_worth_storing,
        )


def _is_worth_storing(node: onnx_ir.Node) -> bool:
    if node.op_type not in EXPANDING:
        return True
    tensors = [value.const_value for value in node.inputs if value is not None]
    arrays = [None if tensor is None else tensor.numpy() for tensor in tensors]
    return not is_large(node.op_type, arrays)


class _Rewrite(onnx_ir.passes.InPlacePass):
    """Applies the rules."""

    def call(self, model: onnx_ir.Model) -> onnx_ir.passes.PassResult:
        """Rewrite a graph."""
        # First, before a factor of 1 or an addend of 0 is taken out of what it replaces.
        changed = rewriter.RewriteRuleSet([ONE_LRN]).apply_to_model(model)
        changed += rewriter.RewriteRuleSet(_RULES).apply_to_model(model)
        _restore_initializers(model.graph)
        common.IdentityEliminationPass()(model)
        common.RemoveUnusedNodesPass()(model)
        return onnx_ir.passes.PassResult(model, bool(changed))


def _restore_initializers(graph: onnx_ir.Graph) -> None:
    """Give back to a graph the constants that its nodes read and it no longer has.

    onnxscript names the limits that it joins after the value that they limit: those of a second
    branch that limits the same value take the place of the first.
    """
    for node in traversal.RecursiveGraphIterator(graph):
        for value in node.inputs:
            if value is None or value.const_value is None or value.producer() is not None:
                continue
            if value.graph is None:
                value.name = _unused_name(graph, str(value.name))
                graph.register_initializer(value)


def _unused_name(graph: onnx_ir.Graph, name: str) -> str:
    names = (f"{name}_{number}" for number in itertools.count(1))
    return next(one for one in names if one not in graph.initializers)


class _PlainReshapes(onnx_ir.passes.InPlacePass):
    """Removes `allowzero`, which some programs do not read, where no size is 0.

    A size that is computed is 0 for an empty batch only.
    """

    def call(self, model: onnx_ir.Model) -> onnx_ir.passes.PassResult:
        """Remove the attribute from every Reshape that has no use for it."""
        changed = False
        for node in traversal.RecursiveGraphIterator(model.graph):
            if node.op_type == "Reshape" and "allowzero" in node.attributes:
                sizes = None if node.inputs[1] is None else node.inputs[1].const_value
                if sizes is None or sizes.numpy().all():
                    del node.attributes["allowzero"]
                    changed = True
        return onnx_ir.passes.PassResult(model, changed)


class _FlatConcats(onnx_ir.passes.InPlacePass):
    """Joins in one node what is joined in several along the same axis."""

    def call(self, model: onnx_ir.Model) -> onnx_ir.passes.PassResult:
        """Put the inputs of a Concat that only another one takes in its place."""
        changed = False
        for node in [node for node in model.graph if node.op_type == "Concat"]:
            parts: list[onnx_ir.Value | None] = []
            joined: list[onnx_ir.Node] = []
            for value in node.inputs:
                producer = _part_of(node, value)
                parts += [value] if producer is None else producer.inputs
                joined += [] if producer is None else [producer]
            if joined:
                whole = onnx_ir.Node("", "Concat", parts, node.attributes.values(), name=node.name)
                convenience.replace_nodes_and_values(
                    model.graph, node, [node], [whole], node.outputs, whole.outputs
                )
                model.graph.remove(joined, safe=True)
                changed = True
        return onnx_ir.passes.PassResult(model, changed)


def _part_of(node: onnx_ir.Node, value: onnx_ir.Value | None) -> onnx_ir.Node | None:
    """Return the Concat that gives a value to another one along the same axis, and to nothing else.

    None if the value comes from elsewhere.
    """
    producer = None if value is None else value.producer()
    if value is None or producer is None or producer.op_type != "Concat":
        return None
    is_alone = len(value.uses()) == 1 and not value.is_graph_output()
    axes = [one.attributes["axis"].as_int() for one in (producer, node)]
    return producer if is_alone and axes[0] == axes[1] else None
