"""What C loads: the installed library, and an engine's own only where it is trusted."""

import dataclasses
import os
import subprocess
import sys

import pytest

from dtfsal.engines import read_bundle, write_bundle
from dtfsal.engines.errors import EngineError, UnavailableError
from dtfsal.engines.native.projects import CPU_KERNELS
from dtfsal.engines.native.trust import record_build, sources_digest
from dtfsal.runtime.capi import NativePredictor

NAME = "libdtfsal_cpu_kernels.so"


def asking(engine, folder, version=1):
    """The engine, asking for the library and not bringing it."""
    bundle = read_bundle(engine)
    manifest = dataclasses.replace(bundle.manifest, native_libraries={NAME: version})
    write_bundle(folder, manifest, {name: bundle.file(name) for name in bundle.manifest.files})
    return folder


def opened_elsewhere(library, engine, **options):
    """In a process of its own, since a library that was loaded once runs no constructor again."""
    code = (
        "import sys; from dtfsal.runtime.capi import NativePredictor\n"
        f"NativePredictor(sys.argv[1], library=sys.argv[2], **{options!r}).close()"
    )
    subprocess.run([sys.executable, "-c", code, str(engine), str(library)], check=True, env=os.environ)


def test_planted_code_is_not_run(plant, toy_engine, library):
    engine, was_run = plant(toy_engine)
    with pytest.raises(EngineError, match=r"brings native code, libdtfsal_cpu_kernels\.so.*options\.trust_engine"):
        NativePredictor(engine, library=library)
    assert not was_run.exists()


def test_trust_runs_it(plant, toy_engine, build):
    engine, was_run = plant(toy_engine)
    opened_elsewhere(build.folder / "libdtfsal.so", engine, trust=True)
    assert was_run.exists()


@pytest.mark.parametrize("name", ["libx.so.1", "X.SO"])
def test_under_any_name(plant, toy_engine, library, name):
    engine, was_run = plant(toy_engine, name)
    with pytest.raises(EngineError, match="brings native code"):
        NativePredictor(engine, library=library)
    assert not was_run.exists()


def test_the_library_comes_from_the_cache(toy_engine, library, build, tmp_path, monkeypatch, planted_library):
    engine = asking(toy_engine, tmp_path / "asking.engine")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PLANTED", str(tmp_path / "was-run"))
    with pytest.raises(UnavailableError, match=f"{NAME} is not built .*dtfsal native build cpu-kernels"):
        NativePredictor(engine, library=library)
    cached = tmp_path / "cache" / "dtfsal" / f"cpu-kernels-{sources_digest(CPU_KERNELS.sources)[:12]}" / NAME
    cached.parent.mkdir(parents=True)
    cached.write_bytes(planted_library.read_bytes())
    with pytest.raises(UnavailableError, match="could have been written by somebody else"):  # it has no record
        NativePredictor(engine, library=library)
    record_build(cached, CPU_KERNELS.sources)
    for place in (cached, cached.parent, tmp_path / "cache"):
        mode = place.stat().st_mode
        place.chmod(mode | 0o020)
        with pytest.raises(UnavailableError, match="could have been written by somebody else"):
            NativePredictor(engine, library=library)
        place.chmod(mode)
    with cached.open("ab") as file:
        file.write(b"more")
    with pytest.raises(UnavailableError, match="is not what this version of dtfsal built"):
        NativePredictor(engine, library=library)
    assert not (tmp_path / "was-run").exists()
    record_build(cached, CPU_KERNELS.sources)
    opened_elsewhere(build.folder / "libdtfsal.so", engine)
    assert (tmp_path / "was-run").exists()


def test_the_variable_names_it_and_it_replaces_an_equal_one(plant, toy_engine, build, planted_library, monkeypatch):
    engine, was_run = plant(toy_engine)
    monkeypatch.setenv("DTFSAL_CPU_KERNELS_LIBRARY", str(planted_library))
    opened_elsewhere(build.folder / "libdtfsal.so", engine)
    assert was_run.exists()


def test_another_version_is_refused(toy_engine, library, tmp_path):
    with pytest.raises(
        EngineError, match=r"needs version 2 of libdtfsal_cpu_kernels\.so, which this dtfsal does not have"
    ):
        NativePredictor(asking(toy_engine, tmp_path / "asking.engine", 2), library=library)


def test_links_are_refused(toy_engine, library, tmp_path):
    engine = asking(toy_engine, tmp_path / "asking.engine")
    (engine / "model.onnx").rename(tmp_path / "blob")
    (engine / "model.onnx").symlink_to(tmp_path / "blob")
    with pytest.raises(EngineError, match="is not a regular file, and an engine holds no links"):
        NativePredictor(engine, library=library)
