"""The OpenVINO back end: CPUs, and fastest on those with AVX-512 or AMX.

The engine's file is the ONNX graph, which OpenVINO reads itself: 0.06 s for the full model, beside 1.8 s to compile it,
so that an intermediate format would gain nothing, and one graph is what every check reads. Inputs are bound where they
lie, and outputs are written straight into the arrays that the caller gets.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from dtfsal.engines.arrays import Array, DeviceArray, output_shape
from dtfsal.engines.bundle.folder import Bundle
from dtfsal.engines.bundle.manifest import DYNAMIC, GraphSpec, Precision, TensorSpec
from dtfsal.engines.cpu.threads import default_threads
from dtfsal.engines.engine import Device, Engine, parse_device
from dtfsal.engines.errors import EngineError, EngineMismatchError, UnavailableError, UsageError
from dtfsal.engines.native.trust import engine_libraries

INSTALL = "pip install 'dtfsal[openvino]'"
# What OpenVINO is asked to compute in. An int8 engine's graph says itself what is quantised; the rest of it is float32.
_HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


class OpenVinoEngine(Engine):
    """Runs a bundle whose target is "openvino".

    Where the processor has no instructions for an engine's BF16, OpenVINO computes in float32, which is slower and more
    exact; `describe` says what it computes in.

    Args:
        bundle: what `read_bundle` gave.
        device: "cpu" or "auto", which are the same.
        threads: threads that compute one operator together; None for `default_threads()`.
        trust: open a bundle that brings native code; this back end loads none of it.

    Raises:
        EngineError: OpenVINO can't load a graph.
        EngineMismatchError: a graph's tensors differ from the manifest's.
        UnavailableError: OpenVINO is absent, or the device is a GPU.
    """

    def __init__(
        self, bundle: Bundle, *, device: Device = "auto", threads: int | None = None, trust: bool = False
    ) -> None:
        if parse_device(device)[0] == "cuda":
            raise UnavailableError(
                f"{bundle.path} is an engine for OpenVINO, which runs on the CPU here: use device 'cpu', or build an "
                "engine for a GPU"
            )
        self._threads = default_threads() if threads is None else threads
        self._trust = trust
        self._requests: dict[str, Any] = {}
        self._openvino: Any = None
        self._computes_in = ""
        super().__init__(bundle)

    @property
    def runs_graphs_side_by_side(self) -> bool:
        """See `Engine.runs_graphs_side_by_side`: each graph has a request of its own."""
        return True

    def _load(self) -> None:
        engine_libraries(self.bundle, None, trust=self._trust)
        self._openvino = import_openvino()
        for name, graph in self.manifest.graphs.items():
            compiled = self._compile(_core(), graph)
            self._computes_in = str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())
            where = f"{self.bundle.path / graph.file}: graph {name!r}"
            _check_tensors(f"{where} input", graph.inputs, compiled.inputs)
            _check_tensors(f"{where} output", graph.outputs, compiled.outputs)
            self._requests[name] = compiled.create_infer_request()

    def _compile(self, core: Any, graph: GraphSpec) -> Any:
        file = self.bundle.file(graph.file)
        options = {
            "INFERENCE_PRECISION_HINT": _HINTS.get(self.manifest.precision, "f32"),
            "INFERENCE_NUM_THREADS": self._threads,
            "PERFORMANCE_HINT": "LATENCY",
            # Decoding works on the same cores, and a pinned thread waits for the one it got: with 0.7 of two cores
            # taken by other processes, a frame and a head of `lite` took 171 ms pinned and 117 ms so.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            # Not `core.read_model`: it tries every format on a file that is not a graph, and what they say is printed.
            reader = self._openvino.frontend.FrontEndManager().load_by_framework("onnx")
            return core.compile_model(reader.convert(reader.load(file)), "CPU", options)
        except Exception as error:  # OpenVINO raises plain RuntimeErrors
            raise EngineError(
                f"OpenVINO {self._openvino.__version__} cannot load {file}: {_cause(error)}; build the engine again"
            ) from error

    def _run(self, graph: str, inputs: dict[str, Array | DeviceArray]) -> dict[str, Array]:
        request, spec = self._requests[graph], self.manifest.graphs[graph]
        outputs: dict[str, Array] = {}
        for name, array in inputs.items():
            if not isinstance(array, np.ndarray):
                raise UsageError(f"input {name!r} lies on a GPU and the engine runs on the CPU; copy it first")
            request.set_tensor(name, self._openvino.Tensor(array, shared_memory=True))
        for tensor in spec.outputs:
            shape = output_shape(spec, tensor, inputs)
            if shape is not None:
                outputs[tensor.name] = np.empty(shape, tensor.dtype)
                request.set_tensor(tensor.name, self._openvino.Tensor(outputs[tensor.name], shared_memory=True))
        try:
            request.infer()
        except Exception as error:
            raise EngineError(
                f"OpenVINO {self._openvino.__version__} failed in graph {graph!r} of {self.bundle.path}: "
                f"{_cause(error)}"
            ) from error
        return {
            tensor.name: outputs[tensor.name] if tensor.name in outputs else request.get_tensor(tensor.name).data.copy()
            for tensor in spec.outputs
        }

    def _close(self) -> None:
        self._requests.clear()

    def _describe_backend(self) -> dict[str, Any]:
        return {
            "name": "openvino",
            "version": self._openvino.__version__ if self._openvino else "",
            "device": "cpu",
            "providers": ["CPU"],
            "threads": self._threads,
            "computes_in": self._computes_in,
        }


@functools.cache
def _core() -> Any:
    """The process's one `openvino.Core`, which stays to its end.

    The CPU plugin of each Core sets a stack for signal handlers and unmaps it at its own end. Of two Cores that end in
    the order of their making, the second puts the first's stack back, which is gone by then, and the next signal ends
    the process with a segmentation fault.
    """
    return import_openvino().Core()


@contextlib.contextmanager
def _absent(name: str) -> Iterator[None]:
    """In a with block, make the import of a module fail as if its package were not installed."""
    if name in sys.modules:  # somebody else has imported it already
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.modules.pop(name, None)


def import_openvino() -> Any:
    """Import OpenVINO, without its telemetry.

    The package sends an event as it is imported. Without `openvino_telemetry` it takes a stub of its own instead.

    Returns:
        The module `openvino`.

    Raises:
        UnavailableError: it is absent or broken.
    """
    try:
        with _absent("openvino_telemetry"):
            import openvino
            import openvino.frontend
    except ImportError as error:
        raise UnavailableError(f"OpenVINO cannot be imported ({error}); run `{INSTALL}`") from error
    return openvino


def _check_tensors(where: str, specs: tuple[TensorSpec, ...], found: list[Any]) -> None:
    """Compare the model file's tensors with the manifest's; dynamic sizes in the file fit any size."""
    # A value that an operator leaves as it is has that operator's name as well.
    by_name = {spec.name: tensor for spec in specs for tensor in found if spec.name in tensor.get_names()}
    if not len(by_name) == len(specs) == len(found):
        have = sorted(min(tensor.get_names(), default="?") for tensor in found)
        raise EngineMismatchError(
            f"{where}s are {', '.join(have)} and the manifest says {', '.join(spec.name for spec in specs)}; "
            "build the engine again"
        )
    for spec in specs:
        tensor = by_name[spec.name]
        shape = [DYNAMIC if size.is_dynamic else size.get_length() for size in tensor.get_partial_shape()]
        dtype = np.dtype(tensor.get_element_type().to_dtype())
        sizes = zip(shape, spec.shape, strict=False)
        fits = len(shape) == len(spec.shape) and all(size in (DYNAMIC, wanted) for size, wanted in sizes)
        if dtype != np.dtype(spec.dtype) or not fits:
            raise EngineMismatchError(
                f"{where} {spec.name!r} is {dtype} {shape} and the manifest says {spec.dtype} {list(spec.shape)} "
                f"({DYNAMIC} is any size); build the engine again"
            )


def _cause(error: Exception) -> str:
    """The line of OpenVINO's many that says what is wrong: the last, after places in its sources and general words."""
    lines = [line.strip().removeprefix("-- ") for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
