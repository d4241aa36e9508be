"""Simplify an exported graph: fold what is constant, drop what does nothing, keep one of equal nodes.

The passes are those of `onnxscript.optimizer.optimize`, and so is the graph that comes out, byte for byte. Its rules
are named one by one because of `slice_split_rule`, which fits nothing here and compares every node with every other:
it was more than half of the full model's export (70 seconds with it, 31 without).
"""

import onnx_ir
from onnx_ir.passes import PassManager, Sequential, common
from onnxscript.optimizer import fold_constants_ir
from onnxscript.rewriter import RewritePass
from onnxscript.rewriter.rules import common as rules

# Folding makes no constant larger than this: the largest wanted are level 1's token maps (20 MB for DTFSal).
FOLD_LIMIT_BYTES = 64 * 2**20
_ROUNDS = 2
_RULES = (
    rules.mul_by_1_rule,
    rules.add_0_rule,
    rules.sub_0_rule,
    rules.div_by_1_rule,
    rules.dropout_inference_rule,
    rules.materialize_reshape_shape_rule,
    rules.cast_cast_rule,
    rules.no_op_cast_rule,
    rules.no_op_expand_rule,
    rules.reshape_reshape_rule,
    rules.no_op_transpose_rule,
    rules.transpose_transpose_rule,
    rules.unsqueeze_unsqueeze_rule,
    rules.squeeze_reshape_1d_rule,
    rules.collapse_slice_rule,
    rules.normalize_pad_format_conv_rule,
    rules.fuse_pad_into_conv_rule,
    rules.fuse_batchnorm_into_conv_rule,
    rules.remove_optional_bias_from_conv_rule,
    rules.remove_optional_bias_from_conv_transpose_rule,
    rules.remove_optional_bias_from_gemm_rule,
)


class _Folding(onnx_ir.passes.InPlacePass):
    """Compute what depends on constants alone."""

    def call(self, model: onnx_ir.Model) -> onnx_ir.passes.PassResult:
        return fold_constants_ir(
            model,
            onnx_shape_inference=True,
            input_size_limit=FOLD_LIMIT_BYTES,
            output_size_limit=FOLD_LIMIT_BYTES,
        )


def simplify(model: onnx_ir.Model) -> None:
    """Simplify a graph in place; what it computes stays the same."""
    one_round = [_Folding(), RewritePass(_RULES), common.RemoveUnusedNodesPass()]
    Sequential(
        common.InlinePass(),
        PassManager(one_round, steps=_ROUNDS, early_stop=True),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    )(model)
