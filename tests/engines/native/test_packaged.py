"""Which libraries run: the wheel's own as the installation's list has them, and those that are built here."""

import dataclasses
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dtfsal.engines.errors import UnavailableError
from dtfsal.engines.native import builder, packaged
from dtfsal.engines.native.builder import NativeProject
from dtfsal.engines.native.packaged import packaged_library, system_name
from dtfsal.engines.native.projects import CPU_KERNELS
from dtfsal.engines.native.trust import record_build, sources_digest
from dtfsal.runtime.capi.build import C_LIBRARY

CONTENT = b"abc"
# Of "abc", as FIPS 180-2 has it (ba7816bf...), in the Base64 of RECORD.
DIGEST = "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An installation of a wheel with one library, libx.so."""
    library = tmp_path / "site" / "dtfsal" / "native" / "lib" / "libx.so"
    record = tmp_path / "site" / "dtfsal-0.1.0.dist-info" / "RECORD"
    for folder in (library.parent, record.parent):
        folder.mkdir(parents=True)
    library.write_bytes(CONTENT)
    record.write_text(f"dtfsal/native/lib/libx.so,sha256={DIGEST},3\ndtfsal-0.1.0.dist-info/RECORD,,\n")
    (record.parent / "METADATA").write_text("Metadata-Version: 2.4\nName: dtfsal\nVersion: 0.1.0\n")
    monkeypatch.setattr(packaged, "PREFIX", library.parents[1])
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return library


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A library that is neither named nor built."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("X_LIBRARY", raising=False)
    sources = tmp_path / "source"
    sources.mkdir()
    (sources / "x.cpp").write_text("int x;")
    return NativeProject(name="x", title="the library x", sources=sources, library="libx.so", variable="X_LIBRARY")


def test_the_wheels_own_library_runs(installed, project):
    assert packaged_library("libx.so", "x") == installed
    found = project.locate()
    assert (found.path, found.origin) == (installed, "packaged")
    assert project.find() == installed


def test_what_the_wheel_did_not_carry_does_not(installed, project):
    other = installed.with_name("liby.so")
    other.write_bytes(CONTENT)
    with pytest.raises(UnavailableError, match=r"liby\.so is not the file of y that was installed with dtfsal"):
        packaged_library("liby.so", "y")
    installed.write_bytes(CONTENT + b"d")
    with pytest.raises(UnavailableError, match=r"libx\.so is not the file of the library x .*install dtfsal again"):
        project.find()


def test_the_list_of_another_installation_is_not_asked(installed, monkeypatch, tmp_path):
    """The same file in a folder that no installation lists."""
    copy = tmp_path / "elsewhere" / "lib" / "libx.so"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(CONTENT)
    monkeypatch.setattr(packaged, "PREFIX", copy.parents[1])
    with pytest.raises(UnavailableError, match="is not the file"):
        packaged_library("libx.so", "x")


def test_a_checkout_carries_none(project):
    """The editable installation has no folder for them."""
    assert importlib.metadata.distribution("dtfsal").files is not None
    assert not packaged.PREFIX.exists()
    assert project.locate() is None
    with pytest.raises(UnavailableError, match="the library x is not built"):
        project.find()


def test_what_was_built_here_comes_before_the_wheels(installed, project):
    project.default_library.parent.mkdir(parents=True)
    project.default_library.write_bytes(b"built")
    assert project.locate().origin == "packaged"  # without a record the cache's is a stranger's
    record_build(project.default_library, project.sources)
    assert project.locate() == builder.FoundLibrary(project.default_library, "built")
    (project.sources / "x.cpp").write_text("long x;")
    assert project.locate().origin == "packaged"


def test_a_variable_that_names_no_file_builds_nothing(project, monkeypatch, tmp_path):
    monkeypatch.setattr(builder, "build_library", lambda *_: pytest.fail("it was built"))
    monkeypatch.setenv("X_LIBRARY", str(tmp_path / "gone.so"))
    with pytest.raises(UnavailableError, match=r"X_LIBRARY names .*gone\.so, which is not a file"):
        project.built()
    (tmp_path / "gone.so").write_bytes(b"")
    assert project.built() == tmp_path / "gone.so"


@pytest.mark.parametrize(
    ("system", "names"),
    [
        ("linux", ("libx.so", "libx.so.0")),
        ("darwin", ("libx.dylib", "libx.0.dylib")),
        ("win32", ("libx.dll", "libx.dll")),
    ],
)
def test_each_system_has_its_names(monkeypatch, system, names):
    monkeypatch.setattr(sys, "platform", system)
    assert (system_name("libx.so"), system_name("libx.so", "0")) == names


@pytest.mark.parametrize("library", [C_LIBRARY, CPU_KERNELS], ids=lambda project: project.name)
def test_the_digest_is_of_all_that_is_compiled(library, need_programs):
    """The compiler names the files that it reads: each lies where `sources_digest` looks, so that a change counts."""
    need_programs("c++")
    sources = library.sources.resolve()
    native = Path(builder.__file__).parent.resolve()
    front_end = native / "frontend" / "source"
    compiled = [*sources.rglob("*.cpp"), *(front_end.glob("calls.cpp") if library is C_LIBRARY else ())]
    compiled = [file for file in compiled if not {"tools", "fuzz"} & set(file.parts) and file.stem != "tensorrt"]
    assert compiled
    options = ["-std=c++17", f"-I{native}", f"-I{front_end}", f"-I{sources}/include"]
    for name, value in {"ISA": "x", "LANES": 4, "ROWS": 6, "ENGINES_FROM_LIBRARY": '""'}.items():
        options.append(f"-DDTFSAL_{name}={value}")
    made = subprocess.run(["c++", "-MM", *options, *compiled], capture_output=True, text=True, check=True).stdout
    read = {Path(word).resolve() for word in re.split(r"[\s\\]+", made) if word and not word.endswith(":")}
    folders = [sources, *(folder.resolve() for folder in library.uses)]
    missed = [file for file in read if file.parent != native and not any(file.is_relative_to(f) for f in folders)]
    assert len(read) > len(compiled)
    assert missed == []


def test_the_digest_changes_with_what_is_used(project, tmp_path):
    used = tmp_path / "other" / "source"
    used.mkdir(parents=True)
    (used / "calls.cpp").write_text("int f();")
    user = dataclasses.replace(project, uses=(used,))
    user.default_library.parent.mkdir(parents=True)
    user.default_library.write_bytes(b"built")
    record_build(user.default_library, user.sources, *user.uses)
    assert user.locate().origin == "built"
    digest = sources_digest(user.sources, *user.uses)
    (used / "calls.cpp").write_text("long f();")
    assert sources_digest(user.sources, *user.uses) != digest
    with pytest.raises(UnavailableError, match="is not what this version of dtfsal built"):
        user.locate()
