"""The CPU's operators against their definitions in float64, for each instruction set that this processor has."""

import math
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dtfsal.benchmarks.count.plain import attend_with_bias
from dtfsal.engines.errors import EngineError
from dtfsal.engines.native.cpu_kernels import LINEAR, POOLED_ATTENTION, WINOGRAD_CONV, register_cpu_kernels
from dtfsal.export.graph.fused_attention import FusedAttention
from dtfsal.training.model.encoders.mvit import MultiscaleAttention

# Float32 sums of up to 300 terms of size 1, and e^x to two units in the last place.
ATTENTION_TOLERANCE = 2e-5
# F(4x4, 3x3) loses two to three bits to its transforms (Lavin & Gray 2016, section 5.3): values of size 5, and 2^-21.
WINOGRAD_TOLERANCE = 2e-4

ATTENTIONS = {
    "whole panels": (96, 1, 4, (4, 8, 12), 96),
    "heads, q pooled": (192, 2, 2, (3, 6, 10), 96),
    "narrow heads, odd sizes": (48, 2, 1, (3, 5, 7), 16),
    "more keys than fit at a time": (32, 1, 1, (5, 9, 11), 32),
    "one time": (32, 1, 2, (1, 7, 3), 32),
}


def attention_case(dim, q_stride, kv_stride, grid, head_dim):
    """A layer with random weights, its joint projection's output (2, N, 3 dim), and what float64 makes of it."""
    torch.manual_seed(0)
    layer = MultiscaleAttention(dim, dim, head_dim, q_stride, kv_stride, grid).eval()
    for name, parameter in layer.named_parameters():
        mean, std = (1.0, 0.2) if "norm_act.0.weight" in name else (0.0, 0.3)
        torch.nn.init.normal_(parameter, mean, std)
    layer.qkv, layer.project = torch.nn.Identity(), torch.nn.Identity()
    qkv = torch.randn(2, 1 + math.prod(grid), 3 * dim)
    exact = MultiscaleAttention(dim, dim, head_dim, q_stride, kv_stride, grid).double().eval()
    exact.qkv, exact.project = torch.nn.Identity(), torch.nn.Identity()
    exact.load_state_dict({name: value.double() for name, value in layer.state_dict().items()})
    exact.attend = attend_with_bias
    with torch.no_grad():
        wanted, _ = exact(qkv.double(), grid)
    return layer, qkv.numpy(), wanted.numpy()


def attention_operator(operator, layer, shape, grid, q_stride, kv_stride):
    fused = FusedAttention(layer)
    constants = [fused.pools, fused.norms, fused.positions_t, fused.positions_h, fused.positions_w]
    sizes = dict(zip(("times", "rows", "columns"), grid, strict=True))
    return operator(
        POOLED_ATTENTION,
        list(shape),
        [constant.numpy() for constant in constants],
        3,
        heads=layer.heads,
        q_stride=q_stride,
        kv_stride=kv_stride,
        epsilon=1e-6,
        **sizes,
    )


@pytest.mark.parametrize("case", ATTENTIONS.values(), ids=ATTENTIONS)
def test_attention_is_the_definition_in_float64(case, operator):
    dim, q_stride, kv_stride, grid, _ = case
    layer, qkv, wanted = attention_case(*case)
    y = attention_operator(operator, layer, qkv.shape, grid, q_stride, kv_stride).run(qkv)
    assert y.shape == wanted.shape == (2, wanted.shape[1], dim)
    np.testing.assert_allclose(y, wanted, atol=ATTENTION_TOLERANCE)


def test_attention_of_scores_beyond_the_range_of_exponentials(operator):
    """Softmax is that of scores less their greatest, whatever their size: no overflow, and one-hot in the end."""
    layer, qkv, _ = attention_case(32, 1, 2, (2, 6, 6), 32)
    for pool in (layer.pool_q, layer.pool_k):
        pool.norm_act[0].weight.data.fill_(60.0)
    exact = MultiscaleAttention(32, 32, 32, 1, 2, (2, 6, 6)).double().eval()
    exact.qkv, exact.project = torch.nn.Identity(), torch.nn.Identity()
    exact.load_state_dict({name: value.double() for name, value in layer.state_dict().items()})
    with torch.no_grad():
        wanted, _ = exact(torch.from_numpy(qkv).double(), (2, 6, 6))
    y = attention_operator(operator, layer, qkv.shape, (2, 6, 6), 1, 2).run(qkv)
    assert np.isfinite(y).all()
    # Scores are thousands, of which float32 keeps 2^-12; queries of size 60 are added to values of size 1.
    np.testing.assert_allclose(y, wanted.numpy(), rtol=1e-3, atol=2e-2)


def test_one_thread_and_two_give_the_same_bits(operator):
    layer, qkv, _ = attention_case(*ATTENTIONS["heads, q pooled"])
    attention = attention_operator(operator, layer, qkv.shape, (3, 6, 10), 2, 2)
    np.testing.assert_array_equal(attention.run(qkv, threads=1), attention.run(qkv, threads=2))


CONVOLUTIONS = {
    "whole tiles": (2, 32, 48, 8, 12),
    "odd sizes": (1, 19, 21, 13, 17),
    "less than a tile": (3, 5, 7, 2, 3),
    "more tiles than a piece": (1, 8, 8, 41, 30),
}


def convolution_case(images, channels, out_channels, rows, columns):
    torch.manual_seed(1)
    x = torch.randn(images, channels, rows, columns)
    weight = torch.randn(out_channels, channels, 3, 3) * (2 / (9 * channels)) ** 0.5
    bias = torch.randn(out_channels)
    return x, weight, bias, F.conv2d(x.double(), weight.double(), bias.double(), padding=1)


def winograd(operator, x, weight, bias, activation=0, mean=False):
    constants = [weight.numpy(), bias.numpy()]
    rank = 2 if mean else 4
    return operator(WINOGRAD_CONV, list(x.shape), constants, rank, activation=activation, spatial_mean=int(mean))


@pytest.mark.parametrize("mean", [False, True], ids=["values", "mean"])
@pytest.mark.parametrize("activation", ["none", "relu", "sigmoid"])
@pytest.mark.parametrize("case", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_winograd_is_the_convolution_in_float64(case, activation, mean, operator):
    x, weight, bias, wanted = convolution_case(*case)
    wanted = {"none": wanted, "relu": wanted.relu(), "sigmoid": wanted.sigmoid()}[activation]
    wanted = wanted.mean(dim=(2, 3)) if mean else wanted
    number = ["none", "relu", "sigmoid"].index(activation)
    y = winograd(operator, x, weight, bias, number, mean).run(x.numpy())
    np.testing.assert_allclose(y, wanted.numpy(), atol=WINOGRAD_TOLERANCE)


def test_a_sigmoid_of_anything_is_between_zero_and_one(operator):
    x, weight, bias, _ = convolution_case(1, 8, 8, 8, 8)
    y = winograd(operator, x, weight, bias, activation=2).run(1000 * x.numpy())
    assert np.isfinite(y).all()
    assert y.min() >= 0
    assert y.max() <= 1
    assert y.min() < 1e-30  # some of them are far out on either side
    assert y.max() == 1


LINEARS = {
    "whole panels": (96, 96, 64),
    "one row": (1, 64, 100),
    "odd sizes": (53, 70, 33),
    "deeper than is summed at a time": (7, 800, 48),
    "more columns than a piece has": (50, 32, 600),
}


@pytest.mark.parametrize("gelu", [False, True], ids=["plain", "gelu"])
@pytest.mark.parametrize("case", LINEARS.values(), ids=LINEARS)
def test_linear_layers_are_the_product_in_float64(case, gelu, operator):
    rows, depth, columns = case
    torch.manual_seed(2)
    x, weight, bias = torch.randn(2, rows, depth), torch.randn(depth, columns) / depth**0.5, torch.randn(columns)
    wanted = x.double() @ weight.double() + bias.double()
    wanted = F.gelu(wanted) if gelu else wanted
    y = operator(LINEAR, list(x.shape), [weight.numpy(), bias.numpy()], 3, gelu=int(gelu)).run(x.numpy())
    # Sums of up to 800 terms of size 1/28, one after the other, and GELU's own error of 4e-7.
    np.testing.assert_allclose(y, wanted.numpy(), atol=1e-5)


def sets_here():
    """What the system says that this processor runs; an instruction set that it lacks is not tried."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    needs = {"avx512": {"avx2", "fma", "avx512f", "avx512vl", "avx512dq"}, "avx2": {"avx2", "fma"}, "baseline": set()}
    return [name for name, wanted in needs.items() if wanted <= set(flags)]


def test_the_fastest_that_is_here_is_chosen(operator, tmp_path):
    """An unknown name is none: a library that finds the baseline alone on every machine would pass the test below."""
    x, weight = torch.randn(3, 5), torch.randn(5, 4)
    layer = operator(LINEAR, list(x.shape), [weight.numpy(), np.zeros(4, np.float32)], 2, gelu=0)
    name, _ = layer.run_with("", x.numpy(), tmp_path)
    assert name == sets_here()[0]


@pytest.mark.parametrize("instruction_set", sets_here())
def test_each_instruction_set_that_is_here(instruction_set, operator, tmp_path):
    layer, qkv, wanted = attention_case(*ATTENTIONS["narrow heads, odd sizes"])
    attention = attention_operator(operator, layer, qkv.shape, (3, 5, 7), 2, 1)
    name, y = attention.run_with(instruction_set, qkv, tmp_path)
    assert name == instruction_set
    np.testing.assert_allclose(y, wanted, atol=ATTENTION_TOLERANCE)
    x, weight, bias, wanted = convolution_case(*CONVOLUTIONS["odd sizes"])
    name, y = winograd(operator, x, weight, bias).run_with(instruction_set, x.numpy(), tmp_path)
    assert name == instruction_set
    np.testing.assert_allclose(y, wanted.numpy(), atol=WINOGRAD_TOLERANCE)
    x, weight = torch.randn(13, 70), torch.randn(70, 33) / 8
    layer = operator(LINEAR, list(x.shape), [weight.numpy(), np.zeros(33, np.float32)], 2, gelu=1)
    _, y = layer.run_with(instruction_set, x.numpy(), tmp_path)
    np.testing.assert_allclose(y, F.gelu(x.double() @ weight.double()).numpy(), atol=1e-5)


def test_wrong_shapes_are_refused_with_what_was_wanted(operator):
    layer, qkv, _ = attention_case(*ATTENTIONS["one time"])
    attention = attention_operator(operator, layer, [2, 22, 96], (1, 7, 4), 1, 2)
    with pytest.raises(Exception, match=r"qkv must be \(2, 29, 96\), not \(2, 22, 96\)"):
        attention.run(qkv)
    x, weight, bias, _ = convolution_case(1, 8, 8, 4, 4)
    with pytest.raises(Exception, match=r"weights must be \(8, 8, 3, 3\)"):
        winograd(operator, x, weight[..., :2], bias).run(x.numpy())
    with pytest.raises(Exception, match=r"bias must be \(8\), not \(7\)"):
        winograd(operator, x, weight, bias[:7]).run(x.numpy())


def test_the_library_asks_for_nothing_but_the_c_library_and_exports_two_names(kernel_library, need_programs):
    need_programs("readelf", "nm")
    needed = subprocess.run(["readelf", "-d", kernel_library], capture_output=True, text=True, check=True).stdout
    libraries = {line.split("[")[1].rstrip("]") for line in needed.splitlines() if "(NEEDED)" in line}
    assert {name.split(".")[0] for name in libraries} <= {"libc", "libm", "ld-linux-x86-64", "ld-linux-aarch64"}
    symbols = subprocess.run(
        ["nm", "-D", "--defined-only", kernel_library], capture_output=True, text=True, check=True
    ).stdout
    assert {line.split()[-1] for line in symbols.splitlines()} == {"RegisterCustomOps", "dtfsal_cpu_kernels_name"}


def test_a_file_that_is_no_library(tmp_path):
    import onnxruntime

    broken = tmp_path / "libdtfsal_cpu_kernels.so"
    broken.write_bytes(b"\x7fELF but not really")
    with pytest.raises(EngineError, match="another kind of processor"):
        register_cpu_kernels(onnxruntime.SessionOptions(), broken)
