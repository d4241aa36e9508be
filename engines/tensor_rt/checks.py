"""Whether a TensorRT bundle fits this machine: its library, its GPU, its version, its tensors."""

import importlib
from typing import Any

from dtfsal.engines.bundle.folder import Bundle
from dtfsal.engines.bundle.manifest import DYNAMIC, GraphSpec, Manifest, TensorSpec
from dtfsal.engines.errors import EngineMismatchError, UnavailableError
from dtfsal.engines.gpu.driver import find_gpu_driver

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
# TensorRT's names of NumPy's element types.
_TYPES = {"float32": "FLOAT", "float16": "HALF", "int32": "INT32", "int64": "INT64", "uint8": "UINT8", "bool": "BOOL"}


def import_library(manifest: Manifest) -> Any:
    """The library that runs a manifest's target.

    Raises:
        UnavailableError: it is not installed or does not load.
    """
    module = MODULES[manifest.target]
    try:
        return importlib.import_module(module)
    except (ImportError, OSError, RuntimeError) as error:
        where = " with NVIDIA's package index configured in pip" if manifest.target == "tensorrt" else ""
        raise UnavailableError(
            f"running a {manifest.target} engine needs the library {module}, which is not installed: "
            f"pip install 'dtfsal[{manifest.target}]'{where}"
        ) from error


def check_gpu(bundle: Bundle, index: int) -> None:
    """Look for the driver and the GPU before the library is asked, which crashes without them.

    Raises:
        UnavailableError: there is no driver, or no such GPU.
        EngineMismatchError: the engine was built for other GPUs.
    """
    driver = find_gpu_driver()
    if not driver.gpus:
        raise UnavailableError(
            f"{bundle.path} is a {bundle.manifest.target} engine and needs an NVIDIA GPU, but {driver.problem}; "
            "`--target onnxruntime` builds one for the CPU"
        )
    if not 0 <= index < len(driver.gpus):
        raise UnavailableError(f"there is no GPU {index}; this machine has {len(driver.gpus)}, counted from 0")
    name, capability = driver.gpus[index]
    built_for = bundle.manifest.compute_capabilities
    if built_for and capability not in built_for:
        raise EngineMismatchError(
            f"{bundle.path} was built for compute capability {', '.join(built_for)}, and GPU {index}, {name}, has "
            f"{capability}: build it again on this machine, or for the target onnxruntime"
        )


def check_version(bundle: Bundle, trt: Any) -> None:
    """TensorRT reads engines of its own version only; TensorRT-RTX those of its major version.

    Raises:
        EngineMismatchError: the engine is of another.
    """
    manifest = bundle.manifest
    here, built = (str(version).split(".") for version in (trt.__version__, manifest.builder_version))
    same = 1 if manifest.target == "tensorrt-rtx" else 3
    if here[:same] != built[:same]:
        raise EngineMismatchError(
            f"{bundle.path} was built by {manifest.builder} {manifest.builder_version}, and "
            f"{trt.__version__} is installed: install {manifest.builder_version}, or build the engine again"
        )


def check_tensors(where: str, graph: GraphSpec, engine: Any, trt: Any) -> None:
    """Compare an engine's tensors with the manifest's.

    Args:
        where: the engine's file.
        graph: what the manifest says.
        engine: the library's.
        trt: the library.

    Raises:
        EngineMismatchError: they differ.
    """
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    specs: dict[str, tuple[TensorSpec, Any]] = {
        **{tensor.name: (tensor, trt.TensorIOMode.INPUT) for tensor in graph.inputs},
        **{tensor.name: (tensor, trt.TensorIOMode.OUTPUT) for tensor in graph.outputs},
    }
    if set(names) != set(specs):
        raise EngineMismatchError(
            f"{where} has the tensors {', '.join(sorted(names))} and the manifest says {', '.join(sorted(specs))}; "
            "build the engine again"
        )
    for name, (spec, mode) in specs.items():
        shape = tuple(engine.get_tensor_shape(name))
        kind = engine.get_tensor_dtype(name).name
        fits = len(shape) == len(spec.shape) and all(
            size in (wanted, DYNAMIC) for size, wanted in zip(shape, spec.shape, strict=True)
        )
        if engine.get_tensor_mode(name) != mode or kind != _TYPES.get(spec.dtype) or not fits:
            raise EngineMismatchError(
                f"{where}: {name!r} is {kind} {shape} and the manifest says {spec.dtype} {spec.shape}; build the "
                "engine again"
            )
