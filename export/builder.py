"""Weights to ONNX to engine bundle: the whole build, atomic."""

import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import onnx

from dtfsal.engines.bundle import sha256_file, write_bundle
from dtfsal.engines.errors import OutputError, UsageError
from dtfsal.engines.manifest import EngineTarget, GraphSpec, Manifest, Precision, TensorSpec, WeightsRecord
from dtfsal.export.graph import OUTPUT_NAME, example_inputs, input_names, to_onnx
from dtfsal.export.lowering import Forms
from dtfsal.export.precision import to_fp16
from dtfsal.export.tensorrt_builder import build_tensorrt, check_target
from dtfsal.training.config import ModelConfig, resolve_config
from dtfsal.training.model import DTFSal
from dtfsal.training.seeded import seeded_model
from dtfsal.training.weights import load_weights

LAYERS_FILE = "layers.json"  # of TensorRT engines, which cannot be listed without a GPU
SEEDED_SOURCE = "random, seed {seed}"

# Stage name, steps done, steps in all; a stage of unknown length reports 0 of 0.
Progress = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What to build.

    Attributes:
        preset: the model where there are no weights; with weights, the model they must hold, or None for any.
        weights: a safetensors file that dtfsal saved; None for random weights from `seed`.
        seed: of the random weights.
        target: the back end that is to run the engine.
        precision: of weights and arithmetic; inputs and outputs stay float32.
        output: the bundle's folder.
        batch_size: windows per run, fixed in the engine.
        overwrite: replace a bundle that stands at `output`.
        timing_cache: where TensorRT's builder keeps tactic timings (TensorRT-RTX has none); None for no cache.
    """

    output: Path
    target: EngineTarget
    precision: Precision
    preset: str | ModelConfig | None = None
    weights: Path | None = None
    seed: int = 0
    batch_size: int = 1
    overwrite: bool = False
    timing_cache: Path | None = None

    def __post_init__(self) -> None:
        if self.preset is None and self.weights is None:
            raise UsageError("say which model to build: give a preset, weights, or both")
        if type(self.batch_size) is not int or self.batch_size < 1:
            raise UsageError(f"batch_size must be a positive integer, not {self.batch_size!r}")
        if self.target not in FORMS:
            raise UsageError(f"target must be one of {', '.join(FORMS)}, not {self.target!r}")
        if self.timing_cache is not None and self.target != "tensorrt":
            raise UsageError(f"the target {self.target!r} has no timing cache; leave it out")
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
    },
    "tensorrt": {
        "fp32": Forms(deform_conv="plugin", attention="decomposed"),
        "fp16": Forms(deform_conv="plugin", attention="padded"),
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
        report("ONNX", 0, 0)
        graph = export_graph(model, request.target, request.precision, batch_size=request.batch_size)
        if request.target == "onnxruntime":
            files = save_onnx(graph, folder)
            builder, builder_version = "torch.onnx", version("torch")
            capabilities: tuple[str, ...] = ()
        else:
            report("engine", 0, 0)
            built = build_tensorrt(graph, request.target, folder, progress=report, timing_cache=request.timing_cache)
            layers = folder / LAYERS_FILE
            layers.write_text(json.dumps(built.layers, indent=1) + "\n")
            files = {built.path.name: built.path, layers.name: layers}
            builder, builder_version, capabilities = built.builder, built.builder_version, built.compute_capabilities
        report("bundle", 0, 0)
        manifest = Manifest(
            model_name=model.config.name,
            model_config=model.config.to_dict(),
            weights=record,
            clip=model.config.clip,
            audio=model.config.audio,
            graphs={"window": graph_spec(model.config, next(iter(files)), request.batch_size)},
            target=request.target,
            precision=request.precision,
            deform_conv="none" if model.config.audio is None else FORMS[request.target][request.precision].deform_conv,
            builder=builder,
            builder_version=builder_version,
            created_by=f"dtfsal {version('dtfsal')}",
            compute_capabilities=capabilities,
        )
        return write_bundle(request.output, manifest, files, overwrite=request.overwrite)


def export_graph(model: DTFSal, target: EngineTarget, precision: Precision, *, batch_size: int = 1) -> onnx.ModelProto:
    """The checked ONNX graph that a target is built from, with its forms and precision."""
    graph = to_onnx(model, FORMS[target][precision], batch_size=batch_size)
    return to_fp16(graph) if precision == "fp16" else graph


def save_onnx(graph: onnx.ModelProto, folder: Path) -> dict[str, Path]:
    """Write a graph with its weights beside it: ONNX Runtime maps them, at half the load time and memory.

    The graph in memory is used up: its weights have moved to the file.

    Returns:
        The files by their names in the bundle, the graph first.
    """
    path, data = folder / "model.onnx", folder / "model.onnx.data"
    onnx.save(graph, path, save_as_external_data=True, all_tensors_to_one_file=True, location=data.name)
    return {file.name: file for file in (path, data)}


def graph_spec(config: ModelConfig, file: str, batch_size: int) -> GraphSpec:
    """The inputs and outputs of a model's window graph."""
    clip, audio = config.clip, config.audio
    lowest = min((0 - mean) / std for mean, std in zip(clip.mean, clip.std, strict=True))
    highest = max((1 - mean) / std for mean, std in zip(clip.mean, clip.std, strict=True))
    shapes = dict(zip(input_names(config), example_inputs(config, batch_size), strict=True))
    inputs = [
        TensorSpec(
            "video", "float32", tuple(shapes["video"].shape), lowest, highest, "(B, RGB, T, H, W), (x/255 - mean)/std"
        )
    ]
    if audio is not None:
        inputs.append(
            TensorSpec(
                "audio", "float32", tuple(shapes["audio"].shape), audio.silence, None, "(B, slices, 1, h, w), log-mel"
            )
        )
    shape = (batch_size, 1, clip.height, clip.width)
    output = TensorSpec(OUTPUT_NAME, "float32", shape, 0.0, 1.0, "(B, 1, H, W), saliency of the target frame")
    return GraphSpec(file, tuple(inputs), (output,))


def _no_progress(stage: str, done: int, steps: int) -> None:
    del stage, done, steps


def _model(request: BuildRequest) -> tuple[DTFSal, WeightsRecord]:
    if request.weights is None:
        assert request.preset is not None
        model = seeded_model(request.preset, seed=request.seed)
        return model, {"source": SEEDED_SOURCE.format(seed=request.seed), "sha256": None}
    model = load_weights(request.weights)
    if request.preset is not None and (wanted := resolve_config(request.preset)) != model.config:
        raise UsageError(
            f"{request.weights} holds the model {model.config.name!r}, not {wanted.name!r} as asked: "
            "leave the preset out, or give the weights made for it"
        )
    return model, {"source": request.weights.name, "sha256": sha256_file(request.weights)}


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


__all__ = ["FORMS", "LAYERS_FILE", "BuildRequest", "build_engine", "export_graph", "graph_spec", "save_onnx"]
