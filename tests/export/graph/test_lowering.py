"""Every form computes what PyTorch computes: FP32 to rounding, FP16 to the field's measures."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from dtfsal.benchmarks.accuracy.parity import BARS, compare, worst
from dtfsal.export.graph import lowering
from dtfsal.export.graph.conversion import to_onnx
from dtfsal.export.graph.lowering import Forms
from dtfsal.training.model.deform_conv import deform_conv2d
from dtfsal.training.model.encoders.mvit import key_coordinates
from dtfsal.training.model.inputs import synthetic_windows
from dtfsal.training.model.network import DTFSal


def session(graph):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])


def with_standard_deform_conv(graph):
    """The plugin's node as ONNX's operator of the same inputs: what the plugin must compute, on the CPU."""
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    weights = {tensor.name: tensor for tensor in copy.graph.initializer}
    for node in copy.graph.node:
        if node.domain == "dtfsal":
            weight = weights[node.input[1]]  # channels last
            turned = onnx.numpy_helper.to_array(weight).transpose(0, 3, 1, 2)
            weight.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(turned), weight.name))
            given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            standard = onnx.helper.make_node(
                "DeformConv",
                list(node.input),
                list(node.output),
                name=node.name,
                strides=given["stride"],
                pads=[*given["padding"], *given["padding"]],
                dilations=given["dilation"],
                group=given["groups"],
                offset_group=given["offset_groups"],
            )
            node.CopyFrom(standard)
    return copy


@pytest.mark.parametrize(
    ("preset", "target", "precision"),
    [
        ("tiny", "onnxruntime", "fp32"),
        ("tiny", "onnxruntime", "fp16"),
        ("tiny", "tensorrt-rtx", "fp32"),
        ("tiny", "tensorrt-rtx", "fp16"),
        ("tiny", "tensorrt", "fp16"),
        ("tiny-v", "onnxruntime", "fp32"),
        ("tiny-v", "onnxruntime", "fp16"),
    ],
)
def test_parity_with_pytorch(model_of, graph_of, preset, target, precision):
    model = model_of(preset)
    engine = session(with_standard_deform_conv(graph_of(preset, target, precision)))
    results = []
    for inputs in synthetic_windows(model.config, 2):
        with torch.no_grad():
            expected = model(*(torch.from_numpy(value) for value in inputs.values()))[0, 0].numpy()
        results.append(compare(expected, engine.run(None, inputs)[0][0, 0]))
    assert not BARS[precision].misses(worst(results)), worst(results)


class OneDeformConv(torch.nn.Module):
    """A deformable convolution alone, in a form."""

    def __init__(self, operator):
        super().__init__()
        self.operator = operator

    def forward(self, x, offset, mask, weight, bias):
        return self.operator(x, offset, mask, weight, bias, padding=1)


@pytest.mark.parametrize("form", ["native", "gather"])
@pytest.mark.parametrize("spread", [0.0, 0.4, 3.0, 50.0])
def test_each_form_of_deformable_convolution_equals_float64(form, spread):
    """Borders, fractions and far outside, through ONNX Runtime, against float64 in PyTorch (itself held to loops)."""
    from dtfsal.export.graph.lowering import DEFORM_CONV_FORMS

    generator = torch.Generator().manual_seed(3)
    shapes = [(2, 6, 7, 12), (2, 18, 7, 12), (2, 9, 7, 12), (5, 6, 3, 3), (5,)]
    x, offset, mask, weight, bias = (torch.randn(shape, generator=generator) for shape in shapes)
    offset = spread * offset
    if spread == 0.4:
        offset[:, :2] = 1.0  # exact integers among the fractions
    inputs = (x, offset, mask.sigmoid(), weight, bias)
    program = torch.onnx.export(
        OneDeformConv(DEFORM_CONV_FORMS[form]).eval(),
        inputs,
        dynamo=True,
        opset_version=23,
        verbose=False,
        optimize=False,
    )
    names = [value.name for value in program.model_proto.graph.input]
    feed = dict(zip(names, (value.numpy() for value in inputs), strict=True))
    ours = session(program.model_proto).run(None, feed)[0]
    expected = deform_conv2d(*(value.double() for value in inputs), padding=1).numpy()
    # 54 products of float32 values around 1; positions of up to 50 pixels lose 2^-18 of a pixel.
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-3 if spread > 10 else 2e-5)


def test_the_plugin_form_carries_the_same_inputs_as_the_native_one(graph_of):
    """The plugin graph with its node replaced by DeformConv is what parity runs; here the inputs' order is held.

    The weight is a constant with its input channels last, not a transposition at run time.
    """
    graph = graph_of("tiny", "tensorrt", "fp16")
    (node,) = [n for n in graph.graph.node if n.domain == "dtfsal"]
    known = onnx.shape_inference.infer_shapes(with_standard_deform_conv(graph)).graph.value_info
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in known}
    shapes |= {t.name: list(t.dims) for t in graph.graph.initializer}
    assert [shapes[name] for name in node.input] == [[8, 64, 3, 5], [32, 3, 3, 64], [8, 18, 3, 5], [32], [8, 9, 3, 5]]
    assert node.input[1] in {tensor.name for tensor in graph.graph.initializer}


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["dtfsal", "dtfsal-v"])
def test_parity_of_the_full_models(preset, tmp_path):
    """Full size through ONNX Runtime: FP32 to 1e-4, FP16 to CC 0.999 and one pixel at 224x384."""
    from dtfsal.export.precision.half import to_reduced
    from dtfsal.training.model.precision import declared_precisions
    from dtfsal.training.model.seeded import seeded_model

    model: DTFSal = seeded_model(preset)
    graph = to_onnx(model, Forms(deform_conv="native", attention="chunked"))
    (inputs,) = synthetic_windows(model.config, 1)
    with torch.no_grad():
        expected = model(*(torch.from_numpy(value) for value in inputs.values()))[0, 0].numpy()
    assert expected.std() > 0.1  # not degenerate
    for precision, candidate in (("fp32", graph), ("fp16", to_reduced(graph, "fp16", declared_precisions(model)))):
        result = compare(expected, session(candidate).run(None, inputs)[0][0, 0])
        assert not BARS[precision].misses(result), (precision, result)


def test_many_scores_are_several_nodes_and_the_same_attention(monkeypatch):
    """Chunks of queries over several nodes, the last one smaller, against one attention over all."""
    monkeypatch.setattr(lowering, "QUERIES_PER_CHUNK", 4)
    monkeypatch.setattr(lowering, "SCORES_PER_NODE", 2 * 3 * 4 * 7)  # three of the chunks, of two heads
    torch.manual_seed(0)
    queries, keys, dim = 1 + 28, 7, 8
    q, k, v = (torch.randn(1, 2, n, dim) for n in (queries, keys, keys))
    biases = [torch.randn(1, 2, queries - 1, n) for n in (1, 2, 3)]
    coordinates = key_coordinates((1, 2, 3))
    calls = []
    attention = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda q, *rest, **options: calls.append(q.shape[1]) or attention(q, *rest, **options),
    )
    y = lowering.ATTENTION_FORMS["chunked"](q, k, v, biases, coordinates)
    assert calls == [2 * 3, 2 * 3, 2 * 2]
    torch.testing.assert_close(y, lowering.ATTENTION_FORMS["whole"](q, k, v, biases, coordinates))


@pytest.mark.parametrize(("batch", "channels"), [(1, 1), (2, 8), (3, 4)])
def test_a_convolution_to_one_channel_as_a_product_is_the_convolution(batch, channels):
    torch.manual_seed(channels)
    conv = torch.nn.Conv2d(channels, 1, 1).double()
    x = torch.randn(batch, channels, 5, 7, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(lowering.PointwiseProduct(conv)(x), conv(x), rtol=0, atol=1e-12)  # order of sums
