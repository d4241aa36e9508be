"""ONNX to TensorRT and TensorRT-RTX engines: one code path; what differs is in `dtfsal.export.tensor_rt.flavours`."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import onnx

from dtfsal.engines.errors import DtfsalError
from dtfsal.engines.partial import held, partial_file
from dtfsal.engines.tensor_rt.log import make_logger
from dtfsal.export.graph.conversion import count_operators
from dtfsal.export.graph.lowering import PLUGIN_DOMAIN
from dtfsal.export.tensor_rt.flavours import (
    FLAVOURS,
    Flavour,
    HardwareCompatibility,
    TensorRtTarget,
    allow_decomposed_attention,
    check_machine,
    driver_present,
    network_flags,
    set_devices,
    set_tf32,
    set_weights_flags,
)
from dtfsal.export.tensor_rt.schedule import Step, steps_of_inspector, steps_of_plan

Progress = Callable[[str, int, int], None]  # phase, steps done, steps in all

# Layers that the parser makes for its own shape arithmetic; they are constants of a static graph.
PARSER_LAYERS = "ONNXTRT_"
# An engine without its weights: no back end runs it before they are back, and its name says so.
STRIPPED_SUFFIX = ".stripped.engine"


class EngineBuildError(DtfsalError):
    """The builder refused the graph or failed. Exit code 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchProfile:
    """How many windows an engine takes at once: from `smallest` to `largest`, tuned for `tuned`."""

    smallest: int = 1
    tuned: int
    largest: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How an engine is to be built.

    Attributes:
        batch: the profile of a graph for any batch; None for one of fixed shapes.
        timing_cache: where the builder keeps tactic timings; None for no cache. An engine is the same with and without
            it, only built faster.
        refittable: other weights can be put into it later.
        strip_weights: it is written without its weights, which a refit puts in.
        hardware_compatibility: TensorRT's; see `set_devices`.
        compute_capabilities: TensorRT-RTX's; see `set_devices`.
        plugin_library: the library to load before the graph is parsed.
        tf32: products of float32 factors may round them to TF32.
    """

    batch: BatchProfile | None = None
    timing_cache: Path | None = None
    refittable: bool = False
    strip_weights: bool = False
    hardware_compatibility: HardwareCompatibility = "none"
    compute_capabilities: tuple[str, ...] = ()
    plugin_library: Path | None = None
    tf32: bool = False


@dataclasses.dataclass(frozen=True)
class BuiltEngine:
    """What a build made.

    Attributes:
        path: the serialized engine.
        builder: the library, e.g. "tensorrt_rtx".
        builder_version: its version.
        compute_capabilities: the GPUs it runs on.
        layers: what was built. Where this machine's GPU can run the engine, its own report, layer by layer as it runs;
            elsewhere the parsed network's layers (name, type, output type and shape).
        steps: what the engine runs, from its own report or from the text in its file; None where neither can be had.
        steps_from: "inspector", "plan", or None with no steps.
        attention_fused: every Attention node became one fused kernel.
    """

    path: Path
    builder: str
    builder_version: str
    compute_capabilities: tuple[str, ...]
    layers: list[dict[str, Any]]
    steps: list[Step] | None
    steps_from: Literal["inspector", "plan"] | None
    attention_fused: bool


def build_tensorrt(
    model: onnx.ModelProto,
    target: TensorRtTarget,
    folder: Path,
    *,
    stem: str = "model",
    options: EngineOptions | None = None,
    progress: Progress | None = None,
) -> BuiltEngine:
    """Build an engine.

    Args:
        model: the graph, as `to_onnx` and `to_reduced` make it; used up, its weights move to a file.
        target: the library to build with.
        folder: where the engine goes; the graph is written there, too, for the parser to map the weights.
        stem: what both are called before their suffix.
        options: how to build; None for the defaults.
        progress: told phase, steps done and steps in all. A KeyboardInterrupt from it ends the build.

    Raises:
        EngineBuildError: the graph has an operator the library lacks, or the build failed.
        UnavailableError: the library or its GPU is missing.
        UsageError: an option is not one of the target's.
        KeyboardInterrupt: passed on after the builder has been told to stop.
    """
    options = options or EngineOptions()
    trt = check_machine(target, refittable=options.refittable or options.strip_weights)
    flavour = FLAVOURS[target]
    _refuse_unparsable(model, target, flavour)
    if options.plugin_library is not None:
        _load_plugins(trt, options.plugin_library)
    log = make_logger(trt)
    builder = trt.Builder(log)
    network = builder.create_network(network_flags(trt))
    parser = trt.OnnxParser(network, log)
    source = folder / f"{stem}.onnx"
    onnx.save(model, source, save_as_external_data=True, location=f"{source.name}.data")
    if not parser.parse_from_file(str(source)):
        errors = "; ".join(str(parser.get_error(i).desc()) for i in range(parser.num_errors))
        raise EngineBuildError(f"{flavour.module} {trt.__version__} cannot read the graph: {errors}")

    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # nodes' names in the engine's report
    set_tf32(trt, config, allowed=options.tf32)
    set_weights_flags(trt, config, refittable=options.refittable, strip_weights=options.strip_weights)
    capabilities = set_devices(
        trt,
        target,
        config,
        hardware_compatibility=options.hardware_compatibility,
        compute_capabilities=options.compute_capabilities,
    )
    if options.batch is not None:
        _add_batch_profile(builder, network, config, options.batch)
    monitor = _make_monitor(trt, progress)
    config.progress_monitor = monitor
    with _timing_cache(config, options.timing_cache):
        serialized = builder.build_serialized_network(network, config)
        # At first each attention must be one fused kernel, as all of DTFSal's are in FP16 and BF16 (head dimensions 136
        # to 168 and 32); where the builder has none, as for the `tiny` preset, it may take several layers. The library
        # tells that from other faults in words alone, so any failure is tried again, and the first one is reported.
        attention_fused = serialized is not None
        problem = log.last_error
        if serialized is None and not monitor.interrupted and allow_decomposed_attention(trt, network):
            serialized = builder.build_serialized_network(network, config)
    if monitor.interrupted:
        raise KeyboardInterrupt
    if serialized is None:
        raise EngineBuildError(f"{flavour.module} {trt.__version__} could not build the engine: {problem}")
    path = folder / (f"{stem}{STRIPPED_SUFFIX}" if options.strip_weights else f"{stem}.engine")
    with path.open("wb") as file:
        file.write(memoryview(serialized))
    # Nothing reads an engine back without a driver, nor on a GPU that it was not built for.
    steps: list[Step] | None
    steps_from: Literal["inspector", "plan"]
    inspected = _engine_layers(trt, log, path) if driver_present() and not options.strip_weights else None
    if inspected is not None:
        layers, steps, steps_from = inspected, steps_of_inspector(inspected), "inspector"
    else:
        layers = _network_layers(trt, network)
        steps, steps_from = steps_of_plan(path), "plan"
    return BuiltEngine(
        path,
        flavour.module,
        str(trt.__version__),
        capabilities,
        layers,
        steps,
        steps_from if steps else None,
        attention_fused,
    )


def _refuse_unparsable(model: onnx.ModelProto, target: str, flavour: Flavour) -> None:
    """Stop before the parser sees what it cannot take: an unknown node aborts TensorRT-RTX's process."""
    operators = count_operators(model)
    foreign = sorted(name for name in operators if name.startswith(f"{PLUGIN_DOMAIN}::"))
    if foreign and not flavour.plugins:
        raise EngineBuildError(f"the target {target!r} takes no plugins, but the graph has {', '.join(foreign)}")
    if "DeformConv" in operators and not flavour.plugins:
        raise EngineBuildError(f"the target {target!r} has no DeformConv; export the graph with the 'gather' form")


def _load_plugins(trt: Any, library: Path) -> None:
    from dtfsal.engines.native.deform_conv import load_plugin_library

    load_plugin_library(trt, library)


def _add_batch_profile(builder: Any, network: Any, config: Any, batch: BatchProfile) -> None:
    """One profile over all inputs, whose first sizes are the batch."""
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        rest = list(tensor.shape)[1:]
        sizes = (batch.smallest, batch.tuned, batch.largest)
        profile.set_shape(tensor.name, *([size, *rest] for size in sizes))
    if config.add_optimization_profile(profile) < 0:
        raise EngineBuildError(
            f"the builder does not take batches of {batch.smallest} to {batch.largest} windows, tuned for {batch.tuned}"
        )


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
        cache = config.create_timing_cache(b"")  # of another version: start again
        config.set_timing_cache(cache, ignore_mismatch=False)
    yield
    path.parent.mkdir(parents=True, exist_ok=True)
    with held(path, waits=True), partial_file(path) as partial:  # another build may use the same cache
        partial.write_bytes(memoryview(config.get_timing_cache().serialize()))


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


def _engine_layers(trt: Any, log: Any, path: Path) -> list[dict[str, Any]] | None:
    """The engine's own report, or None where the GPU of this machine is not one that it was built for."""
    engine = trt.Runtime(log).deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        return None
    report = json.loads(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))
    return [layer if isinstance(layer, dict) else {"name": layer} for layer in report.get("Layers", [])]
