"""ONNX to TensorRT and TensorRT-RTX engines: one code path, the differences in one table.

TensorRT-RTX builds without a GPU, for compute capabilities 8.0, 8.6, 8.9, 12.0 and later at once. TensorRT builds for
the GPU of the machine it runs on.
"""

import contextlib
import dataclasses
import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import onnx

from dtfsal.engines.errors import DtfsalError, UnavailableError
from dtfsal.export.graph import count_operators
from dtfsal.export.lowering import PLUGIN_DOMAIN

TensorRtTarget = Literal["tensorrt-rtx", "tensorrt"]
Progress = Callable[[str, int, int], None]  # phase, steps done, steps in all

# Timing is not part of the result: an engine is the same with and without the cache, only built faster.
TIMING_CACHE_SUFFIX = ".timing-cache"


UNFUSED_ATTENTION = "not supported by a dedicated kernel"  # the builder's words
# Layers that the parser makes for its own shape arithmetic; they are constants of a static graph.
PARSER_LAYERS = "ONNXTRT_"


class EngineBuildError(DtfsalError):
    """The builder refused the graph or failed. Exit code 1."""


@dataclasses.dataclass(frozen=True)
class _Flavour:
    module: str
    extra: str
    plugins: bool
    needs_gpu: bool
    compute_capabilities: tuple[str, ...]


_FLAVOURS: Mapping[TensorRtTarget, _Flavour] = {
    "tensorrt-rtx": _Flavour("tensorrt_rtx", "tensorrt-rtx", False, False, ("8.0", "8.6", "8.9", "12.0")),
    "tensorrt": _Flavour("tensorrt", "tensorrt", True, True, ()),
}


@dataclasses.dataclass(frozen=True)
class BuiltEngine:
    """What a build made.

    Attributes:
        path: the serialized engine.
        builder: the library, e.g. "tensorrt_rtx".
        builder_version: its version.
        compute_capabilities: the GPUs it runs on.
        layers: what was built. With a GPU the engine's own report, layer by layer as it runs; without one the parsed
            network's layers (name, type, output type and shape), since reading an engine takes a driver.
        attention_fused: every Attention node became one fused kernel.
    """

    path: Path
    builder: str
    builder_version: str
    compute_capabilities: tuple[str, ...]
    layers: list[dict[str, Any]]
    attention_fused: bool


def import_tensorrt(target: TensorRtTarget) -> Any:
    """The library of a target.

    Raises:
        UnavailableError: it is not installed or does not load.
    """
    flavour = _FLAVOURS[target]
    try:
        return importlib.import_module(flavour.module)
    except (ImportError, OSError, RuntimeError) as error:
        where = "" if target == "tensorrt-rtx" else " with NVIDIA's package index configured in pip"
        raise UnavailableError(
            f"the target {target!r} needs the library {flavour.module}, which is not here: "
            f"pip install 'dtfsal[{flavour.extra}]'{where}"
        ) from error


def check_target(target: TensorRtTarget) -> None:
    """Find out, before any work is done, whether engines for a target can be built on this machine.

    Raises:
        UnavailableError: the library or, for TensorRT, the GPU is missing.
    """
    import_tensorrt(target)
    if _FLAVOURS[target].needs_gpu and not _driver_present():
        raise UnavailableError(
            f"the target {target!r} builds for the GPU of this machine, and there is none: build on the machine that "
            "will run the engine, or build for 'tensorrt-rtx', which needs no GPU"
        )


def build_tensorrt(
    model: onnx.ModelProto,
    target: TensorRtTarget,
    folder: Path,
    *,
    stem: str = "model",
    progress: Progress | None = None,
    timing_cache: Path | None = None,
) -> BuiltEngine:
    """Build a strongly typed engine: every layer has the precision that the graph says.

    Args:
        model: the graph, as `to_onnx` and `to_reduced` make it; used up, its weights move to a file.
        target: the library.
        folder: where to put the engine and, for the parser, the graph.
        stem: what their files are called before the suffix.
        progress: told of each finished step of each phase.
        timing_cache: a file to read tactic timings from and add them to; made where there is none.

    Raises:
        EngineBuildError: the graph has an operator the library lacks, or the build failed.
        UnavailableError: the library or its GPU is missing.
        KeyboardInterrupt: passed on after the builder has been told to stop.
    """
    check_target(target)
    flavour, trt = _FLAVOURS[target], import_tensorrt(target)
    _refuse_unparsable(model, target, flavour)
    log = _make_logger(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    source = folder / f"{stem}.onnx"
    onnx.save(model, source, save_as_external_data=True, location=f"{source.name}.data")
    if not parser.parse_from_file(str(source)):
        errors = "; ".join(str(parser.get_error(i).desc()) for i in range(parser.num_errors))
        raise EngineBuildError(f"{flavour.module} {trt.__version__} cannot read the graph: {errors}")

    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    monitor = _make_monitor(trt, progress)
    config.progress_monitor = monitor
    with _timing_cache(config, timing_cache):
        serialized = builder.build_serialized_network(network, config)
        # At first each attention must be one fused kernel, as all of DTFSal's are in FP16 (head dimensions 136 to 168
        # and 32); where the builder has none, as for the `tiny` preset, it may take several layers.
        attention_fused = serialized is not None
        if serialized is None and UNFUSED_ATTENTION in log.last_error and not monitor.interrupted:
            _allow_decomposed_attention(trt, network)
            serialized = builder.build_serialized_network(network, config)
    if monitor.interrupted:
        raise KeyboardInterrupt
    if serialized is None:
        raise EngineBuildError(f"{flavour.module} {trt.__version__} could not build the engine: {log.last_error}")
    path = folder / f"{stem}.engine"
    with path.open("wb") as file:
        file.write(memoryview(serialized))
    layers = _engine_layers(trt, log, path) if _driver_present() else _network_layers(trt, network)
    capabilities = flavour.compute_capabilities or _current_capability()
    return BuiltEngine(path, flavour.module, str(trt.__version__), capabilities, layers, attention_fused)


def _refuse_unparsable(model: onnx.ModelProto, target: str, flavour: _Flavour) -> None:
    """Stop before the parser sees what it cannot take: an unknown node aborts TensorRT-RTX's process."""
    operators = count_operators(model)
    foreign = sorted(name for name in operators if name.startswith(f"{PLUGIN_DOMAIN}::"))
    if foreign and not flavour.plugins:
        raise EngineBuildError(f"the target {target!r} takes no plugins, but the graph has {', '.join(foreign)}")
    if "DeformConv" in operators and not flavour.plugins:
        raise EngineBuildError(f"the target {target!r} has no DeformConv; export the graph with the 'gather' form")


def _allow_decomposed_attention(trt: Any, network: Any) -> None:
    """Let attentions become several layers each."""
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == trt.LayerType.ATTENTION_INPUT:
            layer.__class__ = trt.IAttentionInputLayer
            layer.attention.decomposable = True


def _make_logger(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps the builder's last error for our message, and its lines off the terminal."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last_error = "it gave no reason"

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.last_error = message.strip()

    return Log()


def _make_monitor(trt: Any, progress: Progress | None) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Passes the builder's steps on, and Ctrl-C to the builder, which would swallow the exception."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.totals: dict[str, int] = {}
            self.interrupted = False

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:  # noqa: ARG002
            self.totals[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                if progress is not None:
                    progress(phase_name, step + 1, self.totals.get(phase_name, step + 1))
            except KeyboardInterrupt:
                self.interrupted = True
            return not self.interrupted

        def phase_finish(self, phase_name: str) -> None:
            self.totals.pop(phase_name, None)

    return Monitor()


@contextlib.contextmanager
def _timing_cache(config: Any, path: Path | None) -> Iterator[None]:
    if path is None:
        yield
        return
    known = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(known) or config.create_timing_cache(b"")
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        cache = config.create_timing_cache(b"")  # of another version: start anew
        config.set_timing_cache(cache, ignore_mismatch=False)
    yield
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(memoryview(config.get_timing_cache().serialize()))
    partial.replace(path)


def _network_layers(trt: Any, network: Any) -> list[dict[str, Any]]:
    layers = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.name.startswith(PARSER_LAYERS) or layer.type == trt.LayerType.CONSTANT:
            continue
        output = layer.get_output(0)
        layers.append(
            {"name": layer.name, "type": layer.type.name, "dtype": output.dtype.name, "shape": list(output.shape)}
        )
    return layers


def _engine_layers(trt: Any, log: Any, path: Path) -> list[dict[str, Any]]:
    engine = trt.Runtime(log).deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise EngineBuildError(f"the built engine cannot be read back on this GPU: {log.last_error}")
    report = json.loads(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))
    return [layer if isinstance(layer, dict) else {"name": layer} for layer in report.get("Layers", [])]


def _driver_present() -> bool:
    """Whether an NVIDIA driver with a GPU answers."""
    import ctypes

    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def _current_capability() -> tuple[str, ...]:
    import ctypes

    driver = ctypes.CDLL("libcuda.so.1")
    device, major, minor = ctypes.c_int(0), ctypes.c_int(0), ctypes.c_int(0)
    driver.cuDeviceGet(ctypes.byref(device), 0)
    # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
    driver.cuDeviceGetAttribute(ctypes.byref(major), 75, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
    return (f"{major.value}.{minor.value}",)
