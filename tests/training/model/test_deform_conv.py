"""Deformable convolution against a loop over pixels in float64, and against ONNX's reference."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dtfsal.training.model.deform_conv import ModulatedDeformConv2d, deform_conv2d

# The loop and the vectorised form add the same float64 products in another order.
ORDER_OF_SUMS = 1e-12


def sample(image, y, x):
    """Bilinear sample of (H, W) at (y, x), zero outside: the definition, corner by corner."""
    height, width = image.shape
    y0, x0 = math.floor(y), math.floor(x)
    value = 0.0
    for row in (y0, y0 + 1):
        for column in (x0, x0 + 1):
            if 0 <= row < height and 0 <= column < width:
                value += image[row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return value


def by_loops(x, offset, mask, weight, bias, stride, padding, dilation):
    n, channels, _, _ = x.shape
    out_channels, _, kh, kw = weight.shape
    _, _, out_h, out_w = offset.shape
    result = np.zeros((n, out_channels, out_h, out_w))
    for b in range(n):
        for i in range(out_h):
            for j in range(out_w):
                for k in range(kh * kw):
                    y = i * stride - padding + (k // kw) * dilation + offset[b, 2 * k, i, j]
                    z = j * stride - padding + (k % kw) * dilation + offset[b, 2 * k + 1, i, j]
                    m = 1.0 if mask is None else mask[b, k, i, j]
                    for c in range(channels):
                        result[b, :, i, j] += weight[:, c, k // kw, k % kw] * m * sample(x[b, c], y, z)
    return result if bias is None else result + bias[:, None, None]


def random_case(
    rng, *, n=1, channels=2, out_channels=3, size=(5, 6), kernel=3, stride=1, padding=1, dilation=1, spread=2.0
):
    extent = dilation * (kernel - 1) + 1
    out = [(s + 2 * padding - extent) // stride + 1 for s in size]
    return {
        "x": rng.standard_normal((n, channels, *size)),
        "offset": spread * rng.standard_normal((n, 2 * kernel**2, *out)),
        "mask": rng.random((n, kernel**2, *out)),
        "weight": rng.standard_normal((out_channels, channels, kernel, kernel)),
        "bias": rng.standard_normal(out_channels),
    }


def run(case, **geometry):
    tensors = [None if value is None else torch.from_numpy(value) for value in case.values()]
    return deform_conv2d(*tensors, **geometry).numpy()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 2),
    channels=st.integers(1, 3),
    size=st.tuples(st.integers(3, 7), st.integers(3, 7)),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    spread=st.sampled_from([0.0, 0.3, 2.0, 20.0]),
    masked=st.booleans(),
    biased=st.booleans(),
)
def test_equals_the_definition(seed, n, channels, size, kernel, stride, padding, dilation, spread, masked, biased):
    assume(min(size) + 2 * padding > (kernel - 1) * dilation)
    rng = np.random.default_rng(seed)
    geometry = {"stride": stride, "padding": padding, "dilation": dilation}
    case = random_case(rng, n=n, channels=channels, size=size, kernel=kernel, spread=spread, **geometry)
    case["mask"] = case["mask"] if masked else None
    case["bias"] = case["bias"] if biased else None
    np.testing.assert_allclose(run(case, **geometry), by_loops(**case, **geometry), rtol=0, atol=1e2 * ORDER_OF_SUMS)


@pytest.mark.parametrize("offset", [0.0, 1.0, -1.0, 0.5, -0.25, 3.75, 1e6, -1e6])
def test_borders_integers_and_fractions(offset):
    case = random_case(np.random.default_rng(1), padding=1)
    case["offset"][:] = offset
    expected = by_loops(**case, stride=1, padding=1, dilation=1)
    np.testing.assert_allclose(run(case, padding=1), expected, rtol=0, atol=1e2 * ORDER_OF_SUMS)


def test_zero_offset_and_full_mask_is_a_plain_convolution():
    case = random_case(np.random.default_rng(2))
    case["offset"][:] = 0
    case["mask"][:] = 1
    plain = torch.nn.functional.conv2d(*(torch.from_numpy(case[k]) for k in ("x", "weight", "bias")), padding=1)
    np.testing.assert_allclose(run(case, padding=1), plain.numpy(), rtol=0, atol=1e2 * ORDER_OF_SUMS)


def test_agrees_with_the_onnx_reference():
    reference = pytest.importorskip("onnx.reference")
    import onnx
    from onnx import helper

    case = random_case(np.random.default_rng(3), n=2)
    names = ["x", "weight", "offset", "bias", "mask"]
    geometry = {"kernel_shape": [3, 3], "pads": [1] * 4, "strides": [1, 1], "dilations": [1, 1]}
    node = helper.make_node("DeformConv", names, ["y"], group=1, offset_group=1, **geometry)
    inputs = [helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, None) for name in names]
    output = helper.make_tensor_value_info("y", onnx.TensorProto.DOUBLE, None)
    graph = helper.make_graph([node], "g", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)])
    expected = reference.ReferenceEvaluator(model).run(None, {name: case[name] for name in names})[0]
    # The reference samples in float32: 24 bits of values around 1, some 20 of them in a sum.
    np.testing.assert_allclose(run(case, padding=1), expected, rtol=0, atol=1e-5)


def test_gradients_are_those_of_finite_differences():
    case = random_case(np.random.default_rng(4), channels=1, out_channels=1, size=(3, 4), spread=0.4)
    inputs = [torch.from_numpy(value).requires_grad_() for value in case.values()]
    assert torch.autograd.gradcheck(lambda *args: deform_conv2d(*args, padding=1), inputs)


def test_coordinates_are_not_half_precision():
    # Beyond column 1,024 fp16 has steps of one pixel: a quarter of a pixel would be lost, and the sample be 0 or 1.
    x = (torch.arange(2048) % 2).half().expand(1, 1, 1, -1)
    offset = torch.zeros(1, 2, 1, 2048).half()
    offset[:, 1] = 0.25
    y = deform_conv2d(x, offset, None, torch.ones(1, 1, 1, 1).half(), None)
    assert y[0, 0, 0, 1500].item() == 0.25
    assert y[0, 0, 0, 1501].item() == 0.75


def test_module_starts_as_half_a_plain_convolution():
    torch.manual_seed(0)
    module = ModulatedDeformConv2d(4, 5).double()
    x = torch.randn(2, 4, 6, 7, dtype=torch.float64)
    with torch.no_grad():
        plain = torch.nn.functional.conv2d(x, module.weight, padding=1)
        # The modulation starts at sigmoid(0) = 1/2 and the bias at 0.
        torch.testing.assert_close(module(x), plain / 2, rtol=0, atol=1e-12)
