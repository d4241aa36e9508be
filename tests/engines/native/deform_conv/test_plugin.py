"""The TensorRT plugin without a GPU: what the library shows, how it loads, and what its plugin answers."""

import json
import os
import re
import subprocess

import pytest

from dtfsal.engines.errors import EngineError, UnavailableError
from dtfsal.engines.native.deform_conv import load_plugin_library
from dtfsal.engines.native.deform_conv.interface import DeformConvCall, DeformConvLibrary, DeformConvSizes
from dtfsal.engines.native.projects import DEFORM_CONV


@pytest.fixture(scope="session")
def facts(tmp_path_factory, plugin_library, headers, cases):
    """What the driver prints: a list of values for each fact."""
    cases.need("c++", "nvcc")
    program = tmp_path_factory.mktemp("driver") / "driver"
    cuda = re.search(r"TOP=(\S+)", subprocess.run(["nvcc", "--dryrun", "x.cu"], capture_output=True, text=True).stderr)
    includes = ["-isystem", str(headers), "-isystem", f"{cuda[1]}/include"]
    command = ["c++", "-std=c++17", "-Wall", "-Wextra", "-Werror", *includes, str(cases.DRIVER), "-o", str(program)]
    subprocess.run([*command, "-ldl"], check=True)
    result = subprocess.run([str(program), str(plugin_library)], capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = {}
    for line in result.stdout.splitlines():
        name, value = line.split(": ", 1)
        found.setdefault(name, []).append(value)
    return found


def test_the_creator_makes_clones_and_reads_back(facts):
    assert facts["creators"] == ["1 dtfsal DeformConv2d 1"]
    assert facts["defaults"] == ["stride=1,1 padding=1,1 dilation=1,1 groups=1 offset_groups=1"]
    written = ["stride=2,3 padding=0,0 dilation=1,1 groups=2 offset_groups=2"]
    assert facts["clone"] == facts["read back"] == written


def test_formats(facts):
    answers = {name.removeprefix("supports "): v for name, (v, *_) in facts.items() if name.startswith("supports ")}
    assert answers == {
        "fp32 linear": "yes",
        "fp16 linear": "yes",
        "bf16 channels last": "yes",
        "fp16 channels last, fp32 positions": "yes",
        "fp32 channels last": "yes",
        "fp32 in vectors of eight": "no",
        "fp32, fp16 positions": "no",
        "int8": "no",
        "fp16 channels last, 380 channels": "no",
        "fp16 with fp32 weights": "no",
    }


def test_shapes_are_those_of_a_convolution(facts):
    # (7 + 2 - 2 - 1) / 1 + 1 = 7; with stride 2, 3 and no padding (7 - 3) / 2 + 1 = 3 and (12 - 3) / 3 + 1 = 4.
    assert facts["output shape"] == ["0 16 192 7 12", "0 16 192 3 4"]


def workspace_bytes(library, batch, tactic):
    """What the C interface says for a tactic and the driver's shapes; "0x0" stands for the default tactic."""
    tile, splits = map(int, tactic.split("x"))
    call = DeformConvSizes(
        shape=(batch, 384, 7, 12), out_channels=192, kernel=(3, 3), padding=(1, 1), dtype="float16",
        position_dtype="float16", x_layout="nhwc", y_layout="nhwc", tile_n=tile, splits=splits or 1,
    )  # fmt: skip
    return library.workspace_bytes(DeformConvCall(sizes=call, x=16, weight=16, offset=16, y=16))


def test_tactics_and_their_workspace(facts, plugin_library):
    """Without a GPU the library counts with a usual number of multiprocessors."""
    assert facts["configured"] == ["0", "0"]
    tactics = facts["tactics"][0].split()
    assert {tactic.split("x")[0] for tactic in tactics} == {"64", "128", "192"}
    assert any(not tactic.endswith("x1") for tactic in tactics)  # 21 blocks are few for a card
    assert len(set(tactics)) == len(tactics)
    assert facts["tactics"] == [" ".join(tactics)] * 2  # the second for batches 1 to 256, tuned for the same 16
    library = DeformConvLibrary(plugin_library)
    fixed, dynamic, from_engine = map(int, facts["workspace"])
    assert fixed == max(workspace_bytes(library, 16, tactic) for tactic in tactics)
    # The plugin that an engine has was never configured, and is asked all the same.
    assert from_engine == dynamic
    assert dynamic == max(workspace_bytes(library, b, t) for b in (1, 5, 16, 100, 256) for t in [*tactics, "0x0"])


def test_each_tactic_counts_though_the_shapes_are_told_but_once(facts):
    (said,) = facts["tactic after shapes"]
    assert said == "0 dtfsal::DeformConv2d: a pointer that is needed is null"
    assert facts["impossible tactic"] == ["-1"]


def test_wrong_sizes_and_pointers_are_said(facts):
    assert facts["shape change"] == ["0", "-1"]
    assert facts["enqueue of null"] == ["refused", "refused"]
    assert facts["configured wrongly"] == ["-1"]
    for problem in (
        "a pointer that is needed is null",
        "offset is (16, 17, 7, 12) and must be (16, 18, 7, 12)",
        "it was given no shapes that it can work with",
        "tile_n must be 64, 128, 192 or 256",
    ):
        assert any(line.startswith(f"dtfsal::DeformConv2d: {problem}") for line in facts["logged"])


def test_faults_in_fields_are_clear_errors(facts):
    assert facts["bad fields"] == facts["incomplete engine"] == ["refused"]
    for problem in (
        "stride and dilation must be positive",
        "padding must not be negative",
        "groups and offset_groups must be positive",
        "the field 'stride' must be two INT32 values",
        "there is no field 'colour', only stride, padding, dilation, groups and offset_groups",
        "the field 'groups' must be one INT32 value",
        "the field 'groups' is given twice",
        "the serialised plugin lacks the field 'offset_groups'",
    ):
        assert f"dtfsal::DeformConv2d node: {problem}" in facts["logged"]


def test_the_library_needs_no_tensorrt_and_shows_only_its_entries(plugin_library, cases):
    cases.need("readelf", "nm")
    needed = subprocess.run(["readelf", "-d", plugin_library], capture_output=True, text=True, check=True).stdout
    assert not re.search(r"NEEDED.*(nvinfer|cudart|cuda)", needed)
    shown = subprocess.run(["nm", "-D", "--defined-only", plugin_library], capture_output=True, text=True, check=True)
    assert {line.split()[-1] for line in shown.stdout.splitlines()} == {
        "getCreators",
        "setLoggerFinder",
        "dtfsal_deform_conv_launch",
        "dtfsal_deform_conv_message",
        "dtfsal_deform_conv_multiprocessors",
        "dtfsal_deform_conv_workspace_bytes",
    }


def architectures(folder, headers, *options, **environment):
    """The GPUs that CMake, told so much, has nvcc compile for."""
    options = (*options, f"-DTENSORRT_INCLUDE_DIR={headers}", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON")
    command = ["cmake", "-S", str(DEFORM_CONV.sources), "-B", str(folder), *options]
    subprocess.run(command, capture_output=True, check=True, env={**os.environ, **environment})
    (kernels,) = [
        c["command"] for c in json.loads((folder / "compile_commands.json").read_text()) if ".cu" in c["file"]
    ]
    return re.findall(r"sm_(\d+)", kernels), re.findall(r"code=\[?compute_(\d+)", kernels)


def test_the_default_is_all_gpus_from_turing_on(tmp_path, cases, headers, monkeypatch):
    """A library for Turing alone would run on every later GPU, translated, and without BF16."""
    cases.need("cmake", "c++", "nvcc")
    monkeypatch.delenv("CUDAARCHS", raising=False)
    real, virtual = architectures(tmp_path / "default", headers)
    assert real[:5] == ["75", "80", "86", "89", "90"]
    assert virtual == real[-1:]  # for GPUs yet to come
    release = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True).stdout
    since_13 = int(re.search(r"release (\d+)", release)[1]) >= 13
    assert ("110" in real) == since_13  # it runs no code for 10.0, and none translated from 12.0
    assert architectures(tmp_path / "one", headers, "-DCMAKE_CUDA_ARCHITECTURES=89") == (["89"], ["89"])
    assert architectures(tmp_path / "environment", headers, CUDAARCHS="86")[0] == ["86"]


@pytest.mark.parametrize("module", ["tensorrt_lean", "tensorrt_rtx"])
def test_tensorrts_own_registry_takes_the_library(plugin_library, module):
    trt = pytest.importorskip(module)
    load_plugin_library(trt, plugin_library)
    load_plugin_library(trt, plugin_library)  # once is enough, twice is no error
    creator = trt.get_plugin_registry().get_creator("DeformConv2d", "1", "dtfsal")
    assert {field.name for field in creator.field_names} == {"stride", "padding", "dilation", "groups", "offset_groups"}


def test_tensorrts_python_makes_a_plugin(plugin_library):
    np = pytest.importorskip("numpy")
    trt = pytest.importorskip("tensorrt_lean")
    load_plugin_library(trt, plugin_library)
    creator = trt.get_plugin_registry().get_creator("DeformConv2d", "1", "dtfsal")

    def create(**fields):
        values = {name: np.array(value, np.int32) for name, value in fields.items()}
        made = [trt.PluginField(name, value, trt.PluginFieldType.INT32) for name, value in values.items()]
        return creator.create_plugin("node", trt.PluginFieldCollection(made), trt.TensorRTPhase.BUILD)

    assert create(stride=[1, 1], groups=[1]) is not None
    assert create(stride=[0, 1]) is None


def test_a_missing_or_foreign_library_is_said(tmp_path, monkeypatch):
    class Registry:
        def get_creator(self, *_):
            return None

        def load_library(self, _):
            return None

    class Module:
        @staticmethod
        def get_plugin_registry():
            return Registry()

    with pytest.raises(UnavailableError, match=r"nowhere\.so is not there; build it with"):
        load_plugin_library(Module, tmp_path / "nowhere.so")
    (tmp_path / "text.so").write_text("text")
    with pytest.raises(EngineError, match="is not a TensorRT plugin library"):
        load_plugin_library(Module, tmp_path / "text.so")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("DTFSAL_PLUGIN_LIBRARY", raising=False)
    with pytest.raises(UnavailableError, match="the TensorRT plugin is not built"):
        DEFORM_CONV.find()
    monkeypatch.setenv("DTFSAL_PLUGIN_LIBRARY", str(tmp_path / "gone.so"))
    with pytest.raises(UnavailableError, match="which is not a file"):
        DEFORM_CONV.find()
    monkeypatch.setenv("DTFSAL_PLUGIN_LIBRARY", str(tmp_path / "text.so"))
    assert DEFORM_CONV.find() == tmp_path / "text.so"
