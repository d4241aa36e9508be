"""The C library's back end for TensorRT on a GPU, against the Python one with the same engine.

DTFSAL_REQUIRE_CUDA=1 TENSORRT_INCLUDE_DIR=... python -m pytest tests/runtime/capi/test_gpu.py

TENSORRT_INCLUDE_DIR holds the headers of TensorRT or of TensorRT-RTX, which decide what is tested; the library that
Python has must be of the same major version.
"""

import importlib.util
import os
import re
from pathlib import Path

import numpy as np
import pytest

from dtfsal.engines.gpu.driver import find_gpu_driver
from dtfsal.engines.native.builder import tensorrt_headers
from dtfsal.runtime import SaliencyPredictor
from dtfsal.runtime.capi import C_LIBRARY, NativePredictor

DRIVER = find_gpu_driver()
if os.environ.get("DTFSAL_REQUIRE_CUDA"):
    assert DRIVER.gpus, f"DTFSAL_REQUIRE_CUDA is set, and {DRIVER.problem}"
pytestmark = pytest.mark.skipif(not DRIVER.gpus, reason="needs a GPU")


def backend_library(rtx):
    """The library in the Python package, as pip lays it down; the system's name where there is none."""
    package, name = ("tensorrt_rtx_libs", "libtensorrt_rtx.so*") if rtx else ("tensorrt_libs", "libnvinfer.so*")
    spec = importlib.util.find_spec(package)
    for folder in spec.submodule_search_locations if spec else ():
        for file in sorted(Path(folder).glob(name)):
            return file
    return None


@pytest.fixture(scope="module")
def rtx():
    """Whether the headers are TensorRT-RTX's. Without the library of their version there is nothing to test."""
    text = (tensorrt_headers() / "NvInferVersion.h").read_text()
    kind = "RTX" if "TRT_MAJOR_RTX" in text else "ENTERPRISE"
    major = re.search(rf"TRT_MAJOR_{kind} (\d+)", text)[1]
    library = pytest.importorskip("tensorrt_rtx" if kind == "RTX" else "tensorrt")
    if library.__version__.split(".")[0] != major:
        pytest.skip(f"the headers are of version {major}, and {library.__name__} is {library.__version__}")
    return kind == "RTX"


@pytest.fixture(scope="module")
def library(tmp_path_factory, need_programs):
    need_programs("cmake", "c++")
    return C_LIBRARY.build(tmp_path_factory.mktemp("library"), tensorrt_include=tensorrt_headers())


@pytest.fixture(scope="module", params=["reuse", "window"])
def engine(request, rtx, lite_weights, tmp_path_factory):
    from dtfsal.export.builder import build_engine
    from dtfsal.export.request import BuildRequest

    output = tmp_path_factory.mktemp("gpu") / "lite.engine"
    target = "tensorrt-rtx" if rtx else "tensorrt"
    build_engine(
        BuildRequest(weights=lite_weights, output=output, target=target, precision="fp32", graphs=request.param)
    )
    return output


def test_the_maps_are_pythons(engine, library, rtx, media):
    """Twice, so that the second time all work is captured graphs; and clones, which share the weights."""
    video, sound = media.noise(30, size=(90, 160)), media.rustle(1.2)
    options = {"samples": sound, "sample_rate_hz": 16000}
    with (
        SaliencyPredictor(engine, device="cuda") as predictor,
        predictor.predict_frames(video, frame_rate_hz=25, **options) as prediction,
    ):
        wanted = np.stack([frame.saliency_map for frame in prediction])
    with NativePredictor(engine, library=library, backend_library=backend_library(rtx), frame_rate_hz=25) as native:
        assert native.description.backend.startswith("tensorrt")
        with native.clone() as other:
            for each in (native, other, native):
                found = each.predict(video, np.arange(30) / 25, **options)
                np.testing.assert_allclose(found, wanted, atol=1e-4)  # the bar of FP32
