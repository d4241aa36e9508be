"""The kernel's program on the CPU shows a missing barrier or wait: each is taken out in turn, and must be missed."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from dtfsal.engines.native.deform_conv.interface import DeformConvLibrary, DeformConvSizes
from dtfsal.engines.native.projects import DEFORM_CONV

WAITS = re.compile(r"^ *exec\.(barrier|wait_for_copies)\(\);$", re.MULTILINE)
COUNT = len(WAITS.findall((DEFORM_CONV.sources / "block.cuh").read_text()))
# Several steps of K, several slabs of output channels, tiles of x to lay out anew, and more than one block.
SIZES = DeformConvSizes(
    shape=(2, 72, 9, 11), out_channels=130, kernel=(2, 2), dtype="float16", position_dtype="float16", splits=2
)


def build_without(folder, which):
    """The host's library, its program without the barrier or wait number `which`; None leaves all there."""
    shutil.copytree(DEFORM_CONV.sources, folder, dirs_exist_ok=True)
    program = folder / "block.cuh"
    text = program.read_text()
    if which is not None:
        match = list(WAITS.finditer(text))[which]
        program.write_text(text[: match.start()] + text[match.end() :])
    library = folder / "library.so"
    sources = [folder / "host.cpp", folder / "problem.cpp"]
    options = ["-std=c++17", "-O1", "-fPIC", "-shared", f"-I{DEFORM_CONV.sources.parents[1]}"]
    subprocess.run(["c++", *options, "-o", library, *sources], check=True)
    return DeformConvLibrary(library)


def is_right(cases, library):
    case = cases.make_case(SIZES)
    expected, magnitudes = cases.reference(case)
    error = np.abs(cases.run_on_host(library, case) - expected)  # not a number where nothing was written
    return bool((error <= cases.tolerance(case, magnitudes)).all())


@pytest.mark.slow
@pytest.mark.parametrize("which", [None, *range(COUNT)])
def test_every_barrier_and_wait_is_missed(cases, tmp_path, which):
    cases.need("c++")
    assert is_right(cases, build_without(tmp_path, which)) == (which is None)
