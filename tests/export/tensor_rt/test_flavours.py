"""What differs between the libraries: names, versions and limits, against the real ones where they are here."""

import importlib.util
import re
import types
from pathlib import Path

import pytest

from dtfsal.engines.errors import UnavailableError, UsageError
from dtfsal.engines.gpu.driver import GpuDriver
from dtfsal.export.request import graph_forms
from dtfsal.export.tensor_rt import flavours as tensorrt_flavours
from dtfsal.export.tensor_rt.flavours import (
    AMPERE_AND_LATER,
    HARDWARE_LEVELS,
    capability_of,
    check_machine,
    import_tensorrt,
    known_capabilities,
    network_flags,
    reads_attention,
    set_devices,
    set_weights_flags,
    unknown_gpu,
    version_of,
)


def library(version="10.14.1", **members):
    return types.SimpleNamespace(__version__=version, **members)


class Config:
    """A builder's configuration that remembers what it was told."""

    def __init__(self):
        self.flags, self.capabilities = [], {}

    def set_flag(self, flag):
        self.flags.append(flag)

    def set_compute_capability(self, capability, index):
        self.capabilities[index] = capability
        return True


@pytest.mark.parametrize(
    ("text", "version"), [("10.13.3.9", (10, 13)), ("11.4.0.106", (11, 4)), ("1.7.1.116", (1, 7)), ("11.0rc1", (11, 0))]
)
def test_versions(text, version):
    assert version_of(library(text)) == version


@pytest.mark.parametrize(
    ("version", "fine"), [("10.12.0", False), ("10.13.0", True), ("11.4.0", True), ("8.6.1", False)]
)
def test_versions_that_are_too_old_are_said(monkeypatch, version, fine):
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", library(version))
    if fine:
        assert import_tensorrt("tensorrt").__version__ == version
    else:
        with pytest.raises(UnavailableError, match=r"too old: the target 'tensorrt' needs 10\.13 or later"):
            import_tensorrt("tensorrt")


def test_tensorrt_10_13_gets_products_and_softmax_for_attention():
    assert not reads_attention("tensorrt", (10, 13))
    assert reads_attention("tensorrt", (10, 14))
    assert reads_attention("tensorrt-rtx", (1, 7))
    assert graph_forms("tensorrt", "fp16", version=(10, 13)).attention == "decomposed"
    assert graph_forms("tensorrt", "fp16", version=(11, 4)).attention == "padded"
    assert graph_forms("tensorrt", "bf16").attention == "padded"
    assert graph_forms("tensorrt-rtx", "fp16", pooling="conv2d").pooling == "conv2d"


def test_strong_typing_is_asked_for_where_there_is_a_choice():
    ten = library(NetworkDefinitionCreationFlag=types.SimpleNamespace(EXPLICIT_BATCH=0, STRONGLY_TYPED=1))
    without = library("11.0", NetworkDefinitionCreationFlag=types.SimpleNamespace())
    assert (network_flags(ten), network_flags(without)) == (2, 0)


def test_flags_of_weights():
    trt = library(BuilderFlag=types.SimpleNamespace(REFIT="refit", STRIP_PLAN="strip"))
    for refittable, strip, wanted in [
        (False, False, []),
        (True, False, ["refit"]),
        (False, True, ["strip"]),
        (True, True, ["refit", "strip"]),
    ]:
        config = Config()
        set_weights_flags(trt, config, refittable=refittable, strip_weights=strip)
        assert config.flags == wanted


def test_hardware_compatibility(monkeypatch):
    monkeypatch.setattr(tensorrt_flavours, "current_capability", lambda: ("9.0",))
    levels = types.SimpleNamespace(NONE=0, AMPERE_PLUS=1, SAME_COMPUTE_CAPABILITY=2)
    trt = library(HardwareCompatibilityLevel=levels)
    for name, level, capabilities in [
        ("none", None, ("9.0",)),
        ("ampere+", 1, AMPERE_AND_LATER),
        ("same-capability", 2, ("9.0",)),
    ]:
        config = Config()
        assert set_devices(trt, "tensorrt", config, hardware_compatibility=name) == capabilities
        assert getattr(config, "hardware_compatibility_level", None) == level
    older = library("10.8", HardwareCompatibilityLevel=types.SimpleNamespace(NONE=0, AMPERE_PLUS=1))
    with pytest.raises(UsageError, match="has no hardware compatibility 'same-capability'"):
        set_devices(older, "tensorrt", Config(), hardware_compatibility="same-capability")
    with pytest.raises(UsageError, match="hardware compatibility must be one of none"):
        set_devices(trt, "tensorrt", Config(), hardware_compatibility="volta")


def test_names_of_compute_capabilities():
    assert [capability_of(name) for name in ("SM75", "SM120", "SM121", "NONE", "CURRENT")] == [
        "7.5",
        "12.0",
        "12.1",
        "",
        "",
    ]


def test_compute_capabilities_of_the_real_library():
    trt = pytest.importorskip("tensorrt_rtx")
    config = Config()
    assert set_devices(trt, "tensorrt-rtx", config, compute_capabilities=("8.6", "12.0")) == ("8.6", "12.0")
    assert config.num_compute_capabilities == 2
    assert config.capabilities == {0: trt.ComputeCapability.SM86, 1: trt.ComputeCapability.SM120}
    assert set_devices(trt, "tensorrt-rtx", Config())[:4] == ("8.0", "8.6", "8.9", "12.0")
    assert "7.5" in known_capabilities(trt)  # on request only


def test_the_real_library_has_the_names_that_are_used():
    trt = pytest.importorskip("tensorrt_rtx")
    assert network_flags(trt) == 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    assert {"REFIT", "STRIP_PLAN", "REFIT_IDENTICAL"} <= trt.BuilderFlag.__members__.keys()
    assert {"EXCLUDE_WEIGHTS", "INCLUDE_REFIT"} <= trt.SerializationFlag.__members__.keys()
    assert set(HARDWARE_LEVELS.values()) <= trt.HardwareCompatibilityLevel.__members__.keys()
    assert trt.LayerType.ATTENTION_INPUT is not None


def test_tensorrt_11s_runtime_has_the_names_that_are_used():
    """The lean runtime has no builder, but the enumerations and the refitter of its version."""
    trt = pytest.importorskip("tensorrt_lean")
    assert version_of(trt) >= (11, 0)
    assert {"REFIT", "STRIP_PLAN"} <= trt.BuilderFlag.__members__.keys()
    assert not {"FP16", "BF16"} & trt.BuilderFlag.__members__.keys()  # precision is the graph's
    assert {"EXCLUDE_WEIGHTS", "INCLUDE_REFIT"} <= trt.SerializationFlag.__members__.keys()
    assert set(HARDWARE_LEVELS.values()) <= trt.HardwareCompatibilityLevel.__members__.keys()
    for name in ("get_missing_weights", "refit_cuda_engine"):
        assert hasattr(trt.Refitter, name)
    for name in ("create_serialization_config", "serialize_with_config"):
        assert hasattr(trt.ICudaEngine, name)


def test_tensorrt_10s_headers_have_the_names_that_are_used():
    spec = importlib.util.find_spec("kernel_lens")
    if spec is None:
        pytest.skip("needs the TensorRT 10 headers of kernel-lens")
    folder = Path(spec.submodule_search_locations[0]) / "include" / "tensorrt"
    text = "".join(path.read_text(errors="replace") for path in folder.glob("*.h"))
    found = set(re.findall(r"\b(k[A-Z][A-Z_0-9]+)\b", text))
    wanted = {"STRONGLY_TYPED", "REFIT", "STRIP_PLAN", "REFIT_IDENTICAL", "EXCLUDE_WEIGHTS", "ATTENTION_INPUT"}
    assert {f"k{name}" for name in wanted | set(HARDWARE_LEVELS.values())} <= found
    major = re.search(r"define (?:NV_TENSORRT_MAJOR|TRT_MAJOR_ENTERPRISE)\s+(\d+)", text)
    assert major is not None
    assert int(major[1]) == 10


def test_a_machine_without_a_gpu_is_told_what_it_can_do(monkeypatch):
    monkeypatch.setattr(tensorrt_flavours, "import_tensorrt", lambda _target: library())
    monkeypatch.setattr(tensorrt_flavours, "driver_present", lambda: False)
    with pytest.raises(UnavailableError, match="--onnx-only"):
        check_machine("tensorrt")
    assert check_machine("tensorrt-rtx").__version__ == "10.14.1"
    with pytest.raises(UnavailableError, match="--refittable"):
        check_machine("tensorrt-rtx", refittable=True)
    monkeypatch.setattr(tensorrt_flavours, "driver_present", lambda: True)
    assert check_machine("tensorrt", refittable=True).__version__ == "10.14.1"


def test_a_gpu_that_the_library_does_not_know_is_said(monkeypatch):
    """TensorRT-RTX 1.7 runs on 8.9 and on 12.0, and not on 9.0 between them."""
    trt = library("1.7.1", ComputeCapability=types.SimpleNamespace(__members__={"NONE": 0, "SM120": 120, "SM89": 89}))
    monkeypatch.setattr(tensorrt_flavours, "import_tensorrt", lambda _target: trt)

    def with_gpus(*gpus):
        monkeypatch.setattr(tensorrt_flavours, "find_gpu_driver", lambda: GpuDriver("13.0", gpus))

    with_gpus(("H100", "9.0"), ("L4", "8.9"))
    assert "does not run on this machine's GPU, H100 (compute capability 9.0): it knows 8.9, 12.0" in str(
        unknown_gpu("tensorrt-rtx", trt)
    )
    assert unknown_gpu("tensorrt", library("11.4")) is None  # it builds for the GPU that is there
    check_machine("tensorrt-rtx")  # an engine for other machines
    with pytest.raises(UnavailableError, match=r"need a GPU that can run them, and tensorrt_rtx 1\.7\.1 does not"):
        check_machine("tensorrt-rtx", refittable=True)
    with_gpus(("L4", "8.9"))
    assert unknown_gpu("tensorrt-rtx", trt) is None
    check_machine("tensorrt-rtx", refittable=True)
    with_gpus()
    assert unknown_gpu("tensorrt-rtx", trt) is None
