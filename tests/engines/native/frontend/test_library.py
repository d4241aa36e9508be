"""The GPU's library: it compiles without warnings, loads without a GPU, and is found where it should be."""

import ctypes
import subprocess

import numpy as np
import pytest

from dtfsal.engines.errors import EngineError, UnavailableError
from dtfsal.engines.native import builder as native_build
from dtfsal.engines.native.frontend.__main__ import main
from dtfsal.engines.native.frontend.build import SOURCES
from dtfsal.engines.native.frontend.library import (
    FRONT_END_LIBRARY_VARIABLE,
    LIBRARY_NAME,
    FrameCall,
    FrontEndLibrary,
    SliceCall,
    find_front_end_library,
    installed_front_end,
)


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


def test_structures_are_those_of_the_header(tmp_path):
    """A C program says how large the structures are and where their members lie."""
    members = {
        name: [field for field, _ in structure._fields_]
        for name, structure in (("dtfsal_frame_call", FrameCall), ("dtfsal_slice_call", SliceCall))
    }
    lines = [f'printf("%zu\\n", offsetof({name}, {field}));' for name, fields in members.items() for field in fields]
    sizes = [f'printf("%zu\\n", sizeof({name}));' for name in members]
    source = tmp_path / "sizes.c"
    source.write_text(
        '#include "frontend.h"\n#include <stdio.h>\nint main(void) {' + "\n".join(lines + sizes) + "return 0; }\n"
    )
    command = ["cc", "-std=c99", "-Wall", "-Werror", f"-I{SOURCES}", str(source), "-o", str(tmp_path / "sizes")]
    try:
        subprocess.run(command, check=True)
    except FileNotFoundError:
        pytest.skip("needs cc")
    printed = subprocess.run([tmp_path / "sizes"], capture_output=True, text=True, check=True).stdout.split()
    structures = (FrameCall, SliceCall)
    expected = [getattr(structure, field).offset for structure in structures for field, _ in structure._fields_]
    expected += [ctypes.sizeof(structure) for structure in structures]
    assert [int(number) for number in printed] == expected


def test_the_library_is_found_or_the_remedy_told(tmp_path, monkeypatch, host_library):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(FRONT_END_LIBRARY_VARIABLE, raising=False)
    assert installed_front_end() is None
    with pytest.raises(UnavailableError, match=r"is not built .*python -m dtfsal\.engines\.native\.frontend"):
        find_front_end_library()
    monkeypatch.setenv(FRONT_END_LIBRARY_VARIABLE, "none")
    assert installed_front_end() is None
    monkeypatch.setenv(FRONT_END_LIBRARY_VARIABLE, str(tmp_path / "none.so"))
    with pytest.raises(UnavailableError, match="is not a file"):
        installed_front_end()
    (tmp_path / "none.so").write_text("no library")
    with pytest.raises(UnavailableError, match="is not the front-end's library"):
        installed_front_end()
    monkeypatch.delenv(FRONT_END_LIBRARY_VARIABLE)
    place = tmp_path / "dtfsal" / LIBRARY_NAME
    place.parent.mkdir()
    place.write_bytes(b"")
    assert find_front_end_library() == place


def test_the_command_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(native_build.shutil, "which", lambda _: None)
    assert main([]) == 5
    assert "needs nvcc" in capsys.readouterr().err


def test_a_failed_compilation_is_one_sentence(tmp_path):
    (tmp_path / "CMakeLists.txt").write_text('message(FATAL_ERROR "an error of ours")\n')
    with pytest.raises(EngineError, match="`cmake` failed with exit code 1"):
        native_build.build_library(tmp_path, tmp_path / "lib.so")
    assert not (tmp_path / "lib.so").exists()
