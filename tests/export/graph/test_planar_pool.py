"""The pooling in 2-D convolutions: equal to the 3-D one in float64, whatever the sizes, and in the graph."""

import dataclasses

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dtfsal.benchmarks.accuracy.parity import BARS, compare, worst
from dtfsal.export.graph.conversion import count_operators, to_onnx
from dtfsal.export.graph.planar_pool import PlanarPool
from dtfsal.export.request import FORMS
from dtfsal.training.model.inputs import synthetic_windows


def depthwise(channels, spatial_stride, **changes):
    stride = (1, spatial_stride, spatial_stride)
    arguments = {"kernel_size": 3, "stride": stride, "padding": 1, "groups": channels, "bias": False}
    return torch.nn.Conv3d(channels, channels, **(arguments | changes)).double()


@settings(deadline=None, max_examples=40)
@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 5),
    times=st.integers(1, 6),
    size=st.tuples(st.integers(1, 11), st.integers(1, 11)),
    stride=st.sampled_from([1, 2, 4, 8]),
    seed=st.integers(0, 2**16),
)
def test_it_is_the_3d_convolution(batch, channels, times, size, stride, seed):
    torch.manual_seed(seed)
    conv = depthwise(channels, stride)
    x = torch.randn(batch, channels, times, *size, dtype=torch.float64)
    with torch.no_grad():
        # 27 products of values around 1, in float64.
        torch.testing.assert_close(PlanarPool(conv)(x), conv(x), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "changes", [{"groups": 1}, {"bias": True}, {"stride": (2, 1, 1)}, {"dilation": 2}, {"padding": 0}]
)
def test_other_convolutions_are_refused(changes):
    with pytest.raises(ValueError, match="not a depthwise"):
        PlanarPool(depthwise(4, 1, **changes))


@pytest.mark.slow
def test_the_graph_in_2d_computes_the_same_maps(model_of):
    model = model_of("tiny")
    graph = to_onnx(model, dataclasses.replace(FORMS["onnxruntime"]["fp32"], pooling="conv2d"))
    poolings = [node for node in graph.graph.node if node.op_type == "Conv" and ".pool_" in node.name]
    assert len(poolings) == 3 * 3 * 5  # three taps of queries, keys and values in five blocks
    assert all(
        len(onnx_attribute(node, "kernel_shape")) == 2 and onnx_attribute(node, "group") == 16 for node in poolings
    )
    assert count_operators(graph)["Attention"] == 6
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    results = []
    for inputs in synthetic_windows(model.config, 2):
        with torch.no_grad():
            expected = model(*(torch.from_numpy(value) for value in inputs.values()))[0, 0].numpy()
        results.append(compare(expected, session.run(None, inputs)[0][0, 0]))
    assert np.isfinite(worst(results).max_abs_error)
    assert not BARS["fp32"].misses(worst(results)), worst(results)


def onnx_attribute(node, name):
    import onnx

    return next(onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name)
