"""A stranger's engine runs no code: not in Python, not by any command. `runtime/capi/test_native_code.py` asks C."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dtfsal import SaliencyPredictor, StreamPredictor, open_engine
from dtfsal.engines import Bundle, read_bundle, write_bundle
from dtfsal.engines.errors import EngineError, EngineMismatchError, UnavailableError
from dtfsal.engines.native.projects import CPU_KERNELS
from dtfsal.engines.native.trust import built_here, engine_libraries, record_build, require_own
from dtfsal.runtime.cli import main

REFUSED = r"brings native code, .*--trust-engine \(in Python trust=True\)"


class Known(NamedTuple):
    """A library that engines ask for."""

    library: str
    version: int
    find: Callable[[], Path]


def test_python_refuses_planted_code(plant, toy_engine):
    engine, was_run = plant(toy_engine)
    for opened in (open_engine, SaliencyPredictor, StreamPredictor):
        with pytest.raises(EngineError, match=REFUSED):
            opened(engine)
    assert not was_run.exists()


@pytest.mark.parametrize("name", ["libx.so", "libx.so.1.2", "X.SO", "x.dll", "x.dylib", "x.pyd"])
def test_under_any_name(plant, toy_engine, name):
    engine, was_run = plant(toy_engine, name)
    assert read_bundle(engine).native_code == (name,)
    with pytest.raises(EngineError, match=REFUSED):
        open_engine(engine)
    assert not was_run.exists()


def test_trust_runs_it(plant, toy_engine):
    """Else the tests here could not fail."""
    engine, was_run = plant(toy_engine)
    code = "import sys, dtfsal; dtfsal.open_engine(sys.argv[1], trust=True).close()"
    subprocess.run([sys.executable, "-c", code, engine], check=True, env=os.environ)
    assert was_run.exists()


def test_the_commands_refuse_planted_code(plant, toy_engine, make_toy_clip, capsys, tmp_path):
    engine, was_run = plant(toy_engine)
    clip = str(make_toy_clip())
    for words in (
        ["predict", clip, "-e", str(engine), "-o", str(tmp_path / "o.csv")],
        ["live", clip, "-e", str(engine), "--no-page"],
        ["parity", str(engine)],
    ):
        assert main(words) == 4
        assert "brings native code" in capsys.readouterr().err
    assert main(["info", str(engine)]) == 0
    assert "libdtfsal_cpu_kernels.so: not run unless" in capsys.readouterr().out
    assert main(["info", "--json", str(engine)]) == 0
    assert json.loads(capsys.readouterr().out)["native_code"] == ["libdtfsal_cpu_kernels.so"]
    assert not was_run.exists()
    assert not (tmp_path / "o.csv").exists()


def test_the_benchmarks_refuse_planted_code(plant, lite_window_engine, capsys):
    engine, was_run = plant(lite_window_engine)
    assert main(["benchmark", "latency", "--engine", str(engine), "--form", "eager", "--runs", "1"]) == 5
    assert "brings native code" in capsys.readouterr().err
    assert main(["benchmark", "layers", "--engine", str(engine), "--runs", "1"]) == 4
    assert not was_run.exists()


@pytest.mark.parametrize("kind", ["latency", "layers"])
def test_the_benchmarks_trust_if_told_to(plant, lite_window_engine, kind):
    engine, was_run = plant(lite_window_engine)
    words = ["benchmark", kind, "--engine", engine, "--runs", "1", "--trust-engine"]
    words += ["--form", "eager"] if kind == "latency" else []
    subprocess.run([sys.executable, "-m", "dtfsal.runtime.cli", *map(str, words)], check=False, env=os.environ)
    assert was_run.exists()


def test_the_command_lines_trust(plant, toy_engine, make_toy_clip, tmp_path):
    engine, was_run = plant(toy_engine)
    words = ["predict", make_toy_clip(), "-e", engine, "-o", tmp_path / "o.csv", "--trust-engine"]
    subprocess.run([sys.executable, "-m", "dtfsal.runtime.cli", *map(str, words)], check=True, env=os.environ)
    assert was_run.exists()


def test_the_installed_library_takes_the_place_of_an_equal_one(toy_engine, tmp_path):
    library = tmp_path / "installed.so"
    library.write_bytes(b"a library")
    known = Known("libx.so", 2, lambda: library)
    bundle = read_bundle(toy_engine)
    files = {name: bundle.file(name) for name in bundle.manifest.files}
    write_bundle(tmp_path / "equal", bundle.manifest, files | {"libx.so": library})
    assert engine_libraries(read_bundle(tmp_path / "equal"), known, trust=False) == [library]
    with pytest.raises(EngineError, match=REFUSED):
        engine_libraries(read_bundle(tmp_path / "equal"), None, trust=False)
    library.write_bytes(b"another")
    with pytest.raises(EngineError, match=REFUSED):
        engine_libraries(read_bundle(tmp_path / "equal"), known, trust=False)


def test_an_engine_asks_for_a_library_by_name_and_version(toy_engine, tmp_path):
    import dataclasses

    bundle = read_bundle(toy_engine)
    known = Known("libx.so", 2, lambda: tmp_path / "installed.so")

    def asking(**libraries):
        named = {name.replace("_", "."): version for name, version in libraries.items()}
        return Bundle(bundle.path, dataclasses.replace(bundle.manifest, native_libraries=named))

    assert engine_libraries(asking(libx_so=2), known, trust=False) == [tmp_path / "installed.so"]
    for other in (asking(libx_so=3), asking(liby_so=2)):
        with pytest.raises(EngineMismatchError, match="which this dtfsal does not have: upgrade"):
            engine_libraries(other, known, trust=False)


def test_a_library_of_the_cache_is_the_users_own(tmp_path):
    sources, library = tmp_path / "source", tmp_path / "cache" / "libx.so"
    sources.mkdir()
    library.parent.mkdir()
    (sources / "x.cpp").write_text("int x;")
    with pytest.raises(UnavailableError, match=r"the library is not built .*: build it$"):
        built_here(library, sources, "the library", "build it")
    library.write_bytes(b"a library")
    record_build(library, sources)
    assert built_here(library, sources, "the library", "build it") == library

    for place in (library, library.parent):
        mode = place.stat().st_mode
        place.chmod(mode | 0o002)
        with pytest.raises(UnavailableError, match=f"since {place} may be written to by other users: run `chmod go-w"):
            built_here(library, sources, "the library", "build it")
        place.chmod(mode)
    library.write_bytes(b"replaced")
    with pytest.raises(UnavailableError, match="is not what this version of dtfsal built"):
        built_here(library, sources, "the library", "build it")
    record_build(library, sources)
    (sources / "x.cpp").write_text("long x;")
    with pytest.raises(UnavailableError, match="is not what this version of dtfsal built"):
        built_here(library, sources, "the library", "build it")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_library_of_another_user_is_refused(tmp_path):
    library = tmp_path / "libx.so"
    library.write_bytes(b"")
    os.chown(library, 12345, -1)
    with pytest.raises(UnavailableError, match="belongs to another user"):
        require_own(library)


def test_the_kernels_are_found_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("DTFSAL_CPU_KERNELS_LIBRARY", raising=False)
    with pytest.raises(UnavailableError, match=r"is not built .*dtfsal native build cpu-kernels"):
        CPU_KERNELS.find()
    monkeypatch.setenv("DTFSAL_CPU_KERNELS_LIBRARY", str(tmp_path / "gone.so"))
    with pytest.raises(UnavailableError, match="which is not a file"):
        CPU_KERNELS.find()


@pytest.mark.parametrize("location", ["../secret.bin", "ABSOLUTE", "a/../../secret.bin"])
@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_weights_outside_the_engine_are_refused(toy_visual_engine, tmp_path, location, target):
    """What a graph names beside itself stays in the folder; the libraries see to it, and this sees to them."""
    import dataclasses

    if target == "openvino":
        pytest.importorskip("openvino")
    np.zeros((1, 1, 4, 1, 1), np.float32).tofile(tmp_path / "secret.bin")
    bundle = read_bundle(toy_visual_engine)
    model = onnx.load(bundle.file("model.onnx"))
    (taps,) = (tensor for tensor in model.graph.initializer if tensor.name == "taps")
    taps.ClearField("raw_data")
    taps.data_location = TensorProto.EXTERNAL
    place = str(tmp_path / "secret.bin") if location == "ABSOLUTE" else location
    for key, value in (("location", place), ("offset", "0"), ("length", "16")):
        taps.external_data.append(helper.onnx.StringStringEntryProto(key=key, value=value))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    manifest = dataclasses.replace(bundle.manifest, target=target)
    write_bundle(tmp_path / "out.engine", manifest, {"model.onnx": tmp_path / "model.onnx"})
    with pytest.raises(EngineError, match="cannot load"):
        open_engine(tmp_path / "out.engine", device="cpu")
