"""The ONNX Runtime back end: CPU, and an NVIDIA GPU where the CUDA provider really is there.

Inputs are bound where they lie and outputs are written straight into the arrays that the caller gets, so a run on the
CPU copies nothing. ONNX Runtime's own log lines and prints are kept off the terminal; what went wrong is in the error.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from dtfsal.engines.arrays import Array, DeviceArray, output_shape
from dtfsal.engines.bundle.folder import Bundle
from dtfsal.engines.bundle.manifest import DYNAMIC, GraphSpec, TensorSpec
from dtfsal.engines.cpu.threads import default_threads
from dtfsal.engines.engine import Device, Engine, parse_device
from dtfsal.engines.errors import EngineError, EngineMismatchError, UnavailableError, UsageError
from dtfsal.engines.native.cpu_kernels import register_cpu_kernels
from dtfsal.engines.native.projects import CPU_KERNELS
from dtfsal.engines.native.trust import engine_libraries

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"
_FATAL_ONLY = 4
# ONNX's names of element types in ONNX Runtime, where they differ from NumPy's.
_ONNX_TYPES = {"float16": "float16", "float32": "float", "float64": "double"}
# Distributions that install into the same folder `onnxruntime` and so overwrite each other.
_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino", "onnxruntime-qnn")


# The two packages share a folder, and pip's extras can only add: one must go before the other comes.
_REMOVE = "pip uninstall -y onnxruntime onnxruntime-gpu"
INSTALL_FOR_CUDA = f"{_REMOVE} && pip install --no-deps onnxruntime-gpu"
INSTALL_FOR_CPU = f"{_REMOVE} && pip install onnxruntime"


def installed_distributions() -> dict[str, str]:
    """Installed packages that provide the module `onnxruntime`, with their versions. More than one is a fault."""
    found = {}
    for name in _DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def import_onnxruntime() -> Any:
    """Import ONNX Runtime, with its log and its telemetry off.

    Since 1.29 the library looks up a telemetry host and writes a device identifier, and in some containers the
    process dies of it (onnxruntime #32173). Only the environment stops that, and only before the library loads. A
    value of `ORT_DISABLE_TELEMETRY` that is already there stays.

    Returns:
        The module `onnxruntime`.

    Raises:
        UnavailableError: it is absent or broken, or two of its packages lie over each other.
    """
    found = installed_distributions()
    if len(found) > 1:
        raise UnavailableError(
            f"{' and '.join(found)} are both installed and overwrite each other's files: run "
            f"`{INSTALL_FOR_CUDA}` for a GPU, or `{INSTALL_FOR_CPU}`"
        )
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise UnavailableError(f"ONNX Runtime cannot be imported ({error}); run `pip install onnxruntime`") from error
    onnxruntime.set_default_logger_severity(_FATAL_ONLY)
    return onnxruntime


class OnnxRuntimeEngine(Engine):
    """Runs a bundle whose target is "onnxruntime".

    Args:
        bundle: what `read_bundle` gave.
        device: "cpu"; "cuda" or "cuda:N" for a GPU or an error; "auto" for a GPU if there is one and else the CPU.
        threads: threads that compute one operator together; None for `default_threads()`.
        trust: run native code that the bundle brings.

    Raises:
        EngineError: the bundle brings native code and is not trusted, or ONNX Runtime can't load a graph.
        EngineMismatchError: a graph's tensors differ from the manifest's.
        UnavailableError: ONNX Runtime or the device is absent.
    """

    def __init__(
        self, bundle: Bundle, *, device: Device = "auto", threads: int | None = None, trust: bool = False
    ) -> None:
        self._device, self._index = parse_device(device)
        self._threads = default_threads() if threads is None else threads
        self._trust = trust
        self._sessions: dict[str, Any] = {}
        self._providers: list[str] = []
        self._version = ""
        super().__init__(bundle)

    @property
    def runs_graphs_side_by_side(self) -> bool:
        """See `Engine.runs_graphs_side_by_side`: each graph is a session of its own."""
        return self._providers == [CPU_PROVIDER]

    def _load(self) -> None:
        libraries = engine_libraries(self.bundle, CPU_KERNELS, trust=self._trust)
        onnxruntime = import_onnxruntime()
        self._version = onnxruntime.__version__
        has_cuda = CUDA_PROVIDER in onnxruntime.get_available_providers()
        if self._device == "cuda" and not has_cuda:
            raise UnavailableError(
                f"device 'cuda' needs ONNX Runtime with its CUDA provider, and {self._version} here has none: run "
                f"`{INSTALL_FOR_CUDA}`, or use device 'cpu'"
            )
        providers = [CPU_PROVIDER]
        if self._device != "cpu" and has_cuda:
            providers.insert(0, CUDA_PROVIDER)
            _preload_cuda_libraries(onnxruntime)
        for name, graph in self.manifest.graphs.items():
            session = self._create_session(onnxruntime, graph, providers, libraries)
            self._sessions[name] = session
            providers = self._providers = list(session.get_providers())  # fallen back once, fallen back for all
            if self._device == "cuda" and CUDA_PROVIDER not in self._providers:
                raise UnavailableError(
                    "device 'cuda' is not usable: ONNX Runtime fell back to the CPU because the NVIDIA driver, CUDA "
                    "or cuDNN is missing or too old; `dtfsal doctor` says which, or use device 'cpu'"
                )
            where = f"{self.bundle.path / graph.file}: graph {name!r}"
            _check_tensors(f"{where} input", graph.inputs, session.get_inputs())
            _check_tensors(f"{where} output", graph.outputs, session.get_outputs())

    def _create_session(self, onnxruntime: Any, graph: GraphSpec, providers: list[str], libraries: list[Path]) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = _FATAL_ONLY
        for library in libraries:
            register_cpu_kernels(options, library)
        if len(self.manifest.graphs) > 1:
            # Each session has threads of its own, which spin for a while after each run: on the cores that the next
            # graph needs. Waiting instead took a frame and a head of `lite` from 89 ms to 53 ms on two cores.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        file = self.bundle.file(graph.file)
        try:
            # From the path, not from bytes: ONNX Runtime then maps an external data file instead of copying it.
            # Its own fallback prints, and hides which provider failed.
            cuda = {"device_id": self._index, "use_tf32": int(self.manifest.precision == "tf32")}  # 1 unless told
            chosen = [(name, cuda) if name == CUDA_PROVIDER else name for name in providers]
            return onnxruntime.InferenceSession(str(file), options, providers=chosen, enable_fallback=0)
        except Exception as error:
            if providers[0] == CUDA_PROVIDER and self._device == "auto":
                return self._create_session(onnxruntime, graph, [CPU_PROVIDER], libraries)
            raise EngineError(
                f"ONNX Runtime {self._version} cannot load {file}: {_first_line(error)}; build the engine again"
            ) from error

    def _run(self, graph: str, inputs: dict[str, Array | DeviceArray]) -> dict[str, Array]:
        session = self._sessions[graph]
        spec = self.manifest.graphs[graph]
        outputs: dict[str, Array] = {}
        try:
            binding = session.io_binding()
            for name, array in inputs.items():
                if isinstance(array, np.ndarray):
                    binding.bind_cpu_input(name, array)
                elif CUDA_PROVIDER in self._providers:
                    binding.bind_input(name, "cuda", self._index, array.dtype.type, list(array.shape), array.pointer)
                else:
                    raise UsageError(f"input {name!r} lies on a GPU and the engine runs on the CPU; copy it first")
            for tensor in spec.outputs:
                shape = output_shape(spec, tensor, inputs)
                if shape is None:
                    binding.bind_output(tensor.name, "cpu")
                    continue
                output = np.empty(shape, dtype=tensor.dtype)
                binding.bind_output(tensor.name, "cpu", 0, output.dtype.type, shape, output.ctypes.data)
                outputs[tensor.name] = output
            session.run_with_iobinding(binding)
            for tensor, value in zip(spec.outputs, binding.get_outputs(), strict=True):
                if tensor.name not in outputs:
                    outputs[tensor.name] = np.array(value.numpy())
        except UsageError:
            raise
        except Exception as error:
            raise EngineError(
                f"ONNX Runtime {self._version} failed in graph {graph!r} of {self.bundle.path}: {_first_line(error)}"
            ) from error
        return {tensor.name: outputs[tensor.name] for tensor in spec.outputs}

    def _close(self) -> None:
        self._sessions.clear()

    def _describe_backend(self) -> dict[str, Any]:
        return {
            "name": "onnxruntime",
            "version": self._version,
            "device": "cuda" if CUDA_PROVIDER in self._providers else "cpu",
            "providers": self._providers,
            "threads": self._threads,
        }


def _preload_cuda_libraries(onnxruntime: Any) -> None:
    """Load CUDA and cuDNN from NVIDIA's wheels if they are there; ONNX Runtime prints what it misses."""
    if hasattr(onnxruntime, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
            onnxruntime.preload_dlls()


def _check_tensors(where: str, specs: tuple[TensorSpec, ...], found: list[Any]) -> None:
    """Compare the model file's tensors with the manifest's; symbolic sizes in the file fit any size."""
    by_name = {tensor.name: tensor for tensor in found}
    if set(by_name) != {spec.name for spec in specs}:
        raise EngineMismatchError(
            f"{where}s are {', '.join(by_name)} and the manifest says {', '.join(spec.name for spec in specs)}; "
            "build the engine again"
        )
    for spec in specs:
        tensor = by_name[spec.name]
        element = f"tensor({_ONNX_TYPES.get(spec.dtype, spec.dtype)})"
        sizes = zip(tensor.shape, spec.shape, strict=False)
        fits = len(tensor.shape) == len(spec.shape) and all(
            not isinstance(size, int) or size == wanted for size, wanted in sizes
        )
        if tensor.type != element or not fits:
            raise EngineMismatchError(
                f"{where} {spec.name!r} is {tensor.type} {tensor.shape} and the manifest says {element} "
                f"{['any' if size == DYNAMIC else size for size in spec.shape]}; build the engine again"
            )


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
