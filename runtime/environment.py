"""What this machine has and can do: packages, FFmpeg, processors, GPU driver, and the targets that follow from them.

Packages are looked up by their metadata and not imported, so nothing heavy loads. Only PyAV and ONNX Runtime, which
the runtime cannot do without, are tried.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import importlib.metadata
import platform
from typing import Any, Literal

from dtfsal.engines.errors import UnavailableError
from dtfsal.engines.onnxruntime_engine import (
    INSTALL_FOR_CPU,
    INSTALL_FOR_CUDA,
    import_onnxruntime,
    installed_distributions,
)
from dtfsal.engines.threads import default_threads

Status = Literal["ok", "absent", "error"]

_CUDA_LIBRARY = "libcuda.so.1"
_EXPORT_PACKAGES = ("torch", "safetensors", "onnx", "onnxscript", "onnx-ir")
# TensorRT's packages are named after the CUDA version they are for; the first that is there counts.
_TENSORRT = ("tensorrt-cu13", "tensorrt-cu12", "tensorrt")
_TENSORRT_RTX = ("tensorrt-rtx-cu13", "tensorrt-rtx-cu12", "tensorrt-rtx", "tensorrt_rtx")
_INSTALL_RUNTIME = "run `pip install dtfsal`"
_NO_GPU_BACK_END = "running it needs the TensorRT back end, which comes with the GPU runtime"


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        section: heading it belongs under.
        name: what it is.
        status: "ok"; "absent" where only some uses need it; "error" where predicting on the CPU fails for it.
        detail: the version, or what is wrong.
        remedy: what to do, or empty.
    """

    section: str
    name: str
    status: Status
    detail: str
    remedy: str = ""


@dataclasses.dataclass(frozen=True)
class Target:
    """Whether engines of a kind can be built and run here, and why or why not.

    Attributes:
        name: the target, as `dtfsal build --target` takes it; "onnxruntime (GPU)" for its CUDA provider.
        can_build: whether `dtfsal build` can make one.
        build_detail: with what, or what is missing and the remedy.
        can_run: whether `dtfsal predict` can run one.
        run_detail: with what, or what is missing and the remedy.
    """

    name: str
    can_build: bool
    build_detail: str
    can_run: bool
    run_detail: str


@dataclasses.dataclass(frozen=True)
class Environment:
    """All checks and what follows from them."""

    checks: tuple[Check, ...]
    targets: tuple[Target, ...]


@dataclasses.dataclass(frozen=True)
class GpuDriver:
    """NVIDIA's driver as it presents itself.

    Attributes:
        version: the newest CUDA version that it supports, e.g. "13.0"; None where it is not there or does not start.
        gpus: each GPU's name and compute capability, e.g. ("NVIDIA L4", "8.9").
        problem: why it is not usable, or empty.
    """

    version: str | None
    gpus: tuple[tuple[str, str], ...] = ()
    problem: str = ""


def check_environment() -> Environment:
    """Look at everything; takes well under a second."""
    driver = find_gpu_driver()
    checks = (
        Check("system", "Python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        Check("system", "CPU", "ok", f"{default_threads()} physical cores for this process"),
        _driver_check(driver),
        Check("runtime", "dtfsal", "ok", _version("dtfsal") or "not installed as a package"),
        *(_package_check("runtime", name, "error", _INSTALL_RUNTIME) for name in ("numpy", "pillow", "tqdm")),
        *_media_checks(),
        _onnxruntime_check(),
        _package_check("outputs", "h5py", "absent", "for HDF5 output run `pip install 'dtfsal[hdf5]'`"),
        *(
            _package_check("export", name, "absent", "to build engines run `pip install 'dtfsal[export]'`")
            for name in _EXPORT_PACKAGES
        ),
        _any_package_check("TensorRT for RTX", _TENSORRT_RTX, "tensorrt-rtx"),
        _any_package_check("TensorRT", _TENSORRT, "tensorrt"),
    )
    return Environment(checks, _targets(driver))


def find_gpu_driver(library: str = _CUDA_LIBRARY) -> GpuDriver:
    """Ask NVIDIA's driver library, if it is there, for its version and its GPUs. No GPU memory is taken.

    Args:
        library: the driver's library, looked for where the system's loader looks.
    """
    try:
        cuda: Any = ctypes.CDLL(library)
    except OSError:
        return GpuDriver(None, problem=f"{library} is not there, so there is no NVIDIA driver")
    try:
        code = cuda.cuInit(0)
        number = ctypes.c_int()
        count = ctypes.c_int()
        if code or cuda.cuDriverGetVersion(ctypes.byref(number)) or cuda.cuDeviceGetCount(ctypes.byref(count)):
            return GpuDriver(None, problem=f"{library} is there and does not start (CUDA error {code})")
        gpus = tuple(_gpu(cuda, device) for device in range(count.value))
    except AttributeError:
        return GpuDriver(None, problem=f"{library} is there and is not NVIDIA's driver")
    version = f"{number.value // 1000}.{number.value % 1000 // 10}"
    return GpuDriver(version, gpus, "" if gpus else "the driver finds no GPU")


def _gpu(cuda: Any, ordinal: int) -> tuple[str, str]:
    device = ctypes.c_int()
    cuda.cuDeviceGet(ctypes.byref(device), ordinal)
    name = ctypes.create_string_buffer(256)
    cuda.cuDeviceGetName(name, len(name), device)
    capability = []
    for attribute in (75, 76):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
        value = ctypes.c_int()
        cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        capability.append(str(value.value))
    return name.value.decode(errors="replace"), ".".join(capability)


def _version(name: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return None


def _first_version(names: tuple[str, ...]) -> tuple[str, str] | None:
    for name in names:
        if version := _version(name):
            return name, version
    return None


def _package_check(section: str, name: str, without: Status, remedy: str) -> Check:
    version = _version(name)
    if version is None:
        return Check(section, name, without, "not installed", remedy)
    return Check(section, name, "ok", version)


def _any_package_check(title: str, names: tuple[str, ...], extra: str) -> Check:
    found = _first_version(names)
    if found is None:
        return Check("export", title, "absent", "not installed", f"run `pip install 'dtfsal[{extra}]'`")
    return Check("export", title, "ok", f"{found[1]} ({found[0]})")


def _driver_check(driver: GpuDriver) -> Check:
    if driver.gpus:
        gpus = ", ".join(f"{name} (sm_{capability.replace('.', '')})" for name, capability in driver.gpus)
        return Check("system", "GPU", "ok", f"{gpus}; the driver supports CUDA {driver.version}")
    return Check("system", "GPU", "absent", driver.problem, "not needed to predict on the CPU or to build engines")


def _media_checks() -> list[Check]:
    try:
        import av
    except ImportError as error:
        return [Check("runtime", "av", "error", f"cannot be imported: {error}", _INSTALL_RUNTIME)]
    checks = [Check("runtime", "av", "ok", f"{_version('av')}, {_ffmpeg_version(av)}")]
    encoders = [name for name in ("libx264", "libopenh264", "h264", "mpeg4") if _has_encoder(av, name)]
    if encoders:
        checks.append(Check("runtime", "video encoder", "ok", encoders[0]))
    else:
        remedy = "install PyAV's own wheel: `pip install --force-reinstall --only-binary av av`"
        checks.append(Check("runtime", "video encoder", "error", "this FFmpeg has no H.264 encoder", remedy))
    return checks


def _ffmpeg_version(av: Any) -> str:
    version = getattr(av, "ffmpeg_version_info", None)
    if version:
        return f"FFmpeg {version}"
    return "libavcodec " + ".".join(str(part) for part in av.library_versions["libavcodec"])


def _has_encoder(av: Any, name: str) -> bool:
    try:
        av.Codec(name, "w")
    except Exception:  # PyAV's class for an unknown codec moved between versions
        return False
    return True


def _onnxruntime_check() -> Check:
    found = installed_distributions()
    names = ", ".join(f"{name} {version}" for name, version in found.items())
    if len(found) > 1:
        return Check(
            "runtime",
            "ONNX Runtime",
            "error",
            f"{names} are installed side by side and overwrite each other's files",
            f"run `{INSTALL_FOR_CUDA}` for a GPU, or `{INSTALL_FOR_CPU}`",
        )
    try:
        import_onnxruntime()
    except UnavailableError as error:
        return Check("runtime", "ONNX Runtime", "error", str(error), _INSTALL_RUNTIME)
    return Check("runtime", "ONNX Runtime", "ok", names or "installed without metadata")


def _targets(driver: GpuDriver) -> tuple[Target, ...]:
    missing = [name for name in _EXPORT_PACKAGES if _version(name) is None]
    can_export = not missing
    export_detail = f"torch {_version('torch')}, onnx {_version('onnx')}"
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        export_detail = f"{', '.join(missing)} {verb} missing: run `pip install 'dtfsal[export]'`"
    runtime = _onnxruntime_check()
    can_cuda, cuda_detail = _cuda_provider(driver, runtime)
    return (
        Target(
            "onnxruntime",
            can_export,
            export_detail,
            runtime.status == "ok",
            f"on the CPU, {runtime.detail}" if runtime.status == "ok" else f"{runtime.detail}: {runtime.remedy}",
        ),
        Target("onnxruntime (GPU)", can_export, export_detail, can_cuda, cuda_detail),
        _tensorrt_target("tensorrt-rtx", _TENSORRT_RTX, can_export, export_detail, driver),
        _tensorrt_target("tensorrt", _TENSORRT, can_export, export_detail, driver),
    )


def _cuda_provider(driver: GpuDriver, runtime: Check) -> tuple[bool, str]:
    if runtime.status != "ok":
        return False, runtime.detail
    if "onnxruntime-gpu" not in installed_distributions():
        return False, f"needs onnxruntime-gpu in place of onnxruntime: run `{INSTALL_FOR_CUDA}`"
    if not driver.gpus:
        return False, driver.problem
    if "CUDAExecutionProvider" not in import_onnxruntime().get_available_providers():
        return False, "this onnxruntime-gpu has no CUDA provider"
    return True, f"{driver.gpus[0][0]}; `dtfsal predict --device cuda` tells if CUDA or cuDNN is missing"


def _tensorrt_target(
    target: str, packages: tuple[str, ...], can_export: bool, export_detail: str, driver: GpuDriver
) -> Target:
    found = _first_version(packages)
    if found is None:
        build_detail = f"the library is not installed: run `pip install 'dtfsal[{target}]'`"
        if target == "tensorrt":
            build_detail += " where NVIDIA's package index can be reached"
    else:
        build_detail = f"{found[0]} {found[1]}" if can_export else export_detail
    run_detail = _NO_GPU_BACK_END if driver.gpus else f"{driver.problem}; and {_NO_GPU_BACK_END}"
    return Target(target, found is not None and can_export, build_detail, False, run_detail)
