"""The kernel's own program, run on the CPU, against the definition in float64 and against ONNX Runtime."""

import dataclasses
import types

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dtfsal.engines.errors import EngineError, UnavailableError, UsageError
from dtfsal.engines.native.deform_conv.interface import DATA_TYPES, DeformConvCall, DeformConvLibrary, DeformConvSizes

OURS = DeformConvSizes(shape=(2, 384, 7, 12), out_channels=192, kernel=(3, 3), padding=(1, 1))


def check(cases, library, case, **options):
    expected, magnitudes = cases.reference(case)
    error = np.abs(cases.run_on_host(library, case, **options) - expected)
    assert (error <= cases.tolerance(case, magnitudes)).all(), error.max()


@st.composite
def any_sizes(draw):
    groups, offset_groups = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (1, 2), (2, 2), (3, 2), (2, 4)]))
    base = draw(st.sampled_from([1, 3, 8, 16, 40]))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    dilation = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    least = [max(1, d * (k - 1) + 1 - 2 * p) for d, k, p in zip(dilation, kernel, padding, strict=True)]
    dtype = draw(st.sampled_from(DATA_TYPES))
    return DeformConvSizes(
        shape=(
            draw(st.integers(1, 3)),
            groups * offset_groups * base,
            least[0] + draw(st.integers(0, 6)),
            least[1] + draw(st.integers(0, 6)),
        ),
        out_channels=groups * draw(st.sampled_from([1, 5, 8, 33, 70])),
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        offset_groups=offset_groups,
        dtype=dtype,
        position_dtype=draw(st.sampled_from([dtype, "float32"])),
        x_layout=draw(st.sampled_from(["nchw", "nhwc"])),
        y_layout=draw(st.sampled_from(["nchw", "nhwc"])),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=any_sizes(),
    seed=st.integers(0, 1000),
    scale=st.sampled_from([0.0, 0.4, 3.0, 50.0]),
    mask=st.booleans(),
    bias=st.booleans(),
    multiprocessors=st.sampled_from([1, 16, 132]),
)
def test_any_sizes_equal_the_definition(cases, host_library, sizes, seed, scale, mask, bias, multiprocessors):
    case = cases.make_case(sizes, seed=seed, offset_scale=scale, with_mask=mask, with_bias=bias)
    check(cases, host_library, case, multiprocessors=multiprocessors)


@pytest.mark.parametrize("dtype", DATA_TYPES)
@pytest.mark.parametrize("tile_n", [64, 128, 192, 256])
def test_every_tile_and_split(cases, host_library, dtype, tile_n):
    if dtype == "float32" and tile_n > 128:
        pytest.skip("FP32 has no such tile")
    for splits in (1, 3, 16):
        sizes = DeformConvSizes(
            shape=(1, 72, 9, 11), out_channels=tile_n + 7, kernel=(3, 3), padding=(1, 1), dtype=dtype, tile_n=tile_n,
            splits=splits, y_layout="nhwc" if splits == 3 else "nchw",
        )  # fmt: skip
        check(cases, host_library, cases.make_case(sizes))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_shape_of_the_model(cases, host_library, dtype):
    for layout in ("nchw", "nhwc"):
        sizes = dataclasses.replace(OURS, dtype=dtype, x_layout=layout, y_layout=layout)
        check(cases, host_library, cases.make_case(sizes), multiprocessors=132)


def test_pitched_arrays_with_channels_last(cases, host_library):
    sizes = dataclasses.replace(
        OURS, shape=(1, 20, 5, 6), out_channels=9, x_layout="nhwc", y_layout="nhwc", x_pitch=24, y_pitch=16
    )
    for dtype in DATA_TYPES:
        check(cases, host_library, cases.make_case(dataclasses.replace(sizes, dtype=dtype)))


def test_a_table_too_large_for_shared_memory_is_computed_anew(cases, host_library):
    # 4 offset groups of 25 taps: 150 KiB of samples.
    sizes = DeformConvSizes(
        shape=(1, 64, 6, 7), out_channels=8, kernel=(5, 5), padding=(2, 2), offset_groups=4, dtype="float16"
    )
    check(cases, host_library, cases.make_case(sizes))


def test_whole_offsets_take_the_pixels_themselves(cases, host_library):
    sizes = dataclasses.replace(OURS, shape=(1, 8, 5, 6), out_channels=8, kernel=(1, 1), padding=(0, 0))
    case = cases.make_case(sizes, whole_offsets=True, with_mask=False, with_bias=False)
    case = dataclasses.replace(case, weight=np.eye(8, dtype=np.float32)[:, :, None, None])
    expected, _ = cases.reference(case)
    assert np.array_equal(cases.run_on_host(host_library, case), expected)  # no rounding anywhere


def test_no_offsets_and_no_mask_are_a_plain_convolution(cases, host_library):
    torch = pytest.importorskip("torch")
    sizes = dataclasses.replace(OURS, shape=(2, 12, 9, 8), out_channels=10, groups=2, stride=(2, 1), dilation=(1, 2))
    case = cases.make_case(sizes, offset_scale=0.0, with_mask=False)
    arrays = [torch.from_numpy(array).double() for array in (case.x, case.weight, case.bias)]
    expected = torch.nn.functional.conv2d(*arrays, stride=(2, 1), padding=1, dilation=(1, 2), groups=2).numpy()
    np.testing.assert_allclose(cases.run_on_host(host_library, case), expected, atol=1e-5)


@pytest.mark.parametrize("offset", [np.nan, np.inf, -np.inf, 1e30, -1e30])
def test_offsets_that_are_no_places_sample_nothing(cases, host_library, offset):
    case = cases.make_case(dataclasses.replace(OURS, shape=(1, 8, 4, 4), out_channels=8))
    case.offset[...] = offset
    expected = np.broadcast_to(case.bias[:, None, None], (1, 8, 4, 4))
    assert np.array_equal(cases.run_on_host(host_library, case), expected)


def test_onnx_runtime_agrees(cases, host_library):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    sizes = DeformConvSizes(
        shape=(2, 24, 10, 9), out_channels=12, kernel=(3, 2), stride=(1, 2), padding=(1, 1), dilation=(2, 1), groups=2,
        offset_groups=3,
    )  # fmt: skip
    case = cases.make_case(sizes)
    names = ("x", "weight", "offset", "bias", "mask")
    node = onnx.helper.make_node(
        "DeformConv", names, ["y"], kernel_shape=[3, 2], strides=[1, 2], pads=[1] * 4, dilations=[2, 1], group=2,
        offset_group=3,
    )  # fmt: skip
    feeds = {name: getattr(case, name) for name in names}
    inputs = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, a.shape) for n, a in feeds.items()]
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph([node], "deform", inputs, [output])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 22)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, feeds)
    # Two FP32 computations of sums of 72 terms of about 1.
    np.testing.assert_allclose(cases.run_on_host(host_library, case), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stride": (0, 1)}, "stride and dilation must be positive"),
        ({"padding": (-1, 0)}, "padding not negative"),
        ({"dilation": (1, 9)}, "the output not empty"),
        ({"groups": 5}, "groups must divide"),
        ({"offset_groups": 5}, "offset_groups those of x"),
        ({"shape": (1, 384, 0, 4)}, "a size is not positive"),
        ({"out_channels": 0}, "a size is not positive"),
        ({"x_layout": "nhwc", "x_pitch": 3}, "pitch is shorter"),
        ({"tile_n": 65}, "tile_n must be"),
        ({"tile_n": 192}, "at most 128 for FP32"),
        ({"splits": 17}, "splits 1 to 16"),
        ({"position_dtype": "float16"}, "neither the type of x nor FP32"),
    ],
)
def test_sizes_that_cannot_be_are_one_sentence(cases, host_library, changes, message):
    call = DeformConvCall(sizes=dataclasses.replace(OURS, **changes), x=16, weight=16, offset=16, y=16)
    with pytest.raises(UsageError, match=message):
        host_library.workspace_bytes(call, multiprocessors=84)
    with pytest.raises(UsageError, match=message):
        host_library.run_on_host(call)


def test_bad_pointers_are_one_sentence(cases, host_library):
    call = DeformConvCall(sizes=dataclasses.replace(OURS, x_layout="nhwc", splits=1), x=16, weight=16, offset=16, y=16)
    for changes, message in (({"x": 0}, "is null"), ({"mask": 8}, "aligned to 16 bytes")):
        with pytest.raises(UsageError, match=message):
            host_library.run_on_host(dataclasses.replace(call, **changes))
    copied = dataclasses.replace(call, sizes=dataclasses.replace(call.sizes, x_layout="nchw"))
    with pytest.raises(UsageError, match="is null"):
        host_library.run_on_host(copied)


def test_the_plan_splits_only_where_blocks_are_few(cases, host_library):
    def bytes_of(multiprocessors, **changes):
        call = DeformConvCall(
            sizes=dataclasses.replace(OURS, dtype="float16", x_layout="nhwc", **changes),
            x=16,
            weight=16,
            offset=16,
            y=16,
        )
        return host_library.workspace_bytes(call, multiprocessors=multiprocessors)

    positions = 2 * 7 * 12
    assert bytes_of(132) == 16 * positions * 192 * 4  # 3 blocks for 132 multiprocessors: as many splits as there are
    assert bytes_of(1) == 0
    assert bytes_of(132, shape=(64, 384, 56, 96)) == 0  # blocks enough


def test_a_library_that_is_none_is_said(tmp_path):
    for content in (None, b"not a library"):
        path = tmp_path / "library.so"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UnavailableError, match=r"dtfsal native build deform-conv"):
            DeformConvLibrary(path)


@pytest.mark.parametrize("kind", DATA_TYPES)
def test_the_storage_types_round_as_numpy_does(cases, host_library, kind):
    """A 1 x 1 convolution by one: what goes in comes out, special numbers and subnormals too."""
    values = np.array([0.0, -0.0, 1.0, 65504.0, 2.0**-14, 2.0**-24, 3 * 2.0**-24, -1.5, 1e-7, np.inf, 3.0, 2.0**-15])
    sizes = DeformConvSizes(shape=(1, 1, 1, len(values)), out_channels=1, kernel=(1, 1), dtype=kind)
    case = cases.make_case(sizes, offset_scale=0.0, with_mask=False, with_bias=False)
    case.x[...] = cases.from_storage(cases.to_storage(values, kind), kind)
    case.weight[...] = 1.0
    result = cases.run_on_host(host_library, case)
    # Infinity times the zero shares of its neighbours is not a number, there and to its left.
    finite = np.isfinite(result)
    assert finite.sum() >= len(values) - 2
    assert np.array_equal(result[finite], case.x[finite])


@pytest.mark.parametrize("seed", range(3))
def test_half_precision_results_are_the_nearest_numbers(cases, host_library, seed):
    """One tap, no blending: the only rounding is that of the product, which NumPy's float16 does alike."""
    sizes = DeformConvSizes(shape=(1, 1, 8, 9), out_channels=1, kernel=(1, 1), dtype="float16")
    case = cases.make_case(sizes, seed=seed, offset_scale=0.0, with_mask=False, with_bias=False)
    case.x[...] *= np.float32(10.0) ** np.random.default_rng(seed).integers(-7, 4, case.x.shape)
    case.x[...] = case.x.astype(np.float16)
    expected = (case.x * case.weight.ravel()[0]).astype(np.float16).astype(np.float32)
    assert np.array_equal(cases.run_on_host(host_library, case), expected)


def test_errors_of_the_gpu_are_engine_errors():
    library = DeformConvLibrary.__new__(DeformConvLibrary)
    library._library = types.SimpleNamespace(dtfsal_deform_conv_message=lambda status: f"status {status}".encode())
    for status in (6, 11, 12):
        with pytest.raises(EngineError, match=f"status {status}"):
            library._check(status)
