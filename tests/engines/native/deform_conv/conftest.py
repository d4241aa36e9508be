"""Libraries built once for all tests, and the deformable convolution by its definition."""

import dataclasses
import itertools
import math
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from dtfsal.engines.errors import UnavailableError
from dtfsal.engines.native.builder import tensorrt_headers
from dtfsal.engines.native.deform_conv.interface import (
    DeformConvCall,
    DeformConvLibrary,
    DeformConvSizes,
    aligned_empty,
)
from dtfsal.engines.native.projects import DEFORM_CONV

COMPILERS_REQUIRED = "DTFSAL_REQUIRE_COMPILERS"
# Turing's form of the product, and that of all later GPUs.
ARCHITECTURES = ("75", "90")
DRIVER = Path(__file__).parent / "plugin_driver.cpp"


def need(*programs):
    """Skip without the programs, unless the environment says that they must be there."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing and not os.environ.get(COMPILERS_REQUIRED):
        pytest.skip(f"needs {', '.join(missing)}")
    assert not missing, f"{COMPILERS_REQUIRED} is set, and {missing} is not on PATH"


@pytest.fixture(scope="session")
def cases():
    """The functions below."""
    return sys.modules[__name__]


@pytest.fixture(scope="session")
def host_library(tmp_path_factory) -> DeformConvLibrary:
    need("cmake", "c++")
    return DeformConvLibrary(DEFORM_CONV.build_host(tmp_path_factory.mktemp("host")))


@pytest.fixture(scope="session")
def headers() -> Path:
    try:
        return tensorrt_headers()
    except UnavailableError as error:
        if os.environ.get(COMPILERS_REQUIRED):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def plugin_library(tmp_path_factory, headers) -> Path:
    need("cmake", "c++", "nvcc")
    return DEFORM_CONV.build(tmp_path_factory.mktemp("plugins"), architectures=ARCHITECTURES)


@dataclasses.dataclass(frozen=True)
class Case:
    """Sizes and float32 arrays as PyTorch has them: weight (C', C/groups, kh, kw)."""

    sizes: DeformConvSizes
    x: np.ndarray
    weight: np.ndarray
    offset: np.ndarray
    mask: np.ndarray | None
    bias: np.ndarray | None


def make_case(sizes: DeformConvSizes, *, seed=0, offset_scale=1.0, with_mask=True, with_bias=True, whole_offsets=False):
    """Arrays whose values the types of `sizes` hold exactly."""
    rng = np.random.default_rng(seed)
    batch, channels = sizes.shape[:2]
    taps = math.prod(sizes.kernel) * sizes.offset_groups
    plane = (batch, *sizes.output_size)

    def rounded(values, kind):
        return from_storage(to_storage(values, kind), kind)

    offset = offset_scale * rng.standard_normal((batch, 2 * taps, *plane[1:]))
    weight = rng.standard_normal((sizes.out_channels, channels // sizes.groups, *sizes.kernel))
    return Case(
        sizes,
        rounded(rng.standard_normal(sizes.shape), sizes.dtype),
        rounded(weight / math.sqrt(weight[0].size), sizes.dtype),
        rounded(np.round(offset) if whole_offsets else offset, sizes.position_dtype),
        rounded(rng.random((batch, taps, *plane[1:])), sizes.position_dtype) if with_mask else None,
        rounded(rng.standard_normal(sizes.out_channels), sizes.dtype) if with_bias else None,
    )


def to_storage(values, kind):
    """float -> the bits that the library reads; bfloat16 by rounding to nearest even, as uint16."""
    values = np.asarray(values, np.float32)
    if kind == "bfloat16":
        bits = values.view(np.uint32).astype(np.uint64)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return values.astype(kind)


def from_storage(values, kind):
    if kind == "bfloat16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)


def run_on_host(library: DeformConvLibrary, case: Case, *, multiprocessors: int = 84) -> np.ndarray:
    """The library's result, (N, C', H', W') float32."""
    sizes = case.sizes

    def placed(values, kind):
        stored = to_storage(values, kind)
        array = aligned_empty(stored.shape, stored.dtype)
        array[...] = stored
        return array

    def pitched(values, pitch):
        """NCHW to channels last, with garbage between the channels and the pitch."""
        values = values.transpose(0, 2, 3, 1)
        full = np.full((*values.shape[:3], pitch or values.shape[3]), 7e4 if sizes.dtype == "float32" else 999.0)
        full[..., : values.shape[3]] = values
        return full

    last = sizes.y_layout == "nhwc"
    x = placed(case.x if sizes.x_layout == "nchw" else pitched(case.x, sizes.x_pitch), sizes.dtype)
    weight = placed(case.weight.transpose(0, 2, 3, 1), sizes.dtype)
    offset = placed(case.offset, sizes.position_dtype)
    mask = None if case.mask is None else placed(case.mask, sizes.position_dtype)
    bias = None if case.bias is None else placed(case.bias, sizes.dtype)
    shape = (sizes.shape[0], *sizes.output_size)
    channels = (sizes.y_pitch or sizes.out_channels) if last else sizes.out_channels
    y = placed(np.full((*shape, channels) if last else (shape[0], channels, *shape[1:]), np.nan), sizes.dtype)
    call = DeformConvCall(
        sizes=sizes,
        x=x.ctypes.data,
        weight=weight.ctypes.data,
        offset=offset.ctypes.data,
        y=y.ctypes.data,
        mask=0 if mask is None else mask.ctypes.data,
        bias=0 if bias is None else bias.ctypes.data,
    )
    count = library.workspace_bytes(call, multiprocessors=multiprocessors)
    workspace = aligned_empty((count,), np.uint8)
    workspace[...] = 0xFF  # not a number in every type
    library.run_on_host(
        dataclasses.replace(call, workspace=workspace.ctypes.data if count else 0), multiprocessors=multiprocessors
    )
    result = from_storage(y, sizes.dtype)
    return result[..., : sizes.out_channels].transpose(0, 3, 1, 2) if last else result


def reference(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """The result in float64, one position and tap at a time, and the sum of its summands' magnitudes."""
    sizes = case.sizes
    x, weight, offset = (np.asarray(a, np.float64) for a in (case.x, case.weight, case.offset))
    batch, channels, height, width = sizes.shape
    (kh, kw), (out_h, out_w) = sizes.kernel, sizes.output_size
    taps, shared = kh * kw, channels // sizes.offset_groups
    columns = np.zeros((batch, channels, taps, out_h, out_w))
    magnitudes = np.zeros_like(columns)
    places: Sequence[range] = [range(n) for n in (batch, sizes.offset_groups, taps, out_h, out_w)]
    for n, g, tap, row, column in itertools.product(*places):
        own, index = slice(g * shared, (g + 1) * shared), g * taps + tap
        y = row * sizes.stride[0] - sizes.padding[0] + tap // kw * sizes.dilation[0] + offset[n, 2 * index, row, column]
        z = column * sizes.stride[1] - sizes.padding[1] + tap % kw * sizes.dilation[1]
        z += offset[n, 2 * index + 1, row, column]
        modulation = 1.0 if case.mask is None else float(case.mask[n, index, row, column])
        for i, j in itertools.product((math.floor(y), math.floor(y) + 1), (math.floor(z), math.floor(z) + 1)):
            if 0 <= i < height and 0 <= j < width:
                value = modulation * (1 - abs(y - i)) * (1 - abs(z - j)) * x[n, own, i, j]
                columns[n, own, tap, row, column] += value
                magnitudes[n, own, tap, row, column] += abs(value)
    groups = sizes.groups
    kernels = weight.reshape(groups, sizes.out_channels // groups, channels // groups, taps)

    def product(values, factors):
        grouped = values.reshape(batch, groups, channels // groups, taps, out_h, out_w)
        return np.einsum("ngcthw,gkct->ngkhw", grouped, factors).reshape(batch, -1, out_h, out_w)

    bias = 0.0 if case.bias is None else case.bias.astype(np.float64)[:, None, None]
    return product(columns, kernels) + bias, product(magnitudes, np.abs(kernels)) + np.abs(bias)


def tolerance(case: Case, magnitudes: np.ndarray) -> np.ndarray:
    """What rounding can do, from the summands' magnitudes.

    FP32: coordinates up to some tens of pixels have steps of 2^-18, and sums of some hundred terms lose as many units
    of 2^-24. FP16 and BF16: each sample and the result are rounded to 11 and 8 bits; half a unit each, doubled once
    for the shares' and the sums' rounding in FP32. Subnormal FP16 numbers have steps of 2^-24.
    """
    unit = {"float32": 2.0**-17, "float16": 2.0**-11, "bfloat16": 2.0**-8}[case.sizes.dtype]
    return 2 * unit * magnitudes + (1e-6 if case.sizes.dtype == "float32" else 2.0**-20)
