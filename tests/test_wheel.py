"""What a wheel and a source archive hold: by the configuration, and (slow) in wheels that are built and used."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pathspec
import pytest
import yaml

from dtfsal.engines.native.packaged import system_name
from dtfsal.engines.native.projects import CPU_KERNELS, PROJECTS
from dtfsal.runtime.capi.build import C_LIBRARY

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["scikit-build"]
LIBRARIES = {
    f"dtfsal/native/lib/{system_name(library, version)}"
    for library, version in ((C_LIBRARY.library, C_LIBRARY.soversion), (CPU_KERNELS.library, ""))
}


def held():
    """The files that the patterns take, by their places in the archive, of those that git knows."""
    spec = pathspec.GitIgnoreSpec.from_lines(SETTINGS["sdist"]["include"])
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    rooms = {link.name for link in (ROOT / "dtfsal").iterdir() if link.is_symlink()}
    places = [f"dtfsal/{name}" if name.split("/")[0] in rooms else name for name in listed.splitlines()]
    return {place for place in places if spec.match_file(place)}


def inside(folder, pattern="*"):
    """The places in the archive of a folder's files."""
    return {f"dtfsal/{file.relative_to(ROOT)}" for file in (ROOT / folder).rglob(pattern) if file.is_file()}


def needed_by_cmake():
    for project in (C_LIBRARY, *PROJECTS):
        for file in project.sources.rglob("*"):
            place = file.resolve().relative_to(ROOT)
            if file.is_file() and not {"tools", "fuzz", "__pycache__"} & set(place.parts):
                yield f"dtfsal/{place}"
    for file in (ROOT / "engines" / "native").iterdir():
        if file.is_file():
            yield f"dtfsal/engines/native/{file.name}"


def test_the_archive_holds_what_builds_and_what_runs():
    files = held()
    assert {"pyproject.toml", "README.md", "LICENSE", "CMakeLists.txt", "dtfsal/py.typed"} <= files
    assert set(needed_by_cmake()) <= files
    assert inside("engines/shipped") | inside("training/shipped") <= files
    assert inside("engines", "*.py") | inside("runtime", "*.py") <= files


def test_the_archive_holds_nothing_else():
    files = held()
    top = {"pyproject.toml", "README.md", "LICENSE", "CMakeLists.txt", "dtfsal"}
    assert {name.split("/")[0] for name in files} == top
    assert not [name for name in files if re.search(r"/(tools|fuzz)/|\.(png|jpg|svg)$", name)]


def test_the_editable_path_leads_to_the_package_alone():
    (editable,) = (one for one in SETTINGS["overrides"] if "editable" in one["if"].get("state", ""))
    assert editable["wheel"]["cmake"] is False
    package = ROOT / editable["wheel"]["packages"]["dtfsal"]
    assert [entry.name for entry in package.parent.iterdir()] == ["dtfsal"]
    assert package.resolve() == ROOT / "dtfsal"


def test_a_release_is_published_for_a_tag_alone():
    """After all has been tried, with no password, from nowhere that the file names; tools are those that are pinned."""
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    jobs = yaml.safe_load(text)["jobs"]
    assert jobs["publish"]["if"] == "startsWith(github.ref, 'refs/tags/v')"
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["needs"] == "check"
    assert set(jobs["check"]["needs"]) == {"wheels", "source", "container"}
    assert [name for name, job in jobs.items() if "gh-action-pypi-publish" in json.dumps(job)] == ["publish"]
    assert not re.search(r"https?:(?!//127\.0\.0\.1)|\w\.(org|io|com)\b|secrets\.|password:", text)
    pinned = set((ROOT / "constraints.txt").read_text().splitlines())
    installed = re.findall(r"pip install (\S+==\S+)", text)
    assert {name.split("==")[0] for name in installed} == {"cibuildwheel", "build", "twine"}
    assert set(installed) <= pinned


@pytest.fixture(scope="module")
def build_wheel(tmp_path_factory):
    """Build a wheel of the checkout with what is installed here, in an environment; nothing is downloaded."""

    def build(**environment):
        pytest.importorskip("scikit_build_core")
        folder = tmp_path_factory.mktemp("wheel")
        command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "-w", folder, ROOT]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
        return done, [*folder.glob("*.whl")]

    return build


@pytest.mark.slow
def test_without_a_compiler_a_wheel_holds_the_sources_alone(build_wheel, need_programs):
    need_programs("cmake")
    broken = {"CC": "/no/such/compiler", "CXX": "/no/such/compiler"}
    done, (wheel,) = build_wheel(**broken)
    assert done.returncode == 0, done.stderr
    assert wheel.name.endswith("-py3-none-any.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert not [name for name in names if name.startswith("dtfsal/native/")]
    assert set(needed_by_cmake()) <= names
    done, wheels = build_wheel(**broken, DTFSAL_REQUIRE_NATIVE="1")  # a release is never without them
    assert (done.returncode != 0, wheels) == (True, [])


@pytest.mark.slow
def test_a_wheel_carries_libraries_that_run(build_wheel, need_programs, tmp_path):
    """In an environment of its own: the command, the C library and the operators, with no compiler on PATH."""
    need_programs("cmake", "c++")
    done, (wheel,) = build_wheel(DTFSAL_REQUIRE_NATIVE="1")
    assert done.returncode == 0, done.stderr
    assert re.search(r"-py3-none-[a-z]+_\w+\.whl$", wheel.name)
    names = set(zipfile.ZipFile(wheel).namelist())
    prefix = "dtfsal/native"
    for name in (
        "include/dtfsal.h",
        "lib/libdtfsal.so",
        "lib/pkgconfig/dtfsal.pc",
        "lib/cmake/dtfsal/dtfsalConfig.cmake",
    ):
        assert f"{prefix}/{name}" in names
    assert names >= LIBRARIES
    assert not [name for name in names if name.startswith(prefix) and name.endswith(".onnx")]  # engines come once

    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    (site,) = environment.glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(pip, check=True)
    # What the wheel depends on, from this environment: behind the wheel's own files.
    (site / "zz.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([python, ROOT / ".ci" / "check_wheel.py"], env=os.environ | cache, check=True)
    assert not (tmp_path / "cache" / "dtfsal").exists()

    library = site / prefix / "lib" / system_name(CPU_KERNELS.library)
    library.write_bytes(library.read_bytes() + b"\0")
    listing = [environment / "bin" / "dtfsal", "native", "list", "cpu-kernels", "--json"]
    listed = subprocess.run(listing, env=os.environ | cache, capture_output=True, text=True, check=True).stdout
    (one,) = json.loads(listed)["libraries"]
    assert (one["built"], "is not the file of" in one["refused"]) == (False, True)
