"""A reduced graph's rounding on a machine without kernels of its type: computed in float32, rounded where it rounds.

ONNX Runtime's CPU provider has no BF16 kernels and computes FP16 in steps of its own. In the emulation every weight
and every value of the reduced type is rounded to it once, at the node that gives it, and each node computes in float32.
That is what a GPU's kernels do that accumulate in float32; fused ones round less often.
"""

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from dtfsal.export.precision.half import REDUCED_TYPES, ReducedPrecision


def emulated(model: onnx.ModelProto, precision: ReducedPrecision) -> onnx.ModelProto:
    """A float32 graph that gives the values of a reduced one.

    Args:
        model: what `to_reduced` gave.
        precision: its type.
    """
    reduced = REDUCED_TYPES[precision].onnx_type
    inferred = onnx.shape_inference.infer_shapes(model).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in [*inferred.value_info, *inferred.output]}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    nodes: list[NodeProto] = []
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == reduced:
                attribute.i = TensorProto.FLOAT
        nodes.append(node)
        for position, name in enumerate(node.output):
            if kinds.get(name) == reduced:
                node.output[position] = f"{name}/exact"
                nodes += _rounded(f"{name}/exact", name, reduced)
    weights = [
        numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
        if tensor.data_type == reduced
        else tensor
        for tensor in graph.initializer
    ]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
    return copy


def _rounded(name: str, result: str, reduced: int) -> list[NodeProto]:
    """Casts to the reduced type and back."""
    narrow = f"{result}/narrow"
    return [
        helper.make_node("Cast", [name], [narrow], name=f"round/{result}", to=reduced),
        helper.make_node("Cast", [narrow], [result], name=f"widen/{result}", to=TensorProto.FLOAT),
    ]
