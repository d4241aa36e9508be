"""Weights to ONNX to engine bundle: the whole build, atomic."""

import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import onnx

from dtfsal.engines.bundle import sha256_file, write_bundle
from dtfsal.engines.errors import OutputError, UsageError
from dtfsal.engines.manifest import EngineTarget, Manifest, Precision, WeightsRecord
from dtfsal.export.graph import to_onnx
from dtfsal.export.lowering import Forms
from dtfsal.export.parts import GraphPart, Graphs, graph_parts
from dtfsal.export.precision import to_reduced
from dtfsal.export.tensorrt_builder import build_tensorrt, check_target
from dtfsal.training.config import ModelConfig, resolve_config
from dtfsal.training.model import DTFSal
from dtfsal.training.seeded import seeded_model
from dtfsal.training.weights import load_weights, shipped_weights

SEEDED_SOURCE = "random, seed {seed}"

# Stage name, steps done, steps in all; a stage of unknown length reports 0 of 0.
Progress = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What to build.

    Attributes:
        preset: the model where there are no weights; with weights, the model they must hold, or None for any.
        weights: a safetensors file that dtfsal saved; None for those that the package carries for the preset, or where
            it has none, random ones.
        seed: of random weights, and a wish for them; None for those of seed 0 where there are no others.
        target: the back end that is to run the engine.
        precision: of weights and arithmetic; inputs and outputs stay float32.
        output: the bundle's folder.
        batch_size: windows per run, fixed in the engine; 1 where it has several graphs.
        graphs: "reuse" for several graphs where windows can share work (see `dtfsal.export.parts`), "window" for one.
        overwrite: replace a bundle that stands at `output`.
        timing_cache: where TensorRT's builder keeps tactic timings (TensorRT-RTX has none); None for no cache.
    """

    output: Path
    target: EngineTarget
    precision: Precision
    preset: str | ModelConfig | None = None
    weights: Path | None = None
    seed: int | None = None
    batch_size: int = 1
    graphs: Graphs = "reuse"
    overwrite: bool = False
    timing_cache: Path | None = None

    def __post_init__(self) -> None:
        if self.preset is None and self.weights is None:
            raise UsageError("say which model to build: give a preset, weights, or both")
        if self.weights is not None and self.seed is not None:
            raise UsageError("a seed is for random weights; give weights or a seed, not both")
        if type(self.batch_size) is not int or self.batch_size < 1:
            raise UsageError(f"batch_size must be a positive integer, not {self.batch_size!r}")
        if self.target not in FORMS:
            raise UsageError(f"target must be one of {', '.join(FORMS)}, not {self.target!r}")
        if self.timing_cache is not None and self.target != "tensorrt":
            raise UsageError(f"the target {self.target!r} has no timing cache; leave it out")
        if self.graphs not in get_args(Graphs):
            raise UsageError(f"graphs must be one of {', '.join(get_args(Graphs))}, not {self.graphs!r}")
        if self.precision not in ("fp32", "fp16"):
            raise UsageError(f"precision must be fp32 or fp16, not {self.precision!r}")


FORMS: dict[EngineTarget, dict[Precision, Forms]] = {
    "onnxruntime": {
        "fp32": Forms(deform_conv="native", attention="chunked"),
        "fp16": Forms(deform_conv="native", attention="chunked"),
    },
    # TensorRT-RTX takes no plugins, has no DeformConv, and no FP32 kernel for Attention.
    "tensorrt-rtx": {
        "fp32": Forms(deform_conv="gather", attention="decomposed"),
        "fp16": Forms(deform_conv="gather", attention="padded"),
        "bf16": Forms(deform_conv="gather", attention="padded"),
    },
    "tensorrt": {
        "fp32": Forms(deform_conv="plugin", attention="decomposed"),
        "fp16": Forms(deform_conv="plugin", attention="padded"),
        "bf16": Forms(deform_conv="plugin", attention="padded"),
    },
}


def build_engine(request: BuildRequest, *, progress: Progress | None = None) -> Manifest:
    """Build an engine bundle, whole or not at all.

    Args:
        request: what to build.
        progress: told when a stage begins and of the builder's steps within it.

    Returns:
        The manifest of the bundle, which is complete at `request.output` by then.

    Raises:
        UsageError: the request contradicts itself, or something that is no bundle stands at the output.
        WeightsError: the weights file cannot be used.
        UnavailableError: the target cannot be built on this machine.
        ExportError, EngineBuildError: the graph or the engine did not come out.
        OutputError: the result cannot be written.
    """
    report = progress or _no_progress
    if request.target != "onnxruntime":
        check_target(request.target)
    with _scratch_folder(request.output) as folder:
        report("weights", 0, 0)
        model, record = _model(request)
        parts = graph_parts(model, request.graphs, batch_size=request.batch_size)
        built = [_build_part(model, part, request, folder, report) for part in parts]
        report("bundle", 0, 0)
        manifest = Manifest(
            model_name=model.config.name,
            model_config=model.config.to_dict(),
            weights=record,
            clip=model.config.clip,
            audio=model.config.audio,
            graphs={part.name: part.spec(graph.files[0].name) for part, graph in zip(parts, built, strict=True)},
            target=request.target,
            precision=request.precision,
            deform_conv="none" if model.config.audio is None else FORMS[request.target][request.precision].deform_conv,
            builder=built[0].builder,
            builder_version=built[0].builder_version,
            created_by=f"dtfsal {version('dtfsal')}",
            compute_capabilities=built[0].compute_capabilities,
        )
        files = {file.name: file for graph in built for file in graph.files}
        return write_bundle(request.output, manifest, files, overwrite=request.overwrite)


def export_graph(
    model: DTFSal, target: EngineTarget, precision: Precision, part: GraphPart | None = None
) -> onnx.ModelProto:
    """The checked ONNX graph that a target is built from, with its forms and precision; of one window by default."""
    graph = to_onnx(model, FORMS[target][precision], part)
    return graph if precision == "fp32" else to_reduced(graph, precision)


def save_onnx(graph: onnx.ModelProto, folder: Path, stem: str = "model") -> tuple[Path, Path]:
    """Write a graph with its weights beside it: ONNX Runtime maps them, at half the load time and memory.

    The graph in memory is used up: its weights have moved to the file.

    Returns:
        The graph's file and its weights'.
    """
    path = folder / f"{stem}.onnx"
    data = path.with_name(f"{path.name}.data")
    onnx.save(graph, path, save_as_external_data=True, all_tensors_to_one_file=True, location=data.name)
    return path, data


def layers_file(stem: str) -> str:
    """The name of the layer list beside a graph's files: `layers.json`, or `layers_frame.json` of `model_frame`."""
    return stem.replace("model", "layers", 1) + ".json"


@dataclasses.dataclass(frozen=True)
class _BuiltGraph:
    """A graph's files, the one to load first, and what made them."""

    files: tuple[Path, ...]
    builder: str
    builder_version: str
    compute_capabilities: tuple[str, ...] = ()


def _build_part(model: DTFSal, part: GraphPart, request: BuildRequest, folder: Path, report: Progress) -> _BuiltGraph:
    suffix = "" if part.name == "window" else f", graph {part.name!r}"
    report(f"ONNX{suffix}", 0, 0)
    graph = export_graph(model, request.target, request.precision, part)
    if request.target == "onnxruntime":
        return _BuiltGraph(save_onnx(graph, folder, part.stem), "torch.onnx", version("torch"))
    report(f"engine{suffix}", 0, 0)
    built = build_tensorrt(
        graph, request.target, folder, stem=part.stem, progress=report, timing_cache=request.timing_cache
    )
    layers = folder / layers_file(part.stem)
    layers.write_text(json.dumps(built.layers, indent=1) + "\n")
    return _BuiltGraph((built.path, layers), built.builder, built.builder_version, built.compute_capabilities)


def _no_progress(stage: str, done: int, steps: int) -> None:
    del stage, done, steps


def _model(request: BuildRequest) -> tuple[DTFSal, WeightsRecord]:
    weights = request.weights
    if weights is None and request.seed is None and isinstance(request.preset, str):
        weights = shipped_weights(request.preset)
    if weights is None:
        assert request.preset is not None
        seed = request.seed or 0
        model = seeded_model(request.preset, seed=seed)
        return model, {"source": SEEDED_SOURCE.format(seed=seed), "sha256": None}
    model = load_weights(weights)
    if request.preset is not None and (wanted := resolve_config(request.preset)) != model.config:
        raise UsageError(
            f"{weights} holds the model {model.config.name!r}, not {wanted.name!r} as asked: "
            "leave the preset out, or give the weights made for it"
        )
    return model, {"source": weights.name, "sha256": sha256_file(weights)}


@contextlib.contextmanager
def _scratch_folder(output: Path) -> Iterator[Path]:
    """A folder beside the output, on its disk, that is gone when the build ends in whatever way."""
    parent = output.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.build-{os.getpid()}-", dir=parent) as folder:
            yield Path(folder)
    except OSError as error:
        raise OutputError(f"cannot build at {output}: {error.strerror or error}; choose another place") from error


__all__ = ["FORMS", "BuildRequest", "build_engine", "export_graph", "layers_file", "save_onnx"]
