"""The GPU's library: it compiles without warnings, loads without a GPU, and is found where it should be."""

import ctypes
import subprocess

import numpy as np
import pytest

from dtfsal.engines.errors import EngineError, UnavailableError
from dtfsal.engines.native.builder import build_library
from dtfsal.engines.native.deform_conv.interface import CUDA_ERRORS
from dtfsal.engines.native.frontend.library import CAPACITY, FrameCall, FrontEndLibrary, SliceCall, installed_front_end
from dtfsal.engines.native.projects import DEFORM_CONV, FRONT_END
from dtfsal.engines.native.trust import record_build


def test_it_loads_without_a_gpu_and_has_the_same_tables(cuda_library, host_library):
    library = FrontEndLibrary(cuda_library)
    for source, target in ((1080, 224), (1920, 384), (3, 100), (7, 7)):
        for found, expected in zip(
            library.resize_axis(source, target), host_library.resize_axis(source, target), strict=True
        ):
            np.testing.assert_array_equal(found, expected)


def test_it_exports_its_functions_and_no_more(cuda_library):
    symbols = subprocess.run(["nm", "-D", "--defined-only", cuda_library], capture_output=True, text=True, check=True)
    names = {line.split()[-1].split("@")[0] for line in symbols.stdout.splitlines()}
    assert names == {
        *("dtfsal_resize_axis", "dtfsal_prepare_frame", "dtfsal_prepare_slice", "dtfsal_frontend_message"),
    }


def test_structures_and_statuses_are_those_of_the_headers(tmp_path):
    """A C program, which includes both libraries' headers, says where members lie and what number a status has."""
    members = {
        name: [field for field, _ in structure._fields_]
        for name, structure in (("dtfsal_frame_call", FrameCall), ("dtfsal_slice_call", SliceCall))
    }
    lines = [f'printf("%zu\\n", offsetof({name}, {field}));' for name, fields in members.items() for field in fields]
    sizes = [f'printf("%zu\\n", sizeof({name}));' for name in members]
    sizes += [f'printf("%d\\n", DTFSAL_{name});' for name in ("CAPACITY", "CUDA_ERROR", "UNSUPPORTED", "NOT_BUILT_FOR")]
    source = tmp_path / "sizes.c"
    source.write_text(
        '#include "frontend.h"\n#include "deform_conv.h"\n#include <stdio.h>\nint main(void) {'
        + "\n".join(lines + sizes)
        + "return 0; }\n"
    )
    includes = [f"-I{folder}" for folder in (FRONT_END.sources, DEFORM_CONV.sources, FRONT_END.sources.parents[1])]
    command = ["cc", "-std=c99", "-Wall", "-Werror", *includes, str(source), "-o", str(tmp_path / "sizes")]
    try:
        subprocess.run(command, check=True)
    except FileNotFoundError:
        pytest.skip("needs cc")
    printed = subprocess.run([tmp_path / "sizes"], capture_output=True, text=True, check=True).stdout.split()
    structures = (FrameCall, SliceCall)
    expected = [getattr(structure, field).offset for structure in structures for field, _ in structure._fields_]
    expected += [ctypes.sizeof(structure) for structure in structures]
    expected += [CAPACITY, *CUDA_ERRORS]
    assert [int(number) for number in printed] == expected


def test_the_library_is_found_or_the_remedy_told(tmp_path, monkeypatch, host_library):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(FRONT_END.variable, raising=False)
    assert installed_front_end() is None
    with pytest.raises(UnavailableError, match=r"is not built .*dtfsal native build frontend"):
        FRONT_END.find()
    monkeypatch.setenv(FRONT_END.variable, "none")
    assert installed_front_end() is None
    monkeypatch.setenv(FRONT_END.variable, str(tmp_path / "none.so"))
    with pytest.raises(UnavailableError, match="is not a file"):
        installed_front_end()
    (tmp_path / "none.so").write_text("no library")
    with pytest.raises(UnavailableError, match="cannot be used as the GPU's front-end"):
        installed_front_end()
    monkeypatch.delenv(FRONT_END.variable)
    place = tmp_path / "dtfsal" / FRONT_END.library
    place.parent.mkdir()
    place.write_bytes(b"")
    with pytest.raises(UnavailableError, match="is not what this version of dtfsal built"):
        FRONT_END.find()
    record_build(place, FRONT_END.sources)
    assert FRONT_END.find() == place


def test_a_failed_compilation_is_one_sentence(tmp_path):
    (tmp_path / "CMakeLists.txt").write_text('message(FATAL_ERROR "an error of ours")\n')
    with pytest.raises(EngineError, match="`cmake` failed with exit code 1"):
        build_library(tmp_path, tmp_path / "lib.so")
    assert not (tmp_path / "lib.so").exists()
