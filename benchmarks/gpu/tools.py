"""What the check on a GPU finds on a machine to work with."""

import importlib.util
import shutil
from typing import Any

from dtfsal.engines.errors import UnavailableError
from dtfsal.engines.native.builder import tensorrt_headers

# What the check can use, and what it leaves out where that is missing.
PROGRAMS = {
    "nvcc": "kernels and front-end",
    "cmake": "kernels, front-end and C library",
    "c++": "kernels, front-end and C library",
}
MODULES = {
    "torchvision": "the kernel beside torchvision's",
    "triton": "torch.compile",
    "cuda.core": "front-end and TensorRT engines",
    "av": "videos and the front-end",
    "onnx": "engines",
    "onnxruntime": "engines for ONNX Runtime",
    "tensorrt_rtx": "engines for TensorRT-RTX",
    "tensorrt": "engines for TensorRT",
    "pytest": "tests",
    "hypothesis": "tests",
}


def tools() -> dict[str, Any]:
    """What of all that the check can use is here: `found`, and `left_out`, the parts that miss something, and what.

    It asks no network, and no part of the check needs one.
    """
    found: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for program, what in PROGRAMS.items():
        if (path := shutil.which(program)) is not None:
            found[program] = path
        else:
            left_out[what] = f"needs {program}, which is not on PATH"
    for module, what in MODULES.items():
        if has(module):
            found[module] = "installed"
        else:
            left_out[what] = f"{left_out[what]}; {module}" if what in left_out else f"needs the package {module}"
    try:
        found["TensorRT headers"] = str(tensorrt_headers())
    except UnavailableError as error:
        left_out["the kernels' library"] = str(error)
    return {"found": found, "left_out": left_out}


def has(module: str) -> bool:
    """Whether a package or module is installed."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it would lie in
        return False
