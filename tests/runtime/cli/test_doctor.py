"""What the doctor says of machines that this one is not."""

import ctypes
import importlib.metadata
import json
import subprocess
import sys
import types

import pytest

from dtfsal.engines.cpu.features import cpu_features
from dtfsal.engines.gpu.driver import GpuDriver, find_gpu_driver
from dtfsal.engines.onnx_runtime.engine import INSTALL_FOR_CUDA
from dtfsal.runtime import environment
from dtfsal.runtime.cli import main
from dtfsal.runtime.environment import check_environment

GPU = GpuDriver("13.0", (("NVIDIA L4", "8.9"),))
RUNTIME = ("dtfsal", "numpy", "pillow", "tqdm", "av", "onnxruntime", "h5py")
EXPORT = ("torch", "safetensors", "onnx", "onnxscript", "onnx-ir", "tensorrt-rtx-cu13", "tensorrt-cu13")
FULL = dict.fromkeys((*RUNTIME, *EXPORT, "openvino", "cuda-core"), "1.0")


@pytest.fixture
def machine(monkeypatch):
    """Pretend that only these packages are installed, and this driver."""

    def pretend(packages, driver=None):
        def version(name):
            if name not in packages:
                raise importlib.metadata.PackageNotFoundError(name)
            return packages[name]

        monkeypatch.setattr(importlib.metadata, "version", version)
        none = GpuDriver(None, problem="libcuda.so.1 is not there, so there is no NVIDIA driver")
        monkeypatch.setattr(environment, "find_gpu_driver", lambda: driver or none)

    return pretend


def without(*names):
    return {name: version for name, version in FULL.items() if name not in names}


def check_named(name):
    return next(check for check in check_environment().checks if check.name == name)


def target_named(name):
    return next(target for target in check_environment().targets if target.name == name)


def test_a_full_machine_without_a_gpu(machine):
    machine(FULL)
    assert {check.status for check in check_environment().checks} == {"ok", "absent"}
    assert check_named("GPU").status == "absent"
    cpu, openvino, gpu, rtx, tensorrt = check_environment().targets
    for target in (cpu, openvino):
        assert (target.can_build, target.can_run) == (True, True)
    assert (gpu.can_build, gpu.can_run) == (True, False)
    assert INSTALL_FOR_CUDA in gpu.run_detail
    for target in (rtx, tensorrt):
        assert (target.can_build, target.can_run) == (True, False)
        assert "no NVIDIA driver" in target.run_detail


def test_the_light_runtime_alone_is_healthy_and_says_how_to_build(machine, capsys):
    machine(without(*EXPORT, "h5py"))
    target = target_named("onnxruntime")
    assert (target.can_build, target.can_run) == (False, True)
    assert "torch, safetensors, onnx, onnxscript, onnx-ir are missing" in target.build_detail
    assert "pip install 'dtfsal[export]'" in target.build_detail
    assert "pip install 'dtfsal[tensorrt-rtx]'" in target_named("tensorrt-rtx").build_detail
    assert "NVIDIA's package index" in target_named("tensorrt").build_detail
    assert check_named("h5py").remedy.endswith("pip install 'dtfsal[hdf5]'`")
    assert main(["doctor"]) == 0
    capsys.readouterr()


def test_one_missing_package_is_named_alone(machine):
    machine(without("onnxscript"))
    assert target_named("onnxruntime").build_detail.startswith("onnxscript is missing")
    assert not target_named("tensorrt-rtx").can_build


def test_two_onnxruntimes_side_by_side_are_an_error(machine, capsys):
    machine(FULL | {"onnxruntime-gpu": "1.0"}, GPU)
    check = check_named("ONNX Runtime")
    assert check.status == "error"
    assert "side by side" in check.detail
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in check.remedy
    assert not target_named("onnxruntime").can_run
    assert not target_named("onnxruntime (GPU)").can_run
    assert main(["doctor", "--json"]) == 5
    assert json.loads(capsys.readouterr().out)["healthy"] is False


def test_a_missing_runtime_package_is_an_error(machine, capsys):
    machine(without("pillow"))
    assert check_named("pillow").status == "error"
    assert main(["doctor"]) == 5
    assert "pip install dtfsal" in capsys.readouterr().out


def test_a_gpu_is_named_with_its_capability(machine):
    machine(FULL, GPU)
    assert check_named("GPU").detail == "NVIDIA L4 (sm_89); the driver supports CUDA 13.0"
    rtx = target_named("tensorrt-rtx")
    assert rtx.can_run
    assert rtx.run_detail == "tensorrt-rtx-cu13 1.0 on NVIDIA L4 (compute capability 8.9)"


@pytest.mark.parametrize(
    ("missing", "message"),
    [("tensorrt-cu13", "tensorrt's library is not installed"), ("cuda-core", "cuda-core is not installed")],
)
def test_what_a_gpu_engine_lacks_is_named(machine, missing, message):
    machine(without(missing), GPU)
    target = target_named("tensorrt")
    assert not target.can_run
    assert message in target.run_detail
    assert "pip install 'dtfsal[tensorrt]'" in target.run_detail


@pytest.mark.parametrize("has_provider", [True, False])
def test_the_gpu_wheel_needs_a_driver_and_its_provider(machine, monkeypatch, has_provider):
    packages = without("onnxruntime") | {"onnxruntime-gpu": "1.0"}
    machine(packages)
    assert "no NVIDIA driver" in target_named("onnxruntime (GPU)").run_detail
    machine(packages, GPU)
    import onnxruntime

    providers = ["CUDAExecutionProvider"] if has_provider else []
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    assert target_named("onnxruntime (GPU)").can_run is has_provider


def fake_cuda(code=0, count=1):
    """NVIDIA's driver library, version 12.4, with GPUs of capability 8.9; or one that does not start."""

    def put(argument, value):
        argument._obj.value = value
        return 0

    def put_name(name, *_):
        name.value = b"NVIDIA L4"
        return 0

    return types.SimpleNamespace(
        cuInit=lambda _flags: code,
        cuDriverGetVersion=lambda version: put(version, 12040),
        cuDeviceGetCount=lambda found: put(found, count),
        cuDeviceGet=put,
        cuDeviceGetName=put_name,
        cuDeviceGetAttribute=lambda value, attribute, _device: put(value, {75: 8, 76: 9}[attribute]),
    )


def test_the_driver_is_asked(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: fake_cuda())
    assert find_gpu_driver() == GpuDriver("12.4", (("NVIDIA L4", "8.9"),))
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: fake_cuda(count=0))
    assert find_gpu_driver().problem == "the driver finds no GPU"
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: fake_cuda(code=999))
    assert "CUDA error 999" in find_gpu_driver().problem
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    assert "not NVIDIA's driver" in find_gpu_driver().problem


def test_no_driver_library_is_told():
    driver = find_gpu_driver("libsurely_not_there.so.1")
    assert driver.gpus == ()
    assert "not there" in driver.problem


def test_a_broken_pyav_and_one_without_encoders_are_errors(machine, monkeypatch):
    machine(FULL)
    monkeypatch.setattr(environment, "_has_encoder", lambda _av, _name: False)
    assert check_named("video encoder").status == "error"
    monkeypatch.setitem(sys.modules, "av", None)
    assert check_named("av").status == "error"


def test_the_report_on_this_machine(capsys):
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for words in ("system", "runtime", "export", "targets", "onnxruntime (GPU)", "tensorrt-rtx", "FFmpeg", "build"):
        assert words in text
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["healthy"] is True
    assert {target["name"] for target in report["targets"]} >= {"onnxruntime", "tensorrt-rtx", "tensorrt"}


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from dtfsal.runtime.cli import main; main(['doctor']);"
        "heavy = {'torch', 'onnx', 'tensorrt', 'tensorrt_rtx', 'h5py'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("features", "wanted"),
    [
        (("avx2", "fma"), "--cpu-kernels"),
        (("avx2", "fma", "avx512f"), "--target openvino`"),
        (("avx2", "avx512f", "avx512_bf16"), "--target openvino --precision bf16"),
        (("avx2", "avx512f", "amx_bf16"), "--target openvino --precision bf16"),
        ((), "onnxruntime"),
    ],
)
def test_the_advice_follows_the_processor(features, wanted):
    said = environment.advice(features, has_openvino=True)
    assert wanted in said
    assert "pip install" not in said
    if "openvino" in wanted:
        assert "pip install 'dtfsal[openvino]'" in environment.advice(features, has_openvino=False)


def test_features_are_read_from_the_system(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu avx2 amx_bf16 fma sse\nbugs\t: none\n")
    assert cpu_features(cpuinfo) == ("avx2", "fma", "amx_bf16")
    assert cpu_features(tmp_path / "none") == ()
    cpuinfo.write_text("Processor\t: AArch64\nFeatures\t: fp asimd\n")
    assert cpu_features(cpuinfo) == ()


def test_openvino_absent(machine):
    machine(without("openvino"))
    assert not target_named("openvino").can_run
    assert "pip install 'dtfsal[openvino]'" in target_named("openvino").run_detail
    assert check_named("openvino").status == "absent"
