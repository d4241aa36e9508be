"""Programs that hold the library to its promises: no allocation in the steady state, nothing for sanitizers to say."""

import os

import pytest

from dtfsal.engines import AudioSpec, ClipSpec
from dtfsal.runtime.capi.build import C_LIBRARY
from dtfsal.runtime.capi.library import onnxruntime_library


@pytest.fixture(scope="module")
def engine(make_toy_engine):
    return make_toy_engine(
        ClipSpec(frames=4, height=24, width=40, frame_rate_hz=25.0), AudioSpec(slices=9, height=12, width=20)
    )


def test_the_steady_state_allocates_nothing(build):
    said = build.run("steady").decode()
    assert said.count(", 0 allocations") == 4


def test_threads_that_keep_no_rule(build, engine):
    assert build.run("threads", engine, 2) == b"passed\n"


def test_nothing_phones_home(build, engine, watched):
    network, files = watched(build.program("threads"), engine, 1, DTFSAL_ONNXRUNTIME_LIBRARY=onnxruntime_library())
    assert network == set()
    assert files == set()


@pytest.mark.slow
def test_under_the_address_and_undefined_behaviour_sanitizers(make_sanitized, engine):
    """The programs, and both fuzzers' functions on a manifest, on random bytes and on changes of them."""
    if os.environ.get("DTFSAL_TEST_SANITIZE"):
        pytest.skip("everything is built with sanitizers already")
    built = make_sanitized("address,undefined")
    built.run("steady", timeout=600)
    assert built.run("threads", engine, 4) == b"passed\n"
    seeds = (engine / "manifest.json", C_LIBRARY.sources / "fuzz" / "manifest.json")
    assert built.run("fuzz_manifest", 3000, *seeds) == b"3000 runs\n"
    assert built.run("fuzz_frames", 400) == b"400 runs\n"


@pytest.mark.slow
def test_under_the_thread_sanitizer(make_sanitized, engine):
    if os.environ.get("DTFSAL_TEST_SANITIZE"):
        pytest.skip("sanitizers exclude each other")
    built = make_sanitized("thread")
    assert built.run("threads", engine, 4) == b"passed\n"
