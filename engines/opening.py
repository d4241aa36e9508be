"""An engine bundle opened with the back end that its manifest names; a back end is imported when it is needed."""

import os

from dtfsal.engines.bundle.folder import read_bundle
from dtfsal.engines.bundle.shipped import DEFAULT_ENGINE
from dtfsal.engines.engine import Device, Engine, parse_device
from dtfsal.engines.errors import UnavailableError
from dtfsal.engines.limits import checked_argument


def open_engine(
    path: str | os.PathLike[str] = DEFAULT_ENGINE,
    *,
    device: Device = "auto",
    threads: int | None = None,
    verify: bool = True,
    trust: bool = False,
) -> Engine:
    """Open an engine bundle with the back end that its manifest names.

    Args:
        path: the bundle's folder, the name of an engine that the package carries, or a repository of a hub,
            "org/name" or "org/name@revision".
        device: "cpu"; "cuda", or "cuda:1" for another GPU than the first; or "auto" for a CUDA GPU if the back end
            really has one and the CPU otherwise. TensorRT engines run on a GPU only.
        threads: CPU threads of the back end; None for the physical cores that this process may use.
        verify: compare the files' SHA-256 before loading; see `read_bundle`.
        trust: run native code that the engine brings; it can do all that you can. Without it such an engine is refused,
            unless its code is the installed library's.

    Raises:
        UsageError: device or threads has a value that can't work.
        EngineError: the bundle is missing, damaged or can't be loaded, or brings native code and is not trusted.
        EngineMismatchError: it was made for another version, or its parts don't belong together.
        UnavailableError: the back end or the device is absent.
    """
    kind, index = parse_device(device)
    if threads is not None:
        checked_argument("threads", threads)
    bundle = read_bundle(path, verify=verify)
    if bundle.manifest.target == "onnxruntime":
        from dtfsal.engines.onnx_runtime.engine import OnnxRuntimeEngine

        return OnnxRuntimeEngine(bundle, device=device, threads=threads, trust=trust)
    if bundle.manifest.target == "openvino":
        from dtfsal.engines.open_vino.engine import OpenVinoEngine

        return OpenVinoEngine(bundle, device=device, threads=threads, trust=trust)
    if kind == "cpu":
        raise UnavailableError(
            f"{bundle.path} is a {bundle.manifest.target} engine, which runs on an NVIDIA GPU only: leave the device "
            "out, or build one for the CPU with `--target onnxruntime`"
        )
    from dtfsal.engines.tensor_rt.engine import TensorRtEngine

    return TensorRtEngine(bundle, index=index, trust=trust)
