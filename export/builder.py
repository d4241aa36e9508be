"""Weights to ONNX to engine bundle: the whole build, atomic."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import onnx

from dtfsal.engines.bundle.folder import bundle_place, write_bundle
from dtfsal.engines.bundle.manifest import EngineTarget, Manifest, Precision, WeightsRecord, sha256_file
from dtfsal.engines.errors import OutputError, UsageError
from dtfsal.engines.native.builder import NativeProject
from dtfsal.engines.native.projects import CPU_KERNELS, DEFORM_CONV
from dtfsal.engines.native.trust import libraries_of
from dtfsal.engines.partial import partial_folder
from dtfsal.export.build_record import RECORD_FILE, BuildRecord, QuantisationRecord, graph_signature
from dtfsal.export.graph.compact import with_half_weights
from dtfsal.export.graph.conversion import to_onnx
from dtfsal.export.graph.costs import NodeCost, node_costs
from dtfsal.export.graph.lowering import Forms
from dtfsal.export.graph.own_operators import with_own_operators
from dtfsal.export.graph.parts import GraphPart, graph_parts
from dtfsal.export.precision.calibration import part_inputs
from dtfsal.export.precision.half import to_reduced
from dtfsal.export.precision.int8 import layer_types, to_int8
from dtfsal.export.report.layers import Evidence, layer_report
from dtfsal.export.request import BuildRequest, graph_forms
from dtfsal.export.tensor_rt.builder import build_tensorrt
from dtfsal.export.tensor_rt.flavours import Version, check_machine, tensorrt_target, version_of
from dtfsal.export.tensor_rt.schedule import Step
from dtfsal.training.model.config import resolve_config
from dtfsal.training.model.inputs import Inputs
from dtfsal.training.model.network import DTFSal
from dtfsal.training.model.precision import declared_precisions
from dtfsal.training.model.seeded import seeded_model
from dtfsal.training.model.weights import load_weights, read_config, shipped_weights

SEEDED_SOURCE = "random, seed {seed}"

# Stage name, steps done, steps in all; a stage of unknown length reports 0 of 0.
Progress = Callable[[str, int, int], None]


def build_engine(request: BuildRequest, *, progress: Progress | None = None) -> Manifest:
    """Build an engine bundle, whole or not at all.

    Args:
        request: what to build.
        progress: told when a stage begins and of the builder's steps within it.

    Returns:
        The manifest of the bundle, which is complete at `request.output` by then.

    Raises:
        UsageError: the request contradicts itself, or the output exists and may not be replaced.
        WeightsError: the weights file cannot be used.
        UnavailableError: the target cannot be built on this machine.
        MediaError: a calibration video cannot be read.
        ExportError, EngineBuildError: the graph or the engine did not come out.
        OutputError: the result cannot be written.
    """
    report = progress or no_progress
    bundle_place(request.output, overwrite=request.overwrite)
    library: Version | None = None
    if (tensorrt := tensorrt_target(request.target)) is not None:
        trt = check_machine(tensorrt, refittable=request.refittable or request.strip_weights)
        library = version_of(trt)
    forms = graph_forms(
        request.target,
        request.precision,
        pooling=request.pooling,
        version=library,
        cpu_kernels=request.cpu_kernels,
    )
    with scratch_folder(request.output) as folder:
        report("weights", 0, 0)
        model, weights = requested_model(request)
        parts = graph_parts(model, request.graphs, batch_size=request.graph_batch)
        windows = calibration_inputs(request, model, report)
        if request.cpu_kernels:
            report("CPU kernels", 0, 0)
        plugins = _plugin_library(request, model, forms)
        built = [_build_part(model, part, request, forms, windows, plugins, folder, report) for part in parts]
        report("bundle", 0, 0)
        manifest = Manifest(
            model_name=model.config.name,
            model_config=model.config.to_dict(),
            weights=weights,
            clip=model.config.clip,
            audio=model.config.audio,
            graphs={part.name: part.spec(graph.files[0].name) for part, graph in zip(parts, built, strict=True)},
            target=request.target,
            precision=request.precision,
            deform_conv="none" if model.config.audio is None else forms.deform_conv,
            builder=built[0].builder,
            builder_version=built[0].builder_version,
            created_by=created_by(),
            compute_capabilities=built[0].compute_capabilities,
            native_libraries=libraries_of(*([] if plugins is None else [_own_operators(request)])),
        )
        record = BuildRecord(
            forms=forms,
            tuned_batch=request.tuned_batch,
            max_batch_size=request.max_batch_size,
            refittable=request.refittable,
            strip_weights=request.strip_weights,
            hardware_compatibility=request.hardware_compatibility,
            signatures={part.name: graph.signature for part, graph in zip(parts, built, strict=True)},
            attention_fused={part.name: graph.attention_fused for part, graph in zip(parts, built, strict=True)},
            quantisation=QuantisationRecord(
                sources=request.calibration.sources,
                windows=len(windows),
                layers={part.name: graph.layer_types for part, graph in zip(parts, built, strict=True)},
            )
            if request.precision == "int8"
            else None,
        )
        (folder / RECORD_FILE).write_text(record.to_json())
        files = {file.name: file for graph in built for file in graph.files} | {RECORD_FILE: folder / RECORD_FILE}
        return write_bundle(request.output, manifest, files, overwrite=request.overwrite)


def export_graph(
    model: DTFSal,
    target: EngineTarget,
    precision: Precision,
    part: GraphPart | None = None,
    forms: Forms | None = None,
) -> onnx.ModelProto:
    """The checked ONNX graph that a target is built from.

    Args:
        model: the model.
        target: the back end.
        precision: of weights and arithmetic; a graph that `to_int8` is to quantise is still in FP32.
        part: which graph; None for the whole model on one window.
        forms: of its operators; None for the target's.
    """
    forms = forms or graph_forms(target, precision)
    graph = to_onnx(model, forms, part)
    if forms.products == "own":
        graph = with_own_operators(graph)
    if target != "openvino" and (precision == "fp16" or precision == "bf16"):  # OpenVINO rounds itself
        return to_reduced(graph, precision, declared_precisions(model))
    return graph


def calibration_inputs(request: BuildRequest, model: DTFSal, report: Progress) -> list[Inputs]:
    """The windows that an int8 request is calibrated on; none for another precision.

    Raises:
        MediaError, UsageError: a video cannot be used.
    """
    if request.precision != "int8":
        return []
    report("calibration windows", 0, 0)
    return request.calibration.inputs(model.config)


def part_graph(
    model: DTFSal, part: GraphPart, request: BuildRequest, forms: Forms, windows: list[Inputs], report: Progress
) -> onnx.ModelProto:
    """The graph of a request's part in the request's precision.

    Args:
        model: the model.
        part: which graph.
        request: what is built.
        forms: of its operators.
        windows: what `calibration_inputs` gave.
        report: told when a stage begins.
    """
    report(f"ONNX{_named(part)}", 0, 0)
    graph = export_graph(model, request.target, request.precision, part, forms)
    if request.precision != "int8":
        return graph
    report(f"calibration{_named(part)}", 0, 0)
    parts = graph_parts(model, request.graphs, batch_size=request.graph_batch)
    return to_int8(graph, part_inputs(model, part, parts, windows), declared_precisions(model))


def _named(part: GraphPart) -> str:
    """What a stage's name says of its graph, where there are several."""
    return "" if part.name == "window" else f", graph {part.name!r}"


def save_onnx(graph: onnx.ModelProto, folder: Path, stem: str = "model") -> tuple[Path, ...]:
    """Write a graph with its weights beside it: ONNX Runtime maps them, at half the load time and memory.

    The graph in memory is used up: its weights have moved to the file.

    Returns:
        The graph's file and, if it has any, its weights'.
    """
    path = folder / f"{stem}.onnx"
    data = path.with_name(f"{path.name}.data")
    onnx.save(graph, path, save_as_external_data=True, all_tensors_to_one_file=True, location=data.name)
    return (path, data) if data.exists() else (path,)


def beside_graph(stem: str, name: str) -> str:
    """The name of a file beside a graph's: of `layers` for `model`, or `layers_frame` for `model_frame`."""
    return stem.split(".")[0].replace("model", name, 1)


@dataclasses.dataclass(frozen=True)
class _BuiltGraph:
    """A graph's files, the one to load first, and what made them."""

    files: tuple[Path, ...]
    builder: str
    builder_version: str
    signature: str
    compute_capabilities: tuple[str, ...] = ()
    attention_fused: bool | None = None
    layer_types: dict[str, list[str]] = dataclasses.field(default_factory=dict)


def _build_part(
    model: DTFSal,
    part: GraphPart,
    request: BuildRequest,
    forms: Forms,
    windows: list[Inputs],
    plugins: Path | None,
    folder: Path,
    report: Progress,
) -> _BuiltGraph:
    graph = part_graph(model, part, request, forms, windows, report)
    signature = graph_signature(graph)
    costs = node_costs(graph, windows=request.tuned_batch) if request.report else []
    title = model.config.name + ("" if part.name == "window" else f" {part.name}")
    if (tensorrt := tensorrt_target(request.target)) is None:
        types = layer_types(graph) if request.precision == "int8" else {}
        if request.half_weights:
            graph = with_half_weights(graph, model)
        files = save_onnx(graph, folder, part.stem)
        if request.report:
            files += _write_report(costs, None, "graph", title, f"torch.onnx {version('torch')}", request, part, folder)
        return _BuiltGraph(files, "torch.onnx", version("torch"), signature, layer_types=types)
    report(f"engine{_named(part)}", 0, 0)
    built = build_tensorrt(
        graph, tensorrt, folder, stem=part.stem, options=request.engine_options(plugins), progress=report
    )
    layers = folder / f"{beside_graph(part.stem, 'layers')}.json"
    layers.write_text(json.dumps(built.layers, indent=1) + "\n")
    files = (built.path, layers)
    if request.report:
        evidence: Evidence = built.steps_from or "graph"
        library = f"{built.builder} {built.builder_version}"
        files += _write_report(costs, built.steps, evidence, title, library, request, part, folder)
    return _BuiltGraph(
        files, built.builder, built.builder_version, signature, built.compute_capabilities, built.attention_fused
    )


def _write_report(
    costs: list[NodeCost],
    steps: list[Step] | None,
    evidence: Evidence,
    title: str,
    builder: str,
    request: BuildRequest,
    part: GraphPart,
    folder: Path,
) -> tuple[Path, Path]:
    from dtfsal.export.report.picture import draw_report

    report = layer_report(
        costs,
        steps,
        model=title,
        target=request.target,
        precision=request.precision,
        builder=builder,
        evidence=evidence,
        windows=request.tuned_batch,
    )
    text, picture = (folder / f"{beside_graph(part.stem, 'report')}.{kind}" for kind in ("json", "png"))
    text.write_text(json.dumps(report.to_dict(), indent=1, default=dataclasses.asdict) + "\n")
    draw_report(report).save(picture)
    return text, picture


def _own_operators(request: BuildRequest) -> NativeProject:
    """What has our operators, for an engine that uses them."""
    return CPU_KERNELS if request.cpu_kernels else DEFORM_CONV


def _plugin_library(request: BuildRequest, model: DTFSal, forms: Forms) -> Path | None:
    """The installed library with our operators, for graphs that have them: found before the first is exported."""
    if request.cpu_kernels:
        return CPU_KERNELS.built()
    if request.target != "tensorrt" or forms.deform_conv != "plugin" or model.config.audio is None:
        return None
    return DEFORM_CONV.find()


def no_progress(stage: str, done: int, steps: int) -> None:
    """Progress for nobody."""
    del stage, done, steps


def created_by() -> str:
    """This project and its version, for manifests."""
    return f"dtfsal {version('dtfsal')}"


def requested_model(request: BuildRequest) -> tuple[DTFSal, WeightsRecord]:
    """The model with its weights, and where they came from.

    Raises:
        WeightsError: the weights file cannot be used.
        UsageError: it holds another model than asked for.
    """
    weights = request.weights
    size = {"frames": request.frames, "height": request.height, "width": request.width}
    if weights is None and request.seed is None and isinstance(request.preset, str):
        weights = shipped_weights(request.preset)
    if weights is None:
        assert request.preset is not None
        seed = request.seed or 0
        config = resolve_config(request.preset).resized(**size)
        model = seeded_model(config, seed=seed)
        return model, {"source": SEEDED_SOURCE.format(seed=seed), "sha256": None}
    if request.preset is not None and (wanted := resolve_config(request.preset)) != (found := read_config(weights)):
        raise UsageError(
            f"{weights} holds the model {found.name!r}, not {wanted.name!r} as asked: "
            "leave the preset out, or give the weights made for it"
        )
    return load_weights(weights, **size), {"source": weights.name, "sha256": sha256_file(weights)}


@contextlib.contextmanager
def scratch_folder(output: Path) -> Iterator[Path]:
    """A folder beside the output, on its disk, that is gone when the build ends in whatever way."""
    parent = output.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with partial_folder(parent / output.name, "build") as folder:
            yield folder
    except OSError as error:
        raise OutputError(f"cannot build at {output}: {error.strerror or error}; choose another place") from error
