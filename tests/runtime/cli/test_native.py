"""`dtfsal native`: what it lists, builds and skips. Compilations are real ones of the smallest library."""

import ctypes
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dtfsal.engines.native import builder, packaged
from dtfsal.engines.native.trust import record_build
from dtfsal.runtime.capi.build import C_LIBRARY
from dtfsal.runtime.cli import main

NAMES = ["capi", "cpu-kernels", "deform-conv", "frontend"]
MOVED = {
    "dtfsal.runtime.capi": "capi",
    "dtfsal.engines.native.cpu_kernels": "cpu-kernels",
    "dtfsal.engines.native.deform_conv": "deform-conv",
    "dtfsal.engines.native.frontend": "frontend",
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The user's cache folder, empty; no variable names a library."""
    for name in ("LIBRARY", "CPU_KERNELS_LIBRARY", "PLUGIN_LIBRARY", "FRONT_END_LIBRARY"):
        monkeypatch.delenv(f"DTFSAL_{name}", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "dtfsal"


@pytest.fixture
def without(monkeypatch):
    """Hide programs from the search for them."""

    def hide(*programs):
        which = shutil.which
        monkeypatch.setattr(builder.shutil, "which", lambda name: None if name in programs else which(name))

    return hide


@pytest.fixture
def compiled(monkeypatch):
    """Build nothing: an empty file stands for each library. Gives the options of CMake by the library's name."""
    calls = {}

    def build_library(_sources, target, options, *_):
        calls[target.name] = list(options)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"")
        return target

    monkeypatch.setattr(builder, "build_library", build_library)
    monkeypatch.setattr(builder.shutil, "which", lambda name: f"/usr/bin/{name}")
    return calls


def listed(capsys, *words):
    assert main(["native", "list", *words, "--json"]) == 0
    return {one["name"]: one for one in json.loads(capsys.readouterr().out)["libraries"]}


def test_the_list_says_what_is_built_and_what_a_build_needs(capsys, cache, without, monkeypatch, tmp_path):
    without("nvcc")
    found = listed(capsys)
    assert list(found) == NAMES
    assert {(one["built"], one["origin"], one["refused"]) for one in found.values()} == {(False, None, None)}
    assert "install NVIDIA's CUDA toolkit" in found["frontend"]["absent"]
    assert found["deform-conv"]["needs"] == ["nvcc", "cmake", "c++", "TensorRT's headers"]
    assert found["capi"]["library"] == str(cache / "libdtfsal.so")
    cache.mkdir(parents=True)
    (cache / "libdtfsal.so").write_bytes(b"")
    record_build(cache / "libdtfsal.so", C_LIBRARY.sources, *C_LIBRARY.uses)
    elsewhere = tmp_path / "plugins.so"
    elsewhere.write_bytes(b"")
    monkeypatch.setenv("DTFSAL_PLUGIN_LIBRARY", str(elsewhere))
    found = listed(capsys, "deform-conv", "capi")
    assert [one["origin"] for one in found.values()] == ["named", "built"]
    assert found["deform-conv"]["library"] == str(elsewhere)
    assert main(["native"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^  not built +\S+/libdtfsal_frontend\.so$", text, re.MULTILINE)
    assert re.search(r"^  built +\S+/libdtfsal\.so$", text, re.MULTILINE)


def test_the_list_says_what_may_not_run(capsys, cache, monkeypatch, tmp_path):
    """A library of other sources, one of a stranger, and a variable that names nothing are not "built"."""
    cache.mkdir(parents=True)
    for name in ("libdtfsal.so", "libdtfsal_plugins.so"):
        (cache / name).write_bytes(b"")
        record_build(cache / name, tmp_path)
    (cache / "libdtfsal_plugins.so").chmod(0o666)
    monkeypatch.setenv("DTFSAL_CPU_KERNELS_LIBRARY", str(tmp_path / "gone.so"))
    found = listed(capsys)
    assert not any(one["built"] for one in found.values())
    assert "is not what this version of dtfsal built" in found["capi"]["refused"]
    assert "could have been written by somebody else" in found["deform-conv"]["refused"]
    assert "DTFSAL_CPU_KERNELS_LIBRARY names" in found["cpu-kernels"]["refused"]
    assert main(["native"]) == 0
    text = capsys.readouterr().out
    assert text.count("  not built ") == len(NAMES)
    assert text.count("  refused ") == 3


def test_the_list_says_what_the_wheel_carries(capsys, monkeypatch, tmp_path):
    library = tmp_path / "lib" / "libdtfsal.so.0"

    def packaged_library(file_name, _title):
        return library if file_name == library.name else None

    monkeypatch.setattr(builder, "packaged_library", packaged_library)
    found = listed(capsys)
    assert {name: one["origin"] for name, one in found.items() if one["built"]} == {"capi": "packaged"}
    assert found["capi"]["library"] == str(library)
    assert main(["native", "list", "capi"]) == 0
    assert re.search(rf"^  packaged +{re.escape(str(library))}$", capsys.readouterr().out, re.MULTILINE)


def test_the_prefix_is_the_wheels(capsys, monkeypatch, tmp_path):
    assert main(["native", "prefix"]) == 5
    assert "`dtfsal native build capi --prefix DIR`" in capsys.readouterr().err
    monkeypatch.setattr(packaged, "PREFIX", tmp_path)
    assert main(["native", "prefix"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}\n"
    assert main(["native", "prefix", "capi"]) == 2
    assert "takes no names" in capsys.readouterr().err


def test_a_build(capsys, tmp_path, need_programs):
    need_programs("cmake", "c++")
    assert main(["native", "build", "cpu-kernels", "--output", str(tmp_path), "--quiet"]) == 0
    library = capsys.readouterr().out.strip()
    assert Path(library) == tmp_path / "libdtfsal_cpu_kernels.so"
    assert ctypes.CDLL(library).RegisterCustomOps


def test_all_that_the_machine_can_build(capsys, cache, compiled, without):
    without("nvcc")
    assert main(["native", "build"]) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert list(rows) == NAMES
    assert rows["capi"].split() == ["built", str(cache / "libdtfsal.so")]
    assert rows["frontend"].startswith("skipped  the GPU's front-end needs nvcc")
    assert set(compiled) == {"libdtfsal.so", "libdtfsal_cpu_kernels.so"}
    assert (cache / "libdtfsal.so").is_file()


def test_what_is_named_must_be_possible(capsys, compiled, without, tmp_path):
    without("nvcc")
    assert main(["native", "build", "cpu-kernels", "frontend", "-o", str(tmp_path)]) == 5
    assert "needs nvcc" in capsys.readouterr().err
    without("nvcc", "cmake")
    assert main(["native", "build"]) == 5
    said = capsys.readouterr()
    assert said.out.count("skipped") == len(NAMES)
    assert "can build no native library" in said.err


def test_options_reach_cmake(capsys, compiled, tmp_path):
    headers = tmp_path / "include"
    headers.mkdir()
    words = ["native", "build", "-o", str(tmp_path / "lib"), "--architecture", "75", "--architecture", "90"]
    assert main([*words, "--tensorrt-include", str(headers)]) == 2
    assert "has no NvInfer.h" in capsys.readouterr().err
    (headers / "NvInfer.h").write_text("")
    assert main([*words, "--tensorrt-include", str(headers), "--json"]) == 0
    built = json.loads(capsys.readouterr().out)["libraries"]
    assert [one["library"] for one in built] == [str(tmp_path / "lib" / name) for name in compiled]
    gpus, include = "-DCMAKE_CUDA_ARCHITECTURES=75;90", f"-DTENSORRT_INCLUDE_DIR={headers}"
    assert compiled == {
        "libdtfsal.so": [include],
        "libdtfsal_cpu_kernels.so": [],
        "libdtfsal_plugins.so": [include, gpus],
        "libdtfsal_frontend.so": [gpus],
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["native", "build", "plugin"], "there is no native library 'plugin'; there is capi, "),
        (["native", "build", "frontend", "--prefix", "usr"], "--prefix installs capi alone"),
        (["native", "build", "capi", "--architecture", "90"], "which capi is not"),
        (["native", "build", "frontend", "--tensorrt-include", "."], "which frontend does not"),
        (["native", "build", "capi", "--prefix", "usr", "-o", "lib"], "not allowed with"),
    ],
)
def test_wrong_usage(capsys, compiled, words, message):
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert compiled == {}


@pytest.mark.parametrize("module", MOVED)
def test_the_old_commands_name_the_new_one(module, tmp_path):
    """They hand their words on: a folder of headers without TensorRT's, or a GPU where none is meant."""
    wrong = ["--architecture", "90"] if MOVED[module] in ("capi", "cpu-kernels") else ["--prefix", "usr"]
    done = subprocess.run([sys.executable, "-m", module, *wrong], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    note, error = done.stderr.splitlines()
    assert note.endswith(f"use `dtfsal native build {MOVED[module]}`")
    assert error.startswith("dtfsal: error: ")
