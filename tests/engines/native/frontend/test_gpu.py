"""The front-end's kernels on a GPU, against the same program on the CPU.

DTFSAL_REQUIRE_CUDA=1 python -m pytest tests/engines/native/frontend/test_gpu.py
compute-sanitizer --tool memcheck python -m pytest -x tests/engines/native/frontend/test_gpu.py
"""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtfsal.engines import AudioSpec
from dtfsal.engines.gpu.device import CudaCoreDevice
from dtfsal.engines.gpu.driver import find_gpu_driver
from dtfsal.engines.native.frontend.library import FrontEndLibrary
from dtfsal.engines.native.frontend.prepare import FrontEnd
from dtfsal.engines.native.projects import FRONT_END
from dtfsal.engines.raw_inputs import MATRICES, YuvPicture
from dtfsal.runtime.frontend.log_mel import slice_tables

DRIVER = find_gpu_driver()
if os.environ.get("DTFSAL_REQUIRE_CUDA"):
    assert DRIVER.gpus, f"DTFSAL_REQUIRE_CUDA is set, and {DRIVER.problem}"
pytestmark = pytest.mark.skipif(not DRIVER.gpus, reason="needs a GPU")
SIDES = st.integers(1, 300)
LEVELS = np.random.default_rng(0).standard_normal((3, 256)).astype(np.float32)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    capability = DRIVER.gpus[0][1].replace(".", "")
    library = FrontEndLibrary(FRONT_END.build(tmp_path_factory.mktemp("gpu"), architectures=(capability,)))
    device = CudaCoreDevice(0)
    upload, compute = device.stream(), device.stream()
    made = FrontEnd(device, library, upload, compute)

    def fetch(output):
        pinned = device.pin(output.buffer.size)
        device.download(pinned, output.buffer, compute)
        device.synchronise(device.record(compute))
        return pinned.bytes.view(output.dtype).reshape(output.shape).copy()

    yield made, fetch
    made.close()


@settings(deadline=None, max_examples=200)
@given(
    size=st.tuples(SIDES, SIDES),
    target=st.tuples(SIDES, SIDES),
    dtype=st.sampled_from(["float32", "float16"]),
    matrix=st.sampled_from([None, *MATRICES]),
    full=st.booleans(),
    seed=st.integers(0, 99),
)
def test_frames_are_the_cpus_bit_for_bit(parts, host_library, calls, size, target, dtype, matrix, full, seed):
    front_end, fetch = parts
    rng = np.random.default_rng(seed)
    if matrix is None:
        picture = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    else:
        half = ((size[0] + 1) // 2, (size[1] + 1) // 2)
        y, u, v = (rng.integers(0, 256, sides, dtype=np.uint8) for sides in (size, half, half))
        picture = YuvPicture(y, u, v, matrix, full)
    found = fetch(front_end.frames(*target, dtype, LEVELS).prepare(picture))
    np.testing.assert_array_equal(found[0], calls.prepared(host_library, picture, *target, dtype=dtype, levels=LEVELS))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_slices_are_the_cpus(parts, host_library, calls, dtype):
    front_end, fetch = parts
    tables = slice_tables(AudioSpec(slices=9, height=112, width=192))
    for seed in range(5):
        samples = np.random.default_rng(seed).uniform(-1, 1, tables.samples).astype(np.float32)
        call, expected, _alive = calls.slice_call(tables, samples, dtype)
        host_library.prepare_slice(call, 0)
        found = fetch(front_end.slices(dtype, tables).prepare(samples))[0, 0]
        # The GPU contracts products and sums, and has a logarithm of its own.
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 if dtype == "float32" else 4e-3)
