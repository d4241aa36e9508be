"""Projects outside the tree find what is installed, and all code that is shown compiles and runs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dtfsal.engines import AudioSpec, ClipSpec
from dtfsal.engines.errors import OutputError, UnavailableError
from dtfsal.engines.gpu.driver import find_gpu_driver
from dtfsal.engines.native.builder import tensorrt_headers
from dtfsal.runtime.capi.build import C_LIBRARY
from dtfsal.runtime.capi.library import NativeLibrary, Options, onnxruntime_library

ROOT = Path(__file__).parents[3]
GUIDE = ROOT / "docs" / "how-to" / "embedding.md"
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")


def run(command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def guide_blocks(language):
    """The code of one language in the guide, in its order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)


INSTALL, CMAKE, PKG_CONFIG, RUN = guide_blocks("sh")
COMPILE = PKG_CONFIG.splitlines()[-1]


def shell(script, folder, home, **variables):
    """What a script prints, in a reader's shell: his home, and `dtfsal` and `python3` of these tests."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DTFSAL_")}
    return run(["sh", "-ec", script], cwd=folder, env={**kept, "HOME": str(home), "PATH": path, **variables})


@pytest.fixture(scope="module")
def prefix(tmp_path_factory, need_programs):
    """Installed in the guide's words, and then moved with the reader's home: what is installed names no folder."""
    need_programs("cmake", "c++")
    first = tmp_path_factory.mktemp("first") / "home"
    first.mkdir()
    _, from_python = INSTALL.splitlines()
    shell(from_python, first, first)
    return Path(shutil.move(first, tmp_path_factory.mktemp("moved") / "home")) / "dtfsal"


@pytest.fixture
def environment(prefix):
    return {
        **os.environ,
        "PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig"),
        "LD_LIBRARY_PATH": str(prefix / "lib"),
        "DTFSAL_ONNXRUNTIME_LIBRARY": onnxruntime_library(),
    }


@pytest.fixture(scope="module")
def engine(make_toy_engine):
    return make_toy_engine(
        ClipSpec(frames=4, height=24, width=40, frame_rate_hz=25.0), AudioSpec(slices=9, height=12, width=20)
    )


@pytest.fixture
def guide(tmp_path):
    """The guide's code as files."""
    for language, name in (("cpp", "player.cpp"), ("cmake", "CMakeLists.txt")):
        (code,) = guide_blocks(language)
        (tmp_path / name).write_text(code)
    return tmp_path


def looked(output):
    """The guide's program: sixty frames of one grey have one map, whose value the toy's closed form gives."""
    lines = [line.split() for line in output.splitlines()]
    assert [float(line[0]) for line in lines] == pytest.approx(np.arange(60) / 30, abs=0.006)
    values = {line[2] for line in lines}
    assert len(values) == 1
    assert 0 < float(values.pop()) < 1


def test_the_guide_to_the_letter(guide, prefix, need_programs):
    """All its words, in its order, with nothing but a home: by CMake and by pkg-config, `lite` gives the same maps."""
    need_programs("pkg-config")
    home = prefix.parent
    *settings, player = RUN.splitlines()
    assert player.startswith("./player lite ")
    by_cmake = "\n".join([CMAKE, *settings, player.replace("./player", "build/player")])
    outputs = [shell(by_cmake, guide, home), shell(PKG_CONFIG + RUN, guide, home)]
    lines = [output.splitlines()[-60:] for output in outputs]  # before them, CMake's own
    assert lines[0] == lines[1]
    assert [float(line.split()[0]) for line in lines[0]] == pytest.approx(np.arange(60) / 30, abs=0.006)


@pytest.mark.slow
def test_the_guides_words_in_a_checkout(tmp_path, need_programs):
    """The other way to install; CMake's build folder stays out of the checkout."""
    need_programs("cmake", "c++")
    for room in ("engines", "runtime"):
        (tmp_path / room).symlink_to(ROOT / room)
    in_checkout, _ = INSTALL.splitlines()
    shell(in_checkout, tmp_path, tmp_path)
    assert (tmp_path / "dtfsal" / "lib" / "libdtfsal.so").is_file()


def test_the_readmes_snippet(prefix, environment, tmp_path):
    """With a frame, a map and what uses it around it."""
    (snippet,) = re.findall(r"```c\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "reader.c").write_text(
        "#include <dtfsal.h>\n#include <stdio.h>\n"
        'static void use(const dtfsal_map *map) { printf("%f\\n", map->pts_seconds); }\n'
        "int main(void) {\n"
        "    static unsigned char pixels[3 * 64 * 48];\n    static float values[64 * 48];\n    char message[512];\n"
        "    dtfsal_frame frame = DTFSAL_FRAME_INIT;\n    dtfsal_map map = DTFSAL_MAP_INIT;\n"
        "    frame.format = DTFSAL_RGB24, frame.width = 64, frame.height = 48;\n"
        "    frame.planes[0] = pixels, frame.pitches[0] = 3 * 64;\n"
        "    map.data = values, map.width = 64, map.height = 48;\n"
        f"{snippet}    return 0;\n}}\n"
    )
    flags = run(["pkg-config", "--cflags", "--libs", "dtfsal"], env=environment).split()
    run(["cc", "-std=c99", "-Werror", "-o", tmp_path / "reader", tmp_path / "reader.c", *flags])
    assert run([tmp_path / "reader"], env=environment) == ""  # the first frame's map waits for more frames


def test_the_guides_project_by_cmake(guide, prefix, engine, environment):
    del environment["LD_LIBRARY_PATH"]  # CMake's run path finds it
    run(["cmake", "-S", guide, "-B", guide / "build", f"-DCMAKE_PREFIX_PATH={prefix}"])
    run(["cmake", "--build", guide / "build"])
    looked(run([guide / "build" / "player", engine], env=environment))


def test_the_guides_project_by_pkg_config(guide, engine, environment, need_programs):
    need_programs("pkg-config")
    run(["sh", "-ec", COMPILE], cwd=guide, env=environment)
    looked(run([guide / "player", engine], env=environment))


def test_engines_are_installed_with_the_library(guide, environment):
    """By name, and from the folder of ONNX Runtime's Python package, which holds one file with a full version."""
    run(["sh", "-ec", COMPILE], cwd=guide, env=environment)
    folder = str(Path(environment.pop("DTFSAL_ONNXRUNTIME_LIBRARY")).parent)
    named = environment | {"DTFSAL_ONNXRUNTIME_LIBRARY": folder}
    searched = environment | {"LD_LIBRARY_PATH": f"{environment['LD_LIBRARY_PATH']}:{folder}"}
    outputs = [run([guide / "player", "lite"], env=where) for where in (named, searched)]
    assert outputs[0] == outputs[1]
    assert len(outputs[0].splitlines()) == 60


def test_engines_of_a_named_folder(guide, engine, environment):
    run(["sh", "-ec", COMPILE], cwd=guide, env=environment)
    looked(run([guide / "player", engine.name], env=environment | {"DTFSAL_ENGINES": str(engine.parent)}))


def test_the_guide_fits_on_a_page():
    assert len(GUIDE.read_text().splitlines()) <= 120


def test_the_examples_project(prefix, engine, environment, tmp_path):
    """As anyone builds it; with OpenCV's example where OpenCV's headers are."""
    run(["cmake", "-S", ROOT / "examples", "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={prefix}"])
    run(["cmake", "--build", tmp_path / "build", "--parallel", 2])
    program = tmp_path / "build" / "overlay"
    assert "usage" in subprocess.run([program], capture_output=True, text=True, check=False).stderr
    for stdin, said in (
        (b"RIFF", "not a YUV4MPEG2"),
        (b"YUV4MPEG2 W0 H4\n", "no size"),
        (b"YUV4MPEG2 W4 H4 C444\n", "4:2:0"),
    ):
        done = subprocess.run([program, engine], input=stdin, capture_output=True, check=False, env=environment)
        assert done.returncode == 1
        assert said in done.stderr.decode()
    program = tmp_path / "build" / "predict"
    done = subprocess.run(
        [program, tmp_path, "4", "4", "25"], input=b"", capture_output=True, check=False, env=environment
    )
    assert done.returncode == 1
    assert "no manifest.json" in done.stderr.decode()
    camera = tmp_path / "build" / "opencv_camera"
    if camera.exists():
        done = subprocess.run(
            [camera, engine, "none.mp4", "out.avi"], capture_output=True, check=False, env=environment
        )
        assert done.returncode == 1
        assert "none.mp4 cannot be read" in done.stderr.decode()


def test_opencvs_example_on_a_video(prefix, engine, environment, tmp_path, make_toy_clip):
    import av

    found = subprocess.run(["pkg-config", "--exists", "opencv4"], check=False).returncode == 0
    if not (shutil.which("pkg-config") and found):
        pytest.skip("needs OpenCV's headers (Debian: libopencv-dev)")
    flags = run(["pkg-config", "--cflags", "--libs", "dtfsal", "opencv4"], env=environment).split()
    source = ROOT / "examples" / "cpp" / "opencv_camera.cpp"
    run(["c++", "-std=c++17", "-o", tmp_path / "camera", source, *flags, "-pthread"])
    clip = make_toy_clip(count=12)
    run([tmp_path / "camera", engine, clip, tmp_path / "out.avi"], env=environment)
    with av.open(str(tmp_path / "out.avi")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 12


@pytest.mark.parametrize("compiler", [("cc", "-std=c99", "-x", "c"), ("c++", "-std=c++11", "-x", "c++")])
def test_the_header_by_itself(compiler, tmp_path, need_programs):
    need_programs(compiler[0])
    (tmp_path / "user.c").write_text("#include <dtfsal.h>\n#include <dtfsal.h>\nint main(void) { return 0; }\n")
    run([*compiler, *STRICT, "-I", C_LIBRARY.sources / "include", "-fsyntax-only", tmp_path / "user.c"])


def test_the_headers_example_compiles(tmp_path, need_programs):
    need_programs("cc")
    text = (C_LIBRARY.sources / "include" / "dtfsal.h").read_text()
    comment = text[: text.index("*/")]
    code = "\n".join(line[7:] for line in comment.splitlines() if line.startswith(" *     "))
    assert "dtfsal_close" in code
    (tmp_path / "example.c").write_text(
        "#include <dtfsal.h>\n#include <stdio.h>\n"
        "void use(const float *values, double seconds);\n"
        "int example(unsigned char *pixels, double seconds, float *values);\n"
        f"int example(unsigned char *pixels, double seconds, float *values) {{\n{code}\nreturn 0; }}\n"
    )
    run(
        [
            "cc",
            "-std=c99",
            "-Wall",
            "-Wextra",
            "-Wno-unused-result",
            "-I",
            C_LIBRARY.sources / "include",
            "-c",
            tmp_path / "example.c",
            "-o",
            tmp_path / "example.o",
        ]
    )


def test_only_the_interface_is_visible_and_the_name_has_a_version(prefix, need_programs):
    need_programs("nm", "readelf")
    header = (prefix / "include" / "dtfsal.h").read_text()
    functions = set(re.findall(r"\b(dtfsal_\w+)\(", re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)))
    names = {
        line.split()[-1].split("@")[0]
        for line in run(["nm", "--dynamic", "--defined-only", prefix / "lib" / "libdtfsal.so"]).splitlines()
    }
    assert {name for name in names if not name.startswith("DTFSAL_")} == functions
    dynamic = run(["readelf", "--dynamic", prefix / "lib" / "libdtfsal.so"])
    assert "[libdtfsal.so.0]" in dynamic
    assert not re.search(r"NEEDED.*(onnxruntime|cuda|nvinfer)", dynamic)


def test_the_versions_are_one(library):
    project = re.search(r'^version = "(\d+)\.(\d+)\.(\d+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    major, minor, _ = project.groups()
    assert f"VERSION {'.'.join(project.groups())} " in (C_LIBRARY.sources / "CMakeLists.txt").read_text()
    header = (C_LIBRARY.sources / "include" / "dtfsal.h").read_text()
    assert f"DTFSAL_VERSION_MAJOR {major}\n#define DTFSAL_VERSION_MINOR {minor}\n" in header
    assert library.version() == 1000 * int(major) + int(minor)


def test_a_debian_layout(tmp_path, need_programs):
    """Libraries two folders deep, as packages for several architectures have them."""
    need_programs("cmake", "c++", "pkg-config")
    options = ("-DCMAKE_INSTALL_LIBDIR=lib/x86_64-linux-gnu", "-DCMAKE_BUILD_TYPE=Debug")
    run(["cmake", "-S", C_LIBRARY.sources, "-B", tmp_path / "build", *options])
    text = (tmp_path / "build" / "dtfsal.pc").read_text()
    assert text.startswith("prefix=${pcfiledir}/../../../\nlibdir=${prefix}/lib/x86_64-linux-gnu\n")


@pytest.fixture
def include(need_programs):
    """The folder of TensorRT's headers."""
    need_programs("cmake", "c++", "nvcc")
    try:
        return tensorrt_headers()
    except UnavailableError as error:
        if os.environ.get("DTFSAL_REQUIRE_COMPILERS"):
            raise
        pytest.skip(str(error))


def test_the_tensorrt_back_end_compiles_and_refuses_a_machine_without_a_driver(include, tmp_path, copied_for):
    library = NativeLibrary(C_LIBRARY.build(tmp_path / "lib", tensorrt_include=include))
    assert "built with the headers of TensorRT:" in refusal(library, copied_for("tensorrt-rtx"))
    said = refusal(library, copied_for("tensorrt"))
    if not find_gpu_driver().gpus:
        assert "needs an NVIDIA GPU" in said


def test_the_tensorrt_rtx_back_end_compiles(include, tmp_path):
    """TensorRT's headers with the version's names of TensorRT-RTX's stand in for those, which no package carries."""
    include = Path(shutil.copytree(include, tmp_path / "rtx"))
    version = include / "NvInferVersion.h"
    text = re.sub(r"#define TRT_(\w+)_ENTERPRISE \d+", r"#define TRT_\1_RTX 1", version.read_text())
    version.write_text(text.replace("_ENTERPRISE", "_RTX"))
    build = tmp_path / "build"
    run(
        [
            "cmake",
            "-S",
            C_LIBRARY.sources,
            "-B",
            build,
            "-G",
            "Unix Makefiles",
            f"-DTENSORRT_INCLUDE_DIR={include}",
            "-DDTFSAL_TOOLS=ON",
        ]
    )
    run(["make", "-C", build, "source/tensorrt.cpp.o"])


@pytest.fixture
def copied_for(engine, tmp_path):
    """The engine with another target in its manifest."""
    import hashlib

    def make(target):
        folder = shutil.copytree(engine, tmp_path / f"{target}.engine")
        manifest = folder / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"target": "onnxruntime"', f'"target": "{target}"'))
        digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
        (folder / "manifest.sha256").write_text(f"{digest}  manifest.json\n")
        return folder

    return make


def refusal(library, folder):
    import ctypes

    handle, message = ctypes.c_void_p(), ctypes.create_string_buffer(2000)
    status = library.open(str(folder).encode(), Options(), ctypes.byref(handle), message, len(message))
    assert status < 0
    return message.value.decode()


def test_a_prefix_that_cannot_be_written_to(tmp_path, need_programs):
    need_programs("cmake", "c++")
    bad = tmp_path / "file"
    bad.write_text("")
    with pytest.raises(OutputError, match="not a folder that can be written to"):
        C_LIBRARY.install(bad / "usr")


def test_without_a_compiler(monkeypatch, tmp_path):
    from dtfsal.engines.native import builder as native_build

    monkeypatch.setattr(native_build.shutil, "which", lambda _: None)
    with pytest.raises(UnavailableError, match="install cmake"):
        C_LIBRARY.build(tmp_path)
    with pytest.raises(UnavailableError, match="install cmake"):
        C_LIBRARY.install(tmp_path)
    assert list(tmp_path.iterdir()) == []
