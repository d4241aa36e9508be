"""What this machine has and can do: packages, FFmpeg, processors, GPU driver, and the targets that follow from them.

Packages are looked up by their metadata and not imported, so nothing heavy loads. Only PyAV and ONNX Runtime, which
the runtime cannot do without, are tried.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import platform
from collections.abc import Collection
from typing import Any, Literal

from dtfsal.engines.cpu.features import BF16_FEATURES, cpu_features
from dtfsal.engines.cpu.threads import default_threads
from dtfsal.engines.errors import UnavailableError
from dtfsal.engines.gpu.driver import GpuDriver, find_gpu_driver
from dtfsal.engines.onnx_runtime.engine import (
    INSTALL_FOR_CPU,
    INSTALL_FOR_CUDA,
    import_onnxruntime,
    installed_distributions,
)
from dtfsal.engines.open_vino.engine import INSTALL as INSTALL_OPENVINO

Status = Literal["ok", "absent", "error"]

_EXPORT_PACKAGES = ("torch", "safetensors", "onnx", "onnxscript", "onnx-ir")
# TensorRT's packages are named after the CUDA version they are for; the first that is there counts.
_TENSORRT = ("tensorrt-cu13", "tensorrt-cu12", "tensorrt")
_TENSORRT_RTX = ("tensorrt-rtx-cu13", "tensorrt-rtx-cu12", "tensorrt-rtx", "tensorrt_rtx")
_INSTALL_RUNTIME = "run `pip install dtfsal`"


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
    """All checks and what follows from them; `advice` is a sentence on which engine suits the CPU."""

    checks: tuple[Check, ...]
    targets: tuple[Target, ...]
    advice: str


def check_environment() -> Environment:
    """Look at everything; takes well under a second."""
    driver = find_gpu_driver()
    checks = (
        Check("system", "Python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        Check("system", "CPU", "ok", f"{default_threads()} physical cores for this process{_features_detail()}"),
        _driver_check(driver),
        Check("runtime", "dtfsal", "ok", _version("dtfsal") or "not installed as a package"),
        *(_package_check("runtime", name, "error", _INSTALL_RUNTIME) for name in ("numpy", "pillow", "tqdm")),
        *_media_checks(),
        _onnxruntime_check(),
        _package_check("outputs", "h5py", "absent", "for HDF5 output run `pip install 'dtfsal[hdf5]'`"),
        _package_check("hub", "huggingface_hub", "absent", "for engines of a hub run `pip install 'dtfsal[hub]'`"),
        *(
            _package_check("export", name, "absent", "to build engines run `pip install 'dtfsal[export]'`")
            for name in _EXPORT_PACKAGES
        ),
        _openvino_check(),
        _any_package_check("TensorRT for RTX", _TENSORRT_RTX, "tensorrt-rtx"),
        _any_package_check("TensorRT", _TENSORRT, "tensorrt"),
    )
    has_openvino = _version("openvino") is not None
    return Environment(checks, _targets(driver), advice(cpu_features(), has_openvino=has_openvino))


def _features_detail() -> str:
    features = cpu_features()
    return f", {', '.join(features)}" if features else ""


def _openvino_check() -> Check:
    return _package_check("export", "openvino", "absent", f"for engines of --target openvino run `{INSTALL_OPENVINO}`")


def advice(features: Collection[str], *, has_openvino: bool) -> str:
    """Which engine of the full model to build for predicting on this CPU, and why, in a sentence.

    Measured (docs/explanation/speed.md): on AVX2 OpenVINO is no faster than ONNX Runtime, and our own operators are
    faster than both; on AVX-512 OpenVINO took half of ONNX Runtime's time, and a third with BF16 instructions.

    Args:
        features: of the CPU, as `cpu_features` names them.
        has_openvino: whether OpenVINO is installed.
    """
    install = "" if has_openvino else f" (first `{INSTALL_OPENVINO}`)"
    if BF16_FEATURES & set(features):
        return f"this CPU multiplies BF16: build with `--target openvino --precision bf16`{install}"
    if "avx512f" in features:
        return f"this CPU has AVX-512: build with `--target openvino`{install}, or with `--cpu-kernels`, and compare"
    return "on this CPU the target onnxruntime is fastest; for dtfsal add `--cpu-kernels` (needs cmake and g++)"


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
        Target(
            "openvino",
            can_export,
            export_detail,
            (openvino := _version("openvino")) is not None,
            f"on the CPU, openvino {openvino}" if openvino else f"openvino is not installed: run `{INSTALL_OPENVINO}`",
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
    return True, f"{driver.gpus[0][0]}; `dtfsal predict --device cuda` says whether CUDA or cuDNN is missing"


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
    missing = [] if driver.gpus else [driver.problem]
    if found is None:
        missing.append(f"{target}'s library is not installed: run `pip install 'dtfsal[{target}]'`")
    elif _version("cuda-core") is None:
        missing.append(f"cuda-core is not installed: run `pip install 'dtfsal[{target}]'`")
    gpus = ", ".join(f"{name} (compute capability {capability})" for name, capability in driver.gpus)
    run_detail = "; ".join(missing) or f"{found and ' '.join(found)} on {gpus}"
    return Target(target, found is not None and can_export, build_detail, not missing, run_detail)
