"""Optimization of a traced graph: constants and batch normalization are folded, shapes merged.

The optimizer of `torch.onnx.export` takes every addend up to 1e-8 for 0 and every factor within
1e-5 of 1 for 1: without its `eps` a normalization divides 0 by 0. So the graph is exported as it
was traced, and optimized here by the rules that keep what it computes.
"""

from __future__ import annotations

from typing import Any

import onnx_ir
from onnx_ir.passes import PassManager, Sequential, common
from onnxscript import rewriter
from onnxscript.optimizer import fold_constants
from onnxscript.rewriter.rules import common as rules

#: onnxscript's default rules in their order, without those that compare constants by a tolerance
#: (`add_0`, `sub_0`, `mul_by_1`, `div_by_1`).
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
    rules.reshape_reshape_rule,
    rules.slice_split_rule,
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
)

#: Operators whose output is much larger than their inputs, which a file need not contain.
EXPANDING = ("ConstantOfShape", "Expand", "Range", "Tile")


def optimize(model: onnx_ir.Model) -> None:
    """Optimize a graph in place; it computes the same values on every input."""
    Sequential(
        common.InlinePass(),
        PassManager([_FoldConstants(), _Rewrite()], steps=2, early_stop=True),
        common.RemoveUnusedNodesPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.LiftSubgraphInitializersToMainGraphPass(),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    )(model)


class _FoldConstants(onnx_ir.passes.InPlacePass):
    """Computes what depends on constants only, weights included."""

    def call(self, model: onnx_ir.Model) -> Any:
        """Fold the constants of a graph."""
        return fold_constants(
            model,
            onnx_shape_inference=True,
            output_size_limit=2**31,
            should_fold=lambda node: node.op_type not in EXPANDING,
        )


class _Rewrite(onnx_ir.passes.InPlacePass):
    """Applies the rules."""

    def call(self, model: onnx_ir.Model) -> onnx_ir.passes.PassResult:
        """Rewrite a graph."""
        changed = rewriter.RewriteRuleSet(_RULES).apply_to_model(model)
        common.RemoveUnusedNodesPass()(model)
        return onnx_ir.passes.PassResult(model, bool(changed))
