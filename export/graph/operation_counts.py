"""What an operator's arithmetic counts beside products, by one table for ONNX's operators and PyTorch's.

Products (convolutions, matrix products, attention) count two operations for each multiply-accumulate, and are counted
elsewhere. Here one operation is one addition, multiplication, comparison, division or elementary function of one value:

- pointwise operators: one for each value of their output, unless they are made of several;
- sigmoid 4 (negate, exponential, add, divide); GELU 5 (scale, erf, add, two multiplications);
- softmax 5 for each score (greatest, subtract, exponential, add up, divide);
- batch normalisation 2 for each value (scale and shift), none where an exporter folds it into a convolution;
- layer normalisation 7 for each value (mean, subtract, square and add up, scale, two of scale and shift);
- a mean, a sum or a greatest value 1 for each value that goes in; those of a window 1 for each of its places;
- bilinear resizing 9 for each value: three straight lines, a + (b - a) t;
- deformable sampling 8 for each value sampled (four corners weighted and added, and the mask);
- quantising 5 for each value (scale, round, add the zero point, clip at two ends), dequantising 2.

Moving data counts nothing.
"""

import math
from collections.abc import Mapping, Sequence

Shape = tuple[int, ...]

SIGMOID, GELU, SOFTMAX, LAYER_NORM, BATCH_NORM, BILINEAR, DEFORMABLE_SAMPLE = 4, 5, 5, 7, 2, 9, 8
QUANTISE, DEQUANTISE = 5, 2

# ONNX's pointwise operators, by what each value of the output costs.
_POINTWISE: Mapping[str, int] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Neg", "Relu", "Sqrt", "Exp", "Erf", "Floor", "Min", "Max", "Abs"), 1),
    **dict.fromkeys(("And", "Not", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "Where", "Round"), 1),
    "Clip": 2,
    "QuantizeLinear": QUANTISE,
    "DequantizeLinear": DEQUANTISE,
    "Sigmoid": SIGMOID,
    "Softmax": SOFTMAX,
    "Gelu": GELU,
    "LayerNormalization": LAYER_NORM,
    "BatchNormalization": BATCH_NORM,
}


def other_operations(operator: str, inputs: Sequence[Shape], output: Shape, attributes: Mapping[str, object]) -> int:
    """Operations of an ONNX operator or a custom one that are not products.

    Args:
        operator: its name.
        inputs: shapes; an absent optional input is ().
        output: the first output's.
        attributes: of the node.
    """
    if operator in _POINTWISE:
        return _POINTWISE[operator] * math.prod(output)
    if operator in ("ReduceMean", "ReduceSum", "ReduceMax", "GlobalAveragePool"):
        return math.prod(inputs[0])
    if operator in ("MaxPool", "AveragePool"):
        kernel = attributes["kernel_shape"]
        assert isinstance(kernel, list | tuple)
        return math.prod(output) * math.prod(kernel)
    if operator == "Resize":
        return BILINEAR * math.prod(output)
    if operator in ("Conv", "Gemm") and len(inputs) > 2:
        return math.prod(output)  # the bias
    if operator == "Attention":
        q, k = inputs[0], inputs[1]
        return SOFTMAX * q[0] * q[1] * q[2] * k[2]
    if operator in ("DeformConv", "DeformConv2d"):
        weight = inputs[1]
        taps = weight[2] * weight[3] if operator == "DeformConv" else weight[1] * weight[2]
        channels = inputs[0][1]
        return DEFORMABLE_SAMPLE * output[0] * channels * taps * output[2] * output[3] + math.prod(output)
    return _own_operations(operator, inputs, output, attributes)


def _own_operations(operator: str, inputs: Sequence[Shape], output: Shape, attributes: Mapping[str, object]) -> int:
    """Of the operators of `dtfsal.engines.native.cpu_kernels`."""
    if operator == "Linear":
        return math.prod(output) * (1 + (GELU if attributes.get("gelu") else 0))
    if operator == "WinogradConv":
        images, _, rows, columns = inputs[0]
        values = images * inputs[1][0] * rows * columns
        activation = {0: 0, 1: 1, 2: SIGMOID}[int(str(attributes.get("activation", 0)))]
        return values * (1 + activation + int(bool(attributes.get("spatial_mean"))))
    if operator == "PooledAttention":
        queries, keys, heads, dim = attention_sizes(inputs, output, attributes)
        # The softmax, and adding the positions: of places once for each query, to each score once; then the residual.
        scores = heads * queries * keys
        return scores * (SOFTMAX + 1) + LAYER_NORM * heads * dim * (queries + 2 * keys) + math.prod(output)
    return 0


def attention_sizes(
    inputs: Sequence[Shape], output: Shape, attributes: Mapping[str, object]
) -> tuple[int, int, int, int]:
    """Queries (of all clips), keys, heads and head dimension of a `PooledAttention`."""
    heads = int(str(attributes["heads"]))
    keys = 1 + math.prod(table[1] for table in inputs[3:6])
    return output[0] * output[1], keys, heads, output[2] // heads
