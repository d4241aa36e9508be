"""The CUDA kernel on a GPU, against float64, against its own program on the CPU, and against torchvision.

DTFSAL_REQUIRE_CUDA=1 python -m pytest tests/engines/native/deform_conv/test_kernel_gpu.py
compute-sanitizer --tool memcheck python -m pytest -x tests/engines/native/deform_conv/test_kernel_gpu.py
compute-sanitizer --tool racecheck python -m pytest -x tests/engines/native/deform_conv/test_kernel_gpu.py
"""

import dataclasses
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dtfsal.engines.errors import EngineError
from dtfsal.engines.native.deform_conv.interface import DATA_TYPES, DeformConvCall, DeformConvLibrary, DeformConvSizes
from dtfsal.engines.native.projects import DEFORM_CONV

torch = pytest.importorskip("torch")
HAS_GPU = torch.cuda.is_available()
if os.environ.get("DTFSAL_REQUIRE_CUDA"):
    assert HAS_GPU, "DTFSAL_REQUIRE_CUDA is set, and PyTorch finds no GPU"
pytestmark = pytest.mark.skipif(not HAS_GPU, reason="needs a GPU")


@pytest.fixture(scope="session")
def gpu_library(tmp_path_factory, headers, cases):
    cases.need("cmake", "c++", "nvcc")
    major, minor = torch.cuda.get_device_capability()
    return DeformConvLibrary(DEFORM_CONV.build(tmp_path_factory.mktemp("gpu"), architectures=(f"{major}{minor}",)))


def run_on_gpu(library, case):
    """The library's result, (N, C', H', W') float32."""
    sizes = case.sizes
    kinds = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

    def placed(values, kind):
        return torch.from_numpy(np.ascontiguousarray(values)).to("cuda", kinds[kind]).contiguous()

    x = placed(case.x if sizes.x_layout == "nchw" else case.x.transpose(0, 2, 3, 1), sizes.dtype)
    arrays = {
        "x": x,
        "weight": placed(case.weight.transpose(0, 2, 3, 1), sizes.dtype),
        "offset": placed(case.offset, sizes.position_dtype),
        "mask": None if case.mask is None else placed(case.mask, sizes.position_dtype),
        "bias": None if case.bias is None else placed(case.bias, sizes.dtype),
    }
    shape = (sizes.shape[0], *sizes.output_size)
    last = sizes.y_layout == "nhwc"
    y = torch.full(
        (*shape, sizes.out_channels) if last else (shape[0], sizes.out_channels, *shape[1:]),
        float("nan"),
        device="cuda",
        dtype=kinds[sizes.dtype],
    )
    addresses = {name: 0 if array is None else array.data_ptr() for name, array in arrays.items()}
    call = DeformConvCall(sizes=sizes, y=y.data_ptr(), **addresses)
    workspace = torch.full((library.workspace_bytes(call),), 0xFF, dtype=torch.uint8, device="cuda")
    stream = torch.cuda.current_stream().cuda_stream
    library.launch(dataclasses.replace(call, workspace=workspace.data_ptr() if workspace.numel() else 0), stream)
    torch.cuda.synchronize()
    result = y.float().cpu().numpy()
    return result.transpose(0, 3, 1, 2) if last else result


def check(cases, library, case):
    expected, magnitudes = cases.reference(case)
    error = np.abs(run_on_gpu(library, case) - expected)
    assert (error <= cases.tolerance(case, magnitudes)).all(), error.max()


@st.composite
def any_sizes(draw):
    groups, offset_groups = draw(st.sampled_from([(1, 1), (2, 1), (1, 2), (2, 4)]))
    base, kernel = draw(st.sampled_from([1, 3, 8, 40])), draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    dtype = draw(st.sampled_from(DATA_TYPES))
    return DeformConvSizes(
        shape=(draw(st.integers(1, 3)), groups * offset_groups * base, *draw(st.tuples(*[st.integers(4, 12)] * 2))),
        out_channels=groups * draw(st.sampled_from([1, 8, 33, 200])),
        kernel=kernel,
        stride=draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
        padding=draw(st.tuples(st.integers(0, 2), st.integers(0, 2))),
        groups=groups,
        offset_groups=offset_groups,
        dtype=dtype,
        position_dtype=draw(st.sampled_from([dtype, "float32"])),
        x_layout=draw(st.sampled_from(["nchw", "nhwc"])),
        y_layout=draw(st.sampled_from(["nchw", "nhwc"])),
        splits=draw(st.sampled_from([0, 1])),
    )


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=any_sizes(), seed=st.integers(0, 1000), scale=st.sampled_from([0.0, 0.4, 3.0, 50.0]), mask=st.booleans())
def test_any_sizes_equal_the_definition(cases, gpu_library, sizes, seed, scale, mask):
    check(cases, gpu_library, cases.make_case(sizes, seed=seed, offset_scale=scale, with_mask=mask))


@pytest.mark.parametrize("dtype", DATA_TYPES)
def test_every_tile_and_split(cases, gpu_library, dtype):
    for tile_n in (64, 128) if dtype == "float32" else (64, 128, 192, 256):
        for splits in (1, 3, 16):
            sizes = DeformConvSizes(
                shape=(1, 72, 9, 11), out_channels=tile_n + 7, kernel=(3, 3), padding=(1, 1), dtype=dtype,
                tile_n=tile_n, splits=splits,
            )  # fmt: skip
            check(cases, gpu_library, cases.make_case(sizes))


@pytest.mark.parametrize("dtype", DATA_TYPES)
def test_the_gpu_runs_the_same_program_as_the_host(cases, gpu_library, host_library, dtype):
    """Same products in the same order but for the order within a tensor core and fused multiply-adds."""
    sizes = DeformConvSizes(shape=(4, 384, 7, 12), out_channels=192, kernel=(3, 3), padding=(1, 1), dtype=dtype)
    case = cases.make_case(sizes)
    _, magnitudes = cases.reference(case)
    error = np.abs(run_on_gpu(gpu_library, case) - cases.run_on_host(host_library, case))
    assert (error <= cases.tolerance(case, magnitudes)).all()


def test_two_runs_are_bit_for_bit_the_same(cases, gpu_library):
    sizes = DeformConvSizes(shape=(16, 384, 7, 12), out_channels=192, kernel=(3, 3), padding=(1, 1), dtype="float16")
    case = cases.make_case(sizes)
    assert np.array_equal(run_on_gpu(gpu_library, case), run_on_gpu(gpu_library, case))


def test_torchvision_agrees(cases, gpu_library):
    ops = pytest.importorskip("torchvision.ops")
    sizes = DeformConvSizes(
        shape=(2, 64, 12, 13), out_channels=48, kernel=(3, 3), stride=(2, 1), padding=(1, 2), dilation=(1, 2),
        offset_groups=2,
    )  # fmt: skip
    case = cases.make_case(sizes)
    x, weight, offset, mask, bias = (
        torch.from_numpy(array).cuda() for array in (case.x, case.weight, case.offset, case.mask, case.bias)
    )
    expected = ops.deform_conv2d(x, offset, weight, bias, (2, 1), (1, 2), (1, 2), mask).cpu().numpy()
    # Two FP32 computations of sums of 576 terms of about 1 / 24.
    np.testing.assert_allclose(run_on_gpu(gpu_library, case), expected, atol=2e-4)


def test_bf16_before_ampere_is_one_sentence(cases, gpu_library):
    if torch.cuda.get_device_capability() >= (8, 0):
        pytest.skip("this GPU has BF16")
    sizes = DeformConvSizes(shape=(1, 8, 4, 4), out_channels=8, kernel=(3, 3), padding=(1, 1), dtype="bfloat16")
    with pytest.raises(EngineError, match="BF16 needs compute capability"):
        run_on_gpu(gpu_library, cases.make_case(sizes))
